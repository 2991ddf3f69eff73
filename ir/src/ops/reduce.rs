//! `reduce`: the sum or the largest value along some dimensions, which disappear.

use crate::ascend::{Arg, Lowering};
use crate::extent::Extent;
use crate::op::{LETTERS, OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count, sample};
use crate::tensor::{Tensor, indices};
use crate::types::TensorType;
use serde::{Deserialize, Serialize};

/// What is done along the dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The sum.
    Sum,
    /// The largest.
    Max,
}

/// Reduces along dimensions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduce {
    /// Sum or maximum.
    pub kind: Kind,
    /// Dimensions that disappear, ascending.
    pub dims: Vec<usize>,
}

impl OpDef for Reduce {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(1, operands)?;
        let ascending = self.dims.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || self.dims.last().is_none_or(|&dim| dim >= operands[0].rank()) {
            return Err(TypeError::new(format!("dims {:?} are not ascending dimensions of {}", self.dims, operands[0])));
        }
        let mut result = operands[0].unnamed();
        for &dim in self.dims.iter().rev() {
            let gone = result.dims.remove(dim);
            result.partial.extend(gone.extent.divisors().map(str::to_owned));
        }
        Ok(vec![result])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let mut result = Tensor::zeros(results[0].dtype, cx.shape(&results[0]));
        if self.kind == Kind::Max {
            result.data.fill(f64::NEG_INFINITY);
        }
        for (index, value) in indices(&operands[0].shape).zip(&operands[0].data) {
            let kept: Vec<usize> = (0..index.len()).filter(|dim| !self.dims.contains(dim)).map(|d| index[d]).collect();
            let slot = &mut result.data[crate::tensor::flat(&result.shape, &kept)];
            *slot = if self.kind == Kind::Sum { *slot + value } else { slot.max(*value) };
        }
        vec![result]
    }

    fn sharding(&self, operands: &[TensorType]) -> Option<String> {
        let letters = &LETTERS[..operands[0].rank()];
        let kept: Vec<&str> = (0..letters.len()).filter(|dim| !self.dims.contains(dim)).map(|dim| letters[dim]).collect();
        // The largest of parts is not a sum owed.
        (self.kind == Kind::Sum).then(|| format!("{} -> {}", letters.join(" "), kept.join(" ")))
    }

    fn takes_parts(&self, _: usize) -> bool {
        self.kind == Kind::Sum
    }

    fn flops(&self, operands: &[TensorType], _: &[TensorType]) -> Extent {
        elements(&operands[0])
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (x, y) = (io.x(0), io.y());
        let dims = Arg::Ints(self.dims.iter().map(|&dim| (dim as u64).into()).collect());
        match self.kind {
            Kind::Sum => {
                let dtype = y.dtype;
                io.call("ReduceSum", [x.into(), dims, Arg::Flag(false), Arg::Type(dtype), y.into()]);
            }
            Kind::Max => io.call("Amax", [x.into(), dims, Arg::Flag(false), y.into()]),
        }
        Some(())
    }
}

pub(crate) fn samples() -> Vec<Sample> {
    vec![
        sample(Reduce { kind: Kind::Sum, dims: vec![0] }, &["f32[N, 8]"]),
        sample(Reduce { kind: Kind::Sum, dims: vec![1] }, &["f32[N, 40]"]),
        sample(Reduce { kind: Kind::Max, dims: vec![0, 2] }, &["f32[3, 4, 5]"]),
    ]
}
