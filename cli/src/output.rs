//! Where results go: regular files, whole or not at all.

use std::io::Write;
use std::path::Path;

use bloomery_formats::Partial;

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

/// Refuses a name that something has, unless that is to be replaced.
pub(crate) fn untaken(path: &Path, force: bool) -> Result<(), Error> {
    if !force && path.symlink_metadata().is_ok() {
        let path = path.display();
        return Err(Error::Refused(format!(
            "{path} is there already: name another place, or say --force to replace it"
        )));
    }
    Ok(())
}

/// Both, for a file.
pub(crate) fn new(path: &Path, force: bool) -> Result<(), Error> {
    check(path)?;
    untaken(path, force)
}

/// Whether two names are of one file or folder that is there.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| other == one))
}

/// Refuses to write where something is read.
pub(crate) fn apart(target: &Path, source: &Path) -> Result<(), Error> {
    if is_same(target, source) {
        return Err(Error::Refused(format!("{} is what is read: name another place", target.display())));
    }
    Ok(())
}

/// Writes a text under a temporary name and gives it its own when it is complete.
///
/// # Errors
/// The file system's; a name that is no file's; an interruption, which leaves no file.
pub fn write_text(path: &Path, text: &str, progress: &dyn Progress) -> Result<(), Error> {
    check(path)?;
    let mut partial = Partial::begin(path).map_err(Error::io("write", path))?;
    partial.write_all(text.as_bytes()).map_err(Error::io("write", path))?;
    progress.go_on()?;
    partial.complete().map_err(Error::io("write", path))
}
