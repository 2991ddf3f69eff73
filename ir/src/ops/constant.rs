//! `constant`: numbers known when the model is compiled, such as ALiBi's slopes.

use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, expect_count, sample};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};
use serde::{Deserialize, Serialize};

/// A tensor of literal values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: Vec<u64>,
    /// The elements, row major.
    pub values: Vec<f64>,
}

impl OpDef for Constant {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(0, operands)?;
        let elements = self.shape.iter().fold(1_u64, |product, extent| product.saturating_mul(*extent));
        if elements != self.values.len() as u64 {
            return Err(TypeError::new(format!("{} values for shape {:?}", self.values.len(), self.shape)));
        }
        Ok(vec![TensorType::new(self.dtype, self.shape.iter().copied())])
    }

    fn reference(&self, _: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        vec![Tensor { dtype: self.dtype, shape: cx.shape(&results[0]), data: self.values.clone() }]
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Constant { dtype: DType::F32, shape: vec![2, 2], values: vec![0.5, 0.25, -1.0, 3.0] }, &[])]
}
