//! What is computed from weights alone is computed beforehand.
//!
//! ```text
//! Before: `%0 = matmul %x, %wq`, `%1 = add %0, %bq`, `%2 = matmul %x, %wk`, `%3 = add %2, %bk`, ..
//! After:  `%0 = matmul %x, %w`, `%1 = add %0, %b`, `%2 = slice %1 ..`, `%3 = slice %1 ..`, and two weight graphs:
//!         `weight @w(%wq, %wk)`, which puts them side by side, and `weight @b(%bq)`: the key's bias is gone
//! ```
//!
//! First rules of algebra ([`rules`]) bring weights together: they move scales, biases and the factors of norms to the
//! weights they meet. Then every value that depends on weights alone, and takes no more memory than they do, becomes a
//! parameter of its own, made by a *weight graph* ([`extract`]). Packing evaluates that, tensor by tensor.
//!
//! Products of one activation become one, whose results are slices of its own. They lie side by side as
//! `[hidden, part, heads, d]`: a part is one run of columns in every row, which kernels read by stride and offset,
//! and the axis `heads` stays whole, so that ranks which split it split every part alike.
//!
//! Weights that are trained must stay what they are, so nothing happens without
//! [`Context::inference`](crate::Context::inference).

mod site;

mod rules;

mod attention;
mod products;

mod extract;

#[cfg(test)]
mod tests;

use self::rules::RULES;
use self::site::Site;
use crate::clean::clean_graph;
use crate::pass::{Context, Pass, PassError, Weights};
use bloomery_ir::{Graph, Module};

/// Name, reason and case of every rule, in order.
pub fn rules() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    RULES.iter().map(|rule| (rule.name, rule.reason, rule.case))
}

/// See the module.
pub(crate) const PASS: Pass = Pass { name: "fold-weights", run: fold_weights };

/// Rules applied to one graph, at most: each makes something go away, so this is never reached.
const APPLIED_MOST: usize = 1000;

fn fold_weights(mut module: Module, cx: &Context<'_>) -> Result<Module, PassError> {
    let Some(weights) = cx.inference.filter(|_| module.mesh.axes.is_empty()) else { return Ok(module) };
    // A body's new parameters are its caller's, so bodies come first.
    let (roots, bodies): (Vec<usize>, Vec<usize>) =
        (0..module.graphs.len()).partition(|&graph| site::callers(&module, &module.graphs[graph].name).is_empty());
    for number in bodies.into_iter().chain(roots) {
        if site::origins(&module, number).iter().any(Option::is_some) {
            let folded = apply_rules(&module, number, cx, weights)?;
            let site = Site::new(&module, number, &folded, cx, weights);
            let extracted = extract::extract(&site, &module.graphs[number])?;
            module.graphs[number] = extracted.graph;
            if let Some((caller, graph)) = extracted.caller {
                module.graphs[caller] = graph;
            }
            module.weights.extend(extracted.weights);
        }
    }
    Ok(module)
}

/// The graph of this number after all rules, until none finds anything.
fn apply_rules(
    module: &Module,
    number: usize,
    cx: &Context<'_>,
    weights: &dyn Weights,
) -> Result<Graph, PassError> {
    let mut graph = clean_graph(module, &module.graphs[number])?;
    for _ in 0..APPLIED_MOST {
        let site = Site::new(module, number, &graph, cx, weights);
        let found = RULES.iter().find_map(|rule| (rule.apply)(&site).transpose());
        match found {
            Some(changed) => graph = clean_graph(module, &changed?)?,
            None => break,
        }
    }
    Ok(graph)
}
