//! How to generate, by Hugging Face's names and with its defaults; and what contradicts itself.

use crate::error::RunError;

/// How to generate.
///
/// ```
/// use bloomery_runtime::GenerationConfig;
/// let sampled = GenerationConfig { do_sample: true, top_p: 0.9, max_new_tokens: 32, ..Default::default() };
/// assert!(sampled.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// New tokens per sequence, at most.
    pub max_new_tokens: usize,
    /// Tokens of prompt and answer together, at most; where it is set, it stands instead of `max_new_tokens`.
    pub max_length: Option<usize>,
    /// Ids that end a sequence.
    pub eos_token_id: Vec<u32>,
    /// Whether tokens are drawn by their probabilities; otherwise the likeliest are taken.
    pub do_sample: bool,
    /// Divides logits before drawing; above 0.
    pub temperature: f32,
    /// Draw from so many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Draw from the likeliest tokens that reach this probability together; 1 for all.
    pub top_p: f32,
    /// Draw from tokens with at least this share of the likeliest one's probability; 0 for all.
    pub min_p: f32,
    /// Of the random numbers.
    pub seed: u64,
    /// Makes tokens that are there already less likely, above 1, or likelier, below; 1 changes nothing.
    pub repetition_penalty: f32,
    /// No run of so many tokens comes twice; 0 for no such rule.
    pub no_repeat_ngram_size: usize,
    /// Sequences that a beam search keeps; 1 for none.
    pub num_beams: usize,
    /// A beam's score is the sum of its logarithms of probabilities over its length to this power.
    pub length_penalty: f64,
    /// When a beam search ends.
    pub early_stopping: EarlyStopping,
    /// Sequences per prompt: drawn ones, or a beam search's best.
    pub num_return_sequences: usize,
    /// Ids from here on are never generated: rows of the table beyond the tokenizer's vocabulary have no text.
    pub ids_with_text: Option<usize>,
    /// Whether logarithms of the tokens' probabilities are wanted.
    pub logprobs: bool,
}

impl Default for GenerationConfig {
    fn default() -> GenerationConfig {
        GenerationConfig {
            max_new_tokens: 20,
            max_length: None,
            eos_token_id: Vec::new(),
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            num_beams: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::False,
            num_return_sequences: 1,
            ids_with_text: None,
            logprobs: false,
        }
    }
}

/// When a beam search with as many ended sequences as beams ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// At once.
    True,
    /// When the best running beam, if it ended now, would be worse than the worst of them.
    #[default]
    False,
    /// When no length that is still allowed could make it better.
    Never,
}

impl EarlyStopping {
    /// The one of Hugging Face's value: `true`, `false` or `never`.
    pub fn by_name(name: &str) -> Option<EarlyStopping> {
        [EarlyStopping::True, EarlyStopping::False, EarlyStopping::Never].into_iter().find(|value| value.name() == name)
    }

    /// Hugging Face's value for it.
    pub fn name(self) -> &'static str {
        match self {
            EarlyStopping::True => "true",
            EarlyStopping::False => "false",
            EarlyStopping::Never => "never",
        }
    }
}

impl GenerationConfig {
    /// Refuses values that mean nothing, and those that contradict each other.
    ///
    /// # Errors
    /// The setting, its value, and what it may be; or which two cannot be, and what to leave out.
    pub fn check(&self) -> Result<(), RunError> {
        self.check_values()?;
        self.check_together()
    }

    fn check_values(&self) -> Result<(), RunError> {
        let positive = |value: f32| value > 0.0 && value.is_finite();
        let settings: [(&str, f64, bool, &str); 7] = [
            (
                "temperature",
                self.temperature.into(),
                !self.do_sample || positive(self.temperature),
                "above 0 (leave sampling off for greedy)",
            ),
            ("top-p", self.top_p.into(), self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min-p", self.min_p.into(), (0.0..=1.0).contains(&self.min_p), "0 to 1"),
            ("repetition-penalty", self.repetition_penalty.into(), positive(self.repetition_penalty), "above 0"),
            ("length-penalty", self.length_penalty, self.length_penalty.is_finite(), "a finite number"),
            ("num-beams", self.num_beams as f64, self.num_beams > 0, "at least 1"),
            ("num-return-sequences", self.num_return_sequences as f64, self.num_return_sequences > 0, "at least 1"),
        ];
        match settings.into_iter().find(|(_, _, sound, _)| !sound) {
            Some((name, value, _, expected)) => Err(RunError::Setting { name, value, expected }),
            None => Ok(()),
        }
    }

    fn check_together(&self) -> Result<(), RunError> {
        let (beams, returned) = (self.num_beams, self.num_return_sequences);
        let contradiction = |message: String| Err(RunError::Contradiction(message));
        if beams > 1 && self.do_sample {
            return contradiction(format!(
                "num-beams is {beams} with do-sample: beams are searched, not drawn; leave one out"
            ));
        }
        if beams > 1 && returned > beams {
            return contradiction(format!(
                "num-return-sequences is {returned} with {beams} beams: ask for at most {beams}, or for more beams"
            ));
        }
        if beams == 1 && returned > 1 && !self.do_sample {
            return contradiction(format!(
                "num-return-sequences is {returned}, but greedy search has one answer: add do-sample, or num-beams {returned}"
            ));
        }
        Ok(())
    }

    /// New tokens there may be after a prompt of so many, in a context of so many.
    ///
    /// # Errors
    /// A `max_length` that leaves no room after the prompt.
    pub fn room(&self, prompt: usize, context: usize) -> Result<usize, RunError> {
        match self.max_length {
            Some(max_length) if max_length <= prompt => Err(RunError::Contradiction(format!(
                "max-length is {max_length} and counts the prompt, which has {prompt} tokens already: allow more than \
                 {prompt}, or give max-new-tokens"
            ))),
            Some(max_length) => Ok(max_length.min(context) - prompt.min(context)),
            None => Ok(self.max_new_tokens.min(context.saturating_sub(prompt))),
        }
    }

    /// Tokens of all sequences of some prompts at most, for [`pages_needed`](crate::pages_needed): beams and drawn
    /// sequences each have pages of their own behind the prompt.
    pub fn lengths(&self, prompts: &[Vec<u32>]) -> impl Iterator<Item = usize> {
        let copies = self.num_beams.max(self.num_return_sequences).max(1);
        let length = |prompt: usize| self.max_length.unwrap_or(prompt.saturating_add(self.max_new_tokens)).max(prompt);
        (0..prompts.len().saturating_mul(copies)).map(move |i| length(prompts[i / copies].len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: GenerationConfig, parts: &[&str]) {
        let message = config.check().unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(message.contains(part), "{message}"));
    }

    fn with(change: impl Fn(&mut GenerationConfig)) -> GenerationConfig {
        let mut config = GenerationConfig::default();
        change(&mut config);
        config
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        refused(with(|c| (c.do_sample, c.temperature) = (true, 0.0)), &["temperature is 0, it must be above 0"]);
        refused(with(|c| c.top_p = 1.5), &["top-p is 1.5, it must be above 0 and at most 1"]);
        refused(with(|c| c.min_p = -0.1), &["min-p is -0.1", "0 to 1"]);
        refused(with(|c| c.repetition_penalty = 0.0), &["repetition-penalty is 0"]);
        refused(with(|c| c.length_penalty = f64::NAN), &["length-penalty is NaN"]);
        refused(with(|c| c.num_beams = 0), &["num-beams is 0, it must be at least 1"]);
        assert!(with(|c| c.temperature = 0.0).check().is_ok(), "greedy divides by nothing");
    }

    #[test]
    fn contradictions_name_both_sides() {
        refused(with(|c| (c.num_beams, c.do_sample) = (4, true)), &["num-beams is 4 with do-sample"]);
        refused(with(|c| (c.num_beams, c.num_return_sequences) = (2, 3)), &["is 3 with 2 beams", "at most 2"]);
        refused(with(|c| c.num_return_sequences = 2), &["greedy search has one answer", "do-sample"]);
    }

    #[test]
    fn the_room_is_bounded_by_what_was_asked_and_by_the_context() {
        let room = |max_length, prompt| {
            let config = with(|c| (c.max_new_tokens, c.max_length) = (5, max_length));
            config.room(prompt, 10).map_err(|error| error.to_string())
        };
        assert_eq!([room(None, 3), room(None, 7), room(None, 10)], [Ok(5), Ok(3), Ok(0)]);
        assert_eq!([room(Some(9), 3), room(Some(20), 3)], [Ok(6), Ok(7)]);
        assert!(room(Some(3), 3).unwrap_err().contains("max-length is 3"));
    }
}
