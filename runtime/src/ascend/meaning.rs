//! What each call computes, by its documents.

use super::Digits;
use super::memory::Memory;
use bloomery_ir::ascend::{AclTensor, AclType, Arg, Call, Chip, Scalar, Sum};
use bloomery_ir::tensor;
use bloomery_ir::{Bindings, DType};

/// Computes a call on a rank's memory.
///
/// # Panics
/// A call that is not known here.
pub(super) fn call(call: &Call, memory: &mut Memory, numbers: &Bindings, chip: Chip, digits: Digits) {
    let cx = Cx { call, numbers };
    let x = |i: usize| memory.read(cx.tensor(i), numbers);
    let dims = |i: usize| cx.dims(cx.tensor(i));
    // Where the result goes, and its elements.
    let (to, mut values) = match &call.name[5..] {
        "Add" => (3, cx.pairs(3, x(0), x(1), |a, b| a + cx.scalar(2) * b)),
        "Sub" => (3, cx.pairs(3, x(0), x(1), |a, b| a - cx.scalar(2) * b)),
        "Mul" => (2, cx.pairs(2, x(0), x(1), |a, b| a * b)),
        "Div" => (2, cx.pairs(2, x(0), x(1), |a, b| a / b)),
        "LogicalOr" => (2, cx.pairs(2, x(0), x(1), |a, b| truth(a != 0.0 || b != 0.0))),
        "InplaceAdd" => (0, cx.pairs(0, x(0), x(1), |a, b| a + cx.scalar(2) * b)),
        "InplaceMul" => (0, cx.pairs(0, x(0), x(1), |a, b| a * b)),
        "InplaceMuls" => (0, each(x(0), |a| a * cx.scalar(1))),
        "InplaceZero" => (0, vec![0.0; dims(0).iter().product()]),
        "InplaceCopy" => (0, x(1)),
        "InplaceMaskedFillScalar" => (0, cx.pairs(0, x(0), x(1), |a, mask| if mask != 0.0 { cx.scalar(2) } else { a })),
        "Adds" => (3, each(x(0), |a| a + cx.scalar(1) * cx.scalar(2))),
        "Muls" => (2, each(x(0), |a| a * cx.scalar(1))),
        "Clamp" => (3, each(x(0), |a| a.clamp(cx.scalar(1), cx.scalar(2)))),
        "LtScalar" => (2, each(x(0), |a| truth(a < cx.scalar(1)))),
        "GtScalar" => (2, each(x(0), |a| truth(a > cx.scalar(1)))),
        "Neg" => (1, each(x(0), |a| -a)),
        "Tanh" => (1, each(x(0), f64::tanh)),
        "Sqrt" => (1, each(x(0), f64::sqrt)),
        "Exp" => (1, each(x(0), f64::exp)),
        "Gelu" => (1, each(x(0), gelu)),
        "Cast" => (2, x(0)),
        "Softmax" => (2, softmax(&x(0), dims(0))),
        "LayerNorm" => (5, cx.layer_norm(memory)),
        "Embedding" => (2, embedding(&x(0), &x(1), dims(0))),
        "Mm" | "BatchMatMul" => (2, product(memory, cx.tensor(0), cx.tensor(1), numbers)),
        "WeightQuantBatchMatmulV2" => {
            let factors = x(2);
            let sums = product(memory, cx.tensor(0), cx.tensor(1), numbers);
            (8, sums.iter().enumerate().map(|(i, sum)| sum * factors[i % factors.len()]).collect())
        }
        "ArgMax" => (3, largest(&x(0), dims(0))),
        "Cat" => (2, cx.cat(memory)),
        "ReduceSum" => (4, cx.reduced(memory, 0.0, |a, b| a + b)),
        "Amax" => (3, cx.reduced(memory, f64::NEG_INFINITY, f64::max)),
        "PromptFlashAttentionV3" => (20, cx.attention(memory, 13, 6)),
        "IncreFlashAttentionV4" => (21, cx.attention(memory, 16, 5)),
        other => panic!("what {other} means is not known here"),
    };
    let to = cx.tensor(to);
    round(&mut values, to.dtype, chip, digits);
    memory.write(to, numbers, &values);
}

/// Whether a call sums over ranks, so that they do it together.
pub(super) fn is_summed(call: &Call) -> bool {
    call.name == "aclnnMatmulAllReduce"
}

/// The communicator of such a call, its factors and its result.
pub(super) fn summed(call: &Call) -> (&str, [&AclTensor; 3]) {
    let tensor = |i: usize| &call.args[i].tensors()[0];
    let Arg::Group(among) = &call.args[3] else { panic!("a sum over ranks has a communicator") };
    (among, [tensor(0), tensor(1), tensor(7)])
}

/// Rounds results to the type they go to; the first generation keeps them finite.
pub(super) fn round(values: &mut [f64], dtype: AclType, chip: Chip, digits: Digits) {
    if digits == Digits::All {
        return;
    }
    let Some(dtype) = DType::by_name(dtype.name()) else { return };
    let most = match dtype {
        DType::F16 => 65_504.0,
        _ => f64::from(f32::MAX),
    };
    for value in values {
        let rounded = tensor::round(dtype, *value);
        *value = if chip == Chip::A910 && dtype.is_float() { rounded.clamp(-most, most) } else { rounded };
    }
}

/// `a [.., m, k]` times `b [.., k, n]`.
pub(super) fn product(memory: &Memory, a: &AclTensor, b: &AclTensor, numbers: &Bindings) -> Vec<f64> {
    let eval = |sum: &Sum| sum.eval(numbers).expect("names have values") as usize;
    let [m, k, n] = [&a.dims[a.dims.len() - 2], &a.dims[a.dims.len() - 1], &b.dims[b.dims.len() - 1]].map(eval);
    let (a, b) = (memory.read(a, numbers), memory.read(b, numbers));
    let one = |(a, b): (&[f64], &[f64])| {
        let mut sum = vec![0.0; m * n];
        for (row, a) in sum.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
            for (a, b) in a.iter().zip(b.chunks_exact(n)) {
                row.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
            }
        }
        sum
    };
    a.chunks_exact(m * k).zip(b.chunks_exact(k * n)).flat_map(one).collect()
}

/// A call with the numbers of one rank's round.
struct Cx<'a> {
    call: &'a Call,
    numbers: &'a Bindings,
}

impl Cx<'_> {
    fn tensor(&self, i: usize) -> &AclTensor {
        &self.call.args[i].tensors()[0]
    }

    fn dims(&self, tensor: &AclTensor) -> Vec<usize> {
        tensor.dims.iter().map(|dim| self.eval(dim)).collect()
    }

    fn eval(&self, sum: &Sum) -> usize {
        sum.eval(self.numbers).expect("names have values") as usize
    }

    fn scalar(&self, i: usize) -> f64 {
        match &self.call.args[i] {
            Arg::Scalar(Scalar::Number(value), _) => *value,
            Arg::Scalar(Scalar::Count(count), _) => self.eval(count) as f64,
            other => panic!("argument {i} is a scalar, found {other:?}"),
        }
    }

    fn real(&self, i: usize) -> f64 {
        let Arg::Real(value) = self.call.args[i] else { panic!("argument {i} is a number") };
        value
    }

    /// Two operands, each repeated along dims of one, to the dims of tensor `out`.
    fn pairs(&self, out: usize, a: Vec<f64>, b: Vec<f64>, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let shape = self.dims(self.tensor(out));
        let [of_a, of_b] = [0, 1].map(|i| self.dims(self.tensor(i)));
        let places = tensor::indices(&shape);
        places.map(|index| f(a[broadcast(&of_a, &index)], b[broadcast(&of_b, &index)])).collect()
    }

    fn layer_norm(&self, memory: &Memory) -> Vec<f64> {
        let read = |i: usize| self.call.args[i].tensors().first().map(|tensor| memory.read(tensor, self.numbers));
        let (x, gamma, beta) = (read(0).expect("it has an input"), read(2), read(3));
        let (width, epsilon) = (*self.dims(self.tensor(0)).last().expect("rows"), self.real(4));
        let row = |x: &[f64]| {
            let mean = x.iter().sum::<f64>() / width as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let factor = |i: usize| gamma.as_ref().map_or(1.0, |gamma| gamma[i]);
            let shift = |i: usize| beta.as_ref().map_or(0.0, |beta| beta[i]);
            let scale = 1.0 / (variance + epsilon).sqrt();
            x.iter().enumerate().map(|(i, x)| (x - mean) * scale * factor(i) + shift(i)).collect::<Vec<_>>()
        };
        x.chunks_exact(width).flat_map(row).collect()
    }

    fn cat(&self, memory: &Memory) -> Vec<f64> {
        let parts = self.call.args[0].tensors();
        let Arg::Int(dim) = self.call.args[1] else { panic!("it has a dim") };
        let inner = |part: &AclTensor| self.dims(part)[dim as usize..].iter().product::<usize>();
        let outer: usize = self.dims(&parts[0])[..dim as usize].iter().product();
        let values: Vec<Vec<f64>> = parts.iter().map(|part| memory.read(part, self.numbers)).collect();
        let row = |i: usize| {
            let of = |(part, values): (&AclTensor, &Vec<f64>)| values[i * inner(part)..(i + 1) * inner(part)].to_vec();
            parts.iter().zip(&values).flat_map(of).collect::<Vec<_>>()
        };
        (0..outer).flat_map(row).collect()
    }

    fn reduced(&self, memory: &Memory, start: f64, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let Arg::Ints(dims) = &self.call.args[1] else { panic!("it has dims") };
        let gone: Vec<usize> = dims.iter().map(|dim| self.eval(dim)).collect();
        let shape = self.dims(self.tensor(0));
        let kept: Vec<usize> = (0..shape.len()).filter(|dim| !gone.contains(dim)).collect();
        let of_kept = |index: &[usize]| kept.iter().map(|&dim| index[dim]).collect::<Vec<_>>();
        let to = of_kept(&shape);
        let mut result = vec![start; to.iter().product()];
        for (value, index) in memory.read(self.tensor(0), self.numbers).into_iter().zip(tensor::indices(&shape)) {
            let at = tensor::flat(&to, &of_kept(&index));
            result[at] = f(result[at], value);
        }
        result
    }

    /// `softmax(scale * q k + shift) v` over the first positions, as many as `actualSeqLengthsKv` says. `scale` and
    /// `lengths` are places among the arguments.
    fn attention(&self, memory: &Memory, scale: usize, lengths: usize) -> Vec<f64> {
        let read = |i: usize| memory.read(self.tensor(i), self.numbers);
        let (q, k, v, shift) = (read(0), read(1), read(2), read(3));
        let Arg::Ints(lengths) = &self.call.args[lengths] else { panic!("it has lengths") };
        let (context, scale) = (self.eval(&lengths[0]), self.real(scale));
        let [_, heads, rows, d] = self.dims(self.tensor(0))[..] else { panic!("layout BNSD") };
        let [_, _, reach, _] = self.dims(self.tensor(1))[..] else { panic!("layout BNSD") };
        let width = self.dims(self.tensor(3))[3];
        let mut result = Vec::with_capacity(q.len());
        for (head, row) in (0..heads).flat_map(|head| (0..rows).map(move |row| (head, row))) {
            let q = &q[(head * rows + row) * d..][..d];
            let of = |side: &[f64], j: usize| side[(head * reach + j) * d..][..d].to_vec();
            let dot = |j: usize| q.iter().zip(of(&k, j)).map(|(a, b)| a * b).sum::<f64>();
            let scores: Vec<f64> =
                (0..context).map(|j| scale * dot(j) + shift[(head * rows + row) * width + j]).collect();
            let shares = softmax(&scores, vec![context]);
            let mut read = vec![0.0; d];
            for (j, share) in shares.iter().enumerate() {
                read.iter_mut().zip(of(&v, j)).for_each(|(sum, v)| *sum += share * v);
            }
            result.extend(read);
        }
        result
    }
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn each(x: Vec<f64>, f: impl Fn(f64) -> f64) -> Vec<f64> {
    x.into_iter().map(f).collect()
}

/// The tanh form, which documents say this call is.
fn gelu(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
    0.5 * x * (1.0 + inner.tanh())
}

/// The position of an index in a tensor whose dims of one stand for any.
fn broadcast(shape: &[usize], index: &[usize]) -> usize {
    let index = &index[index.len() - shape.len()..];
    shape.iter().zip(index).fold(0, |at, (dim, i)| at * dim + if *dim == 1 { 0 } else { *i })
}

fn softmax(x: &[f64], dims: Vec<usize>) -> Vec<f64> {
    let row = |x: &[f64]| {
        let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shares: Vec<f64> = x.iter().map(|x| (x - most).exp()).collect();
        let sum: f64 = shares.iter().sum();
        shares.into_iter().map(|share| share / sum).collect::<Vec<_>>()
    };
    x.chunks_exact(*dims.last().expect("rows")).flat_map(row).collect()
}

fn embedding(table: &[f64], ids: &[f64], dims: Vec<usize>) -> Vec<f64> {
    ids.iter().flat_map(|&id| table[id as usize * dims[1]..][..dims[1]].to_vec()).collect()
}

/// The first of the largest.
fn largest(x: &[f64], dims: Vec<usize>) -> Vec<f64> {
    let row = |x: &[f64]| {
        let most = (1..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
        most as f64
    };
    x.chunks_exact(*dims.last().expect("rows")).map(row).collect()
}
