//! `bench`: how fast an artifact opens, reads prompts and writes answers, what memory that takes, and how near it comes
//! to what the machine can do.
//!
//! Each repeat opens the artifact anew, so that loading is measured as often as the rest; one repeat that does not count
//! warms the page cache. Prompts are ids in an arbitrary fixed order: what the numbers are does not change the work.
//!
//! Before the first repeat and after each, the limits are read; a repeat is compared with the mean of its neighbours,
//! since other users of a machine take from both. What a phase must compute and read comes from the program and the
//! calls that were made: operations of products (matrices and attention), bytes of weights and cache. Its bound is the
//! longer of both at their limits. Pages of the cache that decoding skips are not part of what it must read.

mod phase;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bloomery_artifact::Artifact;
use bloomery_runtime::limits::{Gauge, Reading};
use bloomery_runtime::profile::{Detail, Profile};
use bloomery_runtime::sampling::greedy;
use bloomery_runtime::{Chunk, RunError, SequenceId, Session, Want, Weights};
use phase::{Phase, over};
use serde_json::{Map, Value};

use crate::execution::on;
use crate::profile::{Profiled, profiled};
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
    /// Whether one more repeat, which does not count, gives a profile.
    pub profile: bool,
    /// How to run.
    pub execution: Execution,
}

/// Everything measured: for each figure one value per repeat.
#[derive(Clone, Debug)]
pub struct Benched {
    /// Names and values, in the order to show them.
    pub figures: Vec<(&'static str, Vec<f64>)>,
    /// What is the same in every repeat: billions of operations of matrix products and of attention, and billions of
    /// bytes of weights and cache, in each phase; and the part of the cache's pages that decoding skipped.
    pub work: Vec<(&'static str, f64)>,
    /// Bytes of packed weights.
    pub weights_bytes: u64,
    /// On which pages the weights were read at the end: `mapped` from the file, or `huge`.
    pub pages: &'static str,
    /// How many threads worked.
    pub threads: usize,
    /// What ran.
    pub class: String,
    /// Where the time of one more repeat went, if asked for.
    pub profile: Option<Profiled>,
}

/// One repeat.
struct Once {
    load: f64,
    first: f64,
    prefill: Phase,
    decode: Phase,
    threads: usize,
    class: String,
    artifact: Arc<Artifact>,
    weights: Arc<Weights>,
    recorded: Profile,
}

/// Measures.
///
/// # Errors
/// An artifact that cannot be used here, lengths that do not fit it, a profile of the interpreter.
pub fn bench(options: &BenchOptions, progress: &mut dyn Progress) -> Result<Benched, Error> {
    progress.begin("warm up", 0);
    // What cannot be profiled is refused here, before it takes time.
    let warm = once(options, if options.profile { Detail::Kernels } else { Detail::Calls })?;
    progress.end("one repeat that does not count");
    // From here on the gauge touches weights that a run may leave alone.
    let peak_rss = peak_rss_bytes() as f64;
    progress.begin("limits", 0);
    let mut gauge = Gauge::new(&warm.weights, &warm.class, warm.threads);
    let mut before = gauge.read(&warm.weights);
    progress.end("read before each repeat and after the last");

    progress.begin("measure", 0);
    let mut figures: Vec<(&'static str, Vec<f64>)> = Vec::new();
    for _ in 0..options.repeats.max(1) {
        let once = once(options, Detail::Calls)?;
        let after = gauge.read(&once.weights);
        for (i, (name, value)) in once.figures(&mean(before, after), peak_rss).into_iter().enumerate() {
            match figures.get_mut(i) {
                Some((_, values)) => values.push(value),
                None => figures.push((name, vec![value])),
            }
        }
        before = after;
    }
    progress.end(&format!("{} repeats", options.repeats.max(1)));
    Ok(Benched {
        figures,
        work: warm.work(),
        weights_bytes: warm.artifact.weight_table().bytes,
        pages: warm.weights.pages(),
        threads: warm.threads,
        class: warm.class,
        profile: options.profile.then(|| profile(options, &mut gauge)).transpose()?,
    })
}

/// One more repeat, with a look at every kernel.
fn profile(options: &BenchOptions, gauge: &mut Gauge) -> Result<Profiled, Error> {
    let once = once(options, Detail::Kernels)?;
    let limits = gauge.read(&once.weights);
    Ok(profiled(&once.artifact, &once.class, &once.recorded, Some(&limits)))
}

fn mean(a: Reading, b: Reading) -> Reading {
    let mean = |a: f64, b: f64| (a + b) / 2.0;
    Reading {
        fma_gflops: mean(a.fma_gflops, b.fma_gflops),
        tiles_gflops: mean(a.tiles_gflops, b.tiles_gflops),
        read_gb_per_s: mean(a.read_gb_per_s, b.read_gb_per_s),
    }
}

impl Once {
    /// The figures of one repeat, in the order to show them.
    fn figures(&self, limits: &Reading, peak_rss: f64) -> Vec<(&'static str, f64)> {
        let (prefill, decode) = (&self.prefill, &self.decode);
        let fraction = |phase: &Phase| over(phase.tokens_per_s(), phase.bound_tokens_per_s(limits));
        let mut figures = vec![
            ("load_ms", self.load * 1e3),
            ("first_token_ms", self.first * 1e3),
            ("prefill_tokens_per_s", prefill.tokens_per_s()),
            ("prefill_bound_tokens_per_s", prefill.bound_tokens_per_s(limits)),
            ("prefill_fraction_of_bound", fraction(prefill)),
            ("prefill_gflops", prefill.gflops()),
            ("prefill_fraction_of_fma_peak", over(prefill.gflops(), limits.fma_gflops)),
            ("prefill_gb_per_s", prefill.gb_per_s()),
            ("decode_tokens_per_s", decode.tokens_per_s()),
            ("decode_bound_tokens_per_s", decode.bound_tokens_per_s(limits)),
            ("decode_fraction_of_bound", fraction(decode)),
            ("decode_gflops", decode.gflops()),
            ("decode_gb_per_s", decode.gb_per_s()),
            ("limit_fma_gflops", limits.fma_gflops),
            ("limit_read_gb_per_s", limits.read_gb_per_s),
            ("peak_rss_bytes", peak_rss),
        ];
        if limits.tiles_gflops > 0.0 {
            figures.push(("limit_tiles_gflops", limits.tiles_gflops));
        }
        figures
    }

    fn work(&self) -> Vec<(&'static str, f64)> {
        let billions = |amount: u64| amount as f64 / 1e9;
        let (prefill, decode) = (&self.prefill.work, &self.decode.work);
        vec![
            ("prefill_matmul_gflop", billions(prefill.matmul_flops)),
            ("prefill_attention_gflop", billions(prefill.attention_flops)),
            ("prefill_gb", billions(prefill.streamed_bytes())),
            ("decode_matmul_gflop", billions(decode.matmul_flops)),
            ("decode_attention_gflop", billions(decode.attention_flops)),
            ("decode_gb", billions(decode.streamed_bytes())),
            ("decode_pages_skipped_fraction", self.decode.pages.skipped_share().unwrap_or(0.0)),
        ]
    }
}

fn once(options: &BenchOptions, detail: Detail) -> Result<Once, Error> {
    let begin = Instant::now();
    let artifact = options.execution.open(&options.artifact)?;
    let needed = tokens_before(options).saturating_add(options.new_tokens);
    let context = artifact.meta().max_context as usize;
    // Asked before anything runs: the answer would otherwise come after minutes.
    if needed > context {
        return Err(RunError::Context { tokens: needed as u64, context: context as u64 }.into());
    }
    let mut session = options.execution.session(&artifact, std::iter::repeat_n(needed, options.batch))?;
    session.record(detail)?;
    let load = begin.elapsed().as_secs_f64();
    let timed = on(&artifact, || timed(options, &mut session))?;

    let recorded = session.recorded().expect("it was begun above");
    // Calls are in order: those of the prompts, twice, those that fill the context, those of new tokens.
    let calls = |calls: Range<usize>| &recorded.calls[calls];
    let (threads, class) = (session.executor().threads(), session.executor().class().to_owned());
    let phase = |calls, tokens: usize, seconds| Phase::new(&artifact, &class, calls, options.batch * tokens, seconds);
    let prefill = phase(calls(timed.prefill_calls), options.prompt_tokens, timed.prefill);
    let decode_calls = timed.calls_before_decode..recorded.calls.len();
    let decode = phase(calls(decode_calls), options.new_tokens.saturating_sub(1), timed.decode);
    let weights = Arc::clone(session.executor().weights());
    Ok(Once { load, first: timed.first, prefill, decode, threads, class, artifact, weights, recorded })
}

/// Tokens a sequence has when the new ones begin.
fn tokens_before(options: &BenchOptions) -> usize {
    options.context.unwrap_or(0).max(options.prompt_tokens)
}

/// How long the phases took, and where in the recording they begin and end.
struct Timed {
    /// Seconds from the prompts to the first new tokens, in a session that has done nothing yet.
    first: f64,
    /// The same again: weights are checked and mapped by now.
    prefill: f64,
    /// Seconds from there, or from a full context, to the last.
    decode: f64,
    prefill_calls: Range<usize>,
    calls_before_decode: usize,
}

fn timed(options: &BenchOptions, session: &mut Session) -> Result<Timed, Error> {
    let start = |session: &mut Session| -> Vec<SequenceId> { (0..options.batch).map(|_| session.start()).collect() };
    let vocabulary = session.vocabulary();
    let ids = |range: Range<usize>| -> Vec<Vec<u32>> {
        let id = |sequence: usize, i: usize| ((sequence * 7919 + i * 104_729 + 5) % vocabulary) as u32;
        (0..options.batch).map(|sequence| range.clone().map(|i| id(sequence, i)).collect()).collect()
    };
    let prompts = ids(0..options.prompt_tokens);
    let sequences = start(session);
    let begin = Instant::now();
    step(session, &sequences, &prompts)?;
    let first = begin.elapsed().as_secs_f64();
    sequences.into_iter().for_each(|sequence| session.end(sequence));

    let (sequences, calls_before) = (start(session), session.calls());
    let begin = Instant::now();
    let mut newest = step(session, &sequences, &prompts)?;
    let prefill = begin.elapsed().as_secs_f64();
    let prefill_calls = calls_before..session.calls();
    let before = tokens_before(options);
    if before > options.prompt_tokens {
        newest = step(session, &sequences, &ids(options.prompt_tokens..before))?;
    }
    let calls_before_decode = session.calls();
    let begin = Instant::now();
    for _ in 1..options.new_tokens {
        newest = step(session, &sequences, &newest)?;
    }
    Ok(Timed { first, prefill, decode: begin.elapsed().as_secs_f64(), prefill_calls, calls_before_decode })
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
    /// One flat object: each figure the median of its values, with `_min` and `_max` beside it; a profile as one value.
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        for (name, values) in &self.figures {
            let [median, least, most] = summary(values);
            all.insert((*name).to_owned(), number(median));
            all.insert(format!("{name}_min"), number(least));
            all.insert(format!("{name}_max"), number(most));
        }
        all.extend(self.work.iter().map(|(name, value)| ((*name).to_owned(), number(*value))));
        all.insert("weights_bytes".to_owned(), self.weights_bytes.into());
        all.insert("pages".to_owned(), self.pages.into());
        all.insert("threads".to_owned(), self.threads.into());
        all.insert("class".to_owned(), self.class.clone().into());
        if let Some(profile) = &self.profile {
            all.insert("profile".to_owned(), serde_json::to_value(profile).expect("a profile is plain data"));
        }
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
