//! Sequences that go on one token at a time: greedily, or drawn.

use std::collections::BTreeMap;

use super::config::GenerationConfig;
use super::prefill::prefill;
use super::processors::{LogitsProcessor, processors};
use super::{Finish, Generated, Listener, check_logits, distinct, step_each};
use crate::error::RunError;
use crate::sampling::{draw, greedy, log_probability};
use crate::session::{SequenceId, Session};

/// One sequence on its way.
struct Lane {
    prompt: usize,
    /// Its place in the cache, from when its prompt has run until it ends.
    sequence: Option<SequenceId>,
    /// Prompt and answer.
    ids: Vec<u32>,
    /// New tokens there may be.
    room: usize,
    /// Which of the lanes with equal prompts it is: what its random numbers are drawn by, so that neighbours in the batch
    /// change nothing and equal prompts get different answers.
    stream: u64,
    /// What came of it, but for the ids.
    logprobs: Vec<f32>,
    finish: Option<Finish>,
}

/// How tokens are chosen, and who hears of them.
struct Picker<'a, L> {
    config: &'a GenerationConfig,
    processors: Vec<Box<dyn LogitsProcessor>>,
    listener: &'a mut L,
    scores: Vec<f32>,
    /// What is wrong with the logits, found where nothing can be returned.
    broken: Result<(), RunError>,
}

/// Runs every prompt's lanes to their ends; `rooms` has the new tokens each may have.
pub(super) fn run(
    session: &mut Session,
    prompts: &[Vec<u32>],
    rooms: &[usize],
    config: &GenerationConfig,
    listener: &mut impl Listener,
) -> Result<Vec<Generated>, RunError> {
    let mut lanes = lanes(prompts, rooms, config.num_return_sequences);
    let processors = processors(config);
    let mut picker = Picker { config, processors, listener, scores: Vec::new(), broken: Ok(()) };
    let begun = begin(session, prompts, &mut lanes, &mut picker);
    let run = begun.and_then(|()| go_on(session, prompts, &mut lanes, &mut picker));
    lanes.iter_mut().filter_map(|lane| lane.sequence.take()).for_each(|sequence| session.end(sequence));
    run.map(|()| lanes.into_iter().map(|lane| lane.generated(prompts)).collect())
}

fn lanes(prompts: &[Vec<u32>], rooms: &[usize], returned: usize) -> Vec<Lane> {
    let mut streams: BTreeMap<&[u32], u64> = BTreeMap::new();
    let mut lanes = Vec::with_capacity(prompts.len() * returned);
    for (prompt, ids) in prompts.iter().enumerate() {
        let streams = streams.entry(ids).or_default();
        for _ in 0..returned {
            let finish = (rooms[prompt] == 0).then_some(Finish::Length);
            let (ids, stream, room) = (ids.clone(), *streams, rooms[prompt]);
            lanes.push(Lane { prompt, sequence: None, ids, room, stream, logprobs: Vec::new(), finish });
            *streams += 1;
        }
    }
    lanes
}

/// Runs the prompts, equal ones once, and gives every lane its first token and its place in the cache.
fn begin(
    session: &mut Session,
    prompts: &[Vec<u32>],
    lanes: &mut [Lane],
    picker: &mut Picker<'_, impl Listener>,
) -> Result<(), RunError> {
    let going = (0..lanes.len()).filter(|&i| lanes[i].finish.is_none());
    let (beginnings, equal) = distinct(going.map(|i| (prompts[lanes[i].prompt].as_slice(), i)));
    let sequences = prefill(session, &beginnings, |prompt, logits| {
        equal[prompt].iter().for_each(|&i| picker.pick(i, &mut lanes[i], prompts, logits));
    })?;
    for (sequence, equal) in sequences.into_iter().zip(equal) {
        let length = session.length(sequence);
        for i in equal {
            lanes[i].sequence = lanes[i].finish.is_none().then(|| session.fork(sequence, length));
        }
        session.end(sequence);
    }
    std::mem::replace(&mut picker.broken, Ok(()))
}

/// One token for each lane that has not ended, until all have.
fn go_on(
    session: &mut Session,
    prompts: &[Vec<u32>],
    lanes: &mut [Lane],
    picker: &mut Picker<'_, impl Listener>,
) -> Result<(), RunError> {
    loop {
        let going: Vec<usize> = (0..lanes.len()).filter(|&i| lanes[i].finish.is_none()).collect();
        if going.is_empty() {
            return Ok(());
        }
        if picker.listener.interrupted() {
            going.iter().for_each(|&i| lanes[i].finish = Some(Finish::Stop));
            return Ok(());
        }
        let newest = |&i: &usize| {
            let Lane { sequence, ids, .. } = &lanes[i];
            (sequence.expect("it goes on"), *ids.last().expect("prompts have tokens"))
        };
        let newest: Vec<(SequenceId, u32)> = going.iter().map(newest).collect();
        step_each(session, &newest, |place, logits| {
            let i = going[place];
            picker.pick(i, &mut lanes[i], prompts, logits);
        })?;
        std::mem::replace(&mut picker.broken, Ok(()))?;
        for i in going {
            let lane = &mut lanes[i];
            if let Some(sequence) = lane.sequence.take_if(|_| lane.finish.is_some()) {
                session.end(sequence);
            }
        }
    }
}

impl<L: Listener> Picker<'_, L> {
    /// Takes a lane's next token.
    fn pick(&mut self, i: usize, lane: &mut Lane, prompts: &[Vec<u32>], logits: &[f32]) {
        let start = prompts[lane.prompt].len();
        if let Err(error) = check_logits(logits, lane.ids.len() - start) {
            self.broken = Err(error);
            return;
        }
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        self.processors.iter().for_each(|processor| processor.process(&lane.ids, &mut self.scores));
        let id = match self.config.do_sample {
            true => draw(&self.scores, self.config.seed, lane.stream, lane.ids.len() as u64),
            false => greedy(&self.scores),
        };
        lane.ids.push(id);
        if self.config.logprobs {
            lane.logprobs.push(log_probability(logits, id) as f32);
        }
        self.listener.token(i, id);
        let (new, eos) = (&lane.ids[start..], &self.config.eos_token_id);
        lane.finish = Finish::of(new, eos, lane.room, |new| self.listener.stops(new));
    }
}

impl Lane {
    fn generated(mut self, prompts: &[Vec<u32>]) -> Generated {
        let ids = self.ids.split_off(prompts[self.prompt].len());
        let finish = self.finish.expect("all lanes have ended");
        Generated { prompt: self.prompt, ids, finish, logprobs: self.logprobs, score: None }
    }
}
