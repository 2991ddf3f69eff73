//! Sizes of tensors in bytes, without ever overflowing: numbers in a file may be anything.

use bloomery_ir::layout::{Layout, PANEL, group};
use bloomery_ir::{Bindings, DType, SymbolBound, TensorType};

/// Bytes a tensor takes in its layout, padding included; nothing when the shape does not suit the layout, or no 48-bit
/// number holds them.
pub fn bytes(layout: &Layout, shape: &[u64], dtype: DType) -> Option<u64> {
    let elements = match layout {
        Layout::RowMajor => product(shape.iter().copied())?,
        Layout::Panels { contracted } => panels(shape, contracted, dtype)?,
        Layout::CachePages => cache_pages(shape, dtype)?,
    };
    let bytes = elements.checked_mul(dtype.bits())?.div_ceil(8);
    (bytes < 1 << 48).then_some(bytes)
}

/// The same for a type, given values of its names.
pub fn bytes_of(ty: &TensorType, layout: &Layout, bindings: &Bindings) -> Option<u64> {
    let shape: Option<Vec<u64>> = ty.extents().map(|extent| extent.eval(bindings).ok()).collect();
    bytes(layout, &shape?, ty.dtype)
}

/// Every symbol at its largest.
pub fn largest(symbols: &[SymbolBound]) -> Bindings {
    symbols.iter().map(|symbol| (symbol.name.clone(), symbol.most)).collect()
}

/// Every symbol at its smallest.
pub fn smallest(symbols: &[SymbolBound]) -> Bindings {
    symbols.iter().map(|symbol| (symbol.name.clone(), symbol.least)).collect()
}

/// The next multiple of `to`.
pub fn round_up(bytes: u64, to: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(to)
}

fn product(mut extents: impl Iterator<Item = u64>) -> Option<u64> {
    extents.try_fold(1u64, u64::checked_mul)
}

fn panels(shape: &[u64], contracted: &[usize], dtype: DType) -> Option<u64> {
    let distinct = contracted.iter().enumerate().all(|(i, dim)| *dim < shape.len() && !contracted[..i].contains(dim));
    if !distinct {
        return None;
    }
    let k = product(contracted.iter().map(|&dim| shape[dim]))?;
    let n = product((0..shape.len()).filter(|dim| !contracted.contains(dim)).map(|dim| shape[dim]))?;
    round_up(k, group(dtype) as u64)?.checked_mul(round_up(n, PANEL as u64)?)
}

fn cache_pages(shape: &[u64], dtype: DType) -> Option<u64> {
    let [pages, two, heads, tokens, d] = *shape else { return None };
    let (tokens, d) = (round_up(tokens, PANEL as u64)?, round_up(d, PANEL as u64)?);
    let row = two.checked_mul(d)?.checked_add(32 / dtype.bits())?;
    product([pages, heads, tokens, row].into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agree_with_the_layouts() {
        let layouts = [Layout::RowMajor, Layout::Panels { contracted: vec![1] }, Layout::CachePages];
        for layout in layouts {
            for dtype in DType::ALL {
                let expect = layout.bytes(&[3, 2, 5, 7, 9], dtype);
                assert_eq!(bytes(&layout, &[3, 2, 5, 7, 9], dtype), Some(expect));
            }
        }
    }

    #[test]
    fn refuse_what_does_not_fit() {
        assert_eq!(bytes(&Layout::RowMajor, &[u64::MAX, 2], DType::F32), None);
        assert_eq!(bytes(&Layout::Panels { contracted: vec![2] }, &[3, 2], DType::F32), None);
        assert_eq!(bytes(&Layout::CachePages, &[3, 2], DType::F32), None);
    }
}
