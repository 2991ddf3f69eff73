//! Back from chosen terms to a graph in single assignment.
//!
//! Terms are placed by the smallest original id of their class as soon as their operands are there, new ones just
//! before their first reader: a graph that did not change comes out as it went in. Whoever reads a value stands before
//! the node that replaces it in memory.

use super::extract::{Choice, orders};
use super::language::{Body, Head, Term, data_of, operation};
use crate::pass::PassError;
use crate::rewrite::Rewrite;
use bloomery_ir::verify::consumed_by;
use bloomery_ir::{Graph, Node, ValueId};
use egg::Id;
use std::collections::{BTreeMap, BTreeSet};

/// Adds the chosen terms to `rewrite`; returns the new graph, or none if no order suits all memory.
pub(super) fn rebuild(
    mut rewrite: Rewrite<'_>,
    graph: &Graph,
    body: &Body,
    values: &[Id],
    choice: &Choice,
) -> Result<Option<Graph>, PassError> {
    let values: Vec<Id> = values.iter().map(|&id| body.find(id)).collect();
    let Some(order) = order(graph, body, &values, choice) else { return Ok(None) };
    let mut results: BTreeMap<Id, Vec<ValueId>> = BTreeMap::new();
    for id in order {
        let term = &choice[&id];
        let operands = operands(body, term).flat_map(|child| results[&child].clone()).collect::<Vec<_>>();
        let new = match &term.head {
            Head::Attributes(_) => continue,
            Head::Input(i) => vec![ValueId(*i)],
            Head::Get(i) => vec![operands[*i as usize]],
            Head::Opaque(tag) => rewrite.node(node_of(graph, *tag).op.clone(), &operands)?,
            Head::Op(name) => rewrite.node(operation(name, &data_of(body, &term.children)).0, &operands)?,
        };
        results.insert(id, new);
    }
    for output in &graph.outputs {
        rewrite.replace(&[*output], &results[&values[output.index()]]);
    }
    Ok(Some(rewrite.finish()))
}

/// The node whose first result has this id.
pub(super) fn node_of(graph: &Graph, tag: u32) -> &Node {
    let found = graph.nodes.iter().find(|node| node.results.first() == Some(&ValueId(tag)));
    found.expect("opaque terms are tagged by a node's first result")
}

/// Classes of the values a term reads.
fn operands<'a>(body: &'a Body, term: &'a Term) -> impl Iterator<Item = Id> + 'a {
    let is_value = |id: &Id| !matches!(body[*id].data, super::language::Data::Attributes(_));
    term.children.iter().map(|&child| body.find(child)).filter(is_value)
}

/// The chosen classes in the order of their places, operands first.
fn order(graph: &Graph, body: &Body, values: &[Id], choice: &Choice) -> Option<Vec<Id>> {
    let places = places(body, values, choice);
    let mut readers: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    for (&id, term) in choice {
        for operand in operands(body, term) {
            readers.entry(operand).or_default().insert(id);
        }
    }
    for (earlier, later) in memory_order(graph, values, choice, &readers) {
        readers.entry(earlier).or_default().insert(later);
    }
    let mut missing: BTreeMap<Id, usize> = choice.keys().map(|&id| (id, 0)).collect();
    for reader in readers.values().flatten() {
        *missing.get_mut(reader).expect("readers are chosen") += 1;
    }
    let mut ready: BTreeSet<((u32, usize), Id)> =
        missing.iter().filter(|(_, count)| **count == 0).map(|(&id, _)| (places[&id], id)).collect();
    let mut order = Vec::new();
    while let Some((_, id)) = ready.pop_first() {
        order.push(id);
        for &reader in readers.get(&id).into_iter().flatten() {
            let count = missing.get_mut(&reader).expect("readers are chosen");
            *count -= 1;
            if *count == 0 {
                ready.insert((places[&reader], reader));
            }
        }
    }
    (order.len() == choice.len()).then_some(order)
}

/// Pairs of classes: readers of a value, and the node that then replaces it in memory.
fn memory_order(graph: &Graph, values: &[Id], choice: &Choice, readers: &BTreeMap<Id, BTreeSet<Id>>) -> Vec<(Id, Id)> {
    let mut pairs = Vec::new();
    for (&id, term) in choice {
        let Head::Opaque(tag) = term.head else { continue };
        for value in consumed_by(node_of(graph, tag)) {
            let others = readers.get(&values[value.index()]).into_iter().flatten().filter(|&&reader| reader != id);
            pairs.extend(others.map(|&reader| (reader, id)));
        }
    }
    pairs
}

/// Where each class wants to stand: its smallest original id, or its first reader's; then when its term was made.
fn places(body: &Body, values: &[Id], choice: &Choice) -> BTreeMap<Id, (u32, usize)> {
    let mut own: BTreeMap<Id, u32> = BTreeMap::new();
    for (value, &id) in values.iter().enumerate().rev() {
        own.insert(id, value as u32);
    }
    for (&id, term) in choice {
        if let Head::Opaque(tag) = term.head {
            own.insert(id, tag);
        }
    }
    let mut places: BTreeMap<Id, u32> =
        choice.keys().map(|&id| (id, own.get(&id).copied().unwrap_or(u32::MAX))).collect();
    loop {
        let before = places.clone();
        for (id, term) in choice {
            for operand in operands(body, term).filter(|operand| !own.contains_key(operand)) {
                let earliest = places[id].min(places[&operand]);
                places.insert(operand, earliest);
            }
        }
        if places == before {
            break;
        }
    }
    let made = orders(body);
    let place = |(id, place)| (id, (place, made.get(&choice[&id]).copied().unwrap_or(usize::MAX)));
    places.into_iter().map(place).collect()
}
