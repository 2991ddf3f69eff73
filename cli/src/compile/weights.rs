//! Packing: each parameter from where it is kept into the layout its kernels read, a few megabytes at a time.
//!
//! Large parameters are cut along their outermost dimension that is not summed over, where the pieces of the packed
//! form follow one another; what is in memory at once is one piece, and for random weights the values it is made from.

use std::ops::Range;

use bloomery_artifact::{Slot, WeightSink, WeightTable};
use bloomery_codegen::pack::pack;
use bloomery_ir::layout::PANEL;
use bloomery_ir::program::{Parameter, Program};
use bloomery_ir::{Bindings, DType, Layout, Strided, Tensor, run_program};
use bloomery_models::load::read_parameter;
use bloomery_models::names;

use super::model::{Loaded, Weights};
use super::random;
use crate::{Error, Progress};

/// Packed bytes of a piece, about.
const PIECE: u64 = 16 << 20;

/// Writes every parameter of the program.
pub(super) fn write(
    sink: &mut WeightSink<'_>,
    plan: &WeightTable,
    program: &Program,
    loaded: &Loaded,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    for slot in plan.slots() {
        let parameter = &program.parameters[slot.parameter];
        sink.begin(slot.parameter, slot.layer)?;
        match &parameter.literal {
            Some(values) => sink.put(&literal(parameter, values))?,
            None => one(sink, parameter, &slot, loaded, progress)?,
        }
    }
    Ok(())
}

/// A constant's bytes.
fn literal(parameter: &Parameter, values: &[f64]) -> Vec<u8> {
    let shape = shape(parameter);
    let tensor = Tensor::new(parameter.ty.dtype, &shape, values.iter().copied());
    let mut bytes = vec![0; parameter.layout.bytes(&shape, parameter.ty.dtype) as usize];
    run_program::pack(&parameter.layout, &tensor, &mut bytes);
    bytes
}

/// The extents of a parameter, or of one of its layers.
fn shape(parameter: &Parameter) -> Vec<usize> {
    let ty = if parameter.stacked { parameter.ty.inner() } else { parameter.ty.clone() };
    ty.shape(&Bindings::new()).expect("the plan knew its size")
}

/// One parameter, or one layer of it.
fn one(
    sink: &mut WeightSink<'_>,
    parameter: &Parameter,
    slot: &Slot,
    loaded: &Loaded,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    let shape = shape(parameter);
    let cut = Cut::of(&parameter.layout, &shape, slot.bytes);
    let mut packed = Vec::new();
    for range in cut.ranges() {
        let mut stored = parameter.ty.dtype;
        values(loaded, parameter, slot.layer, &shape, cut.dim, range, |source| {
            stored = source.dtype();
            packed.resize(parameter.layout.bytes(source.shape(), parameter.ty.dtype) as usize, 0);
            pack(source, parameter.ty.dtype, &parameter.layout, &mut packed);
        });
        check_range(parameter, slot.layer, stored, &packed)?;
        progress.go_on()?;
        sink.put(&packed)?;
        progress.advance(packed.len() as u64);
    }
    if let Weights::Stored { checkpoint, resolved } = &loaded.weights {
        let source = names::source(&loaded.config, &parameter.name, parameter.stacked.then_some(slot.layer as usize));
        checkpoint.tensor(&resolved.stored_name(&source)).expect("`resolve` saw every tensor").done_with();
    }
    Ok(())
}

/// Refuses weights that grew infinite on their way to f16, whose largest number is 65504.
fn check_range(parameter: &Parameter, layer: u64, stored: DType, packed: &[u8]) -> Result<(), Error> {
    let narrowed = parameter.ty.dtype == DType::F16 && stored != DType::F16;
    let infinite = |pair: &[u8]| pair[1] & 0x7c == 0x7c;
    if !narrowed || !packed.chunks_exact(2).any(infinite) {
        return Ok(());
    }
    let of_layer = if parameter.stacked { format!(" of layer {layer}") } else { String::new() };
    Err(Error::Refused(format!(
        "{}{of_layer} is stored as {stored} and holds values beyond 65504, the largest of f16: use --dtype keep or bf16",
        parameter.name
    )))
}

/// Hands over a view of a range of a parameter's dimension `dim`.
fn values(
    loaded: &Loaded,
    parameter: &Parameter,
    layer: u64,
    shape: &[usize],
    dim: usize,
    range: Range<usize>,
    take: impl FnOnce(&Strided<'_>),
) {
    match &loaded.weights {
        Weights::Stored { checkpoint, resolved } => {
            let layer = parameter.stacked.then_some(layer as usize);
            let stored = |name: &str| {
                let tensor = checkpoint.tensor(name)?;
                Some((tensor.bytes, DType::by_name(tensor.dtype.name())?))
            };
            take(&read_parameter(&loaded.config, resolved, &parameter.name, layer, stored).range(dim, range));
        }
        Weights::Random(seed) => {
            let strides: Vec<usize> = (1..=shape.len()).map(|dim| shape[dim..].iter().product()).collect();
            // Pieces along the outermost dimension are made one by one, others from all values.
            let made =
                if dim == 0 { range.start * strides[0]..range.end * strides[0] } else { 0..shape.iter().product() };
            let mut bytes = vec![0; 2 * made.len()];
            random::fill(*seed, &parameter.name, layer, made.start as u64, &mut bytes);
            let mut part = shape.to_vec();
            part[dim] = range.len();
            let offset = if dim == 0 { 0 } else { range.start * strides[dim] };
            take(&Strided::new(&bytes, DType::F16, part, offset, strides));
        }
    }
}

/// How a parameter is cut: along which dimension, its extent, and the most of it in a piece.
#[derive(Debug, PartialEq)]
struct Cut {
    dim: usize,
    extent: usize,
    step: usize,
}

impl Cut {
    /// Pieces of the packed form follow one another when the outermost dimension of a row-major tensor is cut, or the
    /// only one that is not summed over, at whole panels.
    fn of(layout: &Layout, shape: &[usize], bytes: u64) -> Cut {
        let (dim, unit) = match layout {
            Layout::Panels { contracted } => {
                let mut others = (0..shape.len()).filter(|dim| !contracted.contains(dim));
                match (others.next(), others.next()) {
                    (Some(dim), None) => (dim, PANEL),
                    (first, _) => (first.unwrap_or(0), usize::MAX),
                }
            }
            _ => (0, 1),
        };
        let extent = shape[dim];
        let pieces = bytes.div_ceil(PIECE).max(1) as usize;
        let step = if unit == usize::MAX { extent } else { extent.div_ceil(pieces).next_multiple_of(unit) };
        Cut { dim, extent, step: step.max(1) }
    }

    fn ranges(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (extent, step) = (self.extent, self.step);
        (0..extent).step_by(step).map(move |start| start..(start + step).min(extent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_parameters_are_cut_at_panels() {
        let head = Layout::Panels { contracted: vec![1] };
        let cut = Cut::of(&head, &[1000, 64], 3 * PIECE);
        assert_eq!(cut, Cut { dim: 0, extent: 1000, step: 336 });
        assert_eq!(cut.ranges().collect::<Vec<_>>(), [0..336, 336..672, 672..1000]);
        let query = Layout::Panels { contracted: vec![0] };
        assert_eq!(Cut::of(&query, &[64, 4, 16], 3 * PIECE), Cut { dim: 1, extent: 4, step: 4 });
        assert_eq!(Cut::of(&Layout::RowMajor, &[10], 8), Cut { dim: 0, extent: 10, step: 10 });
    }

    #[test]
    fn what_f16_cannot_hold_is_refused() {
        let ty = bloomery_ir::TensorType::new(DType::F16, [2u64]);
        let parameter = Parameter { name: "a".into(), ty, stacked: false, layout: Layout::RowMajor, literal: None };
        let check = |stored, value: f32| {
            let packed = [half::f16::from_f32(value), half::f16::ONE].map(half::f16::to_le_bytes).concat();
            check_range(&parameter, 0, stored, &packed)
        };
        assert!(check(DType::F32, 65504.0).is_ok() && check(DType::F16, f32::INFINITY).is_ok());
        let message = check(DType::BF16, 70000.0).unwrap_err().to_string();
        assert!(message.starts_with("a is stored as bf16 and holds values beyond 65504"), "{message}");
    }

    #[test]
    fn pieces_packed_one_by_one_are_the_whole() {
        let (shape, strides) = ([100, 6], [6, 1]);
        let bytes: Vec<u8> = (0..1200).map(|i| (i * 7 % 256) as u8).collect();
        for layout in [Layout::RowMajor, Layout::Panels { contracted: vec![1] }] {
            let packed = |range: Range<usize>| {
                let part = [range.len(), shape[1]];
                let mut out = vec![0; layout.bytes(&part, DType::F16) as usize];
                let whole = Strided::new(&bytes, DType::F16, shape.to_vec(), 0, strides.to_vec());
                pack(&whole.range(0, range), DType::F16, &layout, &mut out);
                out
            };
            let cut = Cut::of(&layout, &shape, 3 * PIECE);
            assert!(cut.ranges().count() > 1);
            assert_eq!(cut.ranges().flat_map(packed).collect::<Vec<u8>>(), packed(0..100));
        }
    }
}
