//! A checkpoint: named tensors in one file or several, whatever the format.
//!
//! Files are mapped, so nothing is read twice or copied: a tensor is a type, a shape, strides and a range of its file. A
//! sharded checkpoint adds an index, `model.safetensors.index.json` or `pytorch_model.bin.index.json`, which maps every
//! name to its shard. What a file's bytes mean is told by [`crate::safetensors`] and [`crate::torch`].
//!
//! Start at [`Checkpoint::open`]; `index` reads the shards' index.

mod index;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::map::Mapping;
use crate::{Dtype, FormatError, Kind, safetensors, torch};

/// A model's file of weights, and the index of its shards: the first that is there is read.
const WEIGHTS: &[[&str; 2]] =
    &[["model.safetensors", "model.safetensors.index.json"], ["pytorch_model.bin", "pytorch_model.bin.index.json"]];

/// A mapped checkpoint: one file or several, seen as one set of named tensors.
#[derive(Debug)]
pub struct Checkpoint {
    files: Vec<Mapping>,
    tensors: BTreeMap<String, Place>,
}

/// Where one tensor lies.
#[derive(Debug)]
struct Place {
    file: usize,
    tensor: Described,
}

/// A tensor as its file describes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Described {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// In elements. Every element that they lead to lies within `range`, whose first is element 0.
    pub(crate) strides: Vec<usize>,
    /// In bytes of the file; lies within it.
    pub(crate) range: Range<usize>,
}

/// The steps of a tensor whose last dimension is dense, in elements. They saturate, which only tensors without elements
/// can tell: others fit into their files.
pub(crate) fn row_major(shape: &[usize]) -> Vec<usize> {
    let step = |dim: usize| shape[dim..].iter().fold(1, |product: usize, &extent| product.saturating_mul(extent));
    (1..=shape.len()).map(step).collect()
}

impl Checkpoint {
    /// Opens a model's folder: its `model.safetensors`, or else the shards of its `model.safetensors.index.json`, or else
    /// the same of `pytorch_model.bin`.
    ///
    /// # Errors
    /// The folder holds neither; a shard is missing, lies elsewhere, repeats another's tensor or lacks one that the index
    /// puts there; a file is damaged or cannot be mapped.
    pub fn open(folder: &Path) -> Result<Checkpoint, FormatError> {
        for names in WEIGHTS {
            let [single, index] = names.map(|name| folder.join(name));
            if present(&single)? {
                return Checkpoint::open_file(&single);
            }
            if present(&index)? {
                return Checkpoint::open_shards(folder, &index);
            }
        }
        Err(FormatError::NoWeights { folder: folder.to_path_buf(), hint: hint(folder) })
    }

    /// Whether a folder holds weights that [`Checkpoint::open`] would read.
    pub fn is_in(folder: &Path) -> bool {
        WEIGHTS.concat().into_iter().any(|name| folder.join(name).exists())
    }

    /// Opens one file of any name; [`Kind`] says how its format is told.
    ///
    /// # Errors
    /// The file is damaged or cannot be mapped.
    pub fn open_file(path: &Path) -> Result<Checkpoint, FormatError> {
        let mut checkpoint = Checkpoint { files: Vec::new(), tensors: BTreeMap::new() };
        checkpoint.add(path)?;
        Ok(checkpoint)
    }

    fn open_shards(folder: &Path, path: &Path) -> Result<Checkpoint, FormatError> {
        let index = index::read(path)?;
        let mut checkpoint = Checkpoint { files: Vec::new(), tensors: BTreeMap::new() };
        for (shard, names) in index.by_shard() {
            let file = folder.join(shard);
            if !present(&file)? {
                return Err(FormatError::ShardMissing {
                    path: path.to_path_buf(),
                    shard: shard.to_owned(),
                    tensors: names.len(),
                    way_out: download(folder),
                    tensor: names[0].to_owned(),
                });
            }
            checkpoint.add(&file)?;
        }
        checkpoint.check_against(&index, path)?;
        Ok(checkpoint)
    }

    /// Maps one more file and lists its tensors.
    fn add(&mut self, path: &Path) -> Result<(), FormatError> {
        let mapping = Mapping::open(path)?;
        let found = described(path, mapping.bytes())?;
        let file = self.files.len();
        self.files.push(mapping);
        for (name, tensor) in found {
            match self.tensors.entry(name) {
                MapEntry::Vacant(free) => free.insert(Place { file, tensor }),
                MapEntry::Occupied(taken) => {
                    let first = self.files[taken.get().file].path().to_path_buf();
                    let tensor = taken.key().clone();
                    return Err(FormatError::TensorTwice { tensor, first, second: path.to_path_buf() });
                }
            };
        }
        Ok(())
    }

    /// Every name of the index must be in the shard that the index says; shards may hold more than the index lists.
    fn check_against(&self, index: &index::Index, path: &Path) -> Result<(), FormatError> {
        for (name, shard) in &index.weight_map {
            let holder = self.tensors.get(name).map(|place| self.files[place.file].path());
            if holder.is_some_and(|holder| holder.ends_with(shard)) {
                continue;
            }
            return Err(FormatError::TensorNotInShard {
                path: path.to_path_buf(),
                tensor: name.clone(),
                shard: shard.clone(),
                found: holder.map_or(String::new(), |holder| format!(" ({} does)", holder.display())),
            });
        }
        Ok(())
    }

    /// The tensor of that name, exactly as stored (with or without a prefix).
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.tensors.get_key_value(name).map(|(name, place)| self.view(name, place))
    }

    /// All tensors, ordered by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'_>> {
        self.tensors.iter().map(|(name, place)| self.view(name, place))
    }

    /// The mapped files, shards in the order of their names: their paths, and their bytes for hashing.
    pub fn files(&self) -> &[Mapping] {
        &self.files
    }

    fn view<'a>(&'a self, name: &'a str, place: &'a Place) -> Tensor<'a> {
        let file = &self.files[place.file];
        let Described { dtype, shape, strides, range } = &place.tensor;
        let bytes = &file.bytes()[range.clone()];
        Tensor { name, dtype: *dtype, shape, strides, bytes, file, range: range.clone() }
    }
}

/// One stored tensor, borrowed from the mapping.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// The name as stored.
    pub name: &'a str,
    /// The type of one element.
    pub dtype: Dtype,
    /// The extents, outermost first; empty for a scalar.
    pub shape: &'a [usize],
    /// The step of each dimension, in elements; see [`Tensor::is_dense`].
    pub strides: &'a [usize],
    /// The elements from the first to the last, little-endian, at any alignment: read them by `from_le_bytes`, never by a
    /// cast. Row by row where the tensor is dense.
    pub bytes: &'a [u8],
    file: &'a Mapping,
    range: Range<usize>,
}

impl<'a> Tensor<'a> {
    /// The file it lies in.
    pub fn path(&self) -> &'a Path {
        self.file.path()
    }

    /// Whether the elements follow one another row by row, as they do in every safetensors file.
    pub fn is_dense(&self) -> bool {
        let mut dims = self.shape.iter().zip(self.strides).zip(row_major(self.shape));
        self.shape.contains(&0) || dims.all(|((&extent, &stride), dense)| extent == 1 || stride == dense)
    }

    /// Asks the kernel to start reading this tensor's pages. (Tried against `MADV_SEQUENTIAL`: that would cut the mapping
    /// into one kernel area per tensor, and transposed reads are not sequential.)
    pub fn will_need(&self) {
        self.file.will_need(self.range.clone());
    }

    /// Bytes `range` of the tensor as it would lie row by row: those of the file where it does, else gathered.
    ///
    /// # Panics
    /// The range is not within the tensor, or does not begin and end with an element.
    pub fn read(&self, range: Range<usize>) -> Cow<'a, [u8]> {
        if self.is_dense() {
            return Cow::Borrowed(&self.bytes[range]);
        }
        let size = self.dtype.bits() / 8;
        assert!(range.start % size == 0 && range.end % size == 0, "{range:?} of elements of {size} bytes");
        let steps = row_major(self.shape);
        let mut gathered = Vec::with_capacity(range.len());
        for element in range.start / size..range.end / size {
            let along = steps.iter().zip(self.shape).map(|(step, extent)| element / step % extent);
            let place: usize = along.zip(self.strides).map(|(index, stride)| index * stride).sum();
            gathered.extend_from_slice(&self.bytes[place * size..][..size]);
        }
        Cow::Owned(gathered)
    }

    /// As [`Tensor::done_with`], for the bytes `range` of a dense tensor; of another one this does nothing.
    pub fn done_with_part(&self, range: Range<usize>) {
        if self.is_dense() {
            let start = self.range.start;
            self.file.done_with(start + range.start..start + range.end);
        }
    }

    /// Lets the kernel drop this tensor's pages from the process, so that a checkpoint larger than memory streams
    /// through; the bytes stay readable.
    pub fn done_with(&self) {
        self.file.done_with(self.range.clone());
    }
}

/// The tensors of one file.
fn described(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Described)>, FormatError> {
    let kind = Kind::begins(bytes).or_else(|| Kind::named(path));
    let path = path.to_path_buf();
    match kind {
        Some(Kind::LfsPointer) => Err(FormatError::LfsPointer { path }),
        Some(Kind::Torch) => torch::read(bytes).map_err(|problem| FormatError::Torch { path, problem }),
        _ => safetensors::read(bytes).map_err(|problem| FormatError::Safetensors { path, problem }),
    }
}

/// Whether something is there; an unreadable folder is an error, not an absence.
fn present(path: &Path) -> Result<bool, FormatError> {
    path.try_exists().map_err(|source| FormatError::Io { action: "open", path: path.to_path_buf(), source })
}

/// What the folder holds instead, for the error's way out.
fn hint(folder: &Path) -> String {
    let names = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path).map_or(Vec::new(), |entries| entries.flatten().map(|entry| entry.path()).collect())
    };
    if !folder.is_dir() {
        return " (there is no such folder)".to_owned();
    }
    let is_link = |name: &&str| folder.join(name).symlink_metadata().is_ok();
    if let Some(name) = WEIGHTS.concat().into_iter().find(is_link) {
        return format!(" ({name} is a link to what is not there{})", download(folder));
    }
    if cached_model(folder).is_some() {
        return download(folder);
    }
    let ends = |suffix: &str| names(folder).iter().any(|path| path.extension().is_some_and(|found| found == suffix));
    let others = [("safetensors", WEIGHTS[0][0]), ("bin", WEIGHTS[1][0])].into_iter().find(|(suffix, _)| ends(suffix));
    others.map_or(download(folder), |(suffix, name)| {
        format!(
            " (it holds .{suffix} files of other names: rename a single file to {name}, or add the index of the shards)"
        )
    })
}

/// The author and the name of the model whose snapshot a folder is in the hub's cache,
/// `models--AUTHOR--MODEL/snapshots/COMMIT` (huggingface_hub, "Understand caching").
pub fn cached_model(folder: &Path) -> Option<(&str, &str)> {
    let snapshots = folder.parent().filter(|parent| parent.ends_with("snapshots"))?;
    snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?.split_once("--")
}

/// What fetches the weights: for a folder of the hub's cache a command.
fn download(folder: &Path) -> String {
    cached_model(folder).map_or(": download the weights into it".to_owned(), |(author, model)| {
        format!(": `hf download {author}/{model}` completes it")
    })
}

#[cfg(test)]
mod tests;
