//! torch's files before 1.6, and of `torch.save(.., _use_new_zipfile_serialization=False)`.
//!
//! Five pickles follow one another (torch/serialization.py, `_legacy_save`): a magic number, the version 1001, a dict about
//! the machine, the state dict, and the list of its storages' keys. Then each storage of that list: the count of its
//! elements in eight bytes, and the elements.

use std::collections::BTreeMap;
use std::ops::Range;

use super::unpickle::{Built, Storage, Value, unpickle};
use super::{TorchProblem as Problem, tensors};
use crate::Dtype;
use crate::checkpoint::Described;

/// 0x1950a86a20f9469cfc6c, as pickles write long integers.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;

/// Whether a file begins with the magic number's pickle, of any protocol.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x80) && bytes[..bytes.len().min(32)].windows(MAGIC.len()).any(|found| found == MAGIC)
}

pub(super) fn read(bytes: &[u8]) -> Result<Vec<(String, Described)>, Problem> {
    let mut at = 0;
    let mut next = || -> Result<Built<'_>, Problem> {
        let (built, length) = unpickle(&bytes[at..])?;
        at += length;
        Ok(built)
    };
    let (magic, version, machine) = (next()?, next()?, next()?);
    if magic.value != Value::Long(&MAGIC) {
        return Err(Problem::Foreign);
    }
    if version.value != Value::Int(VERSION) {
        return Err(Problem::Version(format!("{:?}", version.value)));
    }
    let little =
        |(key, value): &(Value<'_>, Value<'_>)| *key != Value::Text("little_endian") || *value == Value::Bool(true);
    if !machine.dict().unwrap_or_default().iter().all(little) {
        return Err(Problem::BigEndian);
    }
    let (state, keys) = (next()?, next()?);
    let kept = storages(bytes, at, &state, &keys)?;
    tensors::of(&state, |storage| kept.get(storage.key).cloned())
}

/// The bytes of each storage of the list, which begin at `at`.
fn storages<'a>(
    bytes: &[u8],
    mut at: usize,
    state: &Built<'a>,
    keys: &Built<'a>,
) -> Result<BTreeMap<&'a str, Range<usize>>, Problem> {
    let known: BTreeMap<&str, &Storage<'a>> =
        state.objects.storages.iter().map(|storage| (storage.key, storage)).collect();
    let mut kept = BTreeMap::new();
    for key in keys.list().unwrap_or_default() {
        let Value::Text(key) = *key else {
            return Err(Problem::NoStateDict { what: format!("{} as a storage's key", key.kind()) });
        };
        let Some(storage) = known.get(key) else {
            return Err(Problem::NoStateDict { what: format!("storage {key}, which no tensor uses,") });
        };
        let range = elements(bytes, at, storage)?;
        at = range.end;
        if kept.insert(key, range).is_some() {
            return Err(Problem::Twice { what: "storage", name: key.to_owned() });
        }
    }
    Ok(kept)
}

/// The storage's elements, after their count.
fn elements(bytes: &[u8], at: usize, storage: &Storage<'_>) -> Result<Range<usize>, Problem> {
    let outside = |end| Problem::Outside { what: format!("storage {}", storage.key), end, size: bytes.len() };
    let count = bytes[at..].first_chunk().ok_or_else(|| outside(at as u128 + 8))?;
    let size = storage.dtype.map_or(8, Dtype::bits) / 8;
    let start = at + 8;
    let end = start as u128 + u128::from(u64::from_le_bytes(*count)) * size as u128;
    if end > bytes.len() as u128 { Err(outside(end)) } else { Ok(start..end as usize) }
}
