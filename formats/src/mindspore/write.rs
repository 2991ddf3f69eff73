//! Writing a checkpoint that every version of MindSpore reads: one value a message, dims unpacked and none for a scalar,
//! no sum at the end, pieces of at most 512 MiB next to each other, each with all dims.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::walk::Head;
use super::{Kind, TEXT};
use crate::{Dtype, FormatError, Partial};

/// Bytes of a tensor in one value at most: MindSpore's own.
const PIECE: usize = 512 << 20;

/// A checkpoint that grows entry by entry, under a temporary name until it is complete. Nothing of a tensor is held.
#[derive(Debug)]
pub struct MindsporeWriter {
    partial: Partial,
    path: PathBuf,
    names: HashSet<String>,
    /// Bytes after which a tensor is cut.
    piece: usize,
    now: Option<Now>,
}

/// The tensor that is being written.
#[derive(Debug)]
struct Now {
    name: String,
    /// Its name, as the field that it is.
    tag: Vec<u8>,
    /// Its dims and type, as they are encoded in every piece.
    head: Vec<u8>,
    /// Bytes to come, all in all and in this piece.
    left: usize,
    left_here: usize,
}

impl MindsporeWriter {
    /// Begins a file.
    ///
    /// # Errors
    /// There is no such folder, or nothing can be written there.
    pub fn begin(path: &Path) -> Result<MindsporeWriter, FormatError> {
        MindsporeWriter::cut_at(path, PIECE)
    }

    /// The same, with tensors cut elsewhere.
    pub(super) fn cut_at(path: &Path, piece: usize) -> Result<MindsporeWriter, FormatError> {
        let partial = Partial::begin(path).map_err(|source| FormatError::Io {
            action: "write",
            path: path.to_path_buf(),
            source,
        })?;
        Ok(MindsporeWriter { partial, path: path.to_path_buf(), names: HashSet::new(), piece, now: None })
    }

    /// Begins a tensor; its bytes follow by [`MindsporeWriter::write`].
    ///
    /// # Errors
    /// The name was there before, or MindSpore has no such type or shape; the system refuses to write.
    ///
    /// # Panics
    /// Bytes of the tensor before are missing.
    pub fn tensor(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<(), FormatError> {
        let refuse = |why| FormatError::NotForMindspore { tensor: name.to_owned(), dtype, shape: shape.to_vec(), why };
        let ty = dtype.mindspore().ok_or_else(|| refuse("it has no such type"))?;
        let bytes = dtype.bytes(shape).ok_or_else(|| refuse("it is larger than memory can be"))?;
        if bytes == 0 {
            return Err(refuse("it has no elements, and MindSpore leaves such tensors out"));
        }
        self.entry(name, ty, shape, bytes)
    }

    /// A text.
    ///
    /// # Errors
    /// The name was there before, or the system refuses to write.
    ///
    /// # Panics
    /// Bytes of the tensor before are missing.
    pub fn text(&mut self, name: &str, text: &str) -> Result<(), FormatError> {
        let bytes: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        // An empty one is a value too.
        self.entry(name, TEXT, &[0], bytes.len())?;
        self.write(&bytes)
    }

    /// An entry as another file has it; its bytes follow.
    ///
    /// # Errors
    /// As those of a tensor.
    ///
    /// # Panics
    /// Bytes of the tensor before are missing.
    pub fn entry_like(&mut self, entry: &super::Entry) -> Result<(), FormatError> {
        match entry.kind {
            Kind::Tensor(dtype) => self.tensor(&entry.name, dtype, &entry.shape),
            Kind::Text => self.entry(&entry.name, TEXT, &[0], entry.bytes),
        }
    }

    fn entry(&mut self, name: &str, ty: &str, dims: &[usize], bytes: usize) -> Result<(), FormatError> {
        assert!(self.now.is_none(), "the tensor before is whole");
        if !self.names.insert(name.to_owned()) {
            return Err(FormatError::NameTwice { tensor: name.to_owned(), path: self.path.clone() });
        }
        let dims = dims.iter().map(|&dim| i64::try_from(dim).expect("a tensor that exists")).collect();
        let head = Head { dims, tensor_type: Some(ty.to_owned()) }.encode_to_vec();
        let mut tag = Vec::new();
        length_delimited(1, name.len(), &mut tag);
        tag.extend_from_slice(name.as_bytes());
        self.now = Some(Now { name: name.to_owned(), tag, head, left: bytes, left_here: 0 });
        self.next_piece()
    }

    /// What comes before a piece's bytes.
    fn next_piece(&mut self) -> Result<(), FormatError> {
        let now = self.now.as_mut().expect("a tensor is being written");
        let here = now.left.min(self.piece);
        now.left_here = here;
        let tensor = now.head.len() + field_len(3, here);
        let value = now.tag.len() + field_len(2, tensor);
        let mut before = Vec::new();
        length_delimited(1, value, &mut before);
        before.extend_from_slice(&now.tag);
        length_delimited(2, tensor, &mut before);
        before.extend_from_slice(&now.head);
        length_delimited(3, here, &mut before);
        if now.left == 0 {
            self.now = None;
        }
        self.put(&before)
    }

    /// More bytes of the tensor that was begun.
    ///
    /// # Errors
    /// The system refuses to write.
    ///
    /// # Panics
    /// They are more than the tensor has.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), FormatError> {
        while !bytes.is_empty() {
            let now = self.now.as_mut().expect("a tensor is being written, and lacks bytes");
            if now.left_here == 0 {
                self.next_piece()?;
                continue;
            }
            let (here, rest) = bytes.split_at(bytes.len().min(now.left_here));
            now.left -= here.len();
            now.left_here -= here.len();
            if now.left == 0 {
                self.now = None;
            }
            self.put(here)?;
            bytes = rest;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        self.partial.write_all(bytes).map_err(|source| FormatError::Io {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// What is left cannot be written, or the name be given.
    ///
    /// # Panics
    /// Bytes of the last tensor are missing.
    pub fn complete(self) -> Result<(), FormatError> {
        if let Some(Now { name, left, .. }) = self.now {
            panic!("{name} lacks {left} bytes");
        }
        self.partial.complete().map_err(|source| FormatError::Io { action: "write", path: self.path, source })
    }
}

/// Key and length of a field.
fn length_delimited(number: u32, length: usize, to: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, to);
    encode_varint(length as u64, to);
}

/// Bytes of a field with its key and length.
fn field_len(number: u32, length: usize) -> usize {
    key_len(number) + encoded_len_varint(length as u64) + length
}
