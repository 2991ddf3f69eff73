//! `add`: the sum; a shorter operand is repeated along the leading dimensions.

use crate::ascend::{Arg, Lowering, Scalar};
use crate::expr::Expr;
use crate::op::{Elementwise, Sample, sample};
use serde::{Deserialize, Serialize};

/// `a + b`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Add;

impl Elementwise for Add {
    fn arity(&self) -> usize {
        2
    }

    fn linear(&self) -> bool {
        true
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        &x[0] + &x[1]
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (a, b, y) = (io.alike(0), io.alike(1), io.y());
        let one = Arg::Scalar(Scalar::Number(1.0), y.dtype);
        io.call("Add", [a.into(), b.into(), one, y.into()]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Add, &["f32[2, 8]", "f32[2, 8]"]), sample(Add, &["f32[N, 24]", "f16[24]"]), sample(Add, &["bf16[3]", "bf16[3]"])]
}
