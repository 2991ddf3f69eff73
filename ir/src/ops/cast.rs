//! `cast`: the same numbers as another element type, rounded to nearest even.

use crate::ascend::{Arg, Lowering};
use crate::expr::Expr;
use crate::op::{Elementwise, Sample, sample};
use crate::types::DType;
use serde::{Deserialize, Serialize};

/// Changes the element type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cast {
    /// The result's element type.
    pub to: DType,
}

impl Elementwise for Cast {
    fn arity(&self) -> usize {
        1
    }

    fn linear(&self) -> bool {
        self.to.is_float()
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        x[0].clone()
    }

    fn dtype(&self, _: &[DType]) -> DType {
        self.to
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (x, y) = (io.x(0), io.y());
        if x.dtype == y.dtype {
            io.is_view(x);
        } else {
            let dtype = y.dtype;
            io.call("Cast", [x.into(), Arg::Type(dtype), y.into()]);
        }
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Cast { to: DType::F32 }, &["bf16[N, 8]"]), sample(Cast { to: DType::F16 }, &["f32[5]"])]
}
