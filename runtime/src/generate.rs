//! Generation: a batch of prompts, run to their ends together.

use crate::error::RunError;
use crate::sampling::{Sampling, greedy, log_probability};
use crate::session::{Chunk, SequenceId, Session, Want};

/// How to generate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerateOptions {
    /// New tokens per sequence, at most.
    pub max_new_tokens: usize,
    /// Ids that end a sequence.
    pub eos: Vec<u32>,
    /// How to sample; greedy without.
    pub sampling: Option<Sampling>,
    /// Whether logarithms of the tokens' probabilities are wanted.
    pub logprobs: bool,
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// An id that ends sequences came.
    Eos,
    /// It is as long as allowed.
    Length,
}

impl Finish {
    /// Its name in output: `eos` or `length`.
    pub fn name(self) -> &'static str {
        match self {
            Finish::Eos => "eos",
            Finish::Length => "length",
        }
    }
}

/// What came of one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// New ids, the one that ended it included.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// For each new id, the logarithm of its probability under the logits as they were; empty if not asked for.
    pub logprobs: Vec<f32>,
}

/// One prompt's state.
struct Live {
    sequence: SequenceId,
    /// New tokens there may be: as asked, as far as the context reaches.
    room: usize,
    /// Which of the prompts equal to it this is: what its random numbers are drawn by, so that neighbours in the batch
    /// change nothing and equal prompts get different answers.
    stream: u64,
    new: Generated,
    done: bool,
}

/// Runs prompts until all have ended. `token` hears of every new token as it comes: prompt and id.
///
/// # Errors
/// As [`Session::step`], and settings of sampling that mean nothing. Prompts longer than the context are refused before
/// anything runs; answers that reach it end with [`Finish::Length`].
pub fn generate(
    session: &mut Session,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    mut token: impl FnMut(usize, u32),
) -> Result<Vec<Generated>, RunError> {
    options.sampling.as_ref().map_or(Ok(()), Sampling::check)?;
    check_prompts(session, prompts)?;
    let mut live: Vec<Live> = (0..prompts.len()).map(|i| begin(session, prompts, i, options)).collect();
    let run = run(session, prompts, options, &mut live, &mut token);
    live.iter().filter(|live| !live.done).for_each(|live| session.end(live.sequence));
    run.map(|()| live.into_iter().map(|live| live.new).collect())
}

fn check_prompts(session: &Session, prompts: &[Vec<u32>]) -> Result<(), RunError> {
    for (i, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            return Err(RunError::Empty(i));
        }
        crate::session::check_ids(prompt, session.vocabulary())?;
        if prompt.len() > session.context() {
            return Err(RunError::Context { tokens: prompt.len() as u64, context: session.context() as u64 });
        }
    }
    Ok(())
}

fn begin(session: &mut Session, prompts: &[Vec<u32>], i: usize, options: &GenerateOptions) -> Live {
    let prompt = &prompts[i];
    let stream = prompts[..i].iter().filter(|earlier| *earlier == prompt).count() as u64;
    let room = options.max_new_tokens.min(session.context() - prompt.len());
    let new = Generated { ids: Vec::new(), finish: Finish::Length, logprobs: Vec::new() };
    let sequence = session.start();
    if room == 0 {
        session.end(sequence);
    }
    Live { sequence, room, stream, new, done: room == 0 }
}

fn run(
    session: &mut Session,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    live: &mut [Live],
    token: &mut impl FnMut(usize, u32),
) -> Result<(), RunError> {
    loop {
        // The whole prompt first, later the newest token.
        let going: Vec<usize> = (0..live.len()).filter(|&i| !live[i].done).collect();
        if going.is_empty() {
            return Ok(());
        }
        let next: Vec<Vec<u32>> = going.iter().map(|&i| next_ids(&live[i], &prompts[i])).collect();
        let chunk = |(&i, ids): (&usize, &Vec<u32>)| (live[i].sequence, ids.clone());
        let chunks: Vec<(SequenceId, Vec<u32>)> = going.iter().zip(&next).map(chunk).collect();
        let chunks: Vec<Chunk<'_>> =
            chunks.iter().map(|(sequence, ids)| Chunk { sequence: *sequence, ids, want: Want::Last }).collect();
        let mut broken = None;
        session.step(&chunks, |chunk, _, logits| {
            let i = going[chunk];
            match pick(logits, options, &mut live[i]) {
                Some(id) => token(i, id),
                None => broken = Some(live[i].new.ids.len()),
            }
        })?;
        if let Some(position) = broken {
            return Err(RunError::NotFinite(position));
        }
        for i in going {
            if live[i].done {
                session.end(live[i].sequence);
            }
        }
    }
}

fn next_ids(live: &Live, prompt: &[u32]) -> Vec<u32> {
    live.new.ids.last().map_or_else(|| prompt.to_vec(), |&id| vec![id])
}

/// Takes the next token, or nothing when logits are no numbers.
fn pick(logits: &[f32], options: &GenerateOptions, live: &mut Live) -> Option<u32> {
    if !logits.iter().all(|logit| logit.is_finite()) {
        return None;
    }
    let new = &mut live.new;
    let id = match &options.sampling {
        Some(sampling) => sampling.pick(logits, live.stream, new.ids.len() as u64),
        None => greedy(logits),
    };
    new.ids.push(id);
    if options.logprobs {
        new.logprobs.push(log_probability(logits, id));
    }
    if options.eos.contains(&id) {
        new.finish = Finish::Eos;
    }
    live.done = new.finish == Finish::Eos || new.ids.len() >= live.room;
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{CONTEXT, artifact};
    use crate::session::SessionOptions;

    fn run(prompts: &[Vec<u32>], chunk: usize, options: &GenerateOptions) -> Vec<Generated> {
        let session = SessionOptions { chunk: Some(chunk), pages: 16, ..SessionOptions::default() };
        let mut session = Session::new(artifact(), &session).unwrap();
        let mut heard = vec![Vec::new(); prompts.len()];
        let generated = generate(&mut session, prompts, options, |i, id| heard[i].push(id)).unwrap();
        let ids: Vec<Vec<u32>> = generated.iter().map(|new| new.ids.clone()).collect();
        assert_eq!((heard, session.free_pages()), (ids, 16));
        generated
    }

    fn prompts() -> Vec<Vec<u32>> {
        vec![vec![1, 2, 3, 4, 5], vec![7], vec![9, 0, 9]]
    }

    #[test]
    fn a_row_of_a_batch_is_its_run_alone() {
        let sampling = Some(Sampling { seed: 3, top_k: 5, ..Sampling::default() });
        for sampling in [None, sampling] {
            let options = GenerateOptions { max_new_tokens: 6, sampling, logprobs: true, ..GenerateOptions::default() };
            let batch = run(&prompts(), 4, &options);
            assert_eq!(run(&prompts(), 1, &options), batch);
            for (prompt, row) in prompts().into_iter().zip(&batch) {
                assert_eq!(run(&[prompt], 3, &options)[0], *row);
            }
            assert!(batch.iter().all(|new| new.ids.len() == 6 && new.logprobs.len() == 6));
        }
    }

    #[test]
    fn ends_at_eos_at_length_and_at_the_context() {
        let greedy = |max_new_tokens, eos| {
            let options = GenerateOptions { max_new_tokens, eos, ..GenerateOptions::default() };
            run(&prompts(), 4, &options)
        };
        let free = greedy(100, vec![]);
        let lengths: Vec<usize> = free.iter().map(|new| new.ids.len()).collect();
        assert_eq!(lengths, [CONTEXT - 5, CONTEXT - 1, CONTEXT - 3]);
        assert!(free.iter().all(|new| new.finish == Finish::Length));
        let stop = free[0].ids[1];
        let stopped = greedy(100, vec![stop]);
        let first = free[0].ids.iter().position(|id| *id == stop).unwrap();
        assert_eq!((stopped[0].ids.len(), stopped[0].finish), (first + 1, Finish::Eos));
        assert!(greedy(0, vec![]).iter().all(|new| new.ids.is_empty()));
    }

    #[test]
    fn a_prompt_beyond_the_context_is_refused() {
        let session = SessionOptions { pages: 16, ..SessionOptions::default() };
        let mut session = Session::new(artifact(), &session).unwrap();
        let prompts = [vec![1], vec![1; CONTEXT + 1]];
        let options = GenerateOptions { max_new_tokens: 1, ..GenerateOptions::default() };
        let error = generate(&mut session, &prompts, &options, |_, _| panic!("nothing runs")).unwrap_err();
        assert!(error.to_string().contains("15 tokens do not fit the context of 14"));
        assert_eq!(session.free_pages(), 16);
    }
}
