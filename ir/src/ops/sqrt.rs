//! `sqrt`: the square root.

use crate::ascend::Lowering;
use crate::expr::Expr;
use crate::op::{Elementwise, Sample, sample};
use serde::{Deserialize, Serialize};

/// `sqrt a`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sqrt;

impl Elementwise for Sqrt {
    fn arity(&self) -> usize {
        1
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        crate::expr::sqrt(&x[0])
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (x, y) = (io.alike(0), io.y());
        io.call("Sqrt", [x.into(), y.into()]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    let positive = |sample: Sample| Sample { reals: (0.0, 4.0), ..sample };
    vec![positive(sample(Sqrt, &["f32[2, 8]"])), positive(sample(Sqrt, &["bf16[N, 5]"]))]
}
