//! `reshape`: the same elements in the same order under other extents.

use crate::ascend::Lowering;
use crate::extent::Extent;
use crate::op::{LETTERS, OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count, sample};
use crate::ops::Op;
use crate::sharding::{self, WHOLE};
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

    /// A dimension stays itself where as many elements lie before it as before; all others are merged or cut.
    fn sharding(&self, operands: &[TensorType]) -> Option<String> {
        let from: Vec<&Extent> = operands[0].extents().collect();
        let to: Vec<&Extent> = self.dims.iter().collect();
        let product = |dims: &[&Extent]| dims.iter().fold(Extent::number(1), |product, extent| product.times(extent));
        let same = |i: usize, j: usize| from[i] == to[j] && product(&from[..i]) == product(&to[..j]);
        let kept = |i: &usize| *from[*i] != Extent::number(1) && (0..to.len()).any(|j| same(*i, j));
        let letter = |i: usize| if kept(&i) { LETTERS[i] } else { WHOLE };
        let result = |j: usize| (0..from.len()).filter(kept).find(|i| same(*i, j)).map_or(WHOLE, letter);
        let letters = |count: usize, letter: &dyn Fn(usize) -> &'static str| {
            (0..count).map(letter).collect::<Vec<_>>().join(" ")
        };
        Some(format!("{} -> {}", letters(from.len(), &letter), letters(to.len(), &result)))
    }

    fn localized(&self, _: &[TensorType], results: &[TensorType]) -> Option<(Op, Option<String>)> {
        Some((Reshape { dims: sharding::local(&results[0]).extents().cloned().collect() }.into(), None))
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }

    // A view where it can be one, else a copy that is looked at with the operand's dims.
    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (x, y) = (io.x(0), io.y());
        match x.reshaped(&y.dims) {
            Some(view) => io.is_view(view),
            None => io.copy(&y.reshaped(&x.dims)?, &x),
        }
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![
        sample(Reshape { dims: vec![Extent::symbol("N"), 4.into(), 6.into()] }, &["f32[N, 24]"]),
        sample(Reshape { dims: vec![12.into()] }, &["bf16[3, 4]"]),
        sample(Reshape { dims: vec![6.into(), 4.into(), 2.into()] }, &["f32[6, 1, 8]"]),
    ]
}
