//! A YAML configuration as what is compiled: sizes, ids, types and ways of generation from it, weights from the checkpoint
//! that it names, or random ones.
//!
//! The checkpoint's folder may describe itself (`config.json`): then both must agree on sizes, and it says what
//! configurations have no keys for. What a configuration says of generation is kept as the makers' word. Its strategy is the
//! compilation's, unless that is asked for otherwise.

use std::path::{Path, PathBuf};

use bloomery_configs::{Config, Origin};
use bloomery_formats::mindspore;
use bloomery_models::config::{BloomConfig, Gate, GenerationSettings, SpecialIds, WeightType};

use super::model::{self, Loaded};
use super::{CompileOptions, ModelSource};
use crate::checkpoint::has_ranks;
use crate::stored::{Told, folder_of};
use crate::{Error, Progress, find};

/// A configuration, and whose weights it gets.
#[derive(Clone, Debug)]
pub struct Configured {
    /// What it says.
    pub config: Config,
    /// Random weights from this seed, instead of those it names.
    pub random: Option<u64>,
    /// Whether weights keep the types they are stored in, whatever it says of types.
    pub keep: bool,
}

impl Configured {
    /// What `--set` said, in order of keys.
    pub(super) fn set(&self) -> Option<String> {
        let set = self.config.said.iter().filter_map(|setting| match &setting.origin {
            Origin::Set(given) => Some(given.as_str()),
            _ => None,
        });
        let set: Vec<&str> = set.collect();
        (!set.is_empty()).then(|| set.join(" "))
    }
}

impl From<Configured> for CompileOptions {
    /// The usual options, a context of as many tokens as it says a sequence has, and its strategy.
    fn from(configured: Configured) -> CompileOptions {
        let (max_context, strategy) = (configured.config.batch.length, configured.config.strategy.clone());
        CompileOptions { max_context, strategy, ..CompileOptions::new(ModelSource::Configured(Box::new(configured))) }
    }
}

/// Opens what a configuration says.
pub(super) fn open(configured: &Configured, told: Told<'_>, progress: &mut dyn Progress) -> Result<Loaded, Error> {
    let Configured { config, random, keep } = configured;
    refuse_ratio(config)?;
    let mut loaded = match random {
        Some(seed) => Loaded::random(described(config), *seed),
        None => stored(config, told, progress)?,
    };
    // Weights of Hugging Face's were trained with gelu, whatever files of MindFormers say; its own were run as they say.
    if loaded.weights.are_mindspores() {
        let said = &config.settings.model.model_config.hidden_act;
        loaded.config.gate = Gate::by_name(said).expect("its key takes these names alone");
    }
    loaded.generation = generation(config).or(&loaded.generation);
    loaded.notes.extend(config.notes.iter().cloned());
    loaded.notes.extend(model::impossible(&loaded.generation, &config.file.display().to_string()));
    loaded.types = (!keep).then(|| Types::of_config(config));
    loaded.yaml = Some(config.file.clone());
    Ok(loaded)
}

/// The sizes that a configuration says, and the type of matrices, whatever weights it names.
pub(super) fn sizes(configured: &Configured) -> Result<(BloomConfig, WeightType), Error> {
    let config = &configured.config;
    refuse_ratio(config)?;
    Ok((described(config), Types::of_config(config).matrices))
}

/// An MLP of another width than BLOOM's.
fn refuse_ratio(config: &Config) -> Result<(), Error> {
    let ratio = config.model.expand_ratio;
    if ratio == 4 {
        return Ok(());
    }
    let problem = format!("expand_ratio is {ratio}, and the MLP of every BLOOM is 4 times as wide as its stream");
    Err(config.contradiction("model.model_config.expand_ratio", problem, "set expand_ratio to 4".to_owned()).into())
}

/// The model that a configuration describes, by MindFormers' way with what has no key.
fn described(config: &Config) -> BloomConfig {
    let (shape, said) = (&config.model, &config.settings.model.model_config);
    BloomConfig {
        hidden: shape.hidden as usize,
        layers: shape.layers as usize,
        heads: shape.heads as usize,
        vocab: shape.vocab as usize,
        layer_norm_epsilon: 1e-5,
        residual_post_layernorm: false,
        tied_head: true,
        gate: Gate::Gelu,
        dtype: None,
        trained_length: said.seq_length as usize,
        special: SpecialIds {
            bos: said.bos_token_id,
            eos: vec![said.eos_token_id],
            pad: said.pad_token_id,
            unk: said.unk_token_id,
        },
        notes: Vec::new(),
    }
}

/// The model with the weights that are named.
fn stored(config: &Config, told: Told<'_>, progress: &mut dyn Progress) -> Result<Loaded, Error> {
    let path = weights(config, progress)?;
    // As in MindFormers, it is about folders of ranks, and nobody minds it where there are none.
    let said = Path::new(&config.settings.src_strategy_path_or_dir);
    let said = (!said.as_os_str().is_empty() && path.is_dir() && has_ranks(&path)?).then_some(said);
    let told = Told { strategy: told.strategy.or(said), ..told };
    let (folder, described) = (folder_of(&path), described(config));
    let file = folder.join("config.json");
    if !file.exists() {
        return model::stored(&path, described, told, progress);
    }
    let found = BloomConfig::from_folder(&folder)?;
    let sizes = [found.hidden, found.layers, found.heads, found.vocab].map(|size| size as u64);
    config.check_sizes(sizes, &file.display().to_string())?;
    let special = described.special;
    model::stored(&path, BloomConfig { special, ..found }, told, progress)
}

/// The folder of the weights that are named, or their file, if it is MindSpore's.
fn weights(config: &Config, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
    let refuse = |key: &'static str, problem: String| -> Error {
        let way_out = format!(
            "set {key} to a folder with weights, a MindSpore checkpoint or a model's name, or say --random-weights SEED"
        );
        config.contradiction(key, problem, way_out).into()
    };
    let Some((key, name)) = config.weights() else {
        let problem = "neither load_checkpoint nor checkpoint_name_or_path names weights".to_owned();
        return Err(refuse("model.model_config.checkpoint_name_or_path", problem));
    };
    match find::noted(Path::new(name), progress) {
        Ok(path) if path.is_dir() || mindspore::begins(&path)? => Ok(path),
        Ok(path) => Err(refuse(key, format!("{} is neither a folder nor a checkpoint of MindSpore's", path.display()))),
        Err(missing @ (Error::NoModel { .. } | Error::Nothing { .. })) => Err(refuse(key, missing.to_string())),
        Err(other) => Err(other),
    }
}

/// MindFormers takes these where a call does not say otherwise, and so does a run of the artifact.
fn generation(config: &Config) -> GenerationSettings {
    let said = &config.settings.model.model_config;
    GenerationSettings {
        eos_token_id: Some(vec![said.eos_token_id]),
        max_length: Some(said.max_decode_length as usize),
        do_sample: Some(said.do_sample),
        top_k: Some(said.top_k as usize),
        top_p: Some(said.top_p),
        repetition_penalty: Some(said.repetition_penalty),
        ..GenerationSettings::default()
    }
}

/// The types that a configuration asks for; norms are of f32, as in MindFormers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types {
    embedding: WeightType,
    matrices: WeightType,
}

impl Types {
    fn of_config(config: &Config) -> Types {
        let said = &config.settings.model.model_config;
        let [embedding, matrices] = [&said.embedding_init_type, &said.param_init_type]
            .map(|name| WeightType::from_name(name).expect("its key takes names of types alone"));
        Types { embedding, matrices }
    }

    /// The type of a parameter that is stored in another. A wider one holds the same values: that room is saved.
    pub(super) fn of(self, parameter: &str, stored: WeightType) -> WeightType {
        let asked = match parameter {
            "word_embeddings.weight" | "lm_head.weight" => self.embedding,
            norm if norm.contains("layernorm") || norm.starts_with("ln_f") => WeightType::F32,
            _ => self.matrices,
        };
        if asked.widest(stored) == asked { stored } else { asked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_never_wider_than_stored() {
        use WeightType::{Bf16, F16, F32};
        let types = Types { embedding: F32, matrices: F16 };
        let check = |parameter: &str, stored: WeightType, expect: WeightType| {
            assert_eq!(types.of(parameter, stored), expect, "{parameter} {stored}");
        };
        check("h.mlp.up.weight", F32, F16);
        check("h.mlp.up.bias", F16, F16);
        // Neither holds all values of the other.
        check("h.mlp.up.weight", Bf16, F16);
        check("word_embeddings.weight", F32, F32);
        check("word_embeddings.weight", F16, F16);
        check("word_embeddings_layernorm.weight", F32, F32);
        check("ln_f.bias", Bf16, Bf16);
    }
}
