//! The interpreter: the truth every kernel is tested against.
//!
//! It computes in f64 and rounds each value to its type, unless asked to keep f64 (finite differences want that). All
//! ranks of a mesh run in lockstep, node by node, so collectives need no threads.

use crate::extent::{Bindings, ExtentError};
use crate::graph::{Graph, Input, Module, Node, SymbolBound};
use crate::op::RankContext;
use crate::ops::Op;
use crate::ops::repeat::Repeat;
use crate::tensor::Tensor;
use crate::types::{DType, Mesh, TensorType};
use crate::verify::callee;
use std::collections::{BTreeMap, BTreeSet};

/// Whether values are rounded to their types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Each value is rounded to its type.
    Typed,
    /// Floats stay f64; integers are rounded.
    Double,
}

/// Runs graphs of one module.
pub struct Interpreter<'a> {
    module: &'a Module,
    precision: Precision,
}

/// Inputs that do not fit the graph.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InterpretError {
    /// No such graph.
    #[error("there is no graph @{0}")]
    NoGraph(String),
    /// Other number of ranks or inputs.
    #[error("@{graph} takes {expected} {what}, {found} are given")]
    Count {
        /// The graph.
        graph: String,
        /// Ranks or inputs.
        what: &'static str,
        /// What the module or graph says.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A tensor that is not of the input's type.
    #[error("input %{name} is {ty}, a tensor {dtype}{shape:?} is given")]
    Type {
        /// The input.
        name: String,
        /// Its type.
        ty: TensorType,
        /// The given elements' type.
        dtype: DType,
        /// The given shape.
        shape: Vec<usize>,
    },
    /// A size that the graph does not allow.
    #[error(
        "input %{name} of shape {shape:?} makes {} {value}, which must be {} to {}",
        bound.name, bound.least, bound.most
    )]
    Bounds {
        /// The input.
        name: String,
        /// The given shape.
        shape: Vec<usize>,
        /// The name that a dimension gives a value, and its bounds.
        bound: SymbolBound,
        /// The value.
        value: u64,
    },
    /// Indices that point outside what they index.
    #[error("@{graph}, {op}: {message}")]
    Index {
        /// The graph.
        graph: String,
        /// The operation.
        op: &'static str,
        /// The index, and what there is.
        message: String,
    },
    /// An extent inside the graph that these inputs give no number.
    #[error("@{graph}: {error}")]
    Extent {
        /// The graph.
        graph: String,
        /// The reason.
        error: ExtentError,
    },
}

impl<'a> Interpreter<'a> {
    /// For a verified module.
    pub fn new(module: &'a Module, precision: Precision) -> Interpreter<'a> {
        Interpreter { module, precision }
    }

    /// Runs a graph on one rank.
    ///
    /// # Errors
    /// Inputs that do not fit, indices outside their tables; the mesh has more ranks than one.
    pub fn run(&self, graph: &str, inputs: &[Tensor]) -> Result<Vec<Tensor>, InterpretError> {
        let mut outputs = self.run_ranks(graph, vec![inputs.to_vec()])?;
        Ok(outputs.remove(0))
    }

    /// Runs a graph on all ranks of the mesh: inputs and outputs by rank.
    ///
    /// # Errors
    /// Inputs that do not fit, indices outside their tables.
    pub fn run_ranks(&self, graph: &str, inputs: Vec<Vec<Tensor>>) -> Result<Vec<Vec<Tensor>>, InterpretError> {
        let graph = self.module.graph(graph).ok_or_else(|| InterpretError::NoGraph(graph.to_owned()))?;
        let count = |what, expected, found| {
            let error = || InterpretError::Count { graph: graph.name.clone(), what, expected, found };
            if expected == found { Ok(()) } else { Err(error()) }
        };
        count("ranks", self.module.mesh.ranks() as usize, inputs.len())?;
        let mut bindings = self.axes();
        for rank in &inputs {
            count("inputs", graph.inputs.len(), rank.len())?;
            bind(graph, rank, &mut bindings)?;
        }
        self.check_extents(graph, &bindings, &mut BTreeSet::new())?;
        self.graph(graph, inputs, &bindings)
    }

    /// Sizes of the mesh's axes.
    fn axes(&self) -> Bindings {
        self.module.mesh.axes.iter().cloned().collect()
    }

    /// Every type in the graph and in those it calls must have a shape; graphs that were `seen` have.
    fn check_extents<'g>(
        &'g self,
        graph: &'g Graph,
        bindings: &Bindings,
        seen: &mut BTreeSet<&'g str>,
    ) -> Result<(), InterpretError> {
        if !seen.insert(&graph.name) {
            return Ok(());
        }
        let error = |error| InterpretError::Extent { graph: graph.name.clone(), error };
        graph.types.iter().try_for_each(|ty| ty.shape(bindings).map(drop)).map_err(error)?;
        let callees = graph.nodes.iter().filter_map(|node| callee(&node.op)).filter_map(|name| self.module.graph(name));
        callees.into_iter().try_for_each(|callee| self.check_extents(callee, bindings, seen))
    }

    fn graph(&self, graph: &Graph, inputs: Vec<Vec<Tensor>>, bindings: &Bindings) -> Interpreted<Vec<Vec<Tensor>>> {
        let ranks = inputs.len();
        let mut values = by_value(inputs);
        for node in &graph.nodes {
            values.extend(self.node(graph, node, &values, bindings)?);
        }
        let of_rank = |rank: usize| graph.outputs.iter().map(|v| values[v.index()].tensors[rank].clone()).collect();
        Ok((0..ranks).map(of_rank).collect())
    }

    fn node(&self, graph: &Graph, node: &Node, values: &[Ranks], bindings: &Bindings) -> Interpreted<Vec<Ranks>> {
        let operands: Vec<&Ranks> = node.operands.iter().map(|v| &values[v.index()]).collect();
        let callee = |name: &str| self.module.graph(name).expect("the verifier knows all callees");
        match &node.op {
            Op::Repeat(repeat) => self.repeat(repeat, callee(&repeat.body), &operands, bindings),
            Op::Call(call) => self.graph(callee(&call.body), by_rank(&operands), bindings).map(by_value),
            _ => self.plain(graph, node, &operands, bindings),
        }
    }

    fn plain(&self, graph: &Graph, node: &Node, operands: &[&Ranks], bindings: &Bindings) -> Interpreted<Vec<Ranks>> {
        let (op, types, mesh) = (&node.op, graph.types_of(&node.results), &self.module.mesh);
        let outside = |message| InterpretError::Index { graph: graph.name.clone(), op: op.name(), message };
        let results = (0..mesh.ranks()).map(|rank| {
            let cx = RankContext { bindings, mesh, rank };
            let given: Vec<&Tensor> = match op.def().collective() {
                Some(axis) => mesh.group(rank, axis).iter().map(|&r| &operands[0].tensors[r as usize]).collect(),
                None => operands.iter().map(|ranks| &ranks.tensors[rank as usize]).collect(),
            };
            op.def().check_indices(&given).map_err(outside)?;
            let results = op.def().reference(&given, &types, &cx);
            Ok(results.into_iter().map(|tensor| self.rounded(tensor)).collect())
        });
        results.collect::<Interpreted<_>>().map(by_value)
    }

    fn rounded(&self, tensor: Tensor) -> Tensor {
        let keep = self.precision == Precision::Double && tensor.dtype.is_float();
        if keep { tensor } else { tensor.rounded() }
    }

    fn repeat(
        &self,
        repeat: &Repeat,
        body: &Graph,
        operands: &[&Ranks],
        bindings: &Bindings,
    ) -> Interpreted<Vec<Ranks>> {
        let mut given = by_rank(operands);
        let mut collected: Vec<Vec<BTreeMap<u64, Tensor>>> = vec![vec![BTreeMap::new(); repeat.collect]; given.len()];
        for layer in repeat.layers() {
            let inputs = given.iter().map(|rank| layer_inputs(repeat, rank, layer as usize)).collect();
            for (rank, outputs) in self.graph(body, inputs, bindings)?.into_iter().enumerate() {
                let mut outputs = outputs.into_iter();
                for carry in &mut given[rank][..repeat.carry] {
                    *carry = outputs.next().expect("the verifier counted the results");
                }
                for (operand, _) in repeat.states() {
                    let state = outputs.next().expect("the verifier counted the results");
                    given[rank][operand].set_layer(layer as usize, &state);
                }
                for (slot, tensor) in collected[rank].iter_mut().zip(outputs) {
                    slot.insert(layer, tensor);
                }
            }
        }
        let results = given.into_iter().zip(collected).map(|(rank, collected)| {
            let states: Vec<Tensor> = repeat.states().map(|(operand, _)| rank[operand].clone()).collect();
            let carries = rank.into_iter().take(repeat.carry);
            carries.chain(states).chain(collected.iter().map(|layers| stack(layers, repeat.to))).collect()
        });
        Ok(by_value(results.collect()))
    }
}

type Interpreted<T> = Result<T, InterpretError>;

/// One value on every rank.
struct Ranks {
    tensors: Vec<Tensor>,
}

fn by_rank(values: &[&Ranks]) -> Vec<Vec<Tensor>> {
    let ranks = values.first().map_or(1, |value| value.tensors.len());
    (0..ranks).map(|rank| values.iter().map(|value| value.tensors[rank].clone()).collect()).collect()
}

fn by_value(ranks: Vec<Vec<Tensor>>) -> Vec<Ranks> {
    let mut ranks: Vec<_> = ranks.into_iter().map(Vec::into_iter).collect();
    let values = ranks[0].len();
    let next = |rank: &mut std::vec::IntoIter<Tensor>| rank.next().expect("ranks have equally many values");
    (0..values).map(|_| Ranks { tensors: ranks.iter_mut().map(next).collect() }).collect()
}

fn layer_inputs(repeat: &Repeat, given: &[Tensor], layer: usize) -> Vec<Tensor> {
    let input = |(i, tensor): (usize, &Tensor)| if repeat.is_stacked(i) { tensor.layer(layer) } else { tensor.clone() };
    given.iter().enumerate().map(input).collect()
}

/// Collected layers, zeros where none ran.
fn stack(layers: &BTreeMap<u64, Tensor>, count: u64) -> Tensor {
    let one = layers.values().next().expect("a repeat has at least one layer");
    let mut shape = vec![count as usize];
    shape.extend(&one.shape);
    let mut stacked = Tensor::zeros(one.dtype, shape);
    layers.iter().for_each(|(layer, tensor)| stacked.set_layer(*layer as usize, tensor));
    stacked
}

/// Learns the values of names from the shapes given, and checks the tensors against the types.
///
/// # Errors
/// Elements or a shape that do not fit the type; a size outside its bounds.
pub fn bind(graph: &Graph, inputs: &[Tensor], bindings: &mut Bindings) -> Result<(), InterpretError> {
    for (input, tensor) in graph.inputs.iter().zip(inputs) {
        for (dim, &found) in input.ty.dims.iter().zip(&tensor.shape) {
            if let Some((name, value)) = dim.extent.solve(found as u64, bindings) {
                check_bounds(graph, input, tensor, (name, value))?;
                bindings.insert(name.to_owned(), value);
            }
        }
    }
    for (input, tensor) in graph.inputs.iter().zip(inputs) {
        let fits = input.ty.shape(bindings).is_ok_and(|shape| shape == tensor.shape);
        if !fits || tensor.dtype != input.ty.dtype {
            let (name, ty) = (input.name.clone(), input.ty.clone());
            return Err(InterpretError::Type { name, ty, dtype: tensor.dtype, shape: tensor.shape.clone() });
        }
    }
    Ok(())
}

/// Refuses a value that the name's bounds exclude.
fn check_bounds(graph: &Graph, input: &Input, tensor: &Tensor, found: (&str, u64)) -> Result<(), InterpretError> {
    let (symbol, value) = found;
    let outside = |bound: &&SymbolBound| bound.name == symbol && !(bound.least..=bound.most).contains(&value);
    let Some(bound) = graph.symbols.iter().find(outside) else { return Ok(()) };
    let (name, shape, bound) = (input.name.clone(), tensor.shape.clone(), bound.clone());
    Err(InterpretError::Bounds { name, shape, bound, value })
}

/// Rows of a value on a mesh: the slice that `rank` holds under the type's splits.
pub fn shard(tensor: &Tensor, ty: &TensorType, mesh: &Mesh, rank: u64) -> Tensor {
    let mut piece = tensor.clone();
    for (dim, d) in ty.dims.iter().enumerate() {
        let axes: Vec<String> = d.split.iter().cloned().chain(d.extent.divisors().map(str::to_owned)).collect();
        for axis in axes {
            let size = mesh.size(&axis).expect("the verifier knows the axes") as usize;
            let place = mesh.coordinate(rank, &axis).expect("the verifier knows the axes") as usize;
            let width = piece.shape[dim] / size;
            piece = piece.slice(dim, place * width..(place + 1) * width);
        }
    }
    piece
}

/// Evaluates one operation on one rank, rounding results; what tests of samples call.
pub fn evaluate(op: &Op, operands: &[&Tensor], types: &[TensorType], bindings: &Bindings) -> Vec<Tensor> {
    let mesh = Mesh::default();
    let cx = RankContext { bindings, mesh: &mesh, rank: 0 };
    op.def().reference(operands, types, &cx).into_iter().map(Tensor::rounded).collect()
}
