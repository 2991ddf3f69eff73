//! The bytes of a new tensor, made of those of old ones a few megabytes at a time, in another type where that is asked for.
//! Such a [`Piece`] is made on any thread, as most of the time goes into transposing and into writing, and both go side by side.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

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

impl Lost {
    /// These and more.
    pub(super) fn add(&mut self, more: Lost) {
        self.overflowed += more.overflowed;
        self.flushed += more.flushed;
    }
}

/// A part of a new tensor, which any thread may make.
pub(super) struct Piece<'a> {
    pub(super) tensor: &'a Tensor,
    stored: &'a StoredTensors,
    /// Its numbers, by their places in the new tensor.
    range: Range<usize>,
    whole: Whole<'a>,
}

/// What is transposed, read once for all pieces: where it is encrypted or lies in parts itself, that takes long.
type Whole<'a> = Arc<Mutex<Option<Arc<Cow<'a, [u8]>>>>>;

/// The pieces of a tensor in order, and the bytes of each.
pub(super) fn pieces<'a>(
    stored: &'a StoredTensors,
    tensor: &'a Tensor,
) -> impl Iterator<Item = (Piece<'a>, u64)> + use<'a> {
    pieces_of(stored, tensor, STRIDE)
}

/// The same, of about so many bytes each.
fn pieces_of<'a>(
    stored: &'a StoredTensors,
    tensor: &'a Tensor,
    bytes: usize,
) -> impl Iterator<Item = (Piece<'a>, u64)> + use<'a> {
    let (whole, unit) = (Whole::default(), unit(tensor));
    let elements = tensor.shape.iter().product::<usize>();
    let at_once = (bytes / size(tensor.dtype) / unit).max(1) * unit;
    (0..elements).step_by(at_once).map(move |start| {
        let range = start..(start + at_once).min(elements);
        let bytes = (range.len() * size(tensor.dtype)) as u64;
        (Piece { tensor, stored, range, whole: Arc::clone(&whole) }, bytes)
    })
}

/// How many numbers of a new tensor are only made together: rows, blocks.
fn unit(tensor: &Tensor) -> usize {
    match tensor.how {
        How::Same => 1,
        How::Transposed => tensor.shape[1],
        How::Third { block, .. } | How::Fused { block } => block,
    }
}

fn size(dtype: Dtype) -> usize {
    dtype.bits() / 8
}

fn type_of(item: &Item) -> Dtype {
    item.dtype.expect("weights have types")
}

impl<'a> Piece<'a> {
    /// Whether no piece of the tensor comes before it.
    pub(super) fn is_first(&self) -> bool {
        self.range.start == 0
    }

    /// Its bytes: the old ones where they are the same, so that they are not copied.
    pub(super) fn bytes(&self, lost: &mut Lost) -> Result<Cow<'a, [u8]>, Error> {
        let to = self.tensor.dtype;
        let first = type_of(&self.tensor.from[0]);
        match self.tensor.how {
            How::Transposed if first == to => return Ok(Cow::Owned(self.transposed()?)),
            How::Same if first == to => return self.old(0, self.range.clone()),
            _ => {}
        }
        let mut made = Vec::with_capacity(self.range.len() * size(to));
        if let How::Transposed = self.tensor.how {
            convert(first, to, &self.transposed()?, &mut made, lost);
        }
        for (which, range) in self.runs() {
            convert(type_of(&self.tensor.from[which]), to, &self.old(which, range)?, &mut made, lost);
        }
        Ok(Cow::Owned(made))
    }

    /// Which numbers of which old tensors follow one another in it, where it is no transpose.
    fn runs(&self) -> Vec<(usize, Range<usize>)> {
        let blocks = |block: usize| self.range.clone().step_by(block).map(move |start| start / block);
        let run = |place: usize, block: usize| place * block..(place + 1) * block;
        match self.tensor.how {
            How::Same => vec![(0, self.range.clone())],
            How::Transposed => Vec::new(),
            How::Third { third, block } => blocks(block).map(|at| (0, run(3 * at + third, block))).collect(),
            How::Fused { block } => blocks(block).map(|at| (at % 3, run(at / 3, block))).collect(),
        }
    }

    /// Numbers of an old tensor.
    fn old(&self, which: usize, range: Range<usize>) -> Result<Cow<'a, [u8]>, Error> {
        let item = &self.tensor.from[which];
        self.stored.read(&item.name, in_bytes(item, range))
    }

    /// Rows of the new tensor, which are columns of the old one; in the old one's type.
    fn transposed(&self) -> Result<Vec<u8>, Error> {
        let &[rows, columns] = &self.tensor.shape[..] else { unreachable!("only matrices are transposed") };
        let from = size(type_of(&self.tensor.from[0]));
        let whole = self.whole()?;
        let mut band = vec![0; self.range.len() * from];
        match from {
            2 => transpose::<2>(&whole, rows, self.range.start / columns, &mut band, columns),
            4 => transpose::<4>(&whole, rows, self.range.start / columns, &mut band, columns),
            other => unreachable!("weights are of two or four bytes, not {other}"),
        }
        Ok(band)
    }

    fn whole(&self) -> Result<Arc<Cow<'a, [u8]>>, Error> {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if whole.is_none() {
            let item = &self.tensor.from[0];
            *whole = Some(Arc::new(self.stored.read(&item.name, 0..item.bytes)?));
        }
        Ok(Arc::clone(whole.as_ref().expect("it was just read")))
    }

    /// Lets go of what it was made of, once its bytes are written: also of what lies between, as the kernel maps up to 2 MB
    /// around a byte that is read; and with the last piece of all. What is still to come is only mapped again.
    pub(super) fn done(self) {
        let Tensor { shape, from, .. } = self.tensor;
        if self.range.end == shape.iter().product::<usize>() {
            return from.iter().for_each(|item| self.stored.done_with_all(&item.name));
        }
        let mut read: BTreeMap<usize, Range<usize>> = BTreeMap::new();
        for (which, range) in self.runs() {
            let from_first = read.entry(which).or_insert(range.clone());
            from_first.end = range.end;
        }
        for (which, range) in read {
            self.stored.done_with(&from[which].name, in_bytes(&from[which], range));
        }
    }
}

/// Where numbers of a tensor are in it.
fn in_bytes(item: &Item, range: Range<usize>) -> Range<usize> {
    let size = size(type_of(item));
    range.start * size..range.end * size
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
    use bloomery_formats::mindspore::MindsporeWriter;
    use bloomery_models::names::Names;

    use super::*;
    use crate::Quiet;
    use crate::stored::Told;

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

    /// Three thirds of two heads, each of two rows of four, and one that they are fused into.
    #[test]
    fn tensors_are_the_same_in_pieces_of_any_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thirds.ckpt");
        let mut writer = MindsporeWriter::begin(&path).unwrap();
        let half = |number: usize| f16::from_f32(number as f32).to_le_bytes();
        for (name, first, rows) in [("q", 0, 4), ("k", 100, 4), ("v", 200, 4), ("qkv", 0, 12)] {
            writer.tensor(name, Dtype::F16, &[rows, 4]).unwrap();
            writer.write(&(first..first + rows * 4).flat_map(half).collect::<Vec<_>>()).unwrap();
        }
        writer.complete().unwrap();
        let stored = StoredTensors::open(&path, Told::default(), Names::MindSpore, &mut Quiet).unwrap();
        let check = |how: How, from: &[&str], shape: [usize; 2], expect: &[usize]| {
            let items = stored.items();
            let from = from.iter().map(|name| items.iter().find(|item| item.name == *name).unwrap().clone()).collect();
            let mut tensor = Tensor { name: "new".to_owned(), dtype: Dtype::F16, shape: shape.to_vec(), how, from };
            for (dtype, bytes) in
                [Dtype::F16, Dtype::F32].into_iter().flat_map(|d| [1, 24, 40, 100, STRIDE].map(|b| (d, b)))
            {
                tensor.dtype = dtype;
                let mut made = Vec::new();
                for (number, (piece, length)) in pieces_of(&stored, &tensor, bytes).enumerate() {
                    let part = piece.bytes(&mut Lost::default()).unwrap();
                    assert_eq!((piece.is_first(), part.len() as u64), (number == 0, length));
                    made.extend_from_slice(&part);
                    piece.done();
                }
                let expect = expect.iter().flat_map(|number| match dtype {
                    Dtype::F16 => half(*number).to_vec(),
                    _ => (*number as f32).to_le_bytes().to_vec(),
                });
                assert_eq!(made, expect.collect::<Vec<u8>>(), "{how:?} as {dtype} by {bytes}");
            }
        };
        let rows = |starts: &[usize]| starts.iter().flat_map(|start| *start..start + 8).collect::<Vec<_>>();
        check(How::Same, &["k"], [4, 4], &rows(&[100, 108]));
        check(How::Fused { block: 8 }, &["q", "k", "v"], [12, 4], &rows(&[0, 100, 200, 8, 108, 208]));
        check(How::Third { third: 1, block: 8 }, &["qkv"], [4, 4], &rows(&[8, 32]));
        let columns: Vec<usize> = (0..4).flat_map(|column| (0..12).map(move |row| row * 4 + column)).collect();
        check(How::Transposed, &["qkv"], [4, 12], &columns);
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
