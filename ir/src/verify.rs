//! The verifier: what every graph must be, checked after parsing and between passes.
//!
//! Values are defined before use and numbered canonically, every node's types are what its operation infers, extents
//! use declared names, values that a node replaced in memory are not read again, calls neither recurse nor nest deeper
//! than walks over them can follow, and weight graphs read parameters alone.

use crate::graph::{Graph, Module, Node, Role, ValueId};
use crate::op::{TypeContext, TypeError};
use crate::ops::Op;
use crate::sharding;
use crate::types::TensorType;
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong, and in which graph at which node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// A node's operation does not take its operands, or its types are not the inferred ones.
    #[error("@{graph}, node {node} ({op}): {error}")]
    Node {
        /// Graph.
        graph: String,
        /// Position of the node in the graph.
        node: usize,
        /// Name of its operation.
        op: &'static str,
        /// The reason.
        error: TypeError,
    },
    /// Something about a graph as a whole.
    #[error("@{graph}: {message}")]
    Graph {
        /// Graph.
        graph: String,
        /// The reason.
        message: String,
    },
}

impl VerifyError {
    /// The graph, and the node if one is to blame.
    pub fn place(&self) -> (&str, Option<usize>) {
        match self {
            VerifyError::Node { graph, node, .. } => (graph, Some(*node)),
            VerifyError::Graph { graph, .. } => (graph, None),
        }
    }
}

/// How deep calls may nest: far more than models do, far less than the stack of a walk over them holds.
const DEPTH_MOST: usize = 1000;

/// Graphs by their names.
type ByName<'a> = BTreeMap<&'a str, &'a Graph>;

/// Checks a module.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(module: &Module) -> Result<(), VerifyError> {
    let graphs: ByName<'_> = module.graphs.iter().map(|graph| (&*graph.name, graph)).collect();
    let mut names = BTreeSet::new();
    for graph in module.graphs.iter().chain(&module.weights) {
        if !names.insert(&graph.name) {
            return Err(wrong(graph, "is defined twice".to_owned()));
        }
    }
    check_stages(module, &graphs)?;
    let mut depths = BTreeMap::new();
    module.graphs.iter().try_for_each(|graph| check_calls(&graphs, graph, &mut depths))?;
    module.graphs.iter().try_for_each(|graph| check_graph(module, &graphs, graph))?;
    module.weights.iter().try_for_each(|graph| check_weight(module, &graphs, graph))
}

/// Stages are as many as the first axis of the mesh has ranks, have all layers in order, and run graphs that are there.
fn check_stages(module: &Module, graphs: &ByName<'_>) -> Result<(), VerifyError> {
    let Some(last) = module.stages.last() else { return Ok(()) };
    let wrong = |message: String| Err(VerifyError::Graph { graph: "stages".to_owned(), message });
    let (stages, ranks) = (module.stages.len() as u64, module.mesh.axes.first().map_or(1, |(_, size)| *size));
    if stages != ranks {
        return wrong(format!("there are {stages} stages, and {ranks} ranks along the first axis of the mesh"));
    }
    let mut first = 0;
    for stage in &module.stages {
        let layers = &stage.layers;
        if layers.start != first || layers.is_empty() {
            let total = last.layers.end;
            return wrong(format!("layers {}..{} follow {first} of {total}", layers.start, layers.end));
        }
        first = layers.end;
        if let Some(part) = stage.parts.iter().find(|part| !graphs.contains_key(part.graph.as_str())) {
            return wrong(format!("there is no graph @{} to be a part of @{}", part.graph, part.whole));
        }
    }
    module.graphs.iter().try_for_each(|graph| check_apart(module, graph))
}

/// A graph is run by ranks of one stage: what they do together, or are told apart by, is along the other axes.
fn check_apart(module: &Module, graph: &Graph) -> Result<(), VerifyError> {
    let stages = module.mesh.axes.first().map(|(axis, _)| axis.as_str());
    for (position, node) in graph.nodes.iter().enumerate() {
        let own =
            if let Op::AxisIndex(place) = &node.op { Some(place.axis.as_str()) } else { node.op.def().collective() };
        if own.is_some() && own == stages {
            let error = TypeError::new("reaches from stage to stage".to_owned());
            return Err(VerifyError::Node { graph: graph.name.clone(), node: position, op: node.op.name(), error });
        }
    }
    Ok(())
}

/// A weight graph makes one value of a checkpoint's parameters, alone and on every rank alike.
fn check_weight(module: &Module, graphs: &ByName<'_>, graph: &Graph) -> Result<(), VerifyError> {
    check_graph(module, graphs, graph)?;
    if let Some(input) = graph.inputs.iter().find(|input| input.role != Role::Parameter) {
        return Err(wrong(graph, format!("is a weight, its input %{} is no parameter", input.name)));
    }
    if !graph.symbols.is_empty() || graph.outputs.len() != 1 {
        let (names, values) = (graph.symbols.len(), graph.outputs.len());
        return Err(wrong(graph, format!("is a weight, it has {names} names with bounds and returns {values} values")));
    }
    let free = |node: &Node| callee(&node.op).is_none() && node.op.def().collective().is_none();
    if let Some(node) = graph.nodes.iter().find(|node| !free(node) || !consumed_by(node).is_empty()) {
        return Err(wrong(graph, format!("is a weight, `{}` is not computed beforehand", node.op.name())));
    }
    let made = graph.ty(graph.outputs[0]).unnamed();
    let inputs = module.graphs.iter().flat_map(|graph| &graph.inputs);
    for input in inputs.filter(|input| input.role == Role::Parameter && input.name == graph.name) {
        let whole = sharding::global(&input.ty).unnamed();
        if whole != made && (whole.dims.is_empty() || whole.inner() != made) {
            return Err(wrong(graph, format!("makes {made}, the parameter of its name is {}", input.ty)));
        }
    }
    Ok(())
}

fn wrong(graph: &Graph, message: String) -> VerifyError {
    VerifyError::Graph { graph: graph.name.clone(), message }
}

/// The graph a node calls, if it does.
pub fn callee(op: &Op) -> Option<&str> {
    match op {
        Op::Repeat(repeat) => Some(&repeat.body),
        Op::Call(call) => Some(&call.body),
        _ => None,
    }
}

/// A graph whose calls are being followed.
struct Entered<'a> {
    graph: &'a Graph,
    /// Its callees that were not entered yet, the next one last.
    waiting: Vec<&'a Graph>,
    /// The deepest nesting below it so far, itself included.
    depth: usize,
}

impl<'a> Entered<'a> {
    fn new(graphs: &ByName<'a>, graph: &'a Graph) -> Entered<'a> {
        let callees = graph.nodes.iter().rev().filter_map(|node| graphs.get(callee(&node.op)?).copied());
        Entered { graph, waiting: callees.collect(), depth: 1 }
    }
}

/// Follows the calls of a graph, each graph once: `depths` knows those that are done.
fn check_calls<'a>(
    graphs: &ByName<'a>,
    graph: &'a Graph,
    depths: &mut BTreeMap<&'a str, usize>,
) -> Result<(), VerifyError> {
    if depths.contains_key(graph.name.as_str()) {
        return Ok(());
    }
    let mut stack = vec![Entered::new(graphs, graph)];
    let mut open = BTreeSet::from([graph.name.as_str()]);
    while let Some(top) = stack.last_mut() {
        if top.depth > DEPTH_MOST {
            return Err(wrong(top.graph, format!("calls nest more than {DEPTH_MOST} deep below it")));
        }
        let Some(next) = top.waiting.pop() else {
            let Entered { graph, depth, .. } = stack.pop().expect("it was there");
            open.remove(graph.name.as_str());
            depths.insert(&graph.name, depth);
            stack.last_mut().iter_mut().for_each(|caller| caller.depth = caller.depth.max(depth + 1));
            continue;
        };
        if let Some(known) = depths.get(next.name.as_str()) {
            top.depth = top.depth.max(known + 1);
        } else if open.insert(&next.name) {
            stack.push(Entered::new(graphs, next));
        } else {
            let path: Vec<&str> = stack.iter().map(|entered| entered.graph.name.as_str()).collect();
            let last = stack.last().expect("it was there").graph;
            return Err(wrong(last, format!("calls itself: {} -> {}", path.join(" -> "), next.name)));
        }
    }
    Ok(())
}

fn check_graph(module: &Module, graphs: &ByName<'_>, graph: &Graph) -> Result<(), VerifyError> {
    check_signature(module, graph)?;
    let callees = |name: &str| graphs.get(name).copied();
    let cx = TypeContext { symbols: &graph.symbols, mesh: &module.mesh, callees: &callees };
    let mut defined = graph.inputs.len() as u32;
    let mut consumed: BTreeSet<ValueId> = BTreeSet::new();
    for (position, node) in graph.nodes.iter().enumerate() {
        let at = |message: String| VerifyError::Node {
            graph: graph.name.clone(),
            node: position,
            op: node.op.name(),
            error: TypeError::new(message),
        };
        if let Some(late) = node.operands.iter().find(|operand| operand.0 >= defined) {
            return Err(at(format!("reads value {} before it is defined", late.0)));
        }
        if let Some(gone) = node.operands.iter().find(|operand| consumed.contains(operand)) {
            return Err(at(format!("reads value {} after a node replaced it in memory", gone.0)));
        }
        // Numbers first, then how many there are: what comes after relies on them.
        let next = defined + node.results.len() as u32;
        if !node.results.iter().map(|result| result.0).eq(defined..next) || next as usize > graph.types.len() {
            return Err(at("results are not numbered in order".to_owned()));
        }
        check_types(graph, node, &cx).map_err(|error| at(error.to_string()))?;
        consumed.extend(consumed_by(node));
        defined = next;
    }
    if let Some(gone) = graph.outputs.iter().find(|output| output.0 >= defined || consumed.contains(output)) {
        return Err(wrong(graph, format!("returns value {}, which is not there at the end", gone.0)));
    }
    Ok(())
}

/// Values a node replaces in memory.
pub fn consumed_by(node: &Node) -> Vec<ValueId> {
    match &node.op {
        Op::Repeat(repeat) => repeat.states().map(|(operand, _)| node.operands[operand]).collect(),
        op => op.def().consumes().map(|operand| node.operands[operand]).into_iter().collect(),
    }
}

fn check_types(graph: &Graph, node: &Node, cx: &TypeContext<'_>) -> Result<(), TypeError> {
    if let Some(axis) = node.op.def().collective() {
        cx.mesh.size(axis).ok_or_else(|| TypeError::new(format!("the mesh has no axis {axis}")))?;
    }
    let inferred = node.op.infer(&graph.types_of(&node.operands), cx)?;
    let stated: Vec<TensorType> = graph.types_of(&node.results);
    if inferred.len() != stated.len() {
        return Err(TypeError::new(format!("has {} results, {} are stated", inferred.len(), stated.len())));
    }
    match inferred.iter().zip(&stated).find(|(inferred, stated)| inferred != stated) {
        Some((inferred, stated)) => Err(TypeError::new(format!("result is {inferred}, stated as {stated}"))),
        None => Ok(()),
    }
}

fn check_signature(module: &Module, graph: &Graph) -> Result<(), VerifyError> {
    let mut names = BTreeSet::new();
    for symbol in &graph.symbols {
        if symbol.least > symbol.most || symbol.most > i32::MAX as u64 {
            return Err(wrong(
                graph,
                format!("bounds {}..{} of {} are empty or too large", symbol.least, symbol.most, symbol.name),
            ));
        }
        if !names.insert(&symbol.name) || module.mesh.size(&symbol.name).is_some() {
            return Err(wrong(graph, format!("the name {} is declared twice", symbol.name)));
        }
    }
    let callees = |_: &str| None;
    let cx = TypeContext { symbols: &graph.symbols, mesh: &module.mesh, callees: &callees };
    for (i, ty) in graph.types.iter().enumerate() {
        if let Some(extent) = ty.extents().find(|extent| !cx.knows(extent)) {
            return Err(wrong(graph, format!("extent {extent} of value {i} uses a name that is not declared")));
        }
        if let Some(axis) = sharding::used_twice(ty) {
            return Err(wrong(graph, format!("value {i} uses {axis} twice: {ty}")));
        }
        let axes = ty.dims.iter().filter_map(|dim| dim.split.as_ref()).chain(&ty.partial);
        if let Some(axis) = axes.into_iter().find(|axis| module.mesh.size(axis).is_none()) {
            return Err(wrong(graph, format!("value {i}: the mesh has no axis {axis}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    /// Graphs `g0`, `g1`, .. that each call the next one `calls` times.
    fn chain(graphs: usize, calls: usize) -> Result<Module, crate::ParseError> {
        let call = |i: usize, c: usize| format!("  %{} = call @g{} %x : f32[2]\n", c, i + 1);
        let body = |i: usize| (0..calls).map(|c| call(i, c)).collect::<String>() + &format!("  return %{}", calls - 1);
        let last = format!("graph @g{}(%x: f32[2]) {{ return %x }}", graphs - 1);
        let texts = (0..graphs - 1).map(|i| format!("graph @g{i}(%x: f32[2]) {{\n{}\n}}\n", body(i)));
        parse(&(texts.collect::<String>() + &last))
    }

    #[test]
    fn graphs_are_followed_once_however_often_they_are_called() {
        assert_eq!(chain(100, 2).unwrap().graphs.len(), 100);
    }

    #[test]
    fn calls_nest_as_deep_as_walks_can_follow() {
        let module = chain(DEPTH_MOST, 1).unwrap();
        let two = crate::Tensor::new(crate::DType::F32, &[2], [1.0, 2.0]);
        let outputs = crate::Interpreter::new(&module, crate::Precision::Typed).run("g0", std::slice::from_ref(&two));
        assert_eq!(outputs.unwrap(), [two]);
        let error = chain(100_000, 1).unwrap_err().to_string();
        assert_eq!(error, "395997:1: @g98999: calls nest more than 1000 deep below it");
    }
}
