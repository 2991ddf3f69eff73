//! `fast_gelu`: MindFormers' other gate of the MLP, `x sigmoid(1.702 x)`.
//!
//! Written as `0.5 x (1 + tanh(0.851 x))`, which is the same: what emitters know of `1 + tanh` serves here as well, and
//! nothing overflows.

use crate::ascend::{Arg, Lowering, Scalar};
use crate::expr::{Expr, tanh};
use crate::op::{Elementwise, Sample, sample};
use serde::{Deserialize, Serialize};

/// The Gaussian error linear unit by a sigmoid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FastGelu;

impl Elementwise for FastGelu {
    fn arity(&self) -> usize {
        1
    }

    fn expr(&self, x: &[Expr]) -> Expr {
        let x = &x[0];
        0.5 * x * (1.0 + tanh(0.851 * x))
    }

    // The libraries have no call of it that both chips know: `(0.5 + 0.5 tanh(0.851 x)) x`.
    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (x, y) = (io.alike(0), io.y());
        let number = |value: f64| Arg::Scalar(Scalar::Number(value), y.dtype);
        let [a, b] = [(); 2].map(|()| io.temporary(y.dtype, y.dims.clone()));
        io.call("Muls", [(&x).into(), number(0.851), (&a).into()]);
        io.call("Tanh", [(&a).into(), (&b).into()]);
        io.call("Muls", [b.into(), number(0.5), (&a).into()]);
        io.call("Adds", [(&a).into(), number(0.5), number(1.0), (&y).into()]);
        io.call("InplaceMul", [y.into(), x.into()]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(FastGelu, &["f32[2, 8]"]), sample(FastGelu, &["bf16[N, 64]"])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_mindspores_formula() {
        let gate = FastGelu.expr(&[Expr::Input(0)]);
        for x in [-60.0f64, -3.0, -0.5, 0.0, 0.1, 2.0, 60.0] {
            let mindspore = x / (1.0 + (-1.702 * x.abs()).exp()) * (0.851 * (x - x.abs())).exp();
            assert!((gate.eval(&[x]) - mindspore).abs() <= 1e-14 * x.abs(), "{x}");
        }
    }
}
