//! A file or a folder that appears under its name only when it is complete: it grows under a temporary one in the same
//! folder, and is gone if it is given up.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

/// A file that grows. Errors are the system's alone, without the temporary name, which says nothing to anybody.
#[derive(Debug)]
pub struct Partial {
    file: BufWriter<File>,
    temporary: TempPath,
    path: PathBuf,
}

impl Partial {
    /// Begins what will be the file at `path`; others may read it then.
    ///
    /// # Errors
    /// There is no such folder, or nothing can be written there.
    pub fn begin(path: &Path) -> io::Result<Partial> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Made here, and not by `tempfile`, whose files nobody else may read.
        let make = |path: &Path| File::options().write(true).create_new(true).open(path);
        let mut builder = tempfile::Builder::new();
        let (file, temporary) = builder.prefix(".").suffix(".partial").make_in(folder, make)?.into_parts();
        Ok(Partial { file: BufWriter::with_capacity(1 << 20, file), temporary, path: path.to_path_buf() })
    }

    /// Its name until then, for those who write by a name.
    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// What is left cannot be written, or the name be given.
    pub fn complete(self) -> io::Result<()> {
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.temporary.persist(&self.path).map_err(|error| error.error)
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Partial {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A folder that is filled. What is in it is written as anywhere else, into [`PartialFolder::folder`].
#[derive(Debug)]
pub struct PartialFolder {
    temporary: PathBuf,
    path: PathBuf,
}

impl PartialFolder {
    /// Begins what will be the folder at `path`.
    ///
    /// # Errors
    /// There is no folder that it would be in, or nothing can be made there.
    pub fn begin(path: &Path) -> io::Result<PartialFolder> {
        let mut tries = 0;
        loop {
            let temporary = beside(path, tries, "partial");
            match std::fs::create_dir(&temporary) {
                Ok(()) => return Ok(PartialFolder { temporary, path: path.to_path_buf() }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < 1000 => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is filled.
    pub fn folder(&self) -> &Path {
        &self.temporary
    }

    /// Gives the folder its name. A folder that has it goes, with all that is in it, when the new one is in its place.
    ///
    /// # Errors
    /// The system refuses; then the old folder is where it was.
    pub fn complete(self) -> io::Result<()> {
        if !self.path.exists() {
            return std::fs::rename(&self.temporary, &self.path);
        }
        let old = beside(&self.path, 0, "old");
        std::fs::rename(&self.path, &old)?;
        if let Err(error) = std::fs::rename(&self.temporary, &self.path) {
            std::fs::rename(&old, &self.path)?;
            return Err(error);
        }
        std::fs::remove_dir_all(&old)
    }
}

/// What has been written goes with a folder that is given up.
impl Drop for PartialFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.temporary);
    }
}

/// A hidden name of this process beside a path.
fn beside(path: &Path, tries: u32, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{tries}.{what}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_complete_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let entries = || std::fs::read_dir(folder.path()).unwrap().count();
        let begun = |bytes: &[u8]| {
            let mut partial = Partial::begin(&path).unwrap();
            partial.write_all(bytes).unwrap();
            partial
        };
        drop(begun(b"given up"));
        assert_eq!(entries(), 0);
        let partial = begun(b"whole");
        assert!(!path.exists() && entries() == 1);
        partial.complete().unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), entries()), (b"whole".to_vec(), 1));
    }

    #[test]
    fn a_folder_is_there_when_it_is_complete_and_takes_the_place_of_another() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("model");
        let entries = || std::fs::read_dir(parent.path()).unwrap().count();
        let filled = |text: &str| {
            let partial = PartialFolder::begin(&path).unwrap();
            std::fs::write(partial.folder().join(text), text).unwrap();
            partial
        };
        drop(filled("given up"));
        assert_eq!(entries(), 0);
        for text in ["one", "two"] {
            let partial = filled(text);
            assert!(!path.join(text).exists());
            partial.complete().unwrap();
            assert_eq!((std::fs::read_dir(&path).unwrap().count(), entries()), (1, 1));
            assert!(path.join(text).exists());
        }
        assert!(PartialFolder::begin(&parent.path().join("none/model")).is_err());
    }

    #[test]
    fn errors_name_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = Partial::begin(&folder.path().join("none/file")).unwrap_err();
        assert_eq!(error.to_string(), io::Error::from_raw_os_error(2).to_string());
    }
}
