//! `gather`: rows of a table by index, such as embeddings of token ids.

use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count, expect_rank, sample};
use crate::ops::Op;
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};
use crate::work::Sizes;
use serde::{Deserialize, Serialize};

/// `table[ids]`: `table: [V, ..]`, `ids: i32[N]`, result `[N, ..]`. Indices must be inside the table.
///
/// Of a table whose rows are cut over a mesh axis, a rank has `[V/axis, ..]`, and `%place: i32[1]` says which: rows that
/// lie elsewhere are zeros here, so that the sum over the axis, which is owed, is the row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// The mesh axis that the table's rows are cut over.
    pub over: Option<String>,
}

impl OpDef for Gather {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(2 + self.over.iter().len(), operands)?;
        expect_rank(operands, 1, 1)?;
        if operands[1].dtype != DType::I32 || operands[0].rank() == 0 {
            return Err(TypeError::new(format!("rows of {} by {}: indices are i32[N]", operands[0], operands[1])));
        }
        let mut result = operands[0].unnamed();
        result.dims[0] = operands[1].unnamed().dims[0].clone();
        if let Some(axis) = &self.over {
            if operands[2].dtype != DType::I32 || !operands[0].dims[0].extent.divisors().any(|cut| cut == axis) {
                return Err(TypeError::new(format!(
                    "rows of {} over {axis} from {}: expected rows that are cut so, and i32[1]",
                    operands[0], operands[2]
                )));
            }
            result.partial.push(axis.clone());
        }
        Ok(vec![result])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let (table, ids) = (operands[0], operands[1]);
        let row: usize = table.shape[1..].iter().product();
        let first = operands.get(2).map_or(0.0, |place| place.data[0] * table.shape[0] as f64);
        let mut result = Tensor::zeros(results[0].dtype, cx.shape(&results[0]));
        for (to, id) in result.data.chunks_exact_mut(row.max(1)).zip(&ids.data) {
            let here = id - first;
            if here >= 0.0 && here < table.shape[0] as f64 {
                to.copy_from_slice(&table.data[here as usize * row..][..row]);
            }
        }
        vec![result]
    }

    fn check_indices(&self, operands: &[&Tensor]) -> Result<(), String> {
        if self.over.is_some() {
            return Ok(());
        }
        let rows = operands[0].shape[0];
        let outside = operands[1].data.iter().find(|&&id| id < 0.0 || id >= rows as f64);
        outside.map_or(Ok(()), |id| Err(format!("index {id} into a table of {rows} rows")))
    }

    fn sharding(&self, operands: &[TensorType]) -> Option<String> {
        let row = crate::op::LETTERS[..operands[0].rank() - 1].join(" ");
        let place = if self.over.is_some() { ", whole" } else { "" };
        Some(format!("rows {row}, n{place} -> n {row}"))
    }

    fn localized(&self, operands: &[TensorType], _: &[TensorType]) -> Option<(Op, Option<String>)> {
        let over = operands[0].dims[0].split.clone()?;
        Some((Gather { over: Some(over.clone()) }.into(), Some(over)))
    }

    fn takes_parts(&self, operand: usize) -> bool {
        operand == 0
    }

    fn reads(&self, i: usize, _: &[TensorType], results: &[TensorType], sizes: &Sizes<'_>) -> Option<u64> {
        (i == 0).then(|| sizes.of(&elements(&results[0])))
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    let ids = |sample: Sample, most: i64| Sample { integers: (0, most), ..sample };
    vec![
        ids(sample(Gather { over: None }, &["f16[5, 24]", "i32[N]"]), 4),
        ids(sample(Gather { over: None }, &["f32[5, 7]", "i32[3]"]), 4),
        // A table of as many rows as a name says, which may be one.
        ids(sample(Gather { over: None }, &["f32[N, 6]", "i32[5]"]), 0),
    ]
}
