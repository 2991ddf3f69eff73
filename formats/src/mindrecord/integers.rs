//! Lists of whole numbers, each in as few bytes as it needs: a count, the widths in two bits each, the numbers.

/// Packs a list.
pub(super) fn pack(values: &[i64], into: &mut Vec<u8>) {
    into.extend((values.len() as u32).to_be_bytes());
    let tags = into.len();
    into.resize(tags + values.len().div_ceil(4), 0);
    for (i, value) in values.iter().enumerate() {
        let width = width(*value);
        into[tags + i / 4] |= width << (6 - 2 * (i % 4));
        into.extend(&value.to_le_bytes()[..1 << width]);
    }
}

/// The logarithm of the bytes that hold a number.
fn width(value: i64) -> u8 {
    match value {
        value if i8::try_from(value).is_ok() => 0,
        value if i16::try_from(value).is_ok() => 1,
        value if i32::try_from(value).is_ok() => 2,
        _ => 3,
    }
}

/// Unpacks a list; all bytes belong to it.
pub(super) fn unpack(bytes: &[u8]) -> Result<Vec<i64>, String> {
    let short = || format!("has {} bytes for packed numbers, which are more", bytes.len());
    let (count, rest) = bytes.split_first_chunk().ok_or_else(short)?;
    let count = u32::from_be_bytes(*count) as usize;
    let (tags, mut rest) = rest.split_at_checked(count.div_ceil(4)).ok_or_else(short)?;
    // Of a damaged count no memory is taken: each number has a byte at least.
    let mut values = Vec::with_capacity(count.min(rest.len()));
    for i in 0..count {
        let width = 1 << (tags[i / 4] >> (6 - 2 * (i % 4)) & 3);
        let (value, after) = rest.split_at_checked(width).ok_or_else(short)?;
        let mut wide = [if value[width - 1] & 0x80 == 0 { 0 } else { 0xff }; 8];
        wide[..width].copy_from_slice(value);
        values.push(i64::from_le_bytes(wide));
        rest = after;
    }
    if !rest.is_empty() {
        return Err(format!("has {} bytes after its {count} packed numbers", rest.len()));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_survives() {
        let mut values = vec![0, -1, 1, 127, 128, -128, -129, 32767, 32768, -32768, -32769];
        values.extend([2_147_483_647, 2_147_483_648, -2_147_483_648, -2_147_483_649, i64::MAX, i64::MIN]);
        for count in 0..=values.len() {
            let mut bytes = Vec::new();
            pack(&values[..count], &mut bytes);
            assert_eq!(unpack(&bytes).unwrap(), values[..count]);
            assert!((0..bytes.len()).all(|cut| unpack(&bytes[..cut]).is_err()));
            bytes.push(0);
            assert!(unpack(&bytes).unwrap_err().contains("1 bytes after"));
        }
        let mut bytes = Vec::new();
        pack(&[1, 300, -70_000], &mut bytes);
        assert_eq!(bytes, [0, 0, 0, 3, 0b0001_1000, 1, 44, 1, 0x90, 0xee, 0xfe, 0xff]);
        assert!(unpack(&[0xff; 7]).is_err());
    }
}
