//! A checkpoint of any kind, opened: tensors by name, read in parts.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bloomery_formats::map::Mapping;
use bloomery_formats::mindspore::{self, Entry, Key, MindsporeCheckpoint};
use bloomery_formats::{Checkpoint, Dtype, Kind};
use bloomery_models::names::Names;

use crate::checkpoint::{Whole, around, has_ranks};
use crate::inspect::is_artifact;
use crate::{Error, Progress};

/// An opened checkpoint.
#[derive(Debug)]
pub(crate) enum StoredTensors {
    /// Hugging Face's: safetensors or torch's files.
    Common(Checkpoint),
    /// MindSpore's.
    MindSpore(Box<MindsporeCheckpoint>),
    /// MindSpore's, in files of ranks that share it.
    Ranks(Box<Whole>),
}

/// What files do not say themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told<'a> {
    /// How ranks share what is in a folder with theirs.
    pub(crate) strategy: Option<&'a Path>,
    /// What opens encrypted files.
    pub(crate) key: Option<&'a Key>,
}

/// A file that something was read of.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    /// Its name, or what of it was read.
    pub(crate) name: String,
    pub(crate) file: &'a Mapping,
    /// The bytes of it.
    pub(crate) parts: Vec<Range<usize>>,
}

impl<'a> Input<'a> {
    /// All of a file.
    pub(crate) fn all(file: &'a Mapping) -> Input<'a> {
        let name = file.path().file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
        Input { name, file, parts: std::iter::once(0..file.bytes().len()).collect() }
    }
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
    /// Opens a file, whatever its format, or a folder: its one checkpoint of MindSpore's, or that of its ranks, if it has
    /// weights of that kind alone or these are `preferred`.
    pub(crate) fn open(
        path: &Path,
        told: Told<'_>,
        preferred: Names,
        progress: &mut dyn Progress,
    ) -> Result<StoredTensors, Error> {
        let Told { strategy, key } = told;
        match path.is_dir() {
            false if strategy.is_some() => Err(Error::Refused(format!(
                "{} is no folder with rank_N/*.ckpt that --src-strategy could be about: leave it out",
                path.display()
            ))),
            false => StoredTensors::open_file(path, key),
            true if strategy.is_some() => StoredTensors::open_ranks(path, told, progress),
            true if preferred == Names::HuggingFace && Checkpoint::is_in(path) => StoredTensors::open_common(path, key),
            true => match only_in(path)? {
                Some(file) => StoredTensors::open_file(&file, key),
                None if has_ranks(path)? => StoredTensors::open_ranks(path, told, progress),
                None => StoredTensors::open_common(path, key),
            },
        }
    }

    fn open_ranks(path: &Path, told: Told<'_>, progress: &mut dyn Progress) -> Result<StoredTensors, Error> {
        Ok(StoredTensors::Ranks(Box::new(Whole::open(path, told.strategy, told.key, progress)?)))
    }

    fn open_file(path: &Path, key: Option<&Key>) -> Result<StoredTensors, Error> {
        let what = match Kind::of(path)? {
            Some(Kind::Mindspore) => {
                return Ok(StoredTensors::MindSpore(Box::new(MindsporeCheckpoint::open(path, key)?)));
            }
            Some(Kind::Safetensors | Kind::Torch | Kind::LfsPointer) => return StoredTensors::open_common(path, key),
            Some(Kind::Strategy) => "a strategy file, which `bloomery strategy show` shows",
            Some(Kind::MindRecord | Kind::Database) => "a data set's, which `bloomery data show` shows",
            Some(Kind::RankTable) => "a rank table, which `bloomery ranktable check` reads",
            Some(Kind::Json) => "a document of JSON",
            None if is_artifact(path) => "an artifact, which `bloomery inspect` shows",
            None => "nothing known",
        };
        let path = path.display();
        Err(Error::Refused(format!(
            "{path} is {what}: give a checkpoint of safetensors, torch or MindSpore, or a folder"
        )))
    }

    fn open_common(path: &Path, key: Option<&Key>) -> Result<StoredTensors, Error> {
        if key.is_some() {
            return Err(Error::Refused(format!("{} is not encrypted: leave the key out", path.display())));
        }
        let checkpoint = if path.is_dir() { Checkpoint::open(path) } else { Checkpoint::open_file(path) };
        Ok(StoredTensors::Common(checkpoint?))
    }

    /// Whose it is.
    pub(crate) fn names(&self) -> Names {
        match self {
            StoredTensors::Common(_) => Names::HuggingFace,
            StoredTensors::MindSpore(_) | StoredTensors::Ranks(_) => Names::MindSpore,
        }
    }

    /// Everything in it: of MindSpore's in the order of the file, else by name.
    pub(crate) fn items(&self) -> Vec<Item> {
        match self {
            StoredTensors::Common(checkpoint) => checkpoint.tensors().map(|tensor| common(&tensor)).collect(),
            StoredTensors::MindSpore(checkpoint) => checkpoint.entries().iter().map(entry).collect(),
            StoredTensors::Ranks(whole) => whole.items(),
        }
    }

    /// Bytes `range` of a tensor, row by row.
    pub(crate) fn read(&self, name: &str, range: Range<usize>) -> Result<Cow<'_, [u8]>, Error> {
        match self {
            StoredTensors::Common(checkpoint) => Ok(checkpoint.tensor(name).expect(THERE).read(range)),
            StoredTensors::MindSpore(checkpoint) => Ok(checkpoint.read(checkpoint.entry(name).expect(THERE), range)?),
            StoredTensors::Ranks(whole) => Ok(Cow::Owned(whole.read(name, range)?)),
        }
    }

    /// What a text says.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match self {
            StoredTensors::Common(_) => Ok(None),
            StoredTensors::MindSpore(checkpoint) => Ok(checkpoint.text(checkpoint.entry(name).expect(THERE))?),
            StoredTensors::Ranks(whole) => whole.text(name),
        }
    }

    /// Lets go of what was read; ranks' files were let go of at once.
    pub(crate) fn done_with(&self, name: &str, range: Range<usize>) {
        match self {
            StoredTensors::Common(checkpoint) => checkpoint.tensor(name).expect(THERE).done_with_part(range),
            StoredTensors::MindSpore(checkpoint) => checkpoint.done_with(checkpoint.entry(name).expect(THERE), range),
            StoredTensors::Ranks(_) => {}
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
            StoredTensors::Ranks(_) => {}
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

    /// The file that a tensor is in, or one of them.
    pub(crate) fn path_of(&self, name: &str) -> Option<&Path> {
        match self {
            StoredTensors::Common(checkpoint) => Some(checkpoint.tensor(name)?.path()),
            StoredTensors::MindSpore(checkpoint) => checkpoint.entry(name).map(|_| checkpoint.path()),
            StoredTensors::Ranks(whole) => whole.path_of(name),
        }
    }

    /// The mapped files.
    pub(crate) fn files(&self) -> Vec<&Mapping> {
        match self {
            StoredTensors::Common(checkpoint) => checkpoint.files().iter().collect(),
            StoredTensors::MindSpore(checkpoint) => vec![checkpoint.file()],
            StoredTensors::Ranks(whole) => whole.files(),
        }
    }

    /// What is read of them.
    pub(crate) fn inputs(&self) -> Vec<Input<'_>> {
        match self {
            StoredTensors::Ranks(whole) => whole.inputs(),
            _ => self.files().into_iter().map(Input::all).collect(),
        }
    }

    /// The files that say how ranks share it.
    pub(crate) fn strategy_files(&self) -> Vec<PathBuf> {
        if let StoredTensors::Ranks(whole) = self { whole.strategy_files() } else { Vec::new() }
    }

    /// Refuses files that somebody wrote into since they were opened.
    pub(crate) fn unchanged(&self) -> Result<(), Error> {
        Ok(self.files().into_iter().try_for_each(Mapping::unchanged)?)
    }

    /// What a reader should know.
    pub(crate) fn notes(&self) -> Vec<String> {
        match self {
            StoredTensors::Common(_) => Vec::new(),
            StoredTensors::MindSpore(checkpoint) => checkpoint.notes().to_vec(),
            StoredTensors::Ranks(whole) => whole.notes(),
        }
    }
}

const THERE: &str = "names come from `items`";

/// The folder with what is beside weights, such as `config.json`: that of a file; that of ranks' folders, or the one around
/// it where that alone has one.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    if path.is_file() {
        return path.parent().unwrap_or(Path::new("")).to_path_buf();
    }
    let around = around(path);
    let has = |folder: &Path| folder.join("config.json").exists();
    if !has(path) && has(&around) && has_ranks(path).unwrap_or(false) { around } else { path.to_path_buf() }
}

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

/// What is listed of an entry.
pub(crate) fn entry(entry: &Entry) -> Item {
    Item {
        name: entry.name.clone(),
        ty: entry.kind.name(),
        dtype: entry.dtype(),
        shape: entry.shape.clone(),
        bytes: entry.bytes,
    }
}
