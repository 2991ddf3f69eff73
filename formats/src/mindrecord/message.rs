//! The small part of MessagePack that scalar columns need: a map of names to whole numbers, fractions and texts.

use super::row::Value;

/// Writes a map, whose names are sorted.
pub(super) fn pack<'a>(entries: impl ExactSizeIterator<Item = (&'a str, &'a Value)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    match entries.len() {
        count @ 0..16 => bytes.push(0x80 | count as u8),
        count => head(0xde, &(count as u16).to_be_bytes(), &mut bytes),
    }
    for (name, value) in entries {
        text(name, &mut bytes);
        match value {
            Value::Int(number) => whole(*number, &mut bytes),
            Value::Float(number) => fraction(*number, &mut bytes),
            Value::Text(value) => text(value, &mut bytes),
            Value::Bytes(_) | Value::Ints(_) | Value::Floats(_) => unreachable!("blobs stand elsewhere"),
        }
    }
    bytes
}

fn head(code: u8, rest: &[u8], into: &mut Vec<u8>) {
    into.push(code);
    into.extend(rest);
}

fn text(text: &str, into: &mut Vec<u8>) {
    match text.len() {
        length @ 0..32 => into.push(0xa0 | length as u8),
        length @ 32..0x100 => head(0xd9, &[length as u8], into),
        length @ 0x100..0x1_0000 => head(0xda, &(length as u16).to_be_bytes(), into),
        length => head(0xdb, &(length as u32).to_be_bytes(), into),
    }
    into.extend(text.as_bytes());
}

/// In the smallest form, of those without a sign where it has none.
fn whole(number: i64, into: &mut Vec<u8>) {
    match number {
        -32..0x80 => into.push(number as u8),
        0x80..0x100 => head(0xcc, &[number as u8], into),
        0x100..0x1_0000 => head(0xcd, &(number as u16).to_be_bytes(), into),
        0x1_0000..0x1_0000_0000 => head(0xce, &(number as u32).to_be_bytes(), into),
        0x1_0000_0000.. => head(0xcf, &(number as u64).to_be_bytes(), into),
        -0x80..-32 => head(0xd0, &[number as u8], into),
        -0x8000..-0x80 => head(0xd1, &(number as i16).to_be_bytes(), into),
        -0x8000_0000..-0x8000 => head(0xd2, &(number as i32).to_be_bytes(), into),
        ..-0x8000_0000 => head(0xd3, &number.to_be_bytes(), into),
    }
}

/// Narrow where that loses nothing, as MindSpore writes it.
fn fraction(number: f64, into: &mut Vec<u8>) {
    let narrow = number as f32;
    if f64::from(narrow) == number {
        head(0xca, &narrow.to_be_bytes(), into);
    } else {
        head(0xcb, &number.to_be_bytes(), into);
    }
}

/// Reads a map; all bytes belong to it.
pub(super) fn unpack(bytes: &[u8]) -> Result<Vec<(String, Value)>, String> {
    let mut rest = Rest(bytes);
    let count = match rest.byte()? {
        code @ 0x80..0x90 => usize::from(code & 15),
        0xde => u16::from_be_bytes(rest.chunk()?).into(),
        other => return Err(format!("has byte {other:#04x} where its scalar columns begin")),
    };
    let mut entries = Vec::new();
    for _ in 0..count {
        let Value::Text(name) = rest.value()? else { return Err("has a column whose name is no text".to_owned()) };
        entries.push((name, rest.value()?));
    }
    if !rest.0.is_empty() {
        return Err(format!("has {} bytes after its scalar columns", rest.0.len()));
    }
    Ok(entries)
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("ends within its scalar columns")?;
        self.0 = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("as many bytes as asked for"))
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.chunk::<1>()?[0])
    }

    fn value(&mut self) -> Result<Value, String> {
        let whole = |number: i64| Ok(Value::Int(number));
        match self.byte()? {
            code @ 0x00..0x80 => whole(code.into()),
            code @ 0xe0.. => whole((code as i8).into()),
            code @ 0xa0..0xc0 => self.text(usize::from(code & 31)),
            0xca => Ok(Value::Float(f32::from_be_bytes(self.chunk()?).into())),
            0xcb => Ok(Value::Float(f64::from_be_bytes(self.chunk()?))),
            0xcc => whole(self.byte()?.into()),
            0xcd => whole(u16::from_be_bytes(self.chunk()?).into()),
            0xce => whole(u32::from_be_bytes(self.chunk()?).into()),
            0xcf => {
                let number = u64::from_be_bytes(self.chunk()?);
                whole(number.try_into().map_err(|_| format!("has the number {number}, which no column holds"))?)
            }
            0xd0 => whole((self.byte()? as i8).into()),
            0xd1 => whole(i16::from_be_bytes(self.chunk()?).into()),
            0xd2 => whole(i32::from_be_bytes(self.chunk()?).into()),
            0xd3 => whole(i64::from_be_bytes(self.chunk()?)),
            0xd9 => {
                let length = self.byte()?.into();
                self.text(length)
            }
            0xda => {
                let length = u16::from_be_bytes(self.chunk()?).into();
                self.text(length)
            }
            0xdb => {
                let length = u32::from_be_bytes(self.chunk()?) as usize;
                self.text(length)
            }
            other => Err(format!("has byte {other:#04x} among its scalar columns")),
        }
    }

    fn text(&mut self, length: usize) -> Result<Value, String> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "has a text that is no UTF-8")?;
        Ok(Value::Text(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_in_their_smallest_form() {
        let check = |value: Value, bytes: usize| {
            let packed = pack([("a", &value)].into_iter());
            assert_eq!(packed.len(), 3 + bytes, "{value:?}");
            assert_eq!(unpack(&packed).unwrap(), [("a".to_owned(), value)]);
            assert!((0..packed.len()).all(|cut| unpack(&packed[..cut]).is_err()));
        };
        for (number, bytes) in [(0, 1), (127, 1), (128, 2), (255, 2), (256, 3), (65_535, 3), (65_536, 5), (1 << 32, 9)]
        {
            check(Value::Int(number), bytes);
        }
        for (number, bytes) in [(-1, 1), (-32, 1), (-33, 2), (-128, 2), (-129, 3), (-32_769, 5), (i64::MIN, 9)] {
            check(Value::Int(number), bytes);
        }
        check(Value::Float(0.25), 5);
        check(Value::Float(0.1), 9);
        for (length, bytes) in [(0, 1), (31, 32), (32, 34), (256, 259), (65_536, 65_541)] {
            check(Value::Text("x".repeat(length)), bytes);
        }
    }

    #[test]
    fn a_row_without_scalars_has_its_usual_bytes() {
        assert_eq!(pack([("id", &Value::Int(0))].into_iter()), [0x81, 0xa2, b'i', b'd', 0]);
        assert!(unpack(&[0xc0]).unwrap_err().contains("0xc0"));
        assert!(unpack(&[0x81, 0xa1, 0xff, 0]).unwrap_err().contains("UTF-8"));
    }
}
