//! One data file and its index, as they grow.
//!
//! Rows fill a page of blobs; those of one such page are a group, whose raw parts stay together in a page of raw parts,
//! which several groups share. A page of raw parts gets its number before its bytes are known, so the file has it between
//! pages of blobs; readers take pages in any order.

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::header::{self, Kind, Layout, NewPage};
use super::index::{self, Entry, NewIndex};
use super::row::Value;
use super::schema::Schema;
use super::{MindRecordProblem, message, problem};
use crate::{FormatError, Partial};

/// A data file and its index, both without their names so far.
#[derive(Debug)]
pub(super) struct NewShard {
    path: PathBuf,
    name: String,
    schema: Schema,
    layout: Layout,
    data: Partial,
    index: NewIndex,
    index_file: Partial,
    pages: Vec<NewPage>,
    group: Group,
    groups: usize,
    rows: usize,
    raw: Option<RawPage>,
}

/// From where to where, lengths included.
type Range = (u32, u32);

/// Rows of the page of blobs that is being filled.
#[derive(Debug, Default)]
struct Group {
    raw: Vec<u8>,
    blob: Vec<u8>,
    /// Of each row: its ranges in both, from the group's start, and its scalar columns.
    rows: Vec<(Range, Range, Vec<Value>)>,
}

/// The page of raw parts that is being filled.
#[derive(Debug)]
struct RawPage {
    number: usize,
    bytes: Vec<u8>,
}

/// A shard whose files are complete but for their names.
#[derive(Debug)]
pub(super) struct Finished {
    path: PathBuf,
    data: Partial,
    index: Partial,
}

impl NewShard {
    pub(super) fn begin(path: &Path, schema: &Schema, layout: Layout) -> Result<NewShard, FormatError> {
        let name = file_name(path);
        let data = Partial::begin(path).map_err(failed(path))?;
        let index_path = index::path(path);
        let index_file = Partial::begin(&index_path).map_err(failed(&index_path))?;
        let index = NewIndex::begin(index_file.temporary(), schema).map_err(refused(&index_path))?;
        Ok(NewShard {
            path: path.to_path_buf(),
            name,
            schema: schema.clone(),
            layout,
            data,
            index,
            index_file,
            pages: Vec::new(),
            group: Group::default(),
            groups: 0,
            rows: 0,
            raw: None,
        })
    }

    /// Adds a row's two parts, which fit a page each.
    pub(super) fn push(&mut self, raw: &[u8], blob: &[u8]) -> Result<(), FormatError> {
        let page = self.layout.page_size as usize;
        let fits = |so_far: &[u8], part: &[u8]| so_far.len() + 8 + part.len() <= page;
        if !(fits(&self.group.raw, raw) && fits(&self.group.blob, blob)) {
            self.end_group()?;
        }
        let scalars = if self.schema.scalars().next().is_some() {
            let values = message::unpack(raw).expect("it was packed here");
            values.into_iter().map(|(_, value)| value).collect()
        } else {
            Vec::new()
        };
        let append = |into: &mut Vec<u8>, part: &[u8]| {
            let start = into.len() as u32;
            into.extend((part.len() as u64).to_le_bytes());
            into.extend(part);
            (start, into.len() as u32)
        };
        let ranges = (append(&mut self.group.raw, raw), append(&mut self.group.blob, blob));
        self.group.rows.push((ranges.0, ranges.1, scalars));
        Ok(())
    }

    /// Writes what is left; the files have no names yet.
    pub(super) fn finish(mut self, names: &[String], number: usize) -> Result<Finished, FormatError> {
        self.end_group()?;
        self.end_raw()?;
        let header = header::write(&self.schema, self.layout, names, number, &self.pages);
        if 8 + header.len() as u64 > self.layout.header_size {
            return Err(problem(&self.path, MindRecordProblem::TooMany { rows: self.rows }));
        }
        let mut whole = (header.len() as u64).to_le_bytes().to_vec();
        whole.extend(header);
        if self.pages.is_empty() {
            whole.resize(self.layout.header_size as usize, 0);
        }
        self.write_at(0, &whole)?;
        self.index.end(&self.name).map_err(refused(&index::path(&self.path)))?;
        Ok(Finished { path: self.path, data: self.data, index: self.index_file })
    }

    fn end_group(&mut self) -> Result<(), FormatError> {
        if self.group.rows.is_empty() {
            return Ok(());
        }
        let Group { raw, blob, rows } = std::mem::take(&mut self.group);
        let (group, first) = (self.groups, self.rows);
        (self.groups, self.rows) = (group + 1, first + rows.len());
        let blob_page = self.pages.len();
        self.pages.push(NewPage {
            kind: Kind::Blob,
            used: blob.len(),
            groups: vec![(0, 0)],
            of_kind: group,
            rows: first..first + rows.len(),
        });
        self.write_page(blob_page, &blob)?;
        let full = |page: &RawPage| page.bytes.len() + raw.len() > self.layout.page_size as usize;
        if self.raw.as_ref().is_some_and(full) {
            self.end_raw()?;
        }
        let (raw_page, raw_start) = self.raw_page(group, &raw);
        for (i, (raw, blob, scalars)) in rows.into_iter().enumerate() {
            let raw = (raw_start + raw.0, raw_start + raw.1);
            let entry = Entry { raw_page: raw_page as u32, raw, blob_page: blob_page as u32, blob };
            let added = self.index.add(first + i, group, entry, scalars);
            added.map_err(refused(&index::path(&self.path)))?;
        }
        Ok(())
    }

    /// Puts a group's raw parts where they go: the page's number, and where they begin in it.
    fn raw_page(&mut self, group: usize, raw: &[u8]) -> (usize, u32) {
        let number = self.pages.len();
        let pages = &mut self.pages;
        let page = self.raw.get_or_insert_with(|| {
            let of_kind = pages.iter().filter(|page| page.kind == Kind::Raw).count();
            pages.push(NewPage { kind: Kind::Raw, used: 0, groups: Vec::new(), of_kind, rows: 0..0 });
            RawPage { number, bytes: Vec::new() }
        });
        let start = page.bytes.len();
        page.bytes.extend(raw);
        let listed = &mut pages[page.number];
        listed.groups.push((group, start));
        listed.used = page.bytes.len();
        (page.number, start as u32)
    }

    fn end_raw(&mut self) -> Result<(), FormatError> {
        match self.raw.take() {
            Some(RawPage { number, bytes }) => self.write_page(number, &bytes),
            None => Ok(()),
        }
    }

    fn write_page(&mut self, page: usize, bytes: &[u8]) -> Result<(), FormatError> {
        self.write_at(self.layout.header_size + page as u64 * self.layout.page_size, bytes)
    }

    /// What lies between was never written: holes, which take no room.
    fn write_at(&mut self, position: u64, bytes: &[u8]) -> Result<(), FormatError> {
        let written = self.data.seek(SeekFrom::Start(position)).and_then(|_| self.data.write_all(bytes));
        written.map_err(failed(&self.path))
    }
}

impl Finished {
    /// Gives both files their names, the index first: a data file that is there is whole.
    pub(super) fn complete(self) -> Result<(), FormatError> {
        let index = index::path(&self.path);
        self.index.complete().map_err(failed(&index))?;
        self.data.complete().map_err(failed(&self.path))
    }
}

/// The name that a data set's files know each other by.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> FormatError {
    move |source| FormatError::Io { action: "write", path: path.to_path_buf(), source }
}

/// What SQLite says of a file that it writes.
fn refused(path: &Path) -> impl FnOnce(rusqlite::Error) -> FormatError {
    move |error| {
        let kind = match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => io::ErrorKind::StorageFull,
            _ => io::ErrorKind::Other,
        };
        failed(path)(io::Error::new(kind, error.to_string()))
    }
}
