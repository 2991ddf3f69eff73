//! Extraction: one term for each class that is needed, so that the whole costs least.
//!
//! The cost is that of the DAG: a class that several terms share counts once. Finding the least is hard in general, so
//! two selections are improved greedily and the cheaper one wins: the graph as it was, and the least *tree* of every
//! class. Among equals the first made wins: the graph's own terms by SSA id, then what rules made in order of the
//! rules. So nothing changes without a gain.

use super::language::{Body, Head, Term};
use egg::{Id, Language};
use std::collections::BTreeMap;

/// The chosen term of each class that is needed.
pub(super) type Choice = BTreeMap<Id, Term>;

/// A gain smaller than this share is rounding.
const GAIN_LEAST: f64 = 1e-9;

/// Chooses the terms that compute `roots` at the least cost.
pub(super) fn extract(body: &Body, roots: &[Id], cost: &mut dyn FnMut(&Term) -> f64) -> Choice {
    let classes = Classes::new(body, cost);
    let roots: Vec<usize> = roots.iter().map(|&root| classes.index[&body.find(root)]).collect();
    let (own, own_cost) = classes.improve(vec![0; classes.terms.len()], &roots);
    let (tree, tree_cost) = classes.improve(classes.least_trees(), &roots);
    let selection = if is_less(tree_cost, own_cost) { tree } else { own };
    let needed = classes.needed(&selection, &roots).expect("the graph as it was has no cycle");
    needed.into_iter().map(|class| (classes.ids[class], classes.terms[class][selection[class]].term.clone())).collect()
}

fn is_less(a: f64, b: f64) -> bool {
    a < b - b.abs() * GAIN_LEAST
}

/// A term with its children as indices of classes.
struct Candidate {
    term: Term,
    children: Vec<usize>,
    cost: f64,
}

/// All classes with their terms, first made first: the first terms alone never form a cycle, since a term's children
/// were there before it.
struct Classes {
    ids: Vec<Id>,
    index: BTreeMap<Id, usize>,
    terms: Vec<Vec<Candidate>>,
}

/// For each class, which of its terms.
type Selection = Vec<usize>;

impl Classes {
    fn new(body: &Body, cost: &mut dyn FnMut(&Term) -> f64) -> Classes {
        let order = orders(body);
        let mut ids: Vec<Id> = body.classes().map(|class| class.id).collect();
        ids.sort_unstable();
        let index: BTreeMap<Id, usize> = ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let terms = ids.iter().map(|&id| {
            let mut terms: Vec<&Term> = body[id].nodes.iter().collect();
            terms.sort_by_key(|term| order.get(*term).copied().unwrap_or(usize::MAX));
            let candidate = |term: &Term| Candidate {
                term: term.clone(),
                children: term.children.iter().map(|&child| index[&body.find(child)]).collect(),
                cost: cost(term),
            };
            terms.into_iter().map(candidate).collect()
        });
        Classes { terms: terms.collect(), ids, index }
    }

    /// For each class the term that begins its least tree.
    fn least_trees(&self) -> Selection {
        let mut least = vec![f64::INFINITY; self.terms.len()];
        loop {
            let before = least.clone();
            for class in 0..least.len() {
                let costs = self.terms[class].iter().map(|term| term.tree_cost(&least));
                least[class] = costs.fold(least[class], f64::min);
            }
            if before == least {
                break;
            }
        }
        let first = |(class, terms): (usize, &Vec<Candidate>)| {
            terms.iter().position(|term| term.tree_cost(&least) <= least[class]).unwrap_or(0)
        };
        self.terms.iter().enumerate().map(first).collect()
    }

    /// Changes one term at a time while that makes the whole cheaper.
    fn improve(&self, mut selection: Selection, roots: &[usize]) -> (Selection, f64) {
        let mut least = self.cost(&selection, roots);
        while least.is_finite() {
            let before = least;
            for class in self.needed(&selection, roots).unwrap_or_default() {
                self.improve_class(class, &mut selection, &mut least, roots);
            }
            if !is_less(least, before) {
                break;
            }
        }
        (selection, least)
    }

    fn improve_class(&self, class: usize, selection: &mut Selection, least: &mut f64, roots: &[usize]) {
        for other in 0..self.terms[class].len() {
            if other == selection[class] {
                continue;
            }
            let kept = std::mem::replace(&mut selection[class], other);
            let cost = self.cost(selection, roots);
            if is_less(cost, *least) {
                *least = cost;
            } else {
                selection[class] = kept;
            }
        }
    }

    /// The cost of everything needed, each class once; infinite when a value would need itself.
    fn cost(&self, selection: &Selection, roots: &[usize]) -> f64 {
        let needed = self.needed(selection, roots);
        needed.map_or(f64::INFINITY, |needed| needed.iter().map(|&c| self.terms[c][selection[c]].cost).sum())
    }

    /// The classes that the roots need, operands first; none when there is a cycle.
    fn needed(&self, selection: &Selection, roots: &[usize]) -> Option<Vec<usize>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            No,
            Open,
            Done,
        }
        let mut seen = vec![Seen::No; self.terms.len()];
        let mut order = Vec::new();
        let mut stack: Vec<usize> = roots.iter().rev().copied().collect();
        while let Some(&class) = stack.last() {
            if seen[class] != Seen::No {
                stack.pop();
                if seen[class] == Seen::Open {
                    order.push(class);
                }
                seen[class] = Seen::Done;
                continue;
            }
            seen[class] = Seen::Open;
            let children = &self.terms[class][selection[class]].children;
            if children.iter().any(|&child| seen[child] == Seen::Open) {
                return None;
            }
            stack.extend(children.iter().rev().filter(|&&child| seen[child] == Seen::No));
        }
        Some(order)
    }
}

impl Candidate {
    fn tree_cost(&self, least: &[f64]) -> f64 {
        self.cost + self.children.iter().map(|&child| least[child]).sum::<f64>()
    }
}

/// When each term came first, as terms are called after all merges.
pub(super) fn orders(body: &Body) -> BTreeMap<Term, usize> {
    let mut orders = BTreeMap::new();
    for (term, &order) in &body.analysis.made {
        let term = term.clone().map_children(|child| body.find(child));
        let first = orders.entry(term).or_insert(order);
        *first = order.min(*first);
    }
    orders
}

/// Whether a term costs time at all: leaves and `get` do not.
pub(super) fn is_work(term: &Term) -> bool {
    matches!(term.head, Head::Op(_) | Head::Opaque(_))
}
