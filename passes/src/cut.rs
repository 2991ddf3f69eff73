//! Stages of a pipeline: which ranks have which layers.
//!
//! Before: `graph @body(%ids, %w: f32[24, 64, 64], ..) { %0 = gather ..; %1 = repeat @block over layers 0..24 carry(%0) .. }`
//! After:  `stage 0..12 [@body = @body.0]`, `stage 12..24 [@body = @body.1, @head = @head]`,
//!         `graph @body.0(%ids, %w: f32[12, 64, 64], ..) { %0 = gather ..; %1 = repeat @block over layers 0..12 .. }`,
//!         `graph @body.1(%carried.0, %w: f32[12, 64, 64], ..) { %0 = repeat @block over layers 0..12 carry(%carried.0) .. }`
//!
//! A graph that repeats is cut through its layers. What it carries goes from stage to stage; what comes before the repeat
//! is the first stage's, what comes after it is the last's, and whatever else a stage needs (a constant, a rank's place)
//! it computes itself. A graph without layers is the last stage's, which has what the layers made. A weight that two stages
//! read, such as a tied table, is an input of both.
//!
//! Stages count layers from their own first, so those with equally many share one graph, and everything later takes as
//! long as there are different stages. How many layers a stage has the strategy says, or costs do: operations for one
//! row of everything, the graphs of the last stage included.

use crate::pass::{Context, Pass, PassError, Stages};
use crate::pipeline;
use crate::rewrite::Rewrite;
use bloomery_ir::extent::Extent;
use bloomery_ir::ops::repeat::Repeat;
use bloomery_ir::program::Interface;
use bloomery_ir::verify::callee;
use bloomery_ir::work::Sizes;
use bloomery_ir::{Bindings, Graph, Input, Module, Node, Op, Part, Role, Stage, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
pub(crate) const PASS: Pass = Pass { name: "cut", run: cut };

fn cut(module: Module, cx: &Context<'_>) -> Result<Module, PassError> {
    let Some(strategy) = cx.strategy.filter(|strategy| strategy.stages != Stages::One) else { return Ok(module) };
    if module.mesh != strategy.mesh || module.mesh.axes.is_empty() {
        let message = "is not of these ranks yet: `shard` comes before `cut`".to_owned();
        return Err(PassError::Refused { pass: PASS.name, graph: first_name(&module), message });
    }
    let stages = module.mesh.axes[0].1;
    let entries = pipeline::entered(&module, cx);
    let mut layered = vec![];
    let mut rest = vec![];
    for graph in entries.iter().filter_map(|interface| module.graph(&interface.graph)) {
        match Layered::of(graph)? {
            Some(graph) => layered.push(graph),
            None => rest.push(graph),
        }
    }
    let layers = match &strategy.stages {
        Stages::Layers(layers) => layers.clone(),
        _ => balanced(&module, &layered, &rest, stages)?,
    };
    check(&layers, stages, &layered)?;
    Cut { module: &module, layers, layered, rest }.module()
}

fn first_name(module: &Module) -> String {
    module.graphs.first().map(|graph| graph.name.clone()).unwrap_or_default()
}

fn refused(graph: &Graph, message: String) -> PassError {
    PassError::Refused { pass: PASS.name, graph: graph.name.clone(), message }
}

/// That every stage has layers, and all of them have all.
fn check(layers: &[u64], stages: u64, layered: &[Layered<'_>]) -> Result<(), PassError> {
    let given: u64 = layers.iter().sum();
    for Layered { graph, repeat, .. } in layered {
        let has = repeat.to;
        if layers.len() as u64 != stages || layers.contains(&0) || given != has {
            let counts: Vec<String> = layers.iter().map(u64::to_string).collect();
            let counts = counts.join(", ");
            return Err(refused(graph, format!("{stages} stages of {counts} layers cannot share its {has} layers")));
        }
    }
    Ok(())
}

/// A graph with layers that can be cut.
struct Layered<'a> {
    graph: &'a Graph,
    /// The node that repeats.
    node: &'a Node,
    repeat: &'a Repeat,
}

impl Layered<'_> {
    /// What there is to cut of a graph, if it has layers.
    fn of(graph: &Graph) -> Result<Option<Layered<'_>>, PassError> {
        let mut repeats = graph.nodes.iter().filter_map(|node| match &node.op {
            Op::Repeat(repeat) => Some((node, repeat)),
            _ => None,
        });
        let Some((node, repeat)) = repeats.next() else { return Ok(None) };
        if repeats.next().is_some() {
            return Err(refused(graph, "repeats more than once: stages share the layers of one repeat".to_owned()));
        }
        let layered = Layered { graph, node, repeat };
        layered.check()?;
        Ok(Some(layered))
    }

    /// All layers, from the first to the last, of inputs that nothing else reads.
    fn check(&self) -> Result<(), PassError> {
        let Layered { graph, node, repeat } = self;
        if repeat.from != 0 || repeat.reverse || repeat.collect > 0 {
            return Err(refused(graph, "repeats in reverse, in part, or collects by layer: that is not cut".to_owned()));
        }
        let readers = graph.readers();
        for operand in self.stacked() {
            let whole = graph.ty(operand).dims[0].extent == Extent::number(repeat.to);
            let input = graph.inputs.get(operand.index());
            if !whole || input.is_none() || readers[operand.index()].len() != 1 {
                let what = input.map_or("a computed value".to_owned(), |input| format!("%{}", input.name));
                return Err(refused(graph, format!("{what} is not read by all {} layers alone", repeat.to)));
            }
        }
        let results = node.results[repeat.carry..].iter();
        if let Some(state) = results.clone().find(|state| !graph.outputs.contains(state)) {
            return Err(refused(graph, format!("does not return state {} of its layers", state.0)));
        }
        Ok(())
    }

    /// Operands of which every layer has its element.
    fn stacked(&self) -> impl Iterator<Item = ValueId> {
        let operands = self.node.operands.iter().enumerate();
        operands.filter(|(i, _)| self.repeat.is_stacked(*i)).map(|(_, operand)| *operand)
    }
}

/// Layers of each stage, so that the one with most work has as little as may be.
fn balanced(module: &Module, layered: &[Layered<'_>], rest: &[&Graph], stages: u64) -> Result<Vec<u64>, PassError> {
    let Some(Layered { graph, repeat, .. }) = layered.first() else { return Ok(vec![]) };
    if stages > repeat.to {
        let most = repeat.to;
        let message = format!("{stages} stages cannot share {most} layers; 1 to {most} do");
        return Err(refused(graph, message));
    }
    let (mut layer, mut first, mut last) = (0, 0, 0);
    for Layered { graph, node, repeat } in layered {
        let before = needed(graph, &node.operands[..repeat.carry], &BTreeSet::new());
        for (i, other) in graph.nodes.iter().enumerate().filter(|(_, other)| !std::ptr::eq(*other, *node)) {
            *(if before.contains(&i) { &mut first } else { &mut last }) += node_cost(module, graph, other);
        }
        layer += cost(module, module.graph(&repeat.body).expect("verified"));
    }
    last += rest.iter().map(|graph| cost(module, graph)).sum::<u64>();
    let mut layers = vec![1; stages as usize];
    for _ in stages..repeat.to {
        let with_one_more = |(stage, layers): (usize, &u64)| {
            let first = if stage == 0 { first } else { 0 };
            let last = if stage + 1 == stages as usize { last } else { 0 };
            (layer * (layers + 1) + first + last, stage)
        };
        let (_, least) = layers.iter().enumerate().map(with_one_more).min().expect("there are stages");
        layers[least] += 1;
    }
    Ok(layers)
}

/// Operations of a graph for one row of everything.
fn cost(module: &Module, graph: &Graph) -> u64 {
    graph.nodes.iter().map(|node| node_cost(module, graph, node)).sum()
}

fn node_cost(module: &Module, graph: &Graph, node: &Node) -> u64 {
    if let Some(body) = callee(&node.op).and_then(|name| module.graph(name)) {
        return cost(module, body);
    }
    let one = |symbol: &bloomery_ir::SymbolBound| (symbol.name.clone(), 1);
    let bindings: Bindings = graph.symbols.iter().map(one).collect();
    let sizes = Sizes { bindings: &bindings, spans: &[] };
    node.op.def().flops_in(&graph.types_of(&node.operands), &graph.types_of(&node.results), &sizes)
}

/// Nodes that some values depend on, not looking behind some others.
fn needed(graph: &Graph, values: &[ValueId], known: &BTreeSet<ValueId>) -> BTreeSet<usize> {
    let definitions = graph.definitions();
    let mut waiting = values.to_vec();
    let mut found = BTreeSet::new();
    while let Some(value) = waiting.pop() {
        let Some(node) = definitions[value.index()].filter(|_| !known.contains(&value)) else { continue };
        if found.insert(node) {
            waiting.extend(&graph.nodes[node].operands);
        }
    }
    found
}

/// Everything there is to cut.
struct Cut<'a> {
    module: &'a Module,
    /// Of each stage.
    layers: Vec<u64>,
    layered: Vec<Layered<'a>>,
    /// Graphs without layers.
    rest: Vec<&'a Graph>,
}

/// What sets a stage's graph apart from that of others.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    is_first: bool,
    is_last: bool,
    layers: u64,
}

impl Cut<'_> {
    fn module(&self) -> Result<Module, PassError> {
        let last = self.layers.len() - 1;
        let kind = |(i, layers): (usize, &u64)| Kind { is_first: i == 0, is_last: i == last, layers: *layers };
        let kinds: Vec<Kind> = self.layers.iter().enumerate().map(kind).collect();
        let mut different: Vec<Kind> = vec![];
        kinds.iter().for_each(|kind| if !different.contains(kind) { different.push(*kind) });
        let mut parts = BTreeMap::new();
        for layered in &self.layered {
            let made = (0..).zip(&different).map(|(i, kind)| self.part(layered, i, *kind));
            parts.insert(layered.graph.name.as_str(), made.collect::<Result<Vec<Graph>, _>>()?);
        }
        let mut from = 0;
        let stage = |kind: &Kind| {
            from += kind.layers;
            let number = different.iter().position(|other| other == kind).expect("it is among them");
            let of_layered = |layered: &Layered<'_>| {
                let whole = &layered.graph.name;
                Part { whole: whole.clone(), graph: parts[whole.as_str()][number].name.clone() }
            };
            let whole = |graph: &&Graph| Part { whole: graph.name.clone(), graph: graph.name.clone() };
            let parts = self.layered.iter().map(of_layered);
            let parts = parts.chain(self.rest.iter().filter(|_| kind.is_last).map(whole)).collect();
            Stage { layers: from - kind.layers..from, parts }
        };
        let stages = kinds.iter().map(stage).collect();
        let graphs = self.module.graphs.iter().flat_map(|graph| {
            let parts = parts.get(graph.name.as_str());
            parts.map_or_else(|| vec![graph.clone()], Clone::clone)
        });
        Ok(Module { stages, graphs: graphs.collect(), ..self.module.clone() })
    }

    /// What a kind of stage does of a graph.
    fn part(&self, layered: &Layered<'_>, number: usize, kind: Kind) -> Result<Graph, PassError> {
        let Layered { graph, node, repeat } = layered;
        let carried = &node.operands[..repeat.carry];
        let results: BTreeSet<ValueId> = node.results.iter().copied().collect();
        // What the repeat takes comes from before it, or from the stage before; what comes after it is the last stage's.
        let taken = if kind.is_first { &node.operands[..] } else { &node.operands[repeat.carry..] };
        let mut nodes = needed(graph, taken, &BTreeSet::new());
        let given_on = if kind.is_last { graph.outputs.clone() } else { self.handed_on(layered) };
        nodes.extend(needed(graph, &given_on, &results));
        let (name, symbols) = (format!("{}.{number}", graph.name), graph.symbols.clone());
        let rewrite = Rewrite::part(PASS.name, graph, &name, symbols, &self.module.mesh, &self.module.graphs);
        let mut part = PartOf { layered, kind, rewrite, carries: vec![] };
        if !kind.is_first {
            part.carried(carried);
        }
        let read: BTreeSet<ValueId> = nodes.iter().flat_map(|i| &graph.nodes[*i].operands).chain(taken).copied().collect();
        let returned = |value: &ValueId| read.contains(value) || given_on.contains(value);
        (0..graph.inputs.len() as u32).map(ValueId).filter(returned).for_each(|input| part.input(input));
        for (i, other) in graph.nodes.iter().enumerate() {
            if std::ptr::eq(other, *node) {
                part.repeat()?;
            } else if nodes.contains(&i) {
                part.rewrite.copy(other)?;
            }
        }
        Ok(part.rewrite.returning(&given_on))
    }

    /// What a stage returns that is not the last one: what it carries, and the states in the order of the whole.
    fn handed_on(&self, layered: &Layered<'_>) -> Vec<ValueId> {
        let Layered { graph, node, repeat } = layered;
        let states = &node.results[repeat.carry..];
        let states = graph.outputs.iter().filter(|output| states.contains(output));
        node.results[..repeat.carry].iter().chain(states).copied().collect()
    }
}

/// A part in the making.
struct PartOf<'a> {
    layered: &'a Layered<'a>,
    kind: Kind,
    rewrite: Rewrite<'a>,
    /// What the repeat carries in, where the stage before hands it on.
    carries: Vec<ValueId>,
}

impl PartOf<'_> {
    /// Inputs for what the stage before hands on.
    fn carried(&mut self, operands: &[ValueId]) {
        for (i, operand) in operands.iter().enumerate() {
            let ty = self.layered.graph.ty(*operand).unnamed();
            self.carries.push(self.rewrite.builder.input(&format!("carried.{i}"), Role::Plain, ty));
        }
    }

    /// An input of the whole; of one that has layers, the stage's.
    fn input(&mut self, value: ValueId) {
        let Input { name, role, ty } = &self.layered.graph.inputs[value.index()];
        let mut ty: TensorType = ty.clone();
        if self.layered.stacked().any(|stacked| stacked == value) {
            ty.dims[0].extent = Extent::number(self.kind.layers);
        }
        self.rewrite.input(value, name, *role, ty);
    }

    fn repeat(&mut self) -> Result<(), PassError> {
        let Layered { node, repeat, .. } = self.layered;
        let others = self.rewrite.values(&node.operands[self.carries.len()..]);
        let repeat = Repeat { to: self.kind.layers, ..(*repeat).clone() };
        let results = self.rewrite.node(repeat, &[&self.carries[..], &others].concat())?;
        self.rewrite.replace(&node.results, &results);
        Ok(())
    }
}

/// Names of what a part returns, and how many of them, the first ones, it hands on: those are the next part's inputs for it;
/// the last part returns what the whole does.
pub(crate) fn outputs(whole: &Interface, part: &Graph, next: Option<&Graph>) -> (Vec<String>, usize) {
    let Some(next) = next else { return (whole.outputs.clone(), 0) };
    let states = part.inputs.iter().filter(|input| input.role == Role::State).count();
    let handed_on = part.outputs.len() - states;
    let carried = next.inputs[..handed_on].iter().map(|input| input.name.clone());
    let states = whole.outputs[whole.outputs.len() - states..].iter().cloned();
    (carried.chain(states).collect(), handed_on)
}
