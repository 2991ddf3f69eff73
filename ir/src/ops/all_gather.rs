//! `all_gather`: the slices of all ranks along a mesh axis, joined along one dimension on every rank.

use crate::extent::Extent;
use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, expect_count};
use crate::tensor::Tensor;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// Joins the ranks' slices along `dim`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllGather {
    /// The mesh axis.
    pub over: String,
    /// The dimension joined.
    pub dim: usize,
}

impl OpDef for AllGather {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(1, operands)?;
        let mut result = operands[0].unnamed();
        let dim = result.dims.get_mut(self.dim);
        let dim = dim.ok_or_else(|| TypeError::new(format!("{} has no dimension {}", operands[0], self.dim)))?;
        if dim.split.as_ref() == Some(&self.over) {
            dim.split = None;
            return Ok(vec![result]);
        }
        if !dim.extent.divisors().any(|axis| axis == self.over) {
            return Err(TypeError::new(format!("dimension {} of {} is no slice over {}", self.dim, operands[0], self.over)));
        }
        dim.extent = dim.extent.times(&Extent::symbol(&self.over));
        Ok(vec![result])
    }

    /// Operands are those of all ranks along the axis.
    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        super::concat::Concat { dim: self.dim }.reference(operands, results, cx)
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }

    fn collective(&self) -> Option<&str> {
        Some(&self.over)
    }
}

/// Collectives have no one-rank sample: the mesh cases under `tests` run them.
pub(crate) fn samples() -> Vec<Sample> {
    Vec::new()
}
