//! `exp`: the exponential.

use crate::expr::Expr;
use crate::op::{Elementwise, Sample, sample};
use serde::{Deserialize, Serialize};

/// `e^a`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exp;

impl Elementwise for Exp {
    fn arity(&self) -> usize {
        1
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        crate::expr::exp(&x[0])
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Exp, &["f32[2, 8]"]), sample(Exp, &["bf16[N, 5]"])]
}
