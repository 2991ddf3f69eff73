//! `div`: the elementwise quotient.

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
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![Sample { reals: (0.5, 2.0), ..sample(Div, &["f32[2, 8]", "f32[8]"]) }]
}
