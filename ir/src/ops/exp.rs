//! `exp`: the exponential.

use crate::ascend::{Chip, Lowering};
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

    // Documents of 2026 say that the first generation has none, kernels of 2025 are there: nothing of BLOOM needs it.
    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (x, y) = (io.alike(0), io.y());
        (io.chip() != Chip::A910).then(|| io.call("Exp", [x.into(), y.into()]))
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Exp, &["f32[2, 8]"]), sample(Exp, &["bf16[N, 5]"])]
}
