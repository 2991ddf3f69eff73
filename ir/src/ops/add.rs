//! `add`: the sum; a shorter operand is repeated along the leading dimensions.

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
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Add, &["f32[2, 8]", "f32[2, 8]"]), sample(Add, &["f32[N, 24]", "f16[24]"]), sample(Add, &["bf16[3]", "bf16[3]"])]
}
