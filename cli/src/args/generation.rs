//! Arguments of generation, by Hugging Face's names, and of a conversation.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bloomery::chat::ChatOptions;
use bloomery::run::Generation;
use bloomery::template::Template;
use bloomery_runtime::{EarlyStopping, GenerationConfig};
use clap::{Args, ValueEnum};

use super::Running;
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
    #[command(flatten)]
    choice: Choice,
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
    /// What is put around a prompt's text
    #[arg(long, value_enum, default_value_t = Around::None)]
    template: Around,
    /// The input that goes with the instruction in --template alpaca
    #[arg(long, value_name = "TEXT", requires = "template", allow_hyphen_values = true)]
    input: Option<String>,
}

/// How tokens are chosen, and which end a text.
#[derive(Debug, Args)]
struct Choice {
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
    /// End a text where this comes, and cut it there; several are looked for together
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Ids that end a text, e.g. 2 or 2,3, or none [default: the model's own]
    #[arg(long, value_name = "IDS|none")]
    eos_token_id: Vec<Eos>,
}

/// `chat`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bloomery chat model.bloom --template belle\n  bloomery chat model.bloom --template alpaca --do-sample --top-p 0.9 --repetition-penalty 1.1\n  printf 'Hello!\\n/stats\\n' | bloomery chat model.bloom --template belle"
)]
pub(crate) struct Chat {
    /// The artifact
    #[arg(value_name = "FILE.bloom")]
    artifact: PathBuf,
    /// What is put around questions and answers
    #[arg(long, value_enum, default_value_t = Around::None)]
    template: Around,
    /// What stands before the first question and is never forgotten, in place of the template's own words
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// New tokens of an answer, at most; the oldest turns are forgotten where there is no room for them
    #[arg(long, value_name = "N", default_value = "256")]
    max_new_tokens: NonZeroUsize,
    /// Tokens of the conversation, at most [default: the artifact's context]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    running: Running,
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
        let generation = self.choice.options(self.template.with(self.input.as_deref()));
        let config = GenerationConfig {
            max_new_tokens: self.max_new_tokens,
            max_length: self.max_length,
            num_beams: self.num_beams.get(),
            length_penalty: self.length_penalty,
            early_stopping,
            num_return_sequences: self.num_return_sequences.get(),
            logprobs,
            ..generation.config
        };
        Generation { config, ..generation }
    }
}

impl Chat {
    /// The library's options.
    pub(crate) fn options(&self) -> ChatOptions {
        let generation = self.choice.options(self.template.with(None));
        let (max_new_tokens, max_length) = (self.max_new_tokens.get(), self.max_length);
        let config = GenerationConfig { max_new_tokens, max_length, ..generation.config };
        ChatOptions {
            artifact: self.artifact.clone(),
            generation: Generation { config, ..generation },
            system: self.system.clone(),
            execution: self.running.options(),
        }
    }
}

impl Choice {
    fn options(&self, template: Template) -> Generation {
        let config = GenerationConfig {
            do_sample: self.do_sample,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: self.seed,
            repetition_penalty: self.repetition_penalty,
            no_repeat_ngram_size: self.no_repeat_ngram,
            ..GenerationConfig::default()
        };
        let eos =
            (!self.eos_token_id.is_empty()).then(|| self.eos_token_id.iter().flat_map(|eos| eos.0.clone()).collect());
        Generation { config, eos, stop: self.stop.clone(), template }
    }
}

impl Around {
    /// The template, with Alpaca's input if there is one.
    fn with(self, input: Option<&str>) -> Template {
        match self {
            Around::Alpaca => Template::Alpaca { input: input.unwrap_or_default().to_owned() },
            Around::AlpacaNoInput => Template::AlpacaNoInput,
            Around::Belle => Template::Belle,
            Around::None => Template::None,
        }
    }
}
