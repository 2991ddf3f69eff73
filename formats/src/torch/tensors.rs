//! From a pickle's values to checked places in the file.
//!
//! torch describes a tensor by `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)` and a storage by
//! the persistent id `("storage", type, key, location, count)`; offsets and strides count elements. Storages may be shared
//! and tensors may be any view: a tied head, a transposed matrix, two halves of one buffer.

use std::collections::HashSet;
use std::ops::Range;

use super::TorchProblem as Problem;
use super::globals::Global;
use super::unpickle::{Built, Objects, Stop, Storage, TensorOf, Value};
use crate::Dtype;
use crate::checkpoint::Described;

/// The storage that a persistent id names.
pub(super) fn storage<'a>(objects: &Objects<'a>, id: Value<'a>) -> Result<Storage<'a>, Stop> {
    let values = objects.list(id).unwrap_or_default();
    let [Value::Text("storage"), Value::Global(kind), Value::Text(key), Value::Text(_), Value::Int(count), rest @ ..] =
        values
    else {
        return Stop::wrong("refers to something else than a storage");
    };
    // The old format could make a storage a part of another; torch itself no longer writes that.
    if rest.iter().any(|view| *view != Value::None) {
        return Stop::wrong(format!("makes storage {key} a part of another"));
    }
    let dtype = match kind {
        Global::Storage(dtype) => Some(*dtype),
        Global::UntypedStorage => None,
        other => return Stop::wrong(format!("makes a storage of {other:?}")),
    };
    Ok(Storage { key, dtype, count: size(*count)? })
}

/// The tensor that `_rebuild_tensor` and its successors are called for.
pub(super) fn rebuild<'a>(objects: &Objects<'a>, by: Global, values: &[Value<'a>]) -> Result<TensorOf, Stop> {
    let [Value::Storage(storage), Value::Int(offset), shape, strides, rest @ ..] = values else {
        return Stop::wrong("makes a tensor of something else than a storage, an offset, a size and strides");
    };
    let dtype = match (by, rest) {
        (Global::RebuildTyped, [_, _, Value::Global(Global::Dtype(dtype)), ..]) => Some(*dtype),
        _ => objects.storages[*storage].dtype,
    };
    let Some(dtype) = dtype else { return Stop::wrong("makes a tensor without a type") };
    let [shape, strides] = [shape, strides].map(|list| sizes(objects, *list));
    let (shape, strides) = (shape?, strides?);
    if shape.len() != strides.len() || shape.len() > RANK_MAX {
        return Stop::wrong(format!("makes a tensor of {} dimensions and {} strides", shape.len(), strides.len()));
    }
    Ok(TensorOf { storage: *storage, dtype, offset: size(*offset)?, shape, strides })
}

/// More dimensions than torch itself allows.
const RANK_MAX: usize = 64;

fn sizes<'a>(objects: &Objects<'a>, list: Value<'a>) -> Result<Vec<usize>, Stop> {
    let number = |value: &Value<'_>| match value {
        Value::Int(number) => size(*number),
        other => Stop::wrong(format!("gives {} where a size belongs", other.kind())),
    };
    objects.list(list).map_or_else(
        || Stop::wrong(format!("gives {} where sizes belong", list.kind())),
        |list| list.iter().map(number).collect(),
    )
}

fn size(number: i64) -> Result<usize, Stop> {
    usize::try_from(number).or_else(|_| Stop::wrong(format!("gives {number} where a size belongs")))
}

/// The tensors of a state dict, each where `locate` says its storage is.
pub(super) fn of<'a>(
    state: &Built<'a>,
    locate: impl Fn(&Storage<'a>) -> Option<Range<usize>>,
) -> Result<Vec<(String, Described)>, Problem> {
    let stranger = |what: String| Problem::NoStateDict { what };
    let entries = state.dict().ok_or_else(|| stranger(state.value.kind().to_owned()))?;
    let mut seen = HashSet::new();
    let mut found = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let Value::Text(name) = *key else { return Err(stranger(format!("{} as a name", key.kind()))) };
        let Value::Tensor(tensor) = *value else {
            return Err(stranger(format!("{} called {name:?}", value.kind())));
        };
        if !seen.insert(name) {
            return Err(Problem::Twice { what: "tensor", name: name.to_owned() });
        }
        let tensor = &state.objects.tensors[tensor];
        let storage = &state.objects.storages[tensor.storage];
        let described = place(tensor, storage, locate(storage));
        found.push((name.to_owned(), described.map_err(|what| refusal(name, tensor, what))?));
    }
    Ok(found)
}

fn refusal(name: &str, tensor: &TensorOf, what: String) -> Problem {
    let TensorOf { dtype, offset, shape, strides, .. } = tensor;
    let view = format!("of type {dtype}, shape {shape:?} and strides {strides:?} from element {offset}");
    Problem::Tensor { tensor: name.to_owned(), view, what }
}

/// Where a tensor lies in the file, whose `kept` bytes are its storage's.
fn place(tensor: &TensorOf, storage: &Storage<'_>, kept: Option<Range<usize>>) -> Result<Described, String> {
    let Some(kept) = kept else { return Err(format!("its storage {} is not in the file", storage.key)) };
    let TensorOf { dtype, offset, shape, strides, .. } = tensor.clone();
    let claimed = storage.count as u128 * (storage.dtype.map_or(8, Dtype::bits) / 8) as u128;
    if claimed > kept.len() as u128 {
        let (key, count, held) = (storage.key, storage.count, kept.len());
        return Err(format!("its storage {key} of {count} elements should have {claimed} bytes and has {held}"));
    }
    let size = dtype.bits() / 8;
    let elements = claimed as usize / size;
    if shape.contains(&0) {
        return Ok(Described { dtype, shape, strides, range: kept.start..kept.start });
    }
    // Products of two 64-bit numbers fit; a sum that saturates is far outside anyway.
    let steps = shape.iter().zip(&strides).map(|(&extent, &stride)| (extent as u128 - 1) * stride as u128);
    let span = steps.fold(1u128, |span, step| span.saturating_add(step).min(u128::MAX / 2));
    if offset as u128 + span > elements as u128 {
        return Err(format!("it reaches to element {}, and its storage has {elements}", offset as u128 + span));
    }
    if shape.iter().try_fold(1u128, |count, &extent| count.checked_mul(extent as u128)).is_none_or(|all| all > span) {
        return Err(format!("its elements overlap, {span} are stored: save it as a copy (`.contiguous()`)"));
    }
    let start = kept.start + offset * size;
    Ok(Described { dtype, shape, strides, range: start..start + span as usize * size })
}
