//! How placement passes through an operation, by the letters of its rule ([`OpDef::sharding`]).
//!
//! A rule names every dimension: `m k, k n -> m n`. A mesh axis that splits a letter in one operand splits it in all of
//! them and in the result; a letter that the result lacks is summed over, so there every rank has a part of the sum, and
//! owes the rest. An operand that is whole where others are split is no mistake: each rank takes its own slice of it,
//! which moves nothing between ranks. Dimensions called `whole` are split by nobody. No operation is named here.

use crate::extent::Extent;
use crate::op::{LETTERS, OpDef, TypeContext, TypeError};
use crate::types::{Dim, TensorType};
use std::collections::BTreeMap;

/// The letters of dimensions that must not be split.
pub const WHOLE: &str = "whole";

/// A rule, spelled out.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// For each operand, a letter per dimension.
    pub operands: Vec<Vec<String>>,
    /// A letter for each dimension of the result.
    pub result: Vec<String>,
}

impl Rule {
    /// The rule of an operation on operands of these types, if it has one, and letters for all of their dimensions.
    pub fn of(def: &dyn OpDef, operands: &[TensorType]) -> Option<Rule> {
        if operands.iter().any(|ty| ty.rank() > LETTERS.len()) {
            return None;
        }
        let text = def.sharding(operands)?;
        let (from, to) = text.split_once("->").expect("a rule has operands and a result");
        let letters = |side: &str| side.split_whitespace().map(str::to_owned).collect();
        let rule = Rule { operands: from.split(',').map(letters).collect(), result: letters(to) };
        let ranks = rule.operands.iter().map(Vec::len).eq(operands.iter().map(TensorType::rank));
        assert!(ranks, "`{text}` does not fit {operands:?}");
        Some(rule)
    }

    /// The mesh axis that splits each letter, given where operands are split.
    ///
    /// # Errors
    /// A letter split two ways, an axis that splits two letters, a split of what must be whole.
    pub fn axes<'a>(&'a self, operands: &'a [TensorType]) -> Result<BTreeMap<&'a str, &'a str>, TypeError> {
        let mut axes = BTreeMap::new();
        for (letters, ty) in self.operands.iter().zip(operands) {
            for (letter, dim) in letters.iter().zip(&ty.dims) {
                let Some(axis) = dim.split.as_deref() else { continue };
                if letter == WHOLE {
                    return Err(TypeError::new(format!("{ty} is split where all of it is needed: gather it first")));
                }
                let other = *axes.entry(letter.as_str()).or_insert(axis);
                if other != axis {
                    return Err(TypeError::new(format!("`{letter}` is split over {other} and over {axis}")));
                }
            }
        }
        for (letter, axis) in &axes {
            if let Some((other, _)) = axes.iter().find(|(other, same)| other != &letter && same == &axis) {
                return Err(TypeError::new(format!("{axis} splits both `{letter}` and `{other}`: gather one first")));
            }
        }
        Ok(axes)
    }
}

/// Whether a type says where its pieces lie.
pub fn is_split(ty: &TensorType) -> bool {
    ty.dims.iter().any(|dim| dim.split.is_some())
}

/// A mesh axis that a type uses twice: ranks along it cannot hold slices of two dimensions, or parts of a slice, at once.
pub fn used_twice(ty: &TensorType) -> Option<&str> {
    let splits = ty.dims.iter().flat_map(|dim| dim.split.as_deref().into_iter().chain(dim.extent.divisors()));
    let axes: Vec<&str> = splits.chain(ty.partial.iter().map(String::as_str)).collect();
    axes.iter().enumerate().find(|(i, axis)| axes[..*i].contains(axis)).map(|(_, axis)| *axis)
}

/// The same type, whole on every rank.
#[must_use]
pub fn whole(ty: &TensorType) -> TensorType {
    let dims = ty.dims.iter().map(|dim| Dim { split: None, ..dim.clone() }).collect();
    TensorType { dims, ..ty.clone() }
}

/// What a rank holds of it: extents divided by the axes that split them.
#[must_use]
pub fn local(ty: &TensorType) -> TensorType {
    let dim = |dim: &Dim| match &dim.split {
        Some(axis) => Dim { extent: dim.extent.over(axis), split: None, ..dim.clone() },
        None => dim.clone(),
    };
    TensorType { dims: ty.dims.iter().map(dim).collect(), ..ty.clone() }
}

/// The whole of which a type is what a rank holds: extents without the axes they are divided by.
#[must_use]
pub fn global(ty: &TensorType) -> TensorType {
    let dim = |dim: &Dim| {
        let extent = dim.extent.divisors().fold(dim.extent.clone(), |extent, axis| extent.times(&Extent::symbol(axis)));
        Dim { extent, split: None, ..dim.clone() }
    };
    TensorType { dims: ty.dims.iter().map(dim).collect(), ..ty.clone() }
}

/// Whether a value of type `found` does where `expected` is asked for: it is that, or whole where that is split, and each
/// rank takes its slice.
pub fn stands_for(found: &TensorType, expected: &TensorType) -> bool {
    found.unnamed() == expected.unnamed() || !is_split(found) && found.unnamed() == whole(&expected.unnamed())
}

/// The types of results of an operation that has a rule, for operands that are split.
pub(crate) fn infer(
    def: &dyn OpDef,
    operands: &[TensorType],
    cx: &TypeContext<'_>,
) -> Result<Vec<TensorType>, TypeError> {
    let wholes: Vec<TensorType> = operands.iter().map(whole).collect();
    let mut results = def.infer(&wholes, cx)?;
    if let Some(deep) = wholes.iter().chain(&results).find(|ty| ty.rank() > LETTERS.len()) {
        return Err(TypeError::new(format!("{deep} has more dimensions than rules have letters ({})", LETTERS.len())));
    }
    let Some(rule) = Rule::of(def, &wholes) else {
        let split = operands.iter().find(|ty| is_split(ty)).expect("asked for split operands alone");
        return Err(TypeError::new(format!("takes no split operand, and {split} is one: gather it first")));
    };
    let axes = rule.axes(operands)?;
    let [result] = &mut results[..] else { unreachable!("operations with rules have one result") };
    for (letter, dim) in rule.result.iter().zip(&mut result.dims) {
        dim.split = axes.get(letter.as_str()).map(|axis| (*axis).to_owned());
    }
    let summed = axes.iter().filter(|(letter, _)| !rule.result.iter().any(|kept| kept == *letter));
    for (_, axis) in summed {
        if result.partial.iter().any(|owed| owed == axis) {
            return Err(TypeError::new(format!("a sum over {axis} is owed already: reduce it first")));
        }
        result.partial.push((*axis).to_owned());
    }
    let order = |axis: &String| cx.mesh.axes.iter().position(|(name, _)| name == axis);
    result.partial.sort_by_key(order);
    Ok(results)
}
