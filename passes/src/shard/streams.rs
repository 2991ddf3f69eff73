//! What flows through a model: values as long as the call is, and the axes of the mesh that share that length.
//!
//! `N`, the length of what a caller gives along `tokens`, is no number, so no input is cut by it. What is computed is: a
//! dimension of length `N`, in whatever value, is one that a strategy for `tokens` splits.

use crate::pass::Strategy;
use bloomery_ir::sharding::used_twice;
use bloomery_ir::{Dim, Extent, Graph, Module, Op, SymbolBound, TensorType};
use std::collections::BTreeMap;

/// Lengths that every call has its own of, such as `N`, and the axes that split dimensions so long.
pub(super) struct Streams(BTreeMap<Extent, (String, u64)>);

impl Streams {
    pub(super) fn of(module: &Module, strategy: &Strategy) -> Streams {
        let inputs = module.graphs.iter().flat_map(|graph| graph.inputs.iter().map(move |input| (graph, input)));
        let dims = inputs.flat_map(|(graph, input)| input.ty.dims.iter().map(move |dim| (graph, dim)));
        let of = |(graph, dim): (&Graph, &Dim)| {
            let axis = strategy.axes.get(dim.logical.as_ref()?)?;
            let is_symbol = graph.symbols.iter().any(|symbol| Extent::symbol(&symbol.name) == dim.extent);
            let size = strategy.mesh.size(axis).filter(|size| is_symbol && *size > 1)?;
            Some((dim.extent.clone(), (axis.clone(), size)))
        };
        Streams(dims.filter_map(of).collect())
    }

    /// Whether inputs of this length stay whole, and only what is computed from them is split.
    pub(super) fn have(&self, extent: &Extent) -> bool {
        self.0.contains_key(extent)
    }

    /// Splits what repeats carry, and lets lengths be such as ranks can share.
    pub(super) fn seed(&self, module: &mut Module) {
        let nodes = module.graphs.iter().flat_map(|graph| &graph.nodes);
        let repeats = nodes.filter_map(|node| if let Op::Repeat(repeat) = &node.op { Some(repeat) } else { None });
        let carries: BTreeMap<String, usize> = repeats.map(|repeat| (repeat.body.clone(), repeat.carry)).collect();
        for graph in &mut module.graphs {
            graph.symbols.iter_mut().for_each(|symbol| self.bound(symbol));
            let carried = carries.get(&graph.name).copied().unwrap_or_default();
            for (input, ty) in graph.inputs.iter_mut().zip(&mut graph.types).take(carried) {
                if let Some((dim, axis)) = self.split(&input.ty) {
                    input.ty.dims[dim].split = Some(axis);
                }
                *ty = input.ty.clone();
            }
        }
    }

    /// The least and the most of it that ranks can share.
    fn bound(&self, symbol: &mut SymbolBound) {
        if let Some((_, size)) = self.0.get(&Extent::symbol(&symbol.name)) {
            symbol.least = symbol.least.next_multiple_of(*size);
            symbol.most = (symbol.most - symbol.most % size).max(symbol.least);
        }
    }

    /// The dimension of a value that is to be split, and over which axis, once it owes no sum over that.
    pub(super) fn split(&self, ty: &TensorType) -> Option<(usize, String)> {
        let of = |(dim, length): (usize, &Dim)| {
            let (axis, _) = self.0.get(&length.extent).filter(|_| length.split.is_none())?;
            let mut split = ty.clone();
            split.partial.retain(|owed| owed != axis);
            split.dims[dim].split = Some(axis.clone());
            used_twice(&split).is_none().then(|| (dim, axis.clone()))
        };
        ty.dims.iter().enumerate().find_map(of)
    }
}
