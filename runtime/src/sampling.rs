//! Picks the next token from a row of logits.
//!
//! Order and meaning are Hugging Face's: temperature, then top-k (ties with the k-th stay), then top-p (the smallest
//! set of most likely tokens whose sum reaches p), then one draw. Randomness is counted, not kept: a draw depends on
//! the seed, the sequence's number and the step alone, so batches and restarts change nothing.

use crate::error::RunError;

/// How to sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides logits; above 0.
    pub temperature: f32,
    /// How many of the most likely tokens stay; 0 for all.
    pub top_k: usize,
    /// Which probability they must reach together; 1 for all.
    pub top_p: f32,
    /// Of the random numbers.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// Refuses settings that mean nothing.
    ///
    /// # Errors
    /// The setting, its value, and what it may be.
    pub fn check(&self) -> Result<(), RunError> {
        let (temperature, top_p) = (self.temperature, self.top_p);
        let wrong = |name, value: f32, expected| Err(RunError::Sampling { name, value: f64::from(value), expected });
        if !(temperature > 0.0 && temperature.is_finite()) {
            return wrong("temperature", temperature, "above 0 (leave sampling off for greedy)");
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return wrong("top-p", top_p, "above 0 and at most 1");
        }
        Ok(())
    }

    /// The token of a sequence's step.
    pub fn pick(&self, logits: &[f32], sequence: u64, step: u64) -> u32 {
        let kept = self.probabilities(logits);
        let mut left = uniform(self.seed, sequence, step);
        for &(id, probability) in &kept {
            left -= probability;
            if left < 0.0 {
                return id;
            }
        }
        kept.last().map_or(0, |(id, _)| *id)
    }

    /// Tokens that stay, by id, with their probabilities.
    pub fn probabilities(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let scaled = |logit: &f32| logit / self.temperature;
        let mut kept: Vec<(u32, f32)> = (0..).zip(logits.iter().map(scaled)).collect();
        if self.top_k > 0 && self.top_k < kept.len() {
            let mut values: Vec<f32> = kept.iter().map(|(_, value)| *value).collect();
            let (_, least, _) = values.select_nth_unstable_by(self.top_k - 1, |a, b| b.total_cmp(a));
            let least = *least;
            kept.retain(|(_, value)| *value >= least);
        }
        if self.top_p < 1.0 {
            kept = most_likely(kept, f64::from(self.top_p));
        }
        softmax(&kept)
    }
}

/// The smallest set whose probabilities reach `p`, by id: all that lie below, summed from the least likely, go.
fn most_likely(mut kept: Vec<(u32, f32)>, p: f64) -> Vec<(u32, f32)> {
    kept.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut sum = 0.0;
    let probabilities = softmax(&kept);
    let below = |(_, probability): &&(u32, f64)| {
        sum += probability;
        sum <= 1.0 - p
    };
    let gone = probabilities.iter().take_while(below).count();
    kept.drain(..gone.min(kept.len().saturating_sub(1)));
    kept.sort_by_key(|(id, _)| *id);
    kept
}

fn softmax(values: &[(u32, f32)]) -> Vec<(u32, f64)> {
    let most = values.iter().map(|(_, value)| *value).fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = values.iter().map(|(_, value)| f64::from(value - most).exp()).collect();
    let sum: f64 = exp.iter().sum();
    values.iter().zip(exp).map(|((id, _), exp)| (*id, exp / sum)).collect()
}

/// The first of the largest.
pub fn greedy(logits: &[f32]) -> u32 {
    let larger = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).fold(0, larger) as u32
}

/// The logarithm of a token's probability under the logits as they are.
pub fn log_probability(logits: &[f32], id: u32) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
    (f64::from(logits[id as usize] - most) - sum.ln()) as f32
}

/// A number from 0 to below 1.
fn uniform(seed: u64, sequence: u64, step: u64) -> f64 {
    let mixed = mix(mix(mix(seed).wrapping_add(sequence)).wrapping_add(step));
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

/// SplitMix64 (Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators").
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn floats(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    /// Hugging Face's results, recorded. f32 sums there differ from f64 here by less than 1e-5 of a probability.
    #[test]
    fn keeps_what_hugging_face_keeps() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/hf/sampling.json");
        let recorded: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut checked = 0;
        for case in recorded["cases"].as_array().unwrap() {
            if case["top_k"].is_null() || case["min_p"].as_f64() != Some(0.0) {
                continue;
            }
            let sampling = Sampling {
                temperature: case["temperature"].as_f64().unwrap() as f32,
                top_k: case["top_k"].as_u64().unwrap() as usize,
                top_p: case["top_p"].as_f64().unwrap() as f32,
                seed: 0,
            };
            let logits = floats(&recorded[case["source"].as_str().unwrap()]);
            let kept = sampling.probabilities(&logits);
            let ids: Vec<u64> = kept.iter().map(|(id, _)| u64::from(*id)).collect();
            let expect: Vec<u64> = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
            assert_eq!(ids, expect, "{sampling:?}");
            for ((_, found), expect) in kept.iter().zip(floats(&case["probs"])) {
                assert!((found - f64::from(expect)).abs() < 1e-5, "{found} {expect}");
            }
            checked += 1;
        }
        assert!(checked > 15, "{checked}");
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(greedy(&[1.0, 3.0, 3.0, f32::NAN]), 1);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0, 1.0, 2.0];
        let sampling = Sampling { seed: 7, ..Sampling::default() };
        let mut counts = [0.0; 3];
        (0..30_000).for_each(|step| counts[sampling.pick(&logits, 3, step) as usize] += 1.0);
        for (id, probability) in sampling.probabilities(&logits) {
            let share: f64 = counts[id as usize] / 30_000.0;
            assert!((share - probability).abs() < 0.01, "{share} {probability}");
        }
        assert_ne!(uniform(7, 0, 1), uniform(7, 1, 0));
    }

    #[test]
    fn logarithms_of_probabilities() {
        let found = log_probability(&[1.0, 2.0], 1);
        assert!((found - (-0.313_261_7)).abs() < 1e-6, "{found}");
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        let refused = |sampling: Sampling| sampling.check().unwrap_err().to_string();
        assert!(refused(Sampling { temperature: 0.0, ..Sampling::default() }).contains("temperature is 0"));
        assert!(refused(Sampling { top_p: 1.5, ..Sampling::default() }).contains("top-p is 1.5"));
    }
}
