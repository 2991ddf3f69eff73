//! Sizes of the mesh become numbers: what a rank's kernels and buffers are made for.
//!
//! Before: `%w: f32[64, ffn=256/mp]`, `%0 = matmul %x, %w : f32[N, 256/mp]`, `%2 = matmul .. : f32[N, 64] partial(mp)`
//! After:  `%w: f32[64, ffn=128]`, `%0 = matmul %x, %w : f32[N, 128]`, `%2 = matmul .. : f32[N, 64]`
//!
//! Graphs keep the names of axes as long as passes reason about ranks; a target is asked about numbers, and a program
//! holds them. Owed sums are no more part of the types: the collectives that pay them are steps of the program.

use crate::pass::PassError;
use bloomery_ir::{Bindings, Graph, Mesh, Module, Node, TensorType};

/// A module of several ranks, in numbers. Its collectives no longer follow from their operands.
///
/// # Errors
/// An extent that the mesh does not divide.
pub(crate) fn bound_module(pass: &'static str, module: &Module) -> Result<Module, PassError> {
    if module.mesh.ranks() == 1 {
        return Ok(module.clone());
    }
    let graphs = module.graphs.iter().map(|graph| bound(pass, graph, &module.mesh)).collect::<Result<_, _>>()?;
    Ok(Module { graphs, ..module.clone() })
}

/// A graph of several ranks, in numbers.
///
/// # Errors
/// An extent that the mesh does not divide.
pub(crate) fn bound(pass: &'static str, graph: &Graph, mesh: &Mesh) -> Result<Graph, PassError> {
    let sizes: Bindings = mesh.axes.iter().cloned().collect();
    let of = |ty: &TensorType| numbers(pass, graph, ty, &sizes);
    let types = graph.types.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    let mut inputs = graph.inputs.clone();
    for input in &mut inputs {
        input.ty = of(&input.ty)?;
    }
    let among =
        |values: &[bloomery_ir::ValueId]| values.iter().map(|value| types[value.index()].clone()).collect::<Vec<_>>();
    let node = |node: &Node| {
        let (op, _) = node.op.localized(&among(&node.operands), &among(&node.results));
        Node { op, ..node.clone() }
    };
    Ok(Graph { nodes: graph.nodes.iter().map(node).collect(), inputs, types, ..graph.clone() })
}

fn numbers(pass: &'static str, graph: &Graph, ty: &TensorType, sizes: &Bindings) -> Result<TensorType, PassError> {
    let mut ty = ty.clone();
    ty.partial.clear();
    for dim in &mut ty.dims {
        let refused = |error| PassError::Refused { pass, graph: graph.name.clone(), message: format!("{error}") };
        dim.extent = dim.extent.bound(sizes).map_err(refused)?;
    }
    Ok(ty)
}
