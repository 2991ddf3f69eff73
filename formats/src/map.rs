//! Read-only mappings of files: the one island of `unsafe` in this crate; and small files read whole.
//!
//! A mapped checkpoint is never copied: the kernel reads a page when it is first touched and may drop it again, so a file
//! larger than memory streams through. The door is safe under one condition that no program can enforce: nobody writes
//! into the file while it is mapped. Writers that replace a file by renaming, as ours and Hugging Face's do, leave the old
//! mapping intact; of others [`Mapping::unchanged`] tells, once the bytes were used. A file that is cut short is worse: the
//! kernel ends whoever reads on. [`cut`] lets a program live to tell that.

pub mod cut;

use std::fs::{File, Metadata};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::FormatError;

/// A whole file, mapped read-only.
#[derive(Debug)]
pub struct Mapping {
    path: PathBuf,
    file: File,
    /// When it was mapped.
    before: Metadata,
    map: Mmap,
}

impl Mapping {
    /// Maps the file at `path`; an empty file gives an empty mapping.
    ///
    /// # Errors
    /// The file cannot be opened or mapped, or is no regular file.
    pub fn open(path: &Path) -> Result<Mapping, FormatError> {
        let file = open(path)?;
        let before = file.metadata().map_err(failed("map", path))?;
        let map = map_file(&file).map_err(failed("map", path))?;
        Ok(Mapping { path: path.to_path_buf(), file, before, map })
    }

    /// Whether the bytes are still those that were mapped, as far as the file's size and time of change tell.
    ///
    /// # Errors
    /// Somebody wrote into the file.
    pub fn unchanged(&self) -> Result<(), FormatError> {
        let now = self.file.metadata().map_err(failed("read", &self.path))?;
        let (before, same_time) = (self.before.len(), self.before.modified().ok() == now.modified().ok());
        if before == now.len() && same_time {
            return Ok(());
        }
        Err(FormatError::Changed { path: self.path.clone(), before, now: now.len() })
    }

    /// Where the file was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's bytes, at no particular alignment of what lies inside.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Asks the kernel to start reading the pages of `range` (bytes of the file). Only a hint: failure is not reported.
    pub fn will_need(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Some(range) = self.within(range) {
            let _ = self.map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        }
    }

    /// Lets the kernel drop the pages of `range` from this process (they stay readable: a later touch brings them back
    /// from the file). Only a hint: failure is not reported.
    pub fn done_with(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Some(range) = self.within(range) {
            drop_pages(&self.map, range);
        }
    }

    /// The part of `range` that lies in the file, unless it is empty.
    #[cfg(unix)]
    fn within(&self, range: Range<usize>) -> Option<Range<usize>> {
        let range = range.start..range.end.min(self.map.len());
        (!range.is_empty()).then_some(range)
    }
}

/// All bytes of a small file.
///
/// # Errors
/// The file cannot be opened or read, or is no regular file.
pub fn read(path: &Path) -> Result<Vec<u8>, FormatError> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(bytes)
}

/// Opens a regular file.
///
/// # Errors
/// The file cannot be opened, or is no regular file.
pub fn open(path: &Path) -> Result<File, FormatError> {
    // Asked before opening, since opening a pipe waits for its writer.
    if !std::fs::metadata(path).map_err(failed("read", path))?.is_file() {
        return Err(FormatError::NotAFile { path: path.to_path_buf() });
    }
    File::open(path).map_err(failed("read", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FormatError {
    move |source| FormatError::Io { action, path: path.to_path_buf(), source }
}

#[allow(unsafe_code, reason = "mapping a file is a promise about the file that the compiler cannot check")]
fn map_file(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the mapping is private and read-only, and lives in `Mapping`, which lends its bytes only for its own
    // lifetime. What remains is a file changed by others meanwhile; the module's header says what is asked of them. Bytes
    // are checked before use and never cast, so changed bytes give wrong numbers, not wrong memory accesses.
    unsafe { Mmap::map(file) }
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "dropping pages is marked unsafe because it loses data in writable private mappings")]
fn drop_pages(map: &Mmap, range: Range<usize>) {
    // SAFETY: the mapping is read-only and file-backed, so it holds no page that is not in the file: a later read faults
    // the same bytes in again. `range` lies within the mapping; rounding to pages is memmap2's.
    let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_was_written_and_keeps_it_after_dropping_pages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        let bytes: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mapping = Mapping::open(&path).unwrap();
        mapping.will_need(5_000..15_000);
        mapping.done_with(5_000..usize::MAX);
        mapping.done_with(30_000..40_000);
        assert_eq!(mapping.bytes(), bytes);
    }

    #[test]
    fn a_file_that_was_written_into_is_told_from_one_that_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["bytes", "other"].map(|name| folder.path().join(name));
        std::fs::write(&path, [1; 100]).unwrap();
        let mapping = Mapping::open(&path).unwrap();
        std::fs::write(&other, [2; 50]).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(mapping.unchanged().is_ok() && mapping.bytes() == [1; 100]);
        let mapping = Mapping::open(&path).unwrap();
        std::fs::write(&path, [3; 60]).unwrap();
        let error = mapping.unchanged().unwrap_err().to_string();
        assert!(error.contains("bytes was written into") && error.contains("50 bytes before, 60 now"), "{error}");
    }

    #[test]
    fn an_empty_file_is_an_empty_mapping() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, b"").unwrap();
        assert!(Mapping::open(&path).unwrap().bytes().is_empty());
    }

    #[test]
    fn a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for error in [Mapping::open(folder.path()).map(drop), read(folder.path()).map(drop)] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("is not a regular file"), "{error}");
        }
    }
}
