//! Logits of every token of a batch of prompts.

use crate::error::RunError;
use crate::generate::check_prompts;
use crate::session::{Chunk, SequenceId, Session, Want};

/// `f32[batch, sequence, vocabulary]`; rows past a prompt's end are zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct AllLogits {
    /// Batch, longest prompt, vocabulary.
    pub shape: [usize; 3],
    /// Row major.
    pub data: Vec<f32>,
}

/// Runs prompts and keeps the logits of every row.
///
/// # Errors
/// As [`Session::step`], with the prompt's number where one is refused.
pub fn all_logits(session: &mut Session, prompts: &[Vec<u32>]) -> Result<AllLogits, RunError> {
    check_prompts(session, prompts)?;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let shape = [prompts.len(), longest, session.vocabulary()];
    let mut data = vec![0.0; shape.iter().product()];
    let sequences: Vec<SequenceId> = prompts.iter().map(|_| session.start()).collect();
    let given = sequences.iter().zip(prompts);
    let chunks: Vec<Chunk<'_>> = given.map(|(&sequence, ids)| Chunk { sequence, ids, want: Want::All }).collect();
    let run = session.step(&chunks, |prompt, row, logits| {
        data[(prompt * longest + row) * logits.len()..][..logits.len()].copy_from_slice(logits);
    });
    sequences.into_iter().for_each(|sequence| session.end(sequence));
    run.map(|()| AllLogits { shape, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::artifact;
    use crate::session::SessionOptions;

    fn check(chunk: usize, prompts: &[Vec<u32>]) -> AllLogits {
        let options = SessionOptions { chunk: Some(chunk), pages: 16, ..SessionOptions::default() };
        let mut session = Session::new(artifact(), &options).unwrap();
        let logits = all_logits(&mut session, prompts).unwrap();
        assert_eq!(session.free_pages(), 16);
        logits
    }

    #[test]
    fn neighbours_and_chunks_change_no_bit() {
        let prompts: Vec<Vec<u32>> = vec![vec![1, 2, 3, 4, 5, 6, 7], vec![3], vec![9, 8, 9, 1, 0], vec![5, 5]];
        let batch = check(4, &prompts);
        assert_eq!(batch.shape, [4, 7, 11]);
        for chunk in 1..4 {
            assert_eq!(check(chunk, &prompts), batch, "chunks of {chunk}");
        }
        for (i, prompt) in prompts.iter().enumerate() {
            let alone = check(4, std::slice::from_ref(prompt));
            let row = &batch.data[i * 77..(i + 1) * 77];
            let (held, rest) = row.split_at(prompt.len() * 11);
            assert!(held == alone.data && rest.iter().all(|x| *x == 0.0), "prompt {i}");
        }
    }
}
