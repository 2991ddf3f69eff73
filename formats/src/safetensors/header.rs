//! From a file's bytes to checked descriptions of its tensors.
//!
//! The header is parsed and checked here and not by the `safetensors` crate: that takes the later of two tensors of one
//! name, adds file offsets without asking whether they overflow, and says neither which tensor is wrong nor any number.
//! What is asked is the same (the format's README): names once, shapes times type equal byte ranges, ranges back to back
//! from the header to the file's end.

use std::collections::HashSet;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::Dtype;
use crate::checkpoint::{Described, row_major};
use crate::error::SafetensorsProblem as Problem;

/// Bytes of the length that stands before the header.
const LENGTH: usize = 8;
/// Every other reader's limit on the header.
const HEADER_MAX: u64 = 100_000_000;
/// The header's only key that names no tensor.
const METADATA: &str = "__metadata__";

/// The tensors that a whole file's `bytes` hold, in the order of their data.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<(String, Described)>, Problem> {
    let json = header(bytes)?;
    let Header(entries) = serde_json::from_slice(json)?;
    check_names(&entries)?;
    let mut tensors = entries.into_iter().map(|(name, text)| Entry::read(name, text)).collect::<Result<Vec<_>, _>>()?;
    tensors.sort_by_key(|tensor| tensor.data_offsets);
    let data = LENGTH + json.len();
    check_ranges(&tensors, data, bytes.len())?;
    Ok(tensors.into_iter().map(|tensor| tensor.described(data)).collect())
}

/// Whether bytes begin with a length that can be, and a map.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    let length = bytes.first_chunk::<LENGTH>().map_or(0, |length| u64::from_le_bytes(*length));
    (2..=HEADER_MAX).contains(&length) && bytes[LENGTH..].starts_with(b"{")
}

/// The JSON between the length and the data.
fn header(bytes: &[u8]) -> Result<&[u8], Problem> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or(Problem::TooShort { size: bytes.len() })?;
    let claimed = u64::from_le_bytes(*length);
    if claimed > HEADER_MAX {
        return Err(Problem::HeaderTooLarge { claimed, limit: HEADER_MAX });
    }
    rest.get(..claimed as usize).ok_or(Problem::HeaderCut { claimed, size: bytes.len() })
}

/// Names, however often they are there, and what stands behind each.
struct Header<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Header<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Header<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                map.next_value::<IgnoredAny>()?;
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Header(entries))
    }
}

fn check_names(entries: &[(String, &RawValue)]) -> Result<(), Problem> {
    let mut names = HashSet::new();
    match entries.iter().find(|(name, _)| !names.insert(name)) {
        Some((name, _)) => Err(Problem::Twice { tensor: name.clone() }),
        None => Ok(()),
    }
}

/// What stands behind a name.
#[derive(Deserialize)]
#[serde(expecting = "a type, a shape and offsets")]
struct Stored {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// A tensor, its range still counted from the header's end.
struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl Entry {
    /// Reads what stands behind `name`, and makes sure that the type and the shape fill the range.
    fn read(name: String, text: &RawValue) -> Result<Entry, Problem> {
        let Stored { dtype, shape, data_offsets } = match serde_json::from_str(text.get()) {
            Ok(stored) => stored,
            // Without the place, which counts from the tensor's brace.
            Err(error) => {
                let what = error.to_string();
                let what = what.split(" at line ").next().unwrap_or_default().to_owned();
                return Err(Problem::Entry { tensor: name, what });
            }
        };
        let Some(dtype) = Dtype::from_safetensors(&dtype) else {
            return Err(Problem::Dtype { tensor: name, dtype });
        };
        let [start, end] = data_offsets;
        if end.checked_sub(start).is_none_or(|bytes| dtype.bytes(&shape) != Some(bytes)) {
            let bytes = dtype.bytes(&shape).map(|bytes| format!("{bytes} bytes"));
            let bytes = bytes.unwrap_or("more bytes than can be counted".to_owned());
            let view = format!("of type {dtype} and shape {shape:?} takes {bytes}");
            return Err(Problem::Bytes { tensor: name, view, offsets: data_offsets });
        }
        Ok(Entry { name, dtype, shape, data_offsets })
    }

    fn described(self, data: usize) -> (String, Described) {
        let Entry { name, dtype, shape, data_offsets: [start, end] } = self;
        (name, Described { dtype, strides: row_major(&shape), shape, range: data + start..data + end })
    }
}

/// Makes sure that the ranges, in their order, fill the file from `data` to its end; so `data + offset` cannot overflow.
fn check_ranges(tensors: &[Entry], data: usize, size: usize) -> Result<(), Problem> {
    let mut before = 0;
    for Entry { name, data_offsets: [start, end], .. } in tensors {
        if *start != before {
            return Err(Problem::Apart { tensor: name.clone(), start: *start, before });
        }
        before = *end;
    }
    let described = data as u128 + before as u128;
    if described != size as u128 {
        return Err(Problem::Size { described, size });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    fn refused(bytes: &[u8], part: &str) {
        let message = read(bytes).expect_err("should be refused").to_string();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }

    const ONE: &str = r#"{"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}"#;

    #[test]
    fn describes_a_tensor_by_its_place_in_the_file() {
        let start = 8 + ONE.len();
        let range = start..start + 12;
        let expect = Described { dtype: Dtype::Bf16, shape: vec![2, 3], strides: vec![3, 1], range };
        assert_eq!(read(&file(ONE, 12)).unwrap(), [("a".to_owned(), expect)]);
    }

    #[test]
    fn refuses_what_does_not_add_up_with_both_numbers() {
        refused(b"", "0 bytes");
        refused(b"\x01\0\0\0\0\0\0", "7 bytes");
        refused(&u64::MAX.to_le_bytes(), "claims 18446744073709551615 bytes, at most 100000000");
        refused(&200u64.to_le_bytes(), "claims 200 bytes and the file ends after 8");
        refused(&file(ONE, 11), "has 77: it is cut short");
        refused(&file(ONE, 13), "has 79");
        refused(&file("{", 0), "line 1 column 1");
        refused(&file("\u{fffd}", 0), "does not parse");
        refused(&[&8u64.to_le_bytes()[..], b"{\"\xff\xfe\":1}"].concat(), "does not parse");
        let one = |from: &str, to: &str, part: &str| refused(&file(&ONE.replace(from, to), 12), part);
        one("BF16", "F8_E9", "tensor a has type F8_E9");
        one("[2,3]", "[2,-3]", "tensor a is described wrongly: invalid value: integer `-3`, expected usize");
        one("\"shape\"", "\"size\"", "tensor a is described wrongly: missing field `shape`");
        one("[2,3]", "[4294967296,4294967296,4]", "[4294967296, 4294967296, 4] takes more bytes than can be counted");
        one("[2,3]", "[2,0]", "tensor a of type bf16 and shape [2, 0] takes 0 bytes, and its offsets are 0 to 12");
        one("[0,12]", "[12,0]", "offsets are 12 to 0");
        one("[0,12]", "[4,16]", "tensor a begins at byte 4 of the data, and what is before it ends at 0");
        let one = &ONE[1..ONE.len() - 1];
        refused(&file(&format!("{{{one},{one}}}"), 12), "tensor a is there twice");
        refused(&file(&"[".repeat(5000), 0), "does not parse");
    }

    #[test]
    fn offsets_near_the_end_of_the_address_space_do_not_overflow() {
        let step = 1u64 << 60;
        let tensors: Vec<String> = (0..15u64)
            .map(|i| {
                format!(r#""{i}":{{"dtype":"U8","shape":[{step}],"data_offsets":[{},{}]}}"#, i * step, (i + 1) * step)
            })
            .collect();
        let rest = (u64::MAX - 15 * step, 15 * step);
        let last = format!(r#""z":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}"#, rest.0, rest.1, u64::MAX);
        refused(&file(&format!("{{{},{last}}}", tensors.join(",")), 4), "describes 184467440737095");
    }

    #[test]
    fn no_flip_and_no_cut_panics() {
        let two = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I64","shape":[],"data_offsets":[8,16]}}"#;
        let whole = file(two, 16);
        let sound = read(&whole).unwrap();
        assert_eq!(sound.len(), 2);
        for at in 0..whole.len() {
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
            for byte in 0..=255 {
                let mut changed = whole.clone();
                changed[at] = byte;
                let found = read(&changed).unwrap_or_default();
                assert!(
                    found.iter().all(|(_, tensor)| changed.get(tensor.range.clone()).is_some()),
                    "byte {at} as {byte}"
                );
            }
        }
    }
}
