//! `mul`: the elementwise product.

use crate::ascend::Lowering;
use crate::expr::Expr;
use crate::op::{Elementwise, Sample, sample};
use serde::{Deserialize, Serialize};

/// `a * b`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mul;

impl Elementwise for Mul {
    fn arity(&self) -> usize {
        2
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        &x[0] * &x[1]
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (a, b, y) = (io.alike(0), io.alike(1), io.y());
        io.call("Mul", [a.into(), b.into(), y.into()]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Mul, &["f32[2, 8]", "f32[2, 8]"]), sample(Mul, &["f32[N, 24]", "f16[24]"]), sample(Mul, &["bf16[3]", "bf16[3]"])]
}
