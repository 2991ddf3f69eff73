//! Attention on Ascend chips, for each sequence by blocks of its rows.
//!
//! The first generation has no fused attention: scores of all heads are a product, a table of distances is added, which
//! hides what lies ahead too, and another product follows the softmax. `scores: [heads, rows, context]` is the reason for
//! blocks. The second has a call for one row (`IncreFlashAttentionV4`) and one for more (`PromptFlashAttentionV3`); both
//! compute `scale * q k + pseShift`, and the table is `pseShift`.
//!
//! Distances are counted from each row, so that they are small where softmax is large: 16-bit types keep those.

use super::AlibiAttention;
use crate::ascend::{AclTensor, AclType, Arg, BLOCK_ROWS, Chip, Lowering, Over, Scalar, Sum};

pub(super) fn attention(attention: &AlibiAttention, io: &mut Lowering<'_>) -> Option<()> {
    let (q, kv, slopes, y) = (io.x(0), io.x(1), io.x(4), io.y());
    let reach = kv.dims[3].as_number()?;
    let rows = io.most(&q.dims[0]).min(BLOCK_ROWS);
    let table_type = if io.chip() == Chip::A910 { AclType::F32 } else { kv.dtype };
    let table = io.distances(slopes, rows, reach, table_type);
    io.each(Over::Sequences, |io| {
        io.each(Over::Blocks { rows, reach }, |io| {
            let block = Block::of(&q, &kv, &table, reach);
            let read = match io.chip() {
                Chip::A910 => composed(&block, attention.scale, io),
                Chip::B910 if rows == 1 => fused_row(&block, attention.scale, io),
                Chip::B910 => fused(&block, attention.scale, io),
            };
            io.copy(&Block::rows(&y), &read);
        });
    });
    Some(())
}

/// What a block of rows reads.
struct Block {
    /// `[heads, rows, d]`
    q: AclTensor,
    /// `[heads, reach, d]`
    k: AclTensor,
    /// `[heads, reach, d]`
    v: AclTensor,
    /// What is added to scores, `[heads, rows, context]`.
    distances: AclTensor,
    reach: u64,
}

impl Block {
    fn of(q: &AclTensor, kv: &AclTensor, table: &AclTensor, reach: u64) -> Block {
        let page = kv.entry(&Sum::symbol("page"));
        let [rows, context, ahead] = ["rows", "context", "ahead"].map(Sum::symbol);
        let of_rows = table.narrowed(1, &Sum::default(), &rows);
        let distances = of_rows.narrowed(2, &ahead.plus(&rows), &context);
        Block { q: Block::rows(q), k: page.entry(&0.into()), v: page.entry(&1.into()), distances, reach }
    }

    /// The block's rows of `[N, heads, d]`, heads first.
    fn rows(x: &AclTensor) -> AclTensor {
        let [start, from, rows] = ["start", "from", "rows"].map(Sum::symbol);
        x.narrowed(0, &start.plus(&from), &rows).permuted(&[1, 0, 2])
    }

    fn heads(&self) -> Sum {
        self.q.dims[0].clone()
    }
}

fn composed(block: &Block, scale: f64, io: &mut Lowering<'_>) -> AclTensor {
    let Block { q, k, v, distances, .. } = block;
    let context = Sum::symbol("context");
    let [k, v] = [k, v].map(|side| side.narrowed(1, &Sum::default(), &context));
    let left = io.temporary(k.dtype, q.dims.clone());
    io.copy(&left, q);
    let [scores, shares] = [(); 2].map(|()| io.temporary(AclType::F32, distances.dims.clone()));
    let number = |value: f64| Arg::Scalar(Scalar::Number(value), AclType::F32);
    io.call("BatchMatMul", [left.into(), k.transposed().into(), (&scores).into(), Arg::Int(0)]);
    io.call("InplaceMuls", [(&scores).into(), number(scale)]);
    io.call("InplaceAdd", [(&scores).into(), distances.into(), number(1.0)]);
    io.call("Softmax", [scores.into(), Arg::Int(-1), (&shares).into()]);
    let shares = io.cast(shares, v.dtype);
    let read = io.temporary(AclType::F32, q.dims.clone());
    io.call("BatchMatMul", [shares.into(), v.into(), (&read).into(), Arg::Int(0)]);
    read
}

/// The table's part in memory of its own, rows of a multiple of 32 bytes.
fn shift(block: &Block, io: &mut Lowering<'_>) -> AclTensor {
    let [heads, rows, context] = &block.distances.dims[..] else { unreachable!("the table has three dims") };
    let width = block.reach.next_multiple_of(32 / block.distances.dtype.bytes());
    let shift = io.temporary(block.distances.dtype, [1.into(), heads.clone(), rows.clone(), width.into()]);
    io.call("InplaceZero", [(&shift).into()]);
    let part = shift.entry(&0.into()).narrowed(2, &Sum::default(), context);
    io.copy(&part, &block.distances);
    shift
}

/// `[1, heads, rows, d]` of the cache's type: what is asked, and what is read.
fn asked_and_read(block: &Block, io: &mut Lowering<'_>) -> [AclTensor; 2] {
    let dims: Vec<Sum> = [Sum::number(1)].into_iter().chain(block.q.dims.clone()).collect();
    let [asked, read] = [(); 2].map(|()| io.temporary(block.k.dtype, dims.clone()));
    io.copy(&asked.entry(&0.into()), &block.q);
    [asked, read]
}

/// With a first dimension of one sequence.
fn one(side: &AclTensor) -> AclTensor {
    let dims: Vec<Sum> = [Sum::number(1)].into_iter().chain(side.dims.clone()).collect();
    side.reshaped(&dims).expect("a dimension of one is a view")
}

const LAYOUT: &str = "BNSD";
/// Nothing is cut off by position: the table says what is seen.
const ALL: Arg = Arg::Int(i32::MAX as i64);

fn fused(block: &Block, scale: f64, io: &mut Lowering<'_>) -> AclTensor {
    let [asked, read] = asked_and_read(block, io);
    let shift = shift(block, io);
    let heads = Arg::Int(block.heads().as_number().expect("heads are counted") as i64);
    let [rows, context] = ["rows", "context"].map(|name| Arg::Ints(vec![Sum::symbol(name)]));
    let tensors: [Arg; 5] = [asked.into(), one(&block.k).into(), one(&block.v).into(), shift.into(), Arg::Absent];
    let quantised = std::iter::repeat_n(Arg::Absent, 5);
    // Every position by its own mask (0), with all digits (0).
    let modes = [Arg::Int(0), Arg::Int(0)];
    let attributes = [heads.clone(), Arg::Real(scale), ALL, ALL, Arg::Text(LAYOUT.to_owned()), heads];
    let args = tensors.into_iter().chain([rows, context]).chain(quantised).chain(attributes).chain(modes);
    io.call("PromptFlashAttentionV3", args.chain([(&read).into()]));
    read.entry(&0.into())
}

fn fused_row(block: &Block, scale: f64, io: &mut Lowering<'_>) -> AclTensor {
    let [asked, read] = asked_and_read(block, io);
    let shift = shift(block, io);
    let heads = Arg::Int(block.heads().as_number().expect("heads are counted") as i64);
    let context = Arg::Ints(vec![Sum::symbol("context")]);
    let [k, v] = [&block.k, &block.v].map(|side| Arg::Tensors(vec![one(side)]));
    let tensors: [Arg; 6] = [asked.into(), k, v, shift.into(), Arg::Absent, context];
    // Scales of quantised caches, a table of blocks, padding.
    let absent = std::iter::repeat_n(Arg::Absent, 9);
    let attributes = [heads.clone(), Arg::Real(scale), Arg::Text(LAYOUT.to_owned()), heads];
    // No blocks (0), all digits (0).
    let modes = [Arg::Int(0), Arg::Int(0)];
    io.call("IncreFlashAttentionV4", tensors.into_iter().chain(absent).chain(attributes).chain(modes).chain([(&read).into()]));
    read.entry(&0.into())
}
