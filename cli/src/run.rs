//! `run`: prompts in, generated text out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bloomery_models::tokenizer::{StreamDecoder, Tokenizer};
use bloomery_runtime::limits::Gauge;
use bloomery_runtime::profile::{Detail, Profile};
use bloomery_runtime::{GenerateOptions, Sampling, Session, generate};
use serde::Serialize;

use crate::execution::tokenizer;
use crate::output::check;
use crate::profile::{Profiled, profiled};
use crate::trace::trace;
use crate::{Error, Execution};

/// What to generate, and how.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The artifact.
    pub artifact: PathBuf,
    /// The prompts; more than one are run together.
    pub prompts: Prompts,
    /// New tokens per prompt, at most; the artifact's context is the other bound.
    pub max_new_tokens: usize,
    /// How to sample; the likeliest token is taken without.
    pub sampling: Option<Sampling>,
    /// Ids that end a text; the model's own when nothing is said.
    pub eos: Option<Vec<u32>>,
    /// Whether logarithms of the new tokens' probabilities are wanted.
    pub logprobs: bool,
    /// What to record of it.
    pub record: Record,
    /// How to run.
    pub execution: Execution,
}

/// What to record of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Whether a profile is wanted.
    pub profile: bool,
    /// Whether the machine's limits are measured after the run, for the profile to compare with.
    pub limits: bool,
    /// Where a trace goes.
    pub trace: Option<PathBuf>,
}

/// Prompts of one kind.
#[derive(Clone, Debug)]
pub enum Prompts {
    /// Texts, for which the artifact needs a tokenizer; nothing is added around them.
    Texts(Vec<String>),
    /// Token ids.
    Ids(Vec<Vec<u32>>),
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Completed {
    /// One for each prompt, in their order.
    pub sequences: Vec<Sequence>,
    /// How long it took.
    pub timing: Timing,
    /// Where the time went, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profiled>,
    /// The text of a trace, if asked for; whoever called writes it.
    #[serde(skip)]
    pub trace: Option<String>,
    /// Sentences for a person.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// What came of one prompt.
#[derive(Clone, Debug, Serialize)]
pub struct Sequence {
    /// The prompt.
    pub prompt_ids: Vec<u32>,
    /// New ids, the one that ended it included.
    pub ids: Vec<u32>,
    /// Their text without special tokens; none when the artifact has no tokenizer.
    pub text: Option<String>,
    /// `eos` or `length`.
    pub finish: &'static str,
    /// For each new id, the logarithm of its probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<f32>>,
}

/// Durations in milliseconds, and the numbers of tokens they were spent on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timing {
    /// Opening the artifact and taking memory.
    pub load_ms: f64,
    /// From there to the first new token.
    pub first_token_ms: f64,
    /// From the first new token to the end.
    pub decode_ms: f64,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// New tokens of all sequences.
    pub new_tokens: usize,
    /// New tokens but the first round's, over the time they took.
    pub decode_tokens_per_s: f64,
    /// How many threads worked.
    pub threads: usize,
    /// What ran: a class of processors or `interpreter`.
    pub class: String,
}

/// A new token, as it comes.
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    /// The prompt it belongs to, from 0.
    pub sequence: usize,
    /// The token.
    pub id: u32,
    /// The text it completes; often empty within a character, and always without a tokenizer.
    pub text: &'a str,
}

/// Generates; `hear` is told of every token as it comes.
///
/// # Errors
/// An artifact that cannot be used here, prompts that do not fit it, settings that mean nothing, a trace that cannot be
/// written, a profile of the interpreter.
pub fn run(options: &RunOptions, hear: &mut dyn FnMut(NewToken<'_>)) -> Result<Completed, Error> {
    options.record.trace.as_deref().map_or(Ok(()), check)?;
    let begin = Instant::now();
    let artifact = options.execution.open(&options.artifact)?;
    let tokenizer = tokenizer(&artifact)?;
    let prompts = ids(options, tokenizer.as_ref())?;
    bloomery_runtime::session::check_ids(options.eos.as_deref().unwrap_or(&[]), artifact.meta().vocabulary as usize)?;
    let lengths = prompts.iter().map(|prompt| prompt.len().saturating_add(options.max_new_tokens));
    let mut session = options.execution.session(&artifact, lengths)?;
    options.record.detail().map_or(Ok(()), |detail| session.record(detail))?;
    let load = begin.elapsed();
    let notes = full(&prompts, session.context());
    let generate_options = GenerateOptions {
        max_new_tokens: options.max_new_tokens,
        eos: options.eos.clone().unwrap_or_else(|| artifact.meta().eos.clone()),
        sampling: options.sampling.clone(),
        logprobs: options.logprobs,
    };
    let mut streams: Vec<Option<StreamDecoder<'_>>> =
        prompts.iter().map(|_| tokenizer.as_ref().map(|tokenizer| tokenizer.stream(true))).collect();
    let mut first = None;
    let generated = generate(&mut session, &prompts, &generate_options, |sequence, id| {
        first.get_or_insert_with(|| begin.elapsed());
        let text = streams[sequence].as_mut().map_or(String::new(), |stream| stream.push(id));
        hear(NewToken { sequence, id, text: &text });
    })?;
    let total = begin.elapsed();
    let recorded = session.recorded();
    let sequences = prompts.into_iter().zip(generated).map(|(prompt_ids, generated)| Sequence {
        prompt_ids,
        text: tokenizer.as_ref().map(|tokenizer| tokenizer.decode(&generated.ids, true)),
        ids: generated.ids,
        finish: generated.finish.name(),
        logprobs: options.logprobs.then_some(generated.logprobs),
    });
    let sequences: Vec<Sequence> = sequences.collect();
    let executor = session.executor();
    let timing = Timing {
        threads: executor.threads(),
        class: executor.class().to_owned(),
        ..timing(&sequences, load, first.unwrap_or(total), total)
    };
    let program = executor.artifact().program();
    let trace = recorded.as_ref().filter(|_| options.record.trace.is_some()).map(|recorded| trace(program, recorded));
    let profile = recorded.and_then(|recorded| options.record.profile(&session, &recorded));
    Ok(Completed { sequences, timing, profile, trace, notes })
}

impl Record {
    fn detail(&self) -> Option<Detail> {
        match self {
            Record { trace: Some(_), .. } => Some(Detail::Events),
            Record { profile: true, .. } => Some(Detail::Kernels),
            _ => None,
        }
    }

    /// The profile, if it is wanted.
    fn profile(&self, session: &Session, recorded: &Profile) -> Option<Profiled> {
        if !self.profile {
            return None;
        }
        let executor = session.executor();
        let read = || Gauge::new(executor.weights(), executor.class(), executor.threads()).read(executor.weights());
        let limits = self.limits.then(read);
        Some(profiled(executor.artifact(), executor.class(), recorded, limits.as_ref()))
    }
}

/// The prompts as ids.
fn ids(options: &RunOptions, tokenizer: Option<&Tokenizer>) -> Result<Vec<Vec<u32>>, Error> {
    match (&options.prompts, tokenizer) {
        (Prompts::Ids(ids), _) => Ok(ids.clone()),
        (Prompts::Texts(texts), Some(tokenizer)) => texts.iter().map(|text| Ok(tokenizer.encode(text)?)).collect(),
        (Prompts::Texts(_), None) => Err(Error::Refused(format!(
            "{} holds no tokenizer, so it takes no text: give --input-ids, or compile from a folder with tokenizer.json",
            options.artifact.display()
        ))),
    }
}

/// Which prompts leave no room for an answer.
fn full(prompts: &[Vec<u32>], context: usize) -> Vec<String> {
    let full = prompts.iter().enumerate().filter(|(_, prompt)| prompt.len() == context);
    let note = |(i, prompt): (usize, &Vec<u32>)| {
        format!(
            "prompt {i} (counted from 0) has {} tokens and fills the context of {context}, so nothing can follow: shorten \
             it, or compile with --max-context {} or more",
            prompt.len(),
            context + 1
        )
    };
    full.map(note).collect()
}

fn timing(sequences: &[Sequence], load: Duration, first: Duration, total: Duration) -> Timing {
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let new_tokens = sequences.iter().map(|sequence| sequence.ids.len()).sum();
    let later: usize = sequences.iter().map(|sequence| sequence.ids.len().saturating_sub(1)).sum();
    let decode = (total - first).as_secs_f64();
    Timing {
        load_ms: milliseconds(load),
        first_token_ms: milliseconds(first - load),
        decode_ms: milliseconds(total - first),
        prompt_tokens: sequences.iter().map(|sequence| sequence.prompt_ids.len()).sum(),
        new_tokens,
        decode_tokens_per_s: if later > 0 && decode > 0.0 { later as f64 / decode } else { 0.0 },
        ..Timing::default()
    }
}
