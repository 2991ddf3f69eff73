//! Generation: a batch of prompts, run to their ends together.
//!
//! [`config`] says what can be asked for, by Hugging Face's names; [`processors`] change the scores of the next token;
//! `prefill` brings prompts into the cache; `lanes` are sequences that go on one token at a time, greedily or drawn;
//! [`kept`] is one that stays in the cache for the next turn; `search` is beam search without a model, `beams` with one.
//! Start at [`generate`].

pub mod config;
pub mod kept;
pub mod processors;

mod beams;
mod lanes;
mod prefill;
mod search;

use std::collections::BTreeMap;

use crate::error::RunError;
use crate::session::{Chunk, SequenceId, Session, Want};
use config::GenerationConfig;
use prefill::Dealt;

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// An id that ends sequences came.
    Eos,
    /// It is as long as allowed.
    Length,
    /// Whoever listens had enough of it.
    Stop,
}

impl Finish {
    /// Its name in output: `eos`, `length` or `stop`.
    pub fn name(self) -> &'static str {
        match self {
            Finish::Eos => "eos",
            Finish::Length => "length",
            Finish::Stop => "stop",
        }
    }

    /// Why a sequence ends with these new ids, if it does. `stops` is asked unless an id ends it.
    fn of(new: &[u32], eos: &[u32], room: usize, stops: impl FnOnce(&[u32]) -> bool) -> Option<Finish> {
        if new.last().is_some_and(|id| eos.contains(id)) {
            Some(Finish::Eos)
        } else if stops(new) {
            Some(Finish::Stop)
        } else {
            (new.len() >= room).then_some(Finish::Length)
        }
    }
}

/// One sequence that came of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Which prompt, from 0.
    pub prompt: usize,
    /// New ids, the one that ended it included.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// For each new id, the logarithm of its probability under the logits as they were; empty if not asked for.
    pub logprobs: Vec<f32>,
    /// Of a beam search: the sum of its scores over its length to the power of the length penalty.
    pub score: Option<f64>,
}

/// Hears of tokens as they come, and may end sequences. A closure of sequence and id only hears. Of a beam search's
/// tokens nobody hears, as none is certain before the end.
pub trait Listener {
    /// A new token: the sequence, counted as they are returned, and the id.
    fn token(&mut self, sequence: usize, id: u32);

    /// Whether a sequence's new ids are enough. Asked whenever there is one more.
    fn stops(&mut self, _new: &[u32]) -> bool {
        false
    }

    /// Whether all sequences should end now. Asked before every token, and between chunks of a kept sequence's prompt.
    fn interrupted(&mut self) -> bool {
        false
    }
}

impl<F: FnMut(usize, u32)> Listener for F {
    fn token(&mut self, sequence: usize, id: u32) {
        self(sequence, id);
    }
}

/// Runs prompts until all have ended. What comes back is in the prompts' order, those of one prompt together.
///
/// # Errors
/// As [`Session::step`], and settings that mean nothing or contradict each other. Prompts longer than the context are
/// refused before anything runs; answers that reach it end with [`Finish::Length`].
pub fn generate(
    session: &mut Session,
    prompts: &[Vec<u32>],
    config: &GenerationConfig,
    listener: &mut impl Listener,
) -> Result<Vec<Generated>, RunError> {
    config.check()?;
    check_prompts(session, prompts)?;
    let room = |prompt: &Vec<u32>| config.room(prompt.len(), session.context());
    let rooms: Vec<usize> = prompts.iter().map(room).collect::<Result<_, _>>()?;
    let search = if config.num_beams > 1 { beams::run } else { lanes::run };
    search(session, prompts, &rooms, config, listener)
}

/// One more token of each of these sequences; `each` gets its place in the list and the logits that follow.
fn step_each(
    session: &mut Session,
    newest: &[(SequenceId, u32)],
    mut each: impl FnMut(usize, &[f32]),
) -> Result<(), RunError> {
    let one = newest.iter().map(|(sequence, id)| (*sequence, std::slice::from_ref(id)));
    let chunks: Vec<Chunk<'_>> = one.map(|(sequence, ids)| Chunk { sequence, ids, want: Want::Last }).collect();
    session.step(&chunks, |place, _, logits| each(place, logits))
}

/// Deals prompts out to replicas, neighbours to the same one; on each, distinct prompts in sorted order, with the numbers that
/// came with those equal to each.
fn dealt<'a>(
    session: &Session,
    prompts: impl ExactSizeIterator<Item = (&'a [u32], usize)>,
) -> (Vec<Dealt<'a>>, Vec<Vec<usize>>) {
    let (replicas, count) = (session.replicas(), prompts.len());
    let mut equal: BTreeMap<Dealt<'a>, Vec<usize>> = BTreeMap::new();
    for (place, (prompt, i)) in prompts.enumerate() {
        equal.entry((place * replicas / count, prompt)).or_default().push(i);
    }
    equal.into_iter().unzip()
}

pub(crate) fn check_prompts(session: &Session, prompts: &[Vec<u32>]) -> Result<(), RunError> {
    for (i, prompt) in prompts.iter().enumerate() {
        let checked = session.check_ids(prompt, 0);
        checked.map_err(|error| RunError::Prompt { prompt: i, error: Box::new(error) })?;
    }
    Ok(())
}

/// Refuses logits that are no numbers; `position` is the number of tokens before theirs: new ones in a generation, all of
/// a text.
pub(crate) fn check_logits(logits: &[f32], position: usize) -> Result<(), RunError> {
    if logits.iter().all(|logit| logit.is_finite()) { Ok(()) } else { Err(RunError::NotFinite(position)) }
}

#[cfg(test)]
mod tests;
