//! Layouts: where an element of a tensor lies in its bytes. Packer, emitters and interpreter all ask here.
//!
//! - *Row major*: the last dimension is fastest, no padding.
//! - *Panels*: weights of a contraction, seen as `[k, n]` (contracted dimensions, the others), in panels of
//!   [`PANEL`] output columns; within a panel `group` consecutive `k` of one column lie together (1 for f32, 2 for
//!   16-bit, 4 for int8, 8 for int4), columns next, groups outermost. `k` is padded to its group and `n` to the
//!   panel with zeros.
//! - *Cache pages*: one layer's `[pages, 2, heads, T, d]`; keys lie in panels of [`PANEL`] tokens with `d` outside, so
//!   that scores of neighbouring tokens are neighbours; values are rows of `d` padded to the panel. Behind both, a page
//!   has room for a bound of each key's size, f32 `[heads, T]` ([`key_size_position`]): no part of the tensor, but what
//!   lets attention leave out pages. Who writes a key writes its bound.

use crate::tensor::map_indices;
use crate::types::DType;
use serde::{Deserialize, Serialize};

/// Columns in a panel.
pub const PANEL: usize = 16;

/// How a tensor's elements are laid out in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Layout {
    /// Last dimension fastest.
    RowMajor,
    /// Panels of columns; `contracted` lists the dimensions that form `k`, in order.
    Panels {
        /// Dimensions summed over by the contraction, outermost first.
        contracted: Vec<usize>,
    },
    /// A layer of the key-value cache.
    CachePages,
}

/// Consecutive `k` that lie together in a panel.
pub fn group(dtype: DType) -> usize {
    match dtype {
        DType::F32 | DType::I32 => 1,
        DType::F16 | DType::BF16 => 2,
        DType::I8 => 4,
        DType::U4 => 8,
    }
}

impl Layout {
    /// Elements the tensor takes in memory, padding included.
    pub fn elements(&self, shape: &[usize], dtype: DType) -> usize {
        match self {
            Layout::RowMajor => shape.iter().product(),
            Layout::Panels { contracted } => {
                let (k, n) = matrix(shape, contracted);
                k.next_multiple_of(group(dtype)) * n.next_multiple_of(PANEL)
            }
            Layout::CachePages => {
                let [pages, ..] = cache_dims(shape);
                pages * page_elements(shape, dtype)
            }
        }
    }

    /// Bytes the tensor takes in memory, padding included.
    pub fn bytes(&self, shape: &[usize], dtype: DType) -> u64 {
        dtype.bytes(self.elements(shape, dtype) as u64)
    }

    /// The element position of an index: multiply by the element's size for a byte offset (nibbles: halve).
    pub fn position(&self, shape: &[usize], dtype: DType, index: &[usize]) -> usize {
        self.line(shape, dtype, index).position(0)
    }

    /// The positions of all elements in row-major order, a line of the last dimension after the other.
    pub fn positions<'a>(&'a self, shape: &'a [usize], dtype: DType) -> impl Iterator<Item = usize> + 'a {
        let (length, lines) = shape.split_last().map_or((1, shape), |(last, others)| (*last, others));
        let mut first = vec![0; shape.len()];
        let starts = map_indices(lines, move |index| {
            first[..index.len()].copy_from_slice(index);
            self.line(shape, dtype, &first)
        });
        starts.flat_map(move |line| (0..length).map(move |i| line.position(i)))
    }

    /// The line along the last dimension that begins at an index.
    fn line(&self, shape: &[usize], dtype: DType, first: &[usize]) -> Line {
        match self {
            Layout::RowMajor => Line::Even { start: row_major(shape, first), step: 1 },
            Layout::Panels { contracted } => {
                let (k_extent, group) = (matrix(shape, contracted).0, group(dtype));
                let (k, n) = split_index(shape, contracted, first);
                match contracted.iter().position(|dim| dim + 1 == shape.len()) {
                    Some(place) => {
                        let step = contracted[place + 1..].iter().map(|&dim| shape[dim]).product();
                        Line::Depth { k_extent, group, k, n, step }
                    }
                    None => Line::Columns { k_extent, group, k, n },
                }
            }
            Layout::CachePages => {
                Line::Even { start: cache_position(shape, dtype, first), step: if first[1] == 0 { PANEL } else { 1 } }
            }
        }
    }
}

/// Where elements of one line lie.
#[derive(Clone, Copy)]
enum Line {
    Even { start: usize, step: usize },
    Columns { k_extent: usize, group: usize, k: usize, n: usize },
    Depth { k_extent: usize, group: usize, k: usize, n: usize, step: usize },
}

impl Line {
    fn position(self, i: usize) -> usize {
        match self {
            Line::Even { start, step } => start + i * step,
            Line::Columns { k_extent, group, k, n } => panel_position(k_extent, group, k, n + i),
            Line::Depth { k_extent, group, k, n, step } => panel_position(k_extent, group, k + i * step, n),
        }
    }
}

/// `[k, n]` of a tensor whose `contracted` dimensions form `k`.
pub fn matrix(shape: &[usize], contracted: &[usize]) -> (usize, usize) {
    let k = contracted.iter().map(|&dim| shape[dim]).product();
    let n = (0..shape.len()).filter(|dim| !contracted.contains(dim)).map(|dim| shape[dim]).product();
    (k, n)
}

/// Element position of `(k, n)` in panels with `k_extent` rows.
pub fn panel_position(k_extent: usize, group: usize, k: usize, n: usize) -> usize {
    let panel = n / PANEL * (k_extent.next_multiple_of(group) * PANEL);
    // Groups are powers of two, and this is asked for every element.
    let (groups, within) = (k >> group.trailing_zeros(), k & (group - 1));
    panel + groups * (PANEL * group) + n % PANEL * group + within
}

fn row_major(shape: &[usize], index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |position, (extent, i)| position * extent + i)
}

fn split_index(shape: &[usize], contracted: &[usize], index: &[usize]) -> (usize, usize) {
    let k = contracted.iter().fold(0, |k, &dim| k * shape[dim] + index[dim]);
    let rest = (0..shape.len()).filter(|dim| !contracted.contains(dim));
    (k, rest.fold(0, |n, dim| n * shape[dim] + index[dim]))
}

fn cache_dims(shape: &[usize]) -> [usize; 5] {
    shape.try_into().expect("a cache layer is [pages, 2, heads, tokens, d]")
}

/// Elements of a page: keys, values, and the room of their sizes.
fn page_elements(shape: &[usize], dtype: DType) -> usize {
    let [_, two, heads, tokens, d] = cache_dims(shape);
    let (tokens, d) = (tokens.next_multiple_of(PANEL), d.next_multiple_of(PANEL));
    heads * tokens * (two * d + 32 / dtype.bits() as usize)
}

fn cache_position(shape: &[usize], dtype: DType, index: &[usize]) -> usize {
    let [_, _, heads, tokens, d] = cache_dims(shape);
    let [page, side, head, token, i] = cache_dims(index);
    let (tokens, d) = (tokens.next_multiple_of(PANEL), d.next_multiple_of(PANEL));
    let block = page * page_elements(shape, dtype) + (side * heads + head) * tokens * d;
    let within = if side == 0 { (token / PANEL * d + i) * PANEL + token % PANEL } else { token * d + i };
    block + within
}

/// Where the bound of a key's size lies in cache pages, in units of f32: an f32 no less than the key's Euclidean norm.
pub fn key_size_position(shape: &[usize], dtype: DType, page: usize, head: usize, token: usize) -> usize {
    let [_, two, heads, tokens, d] = cache_dims(shape);
    let (tokens, d) = (tokens.next_multiple_of(PANEL), d.next_multiple_of(PANEL));
    let before = page * page_elements(shape, dtype) + two * heads * tokens * d;
    before * dtype.bits() as usize / 32 + head * tokens + token
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every index has its own position below `elements`.
    fn check(layout: &Layout, shape: &[usize], dtype: DType) {
        let mut seen = BTreeSet::new();
        let mut positions = layout.positions(shape, dtype);
        let count: usize = shape.iter().product();
        for flat in 0..count {
            let mut rest = flat;
            let mut index = vec![0; shape.len()];
            for dim in (0..shape.len()).rev() {
                index[dim] = rest % shape[dim];
                rest /= shape[dim];
            }
            let position = layout.position(shape, dtype, &index);
            assert_eq!(positions.next(), Some(position), "{layout:?} {index:?}");
            assert!(position < layout.elements(shape, dtype) && seen.insert(position), "{layout:?} {index:?}");
        }
        assert_eq!(positions.next(), None);
    }

    #[test]
    fn positions_are_distinct_and_inside() {
        for dtype in [DType::F32, DType::F16, DType::I8, DType::U4] {
            check(&Layout::RowMajor, &[3, 5], dtype);
            check(&Layout::RowMajor, &[], dtype);
            check(&Layout::Panels { contracted: vec![0] }, &[5, 18], dtype);
            check(&Layout::Panels { contracted: vec![0, 1] }, &[3, 3, 17], dtype);
            check(&Layout::Panels { contracted: vec![1] }, &[33, 7], dtype);
            check(&Layout::Panels { contracted: vec![2, 0] }, &[3, 17, 5], dtype);
        }
        check(&Layout::CachePages, &[2, 2, 3, 16, 5], DType::F16);
    }

    #[test]
    fn sixteen_bit_weights_lie_in_pairs_along_k() {
        let layout = Layout::Panels { contracted: vec![0] };
        let at = |k, n| layout.position(&[4, 32], DType::F16, &[k, n]);
        assert_eq!([at(0, 0), at(1, 0), at(0, 1), at(2, 0), at(0, 16)], [0, 1, 2, 32, 64]);
    }
}
