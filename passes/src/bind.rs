//! Sizes of the mesh become numbers: what a rank's kernels and buffers are made for.
//!
//! Before: `%w: f32[64, ffn=256/mp]`, `%0 = matmul %x, %w : f32[N, 256/mp]`, `%2 = matmul .. : f32[N, 64] partial(mp)`
//! After:  `%w: f32[64, ffn=128]`, `%0 = matmul %x, %w : f32[N, 128]`, `%2 = matmul .. : f32[N, 64]`
//!
//! A length that ranks share, `N/mp` beside `N`, becomes a name of its own: what a rank has of it is called `N` from here on,
//! and all of it is `2*N`. So lengths that ranks cannot share are none, and one number is enough to say how long both are.
//!
//! Graphs keep the names of axes as long as passes reason about ranks; a target is asked about numbers, and a program
//! holds them. Owed sums are no more part of the types: the collectives that pay them are steps of the program.

use crate::pass::PassError;
use bloomery_ir::{Bindings, Extent, Graph, Mesh, Module, Node, SymbolBound, TensorType};
use std::collections::BTreeMap;

/// What names become in a module of several ranks.
pub(crate) struct Numbers {
    /// Sizes of the mesh.
    sizes: Bindings,
    /// Lengths that ranks share, and how many ranks do.
    shared: BTreeMap<String, u64>,
}

impl Numbers {
    /// As its types ask for.
    pub(crate) fn of(module: &Module) -> Numbers {
        let mut numbers = Numbers { sizes: module.mesh.axes.iter().cloned().collect(), shared: BTreeMap::new() };
        for (graph, ty) in module.graphs.iter().flat_map(|graph| graph.types.iter().map(move |ty| (graph, ty))) {
            ty.extents().for_each(|extent| numbers.share(extent, &graph.symbols, &module.mesh));
        }
        numbers
    }

    /// Lets the symbols of an extent be such that its axes divide it.
    fn share(&mut self, extent: &Extent, symbols: &[SymbolBound], mesh: &Mesh) {
        let ranks = extent.divisors().filter_map(|axis| mesh.size(axis)).fold(1, u64::saturating_mul).max(1);
        let is_symbol = |name: &&str| symbols.iter().any(|symbol| symbol.name == **name);
        for name in extent.names().filter(is_symbol) {
            let shared = self.shared.entry(name.to_owned()).or_insert(1);
            *shared = shared.saturating_mul(if *shared % ranks == 0 { 1 } else { ranks });
        }
    }

    /// How many ranks share a length: it is so many times what one has.
    pub(crate) fn ranks(&self, symbol: &str) -> u64 {
        self.shared.get(symbol).copied().unwrap_or(1)
    }

    /// An extent, in numbers.
    fn extent(&self, extent: &Extent) -> Result<Extent, bloomery_ir::extent::ExtentError> {
        let scaled = self.shared.iter().fold(extent.clone(), |extent, (name, ranks)| extent.scaled(name, *ranks));
        scaled.bound(&self.sizes)
    }

    /// Bounds of what a rank has of a length; none where that is less than one.
    pub(crate) fn bounds(&self, symbol: &SymbolBound) -> Option<SymbolBound> {
        let ranks = self.ranks(&symbol.name);
        let (least, most) = (symbol.least.div_ceil(ranks), symbol.most / ranks);
        (least <= most).then(|| SymbolBound::new(&symbol.name, least, most))
    }
}

/// A module of several ranks, in numbers. Its collectives no longer follow from their operands.
///
/// # Errors
/// An extent that the mesh does not divide.
pub(crate) fn bound_module(pass: &'static str, module: &Module, numbers: &Numbers) -> Result<Module, PassError> {
    if module.mesh.ranks() == 1 {
        return Ok(module.clone());
    }
    let graphs = module.graphs.iter().map(|graph| bound(pass, graph, numbers)).collect::<Result<_, _>>()?;
    Ok(Module { graphs, ..module.clone() })
}

/// A graph of several ranks, in numbers.
///
/// # Errors
/// An extent that the mesh does not divide.
pub(crate) fn bound(pass: &'static str, graph: &Graph, numbers: &Numbers) -> Result<Graph, PassError> {
    let of = |ty: &TensorType| in_numbers(pass, graph, ty, numbers);
    let types = graph.types.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    let mut inputs = graph.inputs.clone();
    for input in &mut inputs {
        input.ty = of(&input.ty)?;
    }
    let few = |symbol: &SymbolBound| {
        let (name, most, ranks) = (&symbol.name, symbol.most, numbers.ranks(&symbol.name));
        refused(pass, graph, format!("{name} is {most} at most, which {ranks} ranks cannot share"))
    };
    let symbols = graph.symbols.iter().map(|symbol| numbers.bounds(symbol).ok_or_else(|| few(symbol)));
    let symbols = symbols.collect::<Result<_, _>>()?;
    let among =
        |values: &[bloomery_ir::ValueId]| values.iter().map(|value| types[value.index()].clone()).collect::<Vec<_>>();
    let node = |node: &Node| {
        let (op, _) = node.op.localized(&among(&node.operands), &among(&node.results));
        Node { op, ..node.clone() }
    };
    Ok(Graph { nodes: graph.nodes.iter().map(node).collect(), inputs, types, symbols, ..graph.clone() })
}

fn in_numbers(pass: &'static str, graph: &Graph, ty: &TensorType, numbers: &Numbers) -> Result<TensorType, PassError> {
    let mut ty = ty.clone();
    ty.partial.clear();
    for dim in &mut ty.dims {
        dim.extent = numbers.extent(&dim.extent).map_err(|error| refused(pass, graph, error.to_string()))?;
    }
    Ok(ty)
}

fn refused(pass: &'static str, graph: &Graph, message: String) -> PassError {
    PassError::Refused { pass, graph: graph.name.clone(), message }
}
