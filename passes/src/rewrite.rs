//! Rebuilding a graph node by node: what every pass that copies most of a graph needs.
//!
//! Graphs are canonical, so a pass reads the old one and builds a new one; [`Rewrite`] remembers which new value
//! stands for which old one. Absent: what to keep, drop or replace, which is the pass's own business.

use crate::pass::PassError;
use bloomery_ir::verify::{callee, consumed_by};
use bloomery_ir::{Builder, Graph, Mesh, Module, Node, Op, Role, SymbolBound, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// A graph under reconstruction.
pub(crate) struct Rewrite<'a> {
    old: &'a Graph,
    /// The new graph so far.
    pub(crate) builder: Builder<'a>,
    pass: &'static str,
    /// For each old value, the new one.
    values: Vec<Option<ValueId>>,
}

impl<'a> Rewrite<'a> {
    /// A new graph with the name, symbols and inputs of `old`, a graph of `module`.
    pub(crate) fn new(pass: &'static str, module: &'a Module, old: &'a Graph) -> Rewrite<'a> {
        Rewrite::among(pass, old, &module.mesh, &module.graphs, TensorType::clone)
    }

    /// As [`Rewrite::new`], where the graphs that `old` enters are new ones, and its inputs get other types.
    pub(crate) fn among(
        pass: &'static str,
        old: &'a Graph,
        mesh: &'a Mesh,
        callees: impl IntoIterator<Item = &'a Graph>,
        input_type: fn(&TensorType) -> TensorType,
    ) -> Rewrite<'a> {
        let mut rewrite = Rewrite::part(pass, old, &old.name, old.symbols.clone(), mesh, callees);
        for (i, input) in old.inputs.iter().enumerate() {
            rewrite.input(ValueId(i as u32), &input.name, input.role, input_type(&input.ty));
        }
        rewrite
    }

    /// A graph of another name, for some of the nodes of `old`, that has no inputs yet.
    pub(crate) fn part(
        pass: &'static str,
        old: &'a Graph,
        name: &str,
        symbols: Vec<SymbolBound>,
        mesh: &'a Mesh,
        callees: impl IntoIterator<Item = &'a Graph>,
    ) -> Rewrite<'a> {
        let builder = Builder::new(name, symbols, mesh, callees);
        Rewrite { old, builder, pass, values: vec![None; old.types.len()] }
    }

    /// Adds an input that stands for an old value.
    pub(crate) fn input(&mut self, old: ValueId, name: &str, role: Role, ty: TensorType) -> ValueId {
        let new = self.builder.input(name, role, ty);
        self.values[old.index()] = Some(new);
        new
    }

    /// The new value that stands for an old one.
    ///
    /// # Panics
    /// When none was given yet: the pass dropped a node that it needs.
    pub(crate) fn value(&self, old: ValueId) -> ValueId {
        self.values[old.index()].expect("a node is rebuilt before its readers")
    }

    /// New values for several old ones.
    pub(crate) fn values(&self, old: &[ValueId]) -> Vec<ValueId> {
        old.iter().map(|&value| self.value(value)).collect()
    }

    /// Lets new values stand for old ones.
    pub(crate) fn replace(&mut self, old: &[ValueId], new: &[ValueId]) {
        for (old, new) in old.iter().zip(new) {
            self.values[old.index()] = Some(*new);
        }
    }

    /// Adds a node.
    pub(crate) fn node(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<Vec<ValueId>, PassError> {
        let (pass, graph) = (self.pass, &self.old.name);
        self.builder.node(op, operands).map_err(|error| PassError::Type { pass, graph: graph.clone(), error })
    }

    /// Copies a node of the old graph; its results stand for the old ones.
    pub(crate) fn copy(&mut self, node: &Node) -> Result<Vec<ValueId>, PassError> {
        let results = self.node(node.op.clone(), &self.values(&node.operands))?;
        self.replace(&node.results, &results);
        Ok(results)
    }

    /// The new graph, returning what stands for the old outputs.
    pub(crate) fn finish(self) -> Graph {
        let outputs = &self.old.outputs;
        self.returning(outputs)
    }

    /// The new graph, returning what stands for these old values.
    pub(crate) fn returning(self, old: &[ValueId]) -> Graph {
        let outputs = self.values(old);
        self.builder.finish(&outputs)
    }
}

/// A module's graphs, each rebuilt after those it enters, which it sees as they have become.
pub(crate) fn rebuilt(
    module: &Module,
    rebuild: impl Fn(&Graph, &[&Graph]) -> Result<Graph, PassError>,
) -> Result<Vec<Graph>, PassError> {
    let mut done: BTreeMap<usize, Graph> = BTreeMap::new();
    for i in callees_first(module) {
        let callees: Vec<&Graph> = done.values().collect();
        let graph = rebuild(&module.graphs[i], &callees)?;
        done.insert(i, graph);
    }
    Ok(done.into_values().collect())
}

/// Positions of a module's graphs, each after those it enters.
fn callees_first(module: &Module) -> Vec<usize> {
    fn visit(module: &Module, i: usize, order: &mut Vec<usize>, seen: &mut BTreeSet<usize>) {
        if !seen.insert(i) {
            return;
        }
        for name in module.graphs[i].nodes.iter().filter_map(|node| callee(&node.op)) {
            let position = module.graphs.iter().position(|graph| graph.name == name);
            visit(module, position.expect("the verifier knows all callees"), order, seen);
        }
        order.push(i);
    }
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    (0..module.graphs.len()).for_each(|i| visit(module, i, &mut order, &mut seen));
    order
}

/// Values that some node replaces in memory: who reads them, and which node makes them, must not change.
pub(crate) fn consumed_values(graph: &Graph) -> BTreeSet<ValueId> {
    graph.nodes.iter().flat_map(consumed_by).collect()
}

/// Whether a node replaces memory, or makes or reads a value that a node replaces in memory. Such a node is neither
/// merged with another nor seen through: its order among the others matters.
pub(crate) fn touches_memory(node: &Node, consumed: &BTreeSet<ValueId>) -> bool {
    !consumed_by(node).is_empty() || node.operands.iter().chain(&node.results).any(|value| consumed.contains(value))
}
