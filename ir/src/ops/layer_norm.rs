//! `layer_norm`: the last dimension shifted and scaled to mean 0 and variance 1, then by `gamma` and `beta` if given.
//!
//! `y = (x - mean(x)) / sqrt(var(x) + epsilon) * gamma + beta`, the variance over the whole row (not corrected). Without
//! `gamma` and `beta` the rows stay normalised: what follows has taken them in.

use crate::ascend::{AclType, Arg, Lowering};
use crate::extent::Extent;
use crate::op::{LETTERS, OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count, sample};
use crate::tensor::Tensor;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// Normalises rows: `x: [.., H]`, perhaps `gamma: [H]` and `beta: [H]`, result like `x`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// Added to the variance.
    pub epsilon: f64,
}

impl OpDef for LayerNorm {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        if operands.len() != 1 {
            expect_count(3, operands)?;
        }
        let last = operands[0].dims.last().ok_or_else(|| TypeError::new(format!("{} has no rows", operands[0])))?;
        for vector in &operands[1..] {
            if vector.rank() != 1 || vector.dims[0].extent != last.extent {
                return Err(TypeError::new(format!("rows of {} scaled by {vector}", operands[0])));
            }
        }
        if last.split.is_some() || last.extent.divisors().next().is_some() || !operands[0].partial.is_empty() {
            return Err(TypeError::new(format!("{}: rows must be whole to be normalised", operands[0])));
        }
        let dtype = match operands {
            [x, gamma, beta] => x.dtype.promote(gamma.dtype.promote(beta.dtype)),
            _ => operands[0].dtype,
        };
        Ok(vec![operands[0].unnamed().with_dtype(dtype)])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let mut result = Tensor::zeros(results[0].dtype, cx.shape(&results[0]));
        let width = *operands[0].shape.last().expect("infer ran first");
        for (row, x) in result.data.chunks_exact_mut(width).zip(operands[0].data.chunks_exact(width)) {
            let mean = x.iter().sum::<f64>() / width as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let scale = 1.0 / (variance + self.epsilon).sqrt();
            row.iter_mut().zip(x).for_each(|(y, x)| *y = (x - mean) * scale);
            if let [_, gamma, beta] = operands {
                row.iter_mut().zip(&gamma.data).zip(&beta.data).for_each(|((y, gamma), beta)| *y = *y * gamma + beta);
            }
        }
        vec![result]
    }

    fn sharding(&self, operands: &[TensorType]) -> Option<String> {
        let letters = &LETTERS[..operands[0].rank() - 1];
        let rows = letters.join(" ");
        let vectors = ", whole".repeat(operands.len() - 1);
        Some(format!("{rows} whole{vectors} -> {rows} whole"))
    }

    fn flops(&self, _: &[TensorType], results: &[TensorType]) -> Extent {
        elements(&results[0]).times(&Extent::number(8))
    }

    // Statistics are in f32 whatever the rows are; gamma and beta are of the rows' type or f32, both alike.
    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (y, epsilon) = (io.y(), Arg::Real(self.epsilon));
        let x = io.alike(0);
        let [gamma, beta]: [Arg; 2] = match io.operands() {
            3 => [io.x(1), io.x(2)].map(|vector| io.cast(vector, AclType::F32).into()),
            _ => [Arg::Absent, Arg::Absent],
        };
        let shape = Arg::Ints(x.dims[x.dims.len() - 1..].to_vec());
        io.call("LayerNorm", [x.into(), shape, gamma, beta, epsilon, y.into(), Arg::Absent, Arg::Absent]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![
        sample(LayerNorm { epsilon: 1e-5 }, &["f32[N, 8]", "f32[8]", "f32[8]"]),
        sample(LayerNorm { epsilon: 1e-3 }, &["f32[N, 41]", "f16[41]", "f16[41]"]),
        sample(LayerNorm { epsilon: 1e-5 }, &["f32[N, 41]"]),
        sample(LayerNorm { epsilon: 1e-5 }, &["f32[4, 8]", "f32[8]", "f32[8]"]),
    ]
}
