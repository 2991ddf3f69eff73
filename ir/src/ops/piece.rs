//! `piece`: one of the pieces that a dimension is cut into, by its number: what a rank takes of a value that all have.

use crate::ascend::{Lowering, Sum};
use crate::extent::Extent;
use crate::Op;
use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, expect_count, sample};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};
use crate::work::Sizes;
use serde::{Deserialize, Serialize};

/// `x, place: i32[1]`: elements `place * size ..` of dimension `dim`, as many as `size`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// The dimension cut.
    pub dim: usize,
    /// How long pieces are.
    pub size: Extent,
}

impl OpDef for Piece {
    fn infer(&self, operands: &[TensorType], cx: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(2, operands)?;
        let fits = operands[1].dtype == DType::I32 && operands[1].rank() == 1 && self.dim < operands[0].rank();
        if !fits || !cx.knows(&self.size) {
            let (x, place) = (&operands[0], &operands[1]);
            return Err(TypeError::new(format!("pieces of {} of dimension {} of {x}, by {place}", self.size, self.dim)));
        }
        let mut result = operands[0].unnamed();
        result.dims[self.dim].extent = self.size.clone();
        Ok(vec![result])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let size = cx.shape(&results[0])[self.dim];
        let from = operands[1].data[0] as usize * size;
        vec![operands[0].slice(self.dim, from..from + size)]
    }

    fn check_indices(&self, operands: &[&Tensor]) -> Result<(), String> {
        // What depends on names is a rank's own, and there are as many pieces as ranks.
        let Some(size) = self.size.as_number() else { return Ok(()) };
        let (place, extent) = (operands[1].data[0], operands[0].shape[self.dim]);
        let inside = place >= 0.0 && (place + 1.0) * size as f64 <= extent as f64;
        if inside { Ok(()) } else { Err(format!("piece {place} of {size} elements, of {extent}")) }
    }

    fn localized(&self, _: &[TensorType], results: &[TensorType]) -> Option<(Op, Option<String>)> {
        Some((Piece { dim: self.dim, size: results[0].dims[self.dim].extent.clone() }.into(), None))
    }

    fn takes_parts(&self, operand: usize) -> bool {
        operand == 0
    }

    fn reads(&self, i: usize, _: &[TensorType], results: &[TensorType], sizes: &Sizes<'_>) -> Option<u64> {
        (i == 0).then(|| sizes.of(&crate::op::elements(&results[0])))
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let size = Sum::from(&self.size);
        let view = io.x(0).narrowed(self.dim, &io.place(1).times(&size), &size);
        io.is_view(view);
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![
        sample(Piece { dim: 1, size: 3.into() }, &["f32[2, 6, 2]", "i32[1]"]),
        sample(Piece { dim: 0, size: "N".into() }, &["f32[2*N, 3]", "i32[1]"]),
    ]
}
