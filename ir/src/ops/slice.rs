//! `slice`: a range of one dimension.

use crate::ascend::Lowering;
use crate::extent::Extent;
use crate::op::{LETTERS, OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count, sample};
use crate::sharding::WHOLE;
use crate::tensor::{Tensor, flat, indices};
use crate::types::TensorType;
use crate::work::Sizes;
use serde::{Deserialize, Serialize};

/// Elements `from..to` of dimension `dim`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The dimension cut.
    pub dim: usize,
    /// First index kept.
    pub from: u64,
    /// First index not kept.
    pub to: u64,
}

impl OpDef for Slice {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(1, operands)?;
        let wrong = || TypeError::new(format!("{}..{} of dimension {} is not inside {}", self.from, self.to, self.dim, operands[0]));
        let dim = operands[0].dims.get(self.dim).ok_or_else(wrong)?;
        let inside = dim.extent.as_number().is_some_and(|extent| self.from < self.to && self.to <= extent);
        if !inside {
            return Err(wrong());
        }
        let mut result = operands[0].unnamed();
        result.dims[self.dim].extent = Extent::number(self.to - self.from);
        Ok(vec![result])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let mut result = Tensor::zeros(results[0].dtype, cx.shape(&results[0]));
        for (i, mut index) in indices(&result.shape).enumerate() {
            index[self.dim] += self.from as usize;
            result.data[i] = operands[0].data[flat(&operands[0].shape, &index)];
        }
        vec![result]
    }

    fn sharding(&self, operands: &[TensorType]) -> Option<String> {
        let letter = |dim| if dim == self.dim { WHOLE } else { LETTERS[dim] };
        let letters: Vec<&str> = (0..operands[0].rank()).map(letter).collect();
        Some(format!("{0} -> {0}", letters.join(" ")))
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }

    fn reads(&self, _: usize, _: &[TensorType], results: &[TensorType], sizes: &Sizes<'_>) -> Option<u64> {
        Some(sizes.of(&elements(&results[0])))
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let view = io.x(0).narrowed(self.dim, &self.from.into(), &(self.to - self.from).into());
        io.is_view(view);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![
        sample(Slice { dim: 1, from: 2, to: 6 }, &["f32[N, 8]"]),
        sample(Slice { dim: 0, from: 0, to: 1 }, &["bf16[3, 2, 2]"]),
    ]
}
