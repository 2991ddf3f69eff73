//! A file that appears under its name only when it is complete: it grows under a temporary one in the same folder, and is
//! gone if it is given up.

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
    fn errors_name_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = Partial::begin(&folder.path().join("none/file")).unwrap_err();
        assert_eq!(error.to_string(), io::Error::from_raw_os_error(2).to_string());
    }
}
