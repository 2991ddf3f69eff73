//! Generation against Hugging Face: penalties, n-grams, beams, batches; and what must not change a text: threads, chunks,
//! neighbours, shared beginnings.

use std::sync::Arc;

use bloomery_runtime::{
    EarlyStopping, Generated, GenerationConfig, Kept, Session, SessionOptions, generate, pages_needed,
};
use serde_json::Value;

use crate::compiled::{BEST, Compiled, How, compiled, standard};
use crate::fixture::{Fixture, ids, ids_of_all};

/// Models with all goldens.
const MODELS: [&str; 2] = ["tiny", "tiny-nonpow2"];

/// What comes of some prompts, and the tokens that were computed for it.
fn counted(model: &Compiled, how: How, prompts: &[Vec<u32>], config: &GenerationConfig) -> (Vec<Generated>, u64) {
    let options = SessionOptions {
        class: how.class.map(str::to_owned),
        threads: Some(how.threads),
        chunk: Some(how.chunk),
        pages: pages_needed(&model.artifact, config.lengths(prompts)).unwrap(),
        ..SessionOptions::default()
    };
    let mut session = Session::new(Arc::clone(&model.artifact), &options).unwrap();
    let generated = generate(&mut session, prompts, config, &mut |_: usize, _| {}).unwrap();
    assert_eq!(session.free_pages(), options.pages, "all pages come back");
    (generated, session.computed())
}

fn run(model: &Compiled, prompts: &[Vec<u32>], config: &GenerationConfig) -> Vec<Generated> {
    counted(model, BEST, prompts, config).0
}

fn ids_alone(model: &Compiled, prompt: &Value, config: &GenerationConfig) -> Vec<u32> {
    run(model, &[ids(prompt)], config).remove(0).ids
}

#[test]
fn penalties_and_forbidden_runs_are_hugging_faces() {
    for name in MODELS {
        let (fixture, model) = (Fixture::open(name), standard(name));
        for case in fixture.golden["repetition_penalty"].as_array().unwrap() {
            let recorded = ids(&case["ids"]);
            let repetition_penalty = case["penalty"].as_f64().unwrap() as f32;
            let config =
                GenerationConfig { max_new_tokens: recorded.len(), repetition_penalty, ..GenerationConfig::default() };
            assert_eq!(ids_alone(&model, &case["prompt"], &config), recorded, "{name}: penalty {repetition_penalty}");
        }
        let case = &fixture.golden["no_repeat_ngram"];
        let recorded = ids(&case["ids"]);
        let no_repeat_ngram_size = case["size"].as_u64().unwrap() as usize;
        let config =
            GenerationConfig { max_new_tokens: recorded.len(), no_repeat_ngram_size, ..GenerationConfig::default() };
        assert_eq!(ids_alone(&model, &case["prompt"], &config), recorded, "{name}: runs");
    }
}

/// A recorded beam search's settings.
fn beam_config(case: &Value) -> GenerationConfig {
    let whole = |name: &str, default: u64| case[name].as_u64().unwrap_or(default) as usize;
    GenerationConfig {
        max_new_tokens: whole("max_new_tokens", 0),
        num_beams: whole("num_beams", 1),
        num_return_sequences: whole("num_return_sequences", 1),
        length_penalty: case["length_penalty"].as_f64().unwrap_or(1.0),
        repetition_penalty: case["repetition_penalty"].as_f64().unwrap_or(1.0) as f32,
        early_stopping: if case["early_stopping"] == true { EarlyStopping::True } else { EarlyStopping::False },
        eos_token_id: case["eos_token_id"].as_u64().map(|id| id as u32).into_iter().collect(),
        logprobs: true,
        ..GenerationConfig::default()
    }
}

#[test]
fn beams_are_hugging_faces_with_their_scores() {
    for name in MODELS {
        let (fixture, model) = (Fixture::open(name), standard(name));
        let cases = fixture.golden["beam"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for (i, case) in cases.iter().enumerate() {
            let found = run(&model, &[ids(&case["prompt"])], &beam_config(case));
            let recorded = ids_of_all(&case["sequences"]);
            assert_eq!(found.len(), recorded.len());
            let scores: Vec<f64> = serde_json::from_value(case["scores"].clone()).unwrap();
            let pad = case["pad_token_id"].as_u64().unwrap() as u32;
            for ((found, mut recorded), score) in found.iter().zip(recorded).zip(scores) {
                // Shorter sequences are filled up behind their end.
                let padding = recorded.split_off(found.ids.len().min(recorded.len()));
                assert_eq!(found.ids, recorded, "{name}: case {i}");
                assert!(padding.iter().all(|id| *id == pad), "{name}: case {i}: {padding:?}");
                assert!((found.score.unwrap() - score).abs() < 1e-4, "{name}: case {i}: {found:?}, {score}");
                assert_eq!(found.logprobs.len(), found.ids.len());
            }
        }
    }
}

#[test]
fn beams_of_a_batch_are_those_of_each_alone() {
    let (fixture, model) = (Fixture::open("tiny"), standard("tiny"));
    let cases = fixture.golden["beam"].as_array().unwrap();
    let prompts: Vec<Vec<u32>> = cases.iter().map(|case| ids(&case["prompt"])).collect();
    let config = beam_config(&cases[3]);
    let batch = run(&model, &prompts, &config);
    for (i, prompt) in prompts.into_iter().enumerate() {
        let alone = run(&model, &[prompt], &config).into_iter().map(|alone| Generated { prompt: i, ..alone });
        assert_eq!(alone.collect::<Vec<_>>(), batch[2 * i..2 * i + 2]);
    }
}

#[test]
fn padding_of_the_originals_makes_no_difference() {
    for name in MODELS {
        let (fixture, model) = (Fixture::open(name), standard(name));
        let [left, right] = ["batch", "batch_right"].map(|key| fixture.unpadded(key));
        assert_eq!(left, right, "{name}: the same prompts on either side of their padding");
        let recorded = ids_of_all(&fixture.golden["batch"]["greedy"]);
        let config = GenerationConfig { max_new_tokens: recorded[0].len(), ..GenerationConfig::default() };
        let found: Vec<Vec<u32>> = run(&model, &right, &config).into_iter().map(|new| new.ids).collect();
        assert_eq!(found, recorded, "{name}");
    }
}

#[test]
fn a_seed_gives_the_same_text_whatever_runs_beside_it() {
    let (fixture, model) = (Fixture::open("trained-web"), compiled("trained-web", |options| options.dtype = None));
    let prompts: Vec<Vec<u32>> =
        fixture.golden["greedy"].as_array().unwrap().iter().map(|case| ids(&case["input_ids"])).collect();
    let config = GenerationConfig {
        max_new_tokens: 24,
        do_sample: true,
        temperature: 0.9,
        top_p: 0.95,
        seed: 11,
        num_return_sequences: 2,
        logprobs: true,
        ..GenerationConfig::default()
    };
    let whole = run(&model, &prompts, &config);
    assert_ne!(whole[0].ids, whole[1].ids, "two sequences of one prompt");
    for (threads, chunk) in [(2, 512), (3, 7), (1, 1)] {
        let how = How { threads, chunk, ..BEST };
        assert!(counted(&model, how, &prompts, &config).0 == whole, "{how:?}");
    }
    for (i, prompt) in prompts.iter().enumerate() {
        let alone = run(&model, std::slice::from_ref(prompt), &config);
        let alone: Vec<Generated> = alone.into_iter().map(|alone| Generated { prompt: i, ..alone }).collect();
        assert_eq!(alone, whole[2 * i..2 * i + 2]);
    }
    let other = run(&model, &prompts, &GenerationConfig { seed: 12, ..config });
    assert!(other.iter().zip(&whole).any(|(other, one)| other.ids != one.ids));
}

#[test]
fn a_shared_beginning_is_computed_once_with_the_same_bits() {
    let (fixture, model) = (Fixture::open("tiny-long"), standard("tiny-long"));
    let beginning = fixture.prompts().into_iter().max_by_key(Vec::len).unwrap();
    assert!(beginning.len() > 128, "more than two pages of 64");
    let prompts: Vec<Vec<u32>> = (0..4).map(|i| [&beginning[..150], &[5 + i, 6, 7]].concat()).collect();
    let config = GenerationConfig { max_new_tokens: 4, logprobs: true, ..GenerationConfig::default() };
    let (together, computed) = counted(&model, BEST, &prompts, &config);
    let decoded = 4 * 3;
    assert_eq!(computed, 153 + 3 * (153 - 128) + decoded, "the first two pages are computed once");
    for (i, prompt) in prompts.iter().enumerate() {
        let (alone, computed) = counted(&model, BEST, std::slice::from_ref(prompt), &config);
        assert_eq!(computed, 153 + 3);
        assert!(Generated { prompt: i, ..alone[0].clone() } == together[i], "prompt {i}, logarithms bit by bit");
    }
}

#[test]
fn a_kept_sequence_goes_on_as_a_fresh_one_would_to_the_bit() {
    let (fixture, model) = (Fixture::open("trained-web"), compiled("trained-web", |options| options.dtype = None));
    let turns: Vec<Vec<u32>> =
        fixture.golden["greedy"].as_array().unwrap().iter().map(|case| ids(&case["input_ids"])).collect();
    let greedy =
        GenerationConfig { max_new_tokens: 16, repetition_penalty: 1.1, logprobs: true, ..GenerationConfig::default() };
    let drawn = GenerationConfig { do_sample: true, top_p: 0.9, seed: 5, ..greedy.clone() };
    for config in [greedy, drawn] {
        for how in [BEST, How { threads: 2, chunk: 7, ..BEST }] {
            let mut session = model.session(how, [1000]);
            let mut kept = Kept::start(&mut session);
            for new in &turns {
                let prompt = [kept.ids(), new].concat();
                let answer = kept.generate(&mut session, new, &config, &mut |_: usize, _| {}).unwrap();
                assert!(run(&model, std::slice::from_ref(&prompt), &config) == [answer], "{} tokens", prompt.len());
                assert_eq!(session.computed(), kept.ids().len() as u64 - 1);
            }
            assert!(kept.ids().len() > 3 * 64, "several pages");
        }
    }
}
