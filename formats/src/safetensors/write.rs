//! Writing one safetensors file, whole or not at all.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

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
    let mut tensors = tensors.to_vec();
    tensors.sort_by(|a, b| b.dtype.to_safetensors().cmp(&a.dtype.to_safetensors()).then(a.name.cmp(b.name)));
    check(path, &tensors)?;
    let failed = |source| FormatError::Io { action: "write", path: path.to_path_buf(), source };
    let header = header(&tensors).map_err(failed)?;
    let mut partial = Partial::begin(path).map_err(failed)?;
    let length = (header.len() as u64).to_le_bytes();
    let data = tensors.iter().flat_map(|tensor| tensor.bytes.chunks(PIECE));
    for piece in [&length[..], &header[..]].into_iter().chain(data) {
        if !go_on() {
            return Err(FormatError::Stopped { path: path.to_path_buf() });
        }
        partial.write_all(piece).map_err(failed)?;
    }
    if !go_on() {
        return Err(FormatError::Stopped { path: path.to_path_buf() });
    }
    partial.complete().map_err(failed)
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

/// The JSON header, padded with spaces so that the data starts at a multiple of eight.
fn header(tensors: &[NewTensor<'_>]) -> io::Result<Vec<u8>> {
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = end;
        end += tensor.bytes.len();
        let info = TensorInfo {
            dtype: tensor.dtype.to_safetensors(),
            shape: tensor.shape.to_vec(),
            data_offsets: (start, end),
        };
        (tensor.name.to_owned(), info)
    });
    // Hugging Face's loaders refuse files that do not say which framework's layout they hold.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos.collect()).map_err(io::Error::other)?;
    let mut json = serde_json::to_vec(&metadata)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok(json)
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
        for pieces in 0..4 {
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
