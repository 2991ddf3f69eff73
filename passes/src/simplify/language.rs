//! Terms: what the e-graph holds of a graph's body, and their types.
//!
//! A term is an operation over values. Its attributes are a leaf, its first child, so that a rule's pattern can name
//! them: `(scale ?b (scale ?a ?x))`. Operations without attributes have no such child. What rules must not look into
//! is opaque: tagged by the id of its first result, hence equal to nothing else, and read by `get`.

use crate::rewrite::{consumed_values, touches_memory};
use bloomery_ir::op::TypeContext;
use bloomery_ir::print::attributes;
use bloomery_ir::verify::callee;
use bloomery_ir::{Graph, Mesh, Node, Op, SymbolBound, TensorType, TypeError};
use egg::{Analysis, DidMerge, EGraph, FromOp, Id, Language};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The e-graph of one body.
pub(super) type Body = EGraph<Term, Types>;

/// What stands at a term's top.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Head {
    /// Attributes of an operation, as text: `scale{by = 2.0}`.
    Attributes(Arc<str>),
    /// An input of the graph, by number.
    Input(u32),
    /// A pure operation of one result.
    Op(&'static str),
    /// Any other node, by the id of its first result.
    Opaque(u32),
    /// One result of an opaque node, by position.
    Get(u32),
}

/// An e-node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Term {
    /// What stands at the top.
    pub(super) head: Head,
    /// Attributes if any, then operands.
    pub(super) children: Vec<Id>,
}

impl Term {
    /// A term.
    pub(super) fn new(head: Head, children: Vec<Id>) -> Term {
        Term { head, children }
    }
}

impl Language for Term {
    type Discriminant = Head;

    fn discriminant(&self) -> Head {
        self.head.clone()
    }

    fn matches(&self, other: &Term) -> bool {
        self.head == other.head && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

/// Patterns name operations only.
impl FromOp for Term {
    type Error = String;

    fn from_op(op: &str, children: Vec<Id>) -> Result<Term, String> {
        let name = Op::NAMES.iter().find(|name| **name == op).ok_or_else(|| format!("unknown operation `{op}`"))?;
        Ok(Term::new(Head::Op(name), children))
    }
}

/// What is known of a class.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    /// A value of this type, logical names aside.
    Value(TensorType),
    /// The operation these attributes make.
    Attributes(Op),
    /// Types of an opaque node's results.
    Results(Vec<TensorType>),
}

/// The analysis: types, and the order in which terms came.
#[derive(Debug, Default)]
pub(super) struct Types {
    /// Names with bounds.
    pub(super) symbols: Vec<SymbolBound>,
    /// The ranks.
    pub(super) mesh: Mesh,
    /// When each term came first: those of the graph in its own order, then what rules made, in order of the rules.
    pub(super) made: BTreeMap<Term, usize>,
    inputs: Vec<TensorType>,
    results: BTreeMap<u32, Vec<TensorType>>,
    ops: BTreeMap<Arc<str>, Op>,
}

impl Types {
    /// The type of an operation over children.
    pub(super) fn infer(&self, name: &str, children: &[&Data]) -> Result<TensorType, TypeError> {
        let cx = TypeContext { symbols: &self.symbols, mesh: &self.mesh, callees: &|_| None };
        let (op, operands) = operation(name, children);
        op.infer(&operands, &cx).map(|mut types| types.remove(0))
    }

    fn data(&self, head: &Head, children: &[&Data]) -> Data {
        match (head, children) {
            (Head::Attributes(text), _) => Data::Attributes(self.ops[text].clone()),
            (Head::Input(i), _) => Data::Value(self.inputs[*i as usize].clone()),
            (Head::Opaque(id), _) => Data::Results(self.results[id].clone()),
            (Head::Get(i), [Data::Results(types)]) => Data::Value(types[*i as usize].clone()),
            (Head::Get(_), _) => unreachable!("get reads an opaque node"),
            (Head::Op(name), _) => {
                Data::Value(self.infer(name, children).expect("terms are checked before they are added"))
            }
        }
    }
}

/// The operation of this name over children, and its operands' types.
pub(super) fn operation(name: &str, children: &[&Data]) -> (Op, Vec<TensorType>) {
    let ty = |data: &&Data| if let Data::Value(ty) = data { Some(ty.clone()) } else { None };
    let types = children.iter().filter_map(ty).collect();
    match children.first() {
        Some(Data::Attributes(op)) => (op.clone(), types),
        // The default is what an operation without attributes prints as: null.
        _ => (Op::from_attributes(name, Default::default()).expect("it has no attributes"), types),
    }
}

impl Analysis<Term> for Types {
    type Data = Data;

    fn make(body: &mut Body, term: &Term, _: Id) -> Data {
        let order = body.analysis.made.len();
        body.analysis.made.entry(term.clone()).or_insert(order);
        body.analysis.data(&term.head, &data_of(body, &term.children))
    }

    fn merge(&mut self, a: &mut Data, b: Data) -> DidMerge {
        assert_eq!(*a, b, "a rule made one value of two types");
        DidMerge(false, false)
    }
}

/// What is known of several classes.
pub(super) fn data_of<'a>(body: &'a Body, classes: &[Id]) -> Vec<&'a Data> {
    classes.iter().map(|&id| &body[id].data).collect()
}

/// The class of an operation's attributes, unless it has none.
pub(super) fn add_attributes(body: &mut Body, op: &Op) -> Option<Id> {
    if !op.attributes().is_object() {
        return None;
    }
    let text: Arc<str> = format!("{}{}", op.name(), attributes(op)).into();
    body.analysis.ops.insert(text.clone(), op.clone());
    Some(body.add(Term::new(Head::Attributes(text), vec![])))
}

/// A graph's body as an e-graph, and the class of each of its values.
pub(super) fn load(graph: &Graph, mesh: &Mesh) -> (Body, Vec<Id>) {
    let inputs = graph.inputs.iter().map(|input| input.ty.unnamed()).collect();
    let types = Types { symbols: graph.symbols.clone(), mesh: mesh.clone(), inputs, ..Types::default() };
    let mut body = Body::new(types);
    let mut values: Vec<Id> =
        (0..graph.inputs.len()).map(|i| body.add(Term::new(Head::Input(i as u32), vec![]))).collect();
    let consumed = consumed_values(graph);
    for node in &graph.nodes {
        let operands: Vec<Id> = node.operands.iter().map(|value| values[value.index()]).collect();
        if is_opaque(node) || touches_memory(node, &consumed) {
            values.extend(add_opaque(&mut body, graph, node, operands));
        } else {
            let children = add_attributes(&mut body, &node.op).into_iter().chain(operands).collect();
            values.push(body.add(Term::new(Head::Op(node.op.name()), children)));
        }
    }
    body.rebuild();
    (body, values)
}

fn is_opaque(node: &Node) -> bool {
    callee(&node.op).is_some() || node.results.len() != 1
}

fn add_opaque(body: &mut Body, graph: &Graph, node: &Node, operands: Vec<Id>) -> Vec<Id> {
    let Some(tag) = node.results.first() else { return Vec::new() };
    body.analysis.results.insert(tag.0, graph.types_of(&node.results));
    let whole = body.add(Term::new(Head::Opaque(tag.0), operands));
    (0..node.results.len()).map(|i| body.add(Term::new(Head::Get(i as u32), vec![whole]))).collect()
}
