//! Where results go: regular files, whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use crate::{Error, Progress};

/// Refuses a name that something else than a file has: a result takes the name over, and would replace a device or a
/// pipe by a file.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() => {
            Err(Error::Refused(format!("{} is not a regular file: name another output", path.display())))
        }
        _ => Ok(()),
    }
}

/// Writes a text under a temporary name and gives it its own when it is complete.
///
/// # Errors
/// The file system's; a name that is no file's; an interruption, which leaves no file.
pub fn write_text(path: &Path, text: &str, progress: &dyn Progress) -> Result<(), Error> {
    check(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> io::Result<tempfile::NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".").suffix(".partial");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        Ok(file)
    };
    let written = write().map_err(Error::io("write", path))?;
    progress.go_on()?;
    written.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
    Ok(())
}
