//! What holds for every search, on the small model.

use super::*;
use crate::fixture::{CONTEXT, artifact};
use crate::session::SessionOptions;

fn session(chunk: usize) -> Session {
    let options = SessionOptions { chunk: Some(chunk), pages: 32, ..SessionOptions::default() };
    Session::new(artifact(), &options).unwrap()
}

fn run(prompts: &[Vec<u32>], chunk: usize, config: &GenerationConfig) -> Vec<Generated> {
    let mut session = session(chunk);
    let mut heard = vec![Vec::new(); prompts.len() * config.num_return_sequences];
    let generated = generate(&mut session, prompts, config, &mut |i: usize, id| heard[i].push(id)).unwrap();
    let ids: Vec<Vec<u32>> = generated.iter().map(|new| new.ids.clone()).collect();
    assert_eq!((heard, session.free_pages()), (ids, 32));
    generated
}

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 2, 3, 4, 5], vec![7], vec![9, 0, 9]]
}

#[test]
fn a_row_of_a_batch_is_its_run_alone() {
    for do_sample in [false, true] {
        let config = GenerationConfig {
            max_new_tokens: 6,
            do_sample,
            seed: 3,
            top_k: 5,
            logprobs: true,
            ..GenerationConfig::default()
        };
        let batch = run(&prompts(), 4, &config);
        assert_eq!(run(&prompts(), 1, &config), batch);
        for (i, prompt) in prompts().into_iter().enumerate() {
            let alone = Generated { prompt: i, ..run(&[prompt], 3, &config).remove(0) };
            assert_eq!(alone, batch[i]);
        }
        assert!(batch.iter().all(|new| new.ids.len() == 6 && new.logprobs.len() == 6));
    }
}

#[test]
fn ends_at_eos_at_length_and_at_the_context() {
    let greedy = |max_new_tokens, eos_token_id| {
        let config = GenerationConfig { max_new_tokens, eos_token_id, ..GenerationConfig::default() };
        run(&prompts(), 4, &config)
    };
    let free = greedy(100, vec![]);
    let lengths: Vec<usize> = free.iter().map(|new| new.ids.len()).collect();
    assert_eq!(lengths, [CONTEXT - 5, CONTEXT - 1, CONTEXT - 3]);
    assert!(free.iter().all(|new| new.finish == Finish::Length));
    let stop = free[0].ids[1];
    let stopped = greedy(100, vec![1000, stop]);
    let first = free[0].ids.iter().position(|id| *id == stop).unwrap();
    assert_eq!((stopped[0].ids.len(), stopped[0].finish), (first + 1, Finish::Eos));
    assert!(greedy(0, vec![]).iter().all(|new| new.ids.is_empty()));
}

#[test]
fn sequences_of_one_prompt_differ_and_share_its_work() {
    let config = GenerationConfig {
        max_new_tokens: 5,
        do_sample: true,
        top_k: 0,
        num_return_sequences: 3,
        ..GenerationConfig::default()
    };
    let three = run(&[vec![1, 2, 3, 4, 5], vec![7]], 4, &config);
    assert_eq!(three.iter().map(|new| new.prompt).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1]);
    assert_ne!(three[0].ids, three[1].ids);
    // The same prompt three times is the same three sequences.
    let single = GenerationConfig { num_return_sequences: 1, ..config.clone() };
    let again = run(&vec![vec![1, 2, 3, 4, 5]; 3], 4, &single);
    assert!(again.iter().zip(&three).all(|(one, other)| one.ids == other.ids));
    let mut session = session(4);
    generate(&mut session, &[vec![1, 2, 3, 4, 5]], &config, &mut |_: usize, _| {}).unwrap();
    assert_eq!(session.computed(), 5 + 3 * 4, "the last token of each is not run");
}

#[test]
fn ids_without_text_never_come_and_penalties_count_the_prompt() {
    let free = run(&prompts(), 4, &GenerationConfig::default());
    let largest = free.iter().flat_map(|new| &new.ids).max().unwrap();
    let config = GenerationConfig { ids_with_text: Some(*largest as usize), ..GenerationConfig::default() };
    assert!(run(&prompts(), 4, &config).iter().flat_map(|new| &new.ids).all(|id| id < largest));
    let config = GenerationConfig { no_repeat_ngram_size: 1, max_new_tokens: 5, ..GenerationConfig::default() };
    for (prompt, new) in prompts().iter().zip(run(&prompts(), 4, &config)) {
        assert!(new.ids.iter().all(|id| !prompt.contains(id)));
    }
}

#[test]
fn beams_share_what_they_have_in_common_and_find_better_sequences() {
    let prompt = vec![1, 2, 3, 4, 5];
    let beams = |num_beams, num_return_sequences| {
        let config = GenerationConfig {
            max_new_tokens: 4,
            num_beams,
            num_return_sequences,
            logprobs: true,
            ..GenerationConfig::default()
        };
        let mut session = session(4);
        let found = generate(&mut session, &[prompt.clone(), vec![7]], &config, &mut |_: usize, _| {}).unwrap();
        assert_eq!(session.free_pages(), 32);
        (found, session.computed())
    };
    let (greedy, _) = beams(1, 1);
    let (found, computed) = beams(3, 2);
    assert_eq!(computed, 6 + 2 * 3 * 3, "prompts once, three steps of three beams each");
    assert_eq!(found.iter().map(|new| new.prompt).collect::<Vec<_>>(), [0, 0, 1, 1]);
    for new in &found {
        let mean = new.logprobs.iter().sum::<f32>() / 4.0;
        assert!((f64::from(mean) - new.score.unwrap()).abs() < 1e-6, "{new:?}");
    }
    let sum = |new: &Generated| new.logprobs.iter().sum::<f32>();
    assert!(sum(&found[0]) >= sum(&greedy[0]) && found[0].score >= found[1].score);
    // All that can be: eleven to the power of four sequences, of which one is the best.
    let (all, _) = beams(11, 1);
    assert!(all[0].score >= found[0].score);
}

#[test]
fn beams_fit_the_pages_that_were_counted_for_them() {
    let config = GenerationConfig { max_new_tokens: 8, num_beams: 4, ..GenerationConfig::default() };
    let prompts = [vec![1, 2, 3, 4, 5]];
    let pages = crate::session::pages_needed(&artifact(), config.lengths(&prompts)).unwrap();
    let options = SessionOptions { pages, ..SessionOptions::default() };
    let mut session = Session::new(artifact(), &options).unwrap();
    let found = generate(&mut session, &prompts, &config, &mut |_: usize, _| {}).unwrap();
    assert_eq!((found[0].ids.len(), session.free_pages()), (8, pages));
}

/// Has enough when there are two ids, or before the fourth token of all.
struct Enough {
    heard: usize,
    length: usize,
    interrupted_after: usize,
}

impl Listener for Enough {
    fn token(&mut self, _: usize, _: u32) {
        self.heard += 1;
    }

    fn stops(&mut self, new: &[u32]) -> bool {
        new.len() >= self.length
    }

    fn interrupted(&mut self) -> bool {
        self.heard >= self.interrupted_after
    }
}

#[test]
fn who_listens_may_end_sequences() {
    for (length, interrupted_after, expect) in [(2, 100, 2), (100, 6, 2)] {
        let mut session = session(4);
        let mut listener = Enough { heard: 0, length, interrupted_after };
        let generated = generate(&mut session, &prompts(), &GenerationConfig::default(), &mut listener).unwrap();
        assert!(generated.iter().all(|new| new.ids.len() == expect && new.finish == Finish::Stop));
        assert_eq!(session.free_pages(), 32);
    }
}

#[test]
fn a_prompt_beyond_the_context_is_refused() {
    let mut session = session(4);
    let prompts = [vec![1], vec![1; CONTEXT + 1]];
    let error =
        generate(&mut session, &prompts, &GenerationConfig::default(), &mut |_: usize, _| panic!("nothing runs"))
            .unwrap_err();
    assert!(error.to_string().contains("15 tokens do not fit the context of 14"));
    assert_eq!(session.free_pages(), 32);
}
