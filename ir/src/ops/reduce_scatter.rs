//! `reduce_scatter`: the sum owed over a mesh axis, each rank getting its slice of one dimension.

use super::all_reduce::{pay, sum};
use crate::extent::Extent;
use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count};
use crate::tensor::Tensor;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// Sums over the ranks along `over`, then keeps this rank's slice of `dim`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReduceScatter {
    /// The mesh axis.
    pub over: String,
    /// The dimension cut.
    pub dim: usize,
}

impl OpDef for ReduceScatter {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(1, operands)?;
        let mut result = pay(&operands[0], &self.over)?;
        let dim = result.dims.get_mut(self.dim);
        let dim = dim.ok_or_else(|| TypeError::new(format!("{} has no dimension {}", operands[0], self.dim)))?;
        dim.extent = dim.extent.over(&self.over);
        Ok(vec![result])
    }

    /// Operands are those of all ranks along the axis.
    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let place = cx.mesh.coordinate(cx.rank, &self.over).expect("the verifier knows the axis") as usize;
        let width = cx.shape(&results[0])[self.dim];
        let part = sum(operands).slice(self.dim, place * width..(place + 1) * width);
        vec![Tensor { dtype: results[0].dtype, ..part }]
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }

    fn flops(&self, operands: &[TensorType], _: &[TensorType]) -> Extent {
        elements(&operands[0])
    }

    fn collective(&self) -> Option<&str> {
        Some(&self.over)
    }
}

/// Collectives have no one-rank sample: the mesh cases under `tests` run them.
pub(crate) fn samples() -> Vec<Sample> {
    Vec::new()
}
