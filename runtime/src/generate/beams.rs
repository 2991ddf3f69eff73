//! Beam search on a session: beams are forks of one sequence, so they share the pages they have in common.

use super::config::GenerationConfig;
use super::prefill::prefill;
use super::processors::{LogitsProcessor, processors};
use super::search::{Candidate, Search};
use super::{Finish, Generated, Listener, check_logits, dealt, step_each};
use crate::error::RunError;
use crate::sampling::log_probabilities;
use crate::session::{SequenceId, Session};

/// One prompt's search.
struct Prompt<'a> {
    ids: &'a [u32],
    search: Search,
    /// The running beams' places in the cache.
    sequences: Vec<SequenceId>,
    /// What may follow them, while a step is under way.
    candidates: Vec<Candidate>,
}

/// Runs every prompt's search to its end; `rooms` has the new tokens each may have.
pub(super) fn run(
    session: &mut Session,
    prompts: &[Vec<u32>],
    rooms: &[usize],
    config: &GenerationConfig,
    listener: &mut impl Listener,
) -> Result<Vec<Generated>, RunError> {
    let searched = prompts.iter().zip(rooms).map(|(ids, &room)| Prompt {
        ids: ids.as_slice(),
        search: Search::new(config, room),
        sequences: Vec::new(),
        candidates: Vec::new(),
    });
    let mut searched: Vec<Prompt<'_>> = searched.collect();
    let processors = processors(config);
    let run = begin(session, rooms, &mut searched, &processors, listener)
        .and_then(|()| go_on(session, &mut searched, &processors, listener));
    searched.iter_mut().flat_map(|prompt| prompt.sequences.drain(..)).for_each(|sequence| session.end(sequence));
    run.map(|()| searched.into_iter().enumerate().flat_map(|(i, prompt)| prompt.best(i, config)).collect())
}

/// Runs the prompts, equal ones once, and takes the first step of each search.
fn begin(
    session: &mut Session,
    rooms: &[usize],
    searched: &mut [Prompt<'_>],
    processors: &[Box<dyn LogitsProcessor>],
    listener: &mut impl Listener,
) -> Result<(), RunError> {
    let going: Vec<usize> = (0..searched.len()).filter(|&i| rooms[i] > 0).collect();
    let (prompts, equal) = dealt(session, going.into_iter().map(|i| (searched[i].ids, i)));
    let mut broken = Ok(());
    let sequences = prefill(session, &prompts, |prompt, logits| {
        for &i in &equal[prompt] {
            searched[i].look(0, logits, processors, &mut broken);
        }
    })?;
    for (sequence, equal) in sequences.into_iter().zip(equal) {
        for i in equal {
            let length = session.length(sequence);
            searched[i].sequences.push(session.fork(sequence, length));
            searched[i].advance(session, listener);
        }
        session.end(sequence);
    }
    broken
}

/// Steps, until all searches are over.
fn go_on(
    session: &mut Session,
    searched: &mut [Prompt<'_>],
    processors: &[Box<dyn LogitsProcessor>],
    listener: &mut impl Listener,
) -> Result<(), RunError> {
    loop {
        if listener.interrupted() {
            searched.iter_mut().for_each(|prompt| prompt.search.give_up());
        }
        let beams = |(i, prompt): (usize, &Prompt<'_>)| (0..prompt.search.running().len()).map(move |beam| (i, beam));
        let beams: Vec<(usize, usize)> = searched.iter().enumerate().flat_map(beams).collect();
        if beams.is_empty() {
            return Ok(());
        }
        let newest = |&(i, beam): &(usize, usize)| {
            let Prompt { search, sequences, .. } = &searched[i];
            (sequences[beam], *search.running()[beam].ids.last().expect("beams have ids"))
        };
        let newest: Vec<(SequenceId, u32)> = beams.iter().map(newest).collect();
        let mut broken = Ok(());
        step_each(session, &newest, |place, logits| {
            let (i, beam) = beams[place];
            searched[i].look(beam, logits, processors, &mut broken);
        })?;
        broken?;
        let going = searched.iter_mut().filter(|prompt| !prompt.search.running().is_empty());
        going.for_each(|prompt| prompt.advance(session, listener));
    }
}

impl Prompt<'_> {
    /// Notes what may follow a beam.
    fn look(
        &mut self,
        beam: usize,
        logits: &[f32],
        processors: &[Box<dyn LogitsProcessor>],
        broken: &mut Result<(), RunError>,
    ) {
        let new = &self.search.running()[beam].ids;
        if let Err(error) = check_logits(logits, new.len()) {
            *broken = Err(error);
            return;
        }
        let logprobs = log_probabilities(logits);
        let mut scores = logprobs.clone();
        let ids = [self.ids, new].concat();
        processors.iter().for_each(|processor| processor.process(&ids, &mut scores));
        self.candidates.extend(self.search.candidates(beam, &scores, &logprobs));
    }

    /// Takes the search's step; beams that run on are forks of those they came from.
    fn advance(&mut self, session: &mut Session, listener: &mut impl Listener) {
        let parents = self.search.advance(std::mem::take(&mut self.candidates), |new| listener.stops(new));
        let before = std::mem::take(&mut self.sequences);
        let fork = |parent: usize| {
            let length = session.length(before[parent]);
            session.fork(before[parent], length)
        };
        self.sequences = parents.into_iter().map(fork).collect();
        before.into_iter().for_each(|sequence| session.end(sequence));
    }

    /// The best sequences; empty ones where there was no room.
    fn best(self, prompt: usize, config: &GenerationConfig) -> Vec<Generated> {
        let none = || Generated { prompt, ids: vec![], finish: Finish::Length, logprobs: vec![], score: Some(0.0) };
        let ended = self.search.into_ended();
        if ended.is_empty() {
            return std::iter::repeat_with(none).take(config.num_return_sequences).collect();
        }
        let best = ended.into_iter().take(config.num_return_sequences);
        best.map(|ended| Generated {
            prompt,
            ids: ended.beam.ids,
            finish: ended.finish,
            logprobs: if config.logprobs { ended.beam.logprobs } else { Vec::new() },
            score: Some(ended.score),
        })
        .collect()
    }
}
