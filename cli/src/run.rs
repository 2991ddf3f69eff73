//! `run`: prompts in, generated text out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bloomery_formats::map::cut;
use bloomery_models::tokenizer::Tokenizer;
use bloomery_runtime::limits::Gauge;
use bloomery_runtime::profile::{Detail, Profile};
use bloomery_runtime::{Generated, GenerationConfig, Listener, Session, generate};
use serde::Serialize;

use crate::execution::{on, tokenizer};
use crate::generation::Generation;
use crate::input::read_text;
use crate::output::check;
use crate::profile::{Profiled, profiled};
use crate::stop::{Shown, StopStrings};
use crate::template::Template;
use crate::trace::trace;
use crate::{Error, Execution};

/// What to generate, and how.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The artifact.
    pub artifact: PathBuf,
    /// The prompts; more than one are run together.
    pub prompts: Prompts,
    /// How to generate.
    pub generation: Generation,
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
    /// Texts, for which the artifact needs a tokenizer; nothing but the template is added around them.
    Texts(Vec<String>),
    /// Files of such texts, of UTF-8; every byte counts.
    Files(Vec<PathBuf>),
    /// Token ids.
    Ids(Vec<Vec<u32>>),
}

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Completed {
    /// In the prompts' order, those of one prompt together.
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
    /// Which prompt it follows, from 0, where prompts have several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<usize>,
    /// The prompt.
    pub prompt_ids: Vec<u32>,
    /// New ids, the one that ended it included.
    pub ids: Vec<u32>,
    /// Their text without special tokens, up to a stop string; none when the artifact has no tokenizer.
    pub text: Option<String>,
    /// `eos`, `length` or `stop`.
    pub finish: &'static str,
    /// For each new id, the logarithm of its probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<f32>>,
    /// Of a beam: the sum of its logarithms over its length to the power of the length penalty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
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
    /// The sequence it belongs to, from 0.
    pub sequence: usize,
    /// How many sequences there are.
    pub of: usize,
    /// The token; none for what is left of a text at its end.
    pub id: Option<u32>,
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
    let config = options.generation.config(&artifact, tokenizer.as_ref())?;
    let mut session = options.execution.session(&artifact, config.lengths(&prompts))?;
    options.record.detail().map_or(Ok(()), |detail| session.record(detail))?;
    let load = begin.elapsed();
    let notes = full(&prompts, session.context());
    let texts = Texts { tokenizer: tokenizer.as_ref(), stops: StopStrings(&options.generation.stop) };
    let mut heard = |token: NewToken<'_>| {
        hear(token);
        !cut::happened()
    };
    let answered = on(&artifact, || answer(&mut session, &prompts, &config, texts, &mut heard))?;
    let Answers { sequences, first } = answered;
    let total = begin.elapsed();
    let first = first.map_or(total, |first| first - begin);
    let recorded = session.recorded();
    let executor = session.executor();
    let timing = Timing {
        threads: executor.threads(),
        class: executor.class().to_owned(),
        ..timing(&prompts, &sequences, load, first, total)
    };
    let program = executor.artifact().program();
    let trace = recorded.as_ref().filter(|_| options.record.trace.is_some()).map(|recorded| trace(program, recorded));
    let profile = recorded.and_then(|recorded| options.record.profile(&session, &recorded));
    Ok(Completed { sequences, timing, profile, trace, notes })
}

/// Between ids and texts.
#[derive(Clone, Copy)]
pub(crate) struct Texts<'a> {
    pub(crate) tokenizer: Option<&'a Tokenizer>,
    pub(crate) stops: StopStrings<'a>,
}

/// What came of prompts.
pub(crate) struct Answers {
    pub(crate) sequences: Vec<Sequence>,
    /// When the first new token was there.
    first: Option<Instant>,
}

/// Generates in a session. `hear` is told of every token as it comes, and says whether to go on.
pub(crate) fn answer(
    session: &mut Session,
    prompts: &[Vec<u32>],
    config: &GenerationConfig,
    texts: Texts<'_>,
    hear: &mut dyn FnMut(NewToken<'_>) -> bool,
) -> Result<Answers, Error> {
    let of = prompts.len() * config.num_return_sequences;
    let mut heard = Heard { texts, of, shown: Vec::new(), first: None, enough: false, hear };
    let generated = generate(session, prompts, config, &mut heard)?;
    heard.finish();
    let sequences = generated.into_iter().map(|generated| sequence(generated, prompts, config, texts)).collect();
    Ok(Answers { sequences, first: heard.first })
}

/// What listens to a generation: shows texts as far as they are certain, looks for stop strings, notes the
/// first token's time.
struct Heard<'a> {
    texts: Texts<'a>,
    of: usize,
    shown: Vec<Shown<'a>>,
    first: Option<Instant>,
    /// Whoever hears wants no more.
    enough: bool,
    hear: &'a mut dyn FnMut(NewToken<'_>) -> bool,
}

impl Listener for Heard<'_> {
    fn token(&mut self, sequence: usize, id: u32) {
        while self.shown.len() <= sequence {
            self.shown.push(Shown::new(self.texts.tokenizer, self.texts.stops));
        }
        let text = self.shown[sequence].push(id);
        self.enough |= !(self.hear)(NewToken { sequence, of: self.of, id: Some(id), text: &text });
    }

    fn stops(&mut self, new: &[u32]) -> bool {
        self.first.get_or_insert_with(Instant::now);
        self.texts.tokenizer.is_some_and(|tokenizer| self.texts.stops.end(tokenizer, new))
    }

    fn interrupted(&mut self) -> bool {
        self.enough
    }
}

impl Heard<'_> {
    /// What was held back.
    fn finish(&mut self) {
        for (sequence, shown) in self.shown.iter_mut().enumerate() {
            let text = shown.finish();
            if !text.is_empty() {
                (self.hear)(NewToken { sequence, of: self.of, id: None, text: &text });
            }
        }
    }
}

fn sequence(generated: Generated, prompts: &[Vec<u32>], config: &GenerationConfig, texts: Texts<'_>) -> Sequence {
    let text = |tokenizer: &Tokenizer| texts.stops.cut(&tokenizer.decode(&generated.ids, true)).to_owned();
    Sequence {
        prompt: (config.num_return_sequences > 1).then_some(generated.prompt),
        prompt_ids: prompts[generated.prompt].clone(),
        text: texts.tokenizer.map(text),
        ids: generated.ids,
        finish: generated.finish.name(),
        logprobs: config.logprobs.then_some(generated.logprobs),
        score: generated.score,
    }
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
    let texts = match &options.prompts {
        Prompts::Ids(_) if options.generation.template != Template::None => {
            let name = options.generation.template.name();
            return Err(Error::Refused(format!("the template {name} goes around texts: give those, or leave it out")));
        }
        Prompts::Ids(ids) => return Ok(ids.clone()),
        Prompts::Texts(texts) => texts.clone(),
        Prompts::Files(files) => files.iter().map(|file| read_text(file)).collect::<Result<_, _>>()?,
    };
    match tokenizer {
        Some(tokenizer) => encode(&texts, &options.generation.template, tokenizer),
        None => Err(Error::Refused(format!(
            "{} holds no tokenizer, so it takes no text: give --input-ids, or compile from a folder with tokenizer.json",
            options.artifact.display()
        ))),
    }
}

/// Texts as ids, each with the template around it.
pub(crate) fn encode(texts: &[String], template: &Template, tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>, Error> {
    texts.iter().map(|text| Ok(tokenizer.encode(&template.around(text))?)).collect()
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

fn timing(prompts: &[Vec<u32>], sequences: &[Sequence], load: Duration, first: Duration, total: Duration) -> Timing {
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let new_tokens = sequences.iter().map(|sequence| sequence.ids.len()).sum();
    let later: usize = sequences.iter().map(|sequence| sequence.ids.len().saturating_sub(1)).sum();
    let decode = (total - first).as_secs_f64();
    Timing {
        load_ms: milliseconds(load),
        first_token_ms: milliseconds(first - load),
        decode_ms: milliseconds(total - first),
        prompt_tokens: prompts.iter().map(Vec::len).sum(),
        new_tokens,
        decode_tokens_per_s: if later > 0 && decode > 0.0 { later as f64 / decode } else { 0.0 },
        ..Timing::default()
    }
}
