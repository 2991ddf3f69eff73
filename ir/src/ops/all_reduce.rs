//! `all_reduce`: the sum owed over a mesh axis, paid: every rank gets the whole sum.

use crate::extent::Extent;
use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count};
use crate::tensor::Tensor;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// Sums over the ranks along `over`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllReduce {
    /// The mesh axis.
    pub over: String,
}

impl OpDef for AllReduce {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(1, operands)?;
        Ok(vec![pay(&operands[0], &self.over)?])
    }

    /// Operands are those of all ranks along the axis.
    fn reference(&self, operands: &[&Tensor], results: &[TensorType], _: &RankContext<'_>) -> Vec<Tensor> {
        vec![Tensor { dtype: results[0].dtype, ..sum(operands) }]
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

/// The type once the sum over `axis` is paid.
pub(crate) fn pay(ty: &TensorType, axis: &str) -> Result<TensorType, TypeError> {
    if !ty.partial.iter().any(|owed| owed == axis) {
        return Err(TypeError::new(format!("{ty} owes no sum over {axis}")));
    }
    let mut paid = ty.unnamed();
    paid.partial.retain(|owed| owed != axis);
    Ok(paid)
}

/// The elementwise sum, in order of the ranks.
pub(crate) fn sum(operands: &[&Tensor]) -> Tensor {
    let mut total = operands[0].clone();
    for other in &operands[1..] {
        total.data.iter_mut().zip(&other.data).for_each(|(a, b)| *a += b);
    }
    total
}

/// Collectives have no one-rank sample: the mesh cases under `tests` run them.
pub(crate) fn samples() -> Vec<Sample> {
    Vec::new()
}
