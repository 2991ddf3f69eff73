//! `div`: the elementwise quotient.

use crate::ascend::Lowering;
use crate::expr::Expr;
use crate::op::{Elementwise, Sample, sample};
use serde::{Deserialize, Serialize};

/// `a / b`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Div;

impl Elementwise for Div {
    fn arity(&self) -> usize {
        2
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        &x[0] / &x[1]
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (a, b, y) = (io.alike(0), io.alike(1), io.y());
        io.call("Div", [a.into(), b.into(), y.into()]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![Sample { reals: (0.5, 2.0), ..sample(Div, &["f32[2, 8]", "f32[8]"]) }]
}
