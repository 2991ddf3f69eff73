//! `alibi_attention`: causal attention of new tokens over the paged cache, with ALiBi.
//!
//! For a query at position `t` of its sequence and head `a`: `score[j] = scale * q . k[j] + slope[a] * j` for `j <= t`,
//! result `softmax(score) v`. Positions count a sequence's own tokens from 0, as Hugging Face's `cumsum(mask) - 1`;
//! adding `slope * j` instead of `slope * (j - t)` is the same to softmax. Press et al. 2022, "Train Short, Test Long".
//! Rows of no sequence come out as zeros.

mod ascend;

use crate::ascend::Lowering;
use super::cache_append::{SequenceTable, check_cache};
use super::softmax::softmax;
use crate::extent::Extent;
use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count, sample};
use crate::tensor::{Tensor, flat};
use crate::types::TensorType;
use crate::work::{Sizes, Span};
use serde::{Deserialize, Serialize};

/// `q: [N, heads, d], kv: [pages, 2, heads, T, d], rows: i32[S, 3], pages: i32[S, P], slopes: [heads] -> [N, heads, d]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlibiAttention {
    /// Factor on the products, `1 / sqrt(d)`.
    pub scale: f64,
}

impl OpDef for AlibiAttention {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(5, operands)?;
        check_cache(&operands[1], &operands[0], &operands[2], &operands[3])?;
        if operands[4].rank() != 1 || operands[4].dims[0].extent != operands[0].dims[1].extent {
            return Err(TypeError::new(format!("slopes {} for the heads of {}", operands[4], operands[0])));
        }
        Ok(vec![operands[0].unnamed()])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let (q, kv, slopes) = (operands[0], operands[1], operands[4]);
        let table = SequenceTable { rows: operands[2], pages: operands[3], page_tokens: kv.shape[3] };
        let (heads, d) = (q.shape[1], q.shape[2]);
        let mut result = Tensor::zeros(results[0].dtype, cx.shape(&results[0]));
        for (s, token, position) in table.tokens() {
            for head in 0..heads {
                let cached = |side, j| {
                    let at = flat(&kv.shape, &[table.page(s, j), side, head, table.slot(j), 0]);
                    &kv.data[at..at + d]
                };
                let row = (token * heads + head) * d;
                let dot = |j| q.data[row..row + d].iter().zip(cached(0, j)).map(|(a, b)| a * b).sum::<f64>();
                let score = |j| self.scale * dot(j) + slopes.data[head] * j as f64;
                let scores: Vec<f64> = (0..=position).map(score).collect();
                let mut weights = vec![0.0; scores.len()];
                softmax(&scores, &mut weights);
                for (j, weight) in weights.iter().enumerate() {
                    for (to, v) in result.data[row..row + d].iter_mut().zip(cached(1, j)) {
                        *to += weight * v;
                    }
                }
            }
        }
        vec![result]
    }

    fn check_indices(&self, operands: &[&Tensor]) -> Result<(), String> {
        SequenceTable { rows: operands[2], pages: operands[3], page_tokens: operands[1].shape[3] }
            .check(operands[0].shape[0], operands[1].shape[0])
    }

    fn sharding(&self, _: &[TensorType]) -> Option<String> {
        Some("whole heads whole, whole whole heads whole whole, whole whole, whole whole, heads -> whole heads whole".to_owned())
    }

    fn flops(&self, operands: &[TensorType], _: &[TensorType]) -> Extent {
        // Two products with every cached position; the page table's width bounds how many there are.
        let reach = operands[3].dims[1].extent.times(&operands[1].dims[3].extent);
        elements(&operands[0]).times(&reach).times(&Extent::number(4))
    }

    fn flops_in(&self, operands: &[TensorType], _: &[TensorType], sizes: &Sizes<'_>) -> u64 {
        // The token after `first` others sees `first + 1` positions, the next one more.
        let seen = |span: &Span| span.tokens * span.first + span.tokens * (span.tokens + 1) / 2;
        4 * token_elements(&operands[0], sizes) * sizes.spans.iter().map(seen).sum::<u64>()
    }

    fn reads(&self, i: usize, operands: &[TensorType], _: &[TensorType], sizes: &Sizes<'_>) -> Option<u64> {
        let positions = || sizes.spans.iter().map(|span| span.first + span.tokens).sum::<u64>();
        (i == 1).then(|| 2 * token_elements(&operands[0], sizes) * positions())
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        ascend::attention(self, io)
    }
}

/// `heads * d`
fn token_elements(q: &TensorType, sizes: &Sizes<'_>) -> u64 {
    q.dims[1..].iter().map(|dim| sizes.of(&dim.extent)).product()
}

pub(crate) fn samples() -> Vec<Sample> {
    // Two sequences: three tokens from position 15 on (two pages), two tokens at the start.
    let rows = vec![0.0, 3.0, 15.0, 3.0, 2.0, 0.0];
    let pages = vec![2.0, 0.0, 1.0, 3.0];
    let of = |scale, q, kv, slopes| Sample {
        fixed: vec![(2, rows.clone()), (3, pages.clone())],
        ..sample(AlibiAttention { scale }, &[q, kv, "i32[2, 3]", "i32[2, 2]", slopes])
    };
    vec![
        of(0.5, "f32[5, 3, 4]", "f32[4, 2, 3, 16, 4]", "f32[3]"),
        of(0.204, "f32[5, 2, 24]", "f16[4, 2, 2, 16, 24]", "f32[2]"),
    ]
}
