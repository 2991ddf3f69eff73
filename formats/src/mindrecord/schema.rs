//! What a row has: columns by name, each of one type.
//!
//! Numbers and texts stand in a row's *raw* part, arrays and bytes in its *blob*; the format knows no other types.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::MindRecordProblem;

/// The columns, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// What its writer says of it.
    pub description: String,
    /// Each column's type; rows have values in this order.
    pub fields: BTreeMap<String, Field>,
}

/// The type of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A number.
    Number(Element),
    /// A text.
    Text,
    /// Any bytes.
    Bytes,
    /// Numbers of a shape, of which one extent may be -1: whatever is there.
    Array {
        /// Their type.
        element: Element,
        /// Their shape.
        shape: Vec<i64>,
    },
}

/// The type of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `float32`
    Float32,
    /// `float64`
    Float64,
}

impl Element {
    const ALL: [Element; 4] = [Element::Int32, Element::Int64, Element::Float32, Element::Float64];

    /// As the format calls it.
    pub fn name(self) -> &'static str {
        match self {
            Element::Int32 => "int32",
            Element::Int64 => "int64",
            Element::Float32 => "float32",
            Element::Float64 => "float64",
        }
    }

    /// Bytes of one.
    pub(super) fn bytes(self) -> usize {
        match self {
            Element::Int32 | Element::Float32 => 4,
            Element::Int64 | Element::Float64 => 8,
        }
    }

    pub(super) fn is_whole(self) -> bool {
        matches!(self, Element::Int32 | Element::Int64)
    }
}

impl Field {
    /// A list of numbers, of any length.
    pub fn list(element: Element) -> Field {
        Field::Array { element, shape: vec![-1] }
    }

    /// Whether it stands in the blob.
    pub(super) fn is_blob(&self) -> bool {
        matches!(self, Field::Bytes | Field::Array { .. })
    }

    /// How the index calls the type of a column that it repeats.
    pub(super) fn sql(&self) -> &'static str {
        match self {
            Field::Number(element) if element.is_whole() => "INTEGER",
            Field::Number(_) => "REAL",
            _ => "TEXT",
        }
    }

    fn to_json(&self) -> Json {
        match self {
            Field::Number(element) => json!({"type": element.name()}),
            Field::Text => json!({"type": "string"}),
            Field::Bytes => json!({"type": "bytes"}),
            Field::Array { element, shape } => json!({"type": element.name(), "shape": shape}),
        }
    }

    fn from_json(json: &Json) -> Result<Field, String> {
        let name = json.get("type").and_then(Json::as_str).ok_or("has no type")?;
        let element = Element::ALL.into_iter().find(|element| element.name() == name);
        let shape = json.get("shape").map(shape).transpose()?;
        match (name, element, shape) {
            ("string", _, None) => Ok(Field::Text),
            ("bytes", _, None) => Ok(Field::Bytes),
            (_, Some(element), None) => Ok(Field::Number(element)),
            (_, Some(element), Some(shape)) => Ok(Field::Array { element, shape }),
            (_, None, shape) => Err(format!("has type {name:?}{}", if shape.is_some() { " with a shape" } else { "" })),
        }
    }
}

/// Extents from 1 on, and one -1 at most.
fn shape(json: &Json) -> Result<Vec<i64>, String> {
    let extents = json.as_array().into_iter().flatten().map(Json::as_i64).collect::<Option<Vec<i64>>>();
    let open = |extents: &[i64]| extents.iter().filter(|extent| **extent == -1).count();
    let sound = |extents: &Vec<i64>| {
        !extents.is_empty() && open(extents) <= 1 && extents.iter().all(|extent| *extent == -1 || *extent > 0)
    };
    extents.filter(sound).ok_or_else(|| format!("has shape {json}"))
}

impl Schema {
    /// A schema of columns.
    ///
    /// # Errors
    /// No column, or a name that the format does not take.
    pub fn new(
        description: &str,
        fields: impl IntoIterator<Item = (String, Field)>,
    ) -> Result<Schema, MindRecordProblem> {
        let fields: BTreeMap<String, Field> = fields.into_iter().collect();
        let word =
            |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if let Some(name) = fields.keys().find(|name| !word(name)) {
            let what = format!("column {name:?}: names are letters, digits and _");
            return Err(MindRecordProblem::Schema(what));
        }
        if fields.is_empty() {
            return Err(MindRecordProblem::Schema("it has no column".to_owned()));
        }
        Ok(Schema { description: description.to_owned(), fields })
    }

    /// The place of a column among a row's values.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.keys().position(|field| field == name)
    }

    /// Columns of the raw part, with their places.
    pub(super) fn scalars(&self) -> impl Iterator<Item = (usize, &String, &Field)> {
        self.some(false)
    }

    /// Columns of the blob, with their places.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (usize, &String, &Field)> {
        self.some(true)
    }

    fn some(&self, blob: bool) -> impl Iterator<Item = (usize, &String, &Field)> {
        let all = self.fields.iter().enumerate().map(|(place, (name, field))| (place, name, field));
        all.filter(move |(_, _, field)| field.is_blob() == blob)
    }

    /// The columns, as the format writes them.
    pub fn columns(&self) -> Json {
        Json::Object(self.fields.iter().map(|(name, field)| (name.clone(), field.to_json())).collect())
    }

    /// An entry of the header's list.
    pub(super) fn to_json(&self) -> Json {
        let blobs: Vec<&String> = self.blobs().map(|(_, name, _)| name).collect();
        json!({"blob_fields": blobs, "desc": self.description, "schema": self.columns()})
    }

    pub(super) fn from_json(json: &Json) -> Result<Schema, MindRecordProblem> {
        let wrong = |what: String| MindRecordProblem::Schema(what);
        let columns =
            json.get("schema").and_then(Json::as_object).ok_or_else(|| wrong("it lists no columns".into()))?;
        let field = |(name, json): (&String, &Json)| match Field::from_json(json) {
            Ok(field) => Ok((name.clone(), field)),
            Err(what) => Err(wrong(format!("column {name:?} {what}"))),
        };
        let fields = columns.iter().map(field).collect::<Result<Vec<_>, _>>()?;
        let description = json.get("desc").and_then(Json::as_str).unwrap_or_default();
        let schema = Schema::new(description, fields)?;
        schema.check_blobs(json)?;
        Ok(schema)
    }

    /// The header repeats which columns are blobs.
    fn check_blobs(&self, json: &Json) -> Result<(), MindRecordProblem> {
        let said = json.get("blob_fields").and_then(Json::as_array);
        let mut said: Vec<&str> = said.into_iter().flatten().filter_map(Json::as_str).collect();
        said.sort_unstable();
        let found: Vec<&str> = self.blobs().map(|(_, name, _)| &**name).collect();
        if said != found {
            let what = format!("blob_fields are {said:?}, and the columns that are bytes or arrays {found:?}");
            return Err(MindRecordProblem::Schema(what));
        }
        Ok(())
    }
}

/// What a header says for no fields: a list for `index_fields`.
pub(super) fn index_fields(schema: &Schema) -> Json {
    let fields: Vec<Json> = schema.scalars().map(|(_, name, _)| json!({"index_field": name, "schema_id": 0})).collect();
    if fields.is_empty() { Json::Null } else { Json::Array(fields) }
}

/// An object of a header, in the order that MindSpore writes.
pub(super) fn object<const N: usize>(entries: [(&str, Json); N]) -> Json {
    Json::Object(Map::from_iter(entries.map(|(key, value)| (key.to_owned(), value))))
}
