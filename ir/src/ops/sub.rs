//! `sub`: the difference.

use crate::ascend::{Arg, Lowering, Scalar};
use crate::expr::Expr;
use crate::op::{Elementwise, Sample, sample};
use serde::{Deserialize, Serialize};

/// `a - b`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sub;

impl Elementwise for Sub {
    fn arity(&self) -> usize {
        2
    }

    fn linear(&self) -> bool {
        true
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        &x[0] - &x[1]
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (a, b, y) = (io.alike(0), io.alike(1), io.y());
        let one = Arg::Scalar(Scalar::Number(1.0), y.dtype);
        io.call("Sub", [a.into(), b.into(), one, y.into()]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Sub, &["f32[2, 8]", "f32[2, 8]"]), sample(Sub, &["f32[N, 24]", "f16[24]"]), sample(Sub, &["bf16[3]", "bf16[3]"])]
}
