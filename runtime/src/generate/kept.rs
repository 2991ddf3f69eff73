//! A sequence that stays in the cache after an answer, so that the next turn costs its new tokens alone.
//!
//! An answer's last token was never run: nothing followed it. It goes through the model with the tokens of the next turn.
//! What an answer is does not depend on any of this: it is the one that the whole sequence as a prompt would get.

use super::config::GenerationConfig;
use super::{Generated, Listener, lanes};
use crate::error::RunError;
use crate::session::{SequenceId, Session};

/// One sequence of a session, kept between generations.
#[derive(Debug)]
pub struct Kept {
    sequence: SequenceId,
    /// All of it; the cache holds its first tokens, mostly all but the last.
    ids: Vec<u32>,
}

impl Kept {
    /// A new, empty sequence.
    pub fn start(session: &mut Session) -> Kept {
        Kept { sequence: session.start(), ids: Vec::new() }
    }

    /// Its tokens.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Generates what follows the sequence and `new`, and keeps all of it: the new tokens and the answer's. When it is
    /// interrupted before the answer's first token, the new ones are kept all the same; after an error nothing is.
    ///
    /// # Errors
    /// As [`generate`](super::generate); and beams or several answers, of which one sequence has none.
    pub fn generate(
        &mut self,
        session: &mut Session,
        new: &[u32],
        config: &GenerationConfig,
        listener: &mut impl Listener,
    ) -> Result<Generated, RunError> {
        config.check()?;
        if config.num_beams.max(config.num_return_sequences) > 1 {
            return Err(RunError::Contradiction(format!(
                "num-beams is {} and num-return-sequences {}, but a kept sequence goes on in one way: leave both at 1",
                config.num_beams, config.num_return_sequences
            )));
        }
        let ids = [&self.ids, new].concat();
        session.check_ids(&ids, 0)?;
        let room = config.room(ids.len(), session.context())?;
        // What follows the last token is wanted, so that one runs in any case.
        let cached = session.length(self.sequence).min(ids.len() - 1);
        session.truncate(self.sequence, cached);
        let followed = lanes::follow(session, self.sequence, ids, room, config, listener);
        match &followed {
            Ok(generated) => self.ids.extend(new.iter().chain(&generated.ids)),
            Err(_) => self.truncate(session, self.ids.len()),
        }
        followed
    }

    /// Forgets its tokens after the first `length`.
    ///
    /// # Panics
    /// When it has fewer.
    pub fn truncate(&mut self, session: &mut Session, length: usize) {
        assert!(length <= self.ids.len(), "{length} tokens of a sequence of {}", self.ids.len());
        self.ids.truncate(length);
        session.truncate(self.sequence, session.length(self.sequence).min(length));
    }

    /// Ends it; its pages are free again.
    pub fn end(self, session: &mut Session) {
        session.end(self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{CONTEXT, VOCABULARY, artifact};
    use crate::generate::{Finish, generate};
    use crate::session::SessionOptions;

    fn session() -> Session {
        let options = SessionOptions { chunk: Some(2), pages: 4, ..SessionOptions::default() };
        Session::new(artifact(), &options).unwrap()
    }

    fn config(max_new_tokens: usize) -> GenerationConfig {
        GenerationConfig { max_new_tokens, logprobs: true, no_repeat_ngram_size: 4, ..GenerationConfig::default() }
    }

    /// What a fresh generation gives after all of these ids.
    fn fresh(ids: &[u32], config: &GenerationConfig) -> Generated {
        generate(&mut session(), &[ids.to_vec()], config, &mut |_: usize, _| {}).unwrap().remove(0)
    }

    #[test]
    fn a_turn_costs_its_new_tokens_and_answers_as_the_whole_sequence_would() {
        let mut session = session();
        let mut kept = Kept::start(&mut session);
        for new in [&[1, 2, 3][..], &[4], &[5, 6]] {
            let prompt = [kept.ids(), new].concat();
            let answer = kept.generate(&mut session, new, &config(2), &mut |_: usize, _| {}).unwrap();
            assert_eq!(answer, fresh(&prompt, &config(2)));
            assert_eq!(kept.ids(), [&prompt[..], &answer.ids].concat());
            assert_eq!(session.computed(), kept.ids().len() as u64 - 1, "all but the newest, once");
        }
        kept.end(&mut session);
        assert_eq!(session.free_pages(), 4);
    }

    #[test]
    fn a_truncated_sequence_goes_on_from_there_and_its_last_token_runs_again() {
        let mut session = session();
        let mut kept = Kept::start(&mut session);
        kept.generate(&mut session, &[1, 2, 3], &config(3), &mut |_: usize, _| {}).unwrap();
        for (length, new) in [(4, &[7][..]), (2, &[])] {
            kept.truncate(&mut session, length);
            let prompt = [kept.ids(), new].concat();
            let answer = kept.generate(&mut session, new, &config(3), &mut |_: usize, _| {}).unwrap();
            assert_eq!(answer, fresh(&prompt, &config(3)));
        }
    }

    #[test]
    fn a_full_sequence_ends_at_the_context_and_is_refused_beyond_it() {
        let mut session = session();
        let mut kept = Kept::start(&mut session);
        let answer = kept.generate(&mut session, &[1, 2, 3], &config(100), &mut |_: usize, _| {}).unwrap();
        assert_eq!((kept.ids().len(), answer.finish), (CONTEXT, Finish::Length));
        let before = session.computed();
        let none = kept.generate(&mut session, &[], &config(1), &mut |_: usize, _| {}).unwrap();
        assert_eq!((none.ids.len(), none.finish, session.computed()), (0, Finish::Length, before));
        let error = kept.generate(&mut session, &[5], &config(1), &mut |_: usize, _| {}).unwrap_err();
        assert!(error.to_string().contains("15 tokens do not fit the context of 14"), "{error}");
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let mut session = session();
        let mut kept = Kept::start(&mut session);
        let quiet = &mut |_: usize, _: u32| {};
        let mut refused = |kept: &mut Kept, new: &[u32], config: GenerationConfig, part: &str| {
            let error = kept.generate(&mut session, new, &config, quiet).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            (kept.ids().len(), session.computed())
        };
        assert_eq!(refused(&mut kept, &[], config(1), "no tokens are given"), (0, 0));
        assert_eq!(refused(&mut kept, &[VOCABULARY], config(1), "token id 11"), (0, 0));
        let beams = GenerationConfig { num_beams: 2, ..config(1) };
        assert_eq!(refused(&mut kept, &[1], beams, "goes on in one way"), (0, 0));
    }

    #[test]
    fn an_error_while_it_runs_takes_the_turn_back() {
        let mut session = session();
        let mut kept = Kept::start(&mut session);
        kept.generate(&mut session, &[1, 2], &config(1), &mut |_: usize, _| {}).unwrap();
        // Another sequence holds the pages that the turn needs at its end.
        let mut other = Kept::start(&mut session);
        other.generate(&mut session, &[1; 9], &config(0), &mut |_: usize, _| {}).unwrap();
        other.generate(&mut session, &[], &config(1), &mut |_: usize, _| {}).unwrap();
        let error = kept.generate(&mut session, &[4, 5, 6], &config(1), &mut |_: usize, _| {}).unwrap_err();
        assert!(error.to_string().contains("0 free pages, 1 are needed"), "{error}");
        assert_eq!(
            (kept.ids().len(), session.length(kept.sequence)),
            (3, 3),
            "two of its four tokens had run, one stays"
        );
        other.end(&mut session);
        let prompt = [kept.ids(), &[4, 5, 6]].concat();
        let answer = kept.generate(&mut session, &[4, 5, 6], &config(2), &mut |_: usize, _| {}).unwrap();
        assert_eq!(answer, fresh(&prompt, &config(2)));
    }

    /// Has enough before the question is asked so many times.
    struct Patience(usize);

    impl Listener for Patience {
        fn token(&mut self, _: usize, _: u32) {}

        fn interrupted(&mut self) -> bool {
            self.0 = self.0.saturating_sub(1);
            self.0 == 0
        }
    }

    #[test]
    fn it_can_be_interrupted_in_its_prompt_and_goes_on_after_that() {
        // Chunks of two: asked before each of three, then before each token but the first.
        for (patience, cached, new) in [(1, 0, 0), (3, 4, 0), (4, 5, 1), (5, 6, 2)] {
            let mut session = session();
            let mut kept = Kept::start(&mut session);
            let prompt = [1, 2, 3, 4, 5];
            let answer = kept.generate(&mut session, &prompt, &config(4), &mut Patience(patience)).unwrap();
            assert_eq!((answer.ids.len(), answer.finish), (new, Finish::Stop));
            assert_eq!((kept.ids().len(), session.length(kept.sequence)), (5 + new, cached));
            let whole = kept.ids().to_vec();
            let answer = kept.generate(&mut session, &[], &config(2), &mut |_: usize, _| {}).unwrap();
            assert_eq!(answer, fresh(&whole, &config(2)));
        }
    }
}
