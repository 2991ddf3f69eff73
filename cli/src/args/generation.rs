//! Arguments of generation, by Hugging Face's names, and of a conversation.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bloomery::chat::ChatOptions;
use bloomery::generation::Generation;
use bloomery::template::Template;
use bloomery_models::config::GenerationSettings;
use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Args, ValueEnum};

use super::values::{Eos, count, min_p, repetition_penalty, temperature, top_p, whole};
use super::{Cli, Running};

/// New tokens of `run`, where nobody says how many.
const RUN_TOKENS: usize = 64;
/// New tokens of an answer of `chat`, likewise.
const CHAT_TOKENS: usize = 256;

/// How to generate. What is left out is as the model's makers say, else as the help says.
#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// New tokens, at most [default: 64]
    #[arg(long, value_name = "N", conflicts_with = "max_length", value_parser = whole::<usize>, allow_negative_numbers = true)]
    max_new_tokens: Option<usize>,
    /// Tokens of prompt and answer together, at most
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    max_length: Option<usize>,
    #[command(flatten)]
    choice: Choice,
    /// Sequences a beam search keeps [default: 1]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    num_beams: Option<NonZeroUsize>,
    /// A beam's score is the sum of its log-probabilities over its length to this power [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    length_penalty: Option<f64>,
    /// When as many beams have ended as are kept: true ends the search, false when none that runs looks better, never
    /// when none could become better [default: false]
    #[arg(long, value_name = "WHEN", value_parser = PossibleValuesParser::new(["true", "false", "never"]))]
    early_stopping: Option<String>,
    /// Sequences per prompt: drawn ones, or the best beams [default: 1]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    num_return_sequences: Option<NonZeroUsize>,
    /// What is put around a prompt's text
    #[arg(long, value_enum, default_value_t = Around::None)]
    template: Around,
    /// The input that goes with the instruction in --template alpaca
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    input: Option<String>,
}

/// How tokens are chosen, and which end a text.
#[derive(Debug, Args)]
struct Choice {
    /// Draw tokens by their probabilities instead of taking the likeliest
    #[arg(long)]
    do_sample: bool,
    /// Take the likeliest tokens where the model's makers say that they are drawn
    #[arg(long, conflicts_with = "do_sample")]
    greedy: bool,
    /// Divides the logits before drawing [default: 1]
    #[arg(long, value_name = "X", value_parser = temperature, allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Draw from the likeliest K; 0 means from all [default: 50]
    #[arg(long, value_name = "K", value_parser = whole::<usize>, allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Draw from the likeliest tokens that together reach this probability [default: 1]
    #[arg(long, value_name = "P", value_parser = top_p, allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Draw from tokens with at least this share of the likeliest one's probability [default: 0]
    #[arg(long, value_name = "P", value_parser = min_p, allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Equal seeds draw equal tokens
    #[arg(long, value_name = "SEED", default_value_t = 0, value_parser = whole::<u64>, allow_negative_numbers = true)]
    seed: u64,
    /// Makes tokens that are there already less likely, above 1; of logits, in a beam search of log-probabilities
    /// [default: 1]
    #[arg(long, value_name = "X", value_parser = repetition_penalty, allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
    /// Let no run of N tokens come twice; 0 for no such rule [default: 0]
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    no_repeat_ngram: Option<usize>,
    /// End a text where this comes, and cut it there; several are looked for together
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Ids that end a text, e.g. 2 or 2,3; or none [default: the model's own]
    #[arg(long, value_name = "IDS|none")]
    eos_token_id: Option<Eos>,
}

/// `chat`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bloomery chat model.bloom --template belle\n  bloomery chat model.bloom --template alpaca --do-sample --top-p 0.9 --repetition-penalty 1.1\n  printf 'Hello!\\n/stats\\n' | bloomery chat model.bloom --template belle"
)]
pub(crate) struct Chat {
    /// The artifact, or a model's folder or name, which is compiled on first use
    #[arg(value_name = "FILE.bloom|MODEL")]
    artifact: PathBuf,
    /// What is put around questions and answers
    #[arg(long, value_enum, default_value_t = Around::None)]
    template: Around,
    /// What stands before the first question and is never forgotten, in place of the template's own words
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// New tokens of an answer, at most; the oldest turns are forgotten where there is no room for them [default: 256]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    max_new_tokens: Option<NonZeroUsize>,
    /// Tokens of the conversation, at most [default: the artifact's context]
    #[arg(long, value_name = "N", value_parser = whole::<usize>, allow_negative_numbers = true)]
    max_length: Option<usize>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    running: Running,
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
    /// An input beside a template that has no place for it.
    pub(super) fn misplaced(&self) -> Option<clap::Error> {
        let message = "--input goes with an instruction: add --template alpaca, or leave it out";
        let misplaced = self.input.is_some() && !matches!(self.template, Around::Alpaca);
        misplaced.then(|| Cli::error("run", ErrorKind::ArgumentConflict, message))
    }

    /// The library's options.
    pub(crate) fn options(&self, logprobs: bool) -> Generation {
        let generation = self.choice.options(self.template.with(self.input.as_deref()));
        let asked = GenerationSettings {
            max_new_tokens: self.max_new_tokens,
            max_length: self.max_length,
            num_beams: self.num_beams.map(NonZeroUsize::get),
            length_penalty: self.length_penalty,
            early_stopping: self.early_stopping.clone(),
            num_return_sequences: self.num_return_sequences.map(NonZeroUsize::get),
            ..generation.asked
        };
        Generation { asked, new_tokens: Some(RUN_TOKENS), logprobs, ..generation }
    }
}

impl Chat {
    /// The library's options.
    pub(crate) fn options(&self) -> ChatOptions {
        let generation = self.choice.options(self.template.with(None));
        let max_new_tokens = self.max_new_tokens.map(NonZeroUsize::get);
        let asked = GenerationSettings { max_new_tokens, max_length: self.max_length, ..generation.asked };
        ChatOptions {
            artifact: self.artifact.clone(),
            generation: Generation { asked, new_tokens: Some(CHAT_TOKENS), ..generation },
            system: self.system.clone(),
            execution: self.running.options(),
        }
    }
}

impl Choice {
    fn options(&self, template: Template) -> Generation {
        let asked = GenerationSettings {
            eos_token_id: self.eos_token_id.as_ref().map(|eos| eos.0.clone()),
            do_sample: (self.do_sample || self.greedy).then_some(self.do_sample),
            temperature: self.temperature.map(f64::from),
            top_k: self.top_k,
            top_p: self.top_p.map(f64::from),
            min_p: self.min_p.map(f64::from),
            repetition_penalty: self.repetition_penalty.map(f64::from),
            no_repeat_ngram_size: self.no_repeat_ngram,
            ..GenerationSettings::default()
        };
        Generation { asked, seed: self.seed, stop: self.stop.clone(), template, ..Generation::default() }
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
