//! A BLOOM model's settings, from the `config.json` beside its weights.
//!
//! Two styles of key are in use, often mixed in one file: the first releases say `n_embed` and `num_attention_heads`,
//! later ones `hidden_size` and `n_head`. Both are read; when both are given they must agree. Keys that change nothing in
//! the result are ignored, with a note where a reader might expect otherwise.
//!
//! Start at [`BloomConfig::from_folder`]. `json` reads typed keys with errors that name them; `generation` reads
//! `generation_config.json`.

mod generation;
mod json;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use generation::GenerationSettings;
use json::Object;

use crate::trial;

/// The widest model that is believed; larger numbers are taken for a damaged file.
pub const HIDDEN_MAX: usize = 65_536;
/// The deepest model that is believed.
pub const LAYERS_MAX: usize = 1_024;
/// The largest vocabulary that is believed.
pub const VOCAB_MAX: usize = 4 << 20;
/// The longest training context that is believed, in tokens.
const TRAINED_LENGTH_MAX: usize = 1 << 24;
/// What all published BLOOM models were trained on, in tokens.
const TRAINED_LENGTH: usize = 2_048;

/// The settings that decide a BLOOM model's graph and weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BloomConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads per block; divides `hidden`.
    pub heads: usize,
    /// Rows of the embedding table (may exceed the tokenizer's vocabulary).
    pub vocab: usize,
    /// Added to the variance in every layer norm.
    pub layer_norm_epsilon: f64,
    /// Whether a block's residuals are taken after its layer norms instead of before.
    pub residual_post_layernorm: bool,
    /// Whether the head is the embedding table.
    pub tied_head: bool,
    /// The gate of the MLP.
    #[serde(default, skip_serializing_if = "Gate::is_usual")]
    pub gate: Gate,
    /// The type the weights were saved in, as the file says; the weights themselves decide.
    pub dtype: Option<WeightType>,
    /// Sequence length of the training, in tokens; ALiBi models run past it.
    pub trained_length: usize,
    /// Ids with a meaning of their own.
    pub special: SpecialIds,
    /// Keys that were ignored although a reader might expect otherwise, as sentences for a person.
    pub notes: Vec<String>,
}

/// The gate of an MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gate {
    /// The tanh form of GELU, which all BLOOM models were trained with.
    #[default]
    Gelu,
    /// MindFormers' `fast_gelu`.
    FastGelu,
}

impl Gate {
    fn is_usual(&self) -> bool {
        *self == Gate::Gelu
    }

    /// The one of that name in MindFormers' configurations, `hidden_act`.
    pub fn by_name(name: &str) -> Option<Gate> {
        match name {
            "gelu" => Some(Gate::Gelu),
            "fast_gelu" => Some(Gate::FastGelu),
            _ => None,
        }
    }
}

/// Token ids with a meaning of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialIds {
    /// Begins a text.
    pub bos: u32,
    /// Each of these ends a text; may be empty.
    pub eos: Vec<u32>,
    /// Fills a batch.
    pub pad: u32,
    /// Stands for what the vocabulary lacks (a byte-level vocabulary lacks nothing).
    pub unk: u32,
}

impl Default for SpecialIds {
    /// The ids of every published BLOOM tokenizer.
    fn default() -> Self {
        SpecialIds { bos: 1, eos: vec![2], pad: 3, unk: 0 }
    }
}

/// The element types that weights may be stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WeightType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    Bf16,
}

impl WeightType {
    /// The type of this short (`f16`) or long (`float16`) name, in either case.
    pub fn from_name(name: &str) -> Option<WeightType> {
        match name.to_ascii_lowercase().as_str() {
            "f32" | "float32" | "float" => Some(WeightType::F32),
            "f16" | "float16" | "half" => Some(WeightType::F16),
            "bf16" | "bfloat16" => Some(WeightType::Bf16),
            _ => None,
        }
    }

    /// The short name: `f32`, `f16`, `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            WeightType::F32 => "f32",
            WeightType::F16 => "f16",
            WeightType::Bf16 => "bf16",
        }
    }

    /// The narrowest type that holds every value of both.
    pub fn widest(self, other: WeightType) -> WeightType {
        if self == other { self } else { WeightType::F32 }
    }
}

impl fmt::Display for WeightType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl BloomConfig {
    /// Reads `config.json` of a model's folder.
    ///
    /// # Errors
    /// The file is missing, no JSON, of another model family, lacks a size, or holds values that no BLOOM can have.
    pub fn from_folder(folder: &Path) -> Result<BloomConfig, ConfigError> {
        let path = folder.join("config.json");
        let bytes = crate::files::read(&path).map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        BloomConfig::from_json(&bytes, &path)
    }

    /// Reads the text of a `config.json`; `path` is for the errors.
    ///
    /// # Errors
    /// As [`BloomConfig::from_folder`].
    pub fn from_json(bytes: &[u8], path: &Path) -> Result<BloomConfig, ConfigError> {
        let json = Object::parse(bytes, path)?;
        check_family(&json)?;
        let mut config = BloomConfig {
            hidden: json.size(&["hidden_size", "n_embed"], HIDDEN_MAX)?,
            layers: json.size(&["n_layer", "num_hidden_layers"], LAYERS_MAX)?,
            heads: json.size(&["n_head", "num_attention_heads"], HIDDEN_MAX)?,
            vocab: json.size(&["vocab_size"], VOCAB_MAX)?,
            layer_norm_epsilon: read_epsilon(&json)?,
            residual_post_layernorm: json.flag("apply_residual_connection_post_layernorm")?.unwrap_or(false),
            tied_head: json.flag("tie_word_embeddings")?.unwrap_or(true),
            // No key of Hugging Face's: whoever adds it means MindFormers'.
            gate: json.text("hidden_act")?.and_then(Gate::by_name).unwrap_or_default(),
            dtype: None,
            trained_length: json.size_or(&["seq_length"], TRAINED_LENGTH_MAX, TRAINED_LENGTH)?,
            special: read_special(&json)?,
            notes: Vec::new(),
        };
        config.dtype = read_dtype(&json, &mut config.notes)?;
        config.check(&json)?;
        config.note_ignored(&json)?;
        Ok(config)
    }

    /// Relations between the numbers, which were each in bounds already.
    fn check(&self, json: &Object) -> Result<(), ConfigError> {
        let (hidden, heads) = (self.hidden, self.heads);
        if hidden % heads != 0 {
            return Err(ConfigError::Heads { path: json.path(), hidden, heads });
        }
        match json.whole("n_inner")? {
            Some(inner) if inner != self.ffn() as u64 => {
                Err(ConfigError::Inner { path: json.path(), inner, ffn: self.ffn(), hidden })
            }
            _ => Ok(()),
        }
    }

    fn note_ignored(&mut self, json: &Object) -> Result<(), ConfigError> {
        if json.flag("slow_but_exact")? == Some(true) {
            self.notes
                .push("slow_but_exact is ignored: it only orders sums as training on several GPUs did".to_owned());
        }
        if let Some(tp) = json.whole("pretraining_tp")?.filter(|&tp| tp > 1) {
            self.notes.push(format!("pretraining_tp = {tp} is ignored: it only matters together with slow_but_exact"));
        }
        if json.has("quantization_config") {
            self.notes.push(
                "quantization_config is ignored: the weights' own types count, which must be f32, f16 or bf16"
                    .to_owned(),
            );
        }
        let SpecialIds { bos, eos, pad, unk } = &self.special;
        let ids = [("bos", bos), ("pad", pad), ("unk", unk)].into_iter().chain(eos.iter().map(|id| ("eos", id)));
        for (name, id) in ids.filter(|&(_, &id)| id as usize >= self.vocab) {
            self.notes
                .push(format!("{name}_token_id {id} lies outside the vocabulary of {} and never occurs", self.vocab));
        }
        Ok(())
    }

    /// The same model as narrow as can be, for what depends on its structure and on how many ranks share it alone: all its
    /// heads, each two wide, two layers at most, and a vocabulary of a few rows for each rank, of which as many are left over
    /// as of the whole one.
    #[must_use]
    pub fn narrow(&self, ranks: usize) -> BloomConfig {
        let ids = trial::INDEX_MOST as usize + 1;
        let vocab = ids.next_multiple_of(ranks).max(2 * ranks) + self.vocab % ranks;
        BloomConfig { hidden: 2 * self.heads, layers: self.layers.min(2), vocab, ..self.clone() }
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Width of the MLP between its two products.
    pub fn ffn(&self) -> usize {
        4 * self.hidden
    }

    /// How many numbers the weights are; a tied table counts once.
    pub fn parameters(&self) -> u64 {
        let [hidden, layers, vocab] = [self.hidden, self.layers, self.vocab].map(|size| size as u64);
        let block = 12 * hidden * hidden + 13 * hidden;
        let tables = if self.tied_head { 1 } else { 2 };
        tables * vocab * hidden + 4 * hidden + layers * block
    }
}

/// `model_type` must be BLOOM's; older files name the class only.
fn check_family(json: &Object) -> Result<(), ConfigError> {
    let classes = json.texts("architectures")?;
    let known = |class: &String| matches!(class.as_str(), "BloomForCausalLM" | "BloomModel");
    match json.text("model_type")? {
        Some("bloom") => Ok(()),
        None if classes.iter().any(known) => Ok(()),
        found => {
            let found = found.map_or_else(
                || format!("no model_type and architectures {classes:?}"),
                |model_type| format!("model_type {model_type:?}"),
            );
            Err(ConfigError::Family { path: json.path(), found })
        }
    }
}

fn read_epsilon(json: &Object) -> Result<f64, ConfigError> {
    let epsilon = json.number("layer_norm_epsilon")?.unwrap_or(1e-5);
    if (0.0..1.0).contains(&epsilon) {
        return Ok(epsilon);
    }
    Err(ConfigError::Epsilon { path: json.path(), epsilon })
}

fn read_special(json: &Object) -> Result<SpecialIds, ConfigError> {
    let known = SpecialIds::default();
    Ok(SpecialIds {
        bos: json.id("bos_token_id")?.unwrap_or(known.bos),
        eos: json.ids("eos_token_id")?.unwrap_or(known.eos),
        pad: json.id("pad_token_id")?.unwrap_or(known.pad),
        unk: json.id("unk_token_id")?.unwrap_or(known.unk),
    })
}

/// `torch_dtype`, since transformers 5 `dtype`; only a statement about the weights, so an unknown one is a note.
fn read_dtype(json: &Object, notes: &mut Vec<String>) -> Result<Option<WeightType>, ConfigError> {
    let key = if json.has("dtype") { "dtype" } else { "torch_dtype" };
    let Some(name) = json.text(key)? else { return Ok(None) };
    let dtype = WeightType::from_name(name.trim_start_matches("torch."));
    if dtype.is_none() {
        notes.push(format!("{key} {name:?} is ignored: the weights' own types count"));
    }
    Ok(dtype)
}

/// A `config.json` (or `generation_config.json`) that does not describe a BLOOM.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No JSON, or cut short.
    #[error("{} is not valid JSON: {source}; download it again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// A value of another kind than its key asks for.
    #[error("{}: {key} is {found}, expected {expected}", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The key, or "the document".
        key: &'static str,
        /// The value, shortened.
        found: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A size that is not given.
    #[error("{} lacks {keys}: add it, or take the file that belongs to the weights", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The key, or its names in both styles.
        keys: String,
    },
    /// Both styles of one key, with different values.
    #[error("{}: {first} is {first_value} and {second} is {second_value}, but they mean the same: remove the wrong one", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// One name.
        first: &'static str,
        /// Its value.
        first_value: u64,
        /// The other name.
        second: &'static str,
        /// Its value.
        second_value: u64,
    },
    /// A size that no model has.
    #[error("{}: {key} is {value}, expected 1 to {max}", path.display())]
    Bounds {
        /// The file.
        path: PathBuf,
        /// The key as the file spells it.
        key: &'static str,
        /// Its value.
        value: u64,
        /// The most that is believed.
        max: usize,
    },
    /// Another model family.
    #[error("{} describes another model family ({found}): only BLOOM models (model_type \"bloom\") can be read", path.display())]
    Family {
        /// The file.
        path: PathBuf,
        /// What it says of the family.
        found: String,
    },
    /// Heads of unequal width.
    #[error("{}: hidden size {hidden} cannot be divided into {heads} heads of equal width: one of both is another model's", path.display())]
    Heads {
        /// The file.
        path: PathBuf,
        /// Width of the residual stream.
        hidden: usize,
        /// Number of heads.
        heads: usize,
    },
    /// An MLP of another width than BLOOM's.
    #[error("{}: n_inner is {inner}, but BLOOM's MLP is 4 x {hidden} = {ffn} wide: remove n_inner if the weights are so too", path.display())]
    Inner {
        /// The file.
        path: PathBuf,
        /// The width asked for.
        inner: u64,
        /// BLOOM's width.
        ffn: usize,
        /// Width of the residual stream.
        hidden: usize,
    },
    /// An epsilon that no layer norm has.
    #[error("{}: layer_norm_epsilon is {epsilon}, expected at least 0 and below 1", path.display())]
    Epsilon {
        /// The file.
        path: PathBuf,
        /// The value.
        epsilon: f64,
    },
}

#[cfg(test)]
mod tests;
