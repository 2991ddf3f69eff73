//! What calls of a program compute and touch: arithmetic operations, and bytes of weights, states and the rest.
//!
//! Operations say how much they are ([`OpDef::flops_in`](crate::OpDef::flops_in)) and, where that is not all of it,
//! how much of an operand they read. Bytes are those that must come from or go to memory once: a cache of keys that
//! eight rows of a tile read counts as read once. Absent: clocks, and what a machine makes of it.

use crate::extent::{Bindings, Extent};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::Op;
use crate::program::{Entry, Launch, Place, Program, Step, View};
use crate::types::TensorType;
use std::collections::BTreeMap;
use std::ops::{AddAssign, SubAssign};

/// Tokens of one sequence in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Position of the first in its sequence: how many came before.
    pub first: u64,
    /// How many.
    pub tokens: u64,
}

/// The sizes of one call.
#[derive(Clone, Copy, Debug)]
pub struct Sizes<'a> {
    /// Values of the program's names.
    pub bindings: &'a Bindings,
    /// The sequences, for what depends on their lengths.
    pub spans: &'a [Span],
}

impl Sizes<'_> {
    /// The number an extent is.
    ///
    /// # Panics
    /// When a name has no value.
    pub fn of(&self, extent: &Extent) -> u64 {
        extent.eval(self.bindings).expect("names have values")
    }
}

/// What is computed and touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// How often something was launched.
    pub launches: u64,
    /// Operations of products with matrices.
    pub matmul_flops: u64,
    /// Operations of attention.
    pub attention_flops: u64,
    /// All other operations; a division or an exponential counts as the operation's cost says.
    pub other_flops: u64,
    /// Bytes of weights read.
    pub weight_bytes: u64,
    /// Bytes of states (the cache) read or written.
    pub state_bytes: u64,
    /// Bytes of inputs, outputs and intermediate values.
    pub other_bytes: u64,
}

impl Work {
    /// Operations of products, with matrices and of attention.
    pub fn product_flops(&self) -> u64 {
        self.matmul_flops + self.attention_flops
    }

    /// All operations.
    pub fn flops(&self) -> u64 {
        self.product_flops() + self.other_flops
    }

    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.streamed_bytes() + self.other_bytes
    }

    /// Bytes that no cache of a processor holds from one call to the next: weights and states.
    pub fn streamed_bytes(&self) -> u64 {
        self.weight_bytes + self.state_bytes
    }

    /// The same work so many times.
    pub fn times(self, count: u64) -> Work {
        Work {
            launches: self.launches * count,
            matmul_flops: self.matmul_flops * count,
            attention_flops: self.attention_flops * count,
            other_flops: self.other_flops * count,
            weight_bytes: self.weight_bytes * count,
            state_bytes: self.state_bytes * count,
            other_bytes: self.other_bytes * count,
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Work) {
        self.launches += other.launches;
        self.matmul_flops += other.matmul_flops;
        self.attention_flops += other.attention_flops;
        self.other_flops += other.other_flops;
        self.weight_bytes += other.weight_bytes;
        self.state_bytes += other.state_bytes;
        self.other_bytes += other.other_bytes;
    }
}

impl SubAssign for Work {
    fn sub_assign(&mut self, other: Work) {
        self.launches -= other.launches;
        self.matmul_flops -= other.matmul_flops;
        self.attention_flops -= other.attention_flops;
        self.other_flops -= other.other_flops;
        self.weight_bytes -= other.weight_bytes;
        self.state_bytes -= other.state_bytes;
        self.other_bytes -= other.other_bytes;
    }
}

/// What a row alone does with a head's part of a whole page of the cache, if this kernel attends to one: the work that
/// is not there where the row skips the page.
pub fn page_work(kernel: &Graph, sizes: &Sizes<'_>) -> Option<Work> {
    let attention = kernel.nodes.iter().find(|node| matches!(node.op, Op::AlibiAttention(_)))?;
    let cache = kernel.ty(attention.operands[1]);
    let [_, two, _, tokens, d] = [0, 1, 2, 3, 4].map(|dim| sizes.of(&cache.dims[dim].extent));
    let elements = two * tokens * d;
    Some(Work { attention_flops: 2 * elements, state_bytes: cache.dtype.bytes(elements), ..Work::default() })
}

/// The work of one call of an entry on all ranks, by kernel; under no kernel that of copies and collectives.
///
/// # Panics
/// When a name of the program has no value.
pub fn entry_work(program: &Program, entry: &Entry, sizes: &Sizes<'_>) -> BTreeMap<Option<usize>, Work> {
    let mut works = BTreeMap::new();
    add_steps(program, &entry.steps, program.mesh.ranks(), sizes, &mut works);
    works
}

fn add_steps(
    program: &Program,
    steps: &[Step],
    times: u64,
    sizes: &Sizes<'_>,
    works: &mut BTreeMap<Option<usize>, Work>,
) {
    for step in steps {
        let (key, work) = match step {
            Step::Launch(launch) => (Some(launch.kernel), launch_work(program, launch, sizes)),
            Step::Copy { from, to } | Step::Collective { from, to, .. } => (None, copy_work(from, to, sizes)),
            Step::Send { what } => (None, copy_work(what, what, sizes)),
            Step::Stage { stages, steps } => {
                // Outside of stages a step is done by all ranks, inside by those of one.
                add_steps(program, steps, program.ranks_per_stage() * (stages.end - stages.start), sizes, works);
                continue;
            }
            Step::Loop { from, to, steps, .. } => {
                add_steps(program, steps, times * (to - from), sizes, works);
                continue;
            }
        };
        let mut all = work.times(times);
        if key.is_none() {
            // What moves between ranks, or on each of them, they do together.
            all.launches /= program.ranks_per_stage();
        }
        *works.entry(key).or_default() += all;
    }
}

fn copy_work(from: &View, to: &View, sizes: &Sizes<'_>) -> Work {
    let mut work = Work { launches: 1, ..Work::default() };
    let bytes = view_bytes(from, sizes);
    [from, to].into_iter().for_each(|view| touch(&mut work, view, bytes));
    work
}

fn launch_work(program: &Program, launch: &Launch, sizes: &Sizes<'_>) -> Work {
    let graph = &program.kernels[launch.kernel].graph;
    let mut work = Work { launches: 1, ..Work::default() };
    for node in &graph.nodes {
        let (operands, results) = types(graph, node);
        let flops = node.op.def().flops_in(&operands, &results, sizes);
        match node.op {
            Op::MatMul(_) => work.matmul_flops += flops,
            Op::AlibiAttention(_) => work.attention_flops += flops,
            _ => work.other_flops += flops,
        }
    }
    for (i, view) in launch.inputs.iter().enumerate() {
        let whole = view_bytes(view, sizes);
        touch(&mut work, view, part_read(graph, ValueId(i as u32), sizes).map_or(whole, |part| part.min(whole)));
    }
    for (&output, view) in graph.outputs.iter().zip(&launch.outputs) {
        let whole = view_bytes(view, sizes);
        touch(&mut work, view, part_written(graph, output, sizes).map_or(whole, |part| part.min(whole)));
    }
    work
}

fn touch(work: &mut Work, view: &View, bytes: u64) {
    match view.place {
        Place::Parameter(_) => work.weight_bytes += bytes,
        Place::State(_) => work.state_bytes += bytes,
        Place::Arena { .. } | Place::Io(_) | Place::Coordinate(_) => work.other_bytes += bytes,
    }
}

/// Bytes of a view, padding of its layout included.
fn view_bytes(view: &View, sizes: &Sizes<'_>) -> u64 {
    let shape = view.ty.shape(sizes.bindings).expect("names have values");
    view.layout.bytes(&shape, view.ty.dtype)
}

/// Bytes of an input that its readers take, when every one of them takes a part.
fn part_read(graph: &Graph, input: ValueId, sizes: &Sizes<'_>) -> Option<u64> {
    let mut read = 0;
    for node in &graph.nodes {
        let (operands, results) = types(graph, node);
        for (i, _) in node.operands.iter().enumerate().filter(|(_, operand)| **operand == input) {
            read += node.op.def().reads(i, &operands, &results, sizes)?;
        }
    }
    let returned = graph.outputs.contains(&input);
    (!returned).then(|| graph.ty(input).dtype.bytes(read))
}

/// Bytes of an output that its operation writes, when that is a part.
fn part_written(graph: &Graph, output: ValueId, sizes: &Sizes<'_>) -> Option<u64> {
    let node = graph.nodes.iter().find(|node| node.results.first() == Some(&output))?;
    let (operands, results) = types(graph, node);
    let written = node.op.def().writes(&operands, &results, sizes)?;
    Some(graph.ty(output).dtype.bytes(written))
}

fn types(graph: &Graph, node: &Node) -> (Vec<TensorType>, Vec<TensorType>) {
    (graph.types_of(&node.operands), graph.types_of(&node.results))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mesh;
    use crate::layout::Layout;
    use crate::parse::{parse, parse_type};
    use crate::program::{Kernel, KernelKind};

    /// The work of one launch; `places` are those of the inputs, then of the outputs.
    fn work(text: &str, places: &[Place], bindings: &[(&str, u64)], spans: &[Span]) -> Work {
        let graph = parse(text).unwrap().graphs.remove(0);
        let view = |(value, place): (ValueId, &Place)| View {
            place: *place,
            per_layer: false,
            ty: graph.ty(value).clone(),
            layout: if graph.ty(value).rank() == 5 { Layout::CachePages } else { Layout::RowMajor },
        };
        let (inputs, outputs) = places.split_at(graph.inputs.len());
        let launch = Launch {
            kernel: 0,
            inputs: (0..inputs.len()).map(|i| ValueId(i as u32)).zip(inputs).map(view).collect(),
            outputs: graph.outputs.iter().copied().zip(outputs).map(view).collect(),
            wave: 0,
        };
        let kernel = Kernel {
            name: "k".into(),
            kind: KernelKind::Elementwise,
            graph: graph.clone(),
            inputs: vec![],
            outputs: vec![],
            in_place: None,
        };
        let steps = vec![Step::Loop { from: 1, to: 4, reverse: false, steps: vec![Step::Launch(launch)] }];
        let entry =
            Entry { name: "e".into(), group: "e".into(), rows: "N".into(), least: 1, most: 8, arena_bytes: 0, steps };
        let program = Program {
            name: "p".into(),
            mesh: Mesh::default(),
            replicas: 1,
            stages: vec![],
            symbols: vec![],
            parameters: vec![],
            states: vec![],
            ios: vec![],
            kernels: vec![kernel],
            entries: vec![],
        };
        let bindings: Bindings = bindings.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let works = entry_work(&program, &entry, &Sizes { bindings: &bindings, spans });
        assert_eq!(works.keys().collect::<Vec<_>>(), [&Some(0)]);
        works[&Some(0)]
    }

    const ARENA: Place = Place::Arena { offset: 0, stride: 0 };

    #[test]
    fn products_count_twice_their_terms_and_all_their_weights() {
        let text = "graph @k<N: 1..8>(%x: f32[N, 6], param %w: f16[6, 10]) {
            %0 = matmul %x, %w : f32[N, 10] return %0 }";
        let one = work(text, &[ARENA, Place::Parameter(0), ARENA], &[("N", 5)], &[]);
        let expect = Work {
            launches: 3,
            matmul_flops: 3 * 2 * 5 * 6 * 10,
            weight_bytes: 3 * 2 * 60,
            other_bytes: 3 * 4 * (5 * 6 + 5 * 10),
            ..Work::default()
        };
        assert_eq!(one, expect);
        assert_eq!((one.flops(), one.bytes()), (1800, 360 + 960));
    }

    #[test]
    fn a_gather_reads_the_rows_it_is_asked_for() {
        let text = "graph @k<N: 1..8>(%ids: i32[N], param %w: f16[100, 6]) {
            %0 = gather %w, %ids : f16[N, 6] return %0 }";
        let gathered = work(text, &[Place::Io(0), Place::Parameter(0), ARENA], &[("N", 2)], &[]);
        assert_eq!((gathered.weight_bytes, gathered.flops()), (3 * 2 * 2 * 6, 0));
        // A table that is used as a whole beside it is read as a whole.
        let text = "graph @k<N: 1..8>(%ids: i32[N], param %w: f16[100, 6]) {
            %0 = gather %w, %ids : f16[N, 6] %1 = neg %w : f16[100, 6] return %0, %1 }";
        let whole = work(text, &[Place::Io(0), Place::Parameter(0), ARENA, ARENA], &[("N", 2)], &[]);
        assert_eq!(whole.weight_bytes, 3 * 2 * 600);
    }

    #[test]
    fn attention_counts_by_positions_and_reads_each_cache_once() {
        let text = "graph @k<N: 1..8, S: 1..2, P: 1..4, C: 1..9>(%q: f32[N, 2, 16], state %kv: f16[C, 2, 2, 64, 16],
            %rows: i32[S, 3], %pages: i32[S, P], param %slopes: f32[2]) {
            %0 = alibi_attention %q, %kv, %rows, %pages, %slopes {scale = 0.5} : f32[N, 2, 16] return %0 }";
        let places = [ARENA, Place::State(0), Place::Io(1), Place::Io(2), Place::Parameter(0), ARENA];
        let names = [("N", 4), ("S", 2), ("P", 4), ("C", 9)];
        let spans = [Span { first: 10, tokens: 3 }, Span { first: 0, tokens: 1 }];
        let attended = work(text, &places, &names, &spans);
        // Positions 11, 12, 13 of one sequence and 1 of the other, two products over two heads of 16.
        assert_eq!(attended.attention_flops, 3 * (11 + 12 + 13 + 1) * 4 * 32);
        assert_eq!(attended.state_bytes, 3 * (13 + 1) * 2 * 32 * 2);
    }

    #[test]
    fn a_row_that_sees_whole_pages_works_on_each_head_of_them() {
        let text = "graph @k<N: 1..8, S: 1..2, P: 1..4, C: 1..9>(%q: f32[N, 2, 16], state %kv: f16[C, 2, 2, 64, 16],
            %rows: i32[S, 3], %pages: i32[S, P], param %slopes: f32[2]) {
            %0 = alibi_attention %q, %kv, %rows, %pages, %slopes {scale = 0.5} : f32[N, 2, 16] return %0 }";
        let places = [ARENA, Place::State(0), Place::Io(1), Place::Io(2), Place::Parameter(0), ARENA];
        let names = [("N", 1), ("S", 1), ("P", 4), ("C", 9)];
        let mut attended = work(text, &places, &names, &[Span { first: 127, tokens: 1 }]);
        let bindings: Bindings = names.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let page = page_work(&parse(text).unwrap().graphs[0], &Sizes { bindings: &bindings, spans: &[] }).unwrap();
        // Three launches, two heads, two pages.
        attended -= page.times(3 * 2 * 2);
        assert_eq!((attended.attention_flops, attended.state_bytes), (0, 0));
    }

    #[test]
    fn an_append_writes_its_tokens() {
        let text = "graph @k<N: 1..8, S: 1..2, P: 1..4, C: 1..9>(state %kv: f16[C, 2, 2, 64, 16], %k: f32[N, 2, 16],
            %v: f32[N, 2, 16], %rows: i32[S, 3], %pages: i32[S, P]) {
            %0 = cache_append %kv, %k, %v, %rows, %pages : f16[C, 2, 2, 64, 16] return %0 }";
        let places = [Place::State(0), ARENA, ARENA, Place::Io(1), Place::Io(2), Place::State(0)];
        let appended = work(text, &places, &[("N", 4), ("S", 1), ("P", 4), ("C", 9)], &[]);
        assert_eq!(appended.state_bytes, 3 * 4 * 2 * 32 * 2);
    }

    #[test]
    fn copies_touch_both_sides() {
        let view =
            |place| View { place, per_layer: false, ty: parse_type("f32[8]").unwrap(), layout: Layout::RowMajor };
        let sizes = Sizes { bindings: &Bindings::new(), spans: &[] };
        let copied = copy_work(&view(Place::State(0)), &view(ARENA), &sizes);
        assert_eq!(copied, Work { launches: 1, state_bytes: 32, other_bytes: 32, ..Work::default() });
    }
}
