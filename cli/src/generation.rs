//! How texts are generated: what is asked for, what the model's makers say, Hugging Face's defaults, in this order.

use bloomery_artifact::Artifact;
use bloomery_models::config::GenerationSettings;
use bloomery_models::tokenizer::Tokenizer;
use bloomery_runtime::session::check_ids;
use bloomery_runtime::{EarlyStopping, GenerationConfig};

use crate::Error;
use crate::template::Template;

/// How to generate texts.
#[derive(Clone, Debug, Default)]
pub struct Generation {
    /// What is asked for; the rest is the makers' word, else Hugging Face's default.
    pub asked: GenerationSettings,
    /// New tokens at most, in place of Hugging Face's default, where nobody says a length.
    pub new_tokens: Option<usize>,
    /// Of the random numbers.
    pub seed: u64,
    /// Whether logarithms of the tokens' probabilities are wanted.
    pub logprobs: bool,
    /// Texts that end a text; it is cut before them.
    pub stop: Vec<String>,
    /// What is put around a prompt's text.
    pub template: Template,
}

impl Generation {
    /// The configuration for an artifact.
    pub(crate) fn config(&self, artifact: &Artifact, tokenizer: Option<&Tokenizer>) -> Result<GenerationConfig, Error> {
        check_ids(self.asked.eos_token_id.as_deref().unwrap_or(&[]), artifact.meta().vocabulary as usize)
            .map_err(|error| Error::Refused(format!("eos-token-id: {error}")))?;
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::Refused("a stop string is empty and would end every text: leave it out".to_owned()));
        }
        if tokenizer.is_none() && !(self.stop.is_empty() && self.template == Template::None) {
            return Err(Error::Refused(
                "the artifact holds no tokenizer, so it knows no texts: leave out stop strings and the template, or compile \
                 from a folder with tokenizer.json"
                    .to_owned(),
            ));
        }
        let usual = GenerationConfig::default();
        let usual = GenerationConfig {
            max_new_tokens: self.new_tokens.unwrap_or(usual.max_new_tokens),
            seed: self.seed,
            logprobs: self.logprobs,
            ids_with_text: tokenizer.map(Tokenizer::vocab),
            ..usual
        };
        let config = filled(&self.settings(&makers(artifact)), usual.clone());
        self.check_used(&config)?;
        match (config.check(), filled(&self.asked, usual).check()) {
            (Ok(()), _) => Ok(config),
            (Err(error), Ok(())) => Err(Error::Refused(format!(
                "{error} (the model's generation_config.json says so where nothing else is asked for)"
            ))),
            (Err(error), Err(_)) => Err(error.into()),
        }
    }

    /// Refuses what is asked for and would change nothing.
    fn check_used(&self, config: &GenerationConfig) -> Result<(), Error> {
        let GenerationSettings { temperature, top_k, top_p, min_p, length_penalty, early_stopping, .. } = &self.asked;
        let (draws, beams) = ((config.do_sample, "do-sample"), (config.num_beams > 1, "num-beams"));
        let options = [
            ("temperature", temperature.is_some(), draws),
            ("top-k", top_k.is_some(), draws),
            ("top-p", top_p.is_some(), draws),
            ("min-p", min_p.is_some(), draws),
            ("length-penalty", length_penalty.is_some(), beams),
            ("early-stopping", early_stopping.is_some(), beams),
        ];
        match options.into_iter().find(|(_, asked, (used, _))| *asked && !used) {
            Some((name, _, (_, needs))) => {
                Err(Error::Refused(format!("{name} changes nothing without {needs}: add that, or leave {name} out")))
            }
            None => Ok(()),
        }
    }

    /// What is asked for, over what the makers say. Drawing and a search of beams exclude each other: who asks for one
    /// sets the makers' other aside.
    fn settings(&self, makers: &GenerationSettings) -> GenerationSettings {
        let (beams, draws) = (self.asked.num_beams.is_some_and(|beams| beams > 1), self.asked.do_sample == Some(true));
        let makers = GenerationSettings {
            do_sample: makers.do_sample.filter(|_| !beams),
            num_beams: makers.num_beams.filter(|_| !draws),
            ..makers.clone()
        };
        self.asked.or(&makers)
    }
}

/// What an artifact's makers say.
pub(crate) fn makers(artifact: &Artifact) -> GenerationSettings {
    // Whatever else stands there was not written by `compile`, and is nothing said.
    serde_json::from_str(&artifact.meta().generation).unwrap_or_default()
}

/// A configuration with all that is said.
pub(crate) fn filled(said: &GenerationSettings, usual: GenerationConfig) -> GenerationConfig {
    let early_stopping = said.early_stopping.as_deref().and_then(EarlyStopping::by_name);
    GenerationConfig {
        max_new_tokens: said.max_new_tokens.unwrap_or(usual.max_new_tokens),
        max_length: said.max_length.or(usual.max_length),
        eos_token_id: said.eos_token_id.clone().unwrap_or(usual.eos_token_id),
        do_sample: said.do_sample.unwrap_or(usual.do_sample),
        temperature: said.temperature.map_or(usual.temperature, |value| value as f32),
        top_k: said.top_k.unwrap_or(usual.top_k),
        top_p: said.top_p.map_or(usual.top_p, |value| value as f32),
        min_p: said.min_p.map_or(usual.min_p, |value| value as f32),
        repetition_penalty: said.repetition_penalty.map_or(usual.repetition_penalty, |value| value as f32),
        no_repeat_ngram_size: said.no_repeat_ngram_size.unwrap_or(usual.no_repeat_ngram_size),
        num_beams: said.num_beams.unwrap_or(usual.num_beams),
        length_penalty: said.length_penalty.unwrap_or(usual.length_penalty),
        early_stopping: early_stopping.unwrap_or(usual.early_stopping),
        num_return_sequences: said.num_return_sequences.unwrap_or(usual.num_return_sequences),
        ..usual
    }
}

impl From<&GenerationConfig> for Generation {
    /// As with Hugging Face, what is set to its default is not asked for: there the makers' word counts.
    fn from(config: &GenerationConfig) -> Generation {
        fn unusual<T: PartialEq>(value: T, usual: &T) -> Option<T> {
            (value != *usual).then_some(value)
        }
        let usual = GenerationConfig::default();
        let early_stopping =
            unusual(config.early_stopping, &usual.early_stopping).map(|stopping| stopping.name().to_owned());
        let asked = GenerationSettings {
            max_new_tokens: unusual(config.max_new_tokens, &usual.max_new_tokens),
            max_length: config.max_length,
            eos_token_id: unusual(config.eos_token_id.clone(), &usual.eos_token_id),
            do_sample: unusual(config.do_sample, &usual.do_sample),
            temperature: unusual(config.temperature, &usual.temperature).map(f64::from),
            top_k: unusual(config.top_k, &usual.top_k),
            top_p: unusual(config.top_p, &usual.top_p).map(f64::from),
            min_p: unusual(config.min_p, &usual.min_p).map(f64::from),
            repetition_penalty: unusual(config.repetition_penalty, &usual.repetition_penalty).map(f64::from),
            no_repeat_ngram_size: unusual(config.no_repeat_ngram_size, &usual.no_repeat_ngram_size),
            num_beams: unusual(config.num_beams, &usual.num_beams),
            length_penalty: unusual(config.length_penalty, &usual.length_penalty),
            early_stopping,
            num_return_sequences: unusual(config.num_return_sequences, &usual.num_return_sequences),
        };
        Generation { asked, seed: config.seed, logprobs: config.logprobs, ..Generation::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn makers(json: &str) -> GenerationSettings {
        serde_json::from_str(json).unwrap()
    }

    fn config(asked: GenerationSettings, said: &str) -> GenerationConfig {
        let generation = Generation { asked, ..Generation::default() };
        filled(&generation.settings(&makers(said)), GenerationConfig::default())
    }

    #[test]
    fn what_is_asked_for_comes_before_what_the_makers_say() {
        let said = r#"{"do_sample":true,"temperature":0.5,"top_p":0.8,"max_new_tokens":99,"eos_token_id":[7]}"#;
        let asked = GenerationSettings { temperature: Some(0.25), ..GenerationSettings::default() };
        let found = config(asked, said);
        assert_eq!((found.do_sample, found.temperature, found.top_p, found.top_k), (true, 0.25, 0.8, 50));
        assert_eq!((found.max_new_tokens, &found.eos_token_id[..]), (99, &[7][..]));
    }

    #[test]
    fn beams_and_drawing_set_each_other_aside() {
        let beams = GenerationSettings { num_beams: Some(4), ..GenerationSettings::default() };
        let found = config(beams, r#"{"do_sample":true}"#);
        assert_eq!((found.num_beams, found.do_sample), (4, false));
        let draws = GenerationSettings { do_sample: Some(true), ..GenerationSettings::default() };
        let found = config(draws, r#"{"num_beams":4}"#);
        assert_eq!((found.num_beams, found.do_sample), (1, true));
        let both = config(GenerationSettings::default(), r#"{"num_beams":4,"do_sample":true}"#);
        assert!(both.check().is_err(), "a search that draws is not there");
    }

    #[test]
    fn a_configuration_asks_for_what_is_unusual_in_it() {
        let unusual = GenerationConfig {
            max_new_tokens: 3,
            max_length: Some(9),
            eos_token_id: vec![4],
            do_sample: true,
            temperature: 0.5,
            top_k: 5,
            top_p: 0.5,
            min_p: 0.5,
            repetition_penalty: 1.5,
            no_repeat_ngram_size: 2,
            num_beams: 2,
            length_penalty: 0.5,
            early_stopping: EarlyStopping::Never,
            num_return_sequences: 2,
            seed: 1,
            logprobs: true,
            ids_with_text: None,
        };
        let generation = Generation::from(&unusual);
        let usual = GenerationConfig { seed: 1, logprobs: true, ..GenerationConfig::default() };
        assert_eq!(filled(&generation.asked, usual), unusual);
        assert_eq!(Generation::from(&GenerationConfig::default()).asked, GenerationSettings::default());
    }
}
