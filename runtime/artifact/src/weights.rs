//! Where weights lie: one section, single ones first, then one record per layer.
//!
//! ```text
//! [single] [single] ..  [layer 0: a b c ..] [layer 1: a b c ..] ..
//! ```
//! Of a weight that ranks share, all pieces lie there, one after another; one that all ranks have lies there once.
//! Everything starts at a multiple of 64. Records of layers have one size, so a loop over layers walks forward through
//! the file. Hashes (XXH3-64) cover pieces of 1 MiB, so that a part can be checked before its first use.

use crate::sizes::{bytes_of, round_up};
use bloomery_ir::Program;
use bloomery_ir::program::{ALIGNMENT, Parameter};
use bloomery_ir::types::TensorType;
use serde::{Deserialize, Serialize};
use std::hash::Hasher as _;
use twox_hash::XxHash3_64;

/// Bytes under one hash.
pub const PIECE: u64 = 1 << 20;

/// Where every parameter lies in the section of weights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightTable {
    /// Bytes of the section.
    pub bytes: u64,
    /// One for each parameter of the program.
    pub placements: Vec<Placement>,
    /// XXH3-64 of each piece of [`PIECE`] bytes; empty in a plan.
    pub hashes: Vec<u64>,
}

/// Where one parameter lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Of the whole, or of layer 0, from the section's start.
    pub offset: u64,
    /// From one layer to the next; 0 when there are no layers.
    pub stride: u64,
    /// Of the whole, or of each layer.
    pub bytes: u64,
    /// How many layers; 1 when it is not stacked.
    pub layers: u64,
    /// How many pieces, of so many bytes each; 1 when ranks do not share it.
    pub parts: u64,
    /// From one piece to the next.
    pub part_stride: u64,
}

impl Placement {
    /// First byte of a piece of a layer, and the first byte after it.
    pub fn range(&self, layer: u64, part: u64) -> std::ops::Range<u64> {
        let start = self.offset + self.stride * layer + self.part_stride * part;
        start..start + self.bytes
    }

    /// Bytes of all pieces of all layers.
    pub fn all_bytes(&self) -> u64 {
        self.bytes * self.parts * self.layers
    }
}

/// One parameter, or one layer of it, or a rank's piece of either: what is written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Index of the parameter.
    pub parameter: usize,
    /// The layer, 0 when it is not stacked.
    pub layer: u64,
    /// The piece of it, 0 when ranks do not share it.
    pub part: u64,
    /// First byte in the section.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Why weights have no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parameter %{name}: {ty} in its layout has no size in bytes (unbound names, or too large)")]
pub struct PlanError {
    /// The parameter.
    pub name: String,
    /// Its type.
    pub ty: String,
}

/// Plans the section for a program's parameters.
///
/// # Errors
/// A parameter whose size is not a number.
pub fn plan_weights(program: &Program) -> Result<WeightTable, PlanError> {
    let mut placements = vec![Placement::default(); program.parameters.len()];
    let mut end = 0;
    for (i, parameter) in program.parameters.iter().enumerate().filter(|(_, parameter)| !parameter.stacked) {
        placements[i] = placed(program, parameter, end, 1)?;
        end = after(parameter, &placements[i])?;
    }
    for layers in layer_counts(program) {
        end = plan_layers(program, layers, end, &mut placements)?;
    }
    Ok(WeightTable { bytes: end, placements, hashes: Vec::new() })
}

/// Records of all parameters that have so many layers; returns where they end.
fn plan_layers(program: &Program, layers: u64, start: u64, placements: &mut [Placement]) -> Result<u64, PlanError> {
    let group = || program.parameters.iter().enumerate().filter(move |(_, p)| layers_of(p) == Some(layers));
    let mut record = 0;
    for (i, parameter) in group() {
        placements[i] = Placement { stride: 0, ..placed(program, parameter, start + record, layers)? };
        record = after(parameter, &placements[i])? - start;
    }
    let mut end = start;
    for (i, parameter) in group() {
        placements[i].stride = record;
        let whole = record.checked_mul(layers).and_then(|bytes| bytes.checked_add(start));
        end = whole.ok_or_else(|| no_size(parameter))?;
    }
    Ok(end)
}

/// Counts of layers that occur, in order of first occurrence.
fn layer_counts(program: &Program) -> Vec<u64> {
    let mut counts = Vec::new();
    for count in program.parameters.iter().filter_map(layers_of) {
        if !counts.contains(&count) {
            counts.push(count);
        }
    }
    counts
}

/// How many layers a stacked parameter has.
pub(crate) fn layers_of(parameter: &Parameter) -> Option<u64> {
    let first = parameter.ty.dims.first().filter(|_| parameter.stacked)?;
    first.extent.as_number()
}

/// Bytes of a parameter, or of one of its layers.
pub(crate) fn size(parameter: &Parameter) -> Result<u64, PlanError> {
    let ty = if parameter.stacked { layer_type(&parameter.ty) } else { Some(parameter.ty.clone()) };
    let layered = !parameter.stacked || layers_of(parameter).is_some();
    let bytes = ty.filter(|_| layered).and_then(|ty| bytes_of(&ty, &parameter.layout, &Default::default()));
    bytes.ok_or_else(|| no_size(parameter))
}

/// The type without its first dimension, if it has one.
pub(crate) fn layer_type(ty: &TensorType) -> Option<TensorType> {
    (!ty.dims.is_empty()).then(|| ty.inner())
}

/// A parameter's first layer at this offset.
fn placed(program: &Program, parameter: &Parameter, offset: u64, layers: u64) -> Result<Placement, PlanError> {
    let bytes = size(parameter)?;
    let part_stride = round_up(bytes, ALIGNMENT).ok_or_else(|| no_size(parameter))?;
    Ok(Placement { offset, stride: 0, bytes, layers, parts: parameter.parts(&program.mesh), part_stride })
}

/// Where what follows a parameter's first layer begins.
fn after(parameter: &Parameter, placement: &Placement) -> Result<u64, PlanError> {
    let parts = placement.part_stride.checked_mul(placement.parts);
    let end = parts.and_then(|bytes| bytes.checked_add(placement.offset));
    end.filter(|end| *end < 1 << 60).ok_or_else(|| no_size(parameter))
}

fn no_size(parameter: &Parameter) -> PlanError {
    PlanError { name: parameter.name.clone(), ty: parameter.ty.to_string() }
}

impl WeightTable {
    /// Everything to be written, in order of the section.
    pub fn slots(&self) -> Vec<Slot> {
        let slot = |parameter: usize, layer: u64, part: u64| {
            let range = self.placements[parameter].range(layer, part);
            Slot { parameter, layer, part, offset: range.start, bytes: range.end - range.start }
        };
        let parts = |i: usize, layer: u64| (0..self.placements[i].parts).map(move |part| slot(i, layer, part));
        let layers = |i: usize| (0..self.placements[i].layers).flat_map(move |layer| parts(i, layer));
        let mut slots: Vec<Slot> = (0..self.placements.len()).flat_map(layers).collect();
        slots.sort_by_key(|slot| (slot.offset, slot.parameter));
        slots
    }

    /// How many pieces the section has.
    pub fn pieces(&self) -> usize {
        self.bytes.div_ceil(PIECE) as usize
    }

    /// Whether a piece of the section's bytes is what was written.
    pub fn piece_is_whole(&self, piece: usize, weights: &[u8]) -> bool {
        let start = piece * PIECE as usize;
        let end = weights.len().min(start + PIECE as usize);
        weights.get(start..end).is_some_and(|bytes| self.hashes.get(piece) == Some(&XxHash3_64::oneshot(bytes)))
    }
}

/// Hashes pieces of what goes by.
#[derive(Default)]
pub(crate) struct PieceHasher {
    hasher: XxHash3_64,
    filled: u64,
    hashes: Vec<u64>,
}

impl PieceHasher {
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min((PIECE - self.filled) as usize));
            self.hasher.write(now);
            self.filled += now.len() as u64;
            if self.filled == PIECE {
                self.end_piece();
            }
            bytes = later;
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u64> {
        if self.filled > 0 {
            self.end_piece();
        }
        self.hashes
    }

    fn end_piece(&mut self) {
        self.hashes.push(std::mem::take(&mut self.hasher).finish());
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloomery_ir::program::Origin;
    use bloomery_ir::{DType, Layout};

    fn parameter(name: &str, ty: TensorType, stacked: bool) -> Parameter {
        Parameter { name: name.into(), ty, stacked, layout: Layout::RowMajor, origin: Origin::Checkpoint, cuts: vec![] }
    }

    #[test]
    fn layers_walk_forward() {
        let mut program = crate::check::tests::empty_program();
        program.parameters = vec![
            parameter("a", TensorType::new(DType::F32, [3u64, 5]), true),
            parameter("b", TensorType::new(DType::F16, [7u64]), false),
            parameter("c", TensorType::new(DType::F32, [3u64, 20]), true),
        ];
        let table = plan_weights(&program).unwrap();
        let order: Vec<_> = table.slots().iter().map(|slot| (slot.parameter, slot.layer, slot.offset)).collect();
        let expect = [(1, 0, 0), (0, 0, 64), (2, 0, 128), (0, 1, 256), (2, 1, 320), (0, 2, 448), (2, 2, 512)];
        assert_eq!(order, expect);
        assert_eq!(table.bytes, 640);
    }

    #[test]
    fn pieces_that_ranks_have_follow_one_another() {
        let mut program = crate::check::tests::empty_program();
        program.mesh.axes = vec![("mp".to_owned(), 2)];
        let cut = |parameter: Parameter, dim| Parameter { cuts: vec![(dim, "mp".to_owned())], ..parameter };
        program.parameters = vec![
            cut(parameter("a", TensorType::new(DType::F32, [2u64, 5]), true), 1),
            parameter("b", TensorType::new(DType::F32, [2u64, 3]), true),
            cut(parameter("c", TensorType::new(DType::F32, [20u64]), false), 0),
        ];
        let table = plan_weights(&program).unwrap();
        let slots = table.slots().into_iter();
        let order: Vec<_> = slots.map(|slot| (slot.parameter, slot.layer, slot.part, slot.offset)).collect();
        let single = [(2, 0, 0, 0), (2, 0, 1, 128)];
        let layers = [(0, 0, 0, 256), (0, 0, 1, 320), (1, 0, 0, 384), (0, 1, 0, 448), (0, 1, 1, 512), (1, 1, 0, 576)];
        assert_eq!(order, [&single[..], &layers].concat());
        assert_eq!(table.bytes, 640);
    }

    #[test]
    fn pieces_hash_as_the_whole_does() {
        let bytes: Vec<u8> = (0..3 * PIECE / 2).map(|i| (i * 7 % 251) as u8).collect();
        let mut hasher = PieceHasher::default();
        bytes.chunks(1000).for_each(|chunk| hasher.update(chunk));
        let expect: Vec<u64> = bytes.chunks(PIECE as usize).map(XxHash3_64::oneshot).collect();
        assert_eq!(hasher.finish(), expect);
    }
}
