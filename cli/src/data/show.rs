//! `data show`: what a data set holds.

use std::path::{Path, PathBuf};

use bloomery_formats::mindrecord::{Field, MindRecord, Schema, Value};
use bloomery_models::tokenizer::Tokenizer;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::tokenize::tokenizer_of;
use crate::{Error, find};

/// A data set.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// How many rows it has.
    pub rows_total: usize,
    /// How many files.
    pub shards: usize,
    /// The files, in order, and how many rows each has.
    pub files: Vec<(PathBuf, usize)>,
    /// What its writer says of it.
    pub description: String,
    /// Its columns, as the format writes them.
    pub schema: Json,
    /// How large rows are in the files.
    pub row_bytes: RowBytes,
    /// The first rows.
    pub rows: Vec<Map<String, Json>>,
}

/// Bytes of rows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RowBytes {
    /// Of the smallest.
    pub least: u64,
    /// Of the largest.
    pub most: u64,
    /// Of all together.
    pub total: u64,
}

/// Shows a data set and so many of its rows, with what their ids say where there is a tokenizer.
///
/// # Errors
/// It is none, or damaged; no tokenizer is there.
pub fn show(path: &Path, rows: usize, tokenizer: Option<&Path>) -> Result<Shown, Error> {
    let tokenizer = tokenizer.map(|path| tokenizer_of(&find::local(path)?)).transpose()?;
    let data = MindRecord::open(path)?;
    let sizes = data.sizes();
    let row = |number| Ok(row(data.schema(), &data.row(number)?, tokenizer.as_ref()));
    Ok(Shown {
        rows_total: data.rows(),
        shards: data.files().len(),
        files: data.files().map(Path::to_path_buf).zip(data.shard_rows()).collect(),
        description: data.schema().description.clone(),
        schema: data.schema().columns(),
        row_bytes: RowBytes { least: sizes.least, most: sizes.most, total: sizes.total },
        rows: (0..rows.min(data.rows())).map(row).collect::<Result<_, Error>>()?,
    })
}

fn row(schema: &Schema, row: &[Value], tokenizer: Option<&Tokenizer>) -> Map<String, Json> {
    let fields = row.iter().zip(&schema.fields);
    let mut shown: Map<String, Json> =
        fields.map(|(value, (name, field))| (name.clone(), json(value, field))).collect();
    let ids = schema.position("input_ids").map(|place| &row[place]);
    if let (Some(tokenizer), Some(Value::Ints(ids))) = (tokenizer, ids) {
        shown.insert("text".to_owned(), text(ids, tokenizer).into());
    }
    shown
}

/// What ids say, those of prompts too; of the padding one is shown.
fn text(ids: &[i64], tokenizer: &Tokenizer) -> String {
    let padding = ids.iter().rev().take_while(|id| Some(*id) == ids.last()).count();
    let said = &ids[..ids.len() - padding.saturating_sub(1)];
    let said: Vec<u32> = said.iter().map(|id| u32::try_from(id.unsigned_abs()).unwrap_or(u32::MAX)).collect();
    tokenizer.decode(&said, false)
}

fn json(value: &Value, field: &Field) -> Json {
    match (value, field) {
        (Value::Int(number), _) => json!(number),
        (Value::Float(number), _) => json!(number),
        (Value::Text(text), _) => json!(text),
        (Value::Bytes(bytes), _) => {
            json!({"bytes": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()})
        }
        (Value::Ints(numbers), Field::Array { shape, .. }) => nested(numbers, shape),
        (Value::Floats(numbers), Field::Array { shape, .. }) => nested(numbers, shape),
        (Value::Ints(_) | Value::Floats(_), _) => unreachable!("numbers are read by their column's shape"),
    }
}

/// Numbers as lists of lists, by their shape.
fn nested<T: Serialize>(numbers: &[T], shape: &[i64]) -> Json {
    match shape {
        [] | [_] => json!(numbers),
        [first, rest @ ..] => {
            let known: i64 = rest.iter().filter(|extent| **extent > 0).product();
            let parts = if *first > 0 { *first as usize } else { numbers.len() / known.max(1) as usize };
            let each = (numbers.len() / parts.max(1)).max(1);
            Json::Array(numbers.chunks(each).map(|part| nested(part, rest)).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_nested_by_their_shape() {
        let numbers: Vec<i64> = (0..12).collect();
        assert_eq!(nested(&numbers[..4], &[-1]), json!([0, 1, 2, 3]));
        assert_eq!(nested(&numbers[..6], &[2, -1]), json!([[0, 1, 2], [3, 4, 5]]));
        assert_eq!(nested(&numbers[..6], &[-1, 2]), json!([[0, 1], [2, 3], [4, 5]]));
        let three = json!([[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]);
        assert_eq!([nested(&numbers, &[2, 3, 2]), nested(&numbers, &[-1, 3, 2])], [three.clone(), three]);
        assert_eq!(nested::<i64>(&[], &[2, -1]), json!([]));
    }
}
