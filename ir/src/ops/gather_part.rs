//! `gather_part`: rows of a table by index, of which a rank has a part: what [`gather`](super::gather) is on ranks that
//! share the table's rows. Rows that lie elsewhere are zeros here, so the sum over the axis, which is owed, is the row.

use crate::ascend::{AclType, Arg, Lowering, Scalar, Sum};
use crate::op::{OpDef, RankContext, Sample, TypeContext, TypeError, elements, expect_count, expect_rank};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};
use crate::work::Sizes;
use serde::{Deserialize, Serialize};

/// `table: [V/over, ..], ids: i32[N], place: i32[1] -> [N, ..] partial(over)`; the rank has rows `place * V/over ..`.
///
/// In the kernels of a program there is no mesh: extents are numbers, and what is owed is the program's affair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatherPart {
    /// The mesh axis that the table's rows are cut over.
    pub over: String,
}

impl OpDef for GatherPart {
    fn infer(&self, operands: &[TensorType], cx: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(3, operands)?;
        expect_rank(operands, 1, 1)?;
        let [table, ids, place] = operands else { unreachable!("they were counted") };
        let shared = cx.mesh.size(&self.over).is_some();
        let cut = !shared && table.rank() > 0 || table.dims.first().is_some_and(|rows| rows.extent.divisors().any(|axis| axis == self.over));
        if ids.dtype != DType::I32 || place.dtype != DType::I32 || !cut {
            return Err(TypeError::new(format!(
                "rows of {table} by {ids}, from place {place}: expected rows cut over {}, i32[N], i32[1]",
                self.over
            )));
        }
        let mut result = table.unnamed();
        result.dims[0] = ids.unnamed().dims[0].clone();
        if shared {
            result.partial.push(self.over.clone());
        }
        Ok(vec![result])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let (table, ids, place) = (operands[0], operands[1], operands[2].data[0]);
        let (row, rows) = (table.shape[1..].iter().product::<usize>(), table.shape[0] as f64);
        let mut result = Tensor::zeros(results[0].dtype, cx.shape(&results[0]));
        for (to, id) in result.data.chunks_exact_mut(row.max(1)).zip(&ids.data) {
            let here = id - place * rows;
            if here >= 0.0 && here < rows {
                to.copy_from_slice(&table.data[here as usize * row..][..row]);
            }
        }
        vec![result]
    }

    fn takes_parts(&self, operand: usize) -> bool {
        operand == 0
    }

    fn reads(&self, i: usize, _: &[TensorType], results: &[TensorType], sizes: &Sizes<'_>) -> Option<u64> {
        (i == 0).then(|| sizes.of(&elements(&results[0])))
    }

    // Ids count from the rank's first row; what lies elsewhere reads some row of here and is made zero.
    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        let (table, ids, place, y) = (io.x(0), io.x(1), io.place(2), io.y());
        let [rows, _] = &table.dims[..] else { return None };
        let last = rows.as_number()?.checked_sub(1)? as f64;
        let number = |value: f64| Arg::Scalar(Scalar::Number(value), AclType::I32);
        let first = Arg::Scalar(Scalar::Count(place.times(rows)), AclType::I32);
        let [here, inside] = [(); 2].map(|()| io.temporary(AclType::I32, ids.dims.clone()));
        let [before, behind, away] = [(); 3].map(|()| io.temporary(AclType::Bool, ids.dims.clone()));
        io.call("Adds", [ids.into(), first, number(-1.0), (&here).into()]);
        io.call("LtScalar", [(&here).into(), number(0.0), (&before).into()]);
        io.call("GtScalar", [(&here).into(), number(last), (&behind).into()]);
        io.call("LogicalOr", [before.into(), behind.into(), (&away).into()]);
        io.call("Clamp", [here.into(), number(0.0), number(last), (&inside).into()]);
        io.call("Embedding", [table.into(), inside.into(), (&y).into()]);
        let of_rows = away.reshaped(&[away.dims[0].clone(), Sum::number(1)])?;
        let zero = Arg::Scalar(Scalar::Number(0.0), y.dtype);
        io.call("InplaceMaskedFillScalar", [y.into(), of_rows.into(), zero]);
        Some(())
    }
}

/// Needs a mesh: the mesh cases under `tests` run it.
pub(crate) fn samples() -> Vec<Sample> {
    Vec::new()
}
