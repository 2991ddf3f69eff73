//! `softmax`: the last dimension as probabilities, `e^(x - max) / sum`.

use crate::ascend::{Arg, Lowering};
use crate::extent::Extent;
use crate::op::{LETTERS, OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count, sample};
use crate::tensor::Tensor;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// Normalised exponentials of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Softmax;

impl OpDef for Softmax {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(1, operands)?;
        let whole = operands[0].dims.last().is_some_and(|dim| dim.split.is_none() && dim.extent.divisors().next().is_none());
        if !whole || !operands[0].partial.is_empty() {
            return Err(TypeError::new(format!("{}: rows must be whole", operands[0])));
        }
        Ok(vec![operands[0].unnamed()])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let mut result = Tensor::zeros(results[0].dtype, cx.shape(&results[0]));
        let width = *result.shape.last().expect("infer ran first");
        for (row, x) in result.data.chunks_exact_mut(width).zip(operands[0].data.chunks_exact(width)) {
            softmax(x, row);
        }
        vec![result]
    }

    fn sharding(&self, operands: &[TensorType]) -> Option<String> {
        let rows = LETTERS[..operands[0].rank() - 1].join(" ");
        Some(format!("{rows} whole -> {rows} whole"))
    }

    fn flops(&self, _: &[TensorType], results: &[TensorType]) -> Extent {
        elements(&results[0]).times(&Extent::number(13))
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (x, y) = (io.x(0), io.y());
        io.call("Softmax", [x.into(), Arg::Int(-1), y.into()]);
        Some(())
    }
}

/// Probabilities of one row of scores.
pub(crate) fn softmax(x: &[f64], row: &mut [f64]) {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for (p, x) in row.iter_mut().zip(x) {
        *p = (x - largest).exp();
    }
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|p| *p /= sum);
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![sample(Softmax, &["f32[N, 24]"]), sample(Softmax, &["f32[2, 3, 5]"])]
}
