//! `concat`: tensors side by side along one dimension.

use crate::ascend::{Arg, Lowering};
use crate::op::{LETTERS, OpDef, RankContext, Sample, TypeContext, TypeError, sample};
use crate::sharding::WHOLE;
use crate::tensor::{Tensor, flat, indices};
use crate::types::{Dim, TensorType};
use serde::{Deserialize, Serialize};

/// Joins along `dim`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The dimension that grows.
    pub dim: usize,
}

impl OpDef for Concat {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        let first = operands.first().ok_or_else(|| TypeError::new("takes at least one operand"))?;
        let mut result = first.unnamed();
        let mut total = 0;
        for operand in operands {
            let extent = operand.dims.get(self.dim).and_then(|dim| dim.extent.as_number());
            let extent = extent.ok_or_else(|| TypeError::new(format!("dimension {} of {operand} is no whole number", self.dim)))?;
            let mut same = operand.unnamed();
            same.dims[self.dim] = result.dims[self.dim].clone();
            if same != result {
                return Err(TypeError::new(format!("{operand} does not lie beside {first} along dimension {}", self.dim)));
            }
            total += extent;
        }
        result.dims[self.dim] = Dim::from(total);
        Ok(vec![result])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let mut result = Tensor::zeros(results[0].dtype, cx.shape(&results[0]));
        let mut start = 0;
        for operand in operands {
            for (mut index, value) in indices(&operand.shape).zip(&operand.data) {
                index[self.dim] += start;
                let position = flat(&result.shape, &index);
                result.data[position] = *value;
            }
            start += operand.shape[self.dim];
        }
        vec![result]
    }

    fn sharding(&self, operands: &[TensorType]) -> Option<String> {
        let letter = |dim| if dim == self.dim { WHOLE } else { LETTERS[dim] };
        let letters: Vec<&str> = (0..operands.first()?.rank()).map(letter).collect();
        let letters = letters.join(" ");
        Some(format!("{} -> {letters}", vec![letters.as_str(); operands.len()].join(", ")))
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let parts = (0..io.operands()).map(|i| io.alike(i)).collect();
        let (dim, y) = (Arg::Int(self.dim as i64), io.y());
        io.call("Cat", [Arg::Tensors(parts), dim, y.into()]);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![
        sample(Concat { dim: 1 }, &["f32[N, 2]", "f32[N, 3]", "f32[N, 1]"]),
        sample(Concat { dim: 0 }, &["bf16[2, 3]", "bf16[4, 3]"]),
    ]
}
