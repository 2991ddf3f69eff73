//! What changes the scores of the next token, as small pieces in the order Hugging Face applies them.
//!
//! Scores are logits, or in a beam search logarithms of probabilities; a token that may not come has minus infinity.
//! First what holds for every search: ids without text, the repetition penalty, repeated runs. Then what holds for
//! drawing alone: temperature, top-k, top-p, min-p.

use std::collections::BTreeSet;

use super::config::GenerationConfig;
use crate::sampling::probabilities;

/// Changes the scores of what may follow a sequence.
pub trait LogitsProcessor: Send + Sync {
    /// `ids` is the sequence so far, prompt included; `scores` has one entry for each id of the vocabulary.
    fn process(&self, ids: &[u32], scores: &mut [f32]);
}

/// Those that a configuration asks for, in their order.
pub fn processors(config: &GenerationConfig) -> Vec<Box<dyn LogitsProcessor>> {
    let mut list: Vec<Box<dyn LogitsProcessor>> = Vec::new();
    let mut add = |wanted: bool, processor: Box<dyn LogitsProcessor>| {
        if wanted {
            list.push(processor);
        }
    };
    add(config.ids_with_text.is_some(), Box::new(IdsWithText(config.ids_with_text.unwrap_or(usize::MAX))));
    add(config.repetition_penalty != 1.0, Box::new(RepetitionPenalty(config.repetition_penalty)));
    add(config.no_repeat_ngram_size > 0, Box::new(NoRepeatNGram(config.no_repeat_ngram_size)));
    if config.do_sample {
        add(config.temperature != 1.0, Box::new(Temperature(config.temperature)));
        add(config.top_k > 0, Box::new(TopK(config.top_k)));
        add(config.top_p < 1.0, Box::new(TopP(config.top_p)));
        add(config.min_p > 0.0, Box::new(MinP(config.min_p)));
    }
    list
}

/// Ids from this one on never come.
pub struct IdsWithText(pub usize);

impl LogitsProcessor for IdsWithText {
    fn process(&self, _: &[u32], scores: &mut [f32]) {
        scores.iter_mut().skip(self.0).for_each(|score| *score = f32::NEG_INFINITY);
    }
}

/// Scores of tokens that are there already: above 0 divided, below 0 multiplied, once each (Keskar et al. 2019, "CTRL").
pub struct RepetitionPenalty(pub f32);

impl LogitsProcessor for RepetitionPenalty {
    fn process(&self, ids: &[u32], scores: &mut [f32]) {
        for id in ids.iter().copied().collect::<BTreeSet<u32>>() {
            let score = &mut scores[id as usize];
            *score = if *score < 0.0 { *score * self.0 } else { *score / self.0 };
        }
    }
}

/// No run of so many tokens comes a second time.
pub struct NoRepeatNGram(pub usize);

impl LogitsProcessor for NoRepeatNGram {
    fn process(&self, ids: &[u32], scores: &mut [f32]) {
        if ids.len() + 1 < self.0 {
            return;
        }
        let last = &ids[ids.len() + 1 - self.0..];
        let again = ids.windows(self.0).filter(|run| run.starts_with(last));
        again.for_each(|run| scores[run[self.0 - 1] as usize] = f32::NEG_INFINITY);
    }
}

/// Divides scores.
pub struct Temperature(pub f32);

impl LogitsProcessor for Temperature {
    fn process(&self, _: &[u32], scores: &mut [f32]) {
        scores.iter_mut().for_each(|score| *score /= self.0);
    }
}

/// So many of the likeliest stay; ties with the last of them too.
pub struct TopK(pub usize);

impl LogitsProcessor for TopK {
    fn process(&self, _: &[u32], scores: &mut [f32]) {
        if self.0 < scores.len() {
            let mut sorted = scores.to_vec();
            let (_, least, _) = sorted.select_nth_unstable_by(self.0 - 1, |a, b| b.total_cmp(a));
            keep(scores, |score| score >= *least);
        }
    }
}

/// The smallest set of the likeliest stays whose probabilities reach this together: all that lie below, summed from the
/// least likely, go.
pub struct TopP(pub f32);

impl LogitsProcessor for TopP {
    fn process(&self, _: &[u32], scores: &mut [f32]) {
        let mut kept = probabilities(scores);
        kept.sort_by(|a, b| scores[a.0 as usize].total_cmp(&scores[b.0 as usize]));
        let mut sum = 0.0;
        let below = |(_, probability): &&(u32, f64)| {
            sum += probability;
            sum <= 1.0 - f64::from(self.0)
        };
        let gone = kept.iter().take_while(below).count().min(kept.len().saturating_sub(1));
        kept[..gone].iter().for_each(|(id, _)| scores[*id as usize] = f32::NEG_INFINITY);
    }
}

/// Tokens stay that have at least this share of the likeliest one's probability.
pub struct MinP(pub f32);

impl LogitsProcessor for MinP {
    fn process(&self, _: &[u32], scores: &mut [f32]) {
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let least = f64::from(self.0);
        keep(scores, |score| f64::from(score - most).exp() >= least);
    }
}

fn keep(scores: &mut [f32], stays: impl Fn(f32) -> bool) {
    scores.iter_mut().filter(|score| !stays(**score)).for_each(|score| *score = f32::NEG_INFINITY);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn floats(value: &Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    fn ids(value: &Value) -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    }

    /// Hugging Face's results, recorded. f32 sums there differ from f64 here by less than 1e-5 of a probability.
    #[test]
    fn scores_become_what_hugging_face_makes_of_them() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/hf/sampling.json");
        let recorded: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let cases = recorded["cases"].as_array().unwrap();
        for case in cases {
            let real = |name: &str, default: f64| case[name].as_f64().unwrap_or(default) as f32;
            let whole = |name: &str| case[name].as_u64().unwrap_or(0) as usize;
            let config = GenerationConfig {
                do_sample: true,
                temperature: real("temperature", 1.0),
                top_k: whole("top_k"),
                top_p: real("top_p", 1.0),
                min_p: real("min_p", 0.0),
                repetition_penalty: real("repetition_penalty", 1.0),
                no_repeat_ngram_size: whole("no_repeat_ngram_size"),
                ..GenerationConfig::default()
            };
            let mut scores = floats(&recorded[case["source"].as_str().unwrap()]);
            let history = if case["history"].is_null() { vec![] } else { ids(&case["history"]) };
            processors(&config).iter().for_each(|processor| processor.process(&history, &mut scores));
            check(case, &scores);
        }
        assert!(cases.len() > 25, "{}", cases.len());
    }

    fn check(case: &Value, scores: &[f32]) {
        if !case["probs"].is_null() {
            let (kept, found): (Vec<u32>, Vec<f64>) = probabilities(scores).into_iter().unzip();
            assert_eq!(kept, ids(&case["ids"]), "{case}");
            let near = |(found, expect): (&f64, f32)| (found - f64::from(expect)).abs() < 1e-5;
            assert!(found.iter().zip(floats(&case["probs"])).all(near), "{case}");
        }
        if !case["processed"].is_null() {
            let near = |(found, expect): (&f32, f32)| (found - expect).abs() < 1e-5;
            assert!(scores.iter().zip(floats(&case["processed"])).all(near), "{case}");
        }
        if !case["banned"].is_null() {
            let banned: Vec<u32> =
                (0..).zip(scores).filter(|(_, score)| score.is_infinite()).map(|(id, _)| id).collect();
            assert_eq!(banned, ids(&case["banned"]));
        }
    }

    #[test]
    fn ids_without_text_never_come() {
        let mut scores = [1.0, 2.0, 3.0, 4.0];
        IdsWithText(2).process(&[], &mut scores);
        assert_eq!(scores, [1.0, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn runs_longer_than_the_sequence_forbid_nothing() {
        let mut scores = [1.0; 3];
        NoRepeatNGram(4).process(&[0, 1], &mut scores);
        assert_eq!(scores, [1.0; 3]);
        NoRepeatNGram(1).process(&[0, 2], &mut scores);
        assert_eq!(scores, [f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY]);
    }
}
