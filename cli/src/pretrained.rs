//! Models by the names people know, compiled on first use and kept.
//!
//! `from_pretrained` takes a folder, the name of a model that `find` knows, or an artifact. What has to be compiled goes
//! into a folder of artifacts under a name that says what went in: a hash of the options and of the model's files. Small
//! files are hashed whole; of large ones, which nobody should wait for, place, size and time of change. So a model that
//! changed is compiled again, and one that did not is mapped at once.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::thread;

use bloomery_artifact::{Artifact, Check, VERSION};
use bloomery_codegen::cpu::{CLASSES, Class};
use bloomery_formats::cached_model;
use bloomery_models::config::WeightType;
use bloomery_models::tokenizer::Tokenizer;
use bloomery_runtime::Session;
use sha2::{Digest, Sha256};

use crate::checkpoint::{ranks_in, strategy_places};
use crate::compile::{CompileOptions, Compute, ModelSource, compile};
use crate::execution::{Execution, tokenizer};
use crate::stored::folder_of;
use crate::targets::Target;
use crate::terminal::Terminal;
use crate::tokenize::tokenizer_of;
use crate::{Error, Progress, find};

/// Files up to so many bytes are hashed whole.
const SMALL: u64 = 1 << 20;

/// How a model is compiled on first use, kept, and run.
#[derive(Clone, Debug)]
pub struct PretrainedOptions {
    /// The folder of artifacts; `bloomery` in the user's folder of caches (`XDG_CACHE_HOME`) when nothing is said.
    pub cache: Option<PathBuf>,
    /// The type weights get; as stored when nothing is said.
    pub dtype: Option<WeightType>,
    /// What to make code for; when nothing is said, this machine alone, or the class that `execution` names.
    pub targets: Vec<Target>,
    /// The arithmetic of products.
    pub compute: Compute,
    /// The type of cached keys and values: f32 or f16; as exact as the weights when nothing is said.
    pub kv_dtype: Option<WeightType>,
    /// Tokens a sequence may have, prompt and answer together.
    pub max_context: u64,
    /// How to run.
    pub execution: Execution,
}

impl Default for PretrainedOptions {
    fn default() -> PretrainedOptions {
        let usual = CompileOptions::new(ModelSource::Folder(PathBuf::new()));
        PretrainedOptions {
            cache: None,
            dtype: usual.dtype,
            targets: vec![Target::Native],
            compute: usual.compute,
            kv_dtype: usual.kv_dtype,
            max_context: usual.max_context,
            execution: Execution::default(),
        }
    }
}

/// The door to models.
///
/// ```
/// use bloomery::{AutoModel, Chunk, Want};
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/hf/trained-web/model");
/// # let cache = tempfile::tempdir().unwrap();
/// # let options = bloomery::PretrainedOptions { cache: Some(cache.path().into()), targets: vec![bloomery::targets::Target::Interpreter], ..Default::default() };
/// // With the usual options: `AutoModel::from_pretrained("bigscience/bloomz-560m")?`.
/// let model = AutoModel::from_pretrained_with(folder, &options, &mut bloomery::Quiet)?;
/// let tokenizer = model.tokenizer()?.expect("the model came with one");
/// let ids = tokenizer.encode("In the beginning")?;
/// let mut session = model.session([ids.len()])?;
/// let chunk = Chunk { sequence: session.start(), ids: &ids, want: Want::Last };
/// session.step(&[chunk], |_, _, logits| assert_eq!(logits.len(), 4096))?;
/// # Ok::<(), bloomery::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum AutoModel {}

impl AutoModel {
    /// The model of a folder, of a name, or of an artifact, with the usual options. A first use compiles it, and shows how
    /// far that is.
    ///
    /// # Errors
    /// As [`AutoModel::from_pretrained_with`].
    pub fn from_pretrained(model: impl AsRef<Path>) -> Result<Model, Error> {
        AutoModel::from_pretrained_with(model, &PretrainedOptions::default(), &mut Terminal::new(|| false))
    }

    /// As [`AutoModel::from_pretrained`], with other options. An artifact is run as it was compiled.
    ///
    /// # Errors
    /// Nothing of that name is here; what [`compile`] refuses; an artifact that cannot be used here.
    pub fn from_pretrained_with(
        model: impl AsRef<Path>,
        options: &PretrainedOptions,
        progress: &mut dyn Progress,
    ) -> Result<Model, Error> {
        Model::open(&artifact(model.as_ref(), options, progress)?, options.execution.clone())
    }
}

/// The artifact of a model: itself, or what is kept of a folder or a name, compiled if there is none yet. What is neither
/// comes back as it is, for whoever opens it to refuse.
///
/// # Errors
/// Nothing of that name is here; what [`compile`] refuses.
pub fn artifact(model: &Path, options: &PretrainedOptions, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
    let found = find::noted(model, progress)?;
    if !found.is_dir() {
        return Ok(found);
    }
    let kept = kept(&found, options)?;
    if Artifact::open(&kept, Check::None).is_err() {
        progress.note(&format!("{} is compiled on first use, into {}", model.display(), kept.display()));
        let parent = kept.parent().expect("it is in a folder");
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        compile(&compile_options(&found, options), &kept, progress)?;
    }
    Ok(kept)
}

/// The door to tokenizers.
///
/// ```
/// use bloomery::AutoTokenizer;
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/hf/trained-web/model");
/// let tokenizer = AutoTokenizer::from_pretrained(folder)?;
/// let ids = tokenizer.encode("In the beginning")?;
/// assert_eq!(tokenizer.decode(&ids, true), "In the beginning");
/// # Ok::<(), bloomery::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum AutoTokenizer {}

impl AutoTokenizer {
    /// The tokenizer of a model's folder or name, of an artifact, or in a `tokenizer.json`.
    ///
    /// # Errors
    /// Nothing of that name is here, or it holds no tokenizer.
    pub fn from_pretrained(model: impl AsRef<Path>) -> Result<Tokenizer, Error> {
        tokenizer_of(&find::local(model.as_ref())?)
    }
}

/// A model that is mapped. Clones share it, and so may threads: each takes a [`Session`] of its own.
#[derive(Clone)]
pub struct Model {
    artifact: Arc<Artifact>,
    tokenizer: Arc<Reading>,
    execution: Execution,
}

/// A tokenizer that another thread reads meanwhile: a large one takes longer than all else that opening a model does.
type Reading = LazyLock<Read, Box<dyn FnOnce() -> Read + Send>>;
type Read = Result<Option<Tokenizer>, String>;

impl Model {
    /// Maps an artifact.
    ///
    /// # Errors
    /// It cannot be read or used here.
    pub fn open(artifact: &Path, execution: Execution) -> Result<Model, Error> {
        let artifact = execution.open(artifact)?;
        let read = Arc::clone(&artifact);
        let read = move || tokenizer(&read).map_err(|error| error.to_string());
        let tokenizer: Arc<Reading> = Arc::new(LazyLock::new(Box::new(read)));
        let early = Arc::clone(&tokenizer);
        // Where no thread can be had, it is read when it is asked for.
        let _ = thread::Builder::new().spawn(move || _ = LazyLock::force(&early));
        Ok(Model { artifact, tokenizer, execution })
    }

    /// What is mapped.
    pub fn artifact(&self) -> &Arc<Artifact> {
        &self.artifact
    }

    /// Its tokenizer, if the model came with one; waits until it is read.
    ///
    /// # Errors
    /// The artifact holds one that cannot be used.
    pub fn tokenizer(&self) -> Result<Option<&Tokenizer>, Error> {
        match &**self.tokenizer {
            Ok(tokenizer) => Ok(tokenizer.as_ref()),
            Err(message) => Err(Error::Refused(message.clone())),
        }
    }

    /// A session with room for sequences of these lengths, in tokens; independent of all others.
    ///
    /// # Errors
    /// More than the artifact takes, a class of processors that does not run here, no memory.
    pub fn session(&self, lengths: impl IntoIterator<Item = usize>) -> Result<Session, Error> {
        self.execution.session(&self.artifact, lengths)
    }
}

fn compile_options(folder: &Path, options: &PretrainedOptions) -> CompileOptions {
    let PretrainedOptions { dtype, compute, kv_dtype, max_context, .. } = *options;
    CompileOptions {
        dtype,
        targets: targets(options),
        compute,
        kv_dtype,
        max_context,
        ..CompileOptions::new(ModelSource::Folder(folder.to_path_buf()))
    }
}

/// What code is made for: where nothing is said of that, but of the class that is to run, for this class.
fn targets(options: &PretrainedOptions) -> Vec<Target> {
    let named = options.execution.class.as_deref().and_then(Class::by_name).filter(|class| CLASSES.contains(class));
    match (&options.targets[..], named) {
        ([Target::Native], Some(class)) => vec![Target::Cpu(class)],
        (targets, _) => targets.to_vec(),
    }
}

/// Where the artifact of a model and these options is kept.
fn kept(folder: &Path, options: &PretrainedOptions) -> Result<PathBuf, Error> {
    let cache = options.cache.clone().or_else(find::own_cache);
    let cache = cache.ok_or_else(|| {
        Error::Refused(
            "there is no folder to keep compiled models in: set XDG_CACHE_HOME or HOME, or compile to a file and name that"
                .to_owned(),
        )
    })?;
    // The folder in one way of writing, whatever name led to it.
    let folder = folder.canonicalize().map_err(Error::io("find", folder))?;
    let mut hash = Sha256::new();
    hash.update(format!("{} {VERSION} {:?}", env!("CARGO_PKG_VERSION"), compile_options(&folder, options)));
    // Machines of several kinds may share the folder.
    hash.update(format!("{:?}", targets(options).into_iter().flat_map(Target::choices).collect::<Vec<_>>()));
    for file in files(&folder)? {
        hash_file(&file, &mut hash)?;
    }
    let mut key = String::new();
    hash.finalize().iter().take(8).for_each(|byte| write!(key, "{byte:02x}").expect("a string takes all"));
    Ok(cache.join(format!("{}-{key}.bloom", title(&folder))))
}

/// What people call the model in that folder.
fn title(folder: &Path) -> String {
    let name = || folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    cached_model(folder).map_or_else(name, |(_, model)| model.to_owned())
}

/// The files that may be part of a folder's model, in order: its own; if ranks share it, theirs, their strategy, and what is
/// beside them.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let ranks = ranks_in(folder)?;
    let mut files = files_in(folder)?;
    if !ranks.is_empty() {
        let beside = [folder_of(folder)].into_iter().filter(|beside| beside != folder);
        for folder in ranks.into_values().chain(strategy_places(folder)).chain(beside).filter(|folder| folder.is_dir())
        {
            files.extend(files_in(&folder)?);
        }
    }
    Ok(files)
}

/// The files in one folder.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>();
    let is_part = |path: &PathBuf| {
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        matches!(suffix, Some("json" | "safetensors" | "bin" | "ckpt")) && path.is_file()
    };
    let mut files: Vec<PathBuf> = paths.map_err(Error::io("read", folder))?.into_iter().filter(is_part).collect();
    files.sort();
    Ok(files)
}

fn hash_file(file: &Path, hash: &mut Sha256) -> Result<(), Error> {
    let metadata = file.metadata().map_err(Error::io("read", file))?;
    hash.update(format!("\n{:?} {} ", file.file_name(), metadata.len()));
    if metadata.len() <= SMALL {
        hash.update(fs::read(file).map_err(Error::io("read", file))?);
    } else {
        let place = file.canonicalize().map_err(Error::io("find", file))?;
        hash.update(format!("{place:?} {:?}", changed(&metadata)));
    }
    Ok(())
}

/// When a file was changed last: the time that nobody can set back, where there is one.
#[cfg(unix)]
fn changed(metadata: &Metadata) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(metadata: &Metadata) -> Option<std::time::SystemTime> {
    metadata.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_made_for_the_class_that_is_to_run() {
        let of = |class: Option<&str>, targets: Vec<Target>| {
            let execution = Execution { class: class.map(str::to_owned), ..Execution::default() };
            super::targets(&PretrainedOptions { execution, targets, ..PretrainedOptions::default() })
        };
        assert_eq!(of(None, vec![Target::Native]), [Target::Native]);
        assert_eq!(of(Some("interpreter"), vec![Target::Native]), [Target::Native]);
        assert_eq!(of(Some("x86-64-v4"), vec![Target::Native]), [Target::Cpu(Class::V4)]);
        assert_eq!(of(Some("x86-64-v4"), vec![Target::AllX86]), [Target::AllX86]);
    }
}
