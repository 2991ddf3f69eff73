//! `convert`: a model's weights from Hugging Face's files to MindSpore's and back, to the bit.
//!
//! Names and layouts are `models`' ([`mindspore`]): each tensor of the new checkpoint is the same as one of the old, or its
//! transpose, or blocks of it. [`fill`] makes it some megabytes at a time, and they are written at once, so that a
//! checkpoint may be larger than memory. MindFormers writes names bare; what stood before Hugging Face's is kept aside in
//! the new folder's `config.json`, and comes back with it ([`describe`]). A file or a folder appears when it is complete.

mod describe;
mod fill;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bloomery_formats::mindspore::{Key, MindsporeWriter};
use bloomery_formats::safetensors::SafetensorsWriter;
use bloomery_formats::{Dtype, PartialFolder};
use bloomery_models::config::{BloomConfig, WeightType};
use bloomery_models::names::mindspore::{self, How, Made};
use bloomery_models::names::{self, Names, stored_name};
use serde::Serialize;

use crate::checkpoint::is_ckpt;
use crate::compile::in_order::in_order;
use crate::stored::{Item, StoredTensors, Told, folder_of};
use crate::{Error, Progress, find, output};
use describe::{Described, PREFIX};
pub use fill::Lost;
use fill::Piece;

/// What to convert, and how.
#[derive(Clone, Debug)]
pub struct ConvertOptions {
    /// A model's folder or name, or a file of weights; a `config.json` beside it says its sizes.
    pub source: PathBuf,
    /// A folder, or for MindSpore a file whose name ends in `.ckpt`.
    pub target: PathBuf,
    /// Whose files to make.
    pub to: Names,
    /// The type that all weights get; as stored when nothing is said.
    pub dtype: Option<WeightType>,
    /// Bytes of a shard of Hugging Face's files, at most.
    pub shard_bytes: u64,
    /// Heads, where no `config.json` says them.
    pub heads: Option<usize>,
    /// What opens an encrypted checkpoint.
    pub key: Option<Key>,
    /// How ranks share the source, if it is a folder with `rank_N/*.ckpt`; looked for when nothing is said.
    pub source_strategy: Option<PathBuf>,
    /// Whether what is there already is replaced.
    pub force: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Converted {
    /// Where.
    pub target: PathBuf,
    /// The files, by their names in the folder; of a single file, its own.
    pub files: Vec<String>,
    /// How many tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Numbers that the new type cannot hold.
    #[serde(flatten)]
    pub lost: Lost,
    /// What to know.
    pub notes: Vec<String>,
}

/// The name of a new checkpoint in its folder.
const CKPT: &str = "model.ckpt";

/// What belongs to a model beside its weights and `config.json`, and is copied.
const BESIDE: &[&str] = &[
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
];

/// Converts a checkpoint.
///
/// # Errors
/// Weights that are no BLOOM's or do not fit what is said of them, something that is there already, a refusal of the file
/// system, an interruption: nothing is left of what was begun.
pub fn convert(options: &ConvertOptions, progress: &mut dyn Progress) -> Result<Converted, Error> {
    let ConvertOptions { target, to, force, .. } = options;
    output::untaken(target, *force || is_empty_folder(target))?;
    check_name(target, *to)?;
    let source = find::noted(&options.source, progress)?;
    let model = Model::open(&source, options, progress)?;
    let mut notes = model.notes.clone();
    let is_file = *to == Names::MindSpore && is_ckpt(target);
    if is_file {
        notes.extend(model.lost_prefix());
        output::check(target)?;
    } else {
        check_folder(target, &source)?;
    }
    let mut writing = Writing { model: &model, options, lost: Lost::default(), progress };
    let bytes = model.tensors.iter().map(|tensor| tensor.bytes() as u64).sum();
    writing.progress.begin("convert", bytes);
    let files = if is_file {
        writing.checkpoint(target)?;
        vec![target.file_name().unwrap_or_default().to_string_lossy().into_owned()]
    } else {
        let failed = |source| Error::Io { action: "write", path: target.clone(), source };
        let folder = PartialFolder::begin(target).map_err(failed)?;
        let files = writing.folder(folder.folder()).map_err(|error| error.within(folder.folder(), target))?;
        writing.progress.go_on()?;
        folder.complete().map_err(failed)?;
        files
    };
    let lost = writing.lost;
    progress.end("");
    Ok(Converted { target: target.clone(), files, tensors: model.tensors.len(), bytes, lost, notes })
}

/// Refuses a name by which people would take a new folder for a file.
fn check_name(target: &Path, to: Names) -> Result<(), Error> {
    let extension = target.extension().unwrap_or_default();
    let is_taken = ["safetensors", "bin"].iter().any(|other| extension == *other);
    if !target.is_dir() && (is_taken || to == Names::HuggingFace && is_ckpt(target)) {
        let file = if to == Names::MindSpore { ", or a file NAME.ckpt" } else { "" };
        return Err(Error::Refused(format!("{} is a file's name: name a folder{file}", target.display())));
    }
    Ok(())
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Refuses to replace a folder that is read from, or that holds something else than a model.
fn check_folder(target: &Path, source: &Path) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Refused(format!("{} {why}: name another place", target.display())));
    let Ok(metadata) = target.metadata() else { return Ok(()) };
    if !metadata.is_dir() {
        return refuse("is no folder".to_owned());
    }
    let real = |path: &Path| path.canonicalize().map_err(Error::io("find", path));
    if real(source)?.starts_with(real(target)?) {
        return refuse("is what is read".to_owned());
    }
    for entry in fs::read_dir(target).map_err(Error::io("read", target))? {
        let name = entry.map_err(Error::io("read", target))?.file_name().to_string_lossy().into_owned();
        let weights = ["safetensors", "bin", "ckpt"].iter().any(|suffix| name.ends_with(&format!(".{suffix}")));
        let index = name.ends_with(".index.json");
        if !weights && !index && name != "config.json" && !BESIDE.contains(&name.as_str()) {
            return refuse(format!("holds {name}, which is no part of a model and would be lost"));
        }
    }
    Ok(())
}

/// A tensor of the new checkpoint.
#[derive(Debug)]
struct Tensor {
    /// Its name, with what stands before it.
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    how: How,
    /// What it is made of.
    from: Vec<Item>,
}

impl Tensor {
    fn bytes(&self) -> usize {
        self.dtype.bytes(&self.shape).expect("it is made of what exists")
    }
}

/// What is converted, checked and planned.
struct Model {
    stored: StoredTensors,
    described: Described,
    /// The folder with what is beside the weights.
    folder: PathBuf,
    /// In the order in which they are listed: MindFormers' or the model's own.
    tensors: Vec<Tensor>,
    notes: Vec<String>,
}

impl Model {
    /// What to know when there is no `config.json` that keeps the prefix.
    fn lost_prefix(&self) -> Option<String> {
        let had = match self.described.prefix.as_str() {
            PREFIX => return None,
            "" => "nothing".to_owned(),
            other => format!("`{other}`"),
        };
        Some(format!(
            "names had {had} before them, not `{PREFIX}`, and a file cannot keep that: what is made of it will have \
             `{PREFIX}`; a folder keeps it"
        ))
    }

    fn open(source: &Path, options: &ConvertOptions, progress: &mut dyn Progress) -> Result<Model, Error> {
        let other = if options.to == Names::HuggingFace { Names::MindSpore } else { Names::HuggingFace };
        let told = Told { strategy: options.source_strategy.as_deref(), key: options.key.as_ref() };
        let stored = StoredTensors::open(source, told, other, progress)?;
        let folder = folder_of(source);
        let items = stored.items();
        let described = describe::described(&stored, &items, &folder, options)?;
        let weights = items.iter().filter_map(|item| Some((item, item.dtype?)));
        let tensors = weights.map(|(item, dtype)| (item.name.as_str(), dtype.name(), item.shape.clone()));
        let resolved = names::resolve(&described.config, stored.names(), tensors)
            .map_err(|source| Error::Names { path: stored.files()[0].path().to_path_buf(), source })?;
        let mut notes = [stored.notes(), resolved.notes].concat();
        let made = made(&described.config, stored.names(), options.to);
        let prefix = match (options.to, stored.names()) {
            (Names::MindSpore, _) => "",
            (_, Names::HuggingFace) => &resolved.prefix,
            (_, Names::MindSpore) => &described.prefix,
        };
        let by_name: BTreeMap<&str, &Item> = items.iter().map(|item| (item.name.as_str(), item)).collect();
        let mut used = BTreeSet::new();
        let tensors = made.into_iter().map(|Made { name, shape, from, how }| {
            let find = |name: &String| by_name[stored_name(&resolved.prefix, name).as_str()].clone();
            let from: Vec<Item> = from.iter().map(find).collect();
            used.extend(from.iter().map(|item| item.name.clone()));
            Tensor { name: stored_name(prefix, &name), dtype: dtype(options.dtype, &from), shape, how, from }
        });
        let tensors: Vec<Tensor> = tensors.collect();
        if stored.names() == Names::HuggingFace {
            let left: Vec<&str> = by_name.keys().copied().filter(|name| !used.contains(*name)).collect();
            if let Some(first) = left.first() {
                notes.push(format!("{} buffers are left out, such as {first}: they hold nothing learnt", left.len()));
            }
        }
        if options.to == Names::MindSpore && tensors.iter().any(|tensor| tensor.dtype == Dtype::Bf16) {
            notes.push("MindSpore 2.0.0 knows no BFloat16: say --dtype f32 or f16 for it".to_owned());
        }
        let described = Described {
            prefix: if stored.names() == Names::HuggingFace { resolved.prefix } else { described.prefix },
            ..described
        };
        Ok(Model { stored, described, folder, tensors, notes })
    }
}

/// The tensors of one side, made of another's or of its own.
fn made(config: &BloomConfig, from: Names, to: Names) -> Vec<Made> {
    let head = !config.tied_head;
    let same = |made: Made| Made { from: vec![made.name.clone()], how: How::Same, ..made };
    match (from, to) {
        (Names::HuggingFace, Names::MindSpore) => mindspore::of_hugging_face(config, head),
        (Names::MindSpore, Names::HuggingFace) => mindspore::to_hugging_face(config, head),
        (Names::HuggingFace, Names::HuggingFace) => {
            mindspore::to_hugging_face(config, head).into_iter().map(same).collect()
        }
        (Names::MindSpore, Names::MindSpore) => {
            mindspore::of_hugging_face(config, head).into_iter().map(same).collect()
        }
    }
}

/// The type of a tensor: what is asked for, or what it is made of, if that is one.
fn dtype(asked: Option<WeightType>, from: &[Item]) -> Dtype {
    let stored = from[0].dtype.expect("weights have types");
    match asked {
        Some(WeightType::F32) => Dtype::F32,
        Some(WeightType::F16) => Dtype::F16,
        Some(WeightType::Bf16) => Dtype::Bf16,
        None if from.iter().all(|item| item.dtype == Some(stored)) => stored,
        None => Dtype::F32,
    }
}

/// A conversion under way.
struct Writing<'a> {
    model: &'a Model,
    options: &'a ConvertOptions,
    lost: Lost,
    progress: &'a mut dyn Progress,
}

impl Writing<'_> {
    /// Writes one checkpoint of MindSpore's.
    fn checkpoint(&mut self, path: &Path) -> Result<(), Error> {
        let mut writer = MindsporeWriter::begin(path)?;
        self.fill(self.model.tensors.iter(), |piece, bytes| {
            let Tensor { name, dtype, shape, .. } = piece.tensor;
            if piece.is_first() {
                writer.tensor(name, *dtype, shape)?;
            }
            Ok(writer.write(bytes)?)
        })?;
        self.model.stored.unchanged()?;
        self.progress.go_on()?;
        Ok(writer.complete()?)
    }

    /// Fills a folder; the names of its files.
    fn folder(&mut self, folder: &Path) -> Result<Vec<String>, Error> {
        let mut files = match self.options.to {
            Names::MindSpore => {
                self.checkpoint(&folder.join(CKPT))?;
                vec![CKPT.to_owned()]
            }
            Names::HuggingFace => self.shards(folder)?,
        };
        let text = self.model.described.text(self.options.to, self.options.dtype);
        write(&folder.join("config.json"), text.as_bytes())?;
        files.push("config.json".to_owned());
        for name in BESIDE {
            let from = self.model.folder.join(name);
            if from.is_file() {
                let bytes = bloomery_formats::map::read(&from)?;
                write(&folder.join(name), &bytes)?;
                files.push((*name).to_owned());
            }
        }
        Ok(files)
    }

    /// Writes safetensors: one file, or as many as it takes that none is larger than a shard may be, with their index.
    fn shards(&mut self, folder: &Path) -> Result<Vec<String>, Error> {
        let model = self.model;
        let mut shards: Vec<(usize, Vec<&Tensor>)> = Vec::new();
        for tensor in &model.tensors {
            let bytes = tensor.bytes();
            match shards.last_mut() {
                Some((held, tensors)) if (*held + bytes) as u64 <= self.options.shard_bytes => {
                    *held += bytes;
                    tensors.push(tensor);
                }
                _ => shards.push((bytes, vec![tensor])),
            }
        }
        let count = shards.len();
        let name = |shard: usize| match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", shard + 1),
        };
        let mut index = BTreeMap::new();
        for (shard, (_, tensors)) in shards.iter().enumerate() {
            let heads =
                tensors.iter().map(|tensor| (tensor.name.clone(), tensor.dtype, tensor.shape.clone())).collect();
            let mut writer = SafetensorsWriter::begin(&folder.join(name(shard)), heads)?;
            let by_name: BTreeMap<&str, &Tensor> =
                tensors.iter().map(|tensor| (tensor.name.as_str(), *tensor)).collect();
            let order: Vec<String> = writer.order().map(str::to_owned).collect();
            self.fill(order.iter().map(|tensor| by_name[tensor.as_str()]), |_, bytes| Ok(writer.write(bytes)?))?;
            index.extend(order.into_iter().map(|tensor| (tensor, name(shard))));
            self.model.stored.unchanged()?;
            writer.complete()?;
        }
        let mut files: Vec<String> = (0..count).map(name).collect();
        if count > 1 {
            let total: usize = shards.iter().map(|(bytes, _)| bytes).sum();
            let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": index});
            let text = serde_json::to_string_pretty(&index).expect("plain data") + "\n";
            write(&folder.join("model.safetensors.index.json"), text.as_bytes())?;
            files.push("model.safetensors.index.json".to_owned());
        }
        Ok(files)
    }

    /// Makes tensors on all threads, and hands their pieces on in order.
    fn fill<'t>(
        &mut self,
        tensors: impl Iterator<Item = &'t Tensor>,
        mut out: impl FnMut(&Piece<'_>, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let stored = &self.model.stored;
        in_order(
            tensors.flat_map(|tensor| fill::pieces(stored, tensor)),
            |piece: Piece<'_>| {
                let mut lost = Lost::default();
                (piece.bytes(&mut lost), lost, piece)
            },
            |(bytes, lost, piece)| {
                let bytes = bytes?;
                self.progress.go_on()?;
                out(&piece, &bytes)?;
                self.lost.add(lost);
                self.progress.advance(bytes.len() as u64);
                drop(bytes);
                piece.done();
                Ok(())
            },
        )
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(Error::io("write", path))
}
