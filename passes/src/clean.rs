//! What nobody needs goes, and what is there twice stands once.
//!
//! Before: `%0 = gelu %x`, `%1 = gelu %x`, `%2 = neg %x`, `%3 = add %0, %1`, `return %3`
//! After:  `%0 = gelu %x`, `%1 = add %0, %0`, `return %1`
//!
//! Operations are pure, so a node without readers goes, a repeat too; inputs stay, callers count on them. Graphs that
//! nobody calls go last. Algebra is not done here, see [`simplify`](crate::simplify).

use crate::pass::{Context, Pass, PassError};
use crate::rewrite::{Rewrite, consumed_values, touches_memory};
use bloomery_ir::print::attributes;
use bloomery_ir::verify::callee;
use bloomery_ir::{Graph, Module, Node, Op, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
pub(crate) const PASS: Pass = Pass { name: "clean", run: clean };

fn clean(module: Module, cx: &Context<'_>) -> Result<Module, PassError> {
    let cleaned: Result<Vec<Graph>, PassError> =
        module.graphs.iter().map(|graph| clean_graph(&module, graph)).collect();
    let mut module = Module { graphs: cleaned?, ..module };
    let called = called_graphs(&module, cx);
    module.graphs.retain(|graph| called.contains(&graph.name));
    Ok(module)
}

/// What makes two nodes equal: name, attributes, operands.
type Key = (&'static str, String, Vec<ValueId>);

/// One graph of a module without what nobody reads and what is there twice.
pub(crate) fn clean_graph(module: &Module, graph: &Graph) -> Result<Graph, PassError> {
    let (live, consumed) = (live_nodes(graph), consumed_values(graph));
    let mut seen: BTreeMap<Key, Vec<ValueId>> = BTreeMap::new();
    let mut rewrite = Rewrite::new(PASS.name, module, graph);
    for node in graph.nodes.iter().zip(live).filter_map(|(node, live)| live.then_some(node)) {
        if touches_memory(node, &consumed) {
            rewrite.copy(node)?;
        } else if changes_nothing(graph, node) {
            let same = rewrite.values(&node.operands);
            rewrite.replace(&node.results, &same);
        } else {
            let key = (node.op.name(), attributes(&node.op), rewrite.values(&node.operands));
            match seen.get(&key) {
                Some(first) => rewrite.replace(&node.results, first),
                None => drop(seen.insert(key, rewrite.copy(node)?)),
            }
        }
    }
    Ok(rewrite.finish())
}

/// For each node, whether an output depends on it.
fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut read: BTreeSet<ValueId> = graph.outputs.iter().copied().collect();
    let mut live = vec![false; graph.nodes.len()];
    for (node, live) in graph.nodes.iter().zip(&mut live).rev() {
        *live = node.results.iter().any(|result| read.contains(result));
        if *live {
            read.extend(&node.operands);
        }
    }
    live
}

/// Whether the result is the operand: a reshape or cast to the same type, a transpose that leaves the order.
fn changes_nothing(graph: &Graph, node: &Node) -> bool {
    match &node.op {
        Op::Transpose(transpose) => transpose.order.iter().enumerate().all(|(i, &dim)| i == dim),
        Op::Reshape(_) | Op::Cast(_) => graph.ty(node.operands[0]).unnamed() == *graph.ty(node.results[0]),
        _ => false,
    }
}

/// Names of the graphs that entries reach; without entries, those that the first graph reaches.
fn called_graphs(module: &Module, cx: &Context<'_>) -> BTreeSet<String> {
    let first = module.graphs.first().filter(|_| cx.entries.is_empty()).map(|graph| graph.name.clone());
    let mut waiting: Vec<String> = cx.entries.iter().map(|entry| entry.graph.clone()).chain(first).collect();
    let mut called = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        let Some(graph) = module.graph(&name).filter(|_| called.insert(name.clone())) else { continue };
        waiting.extend(graph.nodes.iter().filter_map(|node| callee(&node.op)).map(str::to_owned));
    }
    called
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simplify::tests::{Plain, case, check_numbers};
    use bloomery_ir::program::Interface;
    use bloomery_ir::{parse, print::print, verify};

    fn cleaned(name: &str, entries: &[Interface]) -> String {
        let module = parse(&case("clean", name)).unwrap();
        let cleaned = clean(module.clone(), &Context { target: &Plain, entries, strategy: None, inference: None }).unwrap();
        verify(&cleaned).unwrap();
        check_numbers(&module, &cleaned, &module.graphs[0].name);
        print(&cleaned)
    }

    #[test]
    fn drops_what_nobody_reads_and_graphs_nobody_calls() {
        let text = cleaned("unused", &[]);
        assert_eq!(text, "graph @main(%x: f32[2, 4], %unread: f32[4]) {\n  %0 = gelu %x : f32[2, 4]\n  return %0\n}\n");
    }

    #[test]
    fn keeps_graphs_that_entries_name() {
        let entry = |graph: &str| Interface { graph: graph.into(), rows: "N".into(), outputs: vec!["y".into()] };
        let text = cleaned("unused", &[entry("main"), entry("step")]);
        assert!(text.contains("@step") && text.contains("@main"), "{text}");
    }

    #[test]
    fn merges_equal_nodes() {
        let text = cleaned("equal", &[]);
        assert_eq!(text.matches("gelu").count(), 1, "{text}");
        assert_eq!(text.matches("scale").count(), 2, "attributes tell nodes apart: {text}");
    }

    #[test]
    fn sees_through_what_changes_nothing() {
        let text = cleaned("same-type", &[]);
        assert_eq!(text, "graph @main(%x: f32[2, wide=4]) {\n  %0 = gelu %x : f32[2, 4]\n  return %0, %x\n}\n");
    }

    #[test]
    fn leaves_memory_alone() {
        let text = cleaned("memory", &[]);
        assert_eq!(text.matches("reshape").count(), 2, "the cache is copied before it is replaced: {text}");
        assert_eq!(text.matches("cache_append").count(), 2, "{text}");
    }
}
