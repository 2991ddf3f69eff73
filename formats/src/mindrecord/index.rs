//! The index beside a data file: an SQLite database that says where in its pages each row lies.

use std::path::{Path, PathBuf};

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::MindRecordProblem;
use super::row::Value;
use super::schema::Schema;

/// Where a row lies: pages, and from where to where in them, lengths included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) raw_page: u32,
    pub(super) raw: (u32, u32),
    pub(super) blob_page: u32,
    pub(super) blob: (u32, u32),
}

/// The index of a data file.
pub(super) fn path(data: &Path) -> PathBuf {
    let mut path = data.as_os_str().to_owned();
    path.push(".db");
    path.into()
}

/// Reads the index of the data file of that name.
pub(super) fn read(path: &Path, name: &str) -> Result<Vec<Entry>, MindRecordProblem> {
    if !path.exists() {
        return Err(MindRecordProblem::IndexMissing);
    }
    let index = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let found: String = index.query_row("SELECT NAME FROM SHARD_NAME", [], |row| row.get(0))?;
    if found != name {
        return Err(MindRecordProblem::IndexOf { found, expected: name.to_owned() });
    }
    let mut statement = index.prepare(
        "SELECT ROW_ID, PAGE_ID_RAW, PAGE_OFFSET_RAW, PAGE_OFFSET_RAW_END, PAGE_ID_BLOB, PAGE_OFFSET_BLOB, \
         PAGE_OFFSET_BLOB_END FROM INDEXES ORDER BY ROW_ID",
    )?;
    let rows = statement.query_map([], |row| {
        let entry = Entry {
            raw_page: row.get(1)?,
            raw: (row.get(2)?, row.get(3)?),
            blob_page: row.get(4)?,
            blob: (row.get(5)?, row.get(6)?),
        };
        Ok((row.get::<_, i64>(0)?, entry))
    })?;
    let mut entries = Vec::new();
    for row in rows {
        let (id, entry) = row?;
        if id != entries.len() as i64 {
            return Err(MindRecordProblem::Index(format!("it has row {id} where row {} belongs", entries.len())));
        }
        entries.push(entry);
    }
    Ok(entries)
}

impl From<rusqlite::Error> for MindRecordProblem {
    fn from(error: rusqlite::Error) -> MindRecordProblem {
        let said = error.to_string();
        MindRecordProblem::Index(format!("{said}; copy it again, or write the data set anew"))
    }
}

/// An index that grows, under a temporary name of the caller's.
#[derive(Debug)]
pub(super) struct NewIndex {
    index: Connection,
    insert: String,
}

impl NewIndex {
    /// Begins the index in an empty file.
    pub(super) fn begin(file: &Path, schema: &Schema) -> rusqlite::Result<NewIndex> {
        let index = Connection::open(file)?;
        // Whoever interrupts this loses the file anyway.
        index.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
        let columns = [
            "ROW_ID",
            "PAGE_ID_RAW",
            "PAGE_OFFSET_RAW",
            "PAGE_OFFSET_RAW_END",
            "ROW_GROUP_ID",
            "PAGE_ID_BLOB",
            "PAGE_OFFSET_BLOB",
            "PAGE_OFFSET_BLOB_END",
        ];
        let mut table = columns.map(|name| format!("{name} INT NOT NULL")).join(", ");
        let mut key = "ROW_ID".to_owned();
        for (i, (_, name, field)) in schema.scalars().enumerate() {
            // Names are letters, digits and _, which the schema's maker has checked.
            table += &format!(", INC_{i} INT, {name}_0 {}", field.sql());
            key += &format!(", INC_{i}");
        }
        index.execute_batch(&format!(
            "BEGIN; CREATE TABLE INDEXES({table}, PRIMARY KEY({key})); CREATE TABLE SHARD_NAME(NAME TEXT NOT NULL);"
        ))?;
        let count = columns.len() + 2 * schema.scalars().count();
        let insert = format!("INSERT INTO INDEXES VALUES({})", vec!["?"; count].join(","));
        Ok(NewIndex { index, insert })
    }

    /// Adds a row with its scalar columns.
    pub(super) fn add(&self, row: usize, group: usize, entry: Entry, scalars: Vec<Value>) -> rusqlite::Result<()> {
        let Entry { raw_page, raw, blob_page, blob } = entry;
        let places = [
            row as u64,
            raw_page.into(),
            raw.0.into(),
            raw.1.into(),
            group as u64,
            blob_page.into(),
            blob.0.into(),
            blob.1.into(),
        ];
        let mut values: Vec<Sql> = places.map(|place| Sql::Integer(place as i64)).into();
        for value in scalars {
            values.push(Sql::Integer(0));
            values.push(match value {
                Value::Int(number) => Sql::Integer(number),
                Value::Float(number) => Sql::Real(number),
                Value::Text(text) => Sql::Text(text),
                Value::Bytes(_) | Value::Ints(_) | Value::Floats(_) => unreachable!("blobs are not indexed"),
            });
        }
        self.index.prepare_cached(&self.insert)?.execute(params_from_iter(values)).map(drop)
    }

    /// Ends the index of the data file of that name.
    pub(super) fn end(self, name: &str) -> rusqlite::Result<()> {
        self.index.execute("INSERT INTO SHARD_NAME VALUES(?)", [name])?;
        self.index.execute_batch("COMMIT")?;
        self.index.flush_prepared_statement_cache();
        self.index.close().map_err(|(_, error)| error)
    }
}
