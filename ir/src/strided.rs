//! A tensor as someone else stored it: bytes, an offset, and a step per dimension.
//!
//! Checkpoints keep some parameters transposed or fused; the packer and the interpreter read them where they lie. Lines
//! along one dimension are the unit: choose the dimension whose [`Strided::strides`] entry is 1 and they are copies.

use crate::tensor::{Tensor, indices, read_element};
use crate::types::DType;

/// A read-only view of packed little-endian elements.
#[derive(Clone, Debug)]
pub struct Strided<'a> {
    bytes: &'a [u8],
    dtype: DType,
    shape: Vec<usize>,
    offset: usize,
    strides: Vec<usize>,
}

impl<'a> Strided<'a> {
    /// Element `index` of the view is element `offset + sum(index * strides)` of `bytes`, at any alignment.
    ///
    /// # Panics
    /// Some index would lie outside `bytes`, or the element type is narrower than a byte.
    pub fn new(bytes: &'a [u8], dtype: DType, shape: Vec<usize>, offset: usize, strides: Vec<usize>) -> Strided<'a> {
        assert!(dtype.bits() >= 8 && shape.len() == strides.len(), "{dtype} of shape {shape:?} by {strides:?}");
        let view = Strided { bytes, dtype, shape, offset, strides };
        let last: Vec<usize> = view.shape.iter().map(|extent| extent.saturating_sub(1)).collect();
        let inside = view.shape.contains(&0) || view.position(&last) < bytes.len() / view.size();
        assert!(inside, "{:?} by {:?} from {offset} leaves {} bytes", view.shape, view.strides, bytes.len());
        view
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

    /// One element.
    pub fn get(&self, index: &[usize]) -> f32 {
        read_element(self.dtype, self.bytes, self.position(index)) as f32
    }

    /// Elements from `index` on along dimension `dim`, as many as `line` holds.
    pub fn line(&self, dim: usize, index: &[usize], line: &mut [f32]) {
        let (from, step) = self.span(dim, index, line.len());
        match self.dtype {
            DType::F32 => decode(from, step, line, f32::from_le_bytes),
            DType::F16 => decode(from, step, line, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
            DType::BF16 => decode(from, step, line, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
            DType::I32 => decode(from, step, line, |bytes| i32::from_le_bytes(bytes) as f32),
            DType::I8 => decode(from, step, line, |bytes| f32::from(i8::from_le_bytes(bytes))),
            DType::U4 => unreachable!("`new` refuses nibbles"),
        }
    }

    /// The same elements as stored: `line.len()` over the element's size of them.
    pub fn line_bytes(&self, dim: usize, index: &[usize], line: &mut [u8]) {
        let size = self.size();
        let (from, step) = self.span(dim, index, line.len() / size);
        if step == 1 {
            return line.copy_from_slice(&from[..line.len()]);
        }
        for (to, from) in line.chunks_exact_mut(size).zip(from.chunks(step * size)) {
            to.copy_from_slice(&from[..size]);
        }
    }

    /// All elements, rounded to `dtype`.
    pub fn tensor(&self, dtype: DType) -> Tensor {
        let Some((&last, outer)) = self.shape.split_last() else {
            return Tensor::new(dtype, &[], [f64::from(self.get(&[]))]);
        };
        let mut line = vec![0.0; last];
        let mut data = Vec::with_capacity(self.shape.iter().product());
        for mut index in indices(outer) {
            index.push(0);
            self.line(outer.len(), &index, &mut line);
            data.extend(line.iter().map(|&value| f64::from(value)));
        }
        Tensor::new(dtype, &self.shape, data)
    }

    fn size(&self) -> usize {
        self.dtype.bytes(1) as usize
    }

    fn position(&self, index: &[usize]) -> usize {
        self.offset + index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum::<usize>()
    }

    /// The bytes from `index` on, and the step along `dim` in elements.
    fn span(&self, dim: usize, index: &[usize], count: usize) -> (&'a [u8], usize) {
        assert!(index[dim] + count <= self.shape[dim], "{count} from {index:?} along {dim} of {:?}", self.shape);
        (&self.bytes[self.position(index) * self.size()..], self.strides[dim])
    }
}

fn decode<const SIZE: usize>(from: &[u8], step: usize, line: &mut [f32], value: impl Fn([u8; SIZE]) -> f32) {
    for (to, from) in line.iter_mut().zip(from.chunks(step * SIZE)) {
        *to = value(*from.first_chunk().expect("`new` checked that elements are inside"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[2, 3]` seen transposed, without its first element.
    fn view(bytes: &[u8]) -> Strided<'_> {
        Strided::new(bytes, DType::F16, vec![2, 2], 1, vec![1, 3])
    }

    fn bytes() -> Vec<u8> {
        (0..6).flat_map(|i| half::f16::from_f32(i as f32).to_le_bytes()).collect()
    }

    #[test]
    fn reads_elements_lines_and_the_whole() {
        let bytes = bytes();
        let view = view(&bytes);
        assert_eq!(view.tensor(DType::F32), Tensor::new(DType::F32, &[2, 2], [1.0, 4.0, 2.0, 5.0]));
        assert_eq!(view.get(&[1, 1]), 5.0);
        for (dim, expect) in [(0, [1.0, 2.0]), (1, [1.0, 4.0])] {
            let (mut line, mut raw) = ([0.0; 2], [0; 4]);
            view.line(dim, &[0, 0], &mut line);
            view.line_bytes(dim, &[0, 0], &mut raw);
            assert_eq!(line, expect);
            assert_eq!([0, 1].map(|i| read_element(DType::F16, &raw, i) as f32), expect);
        }
    }

    #[test]
    fn lone_elements_and_empty_views_are_views() {
        let bytes = bytes();
        assert_eq!(Strided::new(&bytes, DType::F16, vec![], 5, vec![]).tensor(DType::F32).data, [5.0]);
        assert_eq!(Strided::new(&[], DType::F16, vec![0, 2], 0, vec![2, 1]).tensor(DType::F32).data.len(), 0);
    }
}
