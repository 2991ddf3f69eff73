//! A tensor as someone else stored it: bytes, an offset, and a step per dimension.
//!
//! Checkpoints keep some parameters transposed or fused; the packer and the interpreter read them where they lie.

use crate::tensor::{Tensor, indices, read_element};
use crate::types::DType;
use std::ops::Range;

/// A read-only view of packed little-endian elements, at any alignment.
#[derive(Clone, Debug)]
pub struct Strided<'a> {
    bytes: &'a [u8],
    dtype: DType,
    shape: Vec<usize>,
    offset: usize,
    strides: Vec<usize>,
}

impl<'a> Strided<'a> {
    /// Element `index` of the view is element `offset + sum(index * strides)` of `bytes`.
    ///
    /// # Panics
    /// Some index would lie outside `bytes`, or the element type is narrower than a byte.
    pub fn new(bytes: &'a [u8], dtype: DType, shape: Vec<usize>, offset: usize, strides: Vec<usize>) -> Strided<'a> {
        assert!(dtype.bits() >= 8 && shape.len() == strides.len(), "{dtype} of shape {shape:?} by {strides:?}");
        let view = Strided { bytes, dtype, shape, offset, strides };
        let last: Vec<usize> = view.shape.iter().map(|extent| extent.saturating_sub(1)).collect();
        let size = dtype.bytes(1) as usize;
        let inside = view.shape.contains(&0) || view.position(&last) < bytes.len() / size;
        assert!(inside, "{:?} by {:?} from {offset} leaves {} bytes", view.shape, view.strides, bytes.len());
        view
    }

    /// All elements of the tensor that is looked at.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The view's extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The step of each dimension, in elements.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The position of the view's first element.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The view of a range of one dimension.
    ///
    /// # Panics
    /// The range is not inside.
    #[must_use]
    pub fn range(&self, dim: usize, range: Range<usize>) -> Strided<'a> {
        assert!(range.end <= self.shape[dim], "{range:?} of dimension {dim} of {:?}", self.shape);
        let mut view = self.clone();
        view.offset += range.start * self.strides[dim];
        view.shape[dim] = range.len();
        view
    }

    /// All elements, rounded to `dtype`.
    pub fn tensor(&self, dtype: DType) -> Tensor {
        let read = |index: Vec<usize>| read_element(self.dtype, self.bytes, self.position(&index));
        Tensor::new(dtype, &self.shape, indices(&self.shape).map(read))
    }

    fn position(&self, index: &[usize]) -> usize {
        self.offset + index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Vec<u8> {
        (0..6).flat_map(|i| half::f16::from_f32(i as f32).to_le_bytes()).collect()
    }

    #[test]
    fn reads_the_whole_and_ranges() {
        let bytes = bytes();
        // `[2, 3]` seen transposed, without its first element.
        let view = Strided::new(&bytes, DType::F16, vec![2, 2], 1, vec![1, 3]);
        assert_eq!(view.tensor(DType::F32), Tensor::new(DType::F32, &[2, 2], [1.0, 4.0, 2.0, 5.0]));
        assert_eq!(view.range(0, 1..2).tensor(DType::F32).data, [2.0, 5.0]);
        assert_eq!(view.range(1, 1..2).tensor(DType::F32).data, [4.0, 5.0]);
    }

    #[test]
    fn lone_elements_and_empty_views_are_views() {
        let bytes = bytes();
        assert_eq!(Strided::new(&bytes, DType::F16, vec![], 5, vec![]).tensor(DType::F32).data, [5.0]);
        assert_eq!(Strided::new(&[], DType::F16, vec![0, 2], 0, vec![2, 1]).tensor(DType::F32).data.len(), 0);
    }
}
