//! `transpose`: dimensions in another order.

use crate::ascend::Lowering;
use crate::op::{LETTERS, OpDef, RankContext, Sample, TypeContext, TypeError, expect_count, sample};
use crate::tensor::{Tensor, flat, indices};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// Permutes dimensions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transpose {
    /// For each dimension of the result, the operand's.
    pub order: Vec<usize>,
}

impl OpDef for Transpose {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(1, operands)?;
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        if sorted != (0..operands[0].rank()).collect::<Vec<_>>() {
            return Err(TypeError::new(format!("order {:?} does not list the dimensions of {} once each", self.order, operands[0])));
        }
        let mut result = operands[0].unnamed();
        result.dims = self.order.iter().map(|&dim| result.dims[dim].clone()).collect();
        Ok(vec![result])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let mut result = Tensor::zeros(results[0].dtype, cx.shape(&results[0]));
        for (index, value) in indices(&operands[0].shape).zip(&operands[0].data) {
            let moved: Vec<usize> = self.order.iter().map(|&dim| index[dim]).collect();
            let position = flat(&result.shape, &moved);
            result.data[position] = *value;
        }
        vec![result]
    }

    fn sharding(&self, _: &[TensorType]) -> Option<String> {
        let from = LETTERS[..self.order.len()].join(" ");
        let to: Vec<&str> = self.order.iter().map(|&dim| LETTERS[dim]).collect();
        Some(format!("{from} -> {}", to.join(" ")))
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let view = io.x(0).permuted(&self.order);
        io.is_view(view);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![
        sample(Transpose { order: vec![1, 0] }, &["f32[3, 5]"]),
        sample(Transpose { order: vec![2, 0, 1] }, &["f16[2, 3, 4]"]),
    ]
}
