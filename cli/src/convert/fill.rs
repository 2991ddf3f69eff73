//! The bytes of a new tensor, made of those of old ones a few megabytes at a time, in another type where that is asked for.

use std::ops::Range;

use bloomery_formats::Dtype;
use bloomery_models::names::mindspore::How;
use half::{bf16, f16};
use serde::Serialize;

use super::Tensor;
use crate::Error;
use crate::stored::{Item, STRIDE, StoredTensors};

/// Numbers that the type they were to have cannot hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Finite numbers that became infinite.
    pub overflowed: u64,
    /// Numbers that became zero and were none.
    pub flushed: u64,
}

/// Takes the bytes that come next.
pub(super) type Out<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + 'a;

/// Makes a tensor and hands its bytes on in order.
pub(super) fn fill(stored: &StoredTensors, tensor: &Tensor, lost: &mut Lost, out: &mut Out<'_>) -> Result<(), Error> {
    let mut making = Making { stored, to: tensor.dtype, made: Vec::new(), lost, out };
    match tensor.how {
        How::Same => making.part(&tensor.from[0], 0..elements(&tensor.from[0]))?,
        How::Transposed => making.transposed(&tensor.from[0], &tensor.shape)?,
        How::Third { third, block } => {
            for first in (third * block..elements(&tensor.from[0])).step_by(3 * block) {
                making.part(&tensor.from[0], first..first + block)?;
            }
        }
        How::Fused { block } => {
            for first in (0..elements(&tensor.from[0])).step_by(block) {
                for third in &tensor.from {
                    making.part(third, first..first + block)?;
                }
            }
        }
    }
    making.flush()
}

/// Numbers of a tensor.
fn elements(item: &Item) -> usize {
    item.shape.iter().product()
}

fn size(dtype: Dtype) -> usize {
    dtype.bits() / 8
}

/// A tensor under way.
struct Making<'a, 'b> {
    stored: &'a StoredTensors,
    to: Dtype,
    /// What was made and not handed on: small blocks together are fewer calls.
    made: Vec<u8>,
    lost: &'a mut Lost,
    out: &'a mut Out<'b>,
}

impl Making<'_, '_> {
    /// Takes on elements `range` of an old tensor.
    fn part(&mut self, item: &Item, range: Range<usize>) -> Result<(), Error> {
        let from = item.dtype.expect("weights have types");
        let at_once = STRIDE / size(from);
        for start in range.clone().step_by(at_once) {
            let bytes = start * size(from)..(start + at_once).min(range.end) * size(from);
            let read = self.stored.read(&item.name, bytes.clone())?;
            if from == self.to && self.made.is_empty() && read.len() >= STRIDE / 4 {
                (self.out)(&read)?;
            } else {
                convert(from, self.to, &read, &mut self.made, self.lost);
            }
            drop(read);
            self.stored.done_with(&item.name, bytes);
            if self.made.len() >= STRIDE {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Takes on all of an old tensor, whose columns are the rows of the new `shape`; some rows at a time.
    fn transposed(&mut self, item: &Item, shape: &[usize]) -> Result<(), Error> {
        let &[rows, columns] = shape else { unreachable!("only matrices are transposed") };
        let from = item.dtype.expect("weights have types");
        let whole = self.stored.read(&item.name, 0..item.bytes)?;
        let at_once = (STRIDE / (columns * size(from))).max(1);
        let mut band = Vec::new();
        for first in (0..rows).step_by(at_once) {
            let band_rows = at_once.min(rows - first);
            band.resize(band_rows * columns * size(from), 0);
            match size(from) {
                2 => transpose::<2>(&whole, rows, first, &mut band, columns),
                4 => transpose::<4>(&whole, rows, first, &mut band, columns),
                other => unreachable!("weights are of two or four bytes, not {other}"),
            }
            if from == self.to {
                (self.out)(&band)?;
            } else {
                convert(from, self.to, &band, &mut self.made, self.lost);
                self.flush()?;
            }
        }
        drop(whole);
        self.stored.done_with(&item.name, 0..item.bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if !self.made.is_empty() {
            (self.out)(&self.made)?;
            self.made.clear();
        }
        Ok(())
    }
}

/// Elements of a square that is transposed at once: its rows and its columns both stay in the nearest cache.
const TILE: usize = 32;

/// Columns `first..` of `whole`, whose rows have so many elements, as the rows of `band`; in squares, since columns are far
/// apart in memory. A square is read along its rows and written along its columns.
fn transpose<const SIZE: usize>(whole: &[u8], row: usize, first: usize, band: &mut [u8], columns: usize) {
    let rows = band.len() / SIZE / columns;
    let mut tile = [[0; SIZE]; TILE * TILE];
    for column in (0..columns).step_by(TILE) {
        let width = TILE.min(columns - column);
        for band_row in (0..rows).step_by(TILE) {
            let height = TILE.min(rows - band_row);
            for c in 0..width {
                let from = (column + c) * row + first + band_row;
                let elements = whole[from * SIZE..][..height * SIZE].chunks_exact(SIZE);
                for (r, element) in elements.enumerate() {
                    tile[r * TILE + c].copy_from_slice(element);
                }
            }
            for (r, elements) in tile.chunks_exact(TILE).enumerate().take(height) {
                let to = (band_row + r) * columns + column;
                let out = band[to * SIZE..][..width * SIZE].chunks_exact_mut(SIZE);
                out.zip(elements).for_each(|(out, element)| out.copy_from_slice(element));
            }
        }
    }
}

/// Appends numbers in another type, and counts those that it cannot hold.
fn convert(from: Dtype, to: Dtype, bytes: &[u8], made: &mut Vec<u8>, lost: &mut Lost) {
    if from == to {
        made.extend_from_slice(bytes);
        return;
    }
    made.reserve(bytes.len() / size(from) * size(to));
    match from {
        Dtype::F32 => {
            narrow(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))), to, made, lost)
        }
        Dtype::F16 => narrow(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()), to, made, lost),
        Dtype::Bf16 => {
            narrow(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()), to, made, lost)
        }
        other => unreachable!("{other} is no type of weights"),
    }
}

fn narrow(values: impl Iterator<Item = f32>, to: Dtype, made: &mut Vec<u8>, lost: &mut Lost) {
    let mut count = |value: f32, became: f32| {
        lost.overflowed += u64::from(value.is_finite() && became.is_infinite());
        lost.flushed += u64::from(value != 0.0 && became == 0.0);
    };
    match to {
        Dtype::F32 => values.for_each(|value| made.extend_from_slice(&value.to_le_bytes())),
        Dtype::F16 => values.for_each(|value| {
            let became = f16::from_f32(value);
            count(value, became.to_f32());
            made.extend_from_slice(&became.to_le_bytes());
        }),
        Dtype::Bf16 => values.for_each(|value| {
            let became = bf16::from_f32(value);
            count(value, became.to_f32());
            made.extend_from_slice(&became.to_le_bytes());
        }),
        other => unreachable!("{other} is no type of weights"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_type_cannot_hold_are_counted() {
        let values = [1.5f32, -1e6, 1e-9, 0.0, -0.0, f32::INFINITY, f32::NAN, 65504.0, 1e-40];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let check = |to: Dtype, expect: Lost| {
            let (mut made, mut lost) = (Vec::new(), Lost::default());
            convert(Dtype::F32, to, &bytes, &mut made, &mut lost);
            assert_eq!((made.len(), lost), (values.len() * size(to), expect), "{to}");
        };
        check(Dtype::F16, Lost { overflowed: 1, flushed: 2 });
        check(Dtype::Bf16, Lost { overflowed: 0, flushed: 0 });
        check(Dtype::F32, Lost::default());
        let largest = f32::MAX.to_le_bytes();
        let (mut made, mut lost) = (Vec::new(), Lost::default());
        convert(Dtype::F32, Dtype::Bf16, &largest, &mut made, &mut lost);
        assert_eq!(lost, Lost { overflowed: 1, flushed: 0 });
    }

    #[test]
    fn matrices_are_transposed_in_bands_of_any_height() {
        for (rows, columns) in [(1, 1), (3, 100), (70, 33), (100, 3)] {
            let whole: Vec<u8> = (0..rows * columns).flat_map(|i| (i as u16).to_le_bytes()).collect();
            for at_once in [1, 7, 64, 200] {
                let mut made = Vec::new();
                for first in (0..rows).step_by(at_once) {
                    let mut band = vec![0; at_once.min(rows - first) * columns * 2];
                    transpose::<2>(&whole, rows, first, &mut band, columns);
                    made.extend(band);
                }
                let expect: Vec<u8> = (0..rows * columns)
                    .flat_map(|i| ((i % columns * rows + i / columns) as u16).to_le_bytes())
                    .collect();
                assert_eq!(made, expect, "{rows} x {columns} by {at_once}");
            }
        }
    }
}
