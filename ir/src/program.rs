//! Programs: what passes make of a graph, as data. Buffers, kernels, steps, entry points.
//!
//! A *kernel* is a small graph, its specification: the interpreter runs it, the CPU emitter writes C for it, a table of
//! Ascend calls matches it. *Steps* launch kernels on *views* of memory. An *entry point* is a list of steps for one
//! range of rows. Nothing here knows a processor: tile counts and scratch belong to a code image.

use crate::extent::Extent;
use crate::graph::{Graph, SymbolBound};
use crate::layout::Layout;
use crate::ops::Op;
use crate::ops::all_gather::AllGather;
use crate::ops::all_reduce::AllReduce;
use crate::ops::reduce_scatter::ReduceScatter;
use crate::types::{Mesh, TensorType};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use std::slice;

/// Alignment of every buffer in the arena, in bytes: a cache line, and the widest vector.
pub const ALIGNMENT: u64 = 64;

/// A compiled model, before code is made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// The model's name.
    pub name: String,
    /// The ranks that run it. All run the same steps, each on memory of its own: no rank begins a step before all have
    /// done what it reads. One rank where there are no axes.
    pub mesh: Mesh,
    /// Copies of all these ranks, each with sequences of its own; one where nobody wants more.
    pub replicas: u64,
    /// Of each stage of a pipeline, which the first axis of the mesh numbers, its layers; empty when every rank has all.
    pub stages: Vec<Range<u64>>,
    /// All names in use with their widest bounds; a code image gets their values in this order.
    pub symbols: Vec<SymbolBound>,
    /// Weights, and constants known at compile time.
    pub parameters: Vec<Parameter>,
    /// What is kept between calls: the cache.
    pub states: Vec<Buffer>,
    /// What callers give and get, by name: `ids`, `rows`, `pages`, `hidden`, `pick`, `logits`.
    pub ios: Vec<Buffer>,
    /// Kernels, each used by at least one step.
    pub kernels: Vec<Kernel>,
    /// Entry points; those of one group differ in their range of rows only.
    pub entries: Vec<Entry>,
}

/// A weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name in the graph.
    pub name: String,
    /// Its type on a rank, all layers first if it has them, whatever stages have which.
    pub ty: TensorType,
    /// Whether the first dimension counts layers, each laid out on its own.
    pub stacked: bool,
    /// The layout of the whole, or of each layer.
    pub layout: Layout,
    /// Where its values come from.
    pub origin: Origin,
    /// Dimensions of which every rank has its piece, and the mesh axis that numbers the pieces: the weight as a whole is
    /// longer by the axis' size.
    pub cuts: Vec<(usize, String)>,
}

/// Where a weight's values come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Origin {
    /// The checkpoint, under the weight's own name.
    Checkpoint,
    /// They are known without one.
    Literal(Vec<f64>),
    /// This graph makes them (of each layer, when the weight is stacked) from weights of the checkpoint.
    Computed(Box<Graph>),
}

impl Parameter {
    /// How many different pieces ranks have of it.
    pub fn parts(&self, mesh: &Mesh) -> u64 {
        self.sizes(mesh).product()
    }

    /// Which of them a rank has: the first cut counts most.
    pub fn part(&self, mesh: &Mesh, rank: u64) -> u64 {
        let place = |axis: &String| mesh.coordinate(rank, axis).expect("cuts are along axes of the mesh");
        self.cuts.iter().zip(self.sizes(mesh)).fold(0, |part, ((_, axis), size)| part * size + place(axis))
    }

    /// The weight as a whole.
    pub fn whole(&self, mesh: &Mesh) -> TensorType {
        let mut whole = self.ty.clone();
        for ((dim, _), size) in self.cuts.iter().zip(self.sizes(mesh)) {
            whole.dims[*dim].extent = whole.dims[*dim].extent.times(&Extent::number(size));
        }
        whole
    }

    /// Where a piece lies in the whole: the dimensions that are cut, and its range of each.
    ///
    /// # Panics
    /// When a cut dimension is no number.
    pub fn ranges(&self, mesh: &Mesh, part: u64) -> BTreeMap<usize, Range<u64>> {
        let sizes: Vec<u64> = self.sizes(mesh).collect();
        let whole = self.whole(mesh);
        let mut ranges = BTreeMap::new();
        for (i, ((dim, _), size)) in self.cuts.iter().zip(&sizes).enumerate() {
            let place = part / sizes[i + 1..].iter().product::<u64>() % size;
            let all = || 0..whole.dims[*dim].extent.as_number().expect("what is cut is a number");
            let range: &mut Range<u64> = ranges.entry(*dim).or_insert_with(all);
            let width = (range.end - range.start) / size;
            *range = range.start + place * width..range.start + (place + 1) * width;
        }
        ranges
    }

    /// The same, in dimensions of one layer where there are layers.
    pub fn layer_ranges(&self, mesh: &Mesh, part: u64) -> BTreeMap<usize, Range<usize>> {
        let layers = usize::from(self.stacked);
        let ranges = self.ranges(mesh, part).into_iter();
        ranges.map(|(dim, range)| (dim - layers, range.start as usize..range.end as usize)).collect()
    }

    fn sizes<'a>(&'a self, mesh: &'a Mesh) -> impl Iterator<Item = u64> + 'a {
        self.cuts.iter().map(|(_, axis)| mesh.size(axis).expect("cuts are along axes of the mesh"))
    }
}

impl Origin {
    /// The values, when they are known without a checkpoint.
    pub fn literal(&self) -> Option<&[f64]> {
        match self {
            Origin::Literal(values) => Some(values),
            _ => None,
        }
    }
}

/// A graph of a module that callers enter: what they call its rows and what it returns.
///
/// Inputs have names in the graph; outputs get theirs here, states last, named as the inputs they replace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// The graph, e.g. `body`.
    pub graph: String,
    /// The symbol that counts its rows, e.g. `N`; ranges of it get entry points of their own.
    pub rows: String,
    /// Names of its outputs, e.g. `hidden, kv`.
    pub outputs: Vec<String>,
}

/// Memory outside the arena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// Its name in the graph.
    pub name: String,
    /// Its type, layers first if it has them: those of the stage that has most.
    pub ty: TensorType,
    /// Whether the first dimension counts layers, each laid out on its own.
    pub stacked: bool,
    /// The layout of the whole, or of each layer.
    pub layout: Layout,
}

/// What a kernel's emitter looks for first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KernelKind {
    /// Anchored by a contraction.
    Contraction,
    /// Anchored by attention over the cache.
    Attention,
    /// Writes the cache.
    Append,
    /// Anchored by a row operation: norms, softmax.
    Row,
    /// Anchored by a gather.
    Gather,
    /// Everything else, one element at a time.
    Elementwise,
}

/// A unit of code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// Its name, unique in the program and fit for a C symbol.
    pub name: String,
    /// Its kind.
    pub kind: KernelKind,
    /// What it computes. Symbols carry the bounds of the range it is specialised for.
    pub graph: Graph,
    /// Layouts of the graph's inputs.
    pub inputs: Vec<Layout>,
    /// Layouts of the graph's outputs.
    pub outputs: Vec<Layout>,
    /// The output that lies in an input's memory, as `(output, input)`, when it must: a cache written in place.
    pub in_place: Option<(usize, usize)>,
}

/// Steps for one range of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name, e.g. `body_2_8`.
    pub name: String,
    /// What it does: entries of one group take the same buffers.
    pub group: String,
    /// The name whose range this is, e.g. `N`.
    pub rows: String,
    /// Smallest value of it.
    pub least: u64,
    /// Largest value of it.
    pub most: u64,
    /// Bytes of arena it needs.
    pub arena_bytes: u64,
    /// What it does, in order.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Run a kernel.
    Launch(Launch),
    /// Run steps once per layer; views that are per layer move along.
    Loop {
        /// First layer.
        from: u64,
        /// First layer no more.
        to: u64,
        /// From the last layer to the first.
        reverse: bool,
        /// The steps of one layer.
        #[serde(deserialize_with = "steps_of_loop")]
        steps: Vec<Step>,
    },
    /// What ranks of a stage do, and then those of the next: in a program with stages every step is inside of one.
    Stage {
        /// The stages. A layer is counted from the first of the stage's own: its weights are so much further on.
        stages: Range<u64>,
        /// What each does.
        #[serde(deserialize_with = "steps_of_loop")]
        steps: Vec<Step>,
    },
    /// Each rank of the stage hands a view on, to the same view of the rank in its place in the next stage.
    Send {
        /// What, and where to.
        what: View,
    },
    /// Copy a buffer.
    Copy {
        /// What.
        from: View,
        /// Where to.
        to: View,
    },
    /// Ranks make one value of what each has: a sum, or slices of it, slices joined.
    Collective {
        /// What they make of it.
        what: Collective,
        /// The axis of the mesh that they differ along.
        over: String,
        /// What each has.
        from: View,
        /// Where each gets what is made.
        to: View,
    },
}

impl Step {
    /// The steps inside of it, if it has any.
    pub fn inside(&self) -> &[Step] {
        match self {
            Step::Loop { steps, .. } | Step::Stage { steps, .. } => steps,
            _ => &[],
        }
    }

    /// What it reads itself.
    pub fn reads(&self) -> &[View] {
        match self {
            Step::Launch(launch) => &launch.inputs,
            Step::Copy { from, .. } | Step::Collective { from, .. } | Step::Send { what: from } => {
                slice::from_ref(from)
            }
            Step::Loop { .. } | Step::Stage { .. } => &[],
        }
    }

    /// What it writes itself.
    pub fn writes(&self) -> &[View] {
        match self {
            Step::Launch(launch) => &launch.outputs,
            Step::Copy { to, .. } | Step::Collective { to, .. } | Step::Send { what: to } => slice::from_ref(to),
            Step::Loop { .. } | Step::Stage { .. } => &[],
        }
    }

    /// Changes every view of it, and of the steps inside.
    pub fn change_views(&mut self, change: &mut dyn FnMut(&mut View)) {
        match self {
            Step::Launch(launch) => launch.inputs.iter_mut().chain(&mut launch.outputs).for_each(change),
            Step::Copy { from, to } | Step::Collective { from, to, .. } => [from, to].into_iter().for_each(change),
            Step::Send { what } => change(what),
            Step::Loop { steps, .. } | Step::Stage { steps, .. } => {
                steps.iter_mut().for_each(|step| step.change_views(change));
            }
        }
    }
}

/// Loops inside loops that are read at all; checked programs have fewer.
const LOOPS_MOST: usize = 64;

/// Reads the steps inside a loop. Loops are read by recursion, and a file of nothing else would take the whole stack.
fn steps_of_loop<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Step>, D::Error> {
    thread_local!(static DEPTH: Cell<usize> = const { Cell::new(0) });
    let depth = DEPTH.get();
    if depth == LOOPS_MOST {
        return Err(D::Error::custom(format!("loops inside loops, more than {LOOPS_MOST} deep")));
    }
    DEPTH.set(depth + 1);
    let steps = Vec::deserialize(deserializer);
    DEPTH.set(depth);
    steps
}

/// What ranks make of what each of them has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Collective {
    /// The sum, in order of the ranks, for every one of them.
    Sum,
    /// Slices, joined along a dimension, for every one of them.
    Join {
        /// The dimension.
        dim: usize,
    },
    /// The sum as [`Collective::Sum`] makes it, for each of them its slice along a dimension.
    Scatter {
        /// The dimension.
        dim: usize,
    },
}

impl Collective {
    /// What an operation of a graph is here, and over which axis.
    pub fn of(op: &Op) -> Option<(Collective, &str)> {
        match op {
            Op::AllReduce(sum) => Some((Collective::Sum, &sum.over)),
            Op::AllGather(join) => Some((Collective::Join { dim: join.dim }, &join.over)),
            Op::ReduceScatter(cut) => Some((Collective::Scatter { dim: cut.dim }, &cut.over)),
            _ => None,
        }
    }

    /// The operation that defines it.
    pub fn op(self, over: &str) -> Op {
        let over = over.to_owned();
        match self {
            Collective::Sum => AllReduce { over }.into(),
            Collective::Join { dim } => AllGather { over, dim }.into(),
            Collective::Scatter { dim } => ReduceScatter { over, dim }.into(),
        }
    }

    /// Its name among operations.
    pub fn name(self) -> &'static str {
        match self {
            Collective::Sum => "all_reduce",
            Collective::Join { .. } => "all_gather",
            Collective::Scatter { .. } => "reduce_scatter",
        }
    }
}

/// A kernel on its memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Index into [`Program::kernels`].
    pub kernel: usize,
    /// Memory of the graph's inputs.
    pub inputs: Vec<View>,
    /// Memory of the graph's outputs.
    pub outputs: Vec<View>,
    /// Steps of one wave in a list are independent; a wave begins when the one before is done.
    pub wave: u32,
}

/// Memory a step reads or writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Where.
    pub place: Place,
    /// Whether it is the current layer's part of a stacked buffer.
    pub per_layer: bool,
    /// What lies there (one layer of it).
    pub ty: TensorType,
    /// How it lies there.
    pub layout: Layout,
}

/// A place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Place {
    /// Scratch of one call.
    Arena {
        /// Bytes from its start.
        offset: u64,
        /// Bytes from one layer's part to the next, of collected values.
        stride: u64,
    },
    /// A weight; an artifact's table says where it lies.
    Parameter(usize),
    /// Kept between calls.
    State(usize),
    /// The caller's.
    Io(usize),
    /// A rank's number along an axis of the mesh, `i32[1]`.
    Coordinate(usize),
}

impl Program {
    /// Ranks of all replicas.
    pub fn ranks(&self) -> u64 {
        self.replicas * self.mesh.ranks()
    }

    /// How many ranks a stage has; all of a replica's, where there are no stages.
    pub fn ranks_per_stage(&self) -> u64 {
        self.mesh.ranks() / self.stages.len().max(1) as u64
    }

    /// The ranks of a stage, which go through its steps together.
    pub fn ranks_of(&self, stage: u64) -> Range<u64> {
        let ranks = self.ranks_per_stage();
        stage * ranks..(stage + 1) * ranks
    }

    /// The ranks that have what comes out: those of the last stage.
    pub fn last_ranks(&self) -> Range<u64> {
        self.ranks_of(self.stages.len().max(1) as u64 - 1)
    }

    /// A rank's stage.
    pub fn stage_of(&self, rank: u64) -> u64 {
        rank / self.ranks_per_stage()
    }

    /// The first of a rank's layers.
    pub fn first_layer(&self, rank: u64) -> u64 {
        self.stages.get(self.stage_of(rank) as usize).map_or(0, |layers| layers.start)
    }

    /// Layers of the model, if there are stages.
    pub fn staged_layers(&self) -> Option<u64> {
        self.stages.last().map(|layers| layers.end)
    }

    /// The entry of a group that takes so many rows.
    pub fn entry(&self, group: &str, rows: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.group == group && (entry.least..=entry.most).contains(&rows))
    }

    /// Bytes of arena that any entry needs.
    pub fn arena_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.arena_bytes).max().unwrap_or(0)
    }

    /// Index of the input or output of this name.
    pub fn io(&self, name: &str) -> Option<usize> {
        self.ios.iter().position(|io| io.name == name)
    }

    /// The program as text for people: buffers, kernels with their graphs, entry points with their steps.
    pub fn print(&self) -> String {
        let mut text = format!("program {}\n", self.name);
        for (axis, size) in &self.mesh.axes {
            let _ = writeln!(text, "mesh {axis}: {size}");
        }
        if self.replicas > 1 {
            let _ = writeln!(text, "replicas {}", self.replicas);
        }
        for layers in &self.stages {
            let _ = writeln!(text, "stage {}..{}", layers.start, layers.end);
        }
        for symbol in &self.symbols {
            let _ = writeln!(text, "symbol {}: {}..{}", symbol.name, symbol.least, symbol.most);
        }
        for parameter in &self.parameters {
            let stacked = if parameter.stacked { " stacked" } else { "" };
            let origin = origin(&parameter.origin);
            let _ = writeln!(
                text,
                "param %{}: {} {}{stacked}{origin}{}",
                parameter.name,
                parameter.ty,
                layout(&parameter.layout),
                cuts(parameter)
            );
        }
        for (what, buffers) in [("state", &self.states), ("io", &self.ios)] {
            for buffer in buffers {
                let _ = writeln!(text, "{what} %{}: {} {}", buffer.name, buffer.ty, layout(&buffer.layout));
            }
        }
        for kernel in &self.kernels {
            let _ = write!(text, "\nkernel {:?} {}", kernel.kind, crate::print::print_graph(&kernel.graph));
        }
        for entry in &self.entries {
            let _ = writeln!(
                text,
                "\nentry {} {}: {}..{} arena {}",
                entry.name, entry.rows, entry.least, entry.most, entry.arena_bytes
            );
            self.print_steps(&mut text, &entry.steps, 1);
        }
        text
    }

    fn print_steps(&self, text: &mut String, steps: &[Step], depth: usize) {
        let indent = "  ".repeat(depth);
        for step in steps {
            let _ = match step {
                Step::Launch(launch) => writeln!(
                    text,
                    "{indent}wave {}: {}({}) -> {}",
                    launch.wave,
                    self.kernels[launch.kernel].name,
                    self.views(&launch.inputs),
                    self.views(&launch.outputs)
                ),
                Step::Copy { from, to } => writeln!(text, "{indent}copy {} -> {}", self.view(from), self.view(to)),
                Step::Collective { what, over, from, to } => {
                    writeln!(text, "{indent}{} over {over}: {} -> {}", what.name(), self.view(from), self.view(to))
                }
                Step::Stage { stages, .. } => writeln!(text, "{indent}stages {}..{}", stages.start, stages.end),
                Step::Send { what } => writeln!(text, "{indent}send {}", self.view(what)),
                Step::Loop { from, to, reverse, .. } => {
                    writeln!(text, "{indent}loop layers {from}..{to}{}", if *reverse { " reverse" } else { "" })
                }
            };
            self.print_steps(text, step.inside(), depth + 1);
        }
    }

    fn views(&self, views: &[View]) -> String {
        views.iter().map(|view| self.view(view)).collect::<Vec<_>>().join(", ")
    }

    fn view(&self, view: &View) -> String {
        let layer = if view.per_layer { "[layer]" } else { "" };
        match view.place {
            Place::Arena { offset, .. } => format!("arena+{offset}{layer}"),
            Place::Parameter(i) => format!("%{}{layer}", self.parameters[i].name),
            Place::State(i) => format!("%{}{layer}", self.states[i].name),
            Place::Io(i) => format!("%{}{layer}", self.ios[i].name),
            Place::Coordinate(axis) => format!("place along {}", self.mesh.axes[axis].0),
        }
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Checkpoint => String::new(),
        Origin::Literal(_) => " constant".to_owned(),
        Origin::Computed(graph) => {
            let names: Vec<String> = graph.inputs.iter().map(|input| format!("%{}", input.name)).collect();
            format!(" computed from {}", names.join(", "))
        }
    }
}

fn cuts(parameter: &Parameter) -> String {
    let cuts = parameter.cuts.iter().map(|(dim, axis)| format!(" cut {dim}/{axis}"));
    cuts.collect()
}

fn layout(layout: &Layout) -> String {
    match layout {
        Layout::RowMajor => "row-major".to_owned(),
        Layout::Panels { contracted } => format!("panels{contracted:?}"),
        Layout::CachePages => "cache-pages".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn pieces_of_a_weight_are_counted_by_their_cuts() {
        let mesh = Mesh { axes: vec![("dp".to_owned(), 2), ("mp".to_owned(), 3)] };
        let cuts = vec![(1, "mp".to_owned()), (0, "dp".to_owned())];
        let (ty, layout) = (TensorType::new(DType::F32, [4u64, 5]), Layout::RowMajor);
        let weight = Parameter { name: "w".into(), ty, stacked: false, layout, origin: Origin::Checkpoint, cuts };
        assert_eq!((weight.parts(&mesh), weight.whole(&mesh).to_string()), (6, "f32[8, 15]".to_owned()));
        // Rank 4 is dp 1, mp 1.
        assert_eq!(weight.part(&mesh, 4), 3);
        assert_eq!(weight.ranges(&mesh, 3), BTreeMap::from([(0, 4..8), (1, 5..10)]));
        let all: std::collections::BTreeSet<u64> = (0..6).map(|rank| weight.part(&mesh, rank)).collect();
        assert_eq!(all.len(), 6);
    }
}
