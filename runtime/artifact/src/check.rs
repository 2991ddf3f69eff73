//! What a program must be before anything trusts its numbers.
//!
//! Every view fits the memory it names for all values its symbols may take, layers included; indices are valid; kernels
//! take what launches give them. What runs a checked program adds offsets without looking again.

use crate::code::{Count, KernelCode, Phase, Tiles};
use crate::sizes::{bytes_of, largest, smallest};
use crate::weights::{WeightTable, layers_of, size};
use bloomery_ir::graph::{Graph, Module};
use bloomery_ir::program::{
    ALIGNMENT, Buffer, Collective, Entry, Kernel, Launch, Origin, Parameter, Place, Step, View,
};
use bloomery_ir::{Bindings, DType, Extent, Layout, Program, SymbolBound, TensorType, verify};
use std::collections::BTreeSet;
use std::ops::Range;

/// Loops inside loops.
const DEPTH_MOST: usize = 8;
/// Layers, the largest number of them.
const LAYERS_MOST: u64 = 1 << 20;

/// What is wrong with a program, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct CheckError {
    /// Which part of the program.
    pub place: String,
    /// The reason.
    pub reason: String,
}

type Checked = Result<(), String>;

fn at(place: impl FnOnce() -> String) -> impl FnOnce(String) -> CheckError {
    |reason| CheckError { place: place(), reason }
}

fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(reason()) }
}

/// Checks a program.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_program(program: &Program) -> Result<(), CheckError> {
    check_mesh(program).map_err(at(|| "mesh".into()))?;
    check_symbols(program).map_err(at(|| "symbols".into()))?;
    for parameter in &program.parameters {
        check_parameter(program, parameter).map_err(at(|| format!("parameter %{}", parameter.name)))?;
    }
    for buffer in program.states.iter().chain(&program.ios) {
        check_buffer(program, buffer).map_err(at(|| format!("buffer %{}", buffer.name)))?;
    }
    for kernel in &program.kernels {
        check_kernel(program, kernel).map_err(at(|| format!("kernel {}", kernel.name)))?;
    }
    program.entries.iter().try_for_each(|entry| check_entry(program, entry))
}

/// Checks where weights lie.
///
/// # Errors
/// The first parameter that lies outside, or is not of its size.
pub fn check_weights(program: &Program, table: &WeightTable, length: u64) -> Result<(), CheckError> {
    let counts = || format!("{} placements for {} parameters", table.placements.len(), program.parameters.len());
    let whole = ensure(table.placements.len() == program.parameters.len(), counts)
        .and_then(|()| ensure(table.bytes == length, || format!("{} bytes planned, {length} there", table.bytes)))
        .and_then(|()| {
            let hashes = || format!("{} hashes for {} pieces", table.hashes.len(), table.pieces());
            ensure(table.hashes.len() == table.pieces(), hashes)
        });
    whole.map_err(at(|| "weight table".into()))?;
    for (parameter, placement) in program.parameters.iter().zip(&table.placements) {
        let inside = || {
            let expect = size(parameter).map_err(|error| error.to_string())?;
            let layers = layers_of(parameter).unwrap_or(1);
            let parts = parameter.parts(&program.mesh);
            let fits = (placement.bytes, placement.layers, placement.parts) == (expect, layers, parts);
            let last = placement.stride.checked_mul(layers.saturating_sub(1));
            let part = placement.part_stride.checked_mul(parts - 1);
            let end = last.zip(part).and_then(|(last, part)| last.checked_add(part)?.checked_add(placement.offset));
            let end = end.and_then(|end| end.checked_add(placement.bytes));
            let offsets = [placement.offset, placement.stride, placement.part_stride];
            let aligned = offsets.iter().all(|offset| offset % ALIGNMENT == 0);
            let inside = fits && aligned && end.is_some_and(|end| end <= length);
            ensure(inside, || format!("{placement:?} for {layers} x {parts} x {expect} bytes in {length}"))
        };
        inside().map_err(at(|| format!("weights of %{}", parameter.name)))?;
    }
    Ok(())
}

/// Checks a code image's table of kernels against its program and its length.
///
/// # Errors
/// The first kernel that starts outside, or whose tiles ask for what launches do not have.
pub fn check_code(program: &Program, kernels: &[KernelCode], length: u64) -> Result<(), CheckError> {
    let counts = || format!("{} kernels for {}", kernels.len(), program.kernels.len());
    ensure(kernels.len() == program.kernels.len(), counts).map_err(at(|| "code".into()))?;
    for (code, kernel) in kernels.iter().zip(&program.kernels) {
        check_kernel_code(program, code, kernel, length).map_err(at(|| format!("code of kernel {}", kernel.name)))?;
    }
    program.entries.iter().try_for_each(|entry| check_tables(&entry.steps, kernels))
}

/// Tables of sequences must be inputs of the program, the same for all layers: tiles are counted before it runs.
fn check_tables(steps: &[Step], kernels: &[KernelCode]) -> Result<(), CheckError> {
    for step in steps {
        check_tables(step.inside(), kernels)?;
        let Step::Launch(launch) = step else { continue };
        let table = |phase: &Phase| match phase.tiles {
            Tiles::Blocks { table, .. } => launch.inputs.get(table),
            Tiles::Rows { .. } => None,
        };
        let given = |view: &View| matches!(view.place, Place::Io(_)) && !view.per_layer;
        let all = kernels[launch.kernel].phases().filter_map(table).all(given);
        ensure(all, || "counts tiles by a table that is calculated".into())
            .map_err(at(|| format!("code of kernel {}", launch.kernel)))?;
    }
    Ok(())
}

fn check_kernel_code(program: &Program, code: &KernelCode, kernel: &Kernel, length: u64) -> Checked {
    for phase in code.phases() {
        ensure(phase.offset < length, || format!("starts at {} of {length} bytes", phase.offset))?;
        let (count, rows) = match phase.tiles {
            Tiles::Rows { count, rows, .. } => (count, rows),
            Tiles::Blocks { table, count, rows, .. } => {
                let input = kernel.graph.inputs.get(table);
                let is_table = input.is_some_and(|input| {
                    let dims = &input.ty.dims;
                    input.ty.dtype == DType::I32 && dims.len() == 2 && dims[1].extent == Extent::number(3)
                });
                ensure(is_table, || format!("view {table} is no table of sequences"))?;
                let symbol = count.dim.and_then(|dim| program.symbols.get(dim));
                let counts_rows = symbol.is_some_and(|symbol| {
                    input.is_some_and(|input| input.ty.dims[0].extent == Extent::symbol(&symbol.name))
                });
                ensure(counts_rows && count.times == 1, || "counts other sequences than its table holds".into())?;
                (count, rows)
            }
        };
        ensure(rows > 0, || "tiles of no rows".into())?;
        check_count(program, count)?;
    }
    check_count(program, code.shared.count)?;
    let scratch = code.shared.fixed.max(code.shared.per_row).max(code.local);
    ensure(scratch < 1 << 40, || format!("{scratch} bytes of scratch"))
}

fn check_count(program: &Program, count: Count) -> Checked {
    let known = count.dim.is_none_or(|dim| dim < program.symbols.len());
    ensure(known && count.times < 1 << 31, || format!("{count:?} with {} symbols", program.symbols.len()))
}

fn check_symbols(program: &Program) -> Checked {
    let mut names = BTreeSet::new();
    for symbol in &program.symbols {
        let sound = symbol.least >= 1 && symbol.least <= symbol.most && symbol.most <= i32::MAX as u64;
        ensure(sound, || format!("{}: {}..{}", symbol.name, symbol.least, symbol.most))?;
        ensure(names.insert(&symbol.name), || format!("{} is there twice", symbol.name))?;
    }
    Ok(())
}

/// Ranks, the largest number of them.
const RANKS_MOST: u64 = 1 << 16;

fn check_mesh(program: &Program) -> Checked {
    let mut names = BTreeSet::new();
    let mut ranks: u64 = program.replicas;
    ensure((1..=RANKS_MOST).contains(&ranks), || format!("{ranks} replicas, of at most {RANKS_MOST}"))?;
    for (axis, size) in &program.mesh.axes {
        ensure(names.insert(axis), || format!("axis {axis} is there twice"))?;
        ranks = ranks.saturating_mul(*size);
        ensure((1..=RANKS_MOST).contains(&ranks), || format!("{ranks} ranks, of at most {RANKS_MOST}"))?;
    }
    check_stages(program)
}

/// Stages are as many as the first axis has ranks, and follow one another.
fn check_stages(program: &Program) -> Checked {
    if program.stages.is_empty() {
        return Ok(());
    }
    let (stages, first) = (program.stages.len() as u64, program.mesh.axes.first().map(|(_, size)| *size));
    ensure(first == Some(stages), || format!("{stages} stages, {} ranks of them", first.unwrap_or(1)))?;
    let mut next = 0;
    for layers in &program.stages {
        let follows = layers.start == next && layers.end > next && layers.end <= LAYERS_MOST;
        ensure(follows, || format!("a stage of layers {}..{} after {next}", layers.start, layers.end))?;
        next = layers.end;
    }
    Ok(())
}

/// It has a size; cuts are along axes, of dimensions of one layer; a graph that made it is one, since people are shown
/// it.
fn check_parameter(program: &Program, parameter: &Parameter) -> Checked {
    size(parameter).map_err(|error| error.to_string())?;
    let mut axes = BTreeSet::new();
    for (dim, axis) in &parameter.cuts {
        let known = program.mesh.size(axis).is_some() && axes.insert(axis);
        let inside = (usize::from(parameter.stacked)..parameter.ty.rank()).contains(dim);
        ensure(known && inside, || format!("dimension {dim} of {} is cut over {axis}", parameter.ty))?;
    }
    let Origin::Computed(graph) = &parameter.origin else { return Ok(()) };
    check_shape_of(graph)?;
    let module = Module { weights: vec![(**graph).clone()], ..Module::default() };
    verify(&module).map_err(|error| error.to_string())
}

fn check_buffer(program: &Program, buffer: &Buffer) -> Checked {
    check_names(program, &buffer.ty)?;
    let ty = one_layer(buffer)?;
    // The pool of pages is as large as its owner makes it; it is the smallest that must have a size.
    let bytes = bytes_of(&ty, &buffer.layout, &smallest(&program.symbols));
    ensure(bytes.is_some(), || format!("{} has no size in bytes", buffer.ty))
}

/// All names are declared, and none is divided by: sizes of the mesh are numbers here.
fn check_names(program: &Program, ty: &TensorType) -> Checked {
    for extent in ty.extents() {
        let known = extent.names().all(|name| program.symbols.iter().any(|symbol| symbol.name == name));
        ensure(known && extent.divisors().next().is_none(), || format!("extent {extent} of {ty} is not known"))?;
    }
    Ok(())
}

fn one_layer(buffer: &Buffer) -> Result<TensorType, String> {
    match (buffer.stacked, buffer.ty.dims.first()) {
        (false, _) => Ok(buffer.ty.clone()),
        (true, Some(first)) if first.extent.as_number().is_some() => Ok(buffer.ty.inner()),
        (true, _) => Err(format!("{} has no layers", buffer.ty)),
    }
}

fn check_kernel(program: &Program, kernel: &Kernel) -> Checked {
    let graph = &kernel.graph;
    check_shape_of(graph)?;
    for ty in &graph.types {
        check_names(program, ty)?;
    }
    let module = Module { graphs: vec![graph.clone()], ..Module::default() };
    verify(&module).map_err(|error| error.to_string())?;
    let counts = kernel.inputs.len() == graph.inputs.len() && kernel.outputs.len() == graph.outputs.len();
    ensure(counts, || "layouts are not as many as inputs and outputs".into())?;
    let in_place = kernel.in_place.is_none_or(|(o, i)| o < kernel.outputs.len() && i < kernel.inputs.len());
    ensure(in_place, || format!("writes {:?} in place", kernel.in_place))
}

/// Values are as many as inputs and results, so that the verifier may look types up.
fn check_shape_of(graph: &Graph) -> Checked {
    let results: usize = graph.nodes.iter().map(|node| node.results.len()).sum();
    let values = graph.inputs.len() + results;
    ensure(graph.types.len() == values, || format!("{} types for {values} values", graph.types.len()))?;
    let same = graph.inputs.iter().zip(&graph.types).all(|(input, ty)| input.ty.unnamed() == ty.unnamed());
    ensure(same, || "types of inputs differ from types of their values".into())
}

/// An entry's surroundings, for the checks of its views.
struct Scope<'a> {
    program: &'a Program,
    entry: &'a Entry,
    /// The largest and smallest values symbols have in it.
    most: Bindings,
    least: Bindings,
}

/// What steps are inside of.
#[derive(Clone, Default)]
struct Within {
    /// The stages that do them.
    stages: Option<Range<u64>>,
    /// The last layer of the loop around them.
    last_layer: Option<u64>,
    depth: usize,
}

fn check_entry(program: &Program, entry: &Entry) -> Result<(), CheckError> {
    let place = || format!("entry {}", entry.name);
    let bounds = entry_bounds(program, entry).map_err(at(place))?;
    let scope = Scope { program, entry, most: largest(&bounds), least: smallest(&bounds) };
    scope.steps(&entry.steps, &Within::default()).map_err(at(place))
}

/// The symbols' bounds, with the entry's own range for its rows.
fn entry_bounds(program: &Program, entry: &Entry) -> Result<Vec<SymbolBound>, String> {
    let mut bounds = program.symbols.clone();
    let rows = bounds.iter_mut().find(|symbol| symbol.name == entry.rows);
    let rows = rows.ok_or_else(|| format!("there is no symbol {}", entry.rows))?;
    let sound = rows.least <= entry.least && entry.least <= entry.most && entry.most <= rows.most;
    ensure(sound, || format!("{}..{} of {}..{}", entry.least, entry.most, rows.least, rows.most))?;
    *rows = SymbolBound::new(&entry.rows, entry.least, entry.most);
    ensure(entry.arena_bytes < 1 << 44, || format!("an arena of {} bytes", entry.arena_bytes))?;
    Ok(bounds)
}

impl Scope<'_> {
    fn steps(&self, steps: &[Step], place: &Within) -> Checked {
        ensure(place.depth <= DEPTH_MOST, || format!("loops inside loops, deeper than {DEPTH_MOST}"))?;
        for step in steps {
            let fits = place.stages.is_some() != self.program.stages.is_empty();
            ensure(fits || matches!(step, Step::Stage { .. }), || "a step of no stage".into())?;
            match step {
                Step::Stage { stages, steps } => self.stage(stages, steps, place)?,
                Step::Send { what } => self.send(what, place)?,
                Step::Launch(launch) => self.launch(launch, place)?,
                Step::Copy { from, to } => self.copy(from, to, place)?,
                Step::Collective { what, over, from, to } => self.collective(*what, over, from, to, place)?,
                Step::Loop { from, to, steps, .. } => {
                    ensure(from < to && *to <= LAYERS_MOST, || format!("a loop over layers {from}..{to}"))?;
                    self.steps(steps, &Within { last_layer: Some(to - 1), depth: place.depth + 1, ..place.clone() })?;
                }
            }
        }
        Ok(())
    }

    /// Stages that are there, not inside of anything.
    fn stage(&self, stages: &Range<u64>, steps: &[Step], place: &Within) -> Checked {
        let there = stages.start < stages.end && stages.end <= self.program.stages.len() as u64;
        ensure(there && place.depth == 0, || format!("stages {}..{}", stages.start, stages.end))?;
        let counts = self.program.stages[stages.start as usize..stages.end as usize].iter();
        let counts: BTreeSet<u64> = counts.map(|layers| layers.end - layers.start).collect();
        ensure(counts.len() == 1, || format!("stages of {counts:?} layers do the same"))?;
        self.steps(steps, &Within { stages: Some(stages.clone()), depth: 1, ..place.clone() })
    }

    /// What is handed on lies with callers, and there is a stage to take it.
    fn send(&self, what: &View, place: &Within) -> Checked {
        let next = place.stages.as_ref().is_some_and(|stages| stages.end < self.program.stages.len() as u64);
        let plain = matches!(what.place, Place::Io(_)) && place.last_layer.is_none();
        ensure(next && plain, || format!("hands on {} where no stage takes it", what.ty))?;
        self.written(what, place)
    }

    fn launch(&self, launch: &Launch, place: &Within) -> Checked {
        let kernels = &self.program.kernels;
        let kernel = kernels.get(launch.kernel);
        let kernel = kernel.ok_or_else(|| format!("kernel {} of {}", launch.kernel, kernels.len()))?;
        let inputs = kernel.graph.inputs.iter().map(|input| &input.ty);
        let outputs = kernel.graph.outputs.iter().map(|output| kernel.graph.ty(*output));
        let check = |view: &View| self.view(view, place);
        let what = |what: &str| format!("launch of {}: other {what} than the kernel takes", kernel.name);
        ensure(same(&launch.inputs, inputs, &kernel.inputs), || what("inputs"))?;
        ensure(same(&launch.outputs, outputs, &kernel.outputs), || what("outputs"))?;
        launch.inputs.iter().try_for_each(check)?;
        launch.outputs.iter().try_for_each(|view| self.written(view, place))?;
        let same_place = |(o, i): (usize, usize)| {
            let (output, input) = (&launch.outputs[o], &launch.inputs[i]);
            output.place == input.place && output.per_layer == input.per_layer
        };
        ensure(kernel.in_place.is_none_or(same_place), || what("memory"))
    }

    fn copy(&self, from: &View, to: &View, place: &Within) -> Checked {
        let same = from.ty.unnamed().dims == to.ty.unnamed().dims && from.ty.dtype == to.ty.dtype;
        ensure(same && from.layout == to.layout, || format!("copies {} to {}", from.ty, to.ty))?;
        self.view(from, place)?;
        self.written(to, place)
    }

    /// Ranks sum, or join or get slices along a dimension; they read what they do not write.
    fn collective(&self, what: Collective, over: &str, from: &View, to: &View, place: &Within) -> Checked {
        let stages = self.program.mesh.axes.first().filter(|_| place.stages.is_some());
        ensure(stages.is_none_or(|(axis, _)| axis != over), || "stages do something together".into())?;
        let ranks = self.program.mesh.size(over).ok_or_else(|| format!("the mesh has no axis {over}"))?;
        ensure(from.ty.dtype == DType::F32 || matches!(what, Collective::Join { .. }), || {
            format!("a sum of {}", from.ty)
        })?;
        // What it is made of, and what is made: slices are the other's so many times over.
        let (mut given, mut made) = (from.ty.unnamed(), to.ty.unnamed());
        let (slices, dim) = match what {
            Collective::Sum => (None, 0),
            Collective::Join { dim } => (Some(&mut given), dim),
            Collective::Scatter { dim } => (Some(&mut made), dim),
        };
        if let Some(slices) = slices {
            let joined = slices.dims.get_mut(dim).ok_or_else(|| format!("{} has no dimension {dim}", from.ty))?;
            joined.extent = joined.extent.times(&Extent::number(ranks));
        }
        let plain = from.layout == Layout::RowMajor && to.layout == Layout::RowMajor && from.place != to.place;
        let fits = given.dims == made.dims && given.dtype == made.dtype;
        ensure(plain && fits, || format!("`{}` of {} gives {}", what.name(), from.ty, to.ty))?;
        self.view(from, place)?;
        self.written(to, place)
    }

    fn written(&self, view: &View, place: &Within) -> Checked {
        let fixed = matches!(view.place, Place::Parameter(_) | Place::Coordinate(_));
        ensure(!fixed, || "writes a weight, or a rank's place".into())?;
        self.view(view, place)
    }

    fn view(&self, view: &View, place: &Within) -> Checked {
        check_names(self.program, &view.ty)?;
        let layers = if view.per_layer { place.last_layer.map_or(1, |last| last + 1) } else { 1 };
        match view.place {
            Place::Arena { offset, stride } => self.arena(view, offset, stride, layers),
            Place::Parameter(i) => {
                let parameter = self.program.parameters.get(i).ok_or_else(|| format!("parameter {i}"))?;
                ensure(view.per_layer || !parameter.stacked, || format!("all layers of %{} at once", parameter.name))?;
                // Of stages that do the same the last one has the last layers.
                let stage = place.stages.as_ref().map_or(0, |stages| stages.end - 1);
                let first = self.program.stages.get(stage as usize).map_or(0, |layers| layers.start);
                let layers = if view.per_layer { first + layers } else { layers };
                self.buffer(view, &parameter.ty, parameter.stacked, &parameter.layout, layers)
            }
            Place::State(i) => self.outside(view, self.program.states.get(i), layers),
            Place::Io(i) => self.outside(view, self.program.ios.get(i), layers),
            Place::Coordinate(axis) => {
                let is_place = view.ty == TensorType::new(DType::I32, [1u64]) && view.layout == Layout::RowMajor;
                let known = axis < self.program.mesh.axes.len() && !view.per_layer;
                ensure(is_place && known, || format!("{} for the place along axis {axis}", view.ty))
            }
        }
    }

    fn arena(&self, view: &View, offset: u64, stride: u64, layers: u64) -> Checked {
        let bytes = bytes_of(&view.ty, &view.layout, &self.most);
        let last = stride.checked_mul(layers - 1);
        let end = last.and_then(|last| offset.checked_add(last)?.checked_add(bytes?));
        let aligned = offset % ALIGNMENT == 0 && stride % ALIGNMENT == 0;
        let inside = end.is_some_and(|end| end <= self.entry.arena_bytes);
        ensure(inside && aligned, || {
            format!("{} at {offset} does not fit an arena of {} bytes", view.ty, self.entry.arena_bytes)
        })
    }

    fn outside(&self, view: &View, buffer: Option<&Buffer>, layers: u64) -> Checked {
        let buffer = buffer.ok_or_else(|| format!("{:?} is not there", view.place))?;
        self.buffer(view, &buffer.ty, buffer.stacked, &buffer.layout, layers)
    }

    fn buffer(&self, view: &View, ty: &TensorType, stacked: bool, layout: &Layout, layers: u64) -> Checked {
        let wrong = || format!("{} ({:?}) does not fit {ty}", view.ty, view.layout);
        let held = match (view.per_layer, stacked) {
            (true, true) => {
                let count = ty.dims.first().and_then(|dim| dim.extent.as_number()).unwrap_or(0);
                ensure(layers <= count, || format!("{layers} layers of {count} in {ty}"))?;
                ty.inner()
            }
            (true, false) => return Err(wrong()),
            (false, true) if *layout != Layout::RowMajor => return Err(wrong()),
            (false, _) => ty.clone(),
        };
        ensure(view.layout == *layout && view.ty.dtype == held.dtype, wrong)?;
        let dims = |ty: &TensorType| ty.unnamed().dims;
        let equal = match layout {
            Layout::RowMajor => product(&view.ty) == product(&held),
            _ => dims(&view.ty) == dims(&held),
        };
        let smaller = || match (bytes_of(&view.ty, layout, &self.most), bytes_of(&held, layout, &self.least)) {
            (Some(view), Some(held)) => view <= held,
            _ => false,
        };
        ensure(equal || smaller(), wrong)
    }
}

fn product(ty: &TensorType) -> Extent {
    ty.extents().fold(Extent::number(1), |product, extent| product.times(extent))
}

/// Views are what a kernel takes.
fn same<'a>(views: &[View], types: impl ExactSizeIterator<Item = &'a TensorType>, layouts: &[Layout]) -> bool {
    let fits = |((view, ty), layout): ((&View, &TensorType), &Layout)| {
        view.layout == *layout && view.ty.dtype == ty.dtype && view.ty.unnamed().dims == ty.unnamed().dims
    };
    views.len() == types.len() && views.iter().zip(types).zip(layouts).all(fits)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bloomery_ir::ops::add::Add;
    use bloomery_ir::program::KernelKind;
    use bloomery_ir::{Builder, DType, Mesh, graph::Role};

    pub(crate) fn empty_program() -> Program {
        Program {
            name: "empty".into(),
            mesh: Mesh::default(),
            replicas: 1,
            stages: vec![],
            symbols: vec![SymbolBound::new("N", 1, 8)],
            parameters: vec![],
            states: vec![],
            ios: vec![],
            kernels: vec![],
            entries: vec![],
        }
    }

    fn row(width: u64) -> TensorType {
        TensorType { dims: vec!["N".into(), width.into()], ..TensorType::new::<u64>(DType::F32, []) }
    }

    /// `y = x + w[layer]` over two layers, by way of the arena.
    pub(crate) fn adding_program() -> Program {
        let mesh = Mesh::default();
        let mut builder = Builder::new("add", vec![SymbolBound::new("N", 1, 8)], &mesh, []);
        let x = builder.input("x", Role::Plain, row(4));
        let w = builder.input("w", Role::Parameter, TensorType::new(DType::F32, [4u64]));
        let y = builder.one(Add, &[x, w]).unwrap();
        let kernel = Kernel {
            name: "add".into(),
            kind: KernelKind::Elementwise,
            graph: builder.finish(&[y]),
            inputs: vec![Layout::RowMajor; 2],
            outputs: vec![Layout::RowMajor],
            in_place: None,
        };
        let view = |place, per_layer, ty| View { place, per_layer, ty, layout: Layout::RowMajor };
        let io = |i| view(Place::Io(i), false, row(4));
        let arena = || view(Place::Arena { offset: 64, stride: 0 }, false, row(4));
        let weight = || view(Place::Parameter(0), true, TensorType::new(DType::F32, [4u64]));
        let launch =
            |from, to| Step::Launch(Launch { kernel: 0, inputs: vec![from, weight()], outputs: vec![to], wave: 0 });
        let buffer = |name: &str| Buffer { name: name.into(), ty: row(4), stacked: false, layout: Layout::RowMajor };
        let steps = vec![
            Step::Copy { from: io(0), to: arena() },
            Step::Loop { from: 0, to: 2, reverse: false, steps: vec![launch(arena(), arena())] },
            Step::Copy { from: arena(), to: io(1) },
        ];
        let entry = Entry {
            name: "body".into(),
            group: "body".into(),
            rows: "N".into(),
            least: 1,
            most: 8,
            arena_bytes: 64 + 8 * 4 * 4,
            steps,
        };
        Program {
            parameters: vec![Parameter {
                name: "w".into(),
                ty: TensorType::new(DType::F32, [2u64, 4]),
                stacked: true,
                layout: Layout::RowMajor,
                origin: Origin::Checkpoint,
                cuts: vec![],
            }],
            ios: vec![buffer("x"), buffer("y")],
            kernels: vec![kernel],
            entries: vec![entry],
            ..empty_program()
        }
    }

    fn check(change: impl FnOnce(&mut Program), expect: &str) {
        let mut program = adding_program();
        change(&mut program);
        let error = check_program(&program).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn a_sound_program_passes() {
        check_program(&adding_program()).unwrap();
    }

    #[test]
    fn what_would_leave_memory_is_refused() {
        check(|p| p.entries[0].arena_bytes -= 1, "does not fit an arena of 191");
        check(|p| p.entries[0].most = 9, "1..9 of 1..8");
        check(|p| p.parameters[0].ty = TensorType::new(DType::F32, [1u64, 4]), "2 layers of 1");
        check(|p| p.ios[0].ty = row(3), "does not fit");
        check(|p| p.ios.truncate(1), "Io(1) is not there");
        check(|p| p.ios[0].ty.dtype = DType::F16, "does not fit");
        check(|p| p.kernels.clear(), "kernel 0 of 0");
        check(|p| p.symbols[0].most = 1 << 40, "N: 1..");
        check(|p| p.kernels[0].graph.types.truncate(1), "types for 3 values");
        check(|p| p.parameters[0].ty = TensorType::new(DType::F32, [u64::MAX, u64::MAX]), "no size");
    }

    /// The same in two stages of a layer each.
    fn staged(program: &mut Program) {
        program.mesh.axes = vec![("pp".into(), 2)];
        program.stages = vec![0..1, 1..2];
        let mut steps = std::mem::take(&mut program.entries[0].steps);
        let Step::Loop { to, .. } = &mut steps[1] else { unreachable!() };
        *to = 1;
        program.entries[0].steps = vec![Step::Stage { stages: 0..2, steps }];
    }

    #[test]
    fn steps_of_stages_are_inside_of_them_and_reach_no_other_layers() {
        let mut program = adding_program();
        staged(&mut program);
        check_program(&program).unwrap();
        let check = |change: &dyn Fn(&mut Program), expect| {
            check(
                |p| {
                    staged(p);
                    change(p);
                },
                expect,
            );
        };
        let io = View { place: Place::Io(1), per_layer: false, ty: row(4), layout: Layout::RowMajor };
        let send = Step::Send { what: io };
        check(&|p| p.stages[1] = 0..2, "a stage of layers 0..2 after 1");
        check(&|p| p.mesh.axes[0].1 = 3, "2 stages, 3 ranks of them");
        check(&|p| p.entries[0].steps.push(send.clone()), "a step of no stage");
        check(&|p| p.entries[0].steps[0] = Step::Stage { stages: 1..3, steps: vec![] }, "stages 1..3");
        check(
            &|p| p.entries[0].steps[0] = Step::Stage { stages: 0..2, steps: vec![send.clone()] },
            "no stage takes it",
        );
        check(
            &|p| {
                let Step::Stage { steps, .. } = &mut p.entries[0].steps[0] else { unreachable!() };
                let Step::Loop { to, .. } = &mut steps[1] else { unreachable!() };
                *to = 2;
            },
            "3 layers of 2",
        );
    }

    /// What two ranks do with `x` and `y`, of so many rows for each N.
    fn collective(what: Collective, rows: [&str; 2]) -> Result<(), CheckError> {
        let mut program = adding_program();
        program.mesh.axes = vec![("mp".into(), 2)];
        let rows = rows.map(|rows| TensorType::new(DType::F32, [rows.parse::<Extent>().unwrap(), 4.into()]));
        let view =
            |i: usize| View { place: Place::Io(i), per_layer: false, ty: rows[i].clone(), layout: Layout::RowMajor };
        let (from, to) = (view(0), view(1));
        (0..2).for_each(|i| program.ios[i].ty = rows[i].clone());
        program.entries[0].steps = vec![Step::Collective { what, over: "mp".into(), from, to }];
        check_program(&program)
    }

    #[test]
    fn ranks_get_as_much_as_there_is() {
        let (join, scatter) = (Collective::Join { dim: 0 }, Collective::Scatter { dim: 0 });
        for (what, rows) in [(Collective::Sum, ["N", "N"]), (join, ["N", "2*N"]), (scatter, ["2*N", "N"])] {
            collective(what, rows).unwrap();
        }
        let none = Collective::Scatter { dim: 2 };
        for (what, rows) in [
            (Collective::Sum, ["2*N", "N"]),
            (join, ["N", "N"]),
            (scatter, ["N", "2*N"]),
            (scatter, ["N", "N"]),
            (scatter, ["3*N", "N"]),
            (Collective::Scatter { dim: 1 }, ["2*N", "N"]),
            (none, ["2*N", "N"]),
        ] {
            collective(what, rows).expect_err(what.name());
        }
    }

    #[test]
    fn a_weight_is_not_written() {
        check(
            |p| {
                let weight =
                    View { place: Place::Parameter(0), per_layer: false, ty: row(4), layout: Layout::RowMajor };
                p.entries[0].steps.push(Step::Copy { from: weight.clone(), to: weight });
            },
            "all layers of %w at once",
        );
        check(
            |p| {
                p.parameters[0].stacked = false;
                p.entries[0].steps.clear();
                let ty = TensorType::new(DType::F32, [2u64, 4]);
                let weight = View { place: Place::Parameter(0), per_layer: false, ty, layout: Layout::RowMajor };
                p.entries[0].steps.push(Step::Copy { from: weight.clone(), to: weight });
            },
            "writes a weight",
        );
    }

    #[test]
    fn endless_nesting_is_refused() {
        check(
            |p| {
                for _ in 0..20 {
                    let steps = std::mem::take(&mut p.entries[0].steps);
                    p.entries[0].steps = vec![Step::Loop { from: 0, to: 2, reverse: false, steps }];
                }
            },
            "loops inside loops",
        );
    }

    #[test]
    fn nesting_that_would_take_the_stack_is_not_read() {
        let mut program = adding_program();
        program.entries[0].steps = vec![Step::Loop { from: 0, to: 1, reverse: false, steps: vec![] }];
        let bytes = crate::format::encode(&program);
        let (before, innermost) = bytes.split_at(bytes.len() - 5);
        assert_eq!(innermost, [1, 0, 1, 0, 0]);
        let deep = [before, &[1, 0, 1, 0, 1].repeat(200_000), innermost].concat();
        let error = crate::format::decode::<Program>(&deep).unwrap_err();
        assert!(error.contains("loops inside loops, more than 64 deep"), "{error}");
        assert_eq!(crate::format::decode::<Program>(&bytes).unwrap(), program);
    }
}
