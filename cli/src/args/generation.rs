//! Arguments of generation, by Hugging Face's names.

use std::num::NonZeroUsize;

use bloomery::run::Generation;
use bloomery::template::Template;
use bloomery_runtime::{EarlyStopping, GenerationConfig};
use clap::{Args, ValueEnum};

use super::values::{Eos, min_p, repetition_penalty, temperature, top_p};

/// How to generate.
#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// New tokens, at most
    #[arg(long, value_name = "N", default_value_t = 64, conflicts_with = "max_length")]
    max_new_tokens: usize,
    /// Tokens of prompt and answer together, at most
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Draw tokens by their probabilities instead of taking the likeliest
    #[arg(long)]
    do_sample: bool,
    /// Divides the logits before drawing
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "do_sample", value_parser = temperature)]
    temperature: f32,
    /// Draw from the likeliest K; 0 means from all
    #[arg(long, value_name = "K", default_value_t = 50, requires = "do_sample")]
    top_k: usize,
    /// Draw from the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, requires = "do_sample", value_parser = top_p)]
    top_p: f32,
    /// Draw from tokens with at least this share of the likeliest one's probability
    #[arg(long, value_name = "P", default_value_t = 0.0, requires = "do_sample", value_parser = min_p)]
    min_p: f32,
    /// Equal seeds draw equal tokens
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "do_sample")]
    seed: u64,
    /// Makes tokens that are there already less likely, above 1; of logits, in a beam search of log-probabilities
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = repetition_penalty)]
    repetition_penalty: f32,
    /// Let no run of N tokens come twice; 0 for no such rule
    #[arg(long, value_name = "N", default_value_t = 0)]
    no_repeat_ngram: usize,
    /// Sequences a beam search keeps
    #[arg(long, value_name = "N", default_value = "1")]
    num_beams: NonZeroUsize,
    /// A beam's score is the sum of its log-probabilities over its length to this power
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "num_beams", allow_negative_numbers = true)]
    length_penalty: f64,
    /// When as many beams have ended as are kept: true ends the search, false when none that runs looks better, never
    /// when none could become better
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Stopping::False, requires = "num_beams")]
    early_stopping: Stopping,
    /// Sequences per prompt: drawn ones, or the best beams
    #[arg(long, value_name = "N", default_value = "1")]
    num_return_sequences: NonZeroUsize,
    /// End a text where this comes, and cut it there; several are looked for together
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Ids that end a text, e.g. 2 or 2,3, or none [default: the model's own]
    #[arg(long, value_name = "IDS|none")]
    eos_token_id: Vec<Eos>,
    /// What is put around a prompt's text
    #[arg(long, value_enum, default_value_t = Around::None)]
    template: Around,
    /// The input that goes with the instruction in --template alpaca
    #[arg(long, value_name = "TEXT", requires = "template", allow_hyphen_values = true)]
    input: Option<String>,
}

/// `--early-stopping`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stopping {
    True,
    False,
    Never,
}

/// `--template`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Around {
    /// Stanford Alpaca's, instruction and input
    Alpaca,
    /// Stanford Alpaca's, instruction alone
    AlpacaNoInput,
    /// BELLE's
    Belle,
    /// Nothing
    None,
}

impl Generate {
    /// The library's options.
    pub(crate) fn options(&self, logprobs: bool) -> Generation {
        let early_stopping = match self.early_stopping {
            Stopping::True => EarlyStopping::True,
            Stopping::False => EarlyStopping::False,
            Stopping::Never => EarlyStopping::Never,
        };
        let config = GenerationConfig {
            max_new_tokens: self.max_new_tokens,
            max_length: self.max_length,
            do_sample: self.do_sample,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: self.seed,
            repetition_penalty: self.repetition_penalty,
            no_repeat_ngram_size: self.no_repeat_ngram,
            num_beams: self.num_beams.get(),
            length_penalty: self.length_penalty,
            early_stopping,
            num_return_sequences: self.num_return_sequences.get(),
            logprobs,
            ..GenerationConfig::default()
        };
        let eos =
            (!self.eos_token_id.is_empty()).then(|| self.eos_token_id.iter().flat_map(|eos| eos.0.clone()).collect());
        Generation { config, eos, stop: self.stop.clone(), template: self.template() }
    }

    fn template(&self) -> Template {
        match self.template {
            Around::Alpaca => Template::Alpaca { input: self.input.clone().unwrap_or_default() },
            Around::AlpacaNoInput => Template::AlpacaNoInput,
            Around::Belle => Template::Belle,
            Around::None => Template::None,
        }
    }
}
