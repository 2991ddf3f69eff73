//! Small files of a model's folder, read whole.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// All bytes of a regular file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    // Asked before opening, which would wait for the other end of a pipe.
    if !path.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is no regular file: put one there"));
    }
    std::fs::read(path)
}
