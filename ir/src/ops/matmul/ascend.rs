//! Products on Ascend chips: `aclnnMm` on views of two dimensions.
//!
//! The unit multiplies 16-bit numbers and sums in f32. The first generation takes nothing else, and stores the sum as f32
//! where the result is; the second stores it in the operands' type, so that it is rounded once more, or multiplies f32.
//! Weights may be kept in 8 bits with a factor for each column (`aclnnWeightQuantBatchMatmulV2`, the second alone).
//! Operands are views: letters summed over become one dimension, a table read by rows is transposed by its strides.

use super::MatMul;
use crate::ascend::{AclTensor, AclType, Arg, Chip, Lowering, Sum};

/// `KEEP_DTYPE`: operands are multiplied as they are.
const KEEP: Arg = Arg::Int(0);

pub(super) fn product(matmul: &MatMul, io: &mut Lowering<'_>) -> Option<()> {
    let Operands { left, right, result } = operands(matmul, io)?;
    let direct = result.dtype == left.dtype || io.chip() == Chip::A910;
    let to = if direct { result.clone() } else { io.temporary(left.dtype, result.dims.clone()) };
    if is_int8(&right, io) {
        let [numbers, factors] = io.int8(right);
        // Of no offset, quantised result or bias; factors are of columns, not of groups of rows (0).
        let absent = std::iter::repeat_n(Arg::Absent, 4);
        let factors = [left.into(), numbers.into(), factors.into()].into_iter().chain(absent);
        io.call("WeightQuantBatchMatmulV2", factors.chain([Arg::Int(0), (&to).into()]));
    } else {
        io.call("Mm", [left.into(), right.into(), (&to).into(), KEEP]);
    }
    widen(to, result, io);
    Some(())
}

/// Whether the weight is kept in 8 bits: one that is read in its own order, as tables are not.
fn is_int8(right: &AclTensor, io: &Lowering<'_>) -> bool {
    io.may_narrow(1) && right.is_contiguous()
}

/// The product and the sum of it over ranks as one call, where the chip has that: the sum is written to the result.
pub(super) fn product_and_sum(matmul: &MatMul, group: &str, io: &mut Lowering<'_>) -> Option<()> {
    let Operands { left, right, result } = operands(matmul, io)?;
    if io.chip() == Chip::A910 || left.dtype == AclType::F32 || is_int8(&right, io) {
        return None;
    }
    let same = result.dtype == left.dtype;
    let to = if same { result.clone() } else { io.temporary(left.dtype, result.dims.clone()) };
    let (group, sum) = (Arg::Group(group.to_owned()), Arg::Text("sum".to_owned()));
    // Streams of its own are the call's affair (1), turns are not limited (0).
    let turns = [Arg::Int(0), Arg::Int(1)];
    io.call("MatmulAllReduce", [left.into(), right.into(), Arg::Absent, group, sum].into_iter().chain(turns).chain([(&to).into()]));
    widen(to, result, io);
    Some(())
}

fn widen(from: AclTensor, result: AclTensor, io: &mut Lowering<'_>) {
    if from != result {
        let dtype = result.dtype;
        io.call("Cast", [from.into(), Arg::Type(dtype), result.into()]);
    }
}

/// `[M, K]`, `[K, N]`, `[M, N]`
struct Operands {
    left: AclTensor,
    right: AclTensor,
    result: AclTensor,
}

fn operands(matmul: &MatMul, io: &mut Lowering<'_>) -> Option<Operands> {
    let (x, w, y) = (io.x(0), io.x(1), io.y());
    let letters = matmul.letters(x.dims.len(), w.dims.len()).ok()?;
    let summed: Vec<String> = letters.contracted().into_iter().cloned().collect();
    let split = letters.result.iter().take_while(|letter| letters.left.contains(letter)).count();
    let (rows, columns) = letters.result.split_at(split);
    if columns.iter().any(|letter| letters.left.contains(letter)) || rows.iter().any(|letter| letters.right.contains(letter)) {
        return None;
    }
    let left = two_dims(&x, &letters.left, rows, &summed)?;
    let right = two_dims(&w, &letters.right, &summed, columns)?;
    let result = two_dims(&y, &letters.result, rows, columns)?;
    let dtype = factors(io.chip(), right.dtype)?;
    Some(Operands { left: io.cast(left, dtype), right: io.cast(right, dtype), result })
}

/// The type in which operands are multiplied: the weight's, where the chip multiplies that.
fn factors(chip: Chip, weight: AclType) -> Option<AclType> {
    match (chip, weight) {
        (Chip::A910, AclType::BF16) => None,
        (Chip::A910, AclType::F32) => Some(AclType::F16),
        (_, AclType::F32 | AclType::F16 | AclType::BF16) => Some(weight),
        _ => None,
    }
}

/// A tensor as `[first letters, second letters]`.
fn two_dims(tensor: &AclTensor, letters: &[String], first: &[String], second: &[String]) -> Option<AclTensor> {
    let order: Vec<usize> =
        first.iter().chain(second).map(|letter| letters.iter().position(|known| known == letter)).collect::<Option<_>>()?;
    if order.len() != letters.len() {
        return None;
    }
    let view = tensor.permuted(&order);
    let (a, b) = view.dims.split_at(first.len());
    view.reshaped(&[Sum::product(a), Sum::product(b)])
}
