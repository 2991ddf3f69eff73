//! `gelu`: the smooth gate of the Bloom MLP, tanh form.
//!
//! Hugging Face's `BloomGelu`: `0.5 x (1 + tanh(0.79788456 x (1 + 0.044715 x^2)))`.

use crate::ascend::Lowering;
use crate::expr::{Expr, tanh};
use crate::op::{Elementwise, Sample, sample};
use serde::{Deserialize, Serialize};

/// The tanh form of the Gaussian error linear unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gelu;

impl Elementwise for Gelu {
    fn arity(&self) -> usize {
        1
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        let x = &x[0];
        0.5 * x * (1.0 + tanh(0.797_884_56 * (x + 0.044715 * x.powi(3))))
    }

    // The call is the tanh form, which is BLOOM's.
    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (x, y) = (io.alike(0), io.y());
        io.call("Gelu", [x.into(), y.into()]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Gelu, &["f32[2, 8]"]), sample(Gelu, &["bf16[N, 64]"])]
}
