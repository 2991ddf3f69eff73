//! Weights into the layout that kernels read.
//!
//! A source is a strided view ([`Strided`]) of a checkpoint's tensor: position `offset + sum(index * stride)`. Since the sum parts
//! into what contracted dimensions add and what the others add, any view (transposed, one of three fused projections)
//! is two tables of offsets, and a panel is filled by walking both. Panels are independent: threads share them out.

use bloomery_ir::layout::{PANEL, group};
use bloomery_ir::tensor::{read_element, write_element};
use bloomery_ir::{DType, Layout, Strided};
use half::{bf16, f16};
use std::num::NonZero;

/// Fills `out` with the view's elements as `dtype`, laid out; padding becomes zeros.
///
/// # Panics
/// When `out` is not as long as the layout says.
pub fn pack(source: &Strided<'_>, dtype: DType, layout: &Layout, out: &mut [u8]) {
    let shape = source.shape();
    assert_eq!(out.len() as u64, layout.bytes(shape, dtype), "room for {shape:?} as {dtype}");
    match layout {
        Layout::Panels { contracted } => {
            let others: Vec<usize> = (0..shape.len()).filter(|dim| !contracted.contains(dim)).collect();
            let ks = offsets(shape, source.strides(), contracted);
            let ns = offsets(shape, source.strides(), &others);
            panels(source, &ks, &ns, dtype, out);
        }
        Layout::RowMajor => {
            let all: Vec<usize> = (0..shape.len()).collect();
            rows(source, &offsets(shape, source.strides(), &all), dtype, out);
        }
        Layout::CachePages => unreachable!("a cache holds no weights"),
    }
}

/// What the indices of some dimensions add to a position, in row-major order of those dimensions.
fn offsets(shape: &[usize], strides: &[usize], dims: &[usize]) -> Vec<usize> {
    let step = |sums: Vec<usize>, &dim: &usize| {
        sums.iter().flat_map(|sum| (0..shape[dim]).map(move |i| sum + i * strides[dim])).collect()
    };
    dims.iter().fold(vec![0], step)
}

fn rows(source: &Strided<'_>, positions: &[usize], dtype: DType, out: &mut [u8]) {
    for (to, position) in positions.iter().enumerate() {
        write_element(dtype, out, to, read_element(source.dtype(), source.bytes(), source.offset() + position));
    }
}

/// Shares panels out between the machine's threads.
fn panels(source: &Strided<'_>, ks: &[usize], ns: &[usize], dtype: DType, out: &mut [u8]) {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let panel_bytes = dtype.bytes((ks.len().next_multiple_of(group(dtype)) * PANEL) as u64) as usize;
    let count = ns.len().div_ceil(PANEL);
    let share = count.div_ceil(threads).max(1);
    if count < 8 {
        return some_panels(source, ks, ns, dtype, out, panel_bytes);
    }
    std::thread::scope(|scope| {
        for (ns, out) in ns.chunks(share * PANEL).zip(out.chunks_mut(share * panel_bytes)) {
            scope.spawn(move || some_panels(source, ks, ns, dtype, out, panel_bytes));
        }
    });
}

fn some_panels(source: &Strided<'_>, ks: &[usize], ns: &[usize], dtype: DType, out: &mut [u8], panel_bytes: usize) {
    for (columns, panel) in ns.chunks(PANEL).zip(out.chunks_exact_mut(panel_bytes)) {
        match (source.dtype(), dtype) {
            (DType::F32, DType::F32) => panel_of(source, ks, columns, panel, |bytes: [u8; 4]| bytes),
            (DType::F16, DType::F16) | (DType::BF16, DType::BF16) => {
                panel_of(source, ks, columns, panel, |b: [u8; 2]| b)
            }
            (DType::F16, DType::F32) => {
                panel_of(source, ks, columns, panel, |b| f16::from_le_bytes(b).to_f32().to_le_bytes())
            }
            (DType::BF16, DType::F32) => {
                panel_of(source, ks, columns, panel, |b| bf16::from_le_bytes(b).to_f32().to_le_bytes())
            }
            (DType::F32, DType::F16) => {
                panel_of(source, ks, columns, panel, |b| f16::from_f32(f32::from_le_bytes(b)).to_le_bytes());
            }
            (DType::F32, DType::BF16) => {
                panel_of(source, ks, columns, panel, |b| bf16::from_f32(f32::from_le_bytes(b)).to_le_bytes());
            }
            (DType::F16, DType::BF16) => {
                panel_of(source, ks, columns, panel, |b| bf16::from_f32(f16::from_le_bytes(b).to_f32()).to_le_bytes());
            }
            (DType::BF16, DType::F16) => {
                panel_of(source, ks, columns, panel, |b| f16::from_f32(bf16::from_le_bytes(b).to_f32()).to_le_bytes());
            }
            (from, to) => unreachable!("weights are floats, not {from} to {to}"),
        }
    }
}

/// One panel, element by element through `convert`.
fn panel_of<const FROM: usize, const TO: usize>(
    source: &Strided<'_>,
    ks: &[usize],
    columns: &[usize],
    panel: &mut [u8],
    convert: impl Fn([u8; FROM]) -> [u8; TO],
) {
    // 4-byte elements lie one k at a time, 2-byte elements two: `PANEL` columns of 4 bytes either way.
    let together = 4 / TO;
    for (group, out) in ks.chunks(together).zip(panel.chunks_exact_mut(4 * PANEL)) {
        let mut slots = out.chunks_exact_mut(4);
        for column in columns {
            let slot = slots.next().expect("a panel has no more columns");
            slot.fill(0);
            for (k, to) in group.iter().zip(slot.chunks_exact_mut(TO)) {
                let at = (source.offset() + k + column) * FROM;
                let bytes = source.bytes()[at..at + FROM].try_into().expect("FROM bytes");
                to.copy_from_slice(&convert(bytes));
            }
        }
        slots.for_each(|slot| slot.fill(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloomery_ir::Tensor;
    use bloomery_ir::run_program::unpack;
    use bloomery_ir::tensor::{flat, indices};

    /// Packs a view of a stored tensor and reads it back through the layout.
    fn check(stored: DType, dtype: DType, shape: &[usize], strides: &[usize], offset: usize, layout: &Layout) {
        let elements =
            offset + shape.iter().zip(strides).map(|(extent, stride)| (extent - 1) * stride).sum::<usize>() + 1;
        let mut bytes = vec![0; stored.bytes(elements as u64) as usize];
        (0..elements).for_each(|i| write_element(stored, &mut bytes, i, (i % 251) as f64 - 100.0));
        let mut out = vec![0xAB; layout.bytes(shape, dtype) as usize];
        let source = Strided::new(&bytes, stored, shape.to_vec(), offset, strides.to_vec());
        pack(&source, dtype, layout, &mut out);
        let found: Tensor = unpack(layout, shape, dtype, &out);
        for index in indices(shape) {
            let position = offset + index.iter().zip(strides).map(|(i, stride)| i * stride).sum::<usize>();
            let expected = bloomery_ir::tensor::round(dtype, (position % 251) as f64 - 100.0);
            assert_eq!(found.data[flat(shape, &index)], expected, "{stored} to {dtype} at {index:?}");
        }
        let nonzero = found.data.iter().filter(|value| **value != 0.0).count();
        let stored_nonzero =
            (0..layout.elements(shape, dtype)).filter(|&i| read_element(dtype, &out, i) != 0.0).count();
        assert_eq!(nonzero, stored_nonzero, "padding is zero");
    }

    #[test]
    fn every_view_and_type_is_packed() {
        use DType::{BF16, F16, F32};
        for stored in [F32, F16, BF16] {
            for dtype in [F32, F16, BF16] {
                // A transposed matrix, an odd extent on both sides.
                check(stored, dtype, &[7, 37], &[1, 7], 0, &Layout::Panels { contracted: vec![0] });
                // The keys of a fused projection: [hidden, heads, head_dim] from [heads, 3, head_dim, hidden].
                check(stored, dtype, &[12, 3, 4], &[1, 144, 12], 48, &Layout::Panels { contracted: vec![0] });
                // A table used as the head: panels along its second dimension; enough columns for two threads.
                check(stored, dtype, &[300, 10], &[10, 1], 0, &Layout::Panels { contracted: vec![1] });
                check(stored, dtype, &[3, 4], &[5, 1], 2, &Layout::RowMajor);
            }
        }
    }
}
