//! A checkpoint of any kind, opened: tensors by name, read in parts.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bloomery_formats::map::Mapping;
use bloomery_formats::mindspore::{self, Entry, Key, MindsporeCheckpoint};
use bloomery_formats::{Checkpoint, Dtype};
use bloomery_models::names::Names;

use crate::Error;

/// An opened checkpoint.
#[derive(Debug)]
pub(crate) enum StoredTensors {
    /// Hugging Face's: safetensors or torch's files.
    Common(Checkpoint),
    /// MindSpore's.
    MindSpore(Box<MindsporeCheckpoint>),
}

/// A tensor, or a text, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// As MindSpore spells it where it has the type.
    pub(crate) ty: &'static str,
    /// The type of elements; a text has none.
    pub(crate) dtype: Option<Dtype>,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: usize,
}

/// Bytes that are looked at together: whole elements of every type.
pub(crate) const STRIDE: usize = 4 << 20;

impl StoredTensors {
    /// Opens a file, whatever its format, or a folder: its one checkpoint of MindSpore's if it has weights of that kind
    /// alone or these are `preferred`.
    pub(crate) fn open(path: &Path, key: Option<&Key>, preferred: Names) -> Result<StoredTensors, Error> {
        if !path.is_dir() {
            return StoredTensors::open_file(path, key);
        }
        if preferred == Names::HuggingFace && Checkpoint::is_in(path) {
            return Ok(StoredTensors::Common(Checkpoint::open(path)?));
        }
        match only_in(path)? {
            Some(file) => StoredTensors::open_file(&file, key),
            None => Ok(StoredTensors::Common(Checkpoint::open(path)?)),
        }
    }

    fn open_file(path: &Path, key: Option<&Key>) -> Result<StoredTensors, Error> {
        let named = path.extension().is_some_and(|extension| extension == "ckpt");
        if named || mindspore::begins(path)? {
            return Ok(StoredTensors::MindSpore(Box::new(MindsporeCheckpoint::open(path, key)?)));
        }
        match key {
            Some(_) => Err(Error::Refused(format!("{} is not encrypted: leave the key out", path.display()))),
            None => Ok(StoredTensors::Common(Checkpoint::open_file(path)?)),
        }
    }

    /// Whose it is.
    pub(crate) fn names(&self) -> Names {
        match self {
            StoredTensors::Common(_) => Names::HuggingFace,
            StoredTensors::MindSpore(_) => Names::MindSpore,
        }
    }

    /// Everything in it: of MindSpore's in the order of the file, else by name.
    pub(crate) fn items(&self) -> Vec<Item> {
        match self {
            StoredTensors::Common(checkpoint) => checkpoint.tensors().map(|tensor| common(&tensor)).collect(),
            StoredTensors::MindSpore(checkpoint) => checkpoint.entries().iter().map(entry).collect(),
        }
    }

    /// Bytes `range` of a tensor, row by row.
    pub(crate) fn read(&self, name: &str, range: Range<usize>) -> Result<Cow<'_, [u8]>, Error> {
        match self {
            StoredTensors::Common(checkpoint) => Ok(checkpoint.tensor(name).expect(THERE).read(range)),
            StoredTensors::MindSpore(checkpoint) => Ok(checkpoint.read(checkpoint.entry(name).expect(THERE), range)?),
        }
    }

    /// Lets go of what was read.
    pub(crate) fn done_with(&self, name: &str, range: Range<usize>) {
        match self {
            StoredTensors::Common(checkpoint) => checkpoint.tensor(name).expect(THERE).done_with_part(range),
            StoredTensors::MindSpore(checkpoint) => checkpoint.done_with(checkpoint.entry(name).expect(THERE), range),
        }
    }

    /// As [`StoredTensors::done_with`], for all of a tensor, however it lies.
    pub(crate) fn done_with_all(&self, name: &str) {
        match self {
            StoredTensors::Common(checkpoint) => checkpoint.tensor(name).expect(THERE).done_with(),
            StoredTensors::MindSpore(checkpoint) => {
                let entry = checkpoint.entry(name).expect(THERE);
                checkpoint.done_with(entry, 0..entry.bytes);
            }
        }
    }

    /// Hands the bytes of a tensor on, some megabytes at a time.
    pub(crate) fn stream(&self, item: &Item, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        for start in (0..item.bytes).step_by(STRIDE) {
            let range = start..(start + STRIDE).min(item.bytes);
            take(&self.read(&item.name, range.clone())?)?;
            self.done_with(&item.name, range);
        }
        Ok(())
    }

    /// The file that a tensor is in.
    pub(crate) fn path_of(&self, name: &str) -> Option<&Path> {
        match self {
            StoredTensors::Common(checkpoint) => Some(checkpoint.tensor(name)?.path()),
            StoredTensors::MindSpore(checkpoint) => checkpoint.entry(name).map(|_| checkpoint.path()),
        }
    }

    /// The mapped files.
    pub(crate) fn files(&self) -> &[Mapping] {
        match self {
            StoredTensors::Common(checkpoint) => checkpoint.files(),
            StoredTensors::MindSpore(checkpoint) => std::slice::from_ref(checkpoint.file()),
        }
    }

    /// Refuses files that somebody wrote into since they were opened.
    pub(crate) fn unchanged(&self) -> Result<(), Error> {
        Ok(self.files().iter().try_for_each(Mapping::unchanged)?)
    }

    /// What a reader should know.
    pub(crate) fn notes(&self) -> &[String] {
        match self {
            StoredTensors::Common(_) => &[],
            StoredTensors::MindSpore(checkpoint) => checkpoint.notes(),
        }
    }
}

const THERE: &str = "names come from `items`";

/// A folder's one checkpoint of MindSpore's; nothing where there is none.
pub(crate) fn only_in(folder: &Path) -> Result<Option<PathBuf>, Error> {
    let mut found = mindspore::checkpoints_in(folder)?;
    match &found[..] {
        [] | [_] => Ok(found.pop()),
        several => Err(Error::Refused(format!(
            "{} holds {} checkpoints, {} and {} among them: name the file that is meant",
            folder.display(),
            several.len(),
            several[0].file_name().unwrap_or_default().to_string_lossy(),
            several[1].file_name().unwrap_or_default().to_string_lossy()
        ))),
    }
}

fn common(tensor: &bloomery_formats::Tensor<'_>) -> Item {
    Item {
        name: tensor.name.to_owned(),
        ty: tensor.dtype.mindspore().unwrap_or(tensor.dtype.name()),
        dtype: Some(tensor.dtype),
        shape: tensor.shape.to_vec(),
        bytes: tensor.dtype.bytes(tensor.shape).unwrap_or(tensor.bytes.len()),
    }
}

fn entry(entry: &Entry) -> Item {
    Item {
        name: entry.name.clone(),
        ty: entry.kind.name(),
        dtype: entry.dtype(),
        shape: entry.shape.clone(),
        bytes: entry.bytes,
    }
}
