//! From scores to a token and its probability.
//!
//! Randomness is counted, not kept: a draw depends on the seed, the sequence's number and the position alone, so threads,
//! batches, chunks and restarts change nothing.

/// Draws a token by its probability.
pub fn draw(scores: &[f32], seed: u64, sequence: u64, position: u64) -> u32 {
    let kept = probabilities(scores);
    let mut left = uniform(seed, sequence, position);
    for &(id, probability) in &kept {
        left -= probability;
        if left < 0.0 {
            return id;
        }
    }
    kept.last().map_or(0, |(id, _)| *id)
}

/// Tokens that may come, by id, with their probabilities.
pub fn probabilities(scores: &[f32]) -> Vec<(u32, f64)> {
    let most = largest(scores);
    let possible = (0..).zip(scores).filter(|(_, score)| **score > f32::NEG_INFINITY);
    let exp: Vec<(u32, f64)> = possible.map(|(id, score)| (id, f64::from(score - most).exp())).collect();
    let sum: f64 = exp.iter().map(|(_, exp)| exp).sum();
    exp.into_iter().map(|(id, exp)| (id, exp / sum)).collect()
}

/// The first of the largest.
pub fn greedy(scores: &[f32]) -> u32 {
    let larger = |best: usize, i: usize| if scores[i] > scores[best] { i } else { best };
    (0..scores.len()).fold(0, larger) as u32
}

/// The logarithm of a token's probability under the logits as they are.
pub fn log_probability(logits: &[f32], id: u32) -> f64 {
    let most = largest(logits);
    f64::from(logits[id as usize] - most) - log_sum(logits, most)
}

/// The same of every token, rounded.
pub fn log_probabilities(logits: &[f32]) -> Vec<f32> {
    let most = largest(logits);
    let log_sum = log_sum(logits, most);
    logits.iter().map(|logit| (f64::from(logit - most) - log_sum) as f32).collect()
}

fn largest(scores: &[f32]) -> f32 {
    scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

fn log_sum(logits: &[f32], most: f32) -> f64 {
    logits.iter().map(|logit| f64::from(logit - most).exp()).sum::<f64>().ln()
}

/// A number from 0 to below 1.
fn uniform(seed: u64, sequence: u64, position: u64) -> f64 {
    let mixed = mix(mix(mix(seed).wrapping_add(sequence)).wrapping_add(position));
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

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(greedy(&[1.0, 3.0, 3.0, f32::NAN]), 1);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let scores = [0.0, 1.0, f32::NEG_INFINITY, 2.0];
        let mut counts = [0.0; 4];
        (0..30_000).for_each(|position| counts[draw(&scores, 7, 3, position) as usize] += 1.0);
        for (id, probability) in probabilities(&scores) {
            let share: f64 = counts[id as usize] / 30_000.0;
            assert!((share - probability).abs() < 0.01, "{share} {probability}");
        }
        assert_eq!(counts[2], 0.0);
        assert_ne!(uniform(7, 0, 1), uniform(7, 1, 0));
    }

    #[test]
    fn logarithms_of_probabilities() {
        let found = log_probability(&[1.0, 2.0], 1);
        assert!((found - (-0.313_261_7)).abs() < 1e-6, "{found}");
        assert_eq!(log_probabilities(&[1.0, 2.0]), [0, 1].map(|id| log_probability(&[1.0, 2.0], id) as f32));
    }
}
