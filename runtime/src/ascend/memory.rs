//! A rank's device memory: numbers where elements begin.

use bloomery_artifact::plan::{Arena, PlanPart};
use bloomery_ir::Bindings;
use bloomery_ir::ascend::{AclTensor, AclType, Sum};
use std::collections::BTreeMap;

/// See the module.
pub(super) struct Memory {
    arenas: BTreeMap<Arena, Vec<f64>>,
    /// Where each buffer begins, how far its layers are apart, and its bytes.
    buffers: Vec<(Arena, usize, usize, usize)>,
}

impl Memory {
    pub(super) fn new(part: &PlanPart) -> Memory {
        let used = part.arenas.iter().filter(|size| size.arena != Arena::Workspace);
        let arenas = used.map(|size| (size.arena, vec![f64::NAN; size.bytes as usize])).collect();
        let buffers = part.buffers.iter();
        let place = |b: &bloomery_artifact::plan::PlanBuffer| {
            (b.arena, b.offset as usize, b.pitch() as usize, b.bytes as usize)
        };
        Memory { arenas, buffers: buffers.map(place).collect() }
    }

    /// Elements of a layer of a buffer, one after another.
    pub(super) fn fill(&mut self, buffer: usize, layer: u64, values: &[f64]) {
        let (arena, offset, pitch, bytes) = self.buffers[buffer];
        let width = bytes.checked_div(values.len()).unwrap_or(0);
        assert_eq!(width * values.len(), bytes, "a buffer of {bytes} bytes and {} elements", values.len());
        let slots = self.arenas.get_mut(&arena).expect("arenas of buffers are there");
        let start = offset + pitch * layer as usize;
        values.iter().enumerate().for_each(|(i, value)| put(slots, start + i * width, width, *value));
    }

    /// Elements of a tensor in order of its dims.
    pub(super) fn read(&self, tensor: &AclTensor, numbers: &Bindings) -> Vec<f64> {
        let (arena, start, ..) = self.buffers[tensor.buffer];
        let (slots, width) = (&self.arenas[&arena], width(tensor.dtype));
        places(tensor, numbers).map(|place| whole(slots, start + place, width)).collect()
    }

    /// Elements into a tensor's places.
    pub(super) fn write(&mut self, tensor: &AclTensor, numbers: &Bindings, values: &[f64]) {
        let (arena, start, ..) = self.buffers[tensor.buffer];
        let slots = self.arenas.get_mut(&arena).expect("arenas of buffers are there");
        let width = width(tensor.dtype);
        let places = places(tensor, numbers);
        assert_eq!(places.len(), values.len(), "as many values as the tensor has places");
        places.zip(values).for_each(|(place, value)| put(slots, start + place, width, *value));
    }
}

fn width(dtype: AclType) -> usize {
    dtype.bytes() as usize
}

/// A number where an element begins, none inside of it.
fn put(slots: &mut [f64], at: usize, width: usize, value: f64) {
    slots[at] = value;
    slots[at + 1..at + width].fill(f64::NAN);
}

/// The number there, if the element that begins there is so long: where another begins inside of it there is none.
fn whole(slots: &[f64], at: usize, width: usize) -> f64 {
    if slots[at + 1..at + width].iter().all(|slot| slot.is_nan()) { slots[at] } else { f64::NAN }
}

/// Bytes from a buffer's start to each element, in order.
fn places(tensor: &AclTensor, numbers: &Bindings) -> impl ExactSizeIterator<Item = usize> + use<> {
    let eval = |sum: &Sum| sum.eval(numbers).expect("names have values") as usize;
    let (dims, strides): (Vec<usize>, Vec<usize>) =
        (tensor.dims.iter().map(eval).collect(), tensor.strides.iter().map(eval).collect());
    let (base, offset, width) = (eval(&tensor.base), eval(&tensor.offset), width(tensor.dtype));
    let place = move |mut i: usize| {
        let mut at = offset;
        for (dim, stride) in dims.iter().zip(&strides).rev() {
            at += i % dim * stride;
            i /= dim;
        }
        base + at * width
    };
    (0..eval(&tensor.elements())).map(place)
}
