//! The verifier: what every graph must be, checked after parsing and between passes.
//!
//! Values are defined before use and numbered canonically, every node's types are what its operation infers, extents
//! use declared names, values that a node replaced in memory are not read again, calls do not recurse, and weight graphs
//! read parameters alone.

use crate::graph::{Graph, Module, Node, Role, ValueId};
use crate::op::{TypeContext, TypeError};
use crate::ops::Op;
use crate::types::TensorType;
use std::collections::BTreeSet;

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

/// Checks a module.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(module: &Module) -> Result<(), VerifyError> {
    let mut names = BTreeSet::new();
    for graph in module.graphs.iter().chain(&module.weights) {
        if !names.insert(&graph.name) {
            return Err(wrong(graph, "is defined twice".to_owned()));
        }
        check_calls(module, graph, &mut vec![&graph.name])?;
    }
    module.graphs.iter().try_for_each(|graph| check_graph(module, graph))?;
    module.weights.iter().try_for_each(|graph| check_weight(module, graph))
}

/// A weight graph makes one value of a checkpoint's parameters, alone and on every rank alike.
fn check_weight(module: &Module, graph: &Graph) -> Result<(), VerifyError> {
    check_graph(module, graph)?;
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
        let whole = input.ty.unnamed();
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

fn check_calls<'a>(module: &'a Module, graph: &'a Graph, stack: &mut Vec<&'a str>) -> Result<(), VerifyError> {
    for name in graph.nodes.iter().filter_map(|node| callee(&node.op)) {
        let Some(called) = module.graph(name) else { continue };
        if stack.contains(&name) {
            return Err(wrong(graph, format!("calls itself: {} -> {name}", stack.join(" -> "))));
        }
        stack.push(name);
        check_calls(module, called, stack)?;
        stack.pop();
    }
    Ok(())
}

fn check_graph(module: &Module, graph: &Graph) -> Result<(), VerifyError> {
    check_signature(module, graph)?;
    let callees = |name: &str| module.graph(name);
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
        consumed.extend(consumed_by(node));
        check_types(graph, node, &cx).map_err(|error| at(error.to_string()))?;
        if !node.results.iter().map(|result| result.0).eq(defined..defined + node.results.len() as u32) {
            return Err(at("results are not numbered in order".to_owned()));
        }
        defined += node.results.len() as u32;
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
        let axes = ty.dims.iter().filter_map(|dim| dim.split.as_ref()).chain(&ty.partial);
        if let Some(axis) = axes.into_iter().find(|axis| module.mesh.size(axis).is_none()) {
            return Err(wrong(graph, format!("value {i}: the mesh has no axis {axis}")));
        }
    }
    Ok(())
}
