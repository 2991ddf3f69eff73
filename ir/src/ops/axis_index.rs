//! `axis_index`: this rank's coordinate along a mesh axis. What differs by rank is data, never code.

use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, expect_count};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};
use serde::{Deserialize, Serialize};

/// `i32[1]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxisIndex {
    /// The mesh axis.
    pub axis: String,
}

impl OpDef for AxisIndex {
    fn infer(&self, operands: &[TensorType], cx: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(0, operands)?;
        if cx.mesh.size(&self.axis).is_none() {
            return Err(TypeError::new(format!("the mesh has no axis {}", self.axis)));
        }
        Ok(vec![TensorType::new(DType::I32, [Dim::from(1)])])
    }

    fn reference(&self, _: &[&Tensor], _: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let place = cx.mesh.coordinate(cx.rank, &self.axis).expect("infer ran first");
        vec![Tensor { dtype: DType::I32, shape: vec![1], data: vec![place as f64] }]
    }
}

/// Needs a mesh: the mesh cases under `tests` run it.
pub(crate) fn samples() -> Vec<Sample> {
    Vec::new()
}
