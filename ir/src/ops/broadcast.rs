//! `broadcast`: the operand repeated along new leading dimensions.

use crate::ascend::Lowering;
use crate::extent::Extent;
use crate::op::{LETTERS, OpDef, RankContext, Sample, TypeContext, TypeError, expect_count, sample};
use crate::ops::Op;
use crate::sharding;
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};
use serde::{Deserialize, Serialize};

/// Prepends dimensions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broadcast {
    /// The new leading extents.
    pub leading: Vec<Extent>,
}

impl OpDef for Broadcast {
    fn infer(&self, operands: &[TensorType], cx: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(1, operands)?;
        if let Some(extent) = self.leading.iter().find(|extent| !cx.knows(extent)) {
            return Err(TypeError::new(format!("extent {extent} uses a name that is not declared")));
        }
        let mut result = operands[0].unnamed();
        result.dims.splice(0..0, self.leading.iter().cloned().map(Dim::from));
        Ok(vec![result])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let shape = cx.shape(&results[0]);
        let elements: usize = shape.iter().product();
        let data = operands[0].data.iter().copied().cycle().take(elements).collect();
        vec![Tensor { dtype: results[0].dtype, shape, data }]
    }

    fn sharding(&self, operands: &[TensorType]) -> Option<String> {
        let rank = self.leading.len() + operands[0].rank();
        Some(format!("{} -> {}", LETTERS[self.leading.len()..rank].join(" "), LETTERS[..rank].join(" ")))
    }

    fn localized(&self, _: &[TensorType], results: &[TensorType]) -> Option<(Op, Option<String>)> {
        let leading = sharding::local(&results[0]).extents().take(self.leading.len()).cloned().collect();
        Some((Broadcast { leading }.into(), None))
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let view = self.leading.iter().rev().fold(io.x(0), |view, extent| view.repeated(&extent.into()));
        io.is_view(view);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![
        sample(Broadcast { leading: vec![Extent::symbol("N"), 2.into()] }, &["f32[3]"]),
        sample(Broadcast { leading: vec![2.into()] }, &["f32[4, 3]"]),
    ]
}
