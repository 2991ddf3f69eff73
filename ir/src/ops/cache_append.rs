//! `cache_append`: keys and values of new tokens written into the paged cache.
//!
//! `%kv: [pages, 2, heads, T, d]` holds keys (0) and values (1); `%rows: i32[S, 3]` says for each sequence where its
//! tokens start on the token axis, how many there are, and the position of the first; position `t` lies in page
//! `%pages[s, t / T]`, slot `t % T`. The result replaces the operand in memory: its old value must have no later use.

use crate::ascend::{Lowering, Over, Sum};
use crate::extent::Extent;
use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count, expect_rank, sample};
use crate::tensor::{Tensor, flat};
use crate::types::{DType, TensorType};
use crate::work::Sizes;
use serde::{Deserialize, Serialize};

/// `kv, k: [N, heads, d], v: [N, heads, d], rows, pages -> kv`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheAppend;

impl OpDef for CacheAppend {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(5, operands)?;
        check_cache(&operands[0], &operands[1], &operands[3], &operands[4])?;
        expect_rank(operands, 2, 3)?;
        if operands[1].unnamed() != operands[2].unnamed() {
            return Err(TypeError::new(format!("keys are {}, values {}", operands[1], operands[2])));
        }
        Ok(vec![operands[0].unnamed()])
    }

    fn reference(&self, operands: &[&Tensor], _: &[TensorType], _: &RankContext<'_>) -> Vec<Tensor> {
        let mut kv = operands[0].clone();
        let table = SequenceTable { rows: operands[3], pages: operands[4], page_tokens: kv.shape[3] };
        let (heads, d) = (kv.shape[2], kv.shape[4]);
        for (s, token, position) in table.tokens() {
            for side in 0..2 {
                for head in 0..heads {
                    let to = flat(&kv.shape, &[table.page(s, position), side, head, table.slot(position), 0]);
                    let from = (token * heads + head) * d;
                    kv.data[to..to + d].copy_from_slice(&operands[1 + side].data[from..from + d]);
                }
            }
        }
        vec![kv]
    }

    fn check_indices(&self, operands: &[&Tensor]) -> Result<(), String> {
        SequenceTable { rows: operands[3], pages: operands[4], page_tokens: operands[0].shape[3] }
            .check(operands[1].shape[0], operands[0].shape[0])
    }

    fn sharding(&self, _: &[TensorType]) -> Option<String> {
        let (kv, x, table) = ("whole whole heads whole whole", "whole heads whole", "whole whole");
        Some(format!("{kv}, {x}, {x}, {table}, {table} -> {kv}"))
    }

    fn consumes(&self) -> Option<usize> {
        Some(0)
    }

    fn reads(&self, i: usize, _: &[TensorType], _: &[TensorType], _: &Sizes<'_>) -> Option<u64> {
        (i == 0).then_some(0)
    }

    fn writes(&self, operands: &[TensorType], _: &[TensorType], sizes: &Sizes<'_>) -> Option<u64> {
        Some(sizes.of(&elements(&operands[1])) + sizes.of(&elements(&operands[2])))
    }

    // A sequence has one page, so its new tokens lie in order there: a copy that transposes and rounds.
    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (cache, new) = (io.x(0), [io.x(1), io.x(2)]);
        let [start, length, first, page] = ["start", "length", "first", "page"].map(Sum::symbol);
        io.each(Over::Sequences, |io| {
            for (side, x) in (0..).zip(&new) {
                let to = cache.entry(&page).entry(&Sum::number(side)).narrowed(1, &first, &length);
                io.copy(&to, &x.narrowed(0, &start, &length).permuted(&[1, 0, 2]));
            }
        });
        io.is_view(cache);
        Some(())
    }
}

/// Refuses a cache, tokens and tables that do not belong together.
pub(crate) fn check_cache(kv: &TensorType, x: &TensorType, rows: &TensorType, pages: &TensorType) -> Result<(), TypeError> {
    let fits = kv.rank() == 5
        && x.rank() == 3
        && kv.dims[1].extent == Extent::number(2)
        && kv.dims[2].extent == x.dims[1].extent
        && kv.dims[4].extent == x.dims[2].extent;
    if !fits {
        return Err(TypeError::new(format!("a cache {kv} for tokens {x}: expected [pages, 2, heads, T, d] and [N, heads, d]")));
    }
    let tables = rows.dtype == DType::I32
        && pages.dtype == DType::I32
        && rows.rank() == 2
        && pages.rank() == 2
        && rows.dims[1].extent == Extent::number(3)
        && rows.dims[0].extent == pages.dims[0].extent;
    if !tables {
        return Err(TypeError::new(format!("tables {rows} and {pages}: expected i32[S, 3] and i32[S, P]")));
    }
    Ok(())
}

/// The two tables that place sequences on the token axis and in the cache.
pub(crate) struct SequenceTable<'a> {
    pub(crate) rows: &'a Tensor,
    pub(crate) pages: &'a Tensor,
    pub(crate) page_tokens: usize,
}

impl SequenceTable<'_> {
    /// `(sequence, index on the token axis, position in the sequence)` of every token.
    pub(crate) fn tokens(&self) -> Vec<(usize, usize, usize)> {
        let of = |(s, row): (usize, &[f64])| {
            let (start, length, first) = (row[0] as usize, row[1] as usize, row[2] as usize);
            (0..length).map(move |i| (s, start + i, first + i))
        };
        self.rows.data.chunks_exact(3).enumerate().flat_map(of).collect()
    }

    /// Every token must be one of `tokens`, every page that is used one of `pages`.
    pub(crate) fn check(&self, tokens: usize, pages: usize) -> Result<(), String> {
        for (s, row) in self.rows.data.chunks_exact(3).enumerate() {
            let (start, length, first) = (row[0], row[1], row[2]);
            let reach = self.pages.shape[1] * self.page_tokens;
            if row.iter().any(|&value| value < 0.0) || start + length > tokens as f64 {
                return Err(format!("sequence {s} is tokens {start} to {} of {tokens}", start + length));
            }
            if first + length > reach as f64 {
                return Err(format!("sequence {s} ends at position {}, its pages reach {reach}", first + length));
            }
            let used = ((first + length) as usize).div_ceil(self.page_tokens);
            let row = &self.pages.data[s * self.pages.shape[1]..][..used];
            if let Some(page) = row.iter().find(|&&page| page < 0.0 || page >= pages as f64) {
                return Err(format!("sequence {s} lies in page {page} of {pages}"));
            }
        }
        Ok(())
    }

    pub(crate) fn page(&self, sequence: usize, position: usize) -> usize {
        self.pages.data[sequence * self.pages.shape[1] + position / self.page_tokens] as usize
    }

    pub(crate) fn slot(&self, position: usize) -> usize {
        position % self.page_tokens
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    // Two sequences: four tokens from position 14 on (crossing into a second page), one token at position 0.
    let rows = vec![0.0, 4.0, 14.0, 4.0, 1.0, 0.0];
    let pages = vec![2.0, 0.0, 1.0, 3.0];
    let of = |kv, x| Sample {
        fixed: vec![(3, rows.clone()), (4, pages.clone())],
        ..sample(CacheAppend, &[kv, x, x, "i32[2, 3]", "i32[2, 2]"])
    };
    vec![of("f32[4, 2, 3, 16, 4]", "f32[5, 3, 4]"), of("f16[4, 2, 2, 16, 24]", "f32[5, 2, 24]")]
}
