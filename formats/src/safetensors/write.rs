//! Writing one safetensors file, whole or not at all: of tensors that are there, or tensor by tensor as they are made.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};

use crate::{Dtype, FormatError, Partial};

/// A tensor to be written, borrowed from whoever computed it.
#[derive(Clone, Copy, Debug)]
pub struct NewTensor<'a> {
    /// The name; no two tensors of a file may share one.
    pub name: &'a str,
    /// The type of one element.
    pub dtype: Dtype,
    /// The extents, outermost first.
    pub shape: &'a [usize],
    /// The elements, row by row, little-endian.
    pub bytes: &'a [u8],
}

/// Writes `tensors` to a safetensors file at `path`. The same tensors give the same bytes in whatever order they come:
/// wide types first (so that each is aligned to itself), then by name, as Hugging Face's own writer does.
///
/// The file appears under its name only when it is complete: it grows under a temporary name in the same folder.
///
/// # Errors
/// Two tensors share a name, bytes and shape disagree, or the system refuses to write.
pub fn write(path: &Path, tensors: &[NewTensor<'_>]) -> Result<(), FormatError> {
    write_while(path, tensors, &mut || true)
}

/// As [`write()`], for files that take long: `go_on` is asked before each piece and before the file gets its name; once it
/// says no, the file is given up and nothing is left of it.
///
/// # Errors
/// As [`write()`], and [`FormatError::Stopped`].
pub fn write_while(path: &Path, tensors: &[NewTensor<'_>], go_on: &mut dyn FnMut() -> bool) -> Result<(), FormatError> {
    check(path, tensors)?;
    let heads = tensors.iter().map(|tensor| (tensor.name.to_owned(), tensor.dtype, tensor.shape.to_vec())).collect();
    let mut writer = SafetensorsWriter::begin(path, heads)?;
    let by_name: HashMap<&str, &[u8]> = tensors.iter().map(|tensor| (tensor.name, tensor.bytes)).collect();
    let order: Vec<String> = writer.order().map(str::to_owned).collect();
    let data = order.iter().flat_map(|name| by_name[name.as_str()].chunks(PIECE));
    // The header is a piece too.
    for piece in [&[][..]].into_iter().chain(data) {
        if !go_on() {
            return Err(FormatError::Stopped { path: path.to_path_buf() });
        }
        writer.write(piece)?;
    }
    if !go_on() {
        return Err(FormatError::Stopped { path: path.to_path_buf() });
    }
    writer.complete()
}

/// A tensor to be written: its name, its type and its shape.
pub type Head = (String, Dtype, Vec<usize>);

/// A file that grows under a temporary name until it is complete. What it will hold is said at the beginning; the bytes
/// follow tensor by tensor, in its own order.
#[derive(Debug)]
pub struct SafetensorsWriter {
    partial: Partial,
    path: PathBuf,
    heads: Vec<Head>,
    /// Bytes to come.
    left: usize,
}

impl SafetensorsWriter {
    /// Begins a file of these tensors; the order given does not show.
    ///
    /// # Errors
    /// Two tensors share a name, one is larger than memory can be, or the system refuses to write.
    pub fn begin(path: &Path, mut heads: Vec<Head>) -> Result<SafetensorsWriter, FormatError> {
        heads.sort_by(|a, b| b.1.to_safetensors().cmp(&a.1.to_safetensors()).then_with(|| a.0.cmp(&b.0)));
        let mut names = HashSet::new();
        if let Some((name, ..)) = heads.iter().find(|(name, ..)| !names.insert(name)) {
            return Err(FormatError::NameTwice { tensor: name.clone(), path: path.to_path_buf() });
        }
        let failed = |source| FormatError::Io { action: "write", path: path.to_path_buf(), source };
        let (header, left) = header(&heads).map_err(failed)?;
        let mut partial = Partial::begin(path).map_err(failed)?;
        let length = (header.len() as u64).to_le_bytes();
        partial.write_all(&length).and_then(|()| partial.write_all(&header)).map_err(failed)?;
        Ok(SafetensorsWriter { partial, path: path.to_path_buf(), heads, left })
    }

    /// The names, in the order in which their bytes are to come: wide types first (so that each is aligned to itself),
    /// then by name, as Hugging Face's own writer does.
    pub fn order(&self) -> impl Iterator<Item = &str> {
        self.heads.iter().map(|(name, ..)| name.as_str())
    }

    /// The next bytes.
    ///
    /// # Errors
    /// The system refuses to write.
    ///
    /// # Panics
    /// They are more than the tensors have.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        self.left = self.left.checked_sub(bytes.len()).expect("no more bytes than the tensors have");
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
    /// Bytes are missing.
    pub fn complete(self) -> Result<(), FormatError> {
        assert_eq!(self.left, 0, "all tensors are whole");
        self.partial.complete().map_err(|source| FormatError::Io { action: "write", path: self.path, source })
    }
}

/// Bytes between two questions whether to go on: a fraction of a second on any disk.
const PIECE: usize = 1 << 20;

fn check(path: &Path, tensors: &[NewTensor<'_>]) -> Result<(), FormatError> {
    let mut names = HashSet::new();
    for tensor in tensors {
        let NewTensor { name, dtype, shape, bytes } = *tensor;
        if dtype.bytes(shape) != Some(bytes.len()) {
            let (shape, bytes) = (shape.to_vec(), bytes.len());
            return Err(FormatError::BytesForShape { tensor: name.to_owned(), dtype, shape, bytes });
        }
        if !names.insert(name) {
            return Err(FormatError::NameTwice { tensor: name.to_owned(), path: path.to_path_buf() });
        }
    }
    Ok(())
}

/// The JSON header, padded with spaces so that the data starts at a multiple of eight; and the bytes of all data.
fn header(heads: &[Head]) -> io::Result<(Vec<u8>, usize)> {
    let mut end = 0usize;
    let mut infos = Vec::with_capacity(heads.len());
    for (name, dtype, shape) in heads {
        let start = end;
        let next = dtype.bytes(shape).and_then(|bytes| start.checked_add(bytes));
        end = next.ok_or_else(|| io::Error::other(format!("tensor {name} is larger than memory can be")))?;
        let info = TensorInfo { dtype: dtype.to_safetensors(), shape: shape.clone(), data_offsets: (start, end) };
        infos.push((name.clone(), info));
    }
    // Hugging Face's loaders refuse files that do not say which framework's layout they hold.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos).map_err(io::Error::other)?;
    let mut json = serde_json::to_vec(&metadata)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok((json, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkpoint;

    #[test]
    fn what_is_written_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.safetensors");
        let (wide, narrow) = ([1u8; 24], [2u8; 6]);
        let tensors = [
            NewTensor { name: "narrow", dtype: Dtype::F16, shape: &[3], bytes: &narrow },
            NewTensor { name: "wide", dtype: Dtype::F32, shape: &[2, 3], bytes: &wide },
            NewTensor { name: "none", dtype: Dtype::F32, shape: &[0, 3], bytes: &[] },
        ];
        write(&path, &tensors).unwrap();
        let checkpoint = Checkpoint::open_file(&path).unwrap();
        for expect in tensors {
            let found = checkpoint.tensor(expect.name).unwrap();
            assert_eq!((found.dtype, found.shape, found.bytes), (expect.dtype, expect.shape, expect.bytes));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_order_given_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let a = NewTensor { name: "a", dtype: Dtype::U8, shape: &[1], bytes: &[1] };
        let b = NewTensor { name: "b", dtype: Dtype::F32, shape: &[], bytes: &[1, 2, 3, 4] };
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        write(&one, &[a, b]).unwrap();
        write(&two, &[b, a]).unwrap();
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
    }

    #[test]
    fn refusals_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.safetensors");
        let tensor = NewTensor { name: "a", dtype: Dtype::F32, shape: &[2], bytes: &[0; 8] };
        let short = NewTensor { bytes: &[0; 7], ..tensor };
        let message = write(&path, &[short]).unwrap_err().to_string();
        assert_eq!(message, "tensor a of type f32 and shape [2] was given 7 bytes");
        assert!(write(&path, &[tensor, tensor]).unwrap_err().to_string().contains("written twice"));
        assert!(write(&folder.path().join("no/such/folder"), &[tensor]).is_err());
        for pieces in 0..3 {
            let (mut asked, path) = (0, &path);
            let mut go_on = || {
                asked += 1;
                asked <= pieces
            };
            let stopped = write_while(path, &[tensor], &mut go_on).unwrap_err();
            assert!(matches!(stopped, FormatError::Stopped { .. }), "after {pieces} pieces: {stopped}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
