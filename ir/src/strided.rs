//! A tensor as someone else stored it: bytes, an offset, and a step per dimension.
//!
//! Checkpoints keep some parameters transposed or fused; the packer and the interpreter read them where they lie.

use crate::tensor::{Tensor, indices, read_element};
use crate::types::DType;
use std::ops::Range;
use std::sync::Arc;

/// A read-only view of packed little-endian elements, at any alignment.
#[derive(Clone, Debug)]
pub struct Strided<'a> {
    bytes: Bytes<'a>,
    dtype: DType,
    shape: Vec<usize>,
    offset: usize,
    strides: Vec<usize>,
}

/// Where the elements are.
#[derive(Clone, Debug)]
enum Bytes<'a> {
    Lent(&'a [u8]),
    Shared(Arc<Vec<u8>>),
}

impl<'a> Strided<'a> {
    /// Element `index` of the view is element `offset + sum(index * strides)` of `bytes`.
    ///
    /// # Panics
    /// Some index would lie outside `bytes`, or the element type is narrower than a byte.
    pub fn new(bytes: &'a [u8], dtype: DType, shape: Vec<usize>, offset: usize, strides: Vec<usize>) -> Strided<'a> {
        Strided::of(Bytes::Lent(bytes), dtype, shape, offset, strides)
    }

    /// As [`Strided::new`], of bytes that several views share.
    ///
    /// # Panics
    /// As there.
    pub fn shared(
        bytes: Arc<Vec<u8>>,
        dtype: DType,
        shape: Vec<usize>,
        offset: usize,
        strides: Vec<usize>,
    ) -> Strided<'a> {
        Strided::of(Bytes::Shared(bytes), dtype, shape, offset, strides)
    }

    /// All of a tensor that was made here, row major.
    ///
    /// # Panics
    /// As [`Strided::new`].
    pub fn made(bytes: Vec<u8>, dtype: DType, shape: Vec<usize>) -> Strided<'a> {
        let strides = (1..=shape.len()).map(|dim| shape[dim..].iter().product()).collect();
        Strided::of(Bytes::Shared(Arc::new(bytes)), dtype, shape, 0, strides)
    }

    fn of(bytes: Bytes<'a>, dtype: DType, shape: Vec<usize>, offset: usize, strides: Vec<usize>) -> Strided<'a> {
        assert!(dtype.bits() >= 8 && shape.len() == strides.len(), "{dtype} of shape {shape:?} by {strides:?}");
        let view = Strided { bytes, dtype, shape, offset, strides };
        let last: Vec<usize> = view.shape.iter().map(|extent| extent.saturating_sub(1)).collect();
        let size = dtype.bytes(1) as usize;
        let inside = view.shape.contains(&0) || view.position(&last) < view.bytes().len() / size;
        assert!(inside, "{:?} by {:?} from {offset} leaves {} bytes", view.shape, view.strides, view.bytes().len());
        view
    }

    /// All elements of the tensor that is looked at.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Lent(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
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

    /// The same elements with dimensions in another order: dimension `i` is this view's `order[i]`.
    ///
    /// # Panics
    /// A dimension that is not there.
    #[must_use]
    pub fn transposed(&self, order: &[usize]) -> Strided<'a> {
        let (shape, strides) = order.iter().map(|&dim| (self.shape[dim], self.strides[dim])).unzip();
        Strided { shape, strides, ..self.clone() }
    }

    /// The same elements under other extents, where that is a view: dimensions of extent 1 may come and go.
    pub fn reshaped(&self, shape: &[usize]) -> Option<Strided<'a>> {
        let mut long = self.shape.iter().zip(&self.strides).filter(|(extent, _)| **extent != 1);
        let stride = |&extent: &usize| match extent {
            1 => Some(0),
            _ => long.next().filter(|(same, _)| **same == extent).map(|(_, stride)| *stride),
        };
        let strides = shape.iter().map(stride).collect::<Option<Vec<usize>>>()?;
        long.next().is_none().then(|| Strided { shape: shape.to_vec(), strides, ..self.clone() })
    }

    /// All elements, rounded to `dtype`.
    pub fn tensor(&self, dtype: DType) -> Tensor {
        let Some((&extent, outer)) = self.shape.split_last() else {
            return Tensor::new(dtype, &[], [read_element(self.dtype, self.bytes(), self.offset)]);
        };
        let (bytes, step) = (self.bytes(), self.strides[outer.len()]);
        let row = |index: Vec<usize>| {
            let start = self.position(&index);
            (0..extent).map(move |i| read_element(self.dtype, bytes, start + i * step))
        };
        Tensor::new(dtype, &self.shape, indices(outer).flat_map(row))
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
    fn transposes_and_reshapes_without_moving() {
        let view = Strided::made(bytes(), DType::F16, vec![2, 3]);
        assert_eq!(view.transposed(&[1, 0]).tensor(DType::F32).data, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let apart = view.transposed(&[1, 0]).reshaped(&[3, 1, 2]).unwrap();
        assert_eq!(apart.range(2, 1..2).tensor(DType::F32), Tensor::new(DType::F32, &[3, 1, 1], [3.0, 4.0, 5.0]));
        assert!(view.reshaped(&[3, 2]).is_none() && view.reshaped(&[6]).is_none() && view.reshaped(&[2]).is_none());
    }

    #[test]
    fn lone_elements_and_empty_views_are_views() {
        let bytes = bytes();
        assert_eq!(Strided::new(&bytes, DType::F16, vec![], 5, vec![]).tensor(DType::F32).data, [5.0]);
        assert_eq!(Strided::new(&[], DType::F16, vec![0, 2], 0, vec![2, 1]).tensor(DType::F32).data.len(), 0);
    }
}
