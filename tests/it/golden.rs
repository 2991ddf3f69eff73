//! Bloom's graph on the interpreter against Hugging Face: logits, decoding through the cache, batches, chunks.

use bloomery_ir::{DType, Graph, Interpreter, Precision, Role, Tensor};
use bloomery_models::{BloomOptions, Model, bloom};

use crate::fixture::{Fixture, argmax, assert_close, ids};

/// Logits may differ by this much of the largest: what the issue of f32 engines asks; f64 sums are well inside.
const TOLERANCE: f64 = 1e-4;

/// Small, so that even short prompts use several pages.
const PAGE_TOKENS: usize = 16;
/// Pages of one sequence.
const PAGES: usize = 13;
const SEQUENCES: usize = 3;
const HEAD_ROWS: usize = 32;

/// A model on the interpreter with sequences in its cache.
struct Engine {
    model: Model,
    kv: Tensor,
    /// Tokens of each sequence so far.
    lengths: [usize; SEQUENCES],
    body: Vec<Tensor>,
    head: Vec<Tensor>,
}

impl Engine {
    fn new(fixture: &Fixture, activation: DType) -> Engine {
        let weights = |name: &str| fixture.dtype(name);
        let options = BloomOptions {
            activation,
            kv_dtype: activation,
            weights: &weights,
            page_tokens: PAGE_TOKENS as u64,
            ..BloomOptions::default()
        };
        let model = bloom(&fixture.config, &options);
        let (config, pool) = (&fixture.config, PAGES * SEQUENCES);
        let kv = vec![config.layers, pool, 2, config.heads, PAGE_TOKENS, config.head_dim()];
        let (body, head) = (parameters(fixture, &model, "body"), parameters(fixture, &model, "head"));
        Engine { kv: Tensor::zeros(activation, kv), lengths: [0; SEQUENCES], body, head, model }
    }

    fn of(name: &str) -> (Fixture, Engine) {
        let fixture = Fixture::open(name);
        let engine = Engine::new(&fixture, DType::F32);
        (fixture, engine)
    }

    /// Hidden states of new tokens of some sequences, all in one call.
    fn feed(&mut self, parts: &[(usize, &[u32])]) -> Tensor {
        let ids: Vec<i64> = parts.iter().flat_map(|(_, ids)| ids.iter().map(|&id| i64::from(id))).collect();
        let (mut rows, mut pages, mut start) = (vec![], vec![], 0);
        for &(sequence, ids) in parts {
            rows.extend([start, ids.len() as i64, self.lengths[sequence] as i64]);
            // Sequences take turns in the pool, from its end: no page is where it would be by accident.
            pages.extend((0..PAGES).map(|page| (SEQUENCES * (PAGES - page) - 1 - sequence) as i64));
            start += ids.len() as i64;
            self.lengths[sequence] += ids.len();
        }
        let tables = [
            Tensor::integers(&[ids.len()], ids),
            Tensor::integers(&[parts.len(), 3], rows),
            Tensor::integers(&[parts.len(), PAGES], pages),
        ];
        let kv = std::mem::replace(&mut self.kv, Tensor::zeros(DType::F32, vec![0]));
        let inputs = [&tables[..], &[kv], &self.body].concat();
        let [hidden, kv] = self.run("body", &inputs).try_into().unwrap();
        self.kv = kv;
        hidden
    }

    /// Logits of a range of rows.
    fn logits(&self, hidden: &Tensor, rows: std::ops::Range<usize>) -> Tensor {
        assert!(rows.len() <= HEAD_ROWS);
        let pick = Tensor::integers(&[rows.len()], rows.map(|row| row as i64));
        self.run("head", &[&[hidden.clone(), pick], &self.head[..]].concat()).remove(0)
    }

    fn run(&self, graph: &str, inputs: &[Tensor]) -> Vec<Tensor> {
        Interpreter::new(&self.model.module, Precision::Typed).run(graph, inputs).unwrap()
    }

    /// Logits of all rows of a prompt in a fresh sequence 0.
    fn prompt(&mut self, ids: &[u32]) -> Tensor {
        self.lengths[0] = 0;
        let hidden = self.feed(&[(0, ids)]);
        self.logits(&hidden, ids.len().saturating_sub(HEAD_ROWS)..ids.len())
    }

    /// The likeliest ids after a prompt, one by one, and the logits they were chosen from.
    fn greedy(&mut self, prompt: &[u32], count: usize) -> (Vec<u32>, Tensor) {
        let all = self.prompt(prompt);
        let last = all.shape[0];
        let mut steps = vec![all.slice(0, last - 1..last)];
        let mut chosen = vec![argmax(&all)];
        while chosen.len() < count {
            let hidden = self.feed(&[(0, &chosen[chosen.len() - 1..])]);
            let logits = self.logits(&hidden, 0..1);
            chosen.push(argmax(&logits));
            steps.push(logits);
        }
        (chosen, stacked(&steps))
    }
}

/// Weights in the order the graph takes them.
fn parameters(fixture: &Fixture, model: &Model, graph: &str) -> Vec<Tensor> {
    let graph: &Graph = model.module.graph(graph).unwrap();
    let inputs = graph.inputs.iter().filter(|input| input.role == Role::Parameter);
    inputs.map(|input| fixture.parameter(&input.name, input.ty.dtype)).collect()
}

fn stacked(rows: &[Tensor]) -> Tensor {
    let data = rows.iter().flat_map(|row| row.data.iter().copied()).collect();
    Tensor { dtype: DType::F32, shape: vec![rows.len(), rows[0].data.len()], data }
}

fn check_logits(name: &str) {
    let (fixture, mut engine) = Engine::of(name);
    for (i, prompt) in fixture.prompts().iter().enumerate() {
        let found = engine.prompt(prompt);
        let (whole, last) = (fixture.recorded(&format!("logits.{i}")), fixture.recorded(&format!("logits.{i}.last16")));
        let recorded = whole.or(last).expect("every prompt's logits are recorded");
        let rows = found.shape[0];
        let found = found.slice(0, rows - recorded.shape[0]..rows);
        assert_close(&format!("{name}, prompt {i}"), &found, &recorded, TOLERANCE);
    }
}

#[test]
fn logits_of_the_plain_model() {
    check_logits("tiny");
}

#[test]
fn logits_with_six_heads() {
    check_logits("tiny-nonpow2");
}

#[test]
fn logits_of_half_weights() {
    check_logits("tiny-fp16");
    check_logits("tiny-bf16");
}

#[test]
fn logits_of_sharded_weights() {
    check_logits("tiny-safetensors-sharded");
}

#[test]
fn logits_of_torch_files() {
    for name in ["tiny-bin", "tiny-bin-lmhead", "tiny-bin-legacy", "tiny-sharded", "tiny-sharded-underscore"] {
        check_logits(name);
    }
}

#[test]
fn logits_of_an_untied_head() {
    check_logits("tiny-untied");
}

#[test]
fn logits_with_residuals_after_the_norm() {
    check_logits("tiny-postln");
}

#[test]
fn logits_with_another_epsilon() {
    check_logits("tiny-eps");
}

#[test]
fn logits_of_a_long_prompt() {
    check_logits("tiny-long");
}

/// Narrow activations are as far from f32 as torch's own half arithmetic, or nearer.
#[test]
fn half_activations_stay_near_torchs() {
    for name in ["tiny-fp16", "tiny-bf16"] {
        let fixture = Fixture::open(name);
        let found = Engine::new(&fixture, fixture.dtype("ln_f.weight")).prompt(&fixture.prompts()[0]);
        let [native, exact] = ["logits.0.native_dtype", "logits.0"].map(|key| fixture.recorded(key).unwrap());
        let allowed = 2.0 * native.difference(&exact);
        assert!(found.difference(&exact) <= allowed, "{name}: {} and {allowed}", found.difference(&exact));
    }
}

#[test]
fn decoding_through_the_cache() {
    for name in ["tiny", "tiny-nonpow2"] {
        let (fixture, mut engine) = Engine::of(name);
        let (chosen, logits) = engine.greedy(&fixture.prompts()[0], 32);
        assert_eq!(chosen, ids(&fixture.golden["greedy"][0]["ids"]), "{name}");
        assert_close(name, &logits, &fixture.recorded("step_logits.0").unwrap(), TOLERANCE);
    }
}

#[test]
fn the_trained_model_says_what_it_said() {
    let (fixture, mut engine) = Engine::of("trained-web");
    let case = &fixture.golden["greedy"][0];
    let expect = &ids(&case["greedy_ids"])[..12];
    assert_eq!(engine.greedy(&ids(&case["input_ids"]), expect.len()).0, expect);
}

#[test]
fn a_batch_of_unequal_prompts_is_each_alone() {
    let (fixture, mut engine) = Engine::of("tiny");
    let prompts = fixture.unpadded("batch");
    let parts: Vec<(usize, &[u32])> = prompts.iter().map(Vec::as_slice).enumerate().collect();
    let hidden = engine.feed(&parts);
    let recorded = fixture.recorded("batch.logits").unwrap();
    let mut start = 0;
    for (s, prompt) in prompts.iter().enumerate() {
        let logits = engine.logits(&hidden, start..start + prompt.len());
        let width = recorded.shape[1];
        let row = recorded.layer(s).slice(0, width - prompt.len()..width);
        assert_close(&format!("sequence {s}"), &logits, &row, TOLERANCE);
        assert_eq!(logits, Engine::of("tiny").1.prompt(prompt), "sequence {s} is bit-equal alone");
        start += prompt.len();
    }
    // One more token for each: the rows' places changed, their histories did not.
    let next: Vec<[u32; 1]> =
        fixture.golden["batch"]["greedy"].as_array().unwrap().iter().map(|s| [ids(s)[0]]).collect();
    let parts: Vec<(usize, &[u32])> = next.iter().map(|id| &id[..]).enumerate().rev().collect();
    let hidden = engine.feed(&parts);
    for (row, (s, _)) in parts.iter().enumerate() {
        let expect = ids(&fixture.golden["batch"]["greedy"][s])[1];
        assert_eq!(argmax(&engine.logits(&hidden, row..row + 1)), expect, "sequence {s}");
    }
}

#[test]
fn prefill_in_chunks_is_prefill_at_once() {
    let (fixture, mut engine) = Engine::of("tiny-long");
    let prompt = &fixture.prompts()[2];
    let whole = engine.prompt(prompt);
    engine.lengths[1] = 0;
    let mut last = Tensor::zeros(DType::F32, vec![0]);
    for chunk in prompt.chunks(37) {
        let hidden = engine.feed(&[(1, chunk)]);
        last = engine.logits(&hidden, 0..chunk.len().min(HEAD_ROWS));
    }
    let rows = last.shape[0];
    assert_eq!(last, whole.slice(0, whole.shape[0] - rows..whole.shape[0]));
}
