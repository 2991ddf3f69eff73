//! What only picked rows need waits until they are picked.
//!
//! ```text
//! Before: `@body` returns `%4` of `%4, %5 = repeat @block over layers 0..24 carry(%3) ..`;
//!         `@head(%hidden, %pick, ..)` begins with `%0 = gather %hidden, %pick : f32[R, 1024]`
//! After:  in `@body`, `%4, %5 = repeat @block over layers 0..23 ..`, `%6, %7 = repeat @block.early over layers 23..24
//!         carry(%4) ..`, `%8 = concat %4, %6 : f32[N, 2048]`, which it returns;
//!         in `@head`, `%0 = gather %hidden, %pick : f32[R, 2048]`, `%1 = slice %0 ..`, `%2 = repeat @block.late over layers
//!         23..24 carry(%1) .. with(%0) : f32[R, 1024]`
//! ```
//!
//! A prompt has hundreds of rows, and the logits of one are asked for. All of them are cached and attended to, but what the
//! last layer does after its attention goes row by row, into nothing but the logits: three quarters of its products.
//!
//! Which operations go row by row their letters say ([`sharding`](bloomery_ir::sharding)): the first letter of the result is
//! the first of every operand that has rows. The late part of a block is all of these that nothing but its result needs. It
//! reads a few values of the early part, which are as wide as the stream; they go to the other graph side by side in its
//! place, so that interfaces stay what they were.
//!
//! This is for one rank, and for weights that stay as they are: ranks are proven by what the layers make of every row, and
//! training asks for all of them.

use crate::pass::{Context, Pass, PassError};
use crate::pipeline;
use crate::rewrite::Rewrite;
use bloomery_ir::graph::Role;
use bloomery_ir::ops::{concat::Concat, repeat::Repeat, reshape::Reshape, slice::Slice};
use bloomery_ir::sharding::{Rule, WHOLE};
use bloomery_ir::{Builder, Extent, Graph, Input, Module, Node, Op, SymbolBound, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
pub(crate) const PASS: Pass = Pass { name: "defer", run: defer };

fn defer(module: Module, cx: &Context<'_>) -> Result<Module, PassError> {
    if cx.inference.is_none() || !module.mesh.axes.is_empty() {
        return Ok(module);
    }
    let entries = pipeline::entered(&module, cx);
    let graph = |name: &str| module.graph(name);
    let outputs = entries.iter().flat_map(|from| from.outputs.iter().enumerate().map(move |output| (from, output)));
    let mut pairs = outputs.flat_map(|(from, output)| entries.iter().map(move |to| (from, output, to)));
    let found = pairs.find_map(|(from, (output, name), to)| {
        let (layers, picked) = (Layers::of(&module, graph(&from.graph)?, output)?, Picked::of(graph(&to.graph)?, name)?);
        Some((Parts::of(layers.block)?, layers, picked))
    });
    let Some((parts, layers, picked)) = found else { return Ok(module) };
    let (early, late) = (parts.early(&module, &layers)?, parts.late(&module, picked.rows)?);
    let (body, head) = (layers.rebuilt(&module, &parts, &early)?, picked.rebuilt(&module, &parts, &layers, &late)?);
    let graphs = module.graphs.iter().flat_map(|graph| match graph {
        graph if std::ptr::eq(graph, layers.graph) => vec![body.clone()],
        graph if std::ptr::eq(graph, layers.block) => vec![graph.clone(), early.clone(), late.clone()],
        graph if std::ptr::eq(graph, picked.graph) => vec![head.clone()],
        graph => vec![graph.clone()],
    });
    Ok(Module { graphs: graphs.collect(), ..module.clone() })
}

/// A graph that returns what goes through its layers.
struct Layers<'a> {
    graph: &'a Graph,
    node: &'a Node,
    repeat: &'a Repeat,
    block: &'a Graph,
}

impl<'a> Layers<'a> {
    /// Of the graph's output at this place, if it is all that several layers carry, and nobody else reads it.
    fn of(module: &'a Module, graph: &'a Graph, output: usize) -> Option<Layers<'a>> {
        let stream = *graph.outputs.get(output)?;
        let node = &graph.nodes[graph.definitions()[stream.index()]?];
        let Op::Repeat(repeat) = &node.op else { return None };
        let forward = repeat.carry == 1 && repeat.collect == 0 && !repeat.reverse && repeat.count() > 1;
        let returned = graph.outputs.iter().filter(|returned| **returned == stream).count();
        let only_returned = returned == 1 && graph.readers()[stream.index()].is_empty();
        let layers = Layers { graph, node, repeat, block: module.graph(&repeat.body)? };
        (node.results[0] == stream && forward && only_returned).then_some(layers)
    }

    /// All layers but the last, of that one the early part, and what the late part reads side by side.
    fn rebuilt(&self, module: &Module, parts: &Parts<'_>, early: &Graph) -> Result<Graph, PassError> {
        let graphs = module.graphs.iter().chain([early]);
        let mut rewrite = Rewrite::among(PASS.name, self.graph, &module.mesh, graphs, TensorType::clone);
        for node in &self.graph.nodes {
            if !std::ptr::eq(node, self.node) {
                rewrite.copy(node)?;
                continue;
            }
            let last = self.repeat.to - 1;
            let before = rewrite.node(Repeat { to: last, ..self.repeat.clone() }, &rewrite.values(&node.operands))?;
            let mut operands = vec![before[0]; parts.made.len()];
            for input in parts.inputs(false) {
                let state = self.repeat.states().find(|(operand, _)| *operand == input.index());
                let given = rewrite.value(node.operands[input.index()]);
                operands.push(state.map_or(given, |(_, result)| before[result]));
            }
            let results = rewrite.node(self.last(early, parts.made.len(), &parts.inputs(false)), &operands)?;
            let (made, states) = results.split_at(parts.made.len());
            let stream = if parts.reads_stream { &before[..1] } else { &[] };
            let beside = rewrite.node(Concat { dim: 1 }, &[stream, made].concat())?;
            rewrite.replace(&node.results, &[&beside, states].concat());
        }
        Ok(rewrite.finish())
    }

    /// The last layer of a part, which carries so many values and has these of the block's other inputs.
    fn last(&self, part: &Graph, carry: usize, inputs: &[ValueId]) -> Repeat {
        let slices = self.repeat.carry..self.repeat.carry + self.repeat.slice;
        let states = slices.end..slices.end + self.repeat.state;
        let count = |of: &dyn Fn(usize) -> bool| inputs.iter().filter(|input| of(input.index())).count();
        Repeat {
            body: part.name.clone(),
            from: self.repeat.to - 1,
            carry,
            slice: count(&|input| slices.contains(&input)),
            state: count(&|input| states.contains(&input)),
            with: count(&|input| input >= states.end),
            ..self.repeat.clone()
        }
    }
}

/// A graph that takes a stream, and reads the rows of it that it is told.
struct Picked<'a> {
    graph: &'a Graph,
    stream: ValueId,
    gather: &'a Node,
    /// The number of picked rows.
    rows: &'a SymbolBound,
}

impl<'a> Picked<'a> {
    fn of(graph: &'a Graph, name: &str) -> Option<Picked<'a>> {
        let stream = graph.input(name)?;
        let [reader] = graph.readers()[stream.index()][..] else { return None };
        let gather = &graph.nodes[reader];
        let picks = matches!(gather.op, Op::Gather(_)) && gather.operands[0] == stream && !graph.outputs.contains(&stream);
        let extent = &graph.ty(gather.results[0]).dims.first()?.extent;
        let rows = graph.symbols.iter().find(|symbol| symbol.extent() == *extent)?;
        picks.then_some(Picked { graph, stream, gather, rows })
    }

    /// The same, with the late part of the last layer behind the gather.
    fn rebuilt(&self, module: &Module, parts: &Parts<'_>, layers: &Layers<'_>, late: &Graph) -> Result<Graph, PassError> {
        let Graph { name, symbols, .. } = self.graph;
        let mut part = Part::new(name, symbols.clone(), module, module.graphs.iter().chain([late]));
        for (i, Input { name, role, ty }) in self.graph.inputs.iter().enumerate() {
            let value = ValueId(i as u32);
            let ty = if value == self.stream { parts.beside(ty) } else { ty.clone() };
            part.input(value, name, *role, ty);
        }
        let inputs = parts.inputs(true);
        let mut weights = vec![];
        for &input in &inputs {
            let Input { name, role, ty } = &layers.graph.inputs[layers.node.operands[input.index()].index()];
            let known = self.graph.input(name).map(|known| part.values[&known]);
            weights.push(known.unwrap_or_else(|| part.builder.input(name, *role, ty.clone())));
        }
        for node in &self.graph.nodes {
            let results = part.copy(node)?;
            if std::ptr::eq(node, self.gather) {
                let first = part.node(parts.columns(0), &results)?;
                let repeat = Repeat { with: 1, ..layers.last(late, 1, &inputs) };
                let stream = part.node(repeat, &[&first, &weights[..], &results].concat())?;
                part.values.insert(node.results[0], stream[0]);
            }
        }
        Ok(part.finish(&self.graph.outputs))
    }
}

/// What comes into a block and goes out of it: its first input.
const STREAM: ValueId = ValueId(0);

/// A block in two.
struct Parts<'a> {
    block: &'a Graph,
    /// Which nodes are late.
    late: Vec<bool>,
    /// Elements of a row of the stream.
    width: u64,
    /// Whether the late part reads the stream as it comes.
    reads_stream: bool,
    /// What else with rows it reads: results of the early part.
    made: Vec<ValueId>,
}

impl<'a> Parts<'a> {
    /// None where nothing is late, or it reads something else than weights and rows as wide as the stream.
    fn of(block: &'a Graph) -> Option<Parts<'a>> {
        let [rows, width] = &block.ty(STREAM).dims[..] else { return None };
        let late = late_nodes(block, &rows.extent);
        let width = width.extent.as_number()?;
        let mut parts = Parts { block, late, width, reads_stream: false, made: vec![] };
        let results: BTreeSet<ValueId> = parts.nodes(true).flat_map(|node| &node.results).copied().collect();
        let read = parts.read(true);
        parts.reads_stream = read.contains(&STREAM);
        parts.made = read.into_iter().filter(|v| v.index() >= block.inputs.len() && !results.contains(v)).collect();
        let weights = parts.inputs(true).iter().all(|input| block.inputs[input.index()].role == Role::Parameter);
        let as_wide = parts.made.iter().all(|&made| parts.is_as_wide(made));
        // The first piece is carried into the late part, as the stream was.
        let alike = parts.pieces().first().is_some_and(|&first| block.ty(first).unnamed() == block.ty(STREAM).unnamed());
        let ends = results.contains(block.outputs.first()?);
        (ends && weights && as_wide && alike && !parts.made.is_empty()).then_some(parts)
    }

    fn nodes(&self, late: bool) -> impl Iterator<Item = &'a Node> + '_ {
        self.block.nodes.iter().zip(&self.late).filter(move |(_, is_late)| **is_late == late).map(|(node, _)| node)
    }

    /// What the nodes of a part read.
    fn read(&self, late: bool) -> BTreeSet<ValueId> {
        self.nodes(late).flat_map(|node| &node.operands).copied().collect()
    }

    /// The block's inputs, but for the stream, that a part reads.
    fn inputs(&self, late: bool) -> Vec<ValueId> {
        let inputs = 1..self.block.inputs.len();
        self.read(late).into_iter().filter(|value| inputs.contains(&value.index())).collect()
    }

    /// What the late part reads that has rows, as it lies side by side.
    fn pieces(&self) -> Vec<ValueId> {
        self.reads_stream.then_some(STREAM).into_iter().chain(self.made.iter().copied()).collect()
    }

    /// The type of all pieces side by side, for the rows of the stream's.
    fn beside(&self, stream: &TensorType) -> TensorType {
        let mut ty = stream.clone();
        ty.dims[1].extent = Extent::number(self.width * self.pieces().len() as u64);
        ty
    }

    /// Where a piece lies among them.
    fn columns(&self, piece: usize) -> Slice {
        let from = piece as u64 * self.width;
        Slice { dim: 1, from, to: from + self.width }
    }

    /// Whether a value has as many rows as the stream, each of as many elements of its type.
    fn is_as_wide(&self, value: ValueId) -> bool {
        let (ty, stream) = (self.block.ty(value), self.block.ty(STREAM));
        let mut extents = ty.extents();
        let rows = extents.next() == stream.extents().next();
        let width = extents.try_fold(1, |width, extent| Some(width * extent.as_number()?));
        rows && width == Some(self.width) && ty.dtype == stream.dtype
    }

    /// The stream and what else it reads, to what it makes for the late part, as rows of the stream, and to states.
    fn early(&self, module: &Module, layers: &Layers<'_>) -> Result<Graph, PassError> {
        let name = format!("{}.early", self.block.name);
        let mut part = Part::new(&name, self.block.symbols.clone(), module, &module.graphs);
        let Input { name, role, ty } = &self.block.inputs[STREAM.index()];
        part.input(STREAM, name, *role, ty.clone());
        // A place for each value that is carried out; what is carried in is the stream every time.
        for (i, &made) in self.made.iter().enumerate().skip(1) {
            part.input(made, &format!("{name}.{i}"), *role, ty.clone());
        }
        part.inputs(self.block, &self.inputs(false));
        for node in self.nodes(false) {
            part.copy(node)?;
        }
        let mut outputs = vec![];
        for made in &self.made {
            outputs.push(part.shaped(part.values[made], self.block.ty(STREAM))?);
        }
        outputs.extend(layers.repeat.states().map(|(_, result)| part.values[&self.block.outputs[result]]));
        Ok(part.builder.finish(&outputs))
    }

    /// The first piece, weights, and all pieces side by side, to the stream.
    fn late(&self, module: &Module, rows: &SymbolBound) -> Result<Graph, PassError> {
        let picked = |ty: &TensorType| {
            let mut ty = ty.unnamed();
            ty.dims[0].extent = rows.extent();
            ty
        };
        let name = format!("{}.late", self.block.name);
        let mut part = Part::new(&name, vec![rows.clone()], module, &module.graphs);
        let (stream, pieces) = (&self.block.inputs[STREAM.index()], self.pieces());
        part.input(pieces[0], &stream.name, stream.role, picked(&stream.ty));
        part.inputs(self.block, &self.inputs(true));
        let beside = part.builder.input("picked", Role::Plain, picked(&self.beside(&stream.ty)));
        for (i, &piece) in pieces.iter().enumerate().skip(1) {
            let columns = part.node(self.columns(i), &[beside])?;
            let value = part.shaped(columns[0], &picked(self.block.ty(piece)))?;
            part.values.insert(piece, value);
        }
        for node in self.nodes(true) {
            part.copy(node)?;
        }
        Ok(part.finish(&self.block.outputs[..1]))
    }
}

/// A graph in the making.
struct Part<'a> {
    name: String,
    builder: Builder<'a>,
    /// What stands for the values of the graph that it is made of.
    values: BTreeMap<ValueId, ValueId>,
}

impl<'a> Part<'a> {
    fn new(
        name: &str,
        symbols: Vec<SymbolBound>,
        module: &'a Module,
        callees: impl IntoIterator<Item = &'a Graph>,
    ) -> Part<'a> {
        let builder = Builder::new(name, symbols, &module.mesh, callees);
        Part { name: name.to_owned(), builder, values: BTreeMap::new() }
    }

    /// An input that stands for a value.
    fn input(&mut self, value: ValueId, name: &str, role: Role, ty: TensorType) {
        self.values.insert(value, self.builder.input(name, role, ty));
    }

    /// Some inputs of a graph.
    fn inputs(&mut self, graph: &Graph, inputs: &[ValueId]) {
        for &input in inputs {
            let Input { name, role, ty } = &graph.inputs[input.index()];
            self.input(input, name, *role, ty.clone());
        }
    }

    fn node(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<Vec<ValueId>, PassError> {
        let name = &self.name;
        self.builder.node(op, operands).map_err(|error| PassError::Type { pass: PASS.name, graph: name.clone(), error })
    }

    /// A node of the other graph.
    fn copy(&mut self, node: &Node) -> Result<Vec<ValueId>, PassError> {
        let operands: Vec<ValueId> = node.operands.iter().map(|operand| self.values[operand]).collect();
        let results = self.node(node.op.clone(), &operands)?;
        self.values.extend(node.results.iter().copied().zip(results.iter().copied()));
        Ok(results)
    }

    /// A value with the extents of a type that holds as much.
    fn shaped(&mut self, value: ValueId, ty: &TensorType) -> Result<ValueId, PassError> {
        let dims: Vec<Extent> = ty.extents().cloned().collect();
        if self.builder.ty(value).extents().eq(&dims) {
            return Ok(value);
        }
        self.node(Reshape { dims }, &[value]).map(|results| results[0])
    }

    fn finish(self, outputs: &[ValueId]) -> Graph {
        let outputs: Vec<ValueId> = outputs.iter().map(|output| self.values[output]).collect();
        self.builder.finish(&outputs)
    }
}

/// For each node whether it goes row by row, and only late nodes and the block's first output need it.
fn late_nodes(block: &Graph, rows: &Extent) -> Vec<bool> {
    let readers = block.readers();
    let mut late = vec![false; block.nodes.len()];
    for (i, node) in block.nodes.iter().enumerate().rev() {
        let returned = block.outputs[1..].iter().any(|output| node.results.contains(output));
        let mut readers = node.results.iter().flat_map(|result| &readers[result.index()]);
        late[i] = !returned && readers.all(|reader| late[*reader]) && goes_by_rows(block, node, rows);
    }
    late
}

/// Whether a node's result has rows, and each follows from the same row of the operands that have some.
fn goes_by_rows(block: &Graph, node: &Node, rows: &Extent) -> bool {
    let (types, [result]) = (block.types_of(&node.operands), &node.results[..]) else { return false };
    let Some(rule) = Rule::of(node.op.def(), &types) else { return false };
    let Some(letter) = rule.result.first().filter(|letter| *letter != WHOLE) else { return false };
    let has_rows = |ty: &TensorType| ty.extents().next() == Some(rows);
    let fits = |(letters, ty): (&Vec<String>, &TensorType)| {
        let first = letters.first() == Some(letter) && has_rows(ty);
        let elsewhere = letters.iter().skip(first.into()).any(|other| other == letter);
        !elsewhere && ty.extents().skip(first.into()).all(|extent| extent.as_number().is_some())
    };
    // These two say their extents themselves, the number of rows among them.
    let says_rows = matches!(node.op, Op::Reshape(_) | Op::Broadcast(_));
    !says_rows && has_rows(block.ty(*result)) && rule.operands.iter().zip(&types).all(fits)
}
