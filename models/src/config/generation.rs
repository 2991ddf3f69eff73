//! How a model's makers would generate from it: `generation_config.json`.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::json::Object;
use super::{BloomConfig, ConfigError};

/// Defaults for generation; `None` where the model's makers say nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerationDefaults {
    /// Ids that end a text: the generation config's, else the model's; empty means that only the length ends it.
    pub eos: Vec<u32>,
    /// Whether to sample instead of taking the likeliest id.
    pub do_sample: Option<bool>,
    /// Divides the logits.
    pub temperature: Option<f64>,
    /// Keeps the likeliest so many; 0 keeps all.
    pub top_k: Option<u64>,
    /// Keeps the likeliest whose probabilities sum to this.
    pub top_p: Option<f64>,
    /// Divides (or multiplies, if negative) the logits of ids seen before.
    pub repetition_penalty: Option<f64>,
    /// New ids at most.
    pub max_new_tokens: Option<u64>,
}

impl GenerationDefaults {
    /// Reads `generation_config.json` of a model's folder; without one, the defaults follow from `config`.
    ///
    /// # Errors
    /// The file cannot be read, is no JSON object, or holds values of wrong types.
    pub fn from_folder(folder: &Path, config: &BloomConfig) -> Result<GenerationDefaults, ConfigError> {
        let path = folder.join("generation_config.json");
        match crate::files::read(&path) {
            Ok(bytes) => GenerationDefaults::from_json(&bytes, &path, config),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(GenerationDefaults::of(config)),
            Err(source) => Err(ConfigError::Io { path, source }),
        }
    }

    /// What follows from the model's config alone.
    pub fn of(config: &BloomConfig) -> GenerationDefaults {
        GenerationDefaults { eos: config.special.eos.clone(), ..GenerationDefaults::default() }
    }

    /// Reads the text of a `generation_config.json`; `path` is for the errors.
    ///
    /// # Errors
    /// As [`GenerationDefaults::from_folder`].
    pub fn from_json(bytes: &[u8], path: &Path, config: &BloomConfig) -> Result<GenerationDefaults, ConfigError> {
        let json = Object::parse(bytes, path)?;
        Ok(GenerationDefaults {
            eos: json.ids("eos_token_id")?.unwrap_or_else(|| config.special.eos.clone()),
            do_sample: json.flag("do_sample")?,
            temperature: json.number("temperature")?,
            top_k: json.whole("top_k")?,
            top_p: json.number("top_p")?,
            repetition_penalty: json.number("repetition_penalty")?,
            max_new_tokens: json.whole("max_new_tokens")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes;

    fn read(json: &str) -> GenerationDefaults {
        let config = sizes::by_name("560m").unwrap();
        GenerationDefaults::from_json(json.as_bytes(), Path::new("generation_config.json"), &config).unwrap()
    }

    #[test]
    fn eos_falls_back_to_the_model_unless_it_is_said() {
        assert_eq!(read("{}").eos, [2]);
        assert_eq!(read(r#"{"eos_token_id":[2,3]}"#).eos, [2, 3]);
        assert_eq!(read(r#"{"eos_token_id":7}"#).eos, [7]);
        assert_eq!(read(r#"{"eos_token_id":null}"#).eos, [0u32; 0]);
    }

    #[test]
    fn reads_sampling() {
        let found = read(r#"{"do_sample":true,"temperature":0.5,"top_k":30,"top_p":0.85,"max_new_tokens":9}"#);
        assert_eq!((found.do_sample, found.top_k, found.max_new_tokens), (Some(true), Some(30), Some(9)));
        assert_eq!((found.temperature, found.top_p, found.repetition_penalty), (Some(0.5), Some(0.85), None));
    }

    #[test]
    fn a_folder_may_lack_the_file() {
        let config = sizes::by_name("560m").unwrap();
        let found = GenerationDefaults::from_folder(Path::new("no/such/folder"), &config).unwrap();
        assert_eq!(found, GenerationDefaults::of(&config));
    }
}
