//! Algebra: the cheapest of all graphs that the rules make equal to the one given.
//!
//! Before: `%0 = matmul %x, %w`, `%1 = matmul %y, %w`, `%2 = add %0, %1`
//! After:  `%0 = add %x, %y`, `%1 = matmul %0, %w`
//!
//! One e-graph for each body holds all its forms at once ([`language`]); named one-way rules ([`rules`]) add equal
//! forms until nothing is new, or the bounds in nodes and rounds are reached, never a time; [`extract`] takes the
//! cheapest by the target's own estimates, shared values counted once; [`rebuild`] makes a graph of it. A graph that
//! cannot be made cheaper comes out as it went in. Absent: what must happen in any case (see `clean`), and forming
//! kernels, for which `group` comes later.

mod language;

mod apply;
mod conditions;
mod rules;

mod extract;
mod rebuild;

#[cfg(test)]
pub(crate) mod tests;

use self::language::{Body, Head, Term, data_of, operation};
use self::rules::{RULES, Rule};
use crate::bind::{Numbers, bound};
use crate::pass::{Context, Pass, PassError};
use crate::rewrite::Rewrite;
use bloomery_ir::graph::Role;
use bloomery_ir::op::elements;
use bloomery_ir::print::print_graph;
use bloomery_ir::{Bindings, Builder, Extent, Graph, Module, Op, SymbolBound, Target, TensorType};
use egg::{Id, Runner, SimpleScheduler};
use std::collections::BTreeMap;
use std::time::Duration;

/// Name, reason and case of every rule, in order.
pub fn rules() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    RULES.iter().map(|rule| (rule.name, rule.reason, rule.case))
}

/// See the module.
pub(crate) const PASS: Pass = Pass { name: "simplify", run: simplify };

/// Terms after which no rule is applied any more.
const NODES_MOST: usize = 20_000;
/// Rounds of applying all rules.
const ROUNDS_MOST: usize = 12;
/// What a kernel costs that the target refuses on its own, beside its arithmetic, in nanoseconds.
const REFUSED_NS: f64 = 1e4;
/// What a called graph, a repeat or an operation on memory costs: never worth a second one.
const OPAQUE_NS: f64 = 1e6;
/// No operation is free, or a value could be chosen to need itself.
const COST_LEAST_NS: f64 = 1e-3;

fn simplify(module: Module, cx: &Context<'_>) -> Result<Module, PassError> {
    let graphs: Result<Vec<Graph>, PassError> =
        module.graphs.iter().map(|graph| simplify_graph(&module, graph, cx.target)).collect();
    Ok(Module { graphs: graphs?, ..module })
}

fn simplify_graph(module: &Module, graph: &Graph, target: &dyn Target) -> Result<Graph, PassError> {
    let (body, values) = language::load(graph, &module.mesh);
    let body = saturate(body, RULES);
    let roots: Vec<Id> = graph.outputs.iter().map(|output| values[output.index()]).collect();
    let mut costs = Costs { body: &body, target, numbers: Numbers::of(module), known: BTreeMap::new() };
    let choice = extract::extract(&body, &roots, &mut |term| costs.of(term));
    let rewrite = Rewrite::new(PASS.name, module, graph);
    let simplified = rebuild::rebuild(rewrite, graph, &body, &values, &choice)?;
    Ok(simplified.unwrap_or_else(|| graph.clone()))
}

/// Applies rules until nothing is new or a bound is reached.
fn saturate(body: Body, rules: &'static [Rule]) -> Body {
    let rewrites: Vec<_> = rules.iter().map(Rule::rewrite).collect();
    let runner: Runner<Term, language::Types> = Runner::new(language::Types::default())
        .with_egraph(body)
        .with_scheduler(SimpleScheduler)
        .with_node_limit(NODES_MOST)
        .with_iter_limit(ROUNDS_MOST)
        .with_time_limit(Duration::MAX);
    runner.run(&rewrites).egraph
}

/// What the target says terms cost.
struct Costs<'a> {
    body: &'a Body,
    target: &'a dyn Target,
    numbers: Numbers,
    /// Costs by the text of the one-operation graph.
    known: BTreeMap<String, f64>,
}

impl Costs<'_> {
    fn of(&mut self, term: &Term) -> f64 {
        match term.head {
            Head::Op(name) => {
                let (op, types) = operation(name, &data_of(self.body, &term.children));
                let kernel = self.kernel(op, &types);
                let (target, numbers) = (self.target, &self.numbers);
                *self.known.entry(print_graph(&kernel)).or_insert_with(|| kernel_cost(target, &kernel, numbers))
            }
            _ if extract::is_work(term) => OPAQUE_NS,
            _ => 0.0,
        }
    }

    /// The graph of one operation; the mesh's axes are symbols of one value, so that local extents have numbers.
    fn kernel(&self, op: Op, types: &[TensorType]) -> Graph {
        let types_of_body = &self.body.analysis;
        let axes = types_of_body.mesh.axes.iter().map(|(name, size)| SymbolBound::new(name, *size, *size));
        let symbols = types_of_body.symbols.iter().cloned().chain(axes).collect();
        let mut builder = Builder::new("kernel", symbols, &types_of_body.mesh, []);
        let input = |(i, ty): (usize, &TensorType)| builder.input(&format!("x{i}"), Role::Plain, ty.clone());
        let operands: Vec<_> = types.iter().enumerate().map(input).collect();
        let results = builder.node(op, &operands).expect("terms are checked before they are added");
        builder.finish(&results)
    }
}

/// The target's estimate, or arithmetic and bytes at the largest sizes when it has no kernel.
fn kernel_cost(target: &dyn Target, kernel: &Graph, numbers: &Numbers) -> f64 {
    let is_kernel = kernel.nodes.iter().all(|node| node.op.def().collective().is_none());
    let asked = bound(PASS.name, kernel, numbers).ok().filter(|_| is_kernel);
    let cost = asked.and_then(|kernel| target.cost(&kernel).ok()).filter(|cost| cost.is_finite());
    cost.unwrap_or_else(|| REFUSED_NS + work(kernel) + handed_on(kernel)).max(COST_LEAST_NS)
}

/// Arithmetic operations plus bytes read and written, at the largest sizes.
fn work(kernel: &Graph) -> f64 {
    let flops = kernel.nodes.iter().map(|node| {
        let (operands, results) = (kernel.types_of(&node.operands), kernel.types_of(&node.results));
        at_most(kernel, &node.op.def().flops(&operands, &results))
    });
    let bytes = kernel.types.iter().map(|ty| bytes_at_most(kernel, ty));
    bytes.chain(flops).sum()
}

/// Bytes that ranks hand each other in collectives: of a sum every rank makes a slice, from all but its own of the terms;
/// what comes out as long as it went in, or longer, it gets from the others but for a slice.
fn handed_on(kernel: &Graph) -> f64 {
    let of = |node: &bloomery_ir::Node| {
        let Some(axis) = node.op.def().collective() else { return 0.0 };
        let (from, to) = (kernel.ty(node.operands[0]), kernel.ty(node.results[0]));
        let [given, gotten] = [from, to].map(|ty| bytes_at_most(kernel, ty));
        let summed = if from.partial == to.partial { 0.0 } else { given };
        let joined = if gotten < given { 0.0 } else { gotten };
        let others = 1.0 - 1.0 / at_most(kernel, &Extent::symbol(axis)).max(1.0);
        others * (summed + joined)
    };
    kernel.nodes.iter().map(of).sum()
}

fn bytes_at_most(kernel: &Graph, ty: &TensorType) -> f64 {
    at_most(kernel, &elements(ty)) * ty.dtype.bits() as f64 / 8.0
}

/// An extent at the largest sizes.
fn at_most(kernel: &Graph, extent: &Extent) -> f64 {
    let bindings: Bindings = kernel.symbols.iter().map(|symbol| (symbol.name.clone(), symbol.most)).collect();
    extent.eval(&bindings).unwrap_or(0) as f64
}
