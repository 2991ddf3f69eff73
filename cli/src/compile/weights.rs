//! Packing: each parameter from where it is kept into the layout its kernels read, a few megabytes at a time.
//!
//! Large parameters are cut along their outermost dimension that is not summed over, where the pieces of the packed
//! form follow one another; what is in memory at once is a piece for each thread ([`in_order`]), and for random weights
//! the values they are made from.
//! A parameter that a weight graph makes is cut in the same way: each piece is made of pieces of the checkpoint's
//! weights, and what that graph only moves is packed from where it is stored.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bloomery_artifact::{Slot, WeightSink, WeightTable};
use bloomery_codegen::pack::pack;
use bloomery_ir::layout::PANEL;
use bloomery_ir::op::elements;
use bloomery_ir::pieces::{self, Cut, Pieces};
use bloomery_ir::program::{Origin, Parameter, Program};
use bloomery_ir::{Bindings, DType, Graph, Layout, Mesh, Tensor, run_program};

use super::in_order::in_order;
use super::narrowed::{Beyond, Narrowed};
use super::values::Values;
use crate::{Error, Progress};

/// Packed bytes of a piece, about.
const PIECE: u64 = 16 << 20;

/// Writes every parameter of the program.
pub(super) fn write(
    sink: &mut WeightSink<'_>,
    plan: &WeightTable,
    program: &Program,
    values: &Values<'_>,
    beyond: Beyond,
    progress: &mut dyn Progress,
) -> Result<Narrowed, Error> {
    let mut narrowed = Narrowed::default();
    let of_slot = |slot: Slot| pieces_of(&program.parameters[slot.parameter], &program.mesh, slot, values);
    let pieces = plan.slots().into_iter().flat_map(of_slot);
    in_order(
        pieces,
        |piece: Piece<'_>| piece.made(beyond),
        |(piece, packed)| {
            if piece.first {
                sink.begin(piece.of.slot)?;
            }
            let (packed, lost) = packed?;
            narrowed.add(lost);
            progress.go_on()?;
            sink.put(&packed)?;
            progress.advance(packed.len() as u64);
            if piece.last {
                piece.of.done();
            }
            Ok(())
        },
    )
    .map(|()| narrowed)
}

/// A parameter, or one layer of it, or a rank's part of either, that is being made.
struct Making<'a> {
    parameter: &'a Parameter,
    slot: Slot,
    /// What the part is of the whole, by dimension; nothing where it is all.
    part: BTreeMap<usize, Range<usize>>,
    values: &'a Values<'a>,
    /// The checkpoint's weights it is made of.
    sources: Vec<&'a str>,
    /// What a weight graph makes of them.
    computed: Option<Pieces<'a, 'a>>,
}

/// A piece of one.
struct Piece<'a> {
    of: Arc<Making<'a>>,
    /// None for all of it.
    cut: Option<Cut>,
    first: bool,
    last: bool,
}

/// The pieces that follow one another in a slot, and the bytes that making each takes.
fn pieces_of<'a>(
    parameter: &'a Parameter,
    mesh: &Mesh,
    slot: Slot,
    values: &'a Values<'a>,
) -> impl Iterator<Item = (Piece<'a>, u64)> + use<'a> {
    let shape = shape(parameter);
    let made_by = if let Origin::Computed(graph) = &parameter.origin { Some(&**graph) } else { None };
    let cuts: Vec<Option<Cut>> = match &parameter.origin {
        Origin::Literal(_) => vec![None],
        _ => Steps::of(&parameter.layout, &shape, slot.bytes, made_by).cuts().map(Some).collect(),
    };
    let computed = made_by.is_some_and(|graph| !pieces::only_moves(graph));
    let of = Arc::new(Making::new(parameter, mesh, slot, values));
    let count = cuts.len();
    cuts.into_iter().enumerate().map(move |(i, cut)| {
        let mut shape = shape.clone();
        cut.iter().for_each(|cut| shape[cut.dim] = cut.range.len());
        let elements = shape.iter().product::<usize>() as u64;
        let bytes = parameter.ty.dtype.bytes(elements) + if computed { COMPUTED * elements } else { 0 };
        (Piece { of: Arc::clone(&of), cut, first: i == 0, last: i + 1 == count }, bytes)
    })
}

/// Bytes that computing an element takes: operands and results in f64.
const COMPUTED: u64 = 4 * 8;

/// A constant's bytes.
fn literal(parameter: &Parameter, values: &[f64]) -> Vec<u8> {
    let shape = shape(parameter);
    let tensor = Tensor::new(parameter.ty.dtype, &shape, values.iter().copied());
    let mut bytes = vec![0; parameter.layout.bytes(&shape, parameter.ty.dtype) as usize];
    run_program::pack(&parameter.layout, &tensor, &mut bytes);
    bytes
}

/// The extents of a parameter, or of one of its layers.
pub(crate) fn shape(parameter: &Parameter) -> Vec<usize> {
    let ty = if parameter.stacked { parameter.ty.inner() } else { parameter.ty.clone() };
    ty.shape(&Bindings::new()).expect("the plan knew its size")
}

impl<'a> Making<'a> {
    fn new(parameter: &'a Parameter, mesh: &Mesh, slot: Slot, values: &'a Values<'a>) -> Making<'a> {
        let part = parameter.layer_ranges(mesh, slot.part);
        let sources: Vec<&str> = match &parameter.origin {
            Origin::Literal(_) => vec![],
            Origin::Checkpoint => vec![&parameter.name],
            Origin::Computed(graph) => graph.inputs.iter().map(|input| &*input.name).collect(),
        };
        let computed = if let Origin::Computed(graph) = &parameter.origin {
            let (sources, layer) = (sources.clone(), parameter.stacked.then_some(slot.layer));
            Some(Pieces::new(graph, move |i, cut| values.part(sources[i], layer, cut)))
        } else {
            None
        };
        Making { parameter, slot, part, values, sources, computed }
    }

    /// A piece of the part, as a piece of the whole.
    fn in_whole(&self, cut: &Cut) -> Cut {
        let first = self.part.get(&cut.dim).map_or(0, |range| range.start);
        Cut { dim: cut.dim, range: first + cut.range.start..first + cut.range.end }
    }

    fn layer(&self) -> Option<u64> {
        self.parameter.stacked.then_some(self.slot.layer)
    }

    /// The type that its values come in: one that is not its own, if there is one.
    fn stored(&self) -> DType {
        let own = self.parameter.ty.dtype;
        self.sources.iter().map(|name| self.values.dtype(name)).find(|stored| *stored != own).unwrap_or(own)
    }

    /// Lets go of what it was made of.
    fn done(&self) {
        self.sources.iter().for_each(|name| self.values.done_with(name, self.layer()));
    }
}

impl Piece<'_> {
    /// Its packed bytes, which threads make in any order.
    fn made(self, beyond: Beyond) -> (Self, Result<(Vec<u8>, Narrowed), Error>) {
        let packed = self.packed(beyond);
        (self, packed)
    }

    fn packed(&self, beyond: Beyond) -> Result<(Vec<u8>, Narrowed), Error> {
        let Making { parameter, slot, part, values, sources, computed } = &*self.of;
        let dtype = parameter.ty.dtype;
        let cut = self.cut.as_ref().map(|cut| self.of.in_whole(cut));
        let mut source = match (&parameter.origin, computed) {
            (Origin::Literal(literals), _) => return Ok((literal(parameter, literals), Narrowed::default())),
            (_, Some(computed)) => computed.piece(cut),
            (_, None) => values.part(sources[0], self.of.layer(), cut),
        };
        for (dim, range) in part.iter().filter(|(dim, _)| self.cut.as_ref().is_none_or(|cut| cut.dim != **dim)) {
            source = source.range(*dim, range.clone());
        }
        let mut packed = vec![0; parameter.layout.bytes(source.shape(), dtype) as usize];
        pack(&source, dtype, &parameter.layout, &mut packed);
        values.sound()?;
        let narrowed = Narrowed::of(parameter, slot.layer, &source, self.of.stored(), beyond, &mut packed)?;
        Ok((packed, narrowed))
    }
}

/// How a parameter is cut: along which dimension, its extent, and the most of it in a piece.
#[derive(Debug, PartialEq)]
struct Steps {
    dim: usize,
    extent: usize,
    step: usize,
}

impl Steps {
    /// Pieces of the packed form follow one another when the outermost dimension of a row-major tensor is cut, or the
    /// outermost that is not summed over, at whole panels. What a weight graph moves is cut as finely as that goes, so
    /// that each piece comes from one place; what it computes, by what it has in hand at once.
    fn of(layout: &Layout, shape: &[usize], bytes: u64, made_by: Option<&Graph>) -> Steps {
        let (dim, unit) = match layout {
            Layout::Panels { contracted } => {
                let mut others = (0..shape.len()).filter(|dim| !contracted.contains(dim));
                let dim = others.next().unwrap_or(0);
                (dim, whole_panels(others.map(|dim| shape[dim]).product()))
            }
            _ => (0, 1),
        };
        let extent = shape[dim];
        let count = match made_by {
            None => bytes.div_ceil(PIECE),
            Some(graph) if pieces::only_moves(graph) => extent as u64,
            Some(graph) => {
                graph.types.iter().filter_map(|ty| elements(ty).as_number()).max().unwrap_or(1) / pieces::AT_ONCE as u64
            }
        };
        let step = extent.div_ceil(count.max(1) as usize).next_multiple_of(unit);
        Steps { dim, extent, step: step.max(1) }
    }

    fn cuts(&self) -> impl Iterator<Item = Cut> + use<> {
        let Steps { dim, extent, step } = *self;
        (0..extent).step_by(step).map(move |start| Cut { dim, range: start..(start + step).min(extent) })
    }
}

/// The fewest indices of a dimension that are whole panels, each index being so many columns.
fn whole_panels(columns: usize) -> usize {
    (1..=PANEL).find(|count| count * columns % PANEL == 0).unwrap_or(PANEL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloomery_ir::Strided;

    #[test]
    fn large_parameters_are_cut_at_panels() {
        let head = Layout::Panels { contracted: vec![1] };
        let steps = Steps::of(&head, &[1000, 64], 3 * PIECE, None);
        assert_eq!(steps, Steps { dim: 0, extent: 1000, step: 336 });
        let ranges: Vec<_> = steps.cuts().map(|cut| cut.range).collect();
        assert_eq!(ranges, [0..336, 336..672, 672..1000]);
        let query = Layout::Panels { contracted: vec![0] };
        assert_eq!(Steps::of(&query, &[64, 4, 16], 3 * PIECE, None), Steps { dim: 1, extent: 4, step: 2 });
        assert_eq!(Steps::of(&query, &[64, 4, 24], 4 * PIECE, None), Steps { dim: 1, extent: 4, step: 2 });
        assert_eq!(Steps::of(&Layout::RowMajor, &[10], 8, None), Steps { dim: 0, extent: 10, step: 10 });
    }

    #[test]
    fn what_is_moved_is_cut_into_its_parts() {
        let text = "graph @g(param %w: f32[1]) { return %w }
            weight @both(param %a: f16[64, 4, 16], param %b: f16[64, 4, 16]) {
              %0 = reshape %a {dims = [64, 1, 4, 16]} : f16[64, 1, 4, 16]
              %1 = reshape %b {dims = [64, 1, 4, 16]} : f16[64, 1, 4, 16]
              %2 = concat %0, %1 {dim = 1} : f16[64, 2, 4, 16]
              return %2
            }";
        let module = bloomery_ir::parse(text).unwrap();
        let layout = Layout::Panels { contracted: vec![0] };
        let steps = Steps::of(&layout, &[64, 2, 4, 16], 1, Some(&module.weights[0]));
        assert_eq!(steps, Steps { dim: 1, extent: 2, step: 1 });
    }

    #[test]
    fn pieces_packed_one_by_one_are_the_whole() {
        let (shape, strides) = ([100, 6], [6, 1]);
        let bytes: Vec<u8> = (0..1200).map(|i| (i * 7 % 256) as u8).collect();
        for layout in [Layout::RowMajor, Layout::Panels { contracted: vec![1] }] {
            let packed = |cut: Cut| {
                let part = [cut.range.len(), shape[1]];
                let mut out = vec![0; layout.bytes(&part, DType::F16) as usize];
                let whole = Strided::new(&bytes, DType::F16, shape.to_vec(), 0, strides.to_vec());
                pack(&whole.range(0, cut.range), DType::F16, &layout, &mut out);
                out
            };
            let steps = Steps::of(&layout, &shape, 3 * PIECE, None);
            assert!(steps.cuts().count() > 1);
            assert_eq!(steps.cuts().flat_map(packed).collect::<Vec<u8>>(), packed(Cut { dim: 0, range: 0..100 }));
        }
    }
}
