//! `neg`: the negative.

use crate::ascend::Lowering;
use crate::expr::Expr;
use crate::op::{Elementwise, Sample, sample};
use serde::{Deserialize, Serialize};

/// `-a`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neg;

impl Elementwise for Neg {
    fn arity(&self) -> usize {
        1
    }

    fn linear(&self) -> bool {
        true
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        -&x[0]
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (x, y) = (io.alike(0), io.y());
        io.call("Neg", [x.into(), y.into()]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Neg, &["f32[2, 8]"]), sample(Neg, &["bf16[N, 5]"])]
}
