//! Where time goes: which calls of entries a session made and with which sizes, how long each kernel took, and who did
//! what when.
//!
//! Recording is off unless asked for, and costs a look at an option per phase then. Workers write into lists of their
//! own, which are added up after each call, so that long runs keep totals; events are kept only under
//! [`Detail::Events`]. What kernels compute and touch is not known here: the module `work` of `ir` says it, from the calls.

use crate::error::RunError;
use crate::launcher::PhaseName;
use bloomery_ir::work::Span;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How much is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Calls of entries.
    Calls,
    /// Also the time of each kernel.
    Kernels,
    /// Also every worker's part in every phase of a kernel: some 50 bytes each, as long as the recording runs.
    Events,
}

/// A recording. Times are nanoseconds from its begin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// How many threads worked.
    pub threads: usize,
    /// How long it was recorded.
    pub elapsed: u64,
    /// Calls of entries, in order.
    pub calls: Vec<Call>,
    /// What a session did between calls, in order.
    pub stages: Vec<Stage>,
    /// One for each kernel of the program, and one for copies at the end; empty under [`Detail::Calls`].
    pub kernels: Vec<KernelTime>,
    /// By worker and time; empty unless asked for.
    pub events: Vec<Event>,
}

/// One run of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Index of the entry.
    pub entry: usize,
    /// Values of the program's symbols, in their order.
    pub dims: Vec<u32>,
    /// The sequences it was for; empty for entries that know none.
    pub spans: Vec<Span>,
    /// When it began.
    pub begin: u64,
    /// When it ended.
    pub end: u64,
    /// The pages of the cache that attention came to.
    pub pages: PageCount,
}

/// Pages of the cache that attention came to: one head's part of a page counts once for each of its tiles, which is each
/// row of a sequence alone or up to some hundred together. Machine code counts; the layout is the generated C's
/// `struct pages`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PageCount {
    /// All of them.
    pub seen: u64,
    /// Those that could not change a bit of the result, and were not read.
    pub skipped: u64,
}

impl PageCount {
    /// The part that was skipped, 0 to 1; none when there were no pages, as on the interpreter.
    pub fn skipped_share(&self) -> Option<f64> {
        (self.seen > 0).then(|| self.skipped as f64 / self.seen as f64)
    }
}

impl AddAssign for PageCount {
    fn add_assign(&mut self, other: PageCount) {
        self.seen += other.seen;
        self.skipped += other.skipped;
    }
}

/// Something else than a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What.
    pub kind: StageKind,
    /// When it began.
    pub begin: u64,
    /// When it ended.
    pub end: u64,
}

/// What a session does between calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageKind {
    /// Weights are compared with their hashes before their first use.
    Check,
    /// Logits go to whoever asked: sampling.
    Sampling,
}

/// Time of one kernel, all its launches together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KernelTime {
    /// How often it was launched.
    pub launches: u64,
    /// Wall time of its phases, from the end of the one before to their own. Launches of one wave share its time as they kept workers busy.
    pub time: f64,
    /// Time workers spent in it, all together: at most `threads * time`; the rest is waiting.
    pub busy: f64,
    /// The pages of the cache that it came to.
    pub pages: PageCount,
}

/// One worker's part in one phase of one launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which worker.
    pub worker: usize,
    /// The kernel; none for a copy.
    pub kernel: Option<usize>,
    /// Whether it was the kernel's first phase, which prepares.
    pub prepare: bool,
    /// When its first tile began.
    pub begin: u64,
    /// When its last tile ended.
    pub end: u64,
    /// How many tiles it did.
    pub tiles: u32,
    /// The pages of the cache that they came to.
    pub pages: PageCount,
}

/// A recording that runs.
pub(crate) struct Recorder {
    detail: Detail,
    log: Arc<Log>,
    profile: Profile,
    /// The sequences of the next call.
    spans: Vec<Span>,
}

impl Recorder {
    pub(crate) fn new(detail: Detail, threads: usize, kernels: usize) -> Recorder {
        let times = if detail == Detail::Calls { 0 } else { kernels + 1 };
        let profile = Profile { threads, kernels: vec![KernelTime::default(); times], ..Profile::default() };
        Recorder { detail, log: Arc::new(Log::new(threads)), profile, spans: Vec::new() }
    }

    /// Nanoseconds since the begin.
    pub(crate) fn now(&self) -> u64 {
        self.log.now()
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> usize {
        self.profile.calls.len()
    }

    /// Where workers write, if times of kernels are wanted.
    pub(crate) fn log(&self) -> Option<Arc<Log>> {
        (self.detail > Detail::Calls).then(|| Arc::clone(&self.log))
    }

    /// The sequences of the next call.
    pub(crate) fn expect(&mut self, spans: Vec<Span>) {
        self.spans = spans;
    }

    pub(crate) fn stage(&mut self, kind: StageKind, begin: u64) {
        self.profile.stages.push(Stage { kind, begin, end: self.log.now() });
    }

    /// After a call that began then.
    pub(crate) fn called(&mut self, entry: usize, dims: &[u32], pages: PageCount, begin: u64) {
        let (end, spans) = (self.log.now(), std::mem::take(&mut self.spans));
        self.profile.calls.push(Call { entry, dims: dims.to_vec(), spans, begin, end, pages });
        if self.detail > Detail::Calls {
            self.add(&self.log.take());
        }
    }

    pub(crate) fn finish(mut self) -> Profile {
        self.profile.elapsed = self.log.now();
        self.profile.events.sort_by_key(|event| (event.worker, event.begin));
        self.profile
    }

    /// Adds up what the workers wrote; all of them walked the same phases.
    fn add(&mut self, walks: &[Vec<Phase>]) {
        let copies = self.profile.kernels.len() - 1;
        for (i, phase) in walks[0].iter().enumerate() {
            let parts: Vec<&Phase> = walks.iter().map(|walk| &walk[i]).collect();
            let wall = (phase.end - phase.begin) as f64;
            let busy = |launch: usize| parts.iter().map(|part| part.parts[launch].busy as f64).sum::<f64>();
            let all: f64 = (0..phase.parts.len()).map(busy).sum();
            for (launch, part) in phase.parts.iter().enumerate() {
                let time = &mut self.profile.kernels[part.kernel.unwrap_or(copies)];
                let share = if all > 0.0 { busy(launch) / all } else { 1.0 / phase.parts.len() as f64 };
                time.launches += u64::from(!phase.prepare);
                time.time += wall * share;
                time.busy += busy(launch);
                parts.iter().for_each(|part| time.pages += part.parts[launch].pages);
            }
        }
        if self.detail == Detail::Events {
            self.profile.events.extend(walks.iter().enumerate().flat_map(|(worker, walk)| events(worker, walk)));
        }
    }
}

/// What a worker did, but parts without tiles.
fn events(worker: usize, walk: &[Phase]) -> impl Iterator<Item = Event> {
    let parts = walk.iter().flat_map(|phase| phase.parts.iter().map(|part| (phase.prepare, part)));
    parts.filter(|(_, part)| part.tiles > 0).map(move |(prepare, part)| Event {
        worker,
        kernel: part.kernel,
        prepare,
        begin: part.begin,
        end: part.end,
        tiles: part.tiles,
        pages: part.pages,
    })
}

/// Where the workers of a team write.
pub(crate) struct Log {
    start: Instant,
    /// A worker's own list is locked by nobody else while it works.
    walks: Vec<Mutex<Vec<Phase>>>,
}

/// A phase of a wave, as one worker saw it: from the end of the phase before to its own.
struct Phase {
    prepare: bool,
    begin: u64,
    end: u64,
    /// One for each launch of the wave.
    parts: Vec<Part>,
}

/// What one worker did of one launch.
#[derive(Default)]
struct Part {
    kernel: Option<usize>,
    begin: u64,
    end: u64,
    busy: u64,
    tiles: u32,
    pages: PageCount,
}

impl Log {
    fn new(threads: usize) -> Log {
        Log { start: Instant::now(), walks: (0..threads).map(|_| Mutex::default()).collect() }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn take(&self) -> Vec<Vec<Phase>> {
        let take = |walk: &Mutex<Vec<Phase>>| std::mem::take(&mut *walk.lock().unwrap_or_else(PoisonError::into_inner));
        self.walks.iter().map(take).collect()
    }
}

/// Pages of the cache that all workers of a call came to, whether or not somebody watches.
#[derive(Default)]
pub(crate) struct PageCounter {
    seen: AtomicU64,
    skipped: AtomicU64,
}

impl PageCounter {
    pub(crate) fn add(&self, pages: PageCount) {
        self.seen.fetch_add(pages.seen, Ordering::Relaxed);
        self.skipped.fetch_add(pages.skipped, Ordering::Relaxed);
    }

    /// When all pieces of a call are done.
    pub(crate) fn total(&self) -> PageCount {
        PageCount { seen: self.seen.load(Ordering::Relaxed), skipped: self.skipped.load(Ordering::Relaxed) }
    }
}

/// One worker's watch over one phase.
pub(crate) struct Watch<'a> {
    log: &'a Log,
    worker: usize,
    phase: Phase,
}

impl Watch<'_> {
    /// When a phase begins, with the kernels of its launches; none stands for a copy.
    pub(crate) fn begin(
        log: &Log,
        worker: usize,
        phase: PhaseName,
        kernels: impl IntoIterator<Item = Option<usize>>,
    ) -> Watch<'_> {
        let parts = kernels.into_iter().map(|kernel| Part { kernel, ..Part::default() }).collect();
        let phase = Phase { prepare: phase == PhaseName::Prepare, begin: log.now(), end: 0, parts };
        Watch { log, worker, phase }
    }

    /// Does some tiles of a launch.
    pub(crate) fn piece(&mut self, launch: usize, tiles: u32, work: impl FnOnce()) {
        let begin = self.log.now();
        work();
        let (end, part) = (self.log.now(), &mut self.phase.parts[launch]);
        if part.tiles == 0 {
            part.begin = begin;
        }
        part.end = end;
        part.busy += end - begin;
        part.tiles += tiles;
    }

    /// Pages of the cache that some tiles of a launch came to.
    pub(crate) fn pages(&mut self, launch: usize, pages: PageCount) {
        self.phase.parts[launch].pages += pages;
    }

    /// When the phase is over.
    pub(crate) fn end(mut self) {
        self.phase.end = self.log.now();
        self.log.walks[self.worker].lock().unwrap_or_else(PoisonError::into_inner).push(self.phase);
    }
}

/// Runs under a watch, or without one.
pub(crate) fn watched(watch: Option<&mut Watch<'_>>, launch: usize, tiles: u32, work: impl FnOnce()) {
    match watch {
        Some(watch) => watch.piece(launch, tiles, work),
        None => work(),
    }
}

/// Refuses times of kernels where there is no machine code.
pub(crate) fn check(detail: Detail, machine_code: bool) -> Result<(), RunError> {
    if machine_code || detail == Detail::Calls { Ok(()) } else { Err(RunError::Untimed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(kernel: usize, begin: u64, end: u64, tiles: u32) -> Part {
        let pages = PageCount { seen: u64::from(tiles), skipped: 1 };
        Part { kernel: Some(kernel), begin, end, busy: end - begin, tiles, pages }
    }

    #[test]
    fn launches_of_a_wave_share_its_time_as_they_kept_workers_busy() {
        let mut recorder = Recorder::new(Detail::Events, 2, 3);
        let phase = |parts| Phase { prepare: false, begin: 100, end: 200, parts };
        let first = phase(vec![part(2, 100, 160, 3), part(0, 160, 180, 1)]);
        let second = phase(vec![part(2, 0, 0, 0), part(0, 110, 190, 4)]);
        recorder.add(&[vec![first], vec![second]]);
        let profile = recorder.finish();
        let times: Vec<_> = profile.kernels.iter().map(|k| (k.launches, k.time.round(), k.busy)).collect();
        assert_eq!(times, [(1, 63.0, 100.0), (0, 0.0, 0.0), (1, 38.0, 60.0), (0, 0.0, 0.0)]);
        assert_eq!(profile.kernels.iter().map(|k| k.time).sum::<f64>(), 100.0);
        let events: Vec<_> = profile.events.iter().map(|e| (e.worker, e.kernel, e.begin, e.end, e.tiles)).collect();
        assert_eq!(events, [(0, Some(2), 100, 160, 3), (0, Some(0), 160, 180, 1), (1, Some(0), 110, 190, 4)]);
    }

    #[test]
    fn a_phase_that_prepares_is_no_launch_of_its_own() {
        let mut recorder = Recorder::new(Detail::Kernels, 1, 1);
        let phase =
            |prepare, begin| Phase { prepare, begin, end: begin + 10, parts: vec![part(0, begin, begin + 10, 1)] };
        recorder.add(&[vec![phase(true, 0), phase(false, 10)]]);
        assert_eq!(
            recorder.finish().kernels[0],
            KernelTime { launches: 1, time: 20.0, busy: 20.0, pages: PageCount { seen: 2, skipped: 2 } }
        );
    }
}
