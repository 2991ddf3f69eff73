//! A small language for models: values with operators, parameters by name, blocks repeated over layers.
//!
//! ```text
//! let up = x.matmul("n h, h f -> n f", scope.param("h.mlp.up.weight")) + scope.param("h.mlp.up.bias");
//! let x = up.gelu().matmul("n f, f h -> n h", scope.param("h.mlp.down.weight")) + x;
//! ```
//!
//! A [`Scope`] writes one graph down. Inputs and parameters may be named where they are first needed; [`Scope::graph`]
//! puts them in order. [`Scope::block`] closes a graph that [`Scope::repeat`] runs over the layers; the parameters of the
//! block become stacked parameters of the graph that repeats it. What does not fit is a mistake in the model's
//! description, so it panics where it is written.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Add;

use bloomery_ir as ir;
use ir::op::{TypeContext, TypeError};
use ir::ops;
use ir::{DType, Graph, Mesh, Op, Role, SymbolBound, TensorType, ValueId};

use crate::config::BloomConfig;
use crate::names;

/// The types of a model's parameters, by name.
pub struct Weights {
    layers: u64,
    types: BTreeMap<&'static str, TensorType>,
}

impl Weights {
    /// The parameters of `config`, each with the element type that `dtype` says; blocks' parameters without layers.
    pub fn new(config: &BloomConfig, dtype: &dyn Fn(&str) -> DType) -> Weights {
        let ty = |parameter: &names::Parameter| {
            let mut ty = TensorType::new(dtype(parameter.name), parameter.dims.iter().map(|dim| dim.0 as u64));
            for (dim, (_, axis)) in ty.dims.iter_mut().zip(&parameter.dims) {
                dim.logical = Some((*axis).to_owned());
            }
            ty
        };
        let types = names::parameters(config).iter().map(|parameter| (parameter.name, ty(parameter))).collect();
        Weights { layers: config.layers as u64, types }
    }
}

/// One graph being written.
pub struct Scope<'m> {
    name: &'static str,
    symbols: Vec<SymbolBound>,
    weights: &'m Weights,
    written: RefCell<Written>,
}

/// What a scope holds so far.
#[derive(Default)]
struct Written {
    inputs: Vec<(Place, ir::Input)>,
    nodes: Vec<(Op, Vec<At>)>,
    /// Types of the nodes' results, in order.
    results: Vec<TensorType>,
    bodies: Vec<Graph>,
}

/// Where an input stands in the finished graph; a repeat gives its body carries, slices, states, and the rest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Carry,
    Parameter,
    State,
    With,
}

/// A value before its graph is finished: an input or a result, by number.
#[derive(Clone, Copy)]
enum At {
    Input(usize),
    Result(usize),
}

/// A value of a scope; operators on it write nodes.
#[derive(Clone, Copy)]
pub struct Value<'s> {
    scope: &'s Scope<'s>,
    at: At,
}

/// A graph to repeat over the layers.
pub struct Block {
    graph: Graph,
    /// How many outputs are carried to the next layer; the others are states.
    carry: usize,
    state: usize,
    with: usize,
}

impl<'m> Scope<'m> {
    /// An empty graph; `symbols` are its names with their inclusive bounds.
    pub fn new(name: &'static str, symbols: &[SymbolBound], weights: &'m Weights) -> Scope<'m> {
        Scope { name, symbols: symbols.to_vec(), weights, written: RefCell::default() }
    }

    /// An input given at each call, or carried from layer to layer; `ty` is written as in the text form.
    #[track_caller]
    pub fn input(&self, name: &str, ty: &str) -> Value<'_> {
        self.declare(Place::Carry, name, Role::Plain, read_type(ty))
    }

    /// An input of a block that is the same for every layer.
    #[track_caller]
    pub fn with(&self, name: &str, ty: &str) -> Value<'_> {
        self.declare(Place::With, name, Role::Plain, read_type(ty))
    }

    /// An input kept between calls, of which a block sees its own layer.
    #[track_caller]
    pub fn state(&self, name: &str, ty: &str) -> Value<'_> {
        self.declare(Place::State, name, Role::State, read_type(ty))
    }

    /// A parameter of the model, declared at its first use.
    #[track_caller]
    pub fn param(&self, name: &str) -> Value<'_> {
        let ty = self.weights.types.get(name).unwrap_or_else(|| panic!("the model has no parameter {name}"));
        self.declare(Place::Parameter, name, Role::Parameter, ty.clone())
    }

    /// Numbers known now.
    #[track_caller]
    pub fn constant(&self, dtype: DType, values: Vec<f64>) -> Value<'_> {
        let shape = vec![values.len() as u64];
        self.one(ops::constant::Constant { dtype, shape, values }, &[])
    }

    /// Runs `block` once per layer: results are the carries, then the states.
    #[track_caller]
    pub fn repeat<const RESULTS: usize>(
        &self,
        block: &Block,
        carry: &[Value<'_>],
        state: &[Value<'_>],
        with: &[Value<'_>],
    ) -> [Value<'_>; RESULTS] {
        assert_eq!(
            (carry.len(), state.len(), with.len()),
            (block.carry, block.state, block.with),
            "operands of a block"
        );
        let slices: Vec<Value<'_>> = block.parameters().map(|name| self.stacked(name)).collect();
        let operands: Vec<Value<'_>> = [carry, &slices, state, with].concat();
        let repeat = ops::repeat::Repeat {
            body: block.graph.name.clone(),
            over: "layers".to_owned(),
            from: 0,
            to: self.weights.layers,
            reverse: false,
            carry: block.carry,
            slice: slices.len(),
            state: block.state,
            with: block.with,
            collect: 0,
        };
        self.written.borrow_mut().bodies.push(block.graph.clone());
        let results = self.node(repeat.into(), &operands);
        results.try_into().unwrap_or_else(|_| panic!("@{} has other than {RESULTS} results", block.graph.name))
    }

    /// The finished graph: inputs and states as declared, then parameters in order of first use.
    pub fn graph(&self, outputs: &[Value<'_>]) -> Graph {
        let outputs: Vec<At> = outputs.iter().map(|value| value.at).collect();
        finish(self, &outputs, |place| place == Place::Parameter)
    }

    fn declare(&self, place: Place, name: &str, role: Role, ty: TensorType) -> Value<'_> {
        let inputs = &mut self.written.borrow_mut().inputs;
        let known = inputs.iter().position(|(_, input)| input.name == name);
        if known.is_none() {
            inputs.push((place, ir::Input { name: name.to_owned(), role, ty }));
        }
        Value { scope: self, at: At::Input(known.unwrap_or(inputs.len() - 1)) }
    }

    /// The parameter of all layers.
    fn stacked(&self, name: &str) -> Value<'_> {
        let ty = self.weights.types[name].stacked(self.weights.layers);
        self.declare(Place::Parameter, name, Role::Parameter, ty)
    }

    #[track_caller]
    fn one(&self, op: impl Into<Op>, operands: &[Value<'_>]) -> Value<'_> {
        self.node(op.into(), operands)[0]
    }

    #[track_caller]
    fn node(&self, op: Op, operands: &[Value<'_>]) -> Vec<Value<'_>> {
        let operands: Vec<At> = operands.iter().map(|value| value.at).collect();
        let types = self.infer(&op, &operands).unwrap_or_else(|error| panic!("@{}: {}: {error}", self.name, op.name()));
        let written = &mut self.written.borrow_mut();
        let first = written.results.len();
        written.results.extend(types);
        written.nodes.push((op, operands));
        (first..written.results.len()).map(|i| Value { scope: self, at: At::Result(i) }).collect()
    }

    fn infer(&self, op: &Op, operands: &[At]) -> Result<Vec<TensorType>, TypeError> {
        let written = self.written.borrow();
        let types: Vec<TensorType> = operands.iter().map(|&at| written.ty(at).clone()).collect();
        let callees = |name: &str| written.bodies.iter().find(|graph| graph.name == name);
        op.infer(&types, &TypeContext { symbols: &self.symbols, mesh: &ONE_RANK, callees: &callees })
    }
}

/// Models are described for one rank; `shard` brings the mesh.
static ONE_RANK: Mesh = Mesh { axes: Vec::new() };

#[track_caller]
fn read_type(text: &str) -> TensorType {
    ir::parse::parse_type(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

impl Written {
    fn ty(&self, at: At) -> &TensorType {
        match at {
            At::Input(i) => &self.inputs[i].1.ty,
            At::Result(i) => &self.results[i],
        }
    }
}

impl Scope<'_> {
    /// The finished body of a repeat.
    pub fn block(&self, carry: &[Value<'_>], state: &[Value<'_>]) -> Block {
        let outputs: Vec<At> = carry.iter().chain(state).map(|value| value.at).collect();
        let with = self.written.borrow().inputs.iter().filter(|(place, _)| *place == Place::With).count();
        Block { carry: carry.len(), state: state.len(), with, graph: finish(self, &outputs, |place| place) }
    }
}

impl Block {
    /// The graph of one layer.
    pub fn into_graph(self) -> Graph {
        self.graph
    }

    fn parameters(&self) -> impl Iterator<Item = &str> {
        let parameters = self.graph.inputs.iter().filter(|input| input.role == Role::Parameter);
        parameters.map(|input| input.name.as_str())
    }
}

/// Writes the graph with its inputs ordered by `key`.
fn finish<K: Ord>(scope: &Scope<'_>, outputs: &[At], key: impl Fn(Place) -> K) -> Graph {
    let written = scope.written.borrow();
    let mut order: Vec<usize> = (0..written.inputs.len()).collect();
    order.sort_by_key(|&i| key(written.inputs[i].0));
    let mut builder = ir::Builder::new(scope.name, scope.symbols.clone(), &ONE_RANK, &written.bodies);
    let mut inputs = vec![ValueId(0); order.len()];
    for i in order {
        let (_, ir::Input { name, role, ty }) = &written.inputs[i];
        inputs[i] = builder.input(name, *role, ty.clone());
    }
    let mut results = Vec::new();
    let id = |results: &[ValueId], at: &At| match *at {
        At::Input(i) => inputs[i],
        At::Result(i) => results[i],
    };
    for (op, operands) in &written.nodes {
        let operands: Vec<ValueId> = operands.iter().map(|at| id(&results, at)).collect();
        results.extend(builder.node(op.clone(), &operands).expect("types were inferred as the nodes were written"));
    }
    let outputs: Vec<ValueId> = outputs.iter().map(|at| id(&results, at)).collect();
    builder.finish(&outputs)
}

impl<'s> Value<'s> {
    /// The contraction with `weight` that `spec` says, e.g. `n h, h f -> n f`.
    #[track_caller]
    pub fn matmul(self, spec: &str, weight: Value<'s>) -> Value<'s> {
        self.scope.one(ops::matmul::MatMul::spec(spec), &[self, weight])
    }

    /// The last dimension normalised, then scaled by `gamma` and shifted by `beta`.
    #[track_caller]
    pub fn layer_norm(self, gamma: Value<'s>, beta: Value<'s>, epsilon: f64) -> Value<'s> {
        self.scope.one(ops::layer_norm::LayerNorm { epsilon }, &[self, gamma, beta])
    }

    /// The smooth gate of the MLP.
    #[track_caller]
    pub fn gelu(self) -> Value<'s> {
        self.scope.one(ops::gelu::Gelu, &[self])
    }

    /// MindFormers' other gate.
    #[track_caller]
    pub fn fast_gelu(self) -> Value<'s> {
        self.scope.one(ops::fast_gelu::FastGelu, &[self])
    }

    /// The same numbers as `dtype`; nothing is written when they are of that type already.
    #[track_caller]
    pub fn to(self, dtype: DType) -> Value<'s> {
        let same = self.scope.written.borrow().ty(self.at).dtype == dtype;
        if same { self } else { self.scope.one(ops::cast::Cast { to: dtype }, &[self]) }
    }

    /// The rows of this table at `ids`.
    #[track_caller]
    pub fn gather(self, ids: Value<'s>) -> Value<'s> {
        self.scope.one(ops::gather::Gather, &[self, ids])
    }

    /// This cache with the keys and values of new tokens; the old one is used up.
    #[track_caller]
    pub fn cache_append(self, key: Value<'s>, value: Value<'s>, rows: Value<'s>, pages: Value<'s>) -> Value<'s> {
        self.scope.one(ops::cache_append::CacheAppend, &[self, key, value, rows, pages])
    }

    /// What these queries read from the cache `kv`, with ALiBi's `slopes`.
    #[track_caller]
    pub fn alibi_attention(
        self,
        kv: Value<'s>,
        rows: Value<'s>,
        pages: Value<'s>,
        slopes: Value<'s>,
        scale: f64,
    ) -> Value<'s> {
        self.scope.one(ops::alibi_attention::AlibiAttention { scale }, &[self, kv, rows, pages, slopes])
    }
}

impl<'s> Add for Value<'s> {
    type Output = Value<'s>;

    #[track_caller]
    fn add(self, other: Value<'s>) -> Value<'s> {
        self.scope.one(ops::add::Add, &[self, other])
    }
}
