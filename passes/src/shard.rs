//! Ranks share the work: which axis of the mesh splits what, and where ranks must talk.
//!
//! Before: `%w: f32[64, ffn=256]`, `%0 = matmul %x, %w : f32[N, 256]`, `%2 = matmul %1, %v : f32[N, 64]`
//! After:  `%w: f32[64, ffn=256@mp]`, `%0 = matmul .. : f32[N, 256@mp]`, `%2 = matmul .. : f32[N, 64] partial(mp)`,
//!         `%3 = all_reduce %2 {over = mp} : f32[N, 64]`
//!
//! The strategy says which mesh axis splits each *logical axis*; inputs carry those names, and that is the seed. From there
//! types say the rest: an operation's letters carry splits from operands to results
//! ([`sharding`](bloomery_ir::sharding)), sums over a split dimension are owed. What an operation does not take as it lies
//! is made fit just before: owed sums are paid (`all_reduce`), and if that is not enough, slices are joined (`all_gather`).
//! So a sum is paid as late as may be, once, and values that nobody splits stay whole. Weights and states stay where they
//! lie, as long as joining what is computed is enough. Results of entered graphs are whole on every rank.
//!
//! An axis without a length of its own, such as `tokens` of length `N`, splits nothing that callers give ([`streams`]). Where
//! the strategy shares it, what a repeat carries is split along it, and owed sums are paid slice by slice (`scatter`, which becomes a
//! `reduce_scatter`): then what lies between products whose weights are shared, the stream and its norms, is shared too.
//!
//! Extents are global still: [`partition`](crate::partition) makes them local.
//!
//! That this computes what one rank computed is what the verifier checks after it: every type follows from its operands
//! by the letters, and nothing that owes a sum is taken for the sum.

mod streams;

use self::streams::Streams;
use crate::pass::{Context, Pass, PassError, Strategy};
use crate::pipeline;
use crate::rewrite::{Rewrite, rebuilt};
use bloomery_ir::ops::all_gather::AllGather;
use bloomery_ir::ops::all_reduce::AllReduce;
use bloomery_ir::ops::scatter::Scatter;
use bloomery_ir::sharding::used_twice;
use bloomery_ir::{Graph, Mesh, Module, Node, Op, Role, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
pub(crate) const PASS: Pass = Pass { name: "shard", run: shard };

fn shard(module: Module, cx: &Context<'_>) -> Result<Module, PassError> {
    let Some(strategy) = cx.strategy.filter(|strategy| strategy.mesh.ranks() > 1) else { return Ok(module) };
    check(&module, strategy)?;
    let streams = Streams::of(&module, strategy);
    let mut seeded = Module { mesh: strategy.mesh.clone(), ..module };
    seeded.graphs.iter_mut().try_for_each(|graph| seed(graph, strategy, &streams))?;
    streams.seed(&mut seeded);
    let wanted = Wanted::of(&seeded, cx);
    let graphs = rebuilt(&seeded, |graph, callees| propagate(graph, &seeded.mesh, callees, &wanted, &streams))?;
    Ok(Module { graphs, ..seeded })
}

/// Refuses axes that nobody has: a strategy for something else would change nothing and say nothing.
fn check(module: &Module, strategy: &Strategy) -> Result<(), PassError> {
    let inputs = module.graphs.iter().flat_map(|graph| &graph.inputs);
    let named: BTreeSet<&String> = inputs.flat_map(|input| &input.ty.dims).filter_map(|dim| dim.logical.as_ref()).collect();
    let graph = module.graphs.first().map(|graph| graph.name.clone()).unwrap_or_default();
    let refused = |message| Err(PassError::Refused { pass: PASS.name, graph: graph.clone(), message });
    for (logical, axis) in &strategy.axes {
        if strategy.mesh.size(axis).is_none() {
            let there: Vec<&str> = strategy.mesh.axes.iter().map(|(name, _)| name.as_str()).collect();
            return refused(format!("{logical} is shared over {axis}, an axis that the mesh has not: it has {}", there.join(", ")));
        }
        if !named.contains(logical) {
            let there: Vec<&str> = named.iter().map(|name| name.as_str()).collect();
            return refused(format!("no input has an axis {logical} to share: there are {}", there.join(", ")));
        }
    }
    Ok(())
}

/// Splits a graph's inputs as the strategy says.
fn seed(graph: &mut Graph, strategy: &Strategy, streams: &Streams) -> Result<(), PassError> {
    for (i, input) in graph.inputs.iter_mut().enumerate() {
        for dim in input.ty.dims.iter_mut().filter(|dim| !streams.have(&dim.extent)) {
            let sized = dim.logical.as_ref().and_then(|logical| strategy.size(logical));
            let Some((axis, size)) = sized.filter(|(_, size)| *size > 1) else { continue };
            let extent = dim.extent.as_number().filter(|extent| extent % size == 0);
            if extent.is_none() {
                let (logical, of) = (dim.logical.clone().unwrap_or_default(), dim.extent.clone());
                let works = dim.extent.as_number().map_or(String::new(), |extent| works(axis, extent));
                let message = format!("{axis} = {size} does not divide the {of} of axis {logical} of %{}{works}", input.name);
                return Err(PassError::Refused { pass: PASS.name, graph: graph.name.clone(), message });
            }
            dim.split = Some(axis.to_owned());
        }
        if let Some(axis) = used_twice(&input.ty) {
            let message = format!("{axis} would split two dimensions of %{}: {}; share one of them", input.name, input.ty);
            return Err(PassError::Refused { pass: PASS.name, graph: graph.name.clone(), message });
        }
        graph.types[i] = input.ty.clone();
    }
    Ok(())
}

/// `; mp = 1, 2, 4, 8 do`
pub(crate) fn works(axis: &str, extent: u64) -> String {
    const SHOWN: u64 = 64;
    let divisors: Vec<String> = (1..=extent.min(SHOWN)).filter(|size| extent % size == 0).map(|size| size.to_string()).collect();
    format!("; {axis} = {} does", divisors.join(", "))
}

/// What outputs have to be, by graph: `None` for one that may lie as it comes.
struct Wanted(BTreeMap<String, Vec<Option<TensorType>>>);

impl Wanted {
    fn of(module: &Module, cx: &Context<'_>) -> Wanted {
        let mut wanted = BTreeMap::new();
        for interface in pipeline::entered(module, cx).iter() {
            let Some(graph) = module.graph(&interface.graph) else { continue };
            let whole = |(name, value): (&String, &ValueId)| {
                graph.input(name).is_none().then(|| bloomery_ir::sharding::whole(graph.ty(*value)))
            };
            let outputs = interface.outputs.iter().zip(&graph.outputs).map(whole).collect();
            wanted.insert(graph.name.clone(), outputs);
        }
        // What a repeat carries comes back as it went in.
        for node in module.graphs.iter().flat_map(|graph| &graph.nodes) {
            let Op::Repeat(repeat) = &node.op else { continue };
            let body = module.graph(&repeat.body).expect("the verifier knows all callees");
            let carries = body.inputs[..repeat.carry].iter().map(|input| Some(input.ty.unnamed()));
            let all = carries.chain(std::iter::repeat(None)).take(body.outputs.len()).collect();
            wanted.insert(body.name.clone(), all);
        }
        Wanted(wanted)
    }
}

fn propagate(
    graph: &Graph,
    mesh: &Mesh,
    callees: &[&Graph],
    wanted: &Wanted,
    streams: &Streams,
) -> Result<Graph, PassError> {
    let rewrite = Rewrite::among(PASS.name, graph, mesh, callees.iter().copied(), TensorType::clone);
    let stored = graph.inputs.iter().map(|input| input.role != Role::Plain).collect();
    let mut placing = Placing { rewrite, stored, streams, paid: BTreeMap::new(), joined: BTreeMap::new() };
    graph.nodes.iter().try_for_each(|node| placing.node(node, callees))?;
    let free = vec![None; graph.outputs.len()];
    let wanted = wanted.0.get(&graph.name).unwrap_or(&free);
    let outputs = graph.outputs.iter().zip(wanted).map(|(output, wanted)| placing.output(*output, wanted.as_ref()));
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    Ok(placing.rewrite.builder.finish(&outputs))
}

/// A graph on its way.
struct Placing<'a> {
    rewrite: Rewrite<'a>,
    /// Of each input, whether it is kept: a weight or a state.
    stored: Vec<bool>,
    streams: &'a Streams,
    /// Values that owe sums, and what they are once the sums are paid.
    paid: BTreeMap<ValueId, ValueId>,
    /// Values that are split, and what they are once they are whole.
    joined: BTreeMap<ValueId, ValueId>,
}

impl Placing<'_> {
    fn node(&mut self, node: &Node, callees: &[&Graph]) -> Result<(), PassError> {
        let mut operands = self.rewrite.values(&node.operands);
        if let Op::Repeat(repeat) = &node.op {
            let body = callees.iter().find(|graph| graph.name == repeat.body).expect("callees come first");
            for (operand, input) in operands.iter_mut().zip(&body.inputs).take(repeat.carry) {
                *operand = self.placed(*operand, &input.ty)?;
            }
        }
        let results = match self.rewrite.builder.node(node.op.clone(), &operands) {
            Ok(results) => results,
            Err(_) => self.made_fit(node, &operands)?,
        };
        self.rewrite.replace(&node.results, &results);
        Ok(())
    }

    /// The node on operands that are paid, and joined where that is not enough: what is computed before what is kept.
    fn made_fit(&mut self, node: &Node, operands: &[ValueId]) -> Result<Vec<ValueId>, PassError> {
        let paid = self.each(operands, Self::pay)?;
        if let Ok(results) = self.rewrite.builder.node(node.op.clone(), &paid) {
            return Ok(results);
        }
        let joined = self.each(&paid, Self::join_computed)?;
        if let Ok(results) = self.rewrite.builder.node(node.op.clone(), &joined) {
            return Ok(results);
        }
        let joined = self.each(&joined, Self::join)?;
        self.rewrite.node(node.op.clone(), &joined)
    }

    fn each(
        &mut self,
        values: &[ValueId],
        change: fn(&mut Self, ValueId) -> Result<ValueId, PassError>,
    ) -> Result<Vec<ValueId>, PassError> {
        values.iter().map(|value| change(self, *value)).collect()
    }

    /// An output as it has to be.
    fn output(&mut self, old: ValueId, wanted: Option<&TensorType>) -> Result<ValueId, PassError> {
        let value = self.rewrite.value(old);
        match wanted {
            Some(wanted) => self.placed(value, wanted),
            None => Ok(value),
        }
    }

    /// A value that lies as this type says.
    fn placed(&mut self, value: ValueId, wanted: &TensorType) -> Result<ValueId, PassError> {
        let fits = |placing: &Self, value| placing.rewrite.builder.ty(value).unnamed() == wanted.unnamed();
        let paid = self.pay(value)?;
        if fits(self, paid) {
            return Ok(paid);
        }
        let mut placed = self.join(paid)?;
        if let Some((dim, over)) = self.streams.split(self.rewrite.builder.ty(placed)).filter(|_| !fits(self, placed)) {
            placed = self.one(Scatter { over, dim }, placed)?;
        }
        Ok(placed)
    }

    /// The sums that a value owes, paid.
    fn pay(&mut self, value: ValueId) -> Result<ValueId, PassError> {
        if let Some(paid) = self.paid.get(&value) {
            return Ok(*paid);
        }
        let mut paid = value;
        for over in self.rewrite.builder.ty(value).partial.clone() {
            let slices = self.streams.split(self.rewrite.builder.ty(paid)).filter(|(_, axis)| *axis == over);
            paid = match slices {
                Some((dim, _)) => self.one(Scatter { over, dim }, paid)?,
                None => self.one(AllReduce { over }, paid)?,
            };
        }
        self.paid.insert(value, paid);
        Ok(paid)
    }

    /// All of a value on every rank, unless it is kept in slices.
    fn join_computed(&mut self, value: ValueId) -> Result<ValueId, PassError> {
        if self.stored.get(value.index()) == Some(&true) { Ok(value) } else { self.join(value) }
    }

    /// All of a value on every rank.
    fn join(&mut self, value: ValueId) -> Result<ValueId, PassError> {
        if let Some(joined) = self.joined.get(&value) {
            return Ok(*joined);
        }
        let mut joined = value;
        let splits = self.rewrite.builder.ty(value).dims.iter().map(|dim| dim.split.clone()).collect::<Vec<_>>();
        for (dim, over) in splits.into_iter().enumerate().filter_map(|(dim, axis)| Some((dim, axis?))) {
            joined = self.one(AllGather { over, dim }, joined)?;
        }
        self.joined.insert(value, joined);
        Ok(joined)
    }

    fn one(&mut self, op: impl Into<Op>, operand: ValueId) -> Result<ValueId, PassError> {
        Ok(self.rewrite.node(op, &[operand])?[0])
    }
}
