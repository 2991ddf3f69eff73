//! In what two checkpoints differ: names, types, shapes, and of each tensor the first number and the largest error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use bloomery_formats::Dtype;
use bloomery_formats::mindspore::Key;
use bloomery_models::names::Names;
use serde::Serialize;

use super::numbers;
use crate::stored::{Item, STRIDE, StoredTensors, Told};
use crate::{Error, Progress, find};

/// In what two checkpoints differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Differences {
    /// Whether they hold the same.
    pub equal: bool,
    /// Tensors that are the same in both, to the bit.
    pub same: usize,
    /// Names that the first alone has.
    pub only_a: Vec<String>,
    /// Names that the second alone has.
    pub only_b: Vec<String>,
    /// Tensors that differ.
    pub different: Vec<Difference>,
}

/// A tensor that is another in the second checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// Its types, where they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<[String; 2]>,
    /// Its shapes, where they differ; then numbers are not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shapes: Option<[Vec<usize>; 2]>,
    /// The first number that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<First>,
    /// How many are.
    pub count: usize,
    /// The largest difference of two numbers; none where one is no number.
    pub largest_error: Option<f64>,
}

/// A number that is another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct First {
    /// Where it is, an index per dimension.
    pub index: Vec<usize>,
    /// In the first checkpoint.
    pub a: Number,
    /// In the second.
    pub b: Number,
}

/// A number of any type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of a type of integers, or a truth value.
    Whole(i128),
    /// Of a type of reals.
    Real(f64),
}

impl Number {
    fn real(self) -> f64 {
        match self {
            Number::Whole(whole) => whole as f64,
            Number::Real(real) => real,
        }
    }

    /// Whether both are the same: zeros of both signs are not, what is no number is like any other such.
    fn is(self, other: Number) -> bool {
        match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => a == b,
            _ => {
                let [a, b] = [self.real(), other.real()];
                a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
            }
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Whole(whole) => write!(f, "{whole}"),
            Number::Real(real) => write!(f, "{real}"),
        }
    }
}

/// Compares two checkpoints of any formats, by name.
///
/// # Errors
/// One is no checkpoint, or a damaged one; an interruption.
pub fn diff(a: &Path, b: &Path, key: Option<&Key>, progress: &mut dyn Progress) -> Result<Differences, Error> {
    let mut open = |path: &Path| -> Result<StoredTensors, Error> {
        let path = find::local(path)?;
        // One of both may be encrypted.
        let plain = StoredTensors::open(&path, Told::default(), Names::MindSpore, progress);
        match (plain, key) {
            (Err(_), Some(_)) => StoredTensors::open(&path, Told { key, strategy: None }, Names::MindSpore, progress),
            (opened, _) => opened,
        }
    };
    let (a, b) = (open(a)?, open(b)?);
    let (left, right) = (a.items(), b.items());
    let by_name: BTreeMap<&str, &Item> = right.iter().map(|item| (item.name.as_str(), item)).collect();
    let only = |items: &[Item], others: &dyn Fn(&str) -> bool| -> Vec<String> {
        items.iter().map(|item| item.name.clone()).filter(|name| !others(name)).collect()
    };
    let names: BTreeSet<&str> = left.iter().map(|item| item.name.as_str()).collect();
    let mut found = Differences {
        equal: false,
        same: 0,
        only_a: only(&left, &|name| by_name.contains_key(name)),
        only_b: only(&right, &|name| names.contains(name)),
        different: Vec::new(),
    };
    progress.begin("compare", left.iter().map(|item| item.bytes as u64).sum());
    for item in &left {
        let Some(other) = by_name.get(item.name.as_str()) else { continue };
        match compare([&a, &b], [item, other], progress)? {
            Some(difference) => found.different.push(difference),
            None => found.same += 1,
        }
    }
    progress.end("");
    a.unchanged()?;
    b.unchanged()?;
    found.equal = found.only_a.is_empty() && found.only_b.is_empty() && found.different.is_empty();
    Ok(found)
}

fn compare(
    stored: [&StoredTensors; 2],
    items: [&Item; 2],
    progress: &mut dyn Progress,
) -> Result<Option<Difference>, Error> {
    let [a, b] = items;
    let mut difference = Difference {
        name: a.name.clone(),
        types: (a.ty != b.ty).then(|| [a.ty.to_owned(), b.ty.to_owned()]),
        shapes: (a.shape != b.shape).then(|| [a.shape.clone(), b.shape.clone()]),
        first: None,
        count: 0,
        largest_error: Some(0.0),
    };
    let differs =
        |difference: &Difference| difference.types.is_some() || difference.shapes.is_some() || difference.count > 0;
    let (Some(left), Some(right), None) = (a.dtype, b.dtype, &difference.shapes) else {
        // Texts, and tensors of unlike shapes.
        let texts = a.dtype.is_none() && b.dtype.is_none();
        if texts && stored[0].read(&a.name, 0..a.bytes)? != stored[1].read(&b.name, 0..b.bytes)? {
            difference.count = 1;
        }
        difference.largest_error = None;
        return Ok(differs(&difference).then_some(difference));
    };
    let elements: usize = a.shape.iter().product();
    let at_once = STRIDE / 8;
    for start in (0..elements).step_by(at_once) {
        progress.go_on()?;
        let range = start..(start + at_once).min(elements);
        let bytes = |of: usize, dtype: Dtype| {
            let size = dtype.bits() / 8;
            let range = range.start * size..range.end * size;
            Ok::<_, Error>((stored[of].read(&items[of].name, range.clone())?, range))
        };
        let ((one, one_range), (other, other_range)) = (bytes(0, left)?, bytes(1, right)?);
        progress.advance(one.len() as u64);
        if left != right {
            let both = numbers(left, &one).into_iter().zip(numbers(right, &other));
            both.enumerate()
                .filter(|(_, (a, b))| !a.is(*b))
                .for_each(|(i, both)| difference.add(start + i, &a.shape, Some(both)));
        } else if one != other {
            let size = left.bits() / 8;
            let unlike = one.chunks(size).zip(other.chunks(size)).enumerate().filter(|(_, (a, b))| a != b);
            let number = |bytes: &[u8]| numbers(left, bytes).first().copied();
            unlike.for_each(|(i, (x, y))| difference.add(start + i, &a.shape, number(x).zip(number(y))));
        }
        drop((one, other));
        stored[0].done_with(&a.name, one_range);
        stored[1].done_with(&b.name, other_range);
    }
    Ok(differs(&difference).then_some(difference))
}

impl Difference {
    /// Counts an element that is another, and its numbers if its type has such.
    fn add(&mut self, element: usize, shape: &[usize], numbers: Option<(Number, Number)>) {
        self.count += 1;
        let Some((a, b)) = numbers else {
            self.largest_error = None;
            return;
        };
        self.first.get_or_insert_with(|| First { index: index(element, shape), a, b });
        let error = (a.real() - b.real()).abs();
        self.largest_error = self.largest_error.filter(|_| error.is_finite()).map(|most| most.max(error));
    }
}

fn index(element: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    let mut rest = element;
    for (dim, extent) in shape.iter().enumerate().rev() {
        index[dim] = rest % extent;
        rest /= extent;
    }
    index
}
