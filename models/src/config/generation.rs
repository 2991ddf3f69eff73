//! Settings of generation, each said or not: what a model's makers put into `generation_config.json`, and what is asked of
//! a run. A run takes what was asked for, else the makers' word, else Hugging Face's defaults.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::json::Object;
use super::{BloomConfig, ConfigError};

/// Settings of generation by Hugging Face's names; `None` where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationSettings {
    /// Ids that end a text; an empty list means that only the length ends it.
    pub eos_token_id: Option<Vec<u32>>,
    /// New ids at most.
    pub max_new_tokens: Option<usize>,
    /// Ids of prompt and answer together, at most.
    pub max_length: Option<usize>,
    /// Whether to draw ids instead of taking the likeliest.
    pub do_sample: Option<bool>,
    /// Divides the logits.
    pub temperature: Option<f64>,
    /// Keeps the likeliest so many; 0 keeps all.
    pub top_k: Option<usize>,
    /// Keeps the likeliest whose probabilities sum to this.
    pub top_p: Option<f64>,
    /// Keeps those with at least this share of the likeliest one's probability.
    pub min_p: Option<f64>,
    /// Divides (or multiplies, if negative) the logits of ids seen before.
    pub repetition_penalty: Option<f64>,
    /// No run of so many ids comes twice; 0 for no such rule.
    pub no_repeat_ngram_size: Option<usize>,
    /// Sequences a beam search keeps; 1 for none.
    pub num_beams: Option<usize>,
    /// A beam's score is divided by its length to this power.
    pub length_penalty: Option<f64>,
    /// When a beam search ends: `true`, `false` or `never`.
    pub early_stopping: Option<String>,
    /// Sequences per prompt.
    pub num_return_sequences: Option<usize>,
}

/// The `max_length` that Hugging Face takes for nothing said: older versions wrote it into every file.
const LENGTH_UNSAID: usize = 20;

impl GenerationSettings {
    /// Reads `generation_config.json` of a model's folder; without one, they follow from `config`.
    ///
    /// # Errors
    /// The file cannot be read, is no JSON object, or holds values of wrong types.
    pub fn from_folder(folder: &Path, config: &BloomConfig) -> Result<GenerationSettings, ConfigError> {
        let path = folder.join("generation_config.json");
        match crate::files::read(&path) {
            Ok(bytes) => Ok(GenerationSettings::from_json(&bytes, &path)?.or(&GenerationSettings::of(config))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(GenerationSettings::of(config)),
            Err(source) => Err(ConfigError::Io { path, source }),
        }
    }

    /// What follows from the model's config alone.
    pub fn of(config: &BloomConfig) -> GenerationSettings {
        GenerationSettings { eos_token_id: Some(config.special.eos.clone()), ..GenerationSettings::default() }
    }

    /// Reads the text of a `generation_config.json`, of which unknown keys do not matter; `path` is for the errors.
    ///
    /// # Errors
    /// As [`GenerationSettings::from_folder`].
    pub fn from_json(bytes: &[u8], path: &Path) -> Result<GenerationSettings, ConfigError> {
        let json = Object::parse(bytes, path)?;
        let count = |key| Ok(json.whole(key)?.map(|count| count as usize));
        let max_new_tokens = count("max_new_tokens")?;
        // Where both are said, Hugging Face goes by the new ones.
        let unsaid = |length: &usize| *length == LENGTH_UNSAID || max_new_tokens.is_some();
        Ok(GenerationSettings {
            eos_token_id: json.ids("eos_token_id")?,
            max_new_tokens,
            max_length: count("max_length")?.filter(|length| !unsaid(length)),
            do_sample: json.flag("do_sample")?,
            temperature: json.number("temperature")?,
            top_k: count("top_k")?,
            top_p: json.number("top_p")?,
            min_p: json.number("min_p")?,
            repetition_penalty: json.number("repetition_penalty")?,
            no_repeat_ngram_size: count("no_repeat_ngram_size")?,
            num_beams: count("num_beams")?,
            length_penalty: json.number("length_penalty")?,
            early_stopping: json.word("early_stopping", "true, false or \"never\"", &["true", "false", "never"])?,
            num_return_sequences: count("num_return_sequences")?,
        })
    }

    /// These where something is said, else the others. Lengths are one question: whoever answers it answers it whole.
    #[must_use]
    pub fn or(&self, others: &GenerationSettings) -> GenerationSettings {
        let (said, others) = (self.clone(), others.clone());
        let lengths = if said.max_new_tokens.is_some() || said.max_length.is_some() { &said } else { &others };
        GenerationSettings {
            max_new_tokens: lengths.max_new_tokens,
            max_length: lengths.max_length,
            eos_token_id: said.eos_token_id.or(others.eos_token_id),
            do_sample: said.do_sample.or(others.do_sample),
            temperature: said.temperature.or(others.temperature),
            top_k: said.top_k.or(others.top_k),
            top_p: said.top_p.or(others.top_p),
            min_p: said.min_p.or(others.min_p),
            repetition_penalty: said.repetition_penalty.or(others.repetition_penalty),
            no_repeat_ngram_size: said.no_repeat_ngram_size.or(others.no_repeat_ngram_size),
            num_beams: said.num_beams.or(others.num_beams),
            length_penalty: said.length_penalty.or(others.length_penalty),
            early_stopping: said.early_stopping.or(others.early_stopping),
            num_return_sequences: said.num_return_sequences.or(others.num_return_sequences),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes;

    fn read(json: &str) -> GenerationSettings {
        GenerationSettings::from_json(json.as_bytes(), Path::new("generation_config.json")).unwrap()
    }

    #[test]
    fn eos_may_be_one_several_none_or_unsaid() {
        let eos = |json| read(json).eos_token_id;
        assert_eq!(eos("{}"), None);
        assert_eq!(eos(r#"{"eos_token_id":[2,3]}"#), Some(vec![2, 3]));
        assert_eq!(eos(r#"{"eos_token_id":7}"#), Some(vec![7]));
        assert_eq!(eos(r#"{"eos_token_id":null}"#), Some(vec![]));
    }

    #[test]
    fn every_setting_is_read_and_written() {
        let json = r#"{"eos_token_id":[2],"max_length":30,"do_sample":true,"temperature":0.5,"top_k":30,"top_p":0.85,"min_p":0.1,"repetition_penalty":1.2,"no_repeat_ngram_size":3,"num_beams":4,"length_penalty":0.8,"early_stopping":"never","num_return_sequences":2}"#;
        let settings = read(json);
        let written = serde_json::to_value(&settings).unwrap();
        let unsaid = written.as_object().unwrap().iter().filter(|(_, value)| value.is_null());
        assert_eq!(unsaid.map(|(key, _)| key).collect::<Vec<_>>(), ["max_new_tokens"]);
        assert_eq!(serde_json::from_value::<GenerationSettings>(written).unwrap(), settings);
        assert_eq!(settings.or(&GenerationSettings::default()), settings);
        assert_eq!(GenerationSettings::default().or(&settings), settings);
        assert_eq!(read(r#"{"early_stopping":true}"#).early_stopping.as_deref(), Some("true"));
        assert_eq!(read(r#"{"max_length":30,"max_new_tokens":9}"#).max_length, None);
        assert_eq!(read(r#"{"max_length":20,"pad_token_id":3}"#), GenerationSettings::default());
    }

    #[test]
    fn values_of_wrong_types_are_named() {
        for (json, parts) in [
            (r#"{"top_k":0.5}"#, ["top_k", "a whole number"]),
            (r#"{"early_stopping":"soon"}"#, ["early_stopping", r#"true, false or "never""#]),
        ] {
            let error = GenerationSettings::from_json(json.as_bytes(), Path::new("g.json")).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn who_says_a_length_says_all_of_it() {
        let makers = read(r#"{"max_new_tokens":9,"top_k":5}"#);
        let asked = GenerationSettings { max_length: Some(30), ..GenerationSettings::default() };
        let both = asked.or(&makers);
        assert_eq!((both.max_new_tokens, both.max_length, both.top_k), (None, Some(30), Some(5)));
    }

    #[test]
    fn a_folder_may_lack_the_file() {
        let config = sizes::by_name("560m").unwrap();
        let found = GenerationSettings::from_folder(Path::new("no/such/folder"), &config).unwrap();
        assert_eq!(found.eos_token_id, Some(vec![2]));
        assert_eq!(found, GenerationSettings::of(&config));
    }
}
