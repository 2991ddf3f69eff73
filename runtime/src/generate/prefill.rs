//! Prompts into the cache: what several begin with is computed once, and its pages are shared.
//!
//! Prompts in sorted order share most with the one before them. Each waits until a prompt with that beginning is in the
//! cache, takes over its whole pages, and runs the rest; all that wait for nothing run together. Whole pages only: a few
//! common tokens are cheaper computed in one batch than waited for.

use crate::error::RunError;
use crate::session::{Chunk, SequenceId, Session, Want};

/// A prompt, and the replica that its sequence is dealt to.
pub(super) type Dealt<'a> = (usize, &'a [u32]);

/// Runs prompts, sorted and distinct, and returns their sequences. `last` gets the logits that follow each.
pub(super) fn prefill(
    session: &mut Session,
    prompts: &[Dealt<'_>],
    mut last: impl FnMut(usize, &[f32]),
) -> Result<Vec<SequenceId>, RunError> {
    let shared = shared(prompts, session.page_tokens());
    let mut sequences: Vec<Option<SequenceId>> = vec![None; prompts.len()];
    while sequences.contains(&None) {
        let ready = ready(&shared, &sequences);
        for &(i, donor) in &ready {
            sequences[i] = Some(match donor.and_then(|donor| sequences[donor]) {
                Some(donor) => session.fork(donor, shared[i]),
                None => session.start_on(prompts[i].0),
            });
        }
        let chunk = |&(i, _): &(usize, _)| Chunk {
            sequence: sequences[i].expect("it was started above"),
            ids: &prompts[i].1[shared[i]..],
            want: Want::Last,
        };
        let chunks: Vec<Chunk<'_>> = ready.iter().map(chunk).collect();
        let run = session.step(&chunks, |chunk, _, logits| last(ready[chunk].0, logits));
        if let Err(error) = run {
            sequences.into_iter().flatten().for_each(|sequence| session.end(sequence));
            return Err(error);
        }
    }
    Ok(sequences.into_iter().flatten().collect())
}

/// Tokens of whole pages that each prompt has in common with the one before on its replica; its last token is never among
/// them, since what follows it is wanted.
fn shared(prompts: &[Dealt<'_>], page_tokens: usize) -> Vec<usize> {
    let common = |i: usize| {
        let (replica, prompt) = prompts[i];
        let before = if i > 0 && prompts[i - 1].0 == replica { prompts[i - 1].1 } else { &[] };
        let equal = prompt.iter().zip(before).take_while(|(a, b)| a == b).count();
        equal.min(prompt.len() - 1) / page_tokens * page_tokens
    };
    (0..prompts.len()).map(common).collect()
}

/// Prompts that can run now, each with the one whose pages it takes over.
fn ready(shared: &[usize], done: &[Option<SequenceId>]) -> Vec<(usize, Option<usize>)> {
    let waiting = (0..shared.len()).filter(|&i| done[i].is_none());
    let with_donor = waiting.filter_map(|i| {
        if shared[i] == 0 {
            return Some((i, None));
        }
        // Every prompt between a donor and this one begins with the same tokens.
        let mut same = (0..i).rev().take_while(|&donor| shared[donor + 1] >= shared[i]);
        same.find(|&donor| done[donor].is_some()).map(|donor| (i, Some(donor)))
    });
    with_donor.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::artifact;
    use crate::session::SessionOptions;

    /// Logits after each prompt, tokens computed, and calls of `step`'s rows in their order.
    fn run(prompts: &[&[u32]]) -> (Vec<Vec<f32>>, u64, Vec<usize>) {
        let options = SessionOptions { pages: 16, ..SessionOptions::default() };
        let mut session = Session::new(artifact(), &options).unwrap();
        let (mut logits, mut order) = (vec![Vec::new(); prompts.len()], Vec::new());
        let prompts: Vec<Dealt<'_>> = prompts.iter().map(|prompt| (0, *prompt)).collect();
        let sequences = prefill(&mut session, &prompts, |i, row| {
            logits[i] = row.to_vec();
            order.push(i);
        });
        sequences.unwrap().into_iter().for_each(|sequence| session.end(sequence));
        assert_eq!(session.free_pages(), 16);
        (logits, session.computed(), order)
    }

    #[test]
    fn common_beginnings_are_computed_once_with_the_same_bits() {
        // Pages have four tokens: the second prompt shares one page with the first, the third two with the second.
        let prompts: [&[u32]; 5] =
            [&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 6, 7, 8, 9], &[1, 2, 3, 4, 6, 7, 8, 9, 1], &[1, 2, 9], &[7]];
        let (logits, computed, order) = run(&prompts);
        assert_eq!((computed, order), (6 + 4 + 1 + 3 + 1, vec![0, 3, 4, 1, 2]));
        for (prompt, found) in prompts.iter().zip(logits) {
            assert_eq!(run(&[prompt]).0[0], found);
        }
    }

    #[test]
    fn the_last_token_is_computed_always() {
        assert_eq!(run(&[&[1, 2, 3, 4], &[1, 2, 3, 4, 5, 6, 7, 8]]).1, 4 + 4);
        let [short, long]: [&[u32]; 2] = [&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5, 6]];
        assert_eq!(shared(&[(0, short), (0, long)], 1), [0, 5]);
        assert_eq!(shared(&[(0, short), (1, long)], 1), [0, 0]);
        assert_eq!(shared(&[(0, &[1, 2, 3, 4]), (0, &[1, 2, 3, 4])], 4), [0, 0]);
    }
}
