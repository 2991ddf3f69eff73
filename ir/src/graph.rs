//! Graphs: values in single assignment, and the modules that hold them.
//!
//! Values are numbered inputs first, then results in the order of the nodes: the numbering is canonical, so two graphs
//! are equal exactly when their text is. Passes therefore do not edit graphs; they build new ones with [`Builder`].

use crate::extent::Extent;
use crate::op::{TypeContext, TypeError};
use crate::ops::Op;
use crate::types::{Mesh, TensorType};
use petgraph::graph::DiGraph;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A value of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueId(pub u32);

impl ValueId {
    /// As an index into [`Graph::types`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A name with inclusive bounds, e.g. `N: 1..512`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SymbolBound {
    /// The name.
    pub name: String,
    /// Smallest value.
    pub least: u64,
    /// Largest value.
    pub most: u64,
}

/// What an input is to the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Given anew at each call.
    Plain,
    /// A weight, the same at every call.
    Parameter,
    /// Kept and replaced between calls, such as the cache.
    State,
}

/// One input of a graph; its value is the input's position.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Input {
    /// Name, without the percent sign.
    pub name: String,
    /// What it is to the run.
    pub role: Role,
    /// Type, with logical axis names.
    pub ty: TensorType,
}

/// One operation at work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// Its operands, in order.
    pub operands: Vec<ValueId>,
    /// Its results, numbered consecutively.
    pub results: Vec<ValueId>,
}

/// A function of tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Name, without the at sign.
    pub name: String,
    /// Names its extents use.
    pub symbols: Vec<SymbolBound>,
    /// Inputs; input `i` is value `i`.
    pub inputs: Vec<Input>,
    /// Operations in an order that respects dependence.
    pub nodes: Vec<Node>,
    /// What it returns.
    pub outputs: Vec<ValueId>,
    /// Types of all values.
    pub types: Vec<TensorType>,
}

impl Graph {
    /// The type of a value.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        &self.types[value.index()]
    }

    /// The input of this name.
    pub fn input(&self, name: &str) -> Option<ValueId> {
        self.inputs.iter().position(|input| input.name == name).map(|i| ValueId(i as u32))
    }

    /// Types of several values.
    pub fn types_of(&self, values: &[ValueId]) -> Vec<TensorType> {
        values.iter().map(|&value| self.ty(value).clone()).collect()
    }

    /// For each value, the node that defines it; none for inputs.
    pub fn definitions(&self) -> Vec<Option<usize>> {
        let mut definitions = vec![None; self.types.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for result in &node.results {
                definitions[result.index()] = Some(i);
            }
        }
        definitions
    }

    /// For each value, the nodes that read it, once per reading operand, in order.
    pub fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers = vec![Vec::new(); self.types.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for operand in &node.operands {
                readers[operand.index()].push(i);
            }
        }
        readers
    }

    /// The dependency view: nodes are node numbers, an edge leads from a definition to each of its readers.
    pub fn dependencies(&self) -> DiGraph<usize, ValueId> {
        let mut view = DiGraph::new();
        let indices: Vec<_> = (0..self.nodes.len()).map(|i| view.add_node(i)).collect();
        let definitions = self.definitions();
        for (reader, node) in self.nodes.iter().enumerate() {
            for &operand in &node.operands {
                if let Some(definition) = definitions[operand.index()] {
                    view.add_edge(indices[definition], indices[reader], operand);
                }
            }
        }
        view
    }
}

/// Graphs that call each other, and the mesh they run on. The first graph is the entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Module {
    /// The ranks; without axes there is one.
    pub mesh: Mesh,
    /// How layers are dealt out to stages of a pipeline, which the first axis of the mesh numbers; empty when every rank
    /// has all layers.
    pub stages: Vec<Stage>,
    /// The graphs; callees may stand before or after their callers.
    pub graphs: Vec<Graph>,
    /// Parameters of the graphs that are computed from those of a checkpoint before anything runs: a weight graph has
    /// the parameter's name and makes it, or one layer of it, from parameters alone.
    pub weights: Vec<Graph>,
}

/// A stage of a pipeline: some layers, and the graphs its ranks run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its layers.
    pub layers: Range<u64>,
    /// For each graph that callers enter and that has something to do here, the part of it that this stage does.
    pub parts: Vec<Part>,
}

/// What a stage does of a graph that callers enter. What it hands on to the next stage it returns first, and that takes it
/// by inputs of its own, first as well: as many as its part has names that the whole has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The graph that callers enter.
    pub whole: String,
    /// The graph that this stage runs. Stages that differ by their layers' number alone share it.
    pub graph: String,
}

impl Stage {
    /// Its graph for what callers enter.
    pub fn part(&self, whole: &str) -> Option<&str> {
        self.parts.iter().find(|part| part.whole == whole).map(|part| part.graph.as_str())
    }
}

impl Module {
    /// The graphs that callers of one run, one after another, and by which stages: neighbours that run the same count
    /// together. Without stages all of it is that graph.
    pub fn parts(&self, whole: &str) -> Vec<(Range<u64>, &Graph)> {
        if self.stages.is_empty() {
            return self.graph(whole).map(|graph| (0..1, graph)).into_iter().collect();
        }
        let mut parts: Vec<(Range<u64>, &Graph)> = vec![];
        for (stage, number) in self.stages.iter().zip(0..) {
            let Some(graph) = stage.part(whole).and_then(|name| self.graph(name)) else { continue };
            match parts.last_mut() {
                Some((stages, last)) if stages.end == number && last.name == graph.name => stages.end = number + 1,
                _ => parts.push((number..number + 1, graph)),
            }
        }
        parts
    }

    /// The graph of this name.
    pub fn graph(&self, name: &str) -> Option<&Graph> {
        self.graphs.iter().find(|graph| graph.name == name)
    }

    /// The graph that makes the parameter of this name, if it is not a checkpoint's own.
    pub fn weight(&self, parameter: &str) -> Option<&Graph> {
        self.weights.iter().find(|graph| graph.name == parameter)
    }
}

/// Builds a graph node by node, inferring types.
pub struct Builder<'a> {
    graph: Graph,
    mesh: &'a Mesh,
    /// Graphs that repeats and calls may name.
    callees: Vec<&'a Graph>,
}

impl<'a> Builder<'a> {
    /// An empty graph; `callees` are the graphs its repeats and calls may name.
    pub fn new(
        name: &str,
        symbols: Vec<SymbolBound>,
        mesh: &'a Mesh,
        callees: impl IntoIterator<Item = &'a Graph>,
    ) -> Self {
        let callees = callees.into_iter().collect();
        let graph =
            Graph { name: name.to_owned(), symbols, inputs: vec![], nodes: vec![], outputs: vec![], types: vec![] };
        Builder { graph, mesh, callees }
    }

    /// Adds an input.
    ///
    /// # Panics
    /// After the first node: values would lose their canonical numbers.
    pub fn input(&mut self, name: &str, role: Role, ty: TensorType) -> ValueId {
        assert!(self.graph.nodes.is_empty(), "inputs come before nodes");
        self.graph.inputs.push(Input { name: name.to_owned(), role, ty: ty.clone() });
        self.value(ty)
    }

    /// Adds a node and returns its results.
    ///
    /// # Errors
    /// What the operation's inference refuses.
    pub fn node(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let op = op.into();
        // Looked for one by one: most graphs call few others, and modules of thousands get thousands of builders.
        let callees = |name: &str| self.callees.iter().find(|graph| graph.name == name).copied();
        let cx = TypeContext { symbols: &self.graph.symbols, mesh: self.mesh, callees: &callees };
        let types = op.infer(&self.graph.types_of(operands), &cx)?;
        let results: Vec<ValueId> = types.into_iter().map(|ty| self.value(ty)).collect();
        self.graph.nodes.push(Node { op, operands: operands.to_vec(), results: results.clone() });
        Ok(results)
    }

    /// Adds a node that has one result.
    ///
    /// # Errors
    /// What the operation's inference refuses.
    pub fn one(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId, TypeError> {
        self.node(op, operands).map(|results| results[0])
    }

    /// The type of a value so far.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        self.graph.ty(value)
    }

    /// The finished graph.
    pub fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        self.graph
    }

    fn value(&mut self, ty: TensorType) -> ValueId {
        self.graph.types.push(ty);
        ValueId(self.graph.types.len() as u32 - 1)
    }
}

impl SymbolBound {
    /// `name: least..most`
    pub fn new(name: &str, least: u64, most: u64) -> SymbolBound {
        SymbolBound { name: name.to_owned(), least, most }
    }

    /// The extent of this name.
    pub fn extent(&self) -> Extent {
        Extent::symbol(&self.name)
    }
}
