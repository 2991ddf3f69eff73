//! `call`: another graph of the module, as one operation. `group` makes kernels of it.

use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, expect_count, expect_operand};
use crate::tensor::Tensor;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// Runs the graph `body`; operands are its inputs, results its outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The graph's name.
    pub body: String,
}

impl OpDef for Call {
    fn infer(&self, operands: &[TensorType], cx: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        let body = cx.callee(&self.body)?;
        expect_count(body.inputs.len(), operands)?;
        for (operand, input) in operands.iter().zip(&body.inputs) {
            expect_operand(&format!("operand for %{} of @{}", input.name, body.name), operand, &input.ty)?;
        }
        Ok(body.types_of(&body.outputs).iter().map(TensorType::unnamed).collect())
    }

    fn reference(&self, _: &[&Tensor], _: &[TensorType], _: &RankContext<'_>) -> Vec<Tensor> {
        unreachable!("the interpreter enters called graphs itself")
    }

    fn takes_parts(&self, _: usize) -> bool {
        true
    }
}

/// A called graph is needed: cases under `tests` run it.
pub(crate) fn samples() -> Vec<Sample> {
    Vec::new()
}
