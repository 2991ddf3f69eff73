//! A data set as it grows.
//!
//! How large pages are is written first and best known last: little data in large pages is a file full of holes, much in
//! small ones has a long header. So rows wait in memory until they are all there, or too many: then pages are large.
//! Several shards hold equal parts of the rows, in order; where these do not fit memory, they wait in a file of no name.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::header::Layout;
use super::row::{self, Value};
use super::schema::Schema;
use super::shard::{Finished, NewShard, failed, file_name};
use super::{MindRecordProblem, names, problem, share};
use crate::FormatError;

/// Bytes of rows that wait in memory at most, and of a page: MindSpore's own page is as large.
const LARGE: usize = 32 << 20;

/// The smallest header and page that the format has.
const SMALL: Layout = Layout { header_size: 16 << 10, page_size: 32 << 10 };

/// A data set that grows. Its files are there when it is [finished](Writer::finish), and before that there are none.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    files: Vec<PathBuf>,
    schema: Schema,
    rows: usize,
    waiting: Waiting,
}

/// Where rows are until they lie in pages.
#[derive(Debug)]
enum Waiting {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file of no name, in the folder that the data set will be in.
    File(BufWriter<File>),
    /// In pages already: there is one shard.
    No(Box<NewShard>),
}

impl Writer {
    /// Begins the data set of so many shards at `path`, the name of the one or the beginning of the names of several.
    ///
    /// # Errors
    /// A name that is no text.
    pub fn begin(path: &Path, schema: Schema, shards: usize) -> Result<Writer, FormatError> {
        assert!(shards > 0, "a data set has a shard");
        let named = path.file_name().and_then(|name| name.to_str());
        if named.is_none() {
            let what = "the name of a data set is text".to_owned();
            return Err(problem(path, MindRecordProblem::Header(what)));
        }
        let files = names(path, shards);
        Ok(Writer { path: path.to_path_buf(), files, schema, rows: 0, waiting: Waiting::Memory(Vec::new()) })
    }

    /// The data files there will be.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Adds a row; its values are in the order of the schema's columns.
    ///
    /// # Errors
    /// Values that are not of the columns' types, a row longer than a page, the system's refusal.
    pub fn push(&mut self, row: &[Value]) -> Result<(), FormatError> {
        let wrong = |what| problem(&self.path, MindRecordProblem::Unwritable { row: self.rows, what });
        let (raw, blob) = row::encode(&self.schema, row).map_err(wrong)?;
        let length = raw.len().max(blob.len()) + 8;
        if length > LARGE {
            return Err(wrong(format!("it has {length} bytes, and a page {LARGE}")));
        }
        self.rows += 1;
        match &mut self.waiting {
            Waiting::Memory(bytes) => {
                append(bytes, &raw, &blob).expect("memory is written to");
                if bytes.len() > LARGE { self.spill() } else { Ok(()) }
            }
            Waiting::File(file) => append(file, &raw, &blob).map_err(failed(&self.path)),
            Waiting::No(shard) => shard.push(&raw, &blob),
        }
    }

    /// Memory is full.
    fn spill(&mut self) -> Result<(), FormatError> {
        let Waiting::Memory(bytes) = std::mem::replace(&mut self.waiting, Waiting::Memory(Vec::new())) else {
            return Ok(());
        };
        if let [file] = &self.files[..] {
            let mut shard = NewShard::begin(file, &self.schema, large())?;
            each(&*bytes, &mut |raw, blob| shard.push(raw, blob)).map_err(|error| error.of(&self.path))?;
            self.waiting = Waiting::No(Box::new(shard));
            return Ok(());
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::tempfile_in(folder).and_then(|mut file| file.write_all(&bytes).map(|()| file));
        self.waiting = Waiting::File(BufWriter::with_capacity(1 << 20, file.map_err(failed(&self.path))?));
        Ok(())
    }

    /// Writes what is left and gives the files their names; asks between rows whether to give up, which leaves nothing.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn finish(self, given_up: &dyn Fn() -> bool) -> Result<bool, FormatError> {
        let Writer { path, files, schema, rows, waiting } = self;
        let names: Vec<String> = files.iter().map(|file| file_name(file)).collect();
        let finished = match waiting {
            Waiting::No(shard) => vec![shard.finish(&names, 0)?],
            Waiting::Memory(bytes) => {
                let layout = small(bytes.len(), &schema, &names);
                match (Deal { files: &files, names: &names, schema, layout, rows }).deal(&*bytes, given_up) {
                    Ok(finished) => finished,
                    Err(error) => return error.unless_given_up(&path),
                }
            }
            Waiting::File(file) => {
                let file = file.into_inner().map_err(std::io::IntoInnerError::into_error);
                let file = file.and_then(|mut file| file.rewind().map(|()| file)).map_err(failed(&path))?;
                let reader = BufReader::with_capacity(1 << 20, file);
                match (Deal { files: &files, names: &names, schema, layout: large(), rows }).deal(reader, given_up) {
                    Ok(finished) => finished,
                    Err(error) => return error.unless_given_up(&path),
                }
            }
        };
        if given_up() {
            return Ok(false);
        }
        finished.into_iter().try_for_each(Finished::complete)?;
        Ok(true)
    }
}

/// How waiting rows are dealt out to shards.
struct Deal<'a> {
    files: &'a [PathBuf],
    names: &'a [String],
    schema: Schema,
    layout: Layout,
    rows: usize,
}

impl Deal<'_> {
    fn deal(&self, waiting: impl Read, given_up: &dyn Fn() -> bool) -> Result<Vec<Finished>, Stopped> {
        let begin = |number: usize| NewShard::begin(&self.files[number], &self.schema, self.layout);
        let ends: Vec<usize> = share(self.rows, self.files.len()).map(|rows| rows.end).collect();
        let mut finished = Vec::new();
        let (mut row, mut shard) = (0, begin(0)?);
        each(waiting, &mut |raw, blob| {
            while row == ends[finished.len()] {
                let next = begin(finished.len() + 1)?;
                finished.push(std::mem::replace(&mut shard, next).finish(self.names, finished.len())?);
            }
            row += 1;
            if row % 1024 == 0 && given_up() {
                return Err(Stopped::GivenUp);
            }
            Ok(shard.push(raw, blob)?)
        })?;
        finished.push(shard.finish(self.names, finished.len())?);
        while finished.len() < self.files.len() {
            finished.push(begin(finished.len())?.finish(self.names, finished.len())?);
        }
        Ok(finished)
    }
}

/// Why rows were not dealt out.
enum Stopped {
    /// Waiting rows cannot be read again.
    Waiting(std::io::Error),
    /// A shard was refused.
    Refused(FormatError),
    /// Somebody asked for it.
    GivenUp,
}

impl From<FormatError> for Stopped {
    fn from(error: FormatError) -> Stopped {
        Stopped::Refused(error)
    }
}

impl Stopped {
    fn of(self, path: &Path) -> FormatError {
        match self {
            Stopped::Waiting(error) => failed(path)(error),
            Stopped::Refused(error) => error,
            Stopped::GivenUp => unreachable!("nobody was asked"),
        }
    }

    fn unless_given_up(self, path: &Path) -> Result<bool, FormatError> {
        if matches!(self, Stopped::GivenUp) { Ok(false) } else { Err(self.of(path)) }
    }
}

/// Both parts of a row after their lengths.
fn append(into: &mut impl std::io::Write, raw: &[u8], blob: &[u8]) -> std::io::Result<()> {
    into.write_all(&(raw.len() as u32).to_le_bytes())?;
    into.write_all(&(blob.len() as u32).to_le_bytes())?;
    into.write_all(raw)?;
    into.write_all(blob)
}

/// Calls back with both parts of each row.
fn each<E: Into<Stopped>>(
    mut waiting: impl Read,
    push: &mut impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), Stopped> {
    let (mut raw, mut blob) = (Vec::new(), Vec::new());
    loop {
        let mut lengths = [0; 8];
        match waiting.read(&mut lengths[..1]) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(Stopped::Waiting(error)),
        }
        let mut fill = |into: &mut [u8]| waiting.read_exact(into).map_err(Stopped::Waiting);
        fill(&mut lengths[1..])?;
        let [raw_length, blob_length] = [&lengths[..4], &lengths[4..]]
            .map(|length| u32::from_le_bytes(length.try_into().expect("four bytes")) as usize);
        raw.resize(raw_length, 0);
        blob.resize(blob_length, 0);
        fill(&mut raw)?;
        fill(&mut blob)?;
        push(&raw, &blob).map_err(Into::into)?;
    }
}

/// For much data: MindSpore's own sizes.
fn large() -> Layout {
    Layout { header_size: 16 << 20, page_size: LARGE as u64 }
}

/// For data of which all rows fit a page of each kind.
fn small(bytes: usize, schema: &Schema, names: &[String]) -> Layout {
    let names: usize = names.iter().map(|name| 8 + 6 * name.len()).sum();
    let header = 8192 + 2 * schema.to_json().to_string().len() + names;
    let at_least = |least: u64, bytes: usize| (bytes as u64).next_power_of_two().max(least);
    Layout { header_size: at_least(SMALL.header_size, header), page_size: at_least(SMALL.page_size, bytes) }
}
