//! How a rule is applied: conditions see a [`Match`], and no term is added before its type is known to fit.

use super::language::{Body, Data, Head, Term, Types, add_attributes};
use super::rules::Rule;
use bloomery_ir::op::elements;
use bloomery_ir::{Bindings, Op, TensorType};
use egg::{Applier, ENodeOrVar, Id, Language, Pattern, PatternAst, Rewrite, Subst, Symbol, Var};
use std::collections::BTreeMap;

/// Attributes that a rule's right side names and its left side does not.
pub(super) type New = Vec<(&'static str, Op)>;

/// A rule's condition: none when it does not hold.
pub(super) type Given = fn(&Match<'_>) -> Option<New>;

impl Rule {
    /// As egg wants it.
    pub(super) fn rewrite(&'static self) -> Rewrite<Term, Types> {
        let parse = |text: &str| text.parse::<Pattern<Term>>().expect("the list's patterns are well formed");
        let applier = Checked { rule: self, to: parse(self.to).ast };
        Rewrite::new(self.name, parse(self.from), applier).expect("appliers name their variables themselves")
    }
}

/// What a rule's left side found.
pub(super) struct Match<'a> {
    body: &'a Body,
    class: Id,
    found: &'a Subst,
}

impl Match<'_> {
    /// The type of the value bound to a name.
    pub(super) fn ty(&self, name: &str) -> &TensorType {
        match self.data(name) {
            Data::Value(ty) => ty,
            other => unreachable!("?{name} is no value but {other:?}"),
        }
    }

    /// The operation whose attributes are bound to a name.
    pub(super) fn op(&self, name: &str) -> &Op {
        match self.data(name) {
            Data::Attributes(op) => op,
            other => unreachable!("?{name} is no attributes but {other:?}"),
        }
    }

    /// The type of the whole.
    pub(super) fn root(&self) -> &TensorType {
        match &self.body[self.class].data {
            Data::Value(ty) => ty,
            other => unreachable!("a pattern matched {other:?}"),
        }
    }

    /// Whether `a` never has more elements than `b`, at any sizes the graph allows.
    pub(super) fn never_larger(&self, a: &TensorType, b: &TensorType) -> bool {
        let (a, b) = (elements(a), elements(b));
        let size = |sizes: &Bindings, extent: &bloomery_ir::Extent| extent.eval(sizes).ok();
        let smaller = |sizes: &Bindings| size(sizes, &a).zip(size(sizes, &b)).is_some_and(|(a, b)| a <= b);
        a == b || self.corners().iter().all(smaller)
    }

    /// All combinations of least and largest sizes: monomials have their extremes there.
    fn corners(&self) -> Vec<Bindings> {
        let types = &self.body.analysis;
        let mut corners: Vec<Bindings> = vec![types.mesh.axes.iter().cloned().collect()];
        for symbol in &types.symbols {
            let with = |sizes: &Bindings, size| {
                let mut sizes = sizes.clone();
                sizes.insert(symbol.name.clone(), size);
                sizes
            };
            corners = corners.iter().flat_map(|s| [with(s, symbol.least), with(s, symbol.most)]).collect();
        }
        corners
    }

    fn data(&self, name: &str) -> &Data {
        &self.body[self.found[variable(name)]].data
    }
}

fn variable(name: &str) -> Var {
    format!("?{name}").parse().expect("names of variables are words")
}

/// The right side of a rule.
struct Checked {
    rule: &'static Rule,
    to: PatternAst<Term>,
}

impl Applier<Term, Types> for Checked {
    fn apply_one(&self, body: &mut Body, class: Id, found: &Subst, _: Option<&PatternAst<Term>>, _: Symbol) -> Vec<Id> {
        let Some(new) = (self.rule.given)(&Match { body, class, found }) else { return Vec::new() };
        let new: BTreeMap<Var, Op> = new.into_iter().map(|(name, op)| (variable(name), op)).collect();
        if self.root(body, found, &new).as_ref() != Some(&body[class].data) {
            return Vec::new();
        }
        let id = self.add(body, found, &new);
        if body.union(class, id) { vec![class] } else { Vec::new() }
    }
}

impl Checked {
    /// What the right side would be, if it has a type at all.
    fn root(&self, body: &Body, found: &Subst, new: &BTreeMap<Var, Op>) -> Option<Data> {
        let mut data: Vec<Data> = Vec::new();
        for node in &self.to {
            data.push(match node {
                ENodeOrVar::Var(var) => match new.get(var) {
                    Some(op) => Data::Attributes(op.clone()),
                    None => body[found[*var]].data.clone(),
                },
                ENodeOrVar::ENode(term) => {
                    let Head::Op(name) = term.head else { unreachable!("patterns name operations only") };
                    let children: Vec<&Data> = term.children.iter().map(|&child| &data[usize::from(child)]).collect();
                    Data::Value(body.analysis.infer(name, &children).ok()?)
                }
            });
        }
        data.pop()
    }

    fn add(&self, body: &mut Body, found: &Subst, new: &BTreeMap<Var, Op>) -> Id {
        let mut ids: Vec<Id> = Vec::new();
        for node in &self.to {
            ids.push(match node {
                ENodeOrVar::Var(var) => match new.get(var) {
                    Some(op) => add_attributes(body, op).expect("operations that a rule makes have attributes"),
                    None => found[*var],
                },
                ENodeOrVar::ENode(term) => body.add(term.clone().map_children(|child| ids[usize::from(child)])),
            });
        }
        ids.pop().expect("a pattern is not empty")
    }
}
