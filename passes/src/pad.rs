//! What ranks share and their number does not divide gets longer: by zeros, and what comes of those is cut off again.
//!
//! ```text
//! Before: `%w: f32[vocab=11, 64]`, `%0 = gather %w, %ids`, .., `%4 = matmul %3, %w : f32[N, 11]`, `return %4`
//! After:  `%w: f32[vocab=12, 64]`, `%0 = gather %w, %ids`, .., `%4 = matmul %3, %w : f32[N, 12]`,
//!         `%5 = slice %4 {dim = 1, from = 0, to = 11} : f32[N, 11]`, `return %5`, and a weight graph that puts zeros at the
//!         end of what is stored, `weight @w(%w: f32[11, 64])`
//! ```
//!
//! Which axes may get longer, the strategy says ([`Strategy::padded`]); of others [`shard`](crate::shard) says which
//! numbers of ranks would do. How far the new length goes, an operation's letters say
//! ([`sharding`](bloomery_ir::sharding)): a letter of the result makes the result longer as well, and what is looked into by
//! index is never looked for among zeros. Before anything else (a sum, a norm, the graph's end) a value is cut back to what
//! it was, so no zero is ever taken for a value, and nobody behind these few operations can tell.
//!
//! A weight that is longer than what is stored is one that is computed beforehand, so packing, random weights and the
//! certificate need not know of zeros.

use crate::pass::{Context, Pass, PassError, Strategy};
use crate::pipeline;
use crate::rewrite::{Rewrite, rebuilt};
use crate::shard;
use bloomery_ir::ops::broadcast::Broadcast;
use bloomery_ir::ops::concat::Concat;
use bloomery_ir::ops::constant::Constant;
use bloomery_ir::ops::slice::Slice;
use bloomery_ir::sharding::{Rule, WHOLE};
use bloomery_ir::{Builder, Dim, Extent, Graph, Input, Mesh, Module, Node, Op, Role, TensorType, ValueId};
use std::collections::BTreeMap;

/// See the module.
pub(crate) const PASS: Pass = Pass { name: "pad", run: pad };

fn pad(module: Module, cx: &Context<'_>) -> Result<Module, PassError> {
    let Some(strategy) = cx.strategy.filter(|strategy| !strategy.padded.is_empty()) else { return Ok(module) };
    let longer = lengthened(&module, strategy)?;
    let rest = |graph: &Graph, callees: &[&Graph]| {
        let old = module.graph(&graph.name).expect("it has the same graphs");
        Padding::of(old, graph, &module.mesh, callees, strategy)
    };
    Ok(Module { graphs: rebuilt(&longer, rest)?, ..longer })
}

/// The module with longer parameters and what makes them, and with graphs that do not know it yet. What a graph is entered
/// with stays as it is: its caller has that from elsewhere.
fn lengthened(module: &Module, strategy: &Strategy) -> Result<Module, PassError> {
    let callees = pipeline::callees(module);
    let mut longer = module.clone();
    for graph in longer.graphs.iter_mut().filter(|graph| !callees.contains(graph.name.as_str())) {
        for input in &mut graph.inputs {
            let Some(ty) = padded(input, strategy) else { continue };
            longer.weights.retain(|weight| weight.name != input.name);
            longer.weights.push(weight(module, input, &ty)?);
            input.ty = ty;
        }
    }
    Ok(longer)
}

/// The type of a parameter that has to be longer.
fn padded(input: &Input, strategy: &Strategy) -> Option<TensorType> {
    let mut ty = input.ty.clone();
    for dim in ty.dims.iter_mut().filter(|_| input.role == Role::Parameter) {
        let of = |name: &String| strategy.padded.contains(name).then(|| strategy.size(name)).flatten();
        if let (Some((_, size)), Some(extent)) = (dim.logical.as_ref().and_then(of), dim.extent.as_number()) {
            dim.extent = Extent::number(extent.next_multiple_of(size));
        }
    }
    (ty != input.ty).then_some(ty)
}

/// What makes a longer parameter: of what is stored, or of what was made of that already, with zeros at the end.
fn weight(module: &Module, input: &Input, longer: &TensorType) -> Result<Graph, PassError> {
    let stored = || {
        let mut builder = Builder::new(&input.name, vec![], &module.mesh, []);
        let value = builder.input(&input.name, Role::Parameter, input.ty.unnamed());
        builder.finish(&[value])
    };
    let graph = module.weight(&input.name).cloned().unwrap_or_else(stored);
    let mut rewrite = Rewrite::new(PASS.name, module, &graph);
    graph.nodes.iter().try_for_each(|node| rewrite.copy(node).map(drop))?;
    let mut value = rewrite.value(graph.outputs[0]);
    for (dim, to) in longer.extents().enumerate() {
        let ty = rewrite.builder.ty(value).clone();
        let from = &ty.dims[dim].extent;
        if let (Some(from), Some(to), true) = (from.as_number(), to.as_number(), from != to) {
            let zero = Constant { dtype: ty.dtype, shape: vec![], values: vec![0.0] };
            let zero = rewrite.node(zero, &[])?[0];
            let extents = ty.extents().enumerate();
            let leading = extents.map(|(i, extent)| if i == dim { Extent::number(to - from) } else { extent.clone() });
            let zeros = rewrite.node(Broadcast { leading: leading.collect() }, &[zero])?[0];
            value = rewrite.node(Concat { dim }, &[value, zeros])?[0];
        }
    }
    Ok(rewrite.builder.finish(&[value]))
}

/// A weight graph without the zeros that this pass puts at the end of what it makes.
#[must_use]
pub fn unpadded(graph: &Graph) -> Graph {
    let [.., zero, zeros, joined] = &graph.nodes[..] else { return graph.clone() };
    let is_zero = matches!(&zero.op, Op::Constant(zero) if zero.shape.is_empty() && zero.values == [0.0]);
    let added = matches!((&zeros.op, &joined.op), (Op::Broadcast(_), Op::Concat(_)))
        && zeros.operands == zero.results
        && joined.operands[1..] == zeros.results
        && joined.results == graph.outputs;
    if !is_zero || !added {
        return graph.clone();
    }
    let kept = |all: usize| all - [zero, zeros, joined].len();
    let mut shorter = Graph { outputs: vec![joined.operands[0]], ..graph.clone() };
    shorter.nodes.truncate(kept(graph.nodes.len()));
    shorter.types.truncate(kept(graph.types.len()));
    unpadded(&shorter)
}

/// A dimension of an operand.
struct Length<'a> {
    operand: usize,
    dim: usize,
    letter: &'a String,
    /// How long it has become, if it has.
    now: Option<&'a Extent>,
}

/// A graph on its way. A value is longer where its type is another than it was.
struct Padding<'a> {
    old: &'a Graph,
    strategy: &'a Strategy,
    rewrite: Rewrite<'a>,
    /// Old values that are longer, and what they are once they are cut back.
    cut: BTreeMap<ValueId, ValueId>,
}

impl<'a> Padding<'a> {
    /// The graph that `old` becomes on the inputs of `longer`.
    fn of(
        old: &'a Graph,
        longer: &'a Graph,
        mesh: &'a Mesh,
        callees: &[&'a Graph],
        strategy: &'a Strategy,
    ) -> Result<Graph, PassError> {
        let rewrite = Rewrite::among(PASS.name, longer, mesh, callees.iter().copied(), TensorType::clone);
        let mut padding = Padding { old, strategy, rewrite, cut: BTreeMap::new() };
        old.nodes.iter().try_for_each(|node| padding.node(node))?;
        let outputs = old.outputs.iter().map(|output| padding.as_it_was(*output, "return"));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        Ok(padding.rewrite.builder.finish(&outputs))
    }

    fn node(&mut self, node: &Node) -> Result<(), PassError> {
        let operands = self.rewrite.values(&node.operands);
        let carried = self.carries(node).then(|| self.rewrite.builder.node(node.op.clone(), &operands).ok()).flatten();
        let results = match carried {
            Some(results) => results,
            None => {
                let cut = node.operands.iter().map(|operand| self.as_it_was(*operand, node.op.name()));
                let cut = cut.collect::<Result<Vec<_>, _>>()?;
                self.rewrite.node(node.op.clone(), &cut)?
            }
        };
        self.rewrite.replace(&node.results, &results);
        Ok(())
    }

    /// Whether an operation may take longer operands: their letters are as long wherever they stand, and are in the result,
    /// or only looked into by index.
    fn carries(&self, node: &Node) -> bool {
        let def = node.op.def();
        let Some(rule) = Rule::of(def, &self.old.types_of(&node.operands)) else {
            return !node.operands.iter().any(|operand| self.is_longer(*operand));
        };
        let lists = node.operands.iter().zip(&rule.operands).enumerate();
        let all: Vec<Length<'_>> = lists.flat_map(|(i, (operand, letters))| self.named(i, *operand, letters)).collect();
        all.iter().filter(|length| length.now.is_some()).all(|Length { operand, dim, letter, now }| {
            let alike = all.iter().all(|other| other.letter != *letter || other.now == *now);
            let indexed = *dim == 0 && def.indexed() == Some(*operand);
            alike && *letter != WHOLE && (indexed || rule.result.contains(letter))
        })
    }

    /// The dimensions of an old value, which is an operand of this number, by their letters.
    fn named<'b>(&'b self, operand: usize, old: ValueId, letters: &'b [String]) -> impl Iterator<Item = Length<'b>> {
        let dims = letters.iter().zip(self.lengths(old)).enumerate();
        dims.map(move |(dim, (letter, now))| Length { operand, dim, letter, now })
    }

    /// For each dimension of an old value, how long it has become, where it has.
    fn lengths(&self, old: ValueId) -> impl Iterator<Item = Option<&Extent>> {
        let (before, now) = (self.old.ty(old), self.rewrite.builder.ty(self.rewrite.value(old)));
        before.extents().zip(now.extents()).map(|(before, now)| (before != now).then_some(now))
    }

    fn is_longer(&self, old: ValueId) -> bool {
        self.lengths(old).any(|length| length.is_some())
    }

    /// What stands for an old value, as long as that was.
    fn as_it_was(&mut self, old: ValueId, reader: &str) -> Result<ValueId, PassError> {
        let mut value = self.rewrite.value(old);
        if !self.is_longer(old) {
            return Ok(value);
        }
        if let Some(cut) = self.cut.get(&old) {
            return Ok(*cut);
        }
        if let Some(input) = self.old.inputs.get(old.index()) {
            return Err(self.refused(input, reader));
        }
        for (dim, Dim { extent, .. }) in self.old.ty(old).dims.iter().enumerate() {
            if let (true, Some(to)) = (self.rewrite.builder.ty(value).dims[dim].extent != *extent, extent.as_number()) {
                value = self.rewrite.node(Slice { dim, from: 0, to }, &[value])?[0];
            }
        }
        self.cut.insert(old, value);
        Ok(value)
    }

    /// A weight that something else than products and indices takes would have to be cut back at every run.
    fn refused(&self, input: &Input, reader: &str) -> PassError {
        let of = |dim: &Dim| {
            let logical = dim.logical.as_ref().filter(|name| self.strategy.padded.contains(*name))?;
            let ((axis, size), extent) = (self.strategy.size(logical)?, dim.extent.as_number()?);
            (extent % size != 0).then(|| {
                let of = format!("the {extent} of axis {logical} of %{}", input.name);
                let works = shard::works(axis, extent);
                format!("{axis} = {size} does not divide {of}, and `{reader}` would take zeros after them for more{works}")
            })
        };
        let message = input.ty.dims.iter().find_map(of).expect("one of them is longer");
        PassError::Refused { pass: PASS.name, graph: self.old.name.clone(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloomery_ir::parse;

    /// What is stored, and what is computed already.
    #[test]
    fn zeros_come_off_as_they_were_put_on() {
        let text = "graph @g(param %a: f16[5, 3], param %b: f16[5, 3]) { return %a }
            weight @b(param %c: f16[5, 3]) { %0 = scale %c {by = 2} : f16[5, 3] return %0 }";
        let module = parse(text).unwrap();
        for (input, nodes) in module.graphs[0].inputs.iter().zip([0, 1]) {
            let longer = weight(&module, input, &TensorType::new(input.ty.dtype, [6u64, 4])).unwrap();
            assert_eq!(longer.ty(longer.outputs[0]).to_string(), "f16[6, 4]");
            let shorter = unpadded(&longer);
            assert_eq!((shorter.nodes.len(), shorter.ty(shorter.outputs[0])), (nodes, &input.ty));
            assert_eq!(unpadded(&shorter), shorter);
        }
    }
}
