//! What ranks tell each other, as HCCL has it: slices lie one after another, along the first dimension alone.

use bloomery_ir::ascend::{AclTensor, Call, Exchange, Need, Step, Sum};
use bloomery_ir::program::Collective;

/// The steps of a collective, with the buffers they need, numbered from `first`.
pub(super) fn steps(
    what: Collective,
    over: &str,
    ranks: u64,
    from: AclTensor,
    to: AclTensor,
    first: usize,
) -> (Vec<Step>, Vec<Need>) {
    let exchange = |what, from, to| Step::Exchange { what, among: over.to_owned(), from, to: Some(to) };
    let (mut needs, mut steps) = (vec![], vec![]);
    let from = if from.is_contiguous() {
        from
    } else {
        let whole = temporary(&mut needs, first, &from, from.dims.clone());
        steps.push(copy(&whole, &from));
        whole
    };
    match what {
        Collective::Sum => steps.push(exchange(Exchange::AllReduce, from, to)),
        Collective::Join { dim } if outer(&from.dims, dim) => steps.push(exchange(Exchange::AllGather, from, to)),
        Collective::Join { dim } => {
            let side_by_side = temporary(&mut needs, first, &from, with_ranks(&from.dims, 0, ranks));
            let slices = slices_first(&to, dim, &from.dims, ranks);
            steps.push(exchange(Exchange::AllGather, from, side_by_side.clone()));
            steps.push(copy(&slices, &side_by_side));
        }
        Collective::Scatter { dim } if outer(&to.dims, dim) => steps.push(exchange(Exchange::ReduceScatter, from, to)),
        Collective::Scatter { dim } => {
            let slices = slices_first(&from, dim, &to.dims, ranks);
            let side_by_side = temporary(&mut needs, first, &from, slices.dims.clone());
            steps.push(copy(&side_by_side, &slices));
            steps.push(exchange(Exchange::ReduceScatter, side_by_side, to));
        }
    }
    (steps, needs)
}

/// Whether slices along a dimension lie one after another.
fn outer(dims: &[Sum], dim: usize) -> bool {
    dims[..dim].iter().all(|dim| dim.as_number() == Some(1))
}

/// A whole, its slices along a dimension first: `[a, ranks * b, c]` as `[ranks, a, b, c]`.
fn slices_first(whole: &AclTensor, dim: usize, slice: &[Sum], ranks: u64) -> AclTensor {
    let split = whole.reshaped(&with_ranks(slice, dim, ranks)).expect("a whole is row major");
    let order: Vec<usize> = std::iter::once(dim).chain((0..=slice.len()).filter(|&i| i != dim)).collect();
    split.permuted(&order)
}

fn with_ranks(dims: &[Sum], at: usize, ranks: u64) -> Vec<Sum> {
    let mut dims = dims.to_vec();
    dims.insert(at, ranks.into());
    dims
}

fn temporary(needs: &mut Vec<Need>, first: usize, like: &AclTensor, dims: Vec<Sum>) -> AclTensor {
    needs.push(Need::Temporary(like.dtype, dims.clone()));
    AclTensor::whole(first + needs.len() - 1, Sum::default(), like.dtype, dims)
}

fn copy(to: &AclTensor, from: &AclTensor) -> Step {
    Step::Call(Call::copy(to, from, "slices of ranks"))
}
