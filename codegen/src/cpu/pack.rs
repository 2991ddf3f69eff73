//! Weights into the layout that kernels read: panels of 16 output columns.

use bloomery_ir::DType;
use bloomery_ir::layout::{Layout, PANEL, group, matrix};

/// Lays a row-major tensor of this shape out; padding is zeros. `out` holds [`Layout::bytes`] of it.
///
/// # Panics
/// When the bytes do not fit the shape, and for nibbles in panels.
pub fn pack(layout: &Layout, shape: &[usize], dtype: DType, from: &[u8], out: &mut [u8]) {
    let size = dtype.bits() as usize / 8;
    assert_eq!(out.len() as u64, layout.bytes(shape, dtype), "room for {shape:?} of {dtype}");
    match layout {
        Layout::Panels { contracted } => match size {
            4 => panels::<4>(shape, dtype, contracted, from, out),
            2 => panels::<2>(shape, dtype, contracted, from, out),
            1 => panels::<1>(shape, dtype, contracted, from, out),
            _ => panic!("{dtype} has no packed layout yet"),
        },
        Layout::RowMajor => out.copy_from_slice(from),
        Layout::CachePages => panic!("a cache is written by its kernel"),
    }
}

/// Walks the panels in order, so that what is written streams; an element's place in the source is a sum of what
/// its k and its n contribute.
fn panels<const SIZE: usize>(shape: &[usize], dtype: DType, contracted: &[usize], from: &[u8], out: &mut [u8]) {
    let (k, n) = matrix(shape, contracted);
    assert_eq!(from.len(), k * n * SIZE, "bytes of {shape:?}");
    let free: Vec<usize> = (0..shape.len()).filter(|dim| !contracted.contains(dim)).collect();
    let (k_offsets, n_offsets) = (offsets(shape, contracted), offsets(shape, &free));
    let group = group(dtype);
    let panel = k.next_multiple_of(group) * PANEL * SIZE;
    for (to, columns) in out.chunks_exact_mut(panel).zip(n_offsets.chunks(PANEL)) {
        for (to, ks) in to.chunks_exact_mut(PANEL * group * SIZE).zip(k_offsets.chunks(group)) {
            to.fill(0);
            for (to, column) in to.chunks_exact_mut(group * SIZE).zip(columns) {
                for (to, k) in to.chunks_exact_mut(SIZE).zip(ks) {
                    to.copy_from_slice(&from[(k + column) * SIZE..][..SIZE]);
                }
            }
        }
    }
}

/// Row-major positions of all indices along some dimensions, the others being 0.
fn offsets(shape: &[usize], dims: &[usize]) -> Vec<usize> {
    let stride = |dim: usize| shape[dim + 1..].iter().product::<usize>();
    dims.iter().fold(vec![0], |offsets, &dim| {
        let along = |offset: &usize| (0..shape[dim]).map(|i| offset + i * stride(dim)).collect::<Vec<_>>();
        offsets.iter().flat_map(along).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_lies_where_the_layout_says() {
        for dtype in [DType::F32, DType::F16, DType::I8] {
            for (shape, contracted) in [(vec![5, 18], vec![0]), (vec![3, 3, 17], vec![0, 1]), (vec![33, 7], vec![1])] {
                let layout = Layout::Panels { contracted };
                let size = dtype.bits() as usize / 8;
                let count: usize = shape.iter().product();
                let from: Vec<u8> = (0..count * size).map(|i| (i * 7 % 251) as u8 + 1).collect();
                let mut out = vec![0xff; layout.bytes(&shape, dtype) as usize];
                pack(&layout, &shape, dtype, &from, &mut out);
                let mut seen = vec![false; out.len() / size];
                for (i, index) in bloomery_ir::tensor::indices(&shape).enumerate() {
                    let to = layout.position(&shape, dtype, &index);
                    assert_eq!(out[to * size..][..size], from[i * size..][..size], "{shape:?} {index:?}");
                    seen[to] = true;
                }
                let padding =
                    (0..seen.len()).filter(|i| !seen[*i]).all(|i| out[i * size..][..size].iter().all(|b| *b == 0));
                assert!(padding, "padding is zeros");
            }
        }
    }
}
