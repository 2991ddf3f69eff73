//! What a configuration means: all settings with where each comes from, and what follows from them together.
//!
//! A value is what `--set` says, else what the file says, else a default. `checks` holds what contradicts itself, `notes`
//! what a reader might expect otherwise.

mod checks;
mod notes;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_yaml::{Mapping, Value};

use crate::document::{self, Wrong};
use crate::error::{Position, Problem, Refusal, SettingsError};
use crate::keys::{self, KEYS, Key, Role};
use crate::settings::Settings;
use crate::strategy::Strategy;

/// Larger files are no configurations.
const BYTES_MAX: u64 = 1 << 20;

/// What is said beside the file.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Settings in place of the file's, as `a.b=c`; of two of one key the later counts.
    pub set: Vec<String>,
    /// How many devices there are, if the strategy must be one for so many.
    pub devices: Option<u64>,
}

/// A configuration, resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// The model's sizes.
    pub model: Shape,
    /// The strategy that counts: one rank where `use_parallel` says so.
    pub strategy: Strategy,
    /// How much a training step takes.
    pub batch: Batch,
    /// Every setting, in the order of [`KEYS`], with where it comes from.
    pub said: Vec<Setting>,
    /// What may surprise, as sentences for a person.
    pub notes: Vec<String>,
    /// Keys without effect, as such sentences.
    pub ignored: Vec<String>,
    /// The settings, typed.
    pub settings: Settings,
}

/// The sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Width of the residual stream.
    pub hidden: u64,
    /// Layers.
    pub layers: u64,
    /// Attention heads of a layer.
    pub heads: u64,
    /// Rows of the embedding table.
    pub vocab: u64,
    /// The MLP is this times as wide as the residual stream.
    pub expand_ratio: u64,
}

impl Shape {
    /// Width of one head.
    pub fn head_dim(&self) -> u64 {
        self.hidden / self.heads
    }

    /// Width of the MLP between its two products.
    pub fn ffn(&self) -> u64 {
        self.expand_ratio * self.hidden
    }

    /// How many numbers the weights are; the head is the embedding table.
    pub fn parameters(&self) -> u64 {
        let Shape { hidden, layers, vocab, .. } = *self;
        let attention = 4 * (hidden * hidden + hidden);
        let mlp = 2 * hidden * self.ffn() + self.ffn() + hidden;
        layers * (attention + mlp + 4 * hidden) + vocab * hidden + 4 * hidden
    }
}

/// What a training step takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Batch {
    /// Sequences of all ranks, micro-batches and parts of these.
    pub sequences: u64,
    /// Tokens of a sequence.
    pub length: u64,
}

/// One setting.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// Its dotted path.
    pub path: &'static str,
    /// Its value.
    pub value: Value,
    /// Where the value comes from.
    pub origin: Origin,
}

impl Setting {
    /// The value in a few words.
    pub fn text(&self) -> String {
        match &self.value {
            Value::String(text) if !text.is_empty() => text.clone(),
            Value::Sequence(list) => {
                let words = list.iter().map(|item| item.as_str().map_or_else(|| document::shown(item), str::to_owned));
                format!("[{}]", words.collect::<Vec<_>>().join(", "))
            }
            Value::Null => "none".to_owned(),
            other => document::shown(other),
        }
    }
}

/// What somebody said of a key.
struct Given {
    key: &'static Key,
    value: Value,
    origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The file, at the key.
    File(Position),
    /// `--set`, as it was given.
    Set(String),
    /// What MindFormers' code takes where nothing is said.
    MindFormers,
    /// What all four of MindFormers' files for BLOOM say.
    MindFormersFiles,
    /// A default of ours, for a key of ours.
    Ours,
}

impl Origin {
    /// Whether somebody said it.
    pub fn is_said(&self) -> bool {
        matches!(self, Origin::File(_) | Origin::Set(_))
    }

    fn of_default(default: keys::Unsaid) -> Origin {
        match default {
            keys::Unsaid::Code(_) => Origin::MindFormers,
            keys::Unsaid::Files(_) => Origin::MindFormersFiles,
            keys::Unsaid::Ours(_) => Origin::Ours,
        }
    }
}

impl std::fmt::Display for Origin {
    /// `line 12`, `--set`, `default of MindFormers`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::File(at) => write!(f, "line {}", at.line),
            Origin::Set(_) => f.write_str("--set"),
            Origin::MindFormers => f.write_str("default of MindFormers"),
            Origin::MindFormersFiles => f.write_str("default, as in its files"),
            Origin::Ours => f.write_str("default"),
        }
    }
}

impl Config {
    /// Reads a file and what is said beside it.
    ///
    /// # Errors
    /// It cannot be read, is no YAML, says what is no key or no value of one, or contradicts itself.
    pub fn read(file: &Path, options: &Options) -> Result<Config, SettingsError> {
        let bytes = read(file)?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| in_file(file, Problem::NoText { from: error.valid_up_to() }))?;
        Config::from_text(text, file, options)
    }

    /// As [`Config::read`] of a file's text; `file` is for the messages.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn from_text(text: &str, file: &Path, options: &Options) -> Result<Config, SettingsError> {
        let said = document::read(text).map_err(|wrong| placed(file, wrong))?;
        let said =
            said.into_iter().map(|said| Given { key: said.key, value: said.value, origin: Origin::File(said.at) });
        let mut given: Vec<Given> = said.collect();
        for set in &options.set {
            let (key, value) = parse_set(set)?;
            given.retain(|said| said.key.path != key.path);
            if !value.is_null() {
                given.push(Given { key, value, origin: Origin::Set(set.clone()) });
            }
        }
        resolve(file, &given, options)
    }

    /// Where a setting comes from.
    pub fn origin(&self, path: &str) -> &Origin {
        &self.said.iter().find(|setting| setting.path == path).expect("settings are asked for by keys in use").origin
    }

    /// The weights it names: the key, and its value. `load_checkpoint` comes first, as in MindFormers.
    pub fn weights(&self) -> Option<(&'static str, &str)> {
        let named = [
            ("load_checkpoint", &self.settings.load_checkpoint),
            ("model.model_config.checkpoint_name_or_path", &self.settings.model.model_config.checkpoint_name_or_path),
        ];
        named.into_iter().find(|(_, weights)| !weights.is_empty()).map(|(key, weights)| (key, weights.as_str()))
    }

    /// That the sizes (hidden width, layers, heads, vocabulary) are those of weights that are described `there`.
    ///
    /// # Errors
    /// One is another.
    pub fn check_sizes(&self, are: [u64; 4], there: &str) -> Result<(), SettingsError> {
        checks::check_sizes(self, are, there)
    }

    /// That a setting contradicts something outside the file: both sides, and what to do.
    pub fn contradiction(&self, path: &'static str, problem: String, way_out: String) -> SettingsError {
        self.refuse(path, Problem::Contradiction { problem, way_out })
    }

    /// What is wrong with a setting, at its place.
    fn refuse(&self, path: &'static str, problem: Problem) -> SettingsError {
        let file = self.file.display();
        let place = match self.origin(path) {
            Origin::File(Position { line, column }) => format!("{file}:{line}:{column}"),
            Origin::Set(given) => format!("--set {given}"),
            _ => format!("{file}, which leaves it at its default"),
        };
        Refusal { problem, place, path: path.to_owned() }.into()
    }
}

/// All bytes of a regular file of believable size.
fn read(file: &Path) -> Result<Vec<u8>, SettingsError> {
    let failed = |source| SettingsError::Io { path: file.to_path_buf(), source };
    // Asked before opening, which would wait for the other end of a pipe.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file")));
    }
    if metadata.len() > BYTES_MAX {
        return Err(in_file(file, Problem::TooLarge { bytes: metadata.len(), most: BYTES_MAX }));
    }
    std::fs::read(file).map_err(failed)
}

fn in_file(file: &Path, problem: Problem) -> SettingsError {
    placed(file, Wrong::of_file(problem))
}

fn placed(file: &Path, wrong: Wrong) -> SettingsError {
    let file = file.display();
    let place = wrong.at.map_or(file.to_string(), |Position { line, column }| format!("{file}:{line}:{column}"));
    Refusal { problem: *wrong.problem, place, path: wrong.path }.into()
}

/// `a.b=c`: the key, and the value as YAML reads it. Nothing after the sign means as if it were not said.
fn parse_set(given: &str) -> Result<(&'static Key, Value), SettingsError> {
    let refuse = |problem, path: &str| -> SettingsError {
        Refusal { problem, place: format!("--set {given}"), path: path.to_owned() }.into()
    };
    let Some((path, text)) = given.split_once('=') else {
        return Err(refuse(Problem::NoValue { given: given.to_owned() }, ""));
    };
    let path = path.trim();
    let Some(key) = keys::find(path) else {
        let section = || Problem::Section { path: path.to_owned() };
        let problem = if !path.is_empty() && keys::is_section(path) { section() } else { document::unknown(path) };
        return Err(refuse(problem, path));
    };
    let value: Value = match serde_yaml::from_str(text) {
        Ok(value) => value,
        Err(error) => return Err(refuse(Problem::Yaml { said: error.to_string() }, path)),
    };
    if !value.is_null() {
        document::check(key, &value).map_err(|problem| refuse(problem, path))?;
    }
    Ok((key, value))
}

fn resolve(file: &Path, given: &[Given], options: &Options) -> Result<Config, SettingsError> {
    let used = KEYS.iter().filter(|key| key.role == Role::Used);
    let said: Vec<Setting> = used.map(|key| setting(key, given)).collect();
    let settings = typed(&said);
    let strategy = strategy(&settings);
    let model = &settings.model.model_config;
    let shape = Shape {
        hidden: model.hidden_size,
        layers: model.num_layers,
        heads: model.num_heads,
        vocab: model.vocab_size,
        expand_ratio: model.expand_ratio,
    };
    let batch = Batch { sequences: sequences(&settings, &strategy), length: model.seq_length };
    let file = file.to_path_buf();
    let mut config =
        Config { file, model: shape, strategy, batch, said, notes: Vec::new(), ignored: Vec::new(), settings };
    checks::check(&config, options)?;
    config.notes = notes::notes(&config);
    config.ignored = notes::ignored(given);
    Ok(config)
}

fn setting(key: &Key, given: &[Given]) -> Setting {
    let said = given.iter().find(|said| said.key.path == key.path);
    let (value, origin) = match said {
        Some(said) => (said.value.clone(), said.origin.clone()),
        None => (key.default.value(), Origin::of_default(key.default)),
    };
    Setting { path: key.path, value, origin }
}

/// Settings in their sections again, as types.
fn typed(said: &[Setting]) -> Settings {
    let mut all = Mapping::new();
    for setting in said {
        let (section, name) = keys::split(setting.path);
        let mut within = &mut all;
        for section in section.split('.').filter(|section| !section.is_empty()) {
            let inside = within.entry(section.into()).or_insert_with(|| Value::Mapping(Mapping::new()));
            within = inside.as_mapping_mut().expect("no key is a section");
        }
        within.insert(name.into(), setting.value.clone());
    }
    serde_yaml::from_value(Value::Mapping(all)).expect("every value is of its key's kind")
}

/// Whether MindFormers lets one rank do everything, whatever `parallel_config` says.
fn is_alone(settings: &Settings) -> bool {
    !settings.use_parallel || settings.parallel.parallel_mode == 0
}

/// The strategy that counts.
fn strategy(settings: &Settings) -> Strategy {
    let (asked, interleave) = (&settings.parallel_config, settings.micro_batch_interleave_num);
    if is_alone(settings) {
        let vocab_emb_dp = asked.vocab_emb_dp;
        return Strategy { interleave, vocab_emb_dp, ..Strategy::default() };
    }
    let is_staged = asked.pipeline_stage > 1;
    Strategy {
        dp: asked.data_parallel,
        mp: asked.model_parallel,
        pp: asked.pipeline_stage,
        micro_batches: if is_staged { asked.micro_batch_num } else { 1 },
        interleave,
        vocab_emb_dp: asked.vocab_emb_dp && !is_staged,
        optimizer_shard: asked.optimizer_shard.unwrap_or(settings.parallel.enable_parallel_optimizer),
        sequence_parallel: settings.model.model_config.use_seq_parallel,
        stages: asked.stages.clone(),
    }
}

/// Sequences of a step: the data set's batch as MindFormers' trainer sets it.
fn sequences(settings: &Settings, strategy: &Strategy) -> u64 {
    let factors = [strategy.dp, strategy.micro_batches, strategy.interleave].map(u64::from);
    factors.into_iter().fold(settings.runner_config.batch_size, u64::saturating_mul)
}

#[cfg(test)]
mod tests;
