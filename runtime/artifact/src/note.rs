//! Notes on artifacts whose weights were all found whole, so that the next process need not hash the same bytes again:
//! hashing reads the weights once more, and of a process that runs one prompt that was half the time.
//!
//! A note is a small file in a folder that the caller names. It holds the artifact's path, size, place on the disk and
//! the time of its last change, which programs cannot set back where the file system keeps it; an artifact of which one of
//! them differs has no note. What a note cannot tell is damage that gave the file no time: by a disk, or by writes through
//! a map of it whose pages had been written before. `Check::Lazy` and `Check::Full` find that; `bloomery verify` then
//! [forgets](forget) the note.

use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::time::Duration;
use std::time::SystemTime;

use tempfile::NamedTempFile;
use twox_hash::XxHash3_64;

/// Removes the note of an artifact, if it has one: it was found damaged.
pub fn forget(path: &Path, folder: &Path) {
    if let Ok(path) = path.canonicalize() {
        // There may be none.
        let _ = fs::remove_file(file_of(&path, folder));
    }
}

/// Where the note of an artifact lies.
fn file_of(path: &Path, folder: &Path) -> PathBuf {
    folder.join(format!("{:016x}", XxHash3_64::oneshot(path.as_os_str().as_encoded_bytes())))
}

/// A file that changed so shortly ago could change again within the same tick of its file system's clock.
#[cfg(unix)]
const TICK: Duration = Duration::from_secs(2);

/// The note that an artifact has, or would have.
pub(crate) struct Note {
    file: PathBuf,
    text: String,
}

impl Note {
    /// What is noted of a file, in a folder of notes; nothing of one that changed just before `now`, or where the system
    /// does not tell files apart.
    pub(crate) fn of(path: &Path, metadata: &Metadata, folder: &Path, now: SystemTime) -> Option<Note> {
        let path = path.canonicalize().ok()?;
        let text = format!("{}\n{}\n", path.display(), identity(metadata, now)?);
        Some(Note { file: file_of(&path, folder), text })
    }

    /// Whether it was written.
    pub(crate) fn is_there(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|text| text == self.text)
    }

    /// Writes it, in place of an older one of the same path.
    pub(crate) fn write(&self) -> io::Result<()> {
        let folder = self.file.parent().expect("it is in a folder");
        fs::create_dir_all(folder)?;
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(self.text.as_bytes())?;
        file.persist(&self.file)?;
        Ok(())
    }
}

/// Which file this is, and as of when.
#[cfg(unix)]
fn identity(metadata: &Metadata, now: SystemTime) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let changed = Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
    let age = now.duration_since(SystemTime::UNIX_EPOCH + changed).ok()?;
    let (bytes, device, inode) = (metadata.len(), metadata.dev(), metadata.ino());
    (age > TICK).then(|| format!("{bytes} bytes, device {device}, inode {inode}, changed at {changed:?}"))
}

#[cfg(not(unix))]
fn identity(_: &Metadata, _: SystemTime) -> Option<String> {
    None
}
