//! `tanh`: the hyperbolic tangent.

use crate::ascend::Lowering;
use crate::expr::Expr;
use crate::op::{Elementwise, Sample, sample};
use serde::{Deserialize, Serialize};

/// `tanh a`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tanh;

impl Elementwise for Tanh {
    fn arity(&self) -> usize {
        1
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        crate::expr::tanh(&x[0])
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (x, y) = (io.alike(0), io.y());
        io.call("Tanh", [x.into(), y.into()]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Tanh, &["f32[2, 8]"]), sample(Tanh, &["bf16[N, 5]"])]
}
