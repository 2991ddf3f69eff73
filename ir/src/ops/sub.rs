//! `sub`: the difference.

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
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Sub, &["f32[2, 8]", "f32[2, 8]"]), sample(Sub, &["f32[N, 24]", "f16[24]"]), sample(Sub, &["bf16[3]", "bf16[3]"])]
}
