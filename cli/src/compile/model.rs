//! What is compiled: settings, weights and tokenizer of a model, opened and checked against each other.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bloomery_artifact::Source;
use bloomery_formats::map;
use bloomery_models::config::{BloomConfig, GenerationSettings, WeightType};
use bloomery_models::names::{Names, Resolved, resolve};
use bloomery_models::sizes;
use bloomery_models::tokenizer::Tokenizer;
use bloomery_runtime::GenerationConfig;
use sha2::{Digest, Sha256};

use super::configured::{self, Types};
use super::{CompileOptions, ModelSource};
use crate::checkpoint::has_ranks;
use crate::generation::filled;
use crate::stored::{Input, STRIDE, StoredTensors, Told, folder_of};
use crate::{Error, Progress, find};

/// A model, opened.
pub(super) struct Loaded {
    pub(super) config: BloomConfig,
    pub(super) generation: GenerationSettings,
    pub(super) weights: Weights,
    pub(super) tokenizer: Option<Tokenizer>,
    /// Sentences for a person.
    pub(super) notes: Vec<String>,
    /// The types that a configuration asks for.
    pub(super) types: Option<Types>,
    /// The configuration's file.
    pub(super) yaml: Option<PathBuf>,
    folder: Option<PathBuf>,
}

/// Where the weights' values come from.
pub(super) enum Weights {
    /// A mapped checkpoint that holds all of them.
    Stored { checkpoint: StoredTensors, resolved: Resolved },
    /// A seed.
    Random(u64),
}

impl Weights {
    /// Whether they are stored in MindSpore's files.
    pub(super) fn are_mindspores(&self) -> bool {
        matches!(self, Weights::Stored { resolved, .. } if resolved.names == Names::MindSpore)
    }

    /// The type of a parameter, as stored.
    pub(super) fn dtype(&self, parameter: &str) -> WeightType {
        match self {
            Weights::Stored { resolved, .. } => resolved.weight_type(parameter),
            Weights::Random(_) => WeightType::F16,
        }
    }
}

impl Loaded {
    /// Opens a model; its weights are looked at, not read.
    pub(super) fn open(options: &CompileOptions, progress: &mut dyn Progress) -> Result<Loaded, Error> {
        let told = Told { strategy: options.source_strategy.as_deref(), key: options.key.as_ref() };
        match &options.model {
            ModelSource::Folder(folder) => {
                let path = find::noted(folder, progress)?;
                stored(&path, described(&path)?, told, progress)
            }
            ModelSource::Random { size, seed } => Ok(Loaded::random(sizes::by_name(size)?, *seed)),
            ModelSource::Configured(configured) => configured::open(configured, told, progress),
        }
    }

    /// A model without files.
    pub(super) fn random(config: BloomConfig, seed: u64) -> Loaded {
        let generation = GenerationSettings::of(&config);
        Loaded {
            config,
            generation,
            weights: Weights::Random(seed),
            tokenizer: None,
            notes: Vec::new(),
            types: None,
            yaml: None,
            folder: None,
        }
    }

    /// The type of a parameter where no option says one: as stored, or what a configuration makes of that.
    pub(super) fn dtype(&self, parameter: &str) -> WeightType {
        let stored = self.weights.dtype(parameter);
        self.types.map_or(stored, |types| types.of(parameter, stored))
    }

    /// Refuses an output that would take the place of a file the model is read from.
    pub(super) fn check_apart(&self, output: &Path) -> Result<(), Error> {
        let Ok(output_file) = output.canonicalize() else { return Ok(()) };
        let tokenizer = self.folder.iter().map(|folder| folder.join("tokenizer.json"));
        let stored = self.checkpoint().map(StoredTensors::files).unwrap_or_default();
        let mut inputs = stored.into_iter().map(|file| file.path().to_path_buf()).chain(self.small()).chain(tokenizer);
        if inputs.any(|input| input.canonicalize().is_ok_and(|input| input == output_file)) {
            let output = output.display();
            return Err(Error::Refused(format!("{output} is part of the model to be compiled: name another output")));
        }
        Ok(())
    }

    /// The small files that say what the model is.
    fn small(&self) -> impl Iterator<Item = PathBuf> {
        let in_folder = |folder: &PathBuf| ["config.json", "generation_config.json"].map(|name| folder.join(name));
        let strategy = self.checkpoint().map(StoredTensors::strategy_files).unwrap_or_default();
        self.folder.iter().flat_map(in_folder).chain(self.yaml.clone()).chain(strategy)
    }

    /// What is mapped.
    fn checkpoint(&self) -> Option<&StoredTensors> {
        match &self.weights {
            Weights::Stored { checkpoint, .. } => Some(checkpoint),
            Weights::Random(_) => None,
        }
    }

    /// Refuses weights that somebody wrote into since they were opened.
    pub(super) fn unchanged(&self) -> Result<(), Error> {
        self.checkpoint().map_or(Ok(()), StoredTensors::unchanged)
    }

    /// Names, sizes and hashes of all files that were read, in a fixed order. A small file that cannot be read again is
    /// left out: it was there a moment ago. Ends early, with hashes that mean nothing, once they are not `wanted`.
    pub(super) fn hashes(&self, wanted: &AtomicBool) -> Vec<Source> {
        let small = self.small().filter_map(|path| Some(hash(&path, &map::read(&path).ok()?, wanted)));
        let tokenizer = self.tokenizer.iter();
        let tokenizer = tokenizer.map(|tokenizer| hash(Path::new("tokenizer.json"), tokenizer.bytes(), wanted));
        let inputs = self.checkpoint().map(StoredTensors::inputs).unwrap_or_default();
        small.chain(tokenizer).chain(inputs.iter().map(|input| hash_input(input, wanted))).collect()
    }
}

/// What `config.json` says of the model whose weights are in a folder, or are a file.
pub(super) fn described(path: &Path) -> Result<BloomConfig, Error> {
    let folder = folder_of(path);
    let is_described = folder.join("config.json").exists();
    if !is_described && path.is_dir() && has_ranks(path)? {
        let path = path.display();
        return Err(Error::Refused(format!(
            "{path} has files of ranks and no config.json, nor has the folder around it: put the model's there, or compile a \
             YAML configuration whose load_checkpoint is {path}"
        )));
    }
    if !is_described && path.is_file() {
        let (path, folder) = (path.display(), folder.display());
        return Err(Error::Refused(format!(
            "{path} has no config.json beside it: put the model's into {folder}, let `convert {path} FOLDER --to hf --heads N` \
             make one, or compile a YAML configuration whose load_checkpoint is {path}"
        )));
    }
    Ok(BloomConfig::from_folder(&folder)?)
}

/// The model of that config whose weights are in a folder, or are a file.
pub(super) fn stored(
    path: &Path,
    config: BloomConfig,
    told: Told<'_>,
    progress: &mut dyn Progress,
) -> Result<Loaded, Error> {
    let folder = folder_of(path);
    let generation = GenerationSettings::from_folder(&folder, &config)?;
    let tokenizer = Tokenizer::from_folder(&folder)?;
    let checkpoint = StoredTensors::open(path, told, Names::HuggingFace, progress)?;
    let items = checkpoint.items();
    // What has no type of elements is a text that was appended.
    let tensors = items.iter().filter_map(|item| Some((item.name.as_str(), item.dtype?.name(), &item.shape[..])));
    let resolved = resolve(&config, checkpoint.names(), tensors).map_err(|source| {
        let file = source.stored().and_then(|tensor| checkpoint.path_of(tensor));
        Error::Names { path: file.unwrap_or(path).to_path_buf(), source }
    })?;
    let mut notes = [&config.notes[..], &checkpoint.notes(), &resolved.notes].concat();
    notes.extend(tokenizer.iter().flat_map(|tokenizer| about_ids(tokenizer, config.vocab)));
    notes.extend(impossible(&generation, "generation_config.json"));
    let weights = Weights::Stored { checkpoint, resolved };
    Ok(Loaded { config, generation, weights, tokenizer, notes, types: None, yaml: None, folder: Some(folder) })
}

/// What there is to say of settings of generation that contradict each other.
pub(super) fn impossible(generation: &GenerationSettings, whose: &str) -> Option<String> {
    let error = filled(generation, GenerationConfig::default()).check().err()?;
    Some(format!("{whose} asks for what cannot be, and runs have to ask otherwise: {error}"))
}

/// What to know of a tokenizer's ids beside a model of so many.
fn about_ids(tokenizer: &Tokenizer, vocab: usize) -> Vec<String> {
    let (ids, end) = (tokenizer.vocab(), tokenizer.end());
    let mut notes = Vec::new();
    if end > vocab {
        notes.push(format!(
            "the tokenizer has ids up to {}, the model up to {}: texts that need the others are refused",
            end - 1,
            vocab - 1
        ));
    }
    if end > ids {
        notes.push(format!(
            "the tokenizer has {ids} ids and leaves some out below its highest, {}: ids from {ids} on are never chosen",
            end - 1
        ));
    }
    notes
}

fn hash(path: &Path, bytes: &[u8], wanted: &AtomicBool) -> Source {
    let name = path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    let pieces = bytes.chunks(STRIDE).take_while(|_| wanted.load(Ordering::Relaxed));
    let hasher = pieces.fold(Sha256::new(), |hasher, piece| hasher.chain_update(piece));
    source(name, bytes.len(), hasher)
}

/// As [`hash`], of a mapped file, whose pages are let go of: one that is larger than memory streams through.
fn hash_input(input: &Input<'_>, wanted: &AtomicBool) -> Source {
    let mut hasher = Sha256::new();
    for part in &input.parts {
        let starts = part.clone().step_by(STRIDE).take_while(|_| wanted.load(Ordering::Relaxed));
        for start in starts {
            let piece = start..part.end.min(start + STRIDE);
            hasher.update(&input.file.bytes()[piece.clone()]);
            input.file.done_with(piece);
        }
    }
    source(input.name.clone(), input.parts.iter().map(Range::len).sum(), hasher)
}

fn source(name: String, bytes: usize, hasher: Sha256) -> Source {
    let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Source { name, bytes: bytes as u64, sha256 }
}
