//! `gather`: rows of a table by index, such as embeddings of token ids.

use crate::ascend::Lowering;
use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count, expect_rank, sample};
use super::gather_part::GatherPart;
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};
use crate::work::Sizes;
use serde::{Deserialize, Serialize};

/// `table[ids]`: `table: [V, ..]`, `ids: i32[N]`, result `[N, ..]`. Indices must be inside the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gather;

impl OpDef for Gather {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(2, operands)?;
        expect_rank(operands, 1, 1)?;
        if operands[1].dtype != DType::I32 || operands[0].rank() == 0 {
            return Err(TypeError::new(format!("rows of {} by {}: indices are i32[N]", operands[0], operands[1])));
        }
        let mut result = operands[0].unnamed();
        result.dims[0] = operands[1].unnamed().dims[0].clone();
        Ok(vec![result])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let (table, ids) = (operands[0], operands[1]);
        let row: usize = table.shape[1..].iter().product();
        let rows = ids.data.iter().flat_map(|&id| &table.data[id as usize * row..][..row]);
        vec![Tensor { dtype: results[0].dtype, shape: cx.shape(&results[0]), data: rows.copied().collect() }]
    }

    fn check_indices(&self, operands: &[&Tensor]) -> Result<(), String> {
        let rows = operands[0].shape[0];
        let outside = operands[1].data.iter().find(|&&id| id < 0.0 || id >= rows as f64);
        outside.map_or(Ok(()), |id| Err(format!("index {id} into a table of {rows} rows")))
    }

    fn indexed(&self) -> Option<usize> {
        Some(0)
    }

    fn sharding(&self, operands: &[TensorType]) -> Option<String> {
        let row = crate::op::LETTERS[..operands[0].rank() - 1].join(" ");
        Some(format!("rows {row}, n -> n {row}"))
    }

    fn localized(&self, operands: &[TensorType], _: &[TensorType]) -> Option<(Op, Option<String>)> {
        let over = operands[0].dims[0].split.clone()?;
        Some((GatherPart { over: over.clone() }.into(), Some(over)))
    }

    fn takes_parts(&self, operand: usize) -> bool {
        operand == 0
    }

    fn reads(&self, i: usize, _: &[TensorType], results: &[TensorType], sizes: &Sizes<'_>) -> Option<u64> {
        (i == 0).then(|| sizes.of(&elements(&results[0])))
    }

    // Indices are not looked at on the device; the caller has.
    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (table, ids, y) = (io.x(0), io.x(1), io.y());
        (table.dims.len() == 2).then(|| io.call("Embedding", [table.into(), ids.into(), y.into()]))
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    let ids = |sample: Sample, most: i64| Sample { integers: (0, most), ..sample };
    vec![
        ids(sample(Gather, &["f16[5, 24]", "i32[N]"]), 4),
        ids(sample(Gather, &["f32[5, 7]", "i32[3]"]), 4),
        // A table of as many rows as a name says, which may be one.
        ids(sample(Gather, &["f32[N, 6]", "i32[5]"]), 0),
    ]
}
