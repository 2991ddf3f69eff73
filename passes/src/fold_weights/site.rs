//! A graph that rules look at: what is known beforehand, who reads what, and where its weights come from.

use super::PASS;
use crate::pass::{Context, PassError, Weights};
use crate::rewrite::Rewrite;
use bloomery_ir::graph::{Node, Role};
use bloomery_ir::op::elements;
use bloomery_ir::ops::repeat::Repeat;
use bloomery_ir::verify::{callee, consumed_by};
use bloomery_ir::{DType, Graph, Module, Op, TensorType, ValueId};

/// When a value is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    /// It is a number in the graph.
    Constant,
    /// Once weights are.
    Weight,
    /// At each call.
    Varying,
}

/// One graph of a module in its present form, its inputs still those that the module says.
pub(super) struct Site<'a> {
    pub(super) module: &'a Module,
    pub(super) graph: &'a Graph,
    pub(super) cx: &'a Context<'a>,
    pub(super) weights: &'a dyn Weights,
    pub(super) known: Vec<Known>,
    pub(super) readers: Vec<Vec<usize>>,
    pub(super) definitions: Vec<Option<usize>>,
    /// The checkpoint's name of each input that is a weight.
    pub(super) origins: Vec<Option<String>>,
    /// Which inputs are weights that no other graph reads.
    private: Vec<bool>,
}

impl<'a> Site<'a> {
    /// The graph of number `number` in the form `graph`.
    pub(super) fn new(
        module: &'a Module,
        number: usize,
        graph: &'a Graph,
        cx: &'a Context<'a>,
        weights: &'a dyn Weights,
    ) -> Site<'a> {
        let origins = origins(module, number);
        let private = origins.iter().map(|name| name.as_ref().is_some_and(|name| is_private(module, number, name)));
        let private = private.collect();
        let (readers, definitions) = (graph.readers(), graph.definitions());
        let known = known(graph, &origins);
        Site { module, graph, cx, weights, known, readers, definitions, origins, private }
    }

    pub(super) fn ty(&self, value: ValueId) -> &'a TensorType {
        self.graph.ty(value)
    }

    /// The node that makes a value.
    pub(super) fn maker(&self, value: ValueId) -> Option<(usize, &'a Node)> {
        self.definitions[value.index()].map(|node| (node, &self.graph.nodes[node]))
    }

    pub(super) fn is_weight(&self, value: ValueId) -> bool {
        self.known[value.index()] == Known::Weight
    }

    pub(super) fn is_f32(&self, value: ValueId) -> bool {
        self.ty(value).dtype == DType::F32
    }

    /// Whether this node is all that reads a value.
    pub(super) fn is_read_by(&self, value: ValueId, node: usize) -> bool {
        self.readers[value.index()] == [node] && !self.graph.outputs.contains(&value)
    }

    /// Whether a weight that one node reads can be replaced by another: what it is made of is then needed no more. Else
    /// both would be kept.
    pub(super) fn is_replaceable(&self, weight: ValueId) -> bool {
        self.is_weight(weight) && self.reads_at_calls(weight) == 1 && self.is_made_of_private(weight)
    }

    /// How often a value is read when the graph is called.
    fn reads_at_calls(&self, value: ValueId) -> usize {
        let at_call = |reader: &&usize| self.graph.nodes[**reader].results.iter().any(|r| !self.is_weight(*r));
        let returned = self.graph.outputs.iter().filter(|output| **output == value).count();
        self.readers[value.index()].iter().filter(at_call).count() + returned
    }

    /// Whether all of a weight's size that it is made of is a parameter that no other graph has, and read beforehand
    /// alone.
    fn is_made_of_private(&self, weight: ValueId) -> bool {
        let Some((_, node)) = self.maker(weight) else { return self.private[weight.index()] };
        let size = |value: ValueId| elements(self.ty(value));
        let mut sources = node.operands.iter().filter(|operand| size(**operand) == size(weight));
        sources.all(|source| self.reads_at_calls(*source) == 0 && self.is_made_of_private(*source))
    }

    /// A value as the sum of one that varies and a bias that is known beforehand, repeated over its rows.
    pub(super) fn biased(&self, value: ValueId) -> Option<Biased> {
        let (node, Node { op: Op::Add(_), operands, .. }) = self.maker(value)? else { return None };
        let [a, b] = operands[..] else { return None };
        let (x, bias) = if self.is_weight(b) { (a, b) } else { (b, a) };
        let repeated = self.ty(bias).rank() < self.ty(value).rank() && self.ty(x).rank() == self.ty(value).rank();
        let fits = self.is_weight(bias) && self.known[x.index()] == Known::Varying && repeated;
        fits.then_some(Biased { node, x, bias })
    }

    /// The graph once more: what is known beforehand first, then the other nodes, each as it was or, where `replace`
    /// gives other results, with those in place of its own.
    pub(super) fn rebuilt(
        &self,
        mut replace: impl FnMut(&mut Rewrite<'_>, usize, &Node) -> Result<Option<Vec<ValueId>>, PassError>,
    ) -> Result<Graph, PassError> {
        let mut rewrite = Rewrite::new(PASS.name, self.module, self.graph);
        let beforehand = |node: &Node| node.results.iter().all(|result| self.known[result.index()] != Known::Varying);
        for node in self.graph.nodes.iter().filter(|node| beforehand(node)) {
            rewrite.copy(node)?;
        }
        for (i, node) in self.graph.nodes.iter().enumerate().filter(|(_, node)| !beforehand(node)) {
            match replace(&mut rewrite, i, node)? {
                Some(results) => {
                    let same = results.iter().zip(&node.results).all(|(new, old)| rewrite.builder.ty(*new) == self.ty(*old));
                    assert!(same && results.len() == node.results.len(), "a rule keeps the types of what it replaces");
                    rewrite.replace(&node.results, &results);
                }
                None => drop(rewrite.copy(node)?),
            }
        }
        Ok(rewrite.finish())
    }
}

/// `x + bias`, made by a node.
pub(super) struct Biased {
    pub(super) node: usize,
    pub(super) x: ValueId,
    pub(super) bias: ValueId,
}

/// Nodes that enter the graph of this name, with the graphs they are in.
pub(super) fn callers<'a>(module: &'a Module, name: &str) -> Vec<(usize, &'a Node)> {
    let nodes = module.graphs.iter().enumerate().flat_map(|(i, graph)| graph.nodes.iter().map(move |node| (i, node)));
    nodes.filter(|(_, node)| callee(&node.op) == Some(name)).collect()
}

/// The one repeat that enters a body, and the graph it is in, which nobody enters.
pub(super) fn only_repeat<'a>(module: &'a Module, body: &str) -> Option<(usize, &'a Node, &'a Repeat)> {
    let [(caller, node)] = callers(module, body)[..] else { return None };
    let Op::Repeat(repeat) = &node.op else { return None };
    callers(module, &module.graphs[caller].name).is_empty().then_some((caller, node, repeat))
}

/// The checkpoint's name of each input of a graph that is a weight: a parameter of a graph that callers enter, or what a
/// repeat takes layer by layer from one. A body that several nodes enter has none: they may give it other weights.
pub(super) fn origins(module: &Module, number: usize) -> Vec<Option<String>> {
    let graph = &module.graphs[number];
    let own = |(i, input): (usize, &bloomery_ir::Input)| {
        let free = input.role == Role::Parameter && module.weight(&input.name).is_none();
        free.then_some((i, input.name.clone()))
    };
    if callers(module, &graph.name).is_empty() {
        return graph.inputs.iter().enumerate().map(own).map(|found| found.map(|(_, name)| name)).collect();
    }
    let Some((caller, node, repeat)) = only_repeat(module, &graph.name) else { return vec![None; graph.inputs.len()] };
    let outer = &module.graphs[caller].inputs;
    let of = |(i, operand): (usize, &ValueId)| {
        let sliced = (repeat.carry..repeat.carry + repeat.slice).contains(&i);
        let (_, name) = own((operand.index(), outer.get(operand.index())?))?;
        (sliced && graph.inputs[i].role == Role::Parameter).then_some(name)
    };
    node.operands.iter().enumerate().map(of).collect()
}

/// Whether a weight of a graph is read by no other: by none that callers enter, and by one repeat for a body.
fn is_private(module: &Module, number: usize, name: &str) -> bool {
    let is_root = |graph: &Graph| callers(module, &graph.name).is_empty();
    let others = module.graphs.iter().enumerate().filter(|(i, graph)| *i != number && is_root(graph));
    let mut reads = 0;
    for (_, graph) in others {
        let Some(input) = graph.input(name) else { continue };
        reads += graph.readers()[input.index()].len() + usize::from(graph.outputs.contains(&input));
    }
    reads == usize::from(!is_root(&module.graphs[number]))
}

/// When each value of a graph is known.
fn known(graph: &Graph, origins: &[Option<String>]) -> Vec<Known> {
    let mut known: Vec<Known> =
        origins.iter().map(|name| if name.is_some() { Known::Weight } else { Known::Varying }).collect();
    for node in &graph.nodes {
        let free = callee(&node.op).is_none() && node.op.def().collective().is_none() && consumed_by(node).is_empty();
        let operands = node.operands.iter().map(|operand| known[operand.index()]).max().unwrap_or(Known::Constant);
        let of_node = if free { operands } else { Known::Varying };
        known.extend(node.results.iter().map(|_| of_node));
    }
    known
}
