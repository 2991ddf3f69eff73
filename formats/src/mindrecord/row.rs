//! A row: its values, and the two parts of bytes that say them.

use super::schema::{Element, Field, Schema};
use super::{integers, message};

/// The values of a row, in the order of the schema's columns.
pub type Row = Vec<Value>;

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of `int32` or `int64`.
    Int(i64),
    /// Of `float32` or `float64`.
    Float(f64),
    /// Of `string`.
    Text(String),
    /// Of `bytes`.
    Bytes(Vec<u8>),
    /// An array of whole numbers, the last extent fastest.
    Ints(Vec<i64>),
    /// An array of others.
    Floats(Vec<f64>),
}

/// The raw part and the blob of a row, without their lengths.
pub(super) fn encode(schema: &Schema, row: &[Value]) -> Result<(Vec<u8>, Vec<u8>), String> {
    if row.len() != schema.fields.len() {
        return Err(format!("it has {} values for {} columns", row.len(), schema.fields.len()));
    }
    for (value, (name, field)) in row.iter().zip(&schema.fields) {
        check(value, field).map_err(|what| format!("column {name} {what}"))?;
    }
    let scalars: Vec<_> = schema.scalars().map(|(place, name, _)| (&**name, &row[place])).collect();
    let raw = match &scalars[..] {
        [] => message::pack([("id", &Value::Int(0))].into_iter()),
        scalars => message::pack(scalars.iter().copied()),
    };
    let blobs: Vec<_> = schema.blobs().map(|(place, _, field)| (&row[place], field)).collect();
    let mut blob = Vec::new();
    match &blobs[..] {
        // Something has to lie there.
        [] => blob.extend([0; 4]),
        [(value, field)] => encode_blob(value, field, &mut blob),
        several => {
            for (value, field) in several {
                let start = blob.len();
                blob.extend([0; 8]);
                encode_blob(value, field, &mut blob);
                let length = (blob.len() - start - 8) as u64;
                blob[start..start + 8].copy_from_slice(&length.to_be_bytes());
            }
        }
    }
    Ok((raw, blob))
}

/// Whether a value is of its column's type.
fn check(value: &Value, field: &Field) -> Result<(), String> {
    let whole = |number: &i64, element: Element| match element {
        Element::Int32 if i32::try_from(*number).is_err() => Err(format!("of int32 has {number}")),
        _ => Ok(()),
    };
    match (value, field) {
        (Value::Int(number), Field::Number(element)) if element.is_whole() => whole(number, *element),
        (Value::Float(_), Field::Number(element)) if !element.is_whole() => Ok(()),
        (Value::Text(_), Field::Text) | (Value::Bytes(_), Field::Bytes) => Ok(()),
        (Value::Ints(numbers), Field::Array { element, shape }) if element.is_whole() => {
            if numbers.is_empty() {
                return Err("has no number, which the format cannot say".to_owned());
            }
            numbers.iter().try_for_each(|number| whole(number, *element))?;
            fits(numbers.len(), shape)
        }
        (Value::Floats(numbers), Field::Array { element, shape }) if !element.is_whole() => fits(numbers.len(), shape),
        (value, field) => Err(format!("is {field:?}, and its value {value:?}")),
    }
}

/// Whether so many numbers have a shape.
fn fits(count: usize, shape: &[i64]) -> Result<(), String> {
    let known =
        shape.iter().filter(|extent| **extent > 0).try_fold(1u64, |all, extent| all.checked_mul(*extent as u64));
    let open = shape.contains(&-1);
    let fits = |known: u64| if open { count as u64 % known == 0 } else { count as u64 == known };
    if known.is_some_and(fits) { Ok(()) } else { Err(format!("of shape {shape:?} has {count} numbers")) }
}

fn encode_blob(value: &Value, field: &Field, into: &mut Vec<u8>) {
    match (value, field) {
        (Value::Bytes(bytes), _) => into.extend(bytes),
        (Value::Ints(numbers), _) => integers::pack(numbers, into),
        (Value::Floats(numbers), Field::Array { element: Element::Float32, .. }) => {
            into.extend(numbers.iter().flat_map(|number| (*number as f32).to_le_bytes()));
        }
        (Value::Floats(numbers), _) => into.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
        (Value::Int(_) | Value::Float(_) | Value::Text(_), _) => unreachable!("scalars stand elsewhere"),
    }
}

/// The values of a row. `packed` is whether whole numbers in arrays are.
pub(super) fn decode(schema: &Schema, packed: bool, raw: &[u8], blob: &[u8]) -> Result<Row, String> {
    let mut scalars = message::unpack(raw)?;
    let blobs = split(schema, blob)?;
    let mut blobs = blobs.into_iter();
    let value = |(name, field): (&String, &Field)| {
        let value = if field.is_blob() {
            decode_blob(blobs.next().expect("one for each column"), field, packed)
        } else {
            let place = scalars.iter().position(|(found, _)| found == name);
            place
                .map(|place| scalars.swap_remove(place).1)
                .ok_or("is missing".to_owned())
                .and_then(|value| scalar(value, field))
        };
        value.map_err(|what| format!("has a column {name} that {what}"))
    };
    schema.fields.iter().map(value).collect()
}

/// The bytes of each blob column.
fn split<'a>(schema: &Schema, blob: &'a [u8]) -> Result<Vec<&'a [u8]>, String> {
    let count = schema.blobs().count();
    if count < 2 {
        return Ok(vec![blob; count]);
    }
    let mut rest = blob;
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk().ok_or("ends within its arrays")?;
        let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (part, after) = after
            .split_at_checked(length)
            .ok_or_else(|| format!("has an array of {length} bytes where {} are left", after.len()))?;
        parts.push(part);
        rest = after;
    }
    if rest.is_empty() { Ok(parts) } else { Err(format!("has {} bytes after its arrays", rest.len())) }
}

fn scalar(value: Value, field: &Field) -> Result<Value, String> {
    match (value, field) {
        (Value::Int(number), Field::Number(Element::Int32)) if i32::try_from(number).is_err() => {
            Err(format!("of int32 is {number}"))
        }
        (Value::Int(number), Field::Number(element)) if element.is_whole() => Ok(Value::Int(number)),
        (Value::Int(number), Field::Number(_)) => Ok(Value::Float(number as f64)),
        // What was exact in f32 was written so; what was not is rounded to the column's type here.
        (Value::Float(number), Field::Number(Element::Float32)) => Ok(Value::Float(f64::from(number as f32))),
        (Value::Float(number), Field::Number(Element::Float64)) => Ok(Value::Float(number)),
        (Value::Text(text), Field::Text) => Ok(Value::Text(text)),
        (value, field) => Err(format!("is {field:?} and has {value:?}")),
    }
}

fn decode_blob(bytes: &[u8], field: &Field, packed: bool) -> Result<Value, String> {
    let Field::Array { element, shape } = field else { return Ok(Value::Bytes(bytes.to_vec())) };
    let value = match element {
        Element::Int32 | Element::Int64 if packed => Value::Ints(integers::unpack(bytes)?),
        Element::Int32 => Value::Ints(numbers(bytes, *element, |four| i32::from_le_bytes(four).into())?),
        Element::Int64 => Value::Ints(numbers(bytes, *element, i64::from_le_bytes)?),
        Element::Float32 => Value::Floats(numbers(bytes, *element, |four| f32::from_le_bytes(four).into())?),
        Element::Float64 => Value::Floats(numbers(bytes, *element, f64::from_le_bytes)?),
    };
    let (count, wide) = match &value {
        Value::Ints(numbers) => {
            let wide = *element == Element::Int32;
            (numbers.len(), numbers.iter().find(|number| wide && i32::try_from(**number).is_err()))
        }
        Value::Floats(numbers) => (numbers.len(), None),
        _ => unreachable!("arrays are numbers"),
    };
    if let Some(number) = wide {
        return Err(format!("of int32 has {number}"));
    }
    fits(count, shape)?;
    Ok(value)
}

fn numbers<const N: usize, T>(bytes: &[u8], element: Element, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>, String> {
    let (chunks, rest) = (bytes.chunks_exact(N), bytes.len() % element.bytes());
    if rest != 0 {
        return Err(format!("has {} bytes for numbers of {N}", bytes.len()));
    }
    Ok(chunks.map(|chunk| read(chunk.try_into().expect("chunks are as long as asked for"))).collect())
}
