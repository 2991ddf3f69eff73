//! From a file's bytes to checked descriptions of its tensors.
//!
//! The `safetensors` crate parses and checks the JSON (names once, shapes times type equal byte ranges, ranges back to
//! back). The frame around it is read here, because the crate's own entry adds file offsets without asking whether they
//! overflow, and because its messages hold no numbers.

use safetensors::tensor::Metadata;

use crate::Dtype;
use crate::checkpoint::{Described, row_major};
use crate::error::SafetensorsProblem as Problem;

/// Bytes of the length that stands before the header.
const LENGTH: usize = 8;
/// The crate's and every other reader's limit on the header.
const HEADER_MAX: u64 = 100_000_000;

/// The tensors that a whole file's `bytes` hold, in no particular order.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<(String, Described)>, Problem> {
    let json = header(bytes)?;
    let metadata: Metadata = serde_json::from_slice(json)?;
    let data = LENGTH + json.len();
    let described = data as u128 + metadata.data_len() as u128;
    if described != bytes.len() as u128 {
        return Err(Problem::Size { described, size: bytes.len() });
    }
    // The ranges are back to back and end at the file's end, so `data + offset` cannot overflow from here on.
    let describe = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let Some(dtype) = Dtype::from_safetensors(info.dtype) else {
            return Err(Problem::Dtype { tensor: name, dtype: info.dtype.to_string() });
        };
        let range = data + info.data_offsets.0..data + info.data_offsets.1;
        let strides = row_major(&info.shape);
        Ok((name, Described { dtype, shape: info.shape.clone(), strides, range }))
    };
    metadata.tensors().into_iter().map(describe).collect()
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
        refused(&file(&ONE.replace("BF16", "Q8"), 12), "does not parse");
        refused(&file(&ONE.replace("[2,3]", "[2,-3]"), 12), "does not parse");
        refused(&file(&ONE.replace("[2,3]", "[4294967296,4294967296,4]"), 12), "overflow");
        refused(&file(&ONE.replace("[0,12]", "[12,0]"), 12), "offset");
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
