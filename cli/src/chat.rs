//! `chat`: turns of question and answer, of which each costs its new tokens alone.
//!
//! `conversation` says what the model sees; the runtime keeps the sequence of it in the cache. What both have in common
//! stays there: after a turn that is all of it, after forgotten turns the opening, after a stop string what stands before
//! it. Everything else runs again, since each token's keys and values depend on all tokens before it. No terminal is here.

mod conversation;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bloomery_models::config::GenerationSettings;
use bloomery_models::tokenizer::Tokenizer;
use bloomery_runtime::{Finish, Generated, GenerationConfig, Kept, Listener, Session};
use serde::Serialize;

use crate::execution::{on, tokenizer_for_text};
use crate::generation::Generation;
use crate::stop::{Shown, StopStrings};
use crate::{Error, Execution};
use conversation::Conversation;

pub use conversation::Turn;

/// How to talk.
#[derive(Clone, Debug)]
pub struct ChatOptions {
    /// The artifact.
    pub artifact: PathBuf,
    /// How to generate answers; `max_length` bounds the conversation instead of the artifact's context.
    pub generation: Generation,
    /// What stands before the first question, in place of the template's own words.
    pub system: Option<String>,
    /// How to run.
    pub execution: Execution,
}

/// A conversation with a model.
pub struct Chat {
    session: Session,
    kept: Kept,
    conversation: Conversation,
    config: GenerationConfig,
    /// Texts that end an answer, the template's own among them.
    stops: Vec<String>,
    /// Tokens of a conversation, at most.
    limit: usize,
    system: Option<String>,
    counts: Counts,
}

/// Sums over all turns, those before a reset included.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    new_tokens: usize,
    later_tokens: usize,
    decode: Duration,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Why it ended.
    pub finish: Finish,
    /// Whether that was an interruption. One before the first token takes the question back.
    pub interrupted: bool,
    /// Its tokens.
    pub new_tokens: usize,
    /// Turns that were forgotten to make room for it.
    pub forgotten: usize,
}

/// How far a conversation is.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// Turns.
    pub turns: usize,
    /// Those of them that the model no longer sees.
    pub forgotten: usize,
    /// Tokens that the model sees.
    pub tokens: usize,
    /// Tokens there is room for.
    pub limit: usize,
    /// Tokens that went through the model, over all turns.
    pub computed_tokens: u64,
    /// New tokens of all answers.
    pub new_tokens: usize,
    /// New tokens but each answer's first, over the time they took.
    pub decode_tokens_per_s: f64,
    /// How many threads work.
    pub threads: usize,
    /// What runs: a class of processors or `interpreter`.
    pub class: String,
}

/// All of a conversation.
#[derive(Clone, Debug, Serialize)]
pub struct Transcript {
    /// The template's name.
    pub template: &'static str,
    /// What stands before the first question, if it is not the template's own.
    pub system: Option<String>,
    /// What was said.
    pub turns: Vec<Turn>,
    /// How many turns, from the first, the model no longer sees.
    pub forgotten: usize,
    /// What the model sees: the opening and the other turns.
    pub ids: Vec<u32>,
}

impl Chat {
    /// Opens an artifact; nothing is said yet.
    ///
    /// # Errors
    /// An artifact that cannot be used here or has no tokenizer, settings that mean nothing or contradict each other, an
    /// opening that leaves no room.
    pub fn open(options: &ChatOptions) -> Result<Chat, Error> {
        let ChatOptions { generation, system, execution, .. } = options;
        let artifact = execution.open(&options.artifact)?;
        let tokenizer = tokenizer_for_text(&artifact, &options.artifact)?;
        // An answer is one, as it comes, whatever the model's makers say.
        let (num_beams, num_return_sequences) = (Some(1), Some(1));
        let asked = GenerationSettings { num_beams, num_return_sequences, ..generation.asked.clone() };
        let generation = Generation { asked, ..generation.clone() };
        let config = generation.config(&artifact, Some(&tokenizer))?;
        let length = config.max_length.unwrap_or(usize::MAX);
        let config = GenerationConfig { max_length: None, ..config };
        let mut session = execution.session(&artifact, [length])?;
        let limit = length.min(session.context());
        let conversation = Conversation::new(tokenizer, generation.template.clone(), system.as_deref())?;
        if conversation.opening() + 2 > limit {
            return Err(Error::Refused(format!(
                "what stands before the first question has {} tokens, where a conversation has room for {limit}: shorten \
                 --system, or allow more",
                conversation.opening()
            )));
        }
        let own = generation.template.stops().iter().map(ToString::to_string);
        let stops = generation.stop.iter().cloned().chain(own).collect();
        let kept = Kept::start(&mut session);
        let (system, counts) = (system.clone(), Counts::default());
        Ok(Chat { session, kept, conversation, config, stops, limit, system, counts })
    }

    /// Asks a question; `show` gets the answer's text as it comes. Where the conversation is full, the first turns are
    /// forgotten until question and answer fit: `max_new_tokens` of it, or half of the room where that is less.
    ///
    /// When `interrupted` says so, the answer ends there; if it has not begun, the question is taken back.
    ///
    /// # Errors
    /// A question that does not fit; whatever running refuses. The conversation is then as it was.
    pub fn ask(
        &mut self,
        question: &str,
        interrupted: &dyn Fn() -> bool,
        show: &mut dyn FnMut(&str),
    ) -> Result<Answer, Error> {
        let before = self.conversation.forgotten();
        let asked = self.conversation.ask(question, self.limit, self.config.max_new_tokens.min(self.limit / 2))?;
        let (generated, interrupted) = self.follow(&asked.ids, interrupted, show)?;
        let (finish, new_tokens) = (generated.finish, generated.ids.len());
        if interrupted && new_tokens == 0 {
            return Ok(Answer { finish, interrupted, new_tokens, forgotten: 0 });
        }
        let name = if interrupted { "interrupted" } else { finish.name() };
        self.conversation.add(question, asked.forgotten, generated.ids, StopStrings(&self.stops), name);
        Ok(Answer { finish, interrupted, new_tokens, forgotten: asked.forgotten - before })
    }

    /// What follows these ids, and whether it was interrupted. The cache keeps what it has of them.
    fn follow(
        &mut self,
        ids: &[u32],
        interrupted: &dyn Fn() -> bool,
        show: &mut dyn FnMut(&str),
    ) -> Result<(Generated, bool), Error> {
        let common = self.kept.ids().iter().zip(ids).take_while(|(kept, wanted)| kept == wanted).count();
        self.kept.truncate(&mut self.session, common);
        let max_new_tokens = self.config.max_new_tokens.min(self.limit - ids.len());
        let config = GenerationConfig { max_new_tokens, ..self.config.clone() };
        let (tokenizer, stops) = (self.conversation.tokenizer(), StopStrings(&self.stops));
        let shown = Shown::new(Some(tokenizer), stops);
        let mut heard = Heard { tokenizer, shown, stops, interrupted, was_interrupted: false, first: None, show };
        let artifact = Arc::clone(self.session.executor().artifact());
        let new = &ids[common..];
        let generated = on(&artifact, || Ok(self.kept.generate(&mut self.session, new, &config, &mut heard)?))?;
        (heard.show)(&heard.shown.finish());
        self.counts.new_tokens += generated.ids.len();
        if let Some(first) = heard.first {
            self.counts.decode += first.elapsed();
            self.counts.later_tokens += generated.ids.len() - 1;
        }
        Ok((generated, heard.was_interrupted))
    }

    /// New tokens of an answer, at most.
    pub fn max_new_tokens(&self) -> usize {
        self.config.max_new_tokens
    }

    /// Forgets everything but the opening.
    pub fn reset(&mut self) {
        self.conversation.reset();
    }

    /// How far the conversation is.
    ///
    /// # Errors
    /// The tokenizer's, of which BLOOM's has none.
    pub fn stats(&self) -> Result<Stats, Error> {
        let (executor, seconds) = (self.session.executor(), self.counts.decode.as_secs_f64());
        let per_second = if seconds > 0.0 { self.counts.later_tokens as f64 / seconds } else { 0.0 };
        Ok(Stats {
            turns: self.conversation.turns().len(),
            forgotten: self.conversation.forgotten(),
            tokens: self.conversation.seen()?.len(),
            limit: self.limit,
            computed_tokens: self.session.computed(),
            new_tokens: self.counts.new_tokens,
            decode_tokens_per_s: per_second,
            threads: executor.threads(),
            class: executor.class().to_owned(),
        })
    }

    /// All of the conversation, to be kept.
    ///
    /// # Errors
    /// The tokenizer's, of which BLOOM's has none.
    pub fn transcript(&self) -> Result<Transcript, Error> {
        Ok(Transcript {
            template: self.conversation.template().name(),
            system: self.system.clone(),
            turns: self.conversation.turns().to_vec(),
            forgotten: self.conversation.forgotten(),
            ids: self.conversation.seen()?,
        })
    }
}

/// What listens to an answer.
struct Heard<'a> {
    tokenizer: &'a Tokenizer,
    shown: Shown<'a>,
    stops: StopStrings<'a>,
    interrupted: &'a dyn Fn() -> bool,
    was_interrupted: bool,
    first: Option<Instant>,
    show: &'a mut dyn FnMut(&str),
}

impl Listener for Heard<'_> {
    fn token(&mut self, _: usize, id: u32) {
        self.first.get_or_insert_with(Instant::now);
        (self.show)(&self.shown.push(id));
    }

    fn stops(&mut self, new: &[u32]) -> bool {
        self.stops.end(self.tokenizer, new)
    }

    fn interrupted(&mut self) -> bool {
        self.was_interrupted = (self.interrupted)();
        self.was_interrupted
    }
}
