//! `reshape`: the same elements in the same order under other extents.

use crate::extent::Extent;
use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count, sample};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};
use serde::{Deserialize, Serialize};

/// Changes the extents, not the elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// The result's extents.
    pub dims: Vec<Extent>,
}

impl OpDef for Reshape {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(1, operands)?;
        if operands[0].dims.iter().any(|dim| dim.split.is_some()) {
            return Err(TypeError::new(format!("{} is split; reshape its pieces after partition", operands[0])));
        }
        let mut result = operands[0].unnamed();
        result.dims = self.dims.iter().cloned().map(Dim::from).collect();
        if elements(&result) != elements(&operands[0]) {
            return Err(TypeError::new(format!("{} does not hold as many elements as {result}", operands[0])));
        }
        Ok(vec![result])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        vec![Tensor { dtype: results[0].dtype, shape: cx.shape(&results[0]), data: operands[0].data.clone() }]
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![
        sample(Reshape { dims: vec![Extent::symbol("N"), 4.into(), 6.into()] }, &["f32[N, 24]"]),
        sample(Reshape { dims: vec![12.into()] }, &["bf16[3, 4]"]),
    ]
}
