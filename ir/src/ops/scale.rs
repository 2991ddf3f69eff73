//! `scale`: every element times one number.

use crate::ascend::{Arg, Lowering, Scalar};
use crate::expr::Expr;
use crate::op::{Elementwise, Sample, sample};
use serde::{Deserialize, Serialize};

/// `a * by`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The factor.
    pub by: f64,
}

impl Elementwise for Scale {
    fn arity(&self) -> usize {
        1
    }

    fn linear(&self) -> bool {
        true
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        &x[0] * self.by
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (x, y) = (io.alike(0), io.y());
        let by = Arg::Scalar(Scalar::Number(self.by), y.dtype);
        io.call("Muls", [x.into(), by, y.into()]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Scale { by: 0.125 }, &["f32[N, 8]"]), sample(Scale { by: -3.0 }, &["f16[7]"])]
}
