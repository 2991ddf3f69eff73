//! Values that depend on weights alone become parameters, each made by a weight graph.
//!
//! Only what takes no more memory than what it is made of, vectors aside: a table that is widened where it is read stays as
//! it is. A body's new parameters are sliced by the repeat that enters it, and stacked in the graph around that. Weights that
//! nobody reads any more are no inputs any more.

use super::PASS;
use super::site::{Known, Site, only_repeat};
use crate::clean::clean_graph;
use crate::pass::PassError;
use bloomery_ir::graph::{Input, Node, Role};
use bloomery_ir::op::elements;
use bloomery_ir::sharding::Rule;
use bloomery_ir::{Builder, Graph, Op, TensorType, ValueId};
use std::collections::BTreeSet;

/// What stands in for the graph of the site's number, and for the graph that repeats it; and the weight graphs of their
/// new parameters.
pub(super) struct Extracted {
    pub(super) graph: Graph,
    pub(super) caller: Option<(usize, Graph)>,
    pub(super) weights: Vec<Graph>,
}

/// Takes out of a graph what is known beforehand.
pub(super) fn extract(site: &Site<'_>, before: &Graph) -> Result<Extracted, PassError> {
    let split = Split::of(site);
    let gone = |i: &usize| {
        let input = ValueId(*i as u32);
        let was_read = !before.readers()[*i].is_empty();
        site.origins[*i].is_some() && was_read && !split.is_needed(site, input)
    };
    let gone: BTreeSet<usize> = (0..site.graph.inputs.len()).filter(gone).collect();
    let caller = only_repeat(site.module, &site.graph.name);
    let outer = caller.map_or(site.graph, |(caller, _, _)| &site.module.graphs[caller]);
    let outer_gone = caller.map_or(gone.clone(), |(_, node, _)| gone_outside(outer, node, &gone));
    let mut names = Names::new(site, [(site.graph, &gone), (outer, &outer_gone)]);
    let made: Vec<Made> =
        split.values.iter().map(|value| Made::of(site, *value, &mut names)).collect::<Result<_, _>>()?;

    let slots = slots(site.graph, &gone, made.iter().map(|made| made.sources[0]));
    let inputs: Vec<Input> = made.iter().map(|made| parameter(&made.graph.name, made.ty.clone())).collect();
    let graph = split.rest(site, &slots, &inputs)?;
    let caller = match caller {
        Some((caller, node, _)) => {
            let around = Around { graph: outer, repeat: node, gone: &outer_gone };
            Some((caller, around.rebuilt(site, &graph, &slots, &made)?))
        }
        None => None,
    };
    Ok(Extracted { graph, caller, weights: made.into_iter().map(|made| made.graph).collect() })
}

/// Inputs of a caller that only gave a repeat what its body does not take any more.
fn gone_outside(caller: &Graph, repeat: &Node, gone: &BTreeSet<usize>) -> BTreeSet<usize> {
    let readers = caller.readers();
    let alone = |value: &ValueId| readers[value.index()].len() == 1 && !caller.outputs.contains(value);
    gone.iter().map(|input| repeat.operands[*input]).filter(alone).map(ValueId::index).collect()
}

fn parameter(name: &str, ty: TensorType) -> Input {
    Input { name: name.to_owned(), role: Role::Parameter, ty }
}

/// Which values become parameters, and which nodes stay.
struct Split {
    values: Vec<ValueId>,
    stays: Vec<bool>,
}

impl Split {
    fn of(site: &Site<'_>) -> Split {
        let varies = |node: &Node| node.results.iter().any(|result| site.known[result.index()] != Known::Weight);
        let mut stays: Vec<bool> = site.graph.nodes.iter().map(varies).collect();
        loop {
            let is_read = |value: &ValueId| {
                site.graph.outputs.contains(value) || site.readers[value.index()].iter().any(|reader| stays[*reader])
            };
            let leaves = site.graph.nodes.iter().zip(&stays).filter(|(_, stays)| !**stays);
            let values: Vec<ValueId> = leaves.flat_map(|(node, _)| node.results.clone()).filter(is_read).collect();
            let large: Vec<usize> =
                values.iter().filter(|value| is_larger(site, **value)).filter_map(|v| site.definitions[v.index()]).collect();
            if large.is_empty() {
                return Split { values, stays };
            }
            large.into_iter().for_each(|node| stays[node] = true);
        }
    }

    /// Whether what stays reads an input.
    fn is_needed(&self, site: &Site<'_>, input: ValueId) -> bool {
        site.graph.outputs.contains(&input) || site.readers[input.index()].iter().any(|reader| self.stays[*reader])
    }

    /// The graph of what stays, with the new inputs in place of what they are.
    fn rest(&self, site: &Site<'_>, slots: &[Slot], inputs: &[Input]) -> Result<Graph, PassError> {
        let mut copy = Copy::new(site, site.graph, slots, inputs);
        for (value, new) in self.values.iter().zip(copy.new.clone()) {
            copy.values[value.index()] = Some(new);
        }
        for (node, _) in site.graph.nodes.iter().zip(&self.stays).filter(|(_, stays)| **stays) {
            let operands = copy.of(&node.operands);
            copy.node(node, node.op.clone(), &operands)?;
        }
        clean_graph(site.module, &copy.finish())
    }
}

/// Bytes that a parameter may take whatever it is made of: biases with zeros beside them.
const SMALL: u64 = 1 << 20;

/// Whether a value takes more bytes than the weights it is made of.
fn is_larger(site: &Site<'_>, value: ValueId) -> bool {
    let bytes = |value: ValueId| elements(site.ty(value)).as_number().map(|count| site.ty(value).dtype.bytes(count));
    let sources: Option<u64> = sources(site, value).iter().map(|input| bytes(ValueId(*input as u32))).sum();
    match (bytes(value), sources) {
        (Some(value), Some(sources)) => value > sources.max(SMALL),
        _ => true,
    }
}

/// Nodes that a value depends on, itself included, in order.
fn ancestors(site: &Site<'_>, value: ValueId) -> Vec<usize> {
    let mut needed: BTreeSet<usize> = site.definitions[value.index()].into_iter().collect();
    for i in (0..site.graph.nodes.len()).rev() {
        if needed.contains(&i) {
            needed.extend(site.graph.nodes[i].operands.iter().filter_map(|operand| site.definitions[operand.index()]));
        }
    }
    needed.into_iter().collect()
}

/// Inputs that a value depends on, in order.
fn sources(site: &Site<'_>, value: ValueId) -> Vec<usize> {
    let operands = ancestors(site, value).into_iter().flat_map(|node| &site.graph.nodes[node].operands);
    let inputs = operands.map(|operand| operand.index()).filter(|value| *value < site.graph.inputs.len());
    inputs.collect::<BTreeSet<usize>>().into_iter().collect()
}

/// A value that becomes a parameter.
struct Made {
    graph: Graph,
    /// Its type in this graph, with logical axes.
    ty: TensorType,
    /// Inputs that it is made of, in order.
    sources: Vec<usize>,
}

impl Made {
    fn of(site: &Site<'_>, value: ValueId, names: &mut Names) -> Result<Made, PassError> {
        let sources = sources(site, value);
        let name = names.choose(name_of(site, value), || {
            let size = |input: &&usize| elements(site.ty(ValueId(**input as u32))).as_number();
            let largest = sources.iter().max_by_key(size).expect("a weight is made of weights");
            site.origins[*largest].clone().expect("a weight has a name")
        });
        let mut builder = Builder::new(&name, vec![], &site.module.mesh, []);
        let mut values = vec![None; site.graph.types.len()];
        for &source in &sources {
            let origin = site.origins[source].as_ref().expect("a weight has a name");
            values[source] = Some(builder.input(origin, Role::Parameter, site.graph.inputs[source].ty.clone()));
        }
        for node in ancestors(site, value).into_iter().map(|node| &site.graph.nodes[node]) {
            let operands: Vec<ValueId> = node.operands.iter().map(|o| values[o.index()].expect("in order")).collect();
            let results = builder.node(node.op.clone(), &operands).map_err(|error| type_error(site.graph, error))?;
            node.results.iter().zip(results).for_each(|(old, new)| values[old.index()] = Some(new));
        }
        let graph = builder.finish(&[values[value.index()].expect("its node was copied")]);
        let mut ty = site.ty(value).clone();
        ty.dims.iter_mut().zip(axes(site, value)).for_each(|(dim, axis)| dim.logical = axis);
        Ok(Made { graph, ty, sources })
    }
}

fn type_error(graph: &Graph, error: bloomery_ir::TypeError) -> PassError {
    PassError::Type { pass: PASS.name, graph: graph.name.clone(), error }
}

/// Names that are taken.
struct Names(BTreeSet<String>);

impl Names {
    /// Those of graphs, of weights made before, and of all inputs but those that go from a graph and its caller.
    fn new(site: &Site<'_>, own: [(&Graph, &BTreeSet<usize>); 2]) -> Names {
        let module = site.module;
        let is_other = |graph: &&Graph| own.iter().all(|(known, _)| known.name != graph.name);
        let others = module.graphs.iter().filter(is_other).flat_map(|graph| &graph.inputs);
        let stays = own.iter().flat_map(|(graph, gone)| {
            graph.inputs.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, input)| input)
        });
        let graphs = module.graphs.iter().chain(&module.weights).map(|graph| graph.name.clone());
        Names(others.chain(stays).map(|input| input.name.clone()).chain(graphs).collect())
    }

    /// The name a weight would like to have, or else one like another's.
    fn choose(&mut self, name: Option<String>, like: impl FnOnce() -> String) -> String {
        let base = name.clone().unwrap_or_else(like);
        let numbered = (1..).map(|i| if i == 1 { format!("{base}.folded") } else { format!("{base}.folded{i}") });
        let chosen = name.into_iter().chain(numbered).find(|name| !self.0.contains(name));
        let chosen = chosen.expect("numbers do not run out");
        self.0.insert(chosen.clone());
        chosen
    }
}

/// What a weight is called: as the first of its size that it is made of; what lies side by side, after all of them.
fn name_of(site: &Site<'_>, value: ValueId) -> Option<String> {
    let Some((_, node)) = site.maker(value) else { return site.origins[value.index()].clone() };
    let mut names = node.operands.iter().filter_map(|operand| match node.op {
        Op::Concat(_) => name_of(site, *operand),
        _ => (elements(site.ty(*operand)) == elements(site.ty(value))).then(|| name_of(site, *operand))?,
    });
    match node.op {
        Op::Concat(_) => joined(&names.collect::<Vec<String>>()),
        _ => names.next(),
    }
}

/// `a.b.x` and `a.c.x` are `a.b_c.x`.
fn joined(names: &[String]) -> Option<String> {
    let parts: Vec<Vec<&str>> = names.iter().map(|name| name.split('.').collect()).collect();
    let first = parts.first()?;
    let shortest = parts.iter().map(Vec::len).min()?;
    let same = |at: &dyn Fn(&Vec<&str>) -> usize| parts.iter().all(|part| part[at(part)] == first[at(first)]);
    let before = (0..shortest).take_while(|&i| same(&|_| i)).count();
    let after = (0..shortest - before).take_while(|&i| same(&|part| part.len() - 1 - i)).count();
    let middle: Vec<String> = parts.iter().map(|part| part[before..part.len() - after].join(".")).collect();
    let middle = if middle.iter().all(String::is_empty) { vec![] } else { vec![middle.join("_")] };
    let (start, end) = (&first[..before], &first[first.len() - after..]);
    Some([start, &middle.iter().map(String::as_str).collect::<Vec<_>>(), end].concat().join("."))
}

/// Logical axes of a weight's dimensions, from those it is made of.
fn axes(site: &Site<'_>, value: ValueId) -> Vec<Option<String>> {
    let Some((_, node)) = site.maker(value) else {
        return site.graph.inputs[value.index()].ty.dims.iter().map(|dim| dim.logical.clone()).collect();
    };
    let of = |i: usize| axes(site, node.operands[i]);
    match &node.op {
        Op::Concat(concat) => changed(of(0), concat.dim),
        Op::Slice(slice) => changed(of(0), slice.dim),
        Op::Reshape(_) => reshaped(site.ty(node.operands[0]), of(0), site.ty(value)),
        op => {
            let rule = Rule::of(op.def(), &site.graph.types_of(&node.operands));
            let Some(rule) = rule else { return vec![None; site.ty(value).rank()] };
            let lists = rule.operands.iter().enumerate();
            let named: Vec<(&String, Option<String>)> = lists.flat_map(|(i, letters)| letters.iter().zip(of(i))).collect();
            let axis = |letter: &String| named.iter().find(|(l, axis)| *l == letter && axis.is_some())?.1.clone();
            rule.result.iter().map(axis).collect()
        }
    }
}

/// A dimension that is no whole axis any more.
fn changed(mut axes: Vec<Option<String>>, dim: usize) -> Vec<Option<String>> {
    axes[dim] = None;
    axes
}

/// Axes after dimensions of extent 1 came or went; none after any other change.
fn reshaped(from: &TensorType, axes: Vec<Option<String>>, to: &TensorType) -> Vec<Option<String>> {
    let one = bloomery_ir::Extent::number(1);
    let long = |ty: &TensorType| ty.extents().filter(|extent| **extent != one).cloned().collect::<Vec<_>>();
    if long(from) != long(to) {
        return vec![None; to.rank()];
    }
    let mut kept = from.extents().zip(axes).filter(|(extent, _)| **extent != one).map(|(_, axis)| axis);
    to.extents().map(|extent| if *extent == one { None } else { kept.next().flatten() }).collect()
}

/// An input of a new graph: one of the old, or a new one by number.
#[derive(Clone, Copy)]
enum Slot {
    Old(usize),
    New(usize),
}

/// The old inputs without those that are gone, new ones before the first that they are made of.
fn slots(old: &Graph, gone: &BTreeSet<usize>, firsts: impl Iterator<Item = usize> + Clone) -> Vec<Slot> {
    let at = |input: usize| {
        let new = firsts.clone().enumerate().filter(move |(_, first)| *first == input).map(|(new, _)| Slot::New(new));
        new.chain((!gone.contains(&input)).then_some(Slot::Old(input)))
    };
    (0..old.inputs.len()).flat_map(at).collect()
}

/// The graph around a body.
struct Around<'a> {
    graph: &'a Graph,
    /// The repeat of the body.
    repeat: &'a Node,
    /// Inputs that go.
    gone: &'a BTreeSet<usize>,
}

impl Around<'_> {
    /// The graph with a repeat that gives the new body what its inputs are now.
    fn rebuilt(&self, site: &Site<'_>, body: &Graph, given: &[Slot], made: &[Made]) -> Result<Graph, PassError> {
        let source = |made: &Made| self.repeat.operands[made.sources[0]].index();
        let stacked = |made: &Made| {
            let mut ty = made.ty.clone();
            ty.dims.insert(0, self.graph.inputs[source(made)].ty.dims[0].clone());
            parameter(&made.graph.name, ty)
        };
        let inputs: Vec<Input> = made.iter().map(stacked).collect();
        let slots = slots(self.graph, self.gone, made.iter().map(source));
        let callees = site.module.graphs.iter().filter(|graph| graph.name != body.name).chain([body]);
        let mut copy = Copy::with(site, self.graph, &slots, &inputs, callees);
        for node in &self.graph.nodes {
            let mut op = node.op.clone();
            let operands = match &mut op {
                Op::Repeat(repeat) if repeat.body == body.name => {
                    repeat.slice = given.len() - (repeat.arity() - repeat.slice);
                    let operand = |slot: &Slot| match slot {
                        Slot::Old(i) => copy.of(&[node.operands[*i]])[0],
                        Slot::New(i) => copy.new[*i],
                    };
                    given.iter().map(operand).collect()
                }
                _ => copy.of(&node.operands),
            };
            copy.node(node, op, &operands)?;
        }
        Ok(copy.finish())
    }
}

/// A graph being copied under other inputs.
struct Copy<'a> {
    old: &'a Graph,
    builder: Builder<'a>,
    values: Vec<Option<ValueId>>,
    /// The new inputs.
    new: Vec<ValueId>,
}

impl<'a> Copy<'a> {
    fn new(site: &Site<'a>, old: &'a Graph, slots: &[Slot], inputs: &[Input]) -> Copy<'a> {
        Copy::with(site, old, slots, inputs, &site.module.graphs)
    }

    fn with(
        site: &Site<'a>,
        old: &'a Graph,
        slots: &[Slot],
        inputs: &[Input],
        callees: impl IntoIterator<Item = &'a Graph>,
    ) -> Copy<'a> {
        let mut builder = Builder::new(&old.name, old.symbols.clone(), &site.module.mesh, callees);
        let (mut values, mut new) = (vec![None; old.types.len()], vec![ValueId(0); inputs.len()]);
        for slot in slots {
            let input = match slot {
                Slot::Old(i) => &old.inputs[*i],
                Slot::New(i) => &inputs[*i],
            };
            let value = builder.input(&input.name, input.role, input.ty.clone());
            match slot {
                Slot::Old(i) => values[*i] = Some(value),
                Slot::New(i) => new[*i] = value,
            }
        }
        Copy { old, builder, values, new }
    }

    fn of(&self, old: &[ValueId]) -> Vec<ValueId> {
        old.iter().map(|value| self.values[value.index()].expect("what is read was copied")).collect()
    }

    fn node(&mut self, node: &Node, op: Op, operands: &[ValueId]) -> Result<(), PassError> {
        let results = self.builder.node(op, operands).map_err(|error| type_error(self.old, error))?;
        node.results.iter().zip(results).for_each(|(old, new)| self.values[old.index()] = Some(new));
        Ok(())
    }

    fn finish(self) -> Graph {
        let outputs = self.of(&self.old.outputs);
        self.builder.finish(&outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn names_of_what_lies_side_by_side() {
        let join = |names: &[&str]| joined(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(join(&["h.query.weight", "h.key.weight", "h.value.weight"]).unwrap(), "h.query_key_value.weight");
        assert_eq!(join(&["a", "b"]).unwrap(), "a_b");
        assert_eq!(join(&["a.b", "a.b"]).unwrap(), "a.b");
        assert_eq!(join(&["a.b", "a.b.c"]).unwrap(), "a.b._c");
        assert_eq!(join(&["a.b"]).unwrap(), "a.b");
        assert_eq!(join(&[]), None);
    }
}
