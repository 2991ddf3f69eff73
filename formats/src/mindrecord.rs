//! MindRecord: the data sets that MindSpore trains on, read and written so that its `MindDataset` takes them.
//!
//! A data set is one file or several, and beside each an index that is an SQLite database. [`MindRecord`] reads, by a
//! mapping, row by row; [`Writer`] writes. [`schema`] says what a row has, `row` what its bytes are, `header` where pages
//! lie, `index` where rows do. What the numbers are for is not known here.

mod header;
mod index;
mod integers;
mod message;
mod problem;
mod row;
pub mod schema;
mod shard;
mod writer;

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use problem::MindRecordProblem;
pub use row::{Row, Value};
pub use schema::{Element, Field, Schema};
pub use writer::Writer;

use crate::FormatError;
use crate::map::Mapping;
use header::{HEADER_MAX, Header, Kind};
use index::Entry;

/// A data set, all shards of it.
#[derive(Debug)]
pub struct MindRecord {
    schema: Schema,
    shards: Vec<Shard>,
}

/// One file, and what its index says.
#[derive(Debug)]
struct Shard {
    data: Mapping,
    header: Header,
    rows: Vec<Entry>,
}

/// How large rows are in the file, scalar columns and lengths left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sizes {
    /// The smallest.
    pub least: u64,
    /// The largest.
    pub most: u64,
    /// All together.
    pub total: u64,
}

impl MindRecord {
    /// Opens the data set that a file is of: all shards that its header lists, in that order, from the same folder.
    ///
    /// # Errors
    /// A file or index that is missing, damaged, renamed or of something else.
    pub fn open(path: &Path) -> Result<MindRecord, FormatError> {
        let named = at(path, read_header(&Mapping::open(path)?))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let shards = named.shards.iter().map(|name| {
            let file = folder.join(name);
            if !file.exists() {
                return Err(problem(path, MindRecordProblem::ShardMissing { shard: name.clone() }));
            }
            Shard::open(&file, name)
        });
        let shards = shards.collect::<Result<Vec<_>, _>>()?;
        for shard in &shards {
            if shard.header.schema != named.schema {
                let other = shard.data.path().to_path_buf();
                return Err(problem(path, MindRecordProblem::Schemas { other }));
            }
        }
        Ok(MindRecord { schema: named.schema, shards })
    }

    /// Whether a file begins as such data files do; those of safetensors begin almost alike.
    pub fn is_one(path: &Path) -> bool {
        let begins = || {
            // Asked first: opening a pipe waits for its writer.
            let mut file = if path.is_file() { File::open(path).ok()? } else { return None };
            let mut length = [0; 8];
            file.read_exact(&mut length).ok()?;
            let length = u64::from_le_bytes(length);
            let fits = length < HEADER_MAX && length < file.metadata().ok()?.len();
            let mut header = vec![0; if fits { length as usize } else { return None }];
            file.read_exact(&mut header).ok()?;
            let has = |key: &[u8]| header.windows(key.len()).any(|window| window == key);
            Some(header.first() == Some(&b'{') && has(b"\"shard_addresses\"") && has(b"\"schema\""))
        };
        begins().unwrap_or(false)
    }

    /// What a row has.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The data files, in order.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.data.path())
    }

    /// How many rows each file has.
    pub fn shard_rows(&self) -> impl ExactSizeIterator<Item = usize> {
        self.shards.iter().map(|shard| shard.rows.len())
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.shard_rows().sum()
    }

    /// How large rows are, as the index says.
    pub fn sizes(&self) -> Sizes {
        let sizes =
            self.shards.iter().flat_map(|shard| &shard.rows).map(|entry| u64::from(entry.blob.1 - entry.blob.0) - 8);
        let first = Sizes { least: u64::MAX, ..Sizes::default() };
        let sizes = sizes.fold(first, |sizes, size| Sizes {
            least: sizes.least.min(size),
            most: sizes.most.max(size),
            total: sizes.total + size,
        });
        Sizes { least: sizes.least.min(sizes.most), ..sizes }
    }

    /// A row, counted through all shards from 0.
    ///
    /// # Errors
    /// Its bytes are damaged; the file was written into.
    ///
    /// # Panics
    /// There are fewer rows.
    pub fn row(&self, number: usize) -> Result<Row, FormatError> {
        let mut within = number;
        for shard in &self.shards {
            match shard.rows.get(within) {
                Some(entry) => return shard.row(&self.schema, within, entry),
                None => within -= shard.rows.len(),
            }
        }
        panic!("row {number} of {}", self.rows())
    }

    /// All rows, in the data set's order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Row, FormatError>> + '_ {
        let rows = |shard: &'_ Shard| 0..shard.rows.len();
        self.shards
            .iter()
            .flat_map(move |shard| rows(shard).map(move |within| shard.row(&self.schema, within, &shard.rows[within])))
    }
}

impl Shard {
    fn open(path: &Path, name: &str) -> Result<Shard, FormatError> {
        let data = Mapping::open(path)?;
        let header = at(path, read_header(&data))?;
        let index = index::path(path);
        let rows = at(&index, index::read(&index, name))?;
        let shard = Shard { data, header, rows };
        at(path, shard.check())?;
        at(&index, shard.check_index())?;
        Ok(shard)
    }

    /// Pages lie within the file.
    fn check(&self) -> Result<(), MindRecordProblem> {
        let length = self.data.bytes().len() as u64;
        for (number, page) in self.header.pages.iter().enumerate() {
            let end = self.header.page_start(number as u64) + u64::from(page.used);
            if end > length {
                let what = format!("ends at byte {end}, and the file has {length}: it was cut short, copy it again");
                return Err(MindRecordProblem::Page { page: number, what });
            }
        }
        Ok(())
    }

    /// Rows lie within pages of their kind, and are as many as the pages say.
    fn check_index(&self) -> Result<(), MindRecordProblem> {
        let pages = &self.header.pages;
        let said: u64 = pages.iter().filter(|page| page.kind == Kind::Blob).map(|page| page.rows).sum();
        if said != self.rows.len() as u64 {
            return Err(MindRecordProblem::Rows { index: self.rows.len(), pages: said });
        }
        for (row, entry) in self.rows.iter().enumerate() {
            for (kind, page, (from, to)) in
                [(Kind::Raw, entry.raw_page, entry.raw), (Kind::Blob, entry.blob_page, entry.blob)]
            {
                let used = pages.get(page as usize).filter(|page| page.kind == kind).map(|page| page.used);
                if used.is_none_or(|used| to > used) || from.checked_add(8).is_none_or(|least| least > to) {
                    let what =
                        format!("lies at bytes {from} to {to} of page {page}, where no such part of a row can be");
                    return Err(MindRecordProblem::Row { row, what });
                }
            }
        }
        Ok(())
    }

    fn row(&self, schema: &Schema, row: usize, entry: &Entry) -> Result<Row, FormatError> {
        let [raw, blob] = [(entry.raw_page, entry.raw), (entry.blob_page, entry.blob)].map(|(page, range)| {
            let start = self.header.page_start(page.into()) as usize;
            part(&self.data.bytes()[start + range.0 as usize..start + range.1 as usize], page)
        });
        let read = raw.and_then(|raw| row::decode(schema, self.header.packed, raw, blob?));
        read.map_err(|what| {
            let damaged = || problem(self.data.path(), MindRecordProblem::Row { row, what });
            // Who writes into the file now is a better answer than damage.
            self.data.unchanged().err().unwrap_or_else(damaged)
        })
    }
}

/// A part of a row without its length before it.
fn part(bytes: &[u8], page: u32) -> Result<&[u8], String> {
    let (length, rest) = bytes.split_first_chunk().expect("ranges were checked");
    let length = u64::from_le_bytes(*length);
    if length != rest.len() as u64 {
        return Err(format!("has {length} bytes by page {page} and {} by the index", rest.len()));
    }
    Ok(rest)
}

fn read_header(data: &Mapping) -> Result<Header, MindRecordProblem> {
    let bytes = data.bytes();
    if bytes.starts_with(b"SQLite format 3\0") {
        return Err(MindRecordProblem::Index("it is the index of a data file: name that, without .db".to_owned()));
    }
    Header::parse(bytes)
}

fn problem(path: &Path, problem: MindRecordProblem) -> FormatError {
    FormatError::MindRecord { path: path.to_path_buf(), problem }
}

fn at<T>(path: &Path, result: Result<T, MindRecordProblem>) -> Result<T, FormatError> {
    result.map_err(|found| problem(path, found))
}

/// The names of a data set's files: that of the first alone where there is one shard, else with the shard's number.
pub fn names(path: &Path, shards: usize) -> Vec<PathBuf> {
    if shards == 1 {
        return vec![path.to_path_buf()];
    }
    let width = (shards - 1).to_string().len();
    let name = |shard: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{shard:0width$}"));
        PathBuf::from(name)
    };
    (0..shards).map(name).collect()
}

/// The data files that a file's header lists beside it, those that are there and list the same: its own data set and
/// nothing else; none of a file that is no data file.
pub fn set_of(path: &Path) -> Vec<PathBuf> {
    let listed = |path: &Path| -> Option<Vec<String>> {
        let header = MindRecord::is_one(path).then(|| Mapping::open(path).ok().map(|data| read_header(&data)))??;
        header.ok().map(|header| header.shards)
    };
    let Some(names) = listed(path) else { return Vec::new() };
    let folder = path.parent().unwrap_or(Path::new(""));
    // What leads to another folder is no name.
    let plain = names.iter().filter(|name| Path::new(name).file_name().is_some_and(|last| last == name.as_str()));
    plain.map(|name| folder.join(name)).filter(|file| listed(file).as_ref() == Some(&names)).collect()
}

/// The name of a data file's index.
pub fn index_of(path: &Path) -> PathBuf {
    index::path(path)
}

/// Rows of each shard where `rows` are shared evenly, in order.
fn share(rows: usize, shards: usize) -> impl Iterator<Item = Range<usize>> {
    let start = move |shard: usize| shard * (rows / shards) + shard.min(rows % shards);
    (0..shards).map(move |shard| start(shard)..start(shard + 1))
}

#[cfg(test)]
mod tests;
