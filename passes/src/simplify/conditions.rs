//! What rules ask of types and attributes, and the attributes they make.

use super::apply::{Match, New};
use bloomery_ir::ops::all_reduce::AllReduce;
use bloomery_ir::ops::matmul::{Letters, MatMul};
use bloomery_ir::ops::reduce::{Kind, Reduce};
use bloomery_ir::ops::reduce_scatter::ReduceScatter;
use bloomery_ir::ops::scale::Scale;
use bloomery_ir::ops::slice::Slice;
use bloomery_ir::ops::transpose::Transpose;
use bloomery_ir::{DType, Op, TensorType};

/// Factors beyond this, or below its inverse, could leave the range of f32 when multiplied.
const FACTOR_MOST: f64 = 1e18;

/// The condition as a rule's answer.
pub(super) fn when(holds: bool) -> Option<New> {
    holds.then(Vec::new)
}

/// The answer that makes one operation's attributes.
pub(super) fn make(name: &'static str, op: impl Into<Op>) -> Option<New> {
    Some(vec![(name, op.into())])
}

/// The attributes of an operation that the pattern says is a `$op`.
macro_rules! read {
    ($found:expr, $name:literal, $op:ident) => {
        match $found.op($name) {
            bloomery_ir::Op::$op(op) => op,
            other => unreachable!("?{} is of {}", $name, other.name()),
        }
    };
}
pub(super) use read;

/// Whether all values of these names are f32, where another order of rounding is allowed.
pub(super) fn single(m: &Match<'_>, names: &[&str]) -> bool {
    m.root().dtype == DType::F32 && names.iter().all(|name| m.ty(name).dtype == DType::F32)
}

/// As [`single`], and owing no sum: a product does not carry a sum that its operand owes.
pub(super) fn single_whole(m: &Match<'_>, names: &[&str]) -> bool {
    single(m, names) && names.iter().all(|name| m.ty(name).partial.is_empty())
}

/// Whether the value is floating point: negation is exact there alone.
pub(super) fn float(m: &Match<'_>, name: &str) -> bool {
    m.ty(name).dtype.is_float()
}

/// Whether two values have the same dimensions: neither is repeated to fit the other.
pub(super) fn alike(m: &Match<'_>, a: &str, b: &str) -> bool {
    m.ty(a).dims == m.ty(b).dims && m.ty(a).partial == m.ty(b).partial
}

/// One factor for two, as long as no product of them can leave f32's range.
pub(super) fn product(a: &Scale, b: &Scale) -> Option<New> {
    let ordinary = |by: f64| by == 0.0 || (1.0 / FACTOR_MOST..FACTOR_MOST).contains(&by.abs());
    let all = [a.by, b.by, a.by * b.by].into_iter().all(ordinary);
    if all { make("c", Scale { by: a.by * b.by }) } else { None }
}

/// The other sign's factor.
pub(super) fn negated(m: &Match<'_>) -> Option<New> {
    make("b", Scale { by: -read!(m, "a", Scale).by })
}

/// One transposition for two, `a` first.
pub(super) fn composed(a: &Transpose, b: &Transpose) -> Transpose {
    Transpose { order: b.order.iter().map(|&dim| a.order[dim]).collect() }
}

/// One slice for two along one dimension, `a` first.
pub(super) fn inner_slice(a: &Slice, b: &Slice) -> Option<New> {
    let (from, to) = (a.from + b.from, a.from + b.to);
    if a.dim == b.dim { make("c", Slice { dim: a.dim, from, to }) } else { None }
}

/// Whether every value of one type is a value of the other.
pub(super) fn holds_all(from: DType, to: DType) -> bool {
    use DType::{BF16, F16, F32, I8, I32, U4};
    from == to || matches!((from, to), (F16 | BF16 | I8 | U4, F32) | (I8 | U4, F16 | BF16 | I32) | (U4, I8))
}

/// The slice of the concatenation's operand `name`, which lies behind the operands `before`, if that is all it takes.
pub(super) fn part(m: &Match<'_>, before: &[&str], name: &str) -> Option<New> {
    let (slice, concat) = (read!(m, "s", Slice), read!(m, "c", Concat));
    let extent = |name: &str| m.ty(name).dims[concat.dim].extent.as_number();
    let start = before.iter().map(|name| extent(name)).sum::<Option<u64>>()?;
    let inside = slice.dim == concat.dim && slice.from >= start && slice.to <= start + extent(name)?;
    if !inside {
        return None;
    }
    make("t", Slice { dim: slice.dim, from: slice.from - start, to: slice.to - start })
}

/// One slice for slices that adjoin along the dimension they are concatenated in.
pub(super) fn adjoining(m: &Match<'_>, slices: &[&Slice]) -> Option<New> {
    let dim = read!(m, "c", Concat).dim;
    let adjoin = slices.windows(2).all(|pair| pair[0].to == pair[1].from) && slices.iter().all(|s| s.dim == dim);
    if !adjoin {
        return None;
    }
    make("t", Slice { dim, from: slices[0].from, to: slices[slices.len() - 1].to })
}

/// The factor by which a sum over leading, repeated dimensions grows.
pub(super) fn repeated(m: &Match<'_>) -> Option<New> {
    let (reduce, broadcast) = (read!(m, "r", Reduce), read!(m, "b", Broadcast));
    let leading = reduce.kind == Kind::Sum && reduce.dims.iter().copied().eq(0..broadcast.leading.len());
    let count: Option<u64> = broadcast.leading.iter().map(bloomery_ir::Extent::as_number).product();
    let count = count.filter(|count| leading && *count < 1 << 24)?;
    make("c", Scale { by: count as f64 })
}

/// Both reductions' dimensions, as dimensions of the inner operand.
pub(super) fn both_reductions(m: &Match<'_>) -> Option<New> {
    let (outer, inner) = (read!(m, "b", Reduce), read!(m, "a", Reduce));
    let kept: Vec<usize> = (0..m.ty("x").rank()).filter(|dim| !inner.dims.contains(dim)).collect();
    let mut dims: Vec<usize> = outer.dims.iter().map(|&dim| kept[dim]).chain(inner.dims.iter().copied()).collect();
    dims.sort_unstable();
    let allowed = outer.kind == inner.kind && (outer.kind == Kind::Max || single(m, &["x"]));
    if allowed { make("c", Reduce { kind: outer.kind, dims }) } else { None }
}

/// One sum for all, in place of its slices `s` that `g` joins.
pub(super) fn shared_sum(m: &Match<'_>) -> Option<New> {
    let (join, cut) = (read!(m, "g", AllGather), read!(m, "s", ReduceScatter));
    let same = join.over == cut.over && join.dim == cut.dim;
    if same { make("r", AllReduce { over: join.over.clone() }) } else { None }
}

/// The sum of which each rank gets its slice, in place of the piece `p`, by the place `i`, of the sum that all get.
pub(super) fn scattered_sum(m: &Match<'_>) -> Option<New> {
    let (piece, over) = (read!(m, "p", Piece), &read!(m, "o", AllReduce).over);
    let whole = &m.ty("x").dims[piece.dim].extent;
    let own = read!(m, "i", AxisIndex).axis == *over && piece.size == whole.over(over);
    if own { make("s", ReduceScatter { over: over.clone(), dim: piece.dim }) } else { None }
}

/// Whether the piece `p`, by the place `i`, of slices that `g` joins is the rank's own slice.
pub(super) fn own_slice(m: &Match<'_>) -> Option<New> {
    let (piece, join, place) = (read!(m, "p", Piece), read!(m, "g", AllGather), read!(m, "i", AxisIndex));
    when(piece.dim == join.dim && place.axis == join.over && m.root() == m.ty("x"))
}

/// Which tensor of a product a transposition is taken off.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    /// The left operand.
    Left,
    /// The right operand.
    Right,
    /// The result.
    Result,
}

/// The product by letters that reads `x` and `y`, or writes its result, without the transposition.
pub(super) fn untransposed(m: &Match<'_>, side: Side) -> Option<New> {
    let (matmul, transpose) = (read!(m, "s", MatMul), read!(m, "t", Transpose));
    let (left, right) = (m.ty("x"), m.ty("y"));
    let mut letters = matmul.letters(left.rank(), right.rank()).ok()?;
    match side {
        Side::Left => letters.left = inverted(&letters.left, transpose),
        Side::Right => letters.right = inverted(&letters.right, transpose),
        Side::Result => letters.result = transpose.order.iter().map(|&dim| letters.result[dim].clone()).collect(),
    }
    make("u", by_letters(&letters, left, right))
}

/// The letters that become `letters` under the transposition.
fn inverted(letters: &[String], transpose: &Transpose) -> Vec<String> {
    let mut before = letters.to_vec();
    for (letter, &dim) in letters.iter().zip(&transpose.order) {
        before[dim].clone_from(letter);
    }
    before
}

/// The product of these letters: the plain one where that is what they say, else with letters by appearance.
fn by_letters(letters: &Letters, left: &TensorType, right: &TensorType) -> MatMul {
    let text = spelled(letters);
    let plain = MatMul::plain().letters(left.rank(), right.rank());
    if plain.is_ok_and(|plain| spelled(&plain) == text) { MatMul::plain() } else { MatMul::spec(&text) }
}

fn spelled(letters: &Letters) -> String {
    let mut seen: Vec<&String> = Vec::new();
    for letter in letters.left.iter().chain(&letters.right) {
        if !seen.contains(&letter) {
            seen.push(letter);
        }
    }
    let name = |letter: &String| {
        let place = seen.iter().position(|l| *l == letter).expect("letters of the result are the operands'");
        char::from(b'a' + place as u8).to_string()
    };
    let side = |side: &[String]| side.iter().map(name).collect::<Vec<_>>().join(" ");
    format!("{}, {} -> {}", side(&letters.left), side(&letters.right), side(&letters.result))
}
