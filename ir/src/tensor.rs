//! Tensors the interpreter computes with: every element as f64, rounded to the element type when stored.

use crate::types::DType;
use half::{bf16, f16};

/// A row-major tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Element type its values were rounded to.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Elements, row major.
    pub data: Vec<f64>,
}

impl Tensor {
    /// All elements zero.
    pub fn zeros(dtype: DType, shape: Vec<usize>) -> Tensor {
        let elements = shape.iter().product();
        Tensor { dtype, shape, data: vec![0.0; elements] }
    }

    /// From elements in row-major order, rounded.
    ///
    /// # Panics
    /// When there are not as many as the shape says.
    pub fn new(dtype: DType, shape: &[usize], data: impl IntoIterator<Item = f64>) -> Tensor {
        let data: Vec<f64> = data.into_iter().map(|value| round(dtype, value)).collect();
        assert_eq!(data.len(), shape.iter().product::<usize>(), "elements for shape {shape:?}");
        Tensor { dtype, shape: shape.to_vec(), data }
    }

    /// Integers.
    pub fn integers(shape: &[usize], data: impl IntoIterator<Item = i64>) -> Tensor {
        Tensor::new(DType::I32, shape, data.into_iter().map(|value| value as f64))
    }

    /// Elements in one layer of the first dimension.
    pub fn layer(&self, layer: usize) -> Tensor {
        let size: usize = self.shape[1..].iter().product();
        let data = self.data[layer * size..(layer + 1) * size].to_vec();
        Tensor { dtype: self.dtype, shape: self.shape[1..].to_vec(), data }
    }

    /// Replaces one layer of the first dimension.
    pub fn set_layer(&mut self, layer: usize, value: &Tensor) {
        let size = value.data.len();
        self.data[layer * size..(layer + 1) * size].copy_from_slice(&value.data);
    }

    /// A range of one dimension.
    pub fn slice(&self, dim: usize, range: std::ops::Range<usize>) -> Tensor {
        let inner: usize = self.shape[dim + 1..].iter().product();
        let block = self.shape[dim] * inner;
        let cut = |block: &[f64]| block[range.start * inner..range.end * inner].to_vec();
        let data = self.data.chunks_exact(block.max(1)).flat_map(cut).collect();
        let mut shape = self.shape.clone();
        shape[dim] = range.len();
        Tensor { dtype: self.dtype, shape, data }
    }

    /// The element type's rounding applied to every element.
    #[must_use]
    pub fn rounded(mut self) -> Tensor {
        self.data.iter_mut().for_each(|value| *value = round(self.dtype, *value));
        self
    }

    /// Largest absolute difference to another tensor of the same shape; infinite where one has no number.
    pub fn difference(&self, other: &Tensor) -> f64 {
        assert_eq!(self.shape, other.shape, "tensors of one shape are compared");
        let apart = |(a, b): (&f64, &f64)| match (a - b).abs() {
            _ if a == b => 0.0,
            apart if apart.is_nan() => f64::INFINITY,
            apart => apart,
        };
        self.data.iter().zip(&other.data).map(apart).fold(0.0, f64::max)
    }
}

/// The nearest value the element type holds.
pub fn round(dtype: DType, value: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(value as f32),
        DType::F16 => f16::from_f32(to_odd(value)).to_f64(),
        DType::BF16 => bf16::from_f32(to_odd(value)).to_f64(),
        DType::I32 => f64::from(value as i32),
        DType::I8 => f64::from(value as i8),
        DType::U4 => f64::from((value as u8).min(15)),
    }
}

/// The f32 that rounds to f16 and bf16 as the value itself does: the last bit of what is not exact is one, so it is no tie
/// (rounding to odd: Boldo and Melquiond 2008). What `half` makes of an f64 misses its last 32 bits.
fn to_odd(value: f64) -> f32 {
    let near = value as f32;
    if value.is_nan() || f64::from(near) == value {
        return near;
    }
    let toward_zero = near.to_bits() - u32::from(f64::from(near).abs() > value.abs());
    f32::from_bits(toward_zero | 1)
}

/// The element at `position` of packed little-endian bytes.
pub fn read_element(dtype: DType, bytes: &[u8], position: usize) -> f64 {
    let at = |size: usize| &bytes[position * size..(position + 1) * size];
    match dtype {
        DType::F32 => f64::from(f32::from_le_bytes(at(4).try_into().expect("four bytes"))),
        DType::I32 => f64::from(i32::from_le_bytes(at(4).try_into().expect("four bytes"))),
        DType::F16 => f16::from_le_bytes(at(2).try_into().expect("two bytes")).to_f64(),
        DType::BF16 => bf16::from_le_bytes(at(2).try_into().expect("two bytes")).to_f64(),
        DType::I8 => f64::from(bytes[position] as i8),
        DType::U4 => f64::from(bytes[position / 2] >> (position % 2 * 4) & 15),
    }
}

/// Writes the element at `position` of packed little-endian bytes.
pub fn write_element(dtype: DType, bytes: &mut [u8], position: usize, value: f64) {
    let mut put = |encoded: &[u8]| bytes[position * encoded.len()..][..encoded.len()].copy_from_slice(encoded);
    match dtype {
        DType::F32 => put(&(value as f32).to_le_bytes()),
        DType::I32 => put(&(value as i32).to_le_bytes()),
        DType::F16 => put(&f16::from_f32(to_odd(value)).to_le_bytes()),
        DType::BF16 => put(&bf16::from_f32(to_odd(value)).to_le_bytes()),
        DType::I8 => put(&[(value as i8) as u8]),
        DType::U4 => {
            let shift = position % 2 * 4;
            let byte = &mut bytes[position / 2];
            *byte = *byte & !(15 << shift) | (value as u8 & 15) << shift;
        }
    }
}

/// The position of an index in row-major order.
pub fn flat(shape: &[usize], index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |position, (extent, i)| position * extent + i)
}

/// All indices of a shape in row-major order.
pub fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    map_indices(shape, <[usize]>::to_vec)
}

/// What `of` makes of all indices of a shape, in row-major order.
pub fn map_indices<T, F: FnMut(&[usize]) -> T>(shape: &[usize], mut of: F) -> impl Iterator<Item = T> + use<T, F> {
    let shape = shape.to_vec();
    let mut index = vec![0; shape.len()];
    (0..shape.iter().product()).map(move |_: usize| {
        let made = of(&index);
        for (i, extent) in index.iter_mut().zip(&shape).rev() {
            *i += 1;
            if *i < *extent {
                break;
            }
            *i = 0;
        }
        made
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_survive_their_bytes() {
        for dtype in DType::ALL {
            let values = if dtype.is_float() { [0.5, -1.25, 3.0] } else { [1.0, 7.0, 15.0] };
            let mut bytes = vec![0; dtype.bytes(3) as usize];
            (0..3).for_each(|i| write_element(dtype, &mut bytes, i, values[i]));
            assert_eq!(values, [0, 1, 2].map(|i| read_element(dtype, &bytes, i)), "{dtype}");
        }
    }

    /// As an f32 of the same number, and to the right side of a tie however near it is.
    #[test]
    fn halves_are_rounded_once() {
        for bits in (0..=u32::MAX).step_by(65_521 * 3) {
            let value = f32::from_bits(bits);
            let [half, brain] = [DType::F16, DType::BF16].map(|dtype| round(dtype, f64::from(value)));
            let same = |found: f64, expected: f64| found == expected || value.is_nan() && found.is_nan();
            assert!(
                same(half, f16::from_f32(value).to_f64()) && same(brain, bf16::from_f32(value).to_f64()),
                "{value:e}"
            );
        }
        for (dtype, unit) in [(DType::F16, 2f64.powi(-10)), (DType::BF16, 2f64.powi(-7))] {
            let (tie, little) = (1.0 + unit / 2.0, 2f64.powi(-50));
            let found = [tie - little, tie, tie + little].map(|value| round(dtype, value));
            assert_eq!(found, [1.0, 1.0, 1.0 + unit], "{dtype}");
            assert_eq!([1e-300, -1e300].map(|value| round(dtype, value)), [0.0, f64::NEG_INFINITY], "{dtype}");
        }
    }

    #[test]
    fn slices_a_middle_dimension() {
        let whole = Tensor::integers(&[2, 3, 2], 0..12);
        assert_eq!(whole.slice(1, 1..3), Tensor::integers(&[2, 2, 2], [2, 3, 4, 5, 8, 9, 10, 11]));
    }
}
