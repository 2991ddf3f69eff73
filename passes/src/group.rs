//! Operations that are computed together become kernels.
//!
//! A producer joins its consumer when what it makes has that one reader, the target accepts the joined graph as a
//! kernel, and the joined kernel is estimated no slower than the two apart. So a bias, a gate and a residual become
//! epilogues of a product, a norm the prologue of one; a value with several readers stays a buffer.
//!
//! Before: `%0 = matmul %x, %w`, `%1 = add %0, %b`, `%2 = gelu %1`
//! After:  `%0 = call @matmul_add_gelu %x, %w, %b`, the three as a graph of that name

use crate::bind::{Numbers, bound};
use crate::pass::{Context, Pass, PassError};
use crate::rewrite::Rewrite;
use bloomery_ir::graph::{Builder, Graph, Input, Module, Role, SymbolBound, ValueId};
use bloomery_ir::ops::{Op, call::Call};
use bloomery_ir::print::print_graph;
use bloomery_ir::types::TensorType;
use bloomery_ir::verify::callee;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const PASS: Pass = Pass { name: "group", run: group };

fn group(module: Module, cx: &Context<'_>) -> Result<Module, PassError> {
    let mut kernels = Kernels::default();
    let mut graphs = Vec::new();
    let numbers = Numbers::of(&module);
    for graph in &module.graphs {
        let groups = Groups::of(graph, &module, &numbers, cx)?;
        graphs.push(rebuild(graph, &module, &groups, &mut kernels)?);
    }
    graphs.extend(kernels.graphs);
    Ok(Module { graphs, ..module })
}

/// Whether a node is left as it is: it enters another graph, or is data rather than work.
fn stays(op: &Op) -> bool {
    callee(op).is_some() || op.def().collective().is_some() || matches!(op, Op::Constant(_) | Op::AxisIndex(_))
}

/// Operations of one kernel, at most: many times what models have, and few enough that looking at a whole kernel for
/// each that joins stays cheap.
const MEMBERS_MOST: usize = 32;

/// The nodes of one graph, parted into kernels.
struct Groups {
    /// For each node, the last node of its group.
    last: Vec<usize>,
    /// For each node that is the last of a group, that group in order; nothing for others.
    members: Vec<Vec<usize>>,
}

impl Groups {
    /// Joins producers to consumers, in order of the producers; again as long as that joins any, since a consumer may have
    /// found its own place only after a producer asked for it.
    fn of(graph: &Graph, module: &Module, numbers: &Numbers, cx: &Context<'_>) -> Result<Groups, PassError> {
        let nodes = 0..graph.nodes.len();
        let mut groups = Groups { last: nodes.clone().collect(), members: nodes.map(|node| vec![node]).collect() };
        let readers = graph.readers();
        let mut costs: BTreeMap<usize, f64> = BTreeMap::new();
        for (position, node) in graph.nodes.iter().enumerate().filter(|(_, node)| !stays(&node.op)) {
            let alone = kernel_graph(graph, &[position], module, "kernel")?;
            let cost = cx.target.cost(&bound(PASS.name, &alone, numbers)?).map_err(|refusal| PassError::Refused {
                pass: PASS.name,
                graph: graph.name.clone(),
                message: format!("`{}` on {}: {refusal}", node.op.name(), cx.target.name()),
            })?;
            costs.insert(position, cost);
        }
        while groups.join(graph, module, numbers, &readers, &mut costs, cx)? {}
        Ok(groups)
    }

    /// One round through all producers; whether any was joined.
    fn join(
        &mut self,
        graph: &Graph,
        module: &Module,
        numbers: &Numbers,
        readers: &[Vec<usize>],
        costs: &mut BTreeMap<usize, f64>,
        cx: &Context<'_>,
    ) -> Result<bool, PassError> {
        let before = self.members.iter().filter(|members| !members.is_empty()).count();
        for position in 0..graph.nodes.len() {
            let Some(reader) = sole_reader(graph, readers, position) else { continue };
            // Only the last node of a group has readers outside.
            if self.last[position] != position || stays(&graph.nodes[position].op) || stays(&graph.nodes[reader].op) {
                continue;
            }
            let into = self.last[reader];
            let members = sorted([&self.members[position][..], &self.members[into]].concat());
            if members.len() > MEMBERS_MOST {
                continue;
            }
            let joined = kernel_graph(graph, &members, module, "kernel")?;
            let apart = costs[&position] + costs[&into];
            let cost = cx.target.cost(&bound(PASS.name, &joined, numbers)?);
            if let Some(cost) = cost.ok().filter(|cost| *cost <= apart) {
                self.members[position].clear();
                members.iter().for_each(|&member| self.last[member] = into);
                self.members[into] = members;
                costs.insert(into, cost);
            }
        }
        Ok(self.members.iter().filter(|members| !members.is_empty()).count() < before)
    }
}

fn sorted(mut nodes: Vec<usize>) -> Vec<usize> {
    nodes.sort_unstable();
    nodes
}

/// The one node that reads the one result of a node, if it is so.
fn sole_reader(graph: &Graph, readers: &[Vec<usize>], position: usize) -> Option<usize> {
    let [result] = graph.nodes[position].results[..] else { return None };
    let of: BTreeSet<usize> = readers[result.index()].iter().copied().collect();
    let first = of.first().copied()?;
    (of.len() == 1 && !graph.outputs.contains(&result)).then_some(first)
}

/// Some nodes of a graph as a graph of their own: inputs are what they read from outside, in order of first use;
/// outputs are the last node's results.
pub(crate) fn kernel_graph(graph: &Graph, nodes: &[usize], module: &Module, name: &str) -> Result<Graph, PassError> {
    let outside = external_operands(graph, nodes);
    let symbols = used_symbols(graph, nodes, &outside);
    let mut builder = Builder::new(name, symbols, &module.mesh, []);
    let mut map = BTreeMap::new();
    for (i, &value) in outside.iter().enumerate() {
        let role = graph.inputs.get(value.index()).map_or(Role::Plain, |input: &Input| input.role);
        map.insert(value, builder.input(&format!("x{i}"), role, graph.ty(value).unnamed()));
    }
    let mut results = vec![];
    for node in nodes.iter().map(|&node| &graph.nodes[node]) {
        let operands: Vec<ValueId> = node.operands.iter().map(|operand| map[operand]).collect();
        results = builder.node(node.op.clone(), &operands).map_err(|error| type_error(graph, error))?;
        map.extend(node.results.iter().copied().zip(results.iter().copied()));
    }
    Ok(builder.finish(&results))
}

fn type_error(graph: &Graph, error: bloomery_ir::TypeError) -> PassError {
    PassError::Type { pass: PASS.name, graph: graph.name.clone(), error }
}

/// Values that nodes read and none of them makes, in order of first use.
fn external_operands(graph: &Graph, nodes: &[usize]) -> Vec<ValueId> {
    let made: BTreeSet<ValueId> = nodes.iter().flat_map(|&node| graph.nodes[node].results.clone()).collect();
    let mut outside = vec![];
    for &operand in nodes.iter().flat_map(|&node| &graph.nodes[node].operands) {
        if !made.contains(&operand) && !outside.contains(&operand) {
            outside.push(operand);
        }
    }
    outside
}

/// The names that the types of these values use.
fn used_symbols(graph: &Graph, nodes: &[usize], outside: &[ValueId]) -> Vec<SymbolBound> {
    let made = nodes.iter().flat_map(|&node| &graph.nodes[node].results);
    let types = made.chain(outside).map(|&value| graph.ty(value));
    let names: BTreeSet<&str> = types.flat_map(|ty| ty.extents()).flat_map(|extent| extent.names()).collect();
    graph.symbols.iter().filter(|symbol| names.contains(symbol.name.as_str())).cloned().collect()
}

/// The kernels made so far; equal ones are one.
#[derive(Default)]
struct Kernels {
    graphs: Vec<Graph>,
    /// Their names by their text under the name `kernel`.
    names: BTreeMap<String, String>,
}

impl Kernels {
    /// The name of a kernel that computes this graph.
    fn name_of(&mut self, mut graph: Graph, taken: &Module) -> String {
        // Compared under one name, which is given last.
        let key = print_graph(&graph);
        if let Some(known) = self.names.get(&key) {
            return known.clone();
        }
        let base = name_of(&graph);
        let numbered = (1..).map(|i| if i == 1 { base.clone() } else { format!("{base}_{i}") });
        let used: BTreeSet<&String> = self.names.values().collect();
        let free = |name: &String| taken.graph(name).is_none() && !used.contains(name);
        graph.name = numbered.into_iter().find(free).expect("numbers do not run out");
        self.names.insert(key, graph.name.clone());
        self.graphs.push(graph.clone());
        graph.name
    }
}

/// What a kernel does, in order; how it finds its operands goes without saying, unless it does nothing else.
fn name_of(graph: &Graph) -> String {
    let moves = |op: &Op| matches!(op, Op::Slice(_) | Op::Reshape(_));
    let all = || graph.nodes.iter().map(|node| &node.op);
    let only_moves = all().all(moves);
    let told: Vec<&str> = all().filter(|op| only_moves || !moves(op)).map(Op::name).collect();
    told.join("_")
}

/// The graph with one call in place of each group, where its last node was.
fn rebuild(graph: &Graph, module: &Module, groups: &Groups, kernels: &mut Kernels) -> Result<Graph, PassError> {
    let mut calls: BTreeMap<usize, (String, Vec<ValueId>)> = BTreeMap::new();
    for last in (0..graph.nodes.len()).filter(|&node| groups.last[node] == node && !stays(&graph.nodes[node].op)) {
        let members = &groups.members[last];
        let kernel = kernel_graph(graph, members, module, "kernel")?;
        calls.insert(last, (kernels.name_of(kernel, module), external_operands(graph, members)));
    }
    let callees = module.graphs.iter().chain(&kernels.graphs);
    let mut rewrite = Rewrite::among(PASS.name, graph, &module.mesh, callees, TensorType::clone);
    for (position, node) in graph.nodes.iter().enumerate().filter(|(position, _)| groups.last[*position] == *position) {
        match calls.get(&position) {
            Some((body, operands)) => {
                let results = rewrite.node(Call { body: body.clone() }, &rewrite.values(operands))?;
                rewrite.replace(&node.results, &results);
            }
            None => drop(rewrite.copy(node)?),
        }
    }
    Ok(rewrite.finish())
}
