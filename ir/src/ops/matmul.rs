//! `matmul`: contraction of two tensors, `m k, k n -> m n` and every other pattern of letters.
//!
//! A letter in both operands and not in the result is summed over; `...` stands for leading dimensions. Weights of
//! attention keep their dimensions apart: `n h, h a d -> n a d` for queries, `n a d, a d h -> n h` for the way back.

mod ascend;

use crate::ascend::Lowering;
use crate::extent::Extent;
use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, expect_count, sample};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sum over shared letters of the product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatMul {
    /// Letters of both operands and the result; absent: `... k, k n -> ... n`.
    pub spec: Option<String>,
}

/// A pattern with `...` spelled out.
#[derive(Clone, Debug, PartialEq)]
pub struct Letters {
    /// Letters of the left operand, one per dimension.
    pub left: Vec<String>,
    /// Letters of the right operand.
    pub right: Vec<String>,
    /// Letters of the result.
    pub result: Vec<String>,
}

impl MatMul {
    /// The ordinary product, `... k, k n -> ... n`.
    pub fn plain() -> MatMul {
        MatMul { spec: None }
    }

    /// By letters, e.g. `n h, v h -> n v`.
    pub fn spec(spec: &str) -> MatMul {
        MatMul { spec: Some(spec.to_owned()) }
    }

    /// On an Ascend chip, the product and its sum over ranks as one call, where the chip has that; the sum is the result.
    pub fn ascend_with_sum(&self, group: &str, io: &mut Lowering<'_>) -> Option<()> {
        ascend::product_and_sum(self, group, io)
    }

    /// The letters for operands of these ranks.
    ///
    /// # Errors
    /// A pattern that does not fit them.
    pub fn letters(&self, left: usize, right: usize) -> Result<Letters, TypeError> {
        let spec = self.spec.as_deref().unwrap_or("... k, k n -> ... n");
        let wrong = |why: &str| TypeError::new(format!("`{spec}` {why}"));
        let (operands, result) = spec.split_once("->").ok_or_else(|| wrong("has no `->`"))?;
        let (a, b) = operands.split_once(',').ok_or_else(|| wrong("does not name two operands"))?;
        let fixed = a.split_whitespace().filter(|letter| *letter != "...").count();
        let leading = left.checked_sub(fixed).ok_or_else(|| wrong("has more letters than the left operand dimensions"))?;
        let spell = |text: &str| -> Vec<String> {
            let lead = || (0..leading).map(|i| format!("lead{i}")).collect();
            text.split_whitespace().flat_map(|l| if l == "..." { lead() } else { vec![l.to_owned()] }).collect()
        };
        let letters = Letters { left: spell(a), right: spell(b), result: spell(result) };
        if (letters.left.len(), letters.right.len()) != (left, right) {
            return Err(wrong(&format!("does not fit operands of {left} and {right} dimensions")));
        }
        letters.check().map_err(|why| wrong(&why))?;
        Ok(letters)
    }
}

impl Letters {
    /// Letters summed over, in the order of the right operand.
    pub fn contracted(&self) -> Vec<&String> {
        self.right.iter().filter(|letter| !self.result.contains(letter)).collect()
    }

    fn check(&self) -> Result<(), String> {
        let known = |letter: &String| self.left.contains(letter) || self.right.contains(letter);
        if let Some(letter) = self.result.iter().find(|letter| !known(letter)) {
            return Err(format!("makes `{letter}` from nothing"));
        }
        let lone = |side: &[String], other: &[String]| {
            side.iter().find(|l| !other.contains(l) && !self.result.contains(l)).cloned()
        };
        if let Some(letter) = lone(&self.left, &self.right).or_else(|| lone(&self.right, &self.left)) {
            return Err(format!("sums `{letter}` of one operand alone (use reduce)"));
        }
        for side in [&self.left, &self.right, &self.result] {
            if let Some(letter) = side.iter().enumerate().find_map(|(i, l)| side[..i].contains(l).then_some(l)) {
                return Err(format!("names `{letter}` twice in one tensor"));
            }
        }
        Ok(())
    }

    /// The dimension each letter stands for.
    fn dims<'a>(&'a self, operands: &'a [TensorType]) -> Result<BTreeMap<&'a str, &'a Dim>, TypeError> {
        let mut dims: BTreeMap<&str, &Dim> = BTreeMap::new();
        let named = self.left.iter().zip(&operands[0].dims).chain(self.right.iter().zip(&operands[1].dims));
        for (letter, dim) in named {
            let earlier = dims.entry(letter).or_insert(dim);
            if earlier.extent != dim.extent {
                let (a, b) = (&operands[0], &operands[1]);
                return Err(TypeError::new(format!("`{letter}` is {} and {}: {a} times {b}", earlier.extent, dim.extent)));
            }
        }
        Ok(dims)
    }
}

impl OpDef for MatMul {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(2, operands)?;
        let letters = self.letters(operands[0].rank(), operands[1].rank())?;
        let dims = letters.dims(operands)?;
        let of = |letter: &String| Dim { logical: None, ..dims[letter.as_str()].clone() };
        let mut result = TensorType::new(operands[0].dtype.promote(operands[1].dtype), letters.result.iter().map(of));
        if operands.iter().all(|ty| !ty.partial.is_empty()) {
            return Err(TypeError::new(format!("both {} and {} owe sums: reduce one first", operands[0], operands[1])));
        }
        result.partial.extend(operands.iter().flat_map(|ty| ty.partial.clone()));
        // A sum over a dimension that is local (`256/mp`) is a part of the whole sum.
        for letter in letters.contracted() {
            result.partial.extend(dims[letter.as_str()].extent.divisors().map(str::to_owned));
        }
        Ok(vec![result])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let (a, b) = (operands[0], operands[1]);
        let letters = self.letters(a.shape.len(), b.shape.len()).expect("infer ran first");
        let mut result = Tensor::zeros(results[0].dtype, cx.shape(&results[0]));
        let contracted = letters.contracted();
        let extent = |letter: &String| match letters.left.iter().position(|l| l == letter) {
            Some(dim) => a.shape[dim],
            None => b.shape[letters.right.iter().position(|l| l == letter).expect("letters were checked")],
        };
        let inner: Vec<usize> = contracted.iter().map(|letter| extent(letter)).collect();
        let strides = |side: &[String], shape: &[usize], of: &[&String]| -> Vec<usize> {
            let place = |letter: &&String| side.iter().position(|l| l == *letter);
            of.iter().map(|letter| place(letter).map_or(0, |dim| shape[dim + 1..].iter().product())).collect()
        };
        let outer: Vec<&String> = letters.result.iter().collect();
        let (a_out, b_out) = (strides(&letters.left, &a.shape, &outer), strides(&letters.right, &b.shape, &outer));
        let (a_in, b_in) = (strides(&letters.left, &a.shape, &contracted), strides(&letters.right, &b.shape, &contracted));
        let pairs = offsets(&inner, &a_in, &b_in);
        for (value, (i, j)) in result.data.iter_mut().zip(offsets(&result.shape, &a_out, &b_out)) {
            *value = pairs.iter().map(|(k, l)| a.data[i + k] * b.data[j + l]).sum();
        }
        vec![result]
    }

    fn sharding(&self, operands: &[TensorType]) -> Option<String> {
        let letters = self.letters(operands.first()?.rank(), operands.get(1)?.rank()).ok()?;
        Some(format!("{}, {} -> {}", letters.left.join(" "), letters.right.join(" "), letters.result.join(" ")))
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }

    fn flops(&self, operands: &[TensorType], results: &[TensorType]) -> Extent {
        let letters = self.letters(operands[0].rank(), operands[1].rank()).expect("infer ran first");
        let dims = letters.dims(operands).expect("infer ran first");
        let summed = letters.contracted().iter().fold(Extent::number(2), |p, l| p.times(&dims[l.as_str()].extent));
        crate::op::elements(&results[0]).times(&summed)
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        ascend::product(self, io)
    }
}

/// All index combinations of `shape` in row-major order, as offsets under two sets of strides.
fn offsets(shape: &[usize], a: &[usize], b: &[usize]) -> Vec<(usize, usize)> {
    let mut offsets = vec![(0, 0)];
    for (dim, &extent) in shape.iter().enumerate() {
        let step = |&(i, j): &(usize, usize)| (0..extent).map(move |n| (i + n * a[dim], j + n * b[dim]));
        offsets = offsets.iter().flat_map(step).collect();
    }
    offsets
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![
        sample(MatMul::plain(), &["f32[N, 8]", "f32[8, 24]"]),
        sample(MatMul::plain(), &["f32[N, 33]", "f16[33, 17]"]),
        sample(MatMul::plain(), &["f32[N, 32]", "bf16[32, 48]"]),
        sample(MatMul::spec("n h, h a d -> n a d"), &["f32[N, 12]", "f16[12, 3, 4]"]),
        sample(MatMul::spec("n a d, a d h -> n h"), &["f32[N, 3, 4]", "f32[3, 4, 12]"]),
        sample(MatMul::spec("n h, v h -> n v"), &["f32[N, 8]", "f16[40, 8]"]),
        sample(MatMul::spec("n k, n m -> k m"), &["f32[N, 4]", "f32[N, 6]"]),
    ]
}
