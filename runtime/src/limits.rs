//! What this machine can do at most: read memory, multiply and add. Kernels are judged by it.
//!
//! The loops are assembly, so that no compiler drops or changes what is measured: [`bandwidth`], [`fma`], [`dots`],
//! [`tiles`]. An island of unsafe code: a [`Load`] is only made where the processor has its instructions. Threads are
//! those of a [`Team`], placed by the system as a session's are; each starts its own clock when all are there, and a
//! figure is the work of all over the longest span.
//!
//! [`measure`] gives the whole table; a [`Gauge`] takes the limits of a session again and again, in little time.

mod bandwidth;
mod dots;
mod fma;
mod tiles;

use crate::threads::{Team, Worker};
use crate::weights::Weights;
use bandwidth::{Memory, WAYS, Way};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// What was measured, e.g. `read_huge_pages`, `fma_f32_x86-64-v3`.
    pub name: &'static str,
    /// How many threads did it together.
    pub threads: usize,
    /// `GB/s`, `GFLOP/s` or `GOP/s` (integers), all threads together.
    pub unit: &'static str,
    /// The best of the repeats.
    pub best: f64,
    /// The median of the repeats.
    pub median: f64,
}

/// What to measure, and how long.
#[derive(Clone, Copy, Debug)]
pub struct LimitOptions {
    /// Most threads; one is always measured too.
    pub threads: usize,
    /// Bytes of memory to read: several times the largest cache.
    pub bytes: usize,
    /// How often each limit is measured.
    pub repeats: usize,
    /// About how long one repeat takes.
    pub repeat: Duration,
}

/// All limits of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Each once for one thread and once for all.
    pub limits: Vec<Limit>,
    /// The share of the memory that the kernel put on huge pages when asked, 0 to 1: of `read_huge_pages`.
    pub huge_share: f64,
    /// Whether processor and kernel let this process use tiles.
    pub tiles: bool,
}

/// Measures everything this machine has; `file` is mapped and read as weights are. `hear` is told of each limit.
///
/// # Errors
/// No memory, or a file that cannot be mapped.
pub fn measure(options: &LimitOptions, file: Option<&File>, hear: &mut dyn FnMut(&Limit)) -> io::Result<Limits> {
    let mut teams: Vec<Team> = [1, options.threads].into_iter().map(Team::new).collect();
    teams.dedup_by_key(|team| team.threads());
    let mut limits = Vec::new();
    let mut add = |limit: Limit| {
        hear(&limit);
        limits.push(limit);
    };
    let mut huge_share = 0.0;
    // One after the other, so that only one of them takes memory at a time.
    for name in ["read_small_pages", "read_huge_pages", "read_mapped_file"] {
        let memory = match (name, file) {
            ("read_mapped_file", Some(file)) => Memory::mapped(file, options.bytes)?,
            ("read_mapped_file", None) => continue,
            _ => Memory::anonymous(options.bytes, name == "read_huge_pages")?,
        };
        if name == "read_huge_pages" {
            huge_share = memory.huge_share();
        }
        teams.iter_mut().for_each(|team| add(read_limit(team, name, &memory, options)));
    }
    for load in arithmetic() {
        teams.iter_mut().for_each(|team| add(limit(team, &load, options)));
    }
    Ok(Limits { limits, huge_share, tiles: tiles::permitted() })
}

/// Loops of instructions that this processor has.
fn arithmetic() -> impl Iterator<Item = Load> {
    fma::loads().into_iter().map(|(_, load)| load).chain(dots::loads()).chain(tiles::loads())
}

fn limit(team: &mut Team, load: &Load, options: &LimitOptions) -> Limit {
    let rounds = calibrate(team, load, options.repeat);
    let mut rates: Vec<f64> = (0..options.repeats.max(1)).map(|_| rate(team, load, rounds)).collect();
    summary(load.name, load.unit, team.threads(), &mut rates)
}

/// Every way to read takes its turns, so that a quiet moment of the machine favours none; the best way counts.
fn read_limit(team: &mut Team, name: &'static str, memory: &Memory, options: &LimitOptions) -> Limit {
    let threads = team.threads();
    let mut rates = vec![Vec::new(); WAYS.len()];
    for _ in 0..options.repeats.max(1) {
        for (way, rates) in WAYS.iter().zip(&mut rates) {
            let load = memory.load(*way, threads);
            rates.push(rate(team, &load, 1));
        }
    }
    let all = rates.iter_mut().map(|rates| summary(name, "GB/s", threads, rates));
    all.max_by(|a, b| a.median.total_cmp(&b.median)).expect("there is a way to read")
}

fn summary(name: &'static str, unit: &'static str, threads: usize, rates: &mut [f64]) -> Limit {
    rates.sort_by(f64::total_cmp);
    let best = *rates.last().expect("at least one repeat");
    Limit { name, threads, unit, best, median: rates[rates.len() / 2] }
}

/// What every thread of a team repeats while its clock runs.
struct Load {
    name: &'static str,
    unit: &'static str,
    /// Billions of operations, or bytes, of one thread in one round.
    per_round: f64,
    work: Arc<Rounds>,
}

/// Does some rounds as one of the workers.
type Rounds = dyn Fn(usize, u64) + Send + Sync;

impl Load {
    /// A loop of instructions in registers.
    ///
    /// # Safety
    /// The processor has the instructions of `run`.
    #[allow(unsafe_code, reason = "the contract of the loops of instructions")]
    unsafe fn instructions(name: &'static str, unit: &'static str, per_round: u64, run: unsafe fn(u64)) -> Load {
        let work = move |_, rounds: u64| {
            #[allow(unsafe_code, reason = "runs a loop of instructions")]
            // SAFETY: the caller of `instructions` vouches for the processor; a loop is run once at least, since it
            // counts down to zero.
            unsafe {
                run(rounds.max(1));
            }
        };
        Load { name, unit, per_round: per_round as f64 / 1e9, work: Arc::new(work) }
    }
}

/// Billions a second that a team reaches together.
fn rate(team: &mut Team, load: &Load, rounds: u64) -> f64 {
    let total = load.per_round * rounds as f64 * team.threads() as f64;
    total / seconds(team, load, rounds).max(1e-9)
}

/// The longest time that a worker took, by its own clock, which it starts when all are there.
fn seconds(team: &mut Team, load: &Load, rounds: u64) -> f64 {
    let longest = Arc::new(AtomicU64::new(0));
    let (seen, work) = (Arc::clone(&longest), Arc::clone(&load.work));
    let (all, here) = (team.threads(), AtomicUsize::new(0));
    team.run_together(Arc::new(move |worker: &Worker<'_>| {
        here.fetch_add(1, Ordering::AcqRel);
        while here.load(Ordering::Acquire) < all {
            std::thread::yield_now();
        }
        let begin = Instant::now();
        work(worker.index, rounds);
        seen.fetch_max(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }));
    longest.load(Ordering::Relaxed) as f64 / 1e9
}

/// Rounds that take about so long.
fn calibrate(team: &mut Team, load: &Load, aim: Duration) -> u64 {
    let aim = aim.as_secs_f64();
    let mut rounds = 1;
    loop {
        let took = seconds(team, load, rounds);
        if took * 4.0 >= aim || rounds > 1 << 40 {
            return ((rounds as f64 * aim / took.max(1e-9)) as u64).max(1);
        }
        rounds *= 4;
    }
}

/// Takes the limits of a session again and again, between its steps.
pub struct Gauge {
    team: Team,
    peak: Option<(Load, u64)>,
    tiles: Option<(Load, u64)>,
    way: Way,
    /// Passes over the weights.
    passes: u64,
}

/// Limits at one moment, of all threads together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// f32 multiply-adds in registers, GFLOP/s; 0 on processors without a loop for it.
    pub fma_gflops: f64,
    /// Products of bf16 on matrix tiles, GFLOP/s; 0 where the class of processors has none.
    pub tiles_gflops: f64,
    /// Reading the artifact's weights where they are mapped, GB/s.
    pub read_gb_per_s: f64,
}

/// How long a gauge measures one thing.
const GLANCE: Duration = Duration::from_millis(40);
/// How often it does so; the best counts, since the rest met a busy neighbour.
const GLANCES: usize = 3;
/// Bytes of weights that are read, at most.
const READ_MOST: usize = 1 << 30;

impl Gauge {
    /// For an executor's weights, class of processors (without one: the widest vectors there are) and threads. Tries
    /// which way to read is the best.
    pub fn new(weights: &Arc<Weights>, class: &str, threads: usize) -> Gauge {
        let mut team = Team::new(threads);
        let mut ready = |load: Load| {
            let rounds = calibrate(&mut team, &load, GLANCE);
            (load, rounds)
        };
        let (peak, tiles) = (fma::of_class(class).map(&mut ready), tiles::of_class(class).map(&mut ready));
        let memory = Memory::weights(Arc::clone(weights), READ_MOST);
        // The first pass of all maps the pages.
        seconds(&mut team, &memory.load(WAYS[0], threads), 1);
        let mut rates = WAYS.map(|way| (way, 0.0));
        for _ in 0..GLANCES {
            for (way, best) in &mut rates {
                *best = rate(&mut team, &memory.load(*way, threads), 1).max(*best);
            }
        }
        let (way, _) = rates.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("there is a way to read");
        let passes = calibrate(&mut team, &memory.load(way, threads), GLANCE);
        Gauge { team, peak, tiles, way, passes }
    }

    /// Measures them. The weights may be those of another executor; their pages should have been touched.
    pub fn read(&mut self, weights: &Arc<Weights>) -> Reading {
        let load = Memory::weights(Arc::clone(weights), READ_MOST).load(self.way, self.team.threads());
        let mut reading = Reading { fma_gflops: 0.0, tiles_gflops: 0.0, read_gb_per_s: 0.0 };
        for _ in 0..GLANCES {
            for (peak, best) in [(&self.peak, &mut reading.fma_gflops), (&self.tiles, &mut reading.tiles_gflops)] {
                if let Some((load, rounds)) = peak {
                    *best = best.max(rate(&mut self.team, load, *rounds));
                }
            }
            reading.read_gb_per_s = reading.read_gb_per_s.max(rate(&mut self.team, &load, self.passes));
        }
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{Pages, Store};
    use std::io::Write;

    /// Too short to say anything about the machine: that every loop ends, and what the table holds.
    #[test]
    fn every_limit_is_a_figure_for_one_thread_and_for_all() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        let options = LimitOptions { threads: 2, bytes: 1 << 22, repeats: 2, repeat: Duration::from_micros(200) };
        let mut heard = Vec::new();
        let measured = measure(&options, Some(&file), &mut |limit| heard.push(limit.clone())).unwrap();
        assert_eq!(heard, measured.limits);
        assert!((0.0..=1.0).contains(&measured.huge_share));
        for limit in &measured.limits {
            assert!(limit.median.is_finite() && 0.0 < limit.median && limit.median <= limit.best, "{limit:?}");
        }
        let names: Vec<&str> = measured.limits.chunks_exact(2).map(|pair| pair[0].name).collect();
        let threads = |pair: &[Limit]| (pair[0].name == pair[1].name, pair[0].threads, pair[1].threads);
        assert!(measured.limits.chunks_exact(2).all(|pair| threads(pair) == (true, 1, 2)), "{names:?}");
        assert_eq!(names[..3], ["read_small_pages", "read_huge_pages", "read_mapped_file"]);
        assert_eq!(names.iter().any(|name| name.starts_with("tiles")), measured.tiles);
    }

    #[test]
    fn one_thread_is_measured_once() {
        let options = LimitOptions { threads: 1, bytes: 1 << 16, repeats: 1, repeat: Duration::from_micros(10) };
        let measured = measure(&options, None, &mut |_| {}).unwrap();
        let mut names: Vec<&str> = measured.limits.iter().map(|limit| limit.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), measured.limits.len());
    }

    #[test]
    fn a_gauge_reads_an_artifacts_weights() {
        let artifact = crate::fixture::artifact();
        let weights = Store::new(&artifact, Pages::Mapped).unwrap();
        let reading = Gauge::new(weights.now(), "interpreter", 2).read(weights.now());
        assert!(reading.read_gb_per_s > 0.0 && reading.read_gb_per_s.is_finite(), "{reading:?}");
        assert_eq!(reading.fma_gflops > 0.0, !fma::loads().is_empty(), "{reading:?}");
        assert_eq!(reading.tiles_gflops, 0.0, "{reading:?}");
    }
}
