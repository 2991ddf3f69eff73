//! Every rank its part: extents become local, and what differs by rank becomes data.
//!
//! Before: `%w: f32[64, ffn=256@mp]`, `%0 = matmul %x, %w : f32[N, 256@mp]`, `%3 = alibi_attention .., %slopes`
//! After:  `%w: f32[64, ffn=256/mp]`, `%0 = matmul %x, %w : f32[N, 256/mp]`, `%1 = axis_index {axis = mp}`,
//!         `%2 = piece %slopes, %1 {dim = 0, size = 4/mp}`, `%4 = alibi_attention .., %2`
//!
//! One program serves all ranks: the slices a rank takes of what is whole start at its place on the mesh
//! (`axis_index`), and a gather from a table whose rows are shared asks for it too. An operation says itself what its
//! attributes become ([`Op::localized`]). Weights that are computed beforehand stay whole: a rank's part is cut when
//! they are packed.

use crate::pass::{Context, Pass, PassError};
use crate::rewrite::{Rewrite, rebuilt};
use bloomery_ir::ops::axis_index::AxisIndex;
use bloomery_ir::ops::piece::Piece;
use bloomery_ir::sharding::{Rule, is_split, local};
use bloomery_ir::verify::callee;
use bloomery_ir::{Graph, Module, Node, Op, TensorType, ValueId};
use std::collections::BTreeMap;

/// See the module.
pub(crate) const PASS: Pass = Pass { name: "partition", run: partition };

fn partition(module: Module, _: &Context<'_>) -> Result<Module, PassError> {
    if module.mesh.ranks() == 1 || !module.graphs.iter().flat_map(|graph| &graph.types).any(is_split) {
        return Ok(module);
    }
    let graphs = rebuilt(&module, |graph, callees| localize(&module, graph, callees))?;
    Ok(Module { graphs, ..module })
}

fn localize(module: &Module, graph: &Graph, callees: &[&Graph]) -> Result<Graph, PassError> {
    let rewrite = Rewrite::among(PASS.name, graph, &module.mesh, callees.iter().copied(), local);
    let mut rank = Rank { module, graph, rewrite, places: BTreeMap::new(), pieces: BTreeMap::new() };
    graph.nodes.iter().try_for_each(|node| rank.node(node))?;
    Ok(rank.rewrite.finish())
}

/// A graph as one rank runs it, on its way.
struct Rank<'a> {
    module: &'a Module,
    graph: &'a Graph,
    rewrite: Rewrite<'a>,
    /// The rank's place along mesh axes.
    places: BTreeMap<String, ValueId>,
    /// Pieces of values that are whole, by dimension and axis.
    pieces: BTreeMap<(ValueId, usize, String), ValueId>,
}

impl Rank<'_> {
    fn node(&mut self, node: &Node) -> Result<(), PassError> {
        let types = self.graph.types_of(&node.operands);
        let mut operands = Vec::new();
        for (operand, splits) in node.operands.iter().zip(self.splits(node, &types)) {
            let mut value = self.rewrite.value(*operand);
            for (dim, axis) in splits {
                value = self.piece(value, dim, &axis)?;
            }
            operands.push(value);
        }
        let (op, place) = node.op.localized(&types, &self.graph.types_of(&node.results));
        if let Some(axis) = place {
            operands.push(self.place(&axis)?);
        }
        let results = self.rewrite.node(op, &operands)?;
        self.rewrite.replace(&node.results, &results);
        Ok(())
    }

    /// For each operand, the dimensions of which the rank takes its piece: whole here, and split where it goes.
    fn splits(&self, node: &Node, types: &[TensorType]) -> Vec<Vec<(usize, String)>> {
        let missing = |ty: &TensorType, wanted: &dyn Fn(usize) -> Option<String>| {
            let dims = ty.dims.iter().enumerate().filter(|(_, dim)| dim.split.is_none());
            dims.filter_map(|(dim, _)| Some((dim, wanted(dim)?))).collect::<Vec<_>>()
        };
        if let Some(body) = callee(&node.op).and_then(|name| self.module.graph(name)) {
            let stacked = |i: usize| matches!(&node.op, Op::Repeat(repeat) if repeat.is_stacked(i));
            let of = |(i, ty): (usize, &TensorType)| {
                let skipped = usize::from(stacked(i));
                let wanted = |dim: usize| body.inputs[i].ty.dims[dim.checked_sub(skipped)?].split.clone();
                missing(ty, &wanted)
            };
            return types.iter().enumerate().map(of).collect();
        }
        let none = || vec![Vec::new(); types.len()];
        if node.op.def().collective().is_some() || !types.iter().any(is_split) {
            return none();
        }
        let Some(rule) = Rule::of(node.op.def(), types) else { return none() };
        let axes = rule.axes(types).expect("the verifier has seen it");
        let of = |(letters, ty): (&Vec<String>, &TensorType)| {
            missing(ty, &|dim| axes.get(letters[dim].as_str()).map(|axis| (*axis).to_owned()))
        };
        rule.operands.iter().zip(types).map(of).collect()
    }

    /// The rank's place along an axis.
    fn place(&mut self, axis: &str) -> Result<ValueId, PassError> {
        if let Some(place) = self.places.get(axis) {
            return Ok(*place);
        }
        let place = self.rewrite.node(AxisIndex { axis: axis.to_owned() }, &[])?[0];
        self.places.insert(axis.to_owned(), place);
        Ok(place)
    }

    /// The rank's piece of a whole value.
    fn piece(&mut self, value: ValueId, dim: usize, axis: &str) -> Result<ValueId, PassError> {
        let key = (value, dim, axis.to_owned());
        if let Some(piece) = self.pieces.get(&key) {
            return Ok(*piece);
        }
        let place = self.place(axis)?;
        let size = self.rewrite.builder.ty(value).dims[dim].extent.over(axis);
        let piece = self.rewrite.node(Piece { dim, size }, &[value, place])?[0];
        self.pieces.insert(key, piece);
        Ok(piece)
    }
}
