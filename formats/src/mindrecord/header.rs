//! The beginning of a data file: JSON that says where pages lie and what rows have.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::MindRecordProblem;
use super::schema::{Schema, index_fields, object};

/// The length of a header at most.
pub(super) const HEADER_MAX: u64 = 128 << 20;

/// The length of a page at most: offsets of rows are in 32 bits.
const PAGE_MAX: u64 = 256 << 20;

/// What a header says, checked.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Whether whole numbers in arrays are packed.
    pub(super) packed: bool,
    pub(super) header_size: u64,
    pub(super) page_size: u64,
    /// The names of all data files, in order.
    pub(super) shards: Vec<String>,
    pub(super) schema: Schema,
    pub(super) pages: Vec<Page>,
}

/// A stretch of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) kind: Kind,
    /// Its bytes that say something.
    pub(super) used: u32,
    /// How many rows' blobs it holds.
    pub(super) rows: u64,
}

/// Which part of rows a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Raw,
    Blob,
}

/// The JSON, as far as it is read.
#[derive(Deserialize)]
struct Text {
    version: String,
    header_size: u64,
    page_size: u64,
    shard_addresses: Vec<String>,
    schema: Vec<Json>,
    page: Option<Vec<PageText>>,
}

#[derive(Deserialize)]
struct PageText {
    page_id: u64,
    page_type: String,
    page_size: u64,
    start_row_id: u64,
    end_row_id: u64,
}

impl Header {
    /// Reads the header that a file begins with.
    pub(super) fn parse(bytes: &[u8]) -> Result<Header, MindRecordProblem> {
        let wrong = |what: String| MindRecordProblem::Header(what);
        let (length, rest) =
            bytes.split_first_chunk().ok_or_else(|| wrong(format!("the file has {} bytes", bytes.len())))?;
        let length = u64::from_le_bytes(*length);
        if length > HEADER_MAX || length > rest.len() as u64 {
            let what =
                format!("it should have {length} bytes, and the file has {}; is this a MindRecord file?", rest.len());
            return Err(wrong(what));
        }
        let text: Text = serde_json::from_slice(&rest[..length as usize]).map_err(|error| wrong(error.to_string()))?;
        text.check(length)
    }

    /// Where a page begins in the file.
    pub(super) fn page_start(&self, page: u64) -> u64 {
        self.header_size + page * self.page_size
    }
}

impl Text {
    fn check(self, length: u64) -> Result<Header, MindRecordProblem> {
        let wrong = |what: String| MindRecordProblem::Header(what);
        let packed = match &*self.version {
            "3.0" => true,
            "2.0" => false,
            _ => return Err(MindRecordProblem::Version(self.version)),
        };
        let Text { header_size, page_size, .. } = self;
        if header_size > HEADER_MAX || length + 8 > header_size || page_size == 0 || page_size > PAGE_MAX {
            let what = format!("it has {length} bytes of {header_size}, and pages of {page_size}");
            return Err(wrong(what));
        }
        // Names lead nowhere else.
        let outside =
            |name: &&String| name.is_empty() || name.contains(['/', '\\', '\0']) || **name == ".." || **name == ".";
        if let Some(name) = self.shard_addresses.iter().find(outside) {
            return Err(wrong(format!("it lists a file {name:?}, which is no plain name")));
        }
        if self.shard_addresses.is_empty() {
            return Err(wrong("it lists no file".to_owned()));
        }
        let [schema] = &self.schema[..] else {
            return Err(MindRecordProblem::Schema(format!("there are {} of them", self.schema.len())));
        };
        let pages = self.page.into_iter().flatten().enumerate();
        Ok(Header {
            packed,
            header_size,
            page_size,
            shards: self.shard_addresses,
            schema: Schema::from_json(schema)?,
            pages: pages.map(|(number, page)| page.check(number, page_size)).collect::<Result<_, _>>()?,
        })
    }
}

impl PageText {
    fn check(self, page: usize, size: u64) -> Result<Page, MindRecordProblem> {
        let wrong = |what: String| Err(MindRecordProblem::Page { page, what });
        let kind = match &*self.page_type {
            "BLOB_DATA" => Kind::Blob,
            "RAW_DATA" => Kind::Raw,
            other => return wrong(format!("is of a kind {other:?}")),
        };
        if self.page_id != page as u64 {
            return wrong(format!("is called {}", self.page_id));
        }
        if self.page_size > size {
            return wrong(format!("has {} bytes of {size}", self.page_size));
        }
        let Some(rows) = self.end_row_id.checked_sub(self.start_row_id) else {
            return wrong(format!("has rows {} to {}", self.start_row_id, self.end_row_id));
        };
        Ok(Page { kind, used: self.page_size as u32, rows })
    }
}

/// A page as it will be listed.
#[derive(Clone, Debug)]
pub(super) struct NewPage {
    pub(super) kind: Kind,
    pub(super) used: usize,
    /// Row groups whose raw parts lie in it, and where; of a page of blobs its own.
    pub(super) groups: Vec<(usize, usize)>,
    /// Its number among those of its kind.
    pub(super) of_kind: usize,
    pub(super) rows: std::ops::Range<usize>,
}

impl NewPage {
    fn to_json(&self, page: usize, shard: usize) -> Json {
        let groups: Vec<Json> = self.groups.iter().map(|(id, offset)| json!({"id": id, "offset": offset})).collect();
        object([
            ("end_row_id", self.rows.end.into()),
            ("page_id", page.into()),
            ("page_size", self.used.into()),
            ("page_type", if self.kind == Kind::Blob { "BLOB_DATA" } else { "RAW_DATA" }.into()),
            ("page_type_id", self.of_kind.into()),
            ("row_group_ids", groups.into()),
            ("shard_id", shard.into()),
            ("start_row_id", self.rows.start.into()),
        ])
    }
}

/// Sizes that a data set's files have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) header_size: u64,
    pub(super) page_size: u64,
}

/// A header's text.
pub(super) fn write(schema: &Schema, layout: Layout, names: &[String], shard: usize, pages: &[NewPage]) -> Vec<u8> {
    let table: Vec<Json> = pages.iter().enumerate().map(|(page, one)| one.to_json(page, shard)).collect();
    let header = object([
        ("header_size", layout.header_size.into()),
        ("index_fields", index_fields(schema)),
        ("page", if table.is_empty() { Json::Null } else { table.into() }),
        ("page_size", layout.page_size.into()),
        // What packing saved: nobody reads it, and it is known only when the first file's header should be written.
        ("compression_size", 0.into()),
        ("schema", vec![schema.to_json()].into()),
        ("shard_addresses", names.into()),
        ("shard_id", shard.into()),
        ("statistics", Json::Null),
        ("version", "3.0".into()),
    ]);
    serde_json::to_vec(&header).expect("headers are plain data")
}
