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
//! An operation's letters say whether it goes row by row ([`sharding`](bloomery_ir::sharding)): the first letter of its
//! result is the first of every operand that has rows. The late half of a block is every such operation that only the
//! block's result needs. What it reads of the early half is handed on beside the stream, under the same name, so it has to
//! be as wide; where that or anything else does not fit, everything stays as it is.
//!
//! This is for one rank, and for weights that stay as they are: ranks are proven by what the layers make of every row, and
//! training asks for all of them.

use crate::pass::{Context, Pass, PassError};
use crate::pipeline;
use crate::rewrite::Rewrite;
use bloomery_ir::graph::Role;
use bloomery_ir::ops::{concat::Concat, repeat::Repeat, reshape::Reshape, slice::Slice};
use bloomery_ir::program::Interface;
use bloomery_ir::sharding::{Rule, WHOLE};
use bloomery_ir::{Extent, Graph, Input, Module, Node, Op, SymbolBound, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
pub(crate) const PASS: Pass = Pass { name: "defer", run: defer };

fn defer(module: Module, cx: &Context<'_>) -> Result<Module, PassError> {
    if cx.inference.is_none() || !module.mesh.axes.is_empty() || !module.stages.is_empty() {
        return Ok(module);
    }
    let Some(deferral) = Deferral::find(&module, &pipeline::entered(&module, cx)) else { return Ok(module) };
    let (early, late) = (deferral.early()?, deferral.late()?);
    let (body, head) = (deferral.body(&early)?, deferral.head(&late)?);
    let graphs = module.graphs.iter().flat_map(|graph| match graph {
        graph if std::ptr::eq(graph, deferral.body) => vec![body.clone()],
        graph if std::ptr::eq(graph, deferral.block) => vec![graph.clone(), early.clone(), late.clone()],
        graph if std::ptr::eq(graph, deferral.head) => vec![head.clone()],
        graph => vec![graph.clone()],
    });
    let graphs = graphs.collect();
    Ok(Module { graphs, ..module })
}

/// What comes into a block and goes out of it: its first input.
const STREAM: ValueId = ValueId(0);
/// The name of what the late half gets beside weights and the stream.
const PICKED: &str = "picked";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Early,
    Late,
}

/// A last layer that can wait, and where.
struct Deferral<'a> {
    module: &'a Module,
    /// Returns what its layers carry.
    body: &'a Graph,
    /// The node that repeats the block.
    layers: &'a Node,
    repeat: &'a Repeat,
    block: &'a Graph,
    /// Takes the stream, and reads picked rows alone.
    head: &'a Graph,
    gather: &'a Node,
    /// The number of picked rows.
    rows: &'a SymbolBound,
    /// For each node of the block its half.
    halves: Vec<Half>,
    /// Elements of a row of the stream.
    width: u64,
    /// What the late half reads that has rows, as it lies side by side: the stream as it comes, if it reads that, and results
    /// of the early half.
    pieces: Vec<ValueId>,
}

impl<'a> Deferral<'a> {
    /// The first entry whose stream goes to one other entry and nowhere else.
    fn find(module: &'a Module, entries: &[Interface]) -> Option<Deferral<'a>> {
        let entered = pipeline::callees(module);
        let mut pairs = entries.iter().flat_map(|body| entries.iter().map(move |head| (body, head)));
        pairs.find_map(|(from, to)| {
            let (body, head) = (module.graph(&from.graph)?, module.graph(&to.graph)?);
            let apart = from.graph != to.graph && ![&from.graph, &to.graph].iter().any(|name| entered.contains(name.as_str()));
            let takes = |entry: &&Interface, name| module.graph(&entry.graph).is_some_and(|graph| graph.input(name).is_some());
            let mut streams = from.outputs.iter().enumerate().filter(|(_, name)| {
                let takers = entries.iter().filter(|entry| takes(entry, name)).count();
                let makers = entries.iter().filter(|entry| *entry != to && entry.outputs.contains(name)).count();
                apart && (takers, makers) == (1, 1)
            });
            streams.find_map(|(output, name)| Deferral::between(module, (body, output), (head, head.input(name)?)))
        })
    }

    /// From an output of one graph to an input of another.
    fn between(
        module: &'a Module,
        (body, output): (&'a Graph, usize),
        (head, input): (&'a Graph, ValueId),
    ) -> Option<Deferral<'a>> {
        let (layers, repeat) = layers(body, output)?;
        let (gather, rows) = picked(head, input)?;
        let block = module.graph(&repeat.body)?;
        let stream = block.ty(STREAM);
        let [all, width] = &stream.dims[..] else { return None };
        let given = head.ty(input);
        let same = given.dtype == stream.dtype && given.rank() == 2 && given.dims[1].extent == width.extent;
        // Rows that are counted by a number could be anything else that is as many.
        let known = all.extent.as_number().is_some();
        let width = width.extent.as_number().filter(|width| *width < 1 << 32 && same && !known)?;
        let halves = halves(block, &all.extent);
        let mut deferral =
            Deferral { module, body, layers, repeat, block, head, gather, rows, halves, width, pieces: vec![] };
        let (read, made) = (deferral.read(Half::Late), deferral.made(Half::Late));
        let is_input = |value: &ValueId| value.index() < block.inputs.len();
        let pieces = read.into_iter().filter(|value| *value == STREAM || !is_input(value) && !made.contains(value));
        deferral.pieces = pieces.collect();
        deferral.fits().then_some(deferral)
    }

    /// Whether the halves read and make what they can be given and what is asked of them.
    fn fits(&self) -> bool {
        let (early, late) = (self.made(Half::Early), self.made(Half::Late));
        let parted = late.contains(&self.block.outputs[0]) && self.pieces.iter().any(|piece| early.contains(piece));
        // The first piece is carried into the late half, as the stream was.
        let carried = self.pieces.first().map(|&piece| self.block.ty(piece).unnamed());
        let wide = carried == Some(self.block.ty(STREAM).unnamed()) && self.pieces.iter().all(|&piece| self.is_wide(piece));
        let weights = self.inputs(Half::Late).iter().all(|&input| self.is_weight(input));
        let inputs = self.inputs(Half::Early);
        let states = self.repeat.states().all(|(operand, result)| {
            inputs.contains(&ValueId(operand as u32)) && early.contains(&self.block.outputs[result])
        });
        let taken = |half| self.module.graph(&self.name(half)).is_some();
        let free = |input: &Input| input.name != PICKED && !input.name.starts_with("carried.");
        let free = self.block.inputs.iter().all(free);
        parted && wide && weights && states && free && !taken(Half::Early) && !taken(Half::Late)
    }

    /// Whether a value has as many rows as the stream, each of as many elements of its type.
    fn is_wide(&self, value: ValueId) -> bool {
        let (ty, stream) = (self.block.ty(value), self.block.ty(STREAM));
        let mut extents = ty.extents();
        let rows = extents.next() == stream.extents().next();
        let width = extents.try_fold(1u64, |width, extent| width.checked_mul(extent.as_number()?));
        rows && width == Some(self.width) && ty.dtype == stream.dtype
    }

    /// Whether an input of the block is a layer of a parameter of the body, which the head can have as well.
    fn is_weight(&self, input: ValueId) -> bool {
        let Input { role, ty, .. } = &self.block.inputs[input.index()];
        let numbers = ty.extents().all(|extent| extent.as_number().is_some());
        let given = self.body.inputs.get(self.layers.operands[input.index()].index());
        let agrees = |given: &Input, known: &Input| {
            known.name != given.name || known.role == given.role && known.ty.unnamed() == given.ty.unnamed()
        };
        let free = |given: &Input| self.head.inputs.iter().all(|known| agrees(given, known));
        let parameter = given.is_some_and(|given| given.role == Role::Parameter && free(given));
        self.repeat.is_stacked(input.index()) && *role == Role::Parameter && numbers && parameter
    }

    fn nodes(&self, half: Half) -> impl Iterator<Item = &'a Node> + '_ {
        self.block.nodes.iter().zip(&self.halves).filter(move |(_, of)| **of == half).map(|(node, _)| node)
    }

    /// What the nodes of a half read.
    fn read(&self, half: Half) -> BTreeSet<ValueId> {
        self.nodes(half).flat_map(|node| &node.operands).copied().collect()
    }

    /// What they make.
    fn made(&self, half: Half) -> BTreeSet<ValueId> {
        self.nodes(half).flat_map(|node| &node.results).copied().collect()
    }

    /// The block's inputs that they read, but for the stream: in order, as a repeat wants them.
    fn inputs(&self, half: Half) -> Vec<ValueId> {
        let inputs = 1..self.block.inputs.len();
        self.read(half).into_iter().filter(|value| inputs.contains(&value.index())).collect()
    }

    /// The pieces that the early half makes.
    fn handed_on(&self) -> &[ValueId] {
        self.pieces.strip_prefix(&[STREAM]).unwrap_or(&self.pieces)
    }

    fn name(&self, half: Half) -> String {
        format!("{}.{}", self.block.name, if half == Half::Early { "early" } else { "late" })
    }

    /// The last layer of a half, which carries so many values.
    fn last(&self, half: Half, carry: usize) -> Repeat {
        let (slices, states) = (self.repeat.carry + self.repeat.slice, self.repeat.arity() - self.repeat.with);
        let inputs = self.inputs(half);
        let count = |from: usize, to: usize| inputs.iter().filter(|input| (from..to).contains(&input.index())).count();
        Repeat {
            body: self.name(half),
            from: self.repeat.to - 1,
            carry,
            slice: count(0, slices),
            state: count(slices, states),
            with: count(states, usize::MAX),
            ..self.repeat.clone()
        }
    }

    /// The type of all pieces side by side, for the rows of the stream's.
    fn beside(&self, stream: &TensorType) -> TensorType {
        let mut ty = stream.clone();
        ty.dims[1].extent = Extent::number(self.width * self.pieces.len() as u64);
        ty
    }

    /// Where a piece lies among them.
    fn columns(&self, piece: usize) -> Slice {
        let from = piece as u64 * self.width;
        Slice { dim: 1, from, to: from + self.width }
    }

    /// The stream and what else it reads, to what it hands on, as rows of the stream, and to states.
    fn early(&self) -> Result<Graph, PassError> {
        let (name, symbols) = (self.name(Half::Early), self.block.symbols.clone());
        let mut rewrite = Rewrite::part(PASS.name, self.block, &name, symbols, &self.module.mesh, &self.module.graphs);
        let Input { name, role, ty } = &self.block.inputs[STREAM.index()];
        rewrite.input(STREAM, name, *role, ty.clone());
        // A repeat carries in as much as it carries out; nobody reads these.
        for i in 1..self.handed_on().len() {
            rewrite.builder.input(&format!("carried.{i}"), *role, ty.clone());
        }
        self.block_inputs(&mut rewrite, Half::Early);
        self.nodes(Half::Early).try_for_each(|node| rewrite.copy(node).map(drop))?;
        let mut outputs = vec![];
        for &piece in self.handed_on() {
            let value = rewrite.value(piece);
            outputs.push(shaped(&mut rewrite, value, ty)?);
        }
        outputs.extend(rewrite.values(&self.block.outputs[1..]));
        Ok(rewrite.builder.finish(&outputs))
    }

    /// The first piece, weights, and all pieces side by side, to the stream.
    fn late(&self) -> Result<Graph, PassError> {
        let picked = |ty: &TensorType| {
            let mut ty = ty.unnamed();
            ty.dims[0].extent = self.rows.extent();
            ty
        };
        let (name, symbols) = (self.name(Half::Late), vec![self.rows.clone()]);
        let mut rewrite = Rewrite::part(PASS.name, self.block, &name, symbols, &self.module.mesh, &self.module.graphs);
        let Input { name, role, ty } = &self.block.inputs[STREAM.index()];
        rewrite.input(self.pieces[0], name, *role, picked(ty));
        self.block_inputs(&mut rewrite, Half::Late);
        let beside = rewrite.builder.input(PICKED, Role::Plain, picked(&self.beside(ty)));
        for (i, &piece) in self.pieces.iter().enumerate().skip(1) {
            let columns = rewrite.node(self.columns(i), &[beside])?;
            let value = shaped(&mut rewrite, columns[0], &picked(self.block.ty(piece)))?;
            rewrite.replace(&[piece], &[value]);
        }
        self.nodes(Half::Late).try_for_each(|node| rewrite.copy(node).map(drop))?;
        Ok(rewrite.returning(&self.block.outputs[..1]))
    }

    fn block_inputs(&self, rewrite: &mut Rewrite<'_>, half: Half) {
        for input in self.inputs(half) {
            let Input { name, role, ty } = &self.block.inputs[input.index()];
            rewrite.input(input, name, *role, ty.clone());
        }
    }

    /// All layers but the last, of that one the early half, and the pieces side by side.
    fn body(&self, early: &Graph) -> Result<Graph, PassError> {
        let graphs = self.module.graphs.iter().chain([early]);
        let mut rewrite = Rewrite::among(PASS.name, self.body, &self.module.mesh, graphs, TensorType::clone);
        for node in &self.body.nodes {
            if !std::ptr::eq(node, self.layers) {
                rewrite.copy(node)?;
                continue;
            }
            let mut given = rewrite.values(&node.operands);
            let before = rewrite.node(Repeat { to: self.repeat.to - 1, ..self.repeat.clone() }, &given)?;
            for (operand, result) in self.repeat.states() {
                given[operand] = before[result];
            }
            let handed_on = self.handed_on().len();
            let inputs = self.inputs(Half::Early).into_iter().map(|input| given[input.index()]);
            let operands: Vec<ValueId> = std::iter::repeat_n(before[0], handed_on).chain(inputs).collect();
            let results = rewrite.node(self.last(Half::Early, handed_on), &operands)?;
            let (made, states) = results.split_at(handed_on);
            let stream = if self.pieces[0] == STREAM { &before[..1] } else { &[] };
            let beside = rewrite.node(Concat { dim: 1 }, &[stream, made].concat())?;
            rewrite.replace(&node.results, &[&beside, states].concat());
        }
        Ok(rewrite.finish())
    }

    /// The late half behind the gather, of rows that hold all pieces.
    fn head(&self, late: &Graph) -> Result<Graph, PassError> {
        let graphs = self.module.graphs.iter().chain([late]);
        let Graph { name, symbols, .. } = self.head;
        let mut rewrite = Rewrite::part(PASS.name, self.head, name, symbols.clone(), &self.module.mesh, graphs);
        for (i, Input { name, role, ty }) in self.head.inputs.iter().enumerate() {
            let value = ValueId(i as u32);
            let ty = if value == self.gather.operands[0] { self.beside(ty) } else { ty.clone() };
            rewrite.input(value, name, *role, ty);
        }
        let weights = self.head_weights(&mut rewrite);
        for node in &self.head.nodes {
            let results = rewrite.copy(node)?;
            if std::ptr::eq(node, self.gather) {
                let first = rewrite.node(self.columns(0), &results)?;
                let repeat = Repeat { with: 1, ..self.last(Half::Late, 1) };
                let stream = rewrite.node(repeat, &[&first, &weights[..], &results].concat())?;
                rewrite.replace(&node.results, &stream);
            }
        }
        Ok(rewrite.finish())
    }

    /// The body's parameters that the late half needs: the head may have some already.
    fn head_weights(&self, rewrite: &mut Rewrite<'_>) -> Vec<ValueId> {
        let mut known: BTreeMap<&str, ValueId> = BTreeMap::new();
        for (i, input) in self.head.inputs.iter().enumerate() {
            known.insert(&input.name, rewrite.value(ValueId(i as u32)));
        }
        let given = |input: ValueId| &self.body.inputs[self.layers.operands[input.index()].index()];
        let mut weight = |Input { name, role, ty }: &'a Input| {
            *known.entry(name).or_insert_with(|| rewrite.builder.input(name, *role, ty.clone()))
        };
        self.inputs(Half::Late).into_iter().map(|input| weight(given(input))).collect()
    }
}

/// The node that repeats, where it alone makes an output, and that is all that several layers carry.
fn layers(body: &Graph, output: usize) -> Option<(&Node, &Repeat)> {
    let stream = *body.outputs.get(output)?;
    let node = &body.nodes[body.definitions()[stream.index()]?];
    let Op::Repeat(repeat) = &node.op else { return None };
    let forward = repeat.carry == 1 && repeat.collect == 0 && !repeat.reverse && repeat.count() > 1;
    let returned = body.outputs.iter().filter(|returned| **returned == stream).count();
    let only_returned = returned == 1 && body.readers()[stream.index()].is_empty();
    (node.results[0] == stream && forward && only_returned).then_some((node, repeat))
}

/// The node that picks rows of an input, where nothing else reads that, and the number of rows it picks.
fn picked(head: &Graph, input: ValueId) -> Option<(&Node, &SymbolBound)> {
    let [reader] = head.readers()[input.index()][..] else { return None };
    let gather = &head.nodes[reader];
    let picks = matches!(gather.op, Op::Gather(_)) && gather.operands[0] == input && !head.outputs.contains(&input);
    let extent = &head.ty(gather.results[0]).dims.first()?.extent;
    let rows = head.symbols.iter().find(|symbol| symbol.extent() == *extent)?;
    picks.then_some((gather, rows))
}

/// For each node its half: late ones go row by row, and only late nodes and the block's first output need them.
fn halves(block: &Graph, rows: &Extent) -> Vec<Half> {
    let readers = block.readers();
    let mut halves = vec![Half::Early; block.nodes.len()];
    for (i, node) in block.nodes.iter().enumerate().rev() {
        let returned = block.outputs[1..].iter().any(|output| node.results.contains(output));
        let mut readers = node.results.iter().flat_map(|result| &readers[result.index()]);
        if !returned && readers.all(|reader| halves[*reader] == Half::Late) && goes_by_rows(block, node, rows) {
            halves[i] = Half::Late;
        }
    }
    halves
}

/// Whether a node's result has rows, and each follows from the same row of the operands that have some.
fn goes_by_rows(block: &Graph, node: &Node, rows: &Extent) -> bool {
    // These two say their extents themselves, the number of rows among them.
    let says_rows = matches!(node.op, Op::Reshape(_) | Op::Broadcast(_));
    let (types, [result], false) = (block.types_of(&node.operands), &node.results[..], says_rows) else { return false };
    let Some(rule) = Rule::of(node.op.def(), &types) else { return false };
    let Some(letter) = rule.result.first().filter(|letter| *letter != WHOLE) else { return false };
    let has_rows = |ty: &TensorType| ty.extents().next() == Some(rows);
    let fits = |(letters, ty): (&Vec<String>, &TensorType)| {
        let first = letters.first() == Some(letter) && has_rows(ty);
        let elsewhere = letters.iter().skip(first.into()).any(|other| other == letter);
        !elsewhere && ty.extents().skip(first.into()).all(|extent| extent.as_number().is_some())
    };
    has_rows(block.ty(*result)) && rule.operands.iter().zip(&types).all(fits)
}

/// A value with the extents of a type that holds as much.
fn shaped(rewrite: &mut Rewrite<'_>, value: ValueId, ty: &TensorType) -> Result<ValueId, PassError> {
    let dims: Vec<Extent> = ty.extents().cloned().collect();
    if rewrite.builder.ty(value).extents().eq(&dims) {
        return Ok(value);
    }
    rewrite.node(Reshape { dims }, &[value]).map(|results| results[0])
}
