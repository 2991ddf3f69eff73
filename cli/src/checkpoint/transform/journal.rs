//! What lets an interrupted transformation go on: a file in the new folder that says what is being made of what, and which
//! ranks are done. It is there only while something is left to do.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::TransformOptions;
use super::sides::Sides;
use super::sources::Sources;
use crate::Error;

/// The file's name.
const NAME: &str = ".transform.unfinished";

/// The ranks that are done, of the transformation that the file is of.
pub(super) struct Journal {
    path: PathBuf,
    done: BTreeSet<u32>,
}

impl Journal {
    /// Reads the file, if it is of this very transformation: the same files and strategies.
    pub(super) fn read(folder: &Path, mark: &str) -> Result<Option<Journal>, Error> {
        let path = folder.join(NAME);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Error::io("read", &path))?,
        };
        let mut lines = text.lines();
        if lines.next() != Some(mark) {
            return Ok(None);
        }
        // A line that was being written when the machine stopped is no number.
        Ok(Some(Journal { path, done: lines.filter_map(|line| line.strip_suffix('.')?.parse().ok()).collect() }))
    }

    /// Begins the file anew.
    pub(super) fn begin(folder: &Path, mark: &str) -> Result<Journal, Error> {
        let path = folder.join(NAME);
        if let Err(error) = fs::write(&path, format!("{mark}\n")) {
            // What there is of it says nothing.
            let _ = fs::remove_file(&path);
            return Err(Error::io("write", &path)(error));
        }
        Ok(Journal { path, done: BTreeSet::new() })
    }

    /// Whether a rank is done.
    pub(super) fn has(&self, rank: u32) -> bool {
        self.done.contains(&rank)
    }

    /// A rank is done.
    pub(super) fn add(&mut self, rank: u32) -> Result<(), Error> {
        self.done.insert(rank);
        let file = File::options().append(true).open(&self.path);
        file.and_then(|mut file| file.write_all(format!("{rank}.\n").as_bytes()))
            .map_err(Error::io("write", &self.path))
    }

    /// Nothing is left to do, or nothing was done.
    pub(super) fn remove(self) -> Result<(), Error> {
        fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))
    }

    /// Goes, if no rank is done.
    pub(super) fn give_up(self) {
        if self.done.is_empty() {
            // That something failed is being told already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What tells a transformation from others: its strategies, and its files with their sizes and times.
pub(super) fn mark(
    options: &TransformOptions,
    sides: &Sides,
    sources: &Sources,
    ranks: &[u32],
) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(options.prefix.as_bytes());
    for stages in [&sides.source, &sides.target] {
        let merged = stages.as_ref().map(|stages| stages.merged().encode()).transpose();
        let encoded = merged.map_err(|problem| Error::Refused(problem.to_string()))?;
        add(&encoded.unwrap_or_default());
    }
    let needed: BTreeSet<u32> = ranks.iter().flat_map(|rank| sides.needed(*rank)).collect();
    for rank in needed {
        let path = sources.rank(rank).path();
        let metadata = path.metadata().map_err(Error::io("read", path))?;
        let real = path.canonicalize().map_err(Error::io("find", path))?;
        add(real.as_os_str().as_encoded_bytes());
        add(&metadata.len().to_le_bytes());
        let changed = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        add(&changed.unwrap_or_default().as_nanos().to_le_bytes());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
