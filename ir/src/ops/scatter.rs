//! `scatter`: each rank its slice of one dimension, of a sum that ranks owe each other or of what all of them have.
//!
//! What `shard` writes while extents are global: the result's dimension is split. `partition` makes a
//! [`reduce_scatter`](super::reduce_scatter) of it where a sum is owed, and else the [`piece`](super::piece) at the rank's
//! place, which nobody has to tell it.

use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, expect_count};
use crate::ops::Op;
use crate::ops::piece::Piece;
use crate::ops::reduce_scatter::ReduceScatter;
use crate::tensor::Tensor;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// Splits `dim` over the ranks along `over`, and pays the sum owed over them, if one is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scatter {
    /// The mesh axis.
    pub over: String,
    /// The dimension split.
    pub dim: usize,
}

impl OpDef for Scatter {
    fn infer(&self, operands: &[TensorType], cx: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(1, operands)?;
        let mut result = operands[0].unnamed();
        result.partial.retain(|owed| *owed != self.over);
        let global = !result.extents().any(|extent| extent.divisors().next().is_some());
        let dim = result.dims.get_mut(self.dim).filter(|dim| global && dim.split.is_none());
        let dim = dim.filter(|_| cx.mesh.size(&self.over).is_some());
        let wrong = || format!("dimension {} of {} cannot be split over {}", self.dim, operands[0], self.over);
        dim.ok_or_else(|| TypeError::new(wrong()))?.split = Some(self.over.clone());
        Ok(vec![result])
    }

    fn reference(&self, _: &[&Tensor], _: &[TensorType], _: &RankContext<'_>) -> Vec<Tensor> {
        unreachable!("`check_indices` refuses it")
    }

    /// There is nothing to run: a rank's value is shorter than its type says.
    fn check_indices(&self, _: &[&Tensor]) -> Result<(), String> {
        Err("extents are those of all ranks together: `partition` makes them a rank's own".to_owned())
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }

    fn localized(&self, operands: &[TensorType], _: &[TensorType]) -> Option<(Op, Option<String>)> {
        let Scatter { over, dim } = self.clone();
        if operands[0].partial.contains(&over) {
            return Some((ReduceScatter { over, dim }.into(), None));
        }
        let size = operands[0].dims[dim].extent.over(&over);
        Some((Piece { dim, size }.into(), Some(over)))
    }

    fn collective(&self) -> Option<&str> {
        Some(&self.over)
    }
}

/// Collectives have no one-rank sample: the mesh cases under `tests` run them.
pub(crate) fn samples() -> Vec<Sample> {
    Vec::new()
}
