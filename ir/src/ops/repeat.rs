//! `repeat`: one graph run once per layer, what JAX calls scan.
//!
//! `repeat @block over layers 0..24 carry(%x) slice(%w) state(%kv) with(%rows) collect(1)`: the carry goes from one
//! iteration to the next, slices and states give their element of the first dimension, `with` is the same every time,
//! and collected results are stacked. Inputs of the body come in that order; its outputs are carries, states, collected.
//! The reverse form counts down; what it collects still lies at the layer's own index.

use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, expect_count, expect_operand, expect_type};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};
use serde::{Deserialize, Serialize};

/// Runs the graph `body` for each layer from `from` up to `to`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// The body's name.
    pub body: String,
    /// Name of the dimension walked along.
    pub over: String,
    /// First layer.
    pub from: u64,
    /// First layer no more.
    pub to: u64,
    /// From the last layer to the first.
    pub reverse: bool,
    /// Number of carried operands.
    pub carry: usize,
    /// Number of sliced operands.
    pub slice: usize,
    /// Number of state operands.
    pub state: usize,
    /// Number of operands that are the same in every iteration.
    pub with: usize,
    /// Number of collected results.
    pub collect: usize,
}

impl Repeat {
    /// Number of operands.
    pub fn arity(&self) -> usize {
        self.carry + self.slice + self.state + self.with
    }

    /// Whether operand `i` gives the body one element of its first dimension.
    pub fn is_stacked(&self, i: usize) -> bool {
        (self.carry..self.carry + self.slice + self.state).contains(&i)
    }

    /// Iterations.
    pub fn count(&self) -> u64 {
        self.to - self.from
    }

    /// The layers in the order they run.
    pub fn layers(&self) -> Vec<u64> {
        let up = self.from..self.to;
        if self.reverse { up.rev().collect() } else { up.collect() }
    }

    /// Operand positions of states, paired with the positions of the results that replace them.
    pub fn states(&self) -> impl Iterator<Item = (usize, usize)> {
        let (operand, result) = (self.carry + self.slice, self.carry);
        (0..self.state).map(move |i| (operand + i, result + i))
    }
}

impl OpDef for Repeat {
    fn infer(&self, operands: &[TensorType], cx: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        let body = cx.callee(&self.body)?;
        expect_count(self.arity(), operands)?;
        expect_count(body.inputs.len(), operands)?;
        let outputs: Vec<TensorType> = body.types_of(&body.outputs).iter().map(TensorType::unnamed).collect();
        if self.from >= self.to || outputs.len() != self.carry + self.state + self.collect {
            return Err(TypeError::new(format!(
                "layers {}..{}; @{} returns {} values, expected {} carried, {} states, {} collected",
                self.from, self.to, self.body, outputs.len(), self.carry, self.state, self.collect
            )));
        }
        for (i, (operand, input)) in operands.iter().zip(&body.inputs).enumerate() {
            let given = if self.is_stacked(i) { self.layer_of(operand)? } else { operand.clone() };
            expect_operand(&format!("operand for %{} of @{}", input.name, body.name), &given, &input.ty)?;
        }
        for i in 0..self.carry {
            expect_type(&format!("carry {i} returned by @{}", body.name), &outputs[i], &operands[i])?;
        }
        let mut results: Vec<TensorType> = outputs[..self.carry].to_vec();
        for (operand, result) in self.states() {
            expect_type(&format!("state returned by @{}", body.name), &outputs[result], &operands[operand].inner())?;
            results.push(operands[operand].unnamed());
        }
        results.extend(outputs[self.carry + self.state..].iter().map(|ty| ty.stacked(self.to)));
        Ok(results)
    }

    fn reference(&self, _: &[&Tensor], _: &[TensorType], _: &RankContext<'_>) -> Vec<Tensor> {
        unreachable!("the interpreter runs bodies itself")
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }
}

impl Repeat {
    /// One layer of a stacked operand.
    fn layer_of(&self, operand: &TensorType) -> Result<TensorType, TypeError> {
        let layers = operand.dims.first().and_then(|dim: &Dim| dim.extent.as_number());
        match layers {
            Some(layers) if layers >= self.to => Ok(operand.inner()),
            _ => Err(TypeError::new(format!("{operand} does not have layers {}..{}", self.from, self.to))),
        }
    }
}

/// A body is needed: cases under `tests` run it.
pub(crate) fn samples() -> Vec<Sample> {
    Vec::new()
}
