//! MindSpore's checkpoints, `.ckpt`: read where they lie, written entry by entry.
//!
//! A file is one protobuf message of any size, `Checkpoint { repeated Value value = 1 }`, and a value is a name with a
//! tensor: dims, the name of a type, bytes. Nobody wants to parse gigabytes to learn names, so [`walk`] goes from field to
//! field of the mapped file, hands what is small to prost, and notes of the tensors' bytes only where they are. Values of
//! one name that follow each other are pieces of one tensor (MindSpore cuts at 512 MiB); the same name further on is
//! another tensor, which counts instead, as it does there. A file that was encrypted comes in blocks, which are deciphered
//! one at a time when they are asked for ([`cipher`]). [`MindsporeWriter`] writes.
//!
//! What a file ends with may be a sum of all its bytes; it is compared at opening. Since a message is as good as the values
//! it has, a file cut between two of them is a shorter whole, and nobody can tell; one cut elsewhere is refused.
//!
//! Start at [`MindsporeCheckpoint::open`]. What a tensor is to a model is told by `models`.

mod cipher;
mod problem;
mod source;
mod walk;
mod write;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use cipher::Key;
pub use problem::MindsporeProblem;
use source::Source;
pub use write::MindsporeWriter;

use crate::map::{self, Mapping};
use crate::{Dtype, FormatError};

/// A checkpoint of MindSpore's: named tensors and texts, in the order of the file.
#[derive(Debug)]
pub struct MindsporeCheckpoint {
    source: Source,
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    notes: Vec<String>,
}

/// What stands under a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The name: a parameter's, or that of something appended, such as `epoch_num`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its extents, outermost first; empty for a scalar and a text.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: usize,
    /// Where its bytes are in the message, in order.
    pieces: Vec<Range<usize>>,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Elements of a type, little-endian, row by row.
    Tensor(Dtype),
    /// A text, four bytes a character.
    Text,
}

impl Kind {
    /// As the file spells it: `Float32`, `str`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tensor(dtype) => dtype.mindspore().expect("it was read by that name"),
            Kind::Text => TEXT,
        }
    }
}

/// The type of texts.
const TEXT: &str = "str";

impl Entry {
    /// Whether its bytes lie in several pieces of the file.
    pub fn is_cut(&self) -> bool {
        self.pieces.len() > 1
    }

    /// Where its bytes are, in order: of a file that is not encrypted, the file's.
    pub fn pieces(&self) -> &[Range<usize>] {
        &self.pieces
    }

    /// The type of its elements, if it is a tensor.
    pub fn dtype(&self) -> Option<Dtype> {
        match self.kind {
            Kind::Tensor(dtype) => Some(dtype),
            Kind::Text => None,
        }
    }
}

/// Bytes that are looked at together where a tensor goes by: large enough to be quick, small enough to be nothing.
const STRIDE: usize = 4 << 20;

impl MindsporeCheckpoint {
    /// Opens a file; `key` is for one that was encrypted.
    ///
    /// # Errors
    /// The file cannot be mapped, is no such checkpoint, is damaged or cut short, or asks for a (or another) key.
    pub fn open(path: &Path, key: Option<&Key>) -> Result<MindsporeCheckpoint, FormatError> {
        let refused = |problem| FormatError::Mindspore { path: path.to_path_buf(), problem: Box::new(problem) };
        let source = Source::open(path, key)?;
        let found = walk::walk(&source).map_err(refused)?;
        let mut by_name = HashMap::new();
        let mut entries: Vec<Entry> = Vec::new();
        for entry in found.entries {
            match by_name.get(&entry.name) {
                // As MindSpore, which keeps the place of the first and what the last one says.
                Some(&place) => entries[place] = entry,
                None => {
                    by_name.insert(entry.name.clone(), entries.len());
                    entries.push(entry);
                }
            }
        }
        Ok(MindsporeCheckpoint { source, entries, by_name, notes: found.notes })
    }

    /// Whether a file begins as these checkpoints do: with a value that has a name, or as an encrypted one.
    pub fn begins(bytes: &[u8]) -> bool {
        cipher::Mode::of(bytes).is_some() || walk::begins(bytes)
    }

    /// Whether its bytes have to be deciphered.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.source, Source::Encrypted { .. })
    }

    /// Everything in it, in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of that name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        Some(&self.entries[*self.by_name.get(name)?])
    }

    /// What a reader should know of the file, as sentences.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The mapped file.
    pub fn file(&self) -> &Mapping {
        self.source.mapping()
    }

    /// Where the file was found.
    pub fn path(&self) -> &Path {
        self.file().path()
    }

    /// Bytes `range` of an entry: the file's own where they lie together in it, else put together.
    ///
    /// # Errors
    /// Encrypted bytes that the key does not open.
    ///
    /// # Panics
    /// The range is not within the entry.
    pub fn read<'a>(&'a self, entry: &Entry, range: Range<usize>) -> Result<Cow<'a, [u8]>, FormatError> {
        assert!(range.start <= range.end && range.end <= entry.bytes, "{range:?} of {} bytes", entry.bytes);
        let refused = |problem| FormatError::Mindspore { path: self.path().to_path_buf(), problem: Box::new(problem) };
        let mut ranges = parts(&entry.pieces, range.clone());
        let first = ranges.next().unwrap_or(0..0);
        if first.len() == range.len() {
            return self.source.bytes(first).map_err(refused);
        }
        let mut joined = Vec::with_capacity(range.len());
        for part in std::iter::once(first).chain(ranges) {
            self.source.append(part, &mut joined).map_err(refused)?;
        }
        Ok(Cow::Owned(joined))
    }

    /// All bytes of an entry; see [`MindsporeCheckpoint::read`].
    ///
    /// # Errors
    /// As there.
    pub fn bytes<'a>(&'a self, entry: &Entry) -> Result<Cow<'a, [u8]>, FormatError> {
        self.read(entry, 0..entry.bytes)
    }

    /// Hands the bytes of an entry on, some megabytes at a time, and lets go of them.
    ///
    /// # Errors
    /// As [`MindsporeCheckpoint::read`], and those of `take`.
    pub fn stream<E: From<FormatError>>(
        &self,
        entry: &Entry,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for start in (0..entry.bytes).step_by(STRIDE) {
            let range = start..(start + STRIDE).min(entry.bytes);
            take(&self.read(entry, range.clone())?)?;
            self.done_with(entry, range);
        }
        Ok(())
    }

    /// The text of an entry that is one.
    ///
    /// # Errors
    /// As [`MindsporeCheckpoint::read`].
    pub fn text(&self, entry: &Entry) -> Result<Option<String>, FormatError> {
        if entry.kind != Kind::Text {
            return Ok(None);
        }
        let bytes = self.bytes(entry)?;
        let character = |four: &[u8]| {
            let code = u32::from_le_bytes(four.try_into().expect("four bytes"));
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        Ok(Some(bytes.chunks_exact(4).map(character).collect()))
    }

    /// Lets the kernel drop the pages of a part of an entry from the process; they stay readable.
    pub fn done_with(&self, entry: &Entry, range: Range<usize>) {
        parts(&entry.pieces, range).for_each(|part| self.source.done_with(part));
    }
}

/// Where bytes `range` of what lies in pieces are.
fn parts(pieces: &[Range<usize>], range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut before = 0;
    pieces.iter().filter_map(move |piece| {
        let (first, last) = (range.start.max(before), range.end.min(before + piece.len()));
        let part = (first < last).then(|| piece.start + first - before..piece.start + last - before);
        before += piece.len();
        part
    })
}

/// The folder's checkpoints, told by name and by how they begin (strategies have the same name), in order of names.
///
/// # Errors
/// The folder or one of the files cannot be read.
pub fn checkpoints_in(folder: &Path) -> Result<Vec<PathBuf>, FormatError> {
    let failed = |source| FormatError::Io { action: "read", path: folder.to_path_buf(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "ckpt") && path.is_file() && begins(&path)? {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file begins as a checkpoint does; see [`MindsporeCheckpoint::begins`].
///
/// # Errors
/// The file cannot be read.
pub fn begins(path: &Path) -> Result<bool, FormatError> {
    let mut first = Vec::new();
    let read = map::open(path)?.take(256).read_to_end(&mut first);
    read.map_err(|source| FormatError::Io { action: "read", path: path.to_path_buf(), source })?;
    Ok(MindsporeCheckpoint::begins(&first))
}

#[cfg(test)]
mod tests;
