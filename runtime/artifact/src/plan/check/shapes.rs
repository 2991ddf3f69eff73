//! Shapes of what calls write, inferred from what they read, as their documents say.

use crate::plan::aclnn::Function;
use bloomery_ir::ascend::{AclTensor, Arg, Call, Chip, Sum};

/// Compares every result's dims with those that follow from the operands.
pub(super) fn check(_: Chip, function: &Function, call: &Call) -> Result<(), String> {
    let tensor = |name: &str| -> Option<&AclTensor> {
        let i = function.parameters.iter().position(|parameter| parameter.name == name)?;
        call.args[i].tensors().first()
    };
    let need = |name: &str| tensor(name).ok_or_else(|| format!("{name} is missing"));
    let x = || call.args[0].tensors().first().ok_or_else(|| "its first argument is missing".to_owned());
    let out = || {
        let outputs = call.args.iter().zip(&function.parameters).filter(|(_, parameter)| parameter.is_output());
        outputs.flat_map(|(arg, _)| arg.tensors()).next().ok_or_else(|| "it has no result".to_owned())
    };
    match &call.name[5..] {
        "Add" | "Sub" | "Mul" | "Div" | "LogicalOr" => {
            same("out", &out()?.dims, &joined(&x()?.dims, &call.args[1].tensors()[0].dims)?)
        }
        "Adds" | "Muls" | "Neg" | "Tanh" | "Sqrt" | "Exp" | "Gelu" | "Cast" | "Softmax" | "Clamp" | "LtScalar"
        | "GtScalar" => same("out", &out()?.dims, &x()?.dims),
        "InplaceAdd" | "InplaceMul" | "InplaceMaskedFillScalar" => {
            same("selfRef", &x()?.dims, &joined(&x()?.dims, &call.args[1].tensors()[0].dims)?)
        }
        "InplaceCopy" => same("src", &need("src")?.dims, &x()?.dims),
        "InplaceMuls" | "InplaceZero" => Ok(()),
        "Mm" | "BatchMatMul" | "MatmulAllReduce" => product(x()?, &call.args[1].tensors()[0], out()?),
        "WeightQuantBatchMatmulV2" => {
            product(x()?, &call.args[1].tensors()[0], out()?)?;
            same("antiquantScale", &need("antiquantScale")?.dims, &out()?.dims[out()?.dims.len() - 1..])
        }
        "LayerNorm" => layer_norm(call, x()?, out()?),
        "Embedding" => {
            let (table, ids) = (x()?, need("indices")?);
            let [_, width] = &table.dims[..] else { return Err("weight has two dims".into()) };
            same("out", &out()?.dims, &[&ids.dims[..], std::slice::from_ref(width)].concat())
        }
        "ArgMax" => same("out", &out()?.dims, &x()?.dims[..x()?.dims.len().saturating_sub(1)]),
        "ReduceSum" | "Amax" => same("out", &out()?.dims, &without(&x()?.dims, &call.args[1])?),
        "Cat" => cat(call, out()?),
        "PromptFlashAttentionV3" => attention(x()?, need("key")?, need("value")?, tensor("pseShift"), out()?),
        "IncreFlashAttentionV4" => attention(x()?, need("key")?, need("value")?, tensor("pseShift"), out()?),
        _ => Err("its shapes are not known here".into()),
    }
}

fn text(dims: &[Sum]) -> String {
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(", "))
}

fn same(what: &str, found: &[Sum], expected: &[Sum]) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {}, expected {}", text(found), text(expected))) }
}

/// Dims that two operands have together: the last ones are equal, or one.
fn joined(a: &[Sum], b: &[Sum]) -> Result<Vec<Sum>, String> {
    let one = Sum::number(1);
    let rank = a.len().max(b.len());
    let dim = |dims: &[Sum], i: usize| (i + dims.len()).checked_sub(rank).map_or(one.clone(), |i| dims[i].clone());
    let pair = |i: usize| match (dim(a, i), dim(b, i)) {
        (a, b) if a == b || b == one => Ok(a),
        (a, b) if a == one => Ok(b),
        (x, y) => Err(format!("{} and {} do not go together: {x} and {y}", text(a), text(b))),
    };
    (0..rank).map(pair).collect()
}

fn product(a: &AclTensor, b: &AclTensor, out: &AclTensor) -> Result<(), String> {
    let (Some((m, k)), Some((k2, n))) = (last_two(&a.dims), last_two(&b.dims)) else {
        return Err(format!("a product of {} and {}", text(&a.dims), text(&b.dims)));
    };
    if k != k2 {
        return Err(format!("a product of {} and {}: {k} and {k2} are summed over", text(&a.dims), text(&b.dims)));
    }
    let batch = joined(&a.dims[..a.dims.len() - 2], &b.dims[..b.dims.len() - 2])?;
    same("out", &out.dims, &[&batch[..], &[m.clone(), n.clone()]].concat())
}

fn last_two(dims: &[Sum]) -> Option<(&Sum, &Sum)> {
    match dims {
        [.., a, b] => Some((a, b)),
        _ => None,
    }
}

fn layer_norm(call: &Call, x: &AclTensor, out: &AclTensor) -> Result<(), String> {
    let Arg::Ints(shape) = &call.args[1] else { return Err("normalizedShape is missing".into()) };
    same("normalizedShape", shape, &x.dims[x.dims.len().saturating_sub(shape.len())..])?;
    for vector in call.args[2..4].iter().flat_map(Arg::tensors) {
        same("weight or bias", &vector.dims, shape)?;
    }
    same("out", &out.dims, &x.dims)
}

fn without(dims: &[Sum], removed: &Arg) -> Result<Vec<Sum>, String> {
    let Arg::Ints(removed) = removed else { return Err("dims are missing".into()) };
    let removed: Vec<u64> = removed.iter().filter_map(Sum::as_number).collect();
    Ok((0..).zip(dims).filter(|(i, _)| !removed.contains(i)).map(|(_, dim)| dim.clone()).collect())
}

fn cat(call: &Call, out: &AclTensor) -> Result<(), String> {
    let (parts, Arg::Int(dim)) = (call.args[0].tensors(), &call.args[1]) else { return Err("dim is missing".into()) };
    let Some((first, rest)) = parts.split_first() else { return Err("nothing to join".into()) };
    let mut dims = first.dims.clone();
    let at = usize::try_from(*dim).ok().filter(|&dim| dim < dims.len()).ok_or_else(|| format!("dim is {dim}"))?;
    rest.iter().for_each(|part| dims[at] = dims[at].plus(part.dims.get(at).unwrap_or(&Sum::default())));
    same("out", &out.dims, &dims)
}

/// Layout BNSD: `query [1, heads, rows, d]`, `key` and `value [1, heads, reach, d]`, `pseShift` for every row and position.
fn attention(
    q: &AclTensor,
    k: &AclTensor,
    v: &AclTensor,
    shift: Option<&AclTensor>,
    out: &AclTensor,
) -> Result<(), String> {
    let ([b, heads, rows, d], [.., reach, _]) = (&q.dims[..], &k.dims[..]) else {
        return Err(format!("a query of {} and keys of {}", text(&q.dims), text(&k.dims)));
    };
    let side = [b.clone(), heads.clone(), reach.clone(), d.clone()];
    same("key", &k.dims, &side)?;
    same("value", &v.dims, &side)?;
    if let Some(shift) = shift {
        same("rows of pseShift", &shift.dims[..3.min(shift.dims.len())], &q.dims[..3])?;
        let [width, reach] = [shift.dims.last(), Some(reach)].map(|dim| dim.and_then(Sum::as_number));
        let bytes = width.map(|width| width * shift.dtype.bytes());
        if width < reach || bytes.is_none_or(|bytes| bytes % 32 != 0) {
            return Err(format!("pseShift is {} for {reach:?} positions, in rows of 32 bytes", text(&shift.dims)));
        }
    }
    let _ = rows;
    same("attentionOut", &out.dims, &q.dims)
}
