//! Sequences that go on one token at a time: greedily, or drawn.

use std::collections::BTreeMap;

use super::config::GenerationConfig;
use super::prefill::prefill;
use super::processors::{LogitsProcessor, processors};
use super::{Finish, Generated, Listener, check_logits, dealt, step_each};
use crate::error::RunError;
use crate::sampling::{draw, greedy, log_probability};
use crate::session::{Chunk, SequenceId, Session, Want};

/// One sequence on its way.
struct Lane {
    prompt: usize,
    /// Its place in the cache, from when its prompt has run until it ends.
    sequence: Option<SequenceId>,
    /// Prompt and answer.
    ids: Vec<u32>,
    /// Tokens of the prompt.
    start: usize,
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
    let mut picker = Picker::new(config, listener);
    let begun = begin(session, prompts, &mut lanes, &mut picker);
    let run = begun.and_then(|()| go_on(session, &mut lanes, &mut picker, Session::end));
    lanes.iter_mut().filter_map(|lane| lane.sequence.take()).for_each(|sequence| session.end(sequence));
    run.map(|()| lanes.into_iter().map(Lane::generated).collect())
}

/// Continues one sequence, whose first tokens are in the cache, and leaves it there without its newest token.
pub(super) fn follow(
    session: &mut Session,
    sequence: SequenceId,
    ids: Vec<u32>,
    room: usize,
    config: &GenerationConfig,
    listener: &mut impl Listener,
) -> Result<Generated, RunError> {
    let mut lane = Lane::new(0, ids, room, 0);
    let mut picker = Picker::new(config, listener);
    if lane.finish.is_none() {
        feed(session, sequence, &mut lane, &mut picker)?;
    }
    lane.sequence = Some(sequence);
    go_on(session, std::slice::from_mut(&mut lane), &mut picker, |_, _| {})?;
    Ok(lane.generated())
}

fn lanes(prompts: &[Vec<u32>], rooms: &[usize], returned: usize) -> Vec<Lane> {
    let mut streams: BTreeMap<&[u32], u64> = BTreeMap::new();
    let mut lanes = Vec::with_capacity(prompts.len() * returned);
    for (prompt, ids) in prompts.iter().enumerate() {
        let streams = streams.entry(ids).or_default();
        for _ in 0..returned {
            lanes.push(Lane::new(prompt, ids.clone(), rooms[prompt], *streams));
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
    let going: Vec<usize> = (0..lanes.len()).filter(|&i| lanes[i].finish.is_none()).collect();
    let (beginnings, equal) = dealt(session, going.into_iter().map(|i| (prompts[lanes[i].prompt].as_slice(), i)));
    let sequences = prefill(session, &beginnings, |prompt, logits| {
        equal[prompt].iter().for_each(|&i| picker.pick(i, &mut lanes[i], logits));
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

/// Runs what of a lane's tokens is not in the cache yet, a chunk at once so that it can be interrupted, and gives it its
/// first token.
fn feed(
    session: &mut Session,
    sequence: SequenceId,
    lane: &mut Lane,
    picker: &mut Picker<'_, impl Listener>,
) -> Result<(), RunError> {
    let missing = lane.ids[session.length(sequence)..].to_vec();
    let mut left = missing.len();
    for ids in missing.chunks(session.chunk()) {
        if picker.listener.interrupted() {
            lane.finish = Some(Finish::Stop);
            return Ok(());
        }
        left -= ids.len();
        let want = if left == 0 { Want::Last } else { Want::Nothing };
        session.step(&[Chunk { sequence, ids, want }], |_, _, logits| picker.pick(0, lane, logits))?;
    }
    std::mem::replace(&mut picker.broken, Ok(()))
}

/// One token for each lane that has not ended, until all have; `ended` gets the sequences of those that do.
fn go_on(
    session: &mut Session,
    lanes: &mut [Lane],
    picker: &mut Picker<'_, impl Listener>,
    ended: impl Fn(&mut Session, SequenceId),
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
            picker.pick(i, &mut lanes[i], logits);
        })?;
        std::mem::replace(&mut picker.broken, Ok(()))?;
        for i in going {
            let lane = &mut lanes[i];
            if let Some(sequence) = lane.sequence.take_if(|_| lane.finish.is_some()) {
                ended(session, sequence);
            }
        }
    }
}

impl<'a, L: Listener> Picker<'a, L> {
    fn new(config: &'a GenerationConfig, listener: &'a mut L) -> Self {
        Picker { config, processors: processors(config), listener, scores: Vec::new(), broken: Ok(()) }
    }

    /// Takes a lane's next token.
    fn pick(&mut self, i: usize, lane: &mut Lane, logits: &[f32]) {
        if let Err(error) = check_logits(logits, lane.ids.len() - lane.start) {
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
        let (new, eos) = (&lane.ids[lane.start..], &self.config.eos_token_id);
        lane.finish = Finish::of(new, eos, lane.room, |new| self.listener.stops(new));
    }
}

impl Lane {
    /// Before its prompt has run; without room it has ended already.
    fn new(prompt: usize, ids: Vec<u32>, room: usize, stream: u64) -> Lane {
        let (start, finish) = (ids.len(), (room == 0).then_some(Finish::Length));
        Lane { prompt, sequence: None, ids, start, room, stream, logprobs: Vec::new(), finish }
    }

    fn generated(mut self) -> Generated {
        let ids = self.ids.split_off(self.start);
        let finish = self.finish.expect("all lanes have ended");
        Generated { prompt: self.prompt, ids, finish, logprobs: self.logprobs, score: None }
    }
}
