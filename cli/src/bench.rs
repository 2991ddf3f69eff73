//! `bench`: how fast an artifact opens, reads prompts and writes answers, and what memory that takes.
//!
//! Each repeat opens the artifact anew, so that loading is measured as often as the rest; one repeat that does not count
//! warms the page cache. Prompts are ids in an arbitrary fixed order: what the numbers are does not change the work.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use bloomery_runtime::sampling::greedy;
use bloomery_runtime::{Chunk, RunError, SequenceId, Session, Want};
use serde_json::{Map, Value};

use crate::{Error, Execution, Progress};

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The artifact.
    pub artifact: PathBuf,
    /// Tokens of a prompt.
    pub prompt_tokens: usize,
    /// New tokens of a sequence.
    pub new_tokens: usize,
    /// Sequences that run together.
    pub batch: usize,
    /// Tokens a sequence has when the new ones begin, at least the prompt's; those after the prompt are not timed.
    pub context: Option<usize>,
    /// How often to measure.
    pub repeats: usize,
    /// How to run.
    pub execution: Execution,
}

/// Everything measured: for each figure one value per repeat.
#[derive(Clone, Debug)]
pub struct Benched {
    /// Names and values, in the order to show them.
    pub figures: Vec<(&'static str, Vec<f64>)>,
    /// Bytes of packed weights.
    pub weights_bytes: u64,
    /// How many threads worked.
    pub threads: usize,
    /// What ran.
    pub class: String,
}

/// One repeat.
struct Once {
    values: [f64; 5],
    threads: usize,
    class: String,
    weights_bytes: u64,
}

/// The figures of one repeat, in order.
const FIGURES: [&str; 5] =
    ["load_ms", "first_token_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "peak_rss_bytes"];

/// Measures.
///
/// # Errors
/// An artifact that cannot be used here, lengths that do not fit it.
pub fn bench(options: &BenchOptions, progress: &mut dyn Progress) -> Result<Benched, Error> {
    progress.begin("warm up", 0);
    let first = once(options)?;
    progress.end("one repeat that does not count");
    progress.begin("measure", 0);
    let mut figures = FIGURES.map(|name| (name, Vec::new())).to_vec();
    for _ in 0..options.repeats.max(1) {
        let once = once(options)?;
        figures.iter_mut().zip(once.values).for_each(|((_, values), value)| values.push(value));
    }
    progress.end(&format!("{} repeats", options.repeats.max(1)));
    Ok(Benched { figures, weights_bytes: first.weights_bytes, threads: first.threads, class: first.class })
}

fn once(options: &BenchOptions) -> Result<Once, Error> {
    let begin = Instant::now();
    let artifact = options.execution.open(&options.artifact)?;
    let needed = tokens_before(options).saturating_add(options.new_tokens);
    let context = artifact.meta().max_context as usize;
    // Asked before anything runs: the answer would otherwise come after minutes.
    if needed > context {
        return Err(RunError::Context { tokens: needed as u64, context: context as u64 }.into());
    }
    let mut session = options.execution.session(&artifact, std::iter::repeat_n(needed, options.batch))?;
    let load = begin.elapsed().as_secs_f64();
    let (first, decode) = timed(options, &mut session)?;

    let rate = |tokens: usize, seconds: f64| if tokens > 0 { (options.batch * tokens) as f64 / seconds } else { 0.0 };
    let values = [
        load * 1e3,
        first * 1e3,
        rate(options.prompt_tokens, first),
        rate(options.new_tokens.saturating_sub(1), decode),
        peak_rss_bytes() as f64,
    ];
    let (threads, class) = (session.executor().threads(), session.executor().class().to_owned());
    Ok(Once { values, threads, class, weights_bytes: artifact.weight_table().bytes })
}

/// Tokens a sequence has when the new ones begin.
fn tokens_before(options: &BenchOptions) -> usize {
    options.context.unwrap_or(0).max(options.prompt_tokens)
}

/// Seconds from the prompts to the first new tokens, and from those to the last.
fn timed(options: &BenchOptions, session: &mut Session) -> Result<(f64, f64), Error> {
    let sequences: Vec<SequenceId> = (0..options.batch).map(|_| session.start()).collect();
    let vocabulary = session.vocabulary();
    let ids = |range: Range<usize>| -> Vec<Vec<u32>> {
        let id = |sequence: usize, i: usize| ((sequence * 7919 + i * 104_729 + 5) % vocabulary) as u32;
        (0..options.batch).map(|sequence| range.clone().map(|i| id(sequence, i)).collect()).collect()
    };
    let begin = Instant::now();
    let mut newest = step(session, &sequences, &ids(0..options.prompt_tokens))?;
    let first = begin.elapsed();
    let before = tokens_before(options);
    if before > options.prompt_tokens {
        newest = step(session, &sequences, &ids(options.prompt_tokens..before))?;
    }
    let begin = Instant::now();
    for _ in 1..options.new_tokens {
        newest = step(session, &sequences, &newest)?;
    }
    Ok((first.as_secs_f64(), begin.elapsed().as_secs_f64()))
}

/// Runs some tokens of every sequence, and returns the likeliest next ones.
fn step(session: &mut Session, sequences: &[SequenceId], ids: &[Vec<u32>]) -> Result<Vec<Vec<u32>>, Error> {
    let chunk = |(&sequence, ids)| Chunk { sequence, ids, want: Want::Last };
    let given = sequences.iter().zip(ids.iter().map(Vec::as_slice));
    let chunks: Vec<Chunk<'_>> = given.map(chunk).collect();
    let mut next = vec![Vec::new(); ids.len()];
    session.step(&chunks, |chunk, _, logits| next[chunk] = vec![greedy(logits)])?;
    Ok(next)
}

/// The most memory this process ever had in use, mapped files included; 0 where the system does not say.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

impl Benched {
    /// One flat object: each figure the median of its values, with `_min` and `_max` beside it.
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        for (name, values) in &self.figures {
            let [median, least, most] = summary(values);
            all.insert((*name).to_owned(), number(median));
            all.insert(format!("{name}_min"), number(least));
            all.insert(format!("{name}_max"), number(most));
        }
        all.insert("weights_bytes".to_owned(), self.weights_bytes.into());
        all.insert("threads".to_owned(), self.threads.into());
        all.insert("class".to_owned(), self.class.clone().into());
        Value::Object(all)
    }
}

/// Whole numbers as such.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value < 9e15 { Value::from(value as u64) } else { Value::from(value) }
}

/// Median (the mean of the middle two), least, most.
pub fn summary(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    [(sorted[last / 2] + sorted[last.div_ceil(2)]) / 2.0, sorted[0], sorted[last]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_median_least_and_most() {
        assert_eq!(summary(&[3.0, 1.0, 2.0]), [2.0, 1.0, 3.0]);
        assert_eq!(summary(&[4.0, 1.0]), [2.5, 1.0, 4.0]);
        assert_eq!(summary(&[7.0]), [7.0; 3]);
    }
}
