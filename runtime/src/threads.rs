//! A team of threads that do one job together.
//!
//! A job is a list of phases, each so many pieces of work; a phase needs what the ones before it made. Every worker walks
//! the whole list and claims pieces of the phase it is at. A phase is over when its *pieces* are done, not when all
//! workers have come by: one that the system has put aside holds nobody up unless it holds a piece, and finds the phases
//! it missed over. Who has nothing to do spins a little, then sleeps, so waiting costs no other program its turn.
//!
//! A panic in one worker ends the job in all and comes out of [`Team::run`]; nobody waits for ever. The caller is worker
//! 0, so a team of one has no threads at all.

use std::any::Any;
use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What a team does; it is given each worker. All workers of a job must ask for the same phases.
pub(crate) type Job = dyn Fn(&Worker<'_>) + Send + Sync;

/// How often a worker looks before it sleeps: some 100 microseconds, more than sampling takes and less than a turn of
/// the system's scheduler.
const SPINS_BEFORE_SLEEP: u32 = 5_000;

/// The threads.
pub(crate) struct Team {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

/// One of them at work.
pub(crate) struct Worker<'a> {
    /// Which one, from 0.
    pub(crate) index: usize,
    /// The phase it comes to next.
    phase: Cell<u32>,
    shared: &'a Shared,
}

struct Shared {
    threads: usize,
    /// The phase that is being worked at, counted through all jobs, above the next piece to claim of it.
    claims: AtomicU64,
    /// Pieces of that phase that are done.
    done: AtomicU32,
    /// Counts jobs.
    epoch: AtomicU64,
    slot: Mutex<Slot>,
    /// Whoever sleeps, sleeps here, with `slot`'s lock.
    wake: Condvar,
    sleepers: AtomicU32,
    /// A worker panicked; nobody must wait for it.
    failed: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Default)]
struct Slot {
    job: Option<Posted>,
    stop: bool,
}

/// A job for all who come.
#[derive(Clone)]
struct Posted {
    job: Arc<Job>,
    /// Its first phase.
    first: u32,
    /// Workers other than the caller that have walked it to its end.
    walked: Arc<AtomicUsize>,
}

/// The panic of a worker that leaves because another one panicked.
struct Abandoned;

impl Team {
    /// A team of so many, the caller included.
    pub(crate) fn new(threads: usize) -> Team {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            threads,
            claims: AtomicU64::new(0),
            done: AtomicU32::new(0),
            epoch: AtomicU64::new(0),
            slot: Mutex::new(Slot::default()),
            wake: Condvar::new(),
            sleepers: AtomicU32::new(0),
            failed: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let spawn = |index| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("bloomery-{index}"));
            builder.spawn(move || shared.work(index))
        };
        // A system that gives fewer threads than asked for gets a smaller team.
        let handles: Vec<_> = (1..threads).map_while(|index| spawn(index).ok()).collect();
        if handles.len() + 1 == threads {
            return Team { shared, handles };
        }
        let fewer = handles.len() + 1;
        drop(Team { shared, handles });
        Team::new(fewer)
    }

    /// How many they are.
    pub(crate) fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Does a job and returns when all its phases are over: no piece of it runs any more, though a worker that was late
    /// may still be walking past phases.
    ///
    /// # Panics
    /// With a worker's panic.
    pub(crate) fn run(&mut self, job: Arc<Job>) {
        let posted = self.post(job);
        self.walk(&posted);
        self.end();
    }

    /// The same, but every worker walks the whole job, and it returns when all have. For what is measured.
    ///
    /// # Panics
    /// With a worker's panic.
    pub(crate) fn run_together(&mut self, job: Arc<Job>) {
        let posted = self.post(job);
        self.walk(&posted);
        let all = || posted.walked.load(Ordering::Acquire) == self.handles.len();
        self.shared.wait_until(|| all() || self.shared.failed.load(Ordering::SeqCst));
        self.end();
    }

    fn post(&self, job: Arc<Job>) -> Posted {
        let posted = Posted { job, first: self.shared.phase(), walked: Arc::default() };
        if !self.handles.is_empty() {
            let mut slot = lock(&self.shared.slot);
            slot.job = Some(posted.clone());
            // With the lock, so that no worker takes this job twice.
            self.shared.epoch.fetch_add(1, Ordering::SeqCst);
            drop(slot);
            self.shared.wake_sleepers();
        }
        posted
    }

    /// The caller's part.
    fn walk(&self, posted: &Posted) {
        let worker = Worker { index: 0, phase: Cell::new(posted.first), shared: &self.shared };
        self.shared.guarded(&posted.job, &worker);
    }

    fn end(&mut self) {
        lock(&self.shared.slot).job = None;
        if self.shared.failed.load(Ordering::SeqCst) {
            self.end_in_panic();
        }
    }

    /// After a panic the phase it happened in never ends; with new threads there are no traces of it.
    fn end_in_panic(&mut self) -> ! {
        let panic = lock(&self.shared.panic).take();
        *self = Team::new(self.shared.threads);
        resume_unwind(panic.unwrap_or_else(|| Box::new("a worker failed")));
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        let mut slot = lock(&self.shared.slot);
        slot.stop = true;
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        drop(slot);
        self.shared.wake_sleepers();
        for handle in self.handles.drain(..) {
            // Workers catch every panic; there is nothing to hear from them.
            let _ = handle.join();
        }
    }
}

impl Worker<'_> {
    /// Does pieces `0..total` together with the others, as ranges of neighbours, and returns when all are done.
    pub(crate) fn phase(&self, total: u32, mut work: impl FnMut(Range<u32>)) {
        if total == 0 {
            return;
        }
        let (shared, phase) = (self.shared, self.phase.get());
        self.phase.set(phase.wrapping_add(1));
        while let Some(pieces) = shared.claim(phase, total) {
            let count = pieces.len() as u32;
            work(pieces);
            // Release: who sees the phase over sees what was done in it.
            if shared.done.fetch_add(count, Ordering::AcqRel) + count == total {
                shared.done.store(0, Ordering::Relaxed);
                shared.claims.store(u64::from(phase.wrapping_add(1)) << 32, Ordering::SeqCst);
                shared.wake_sleepers();
            }
        }
        shared.wait_until(|| shared.phase() != phase || shared.failed.load(Ordering::SeqCst));
        if shared.failed.load(Ordering::SeqCst) {
            resume_unwind(Box::new(Abandoned));
        }
    }
}

impl Shared {
    /// The phase that is being worked at.
    fn phase(&self) -> u32 {
        (self.claims.load(Ordering::Acquire) >> 32) as u32
    }

    /// Claims pieces of a phase: many at first, few towards the end, so that all end at about the same time.
    fn claim(&self, phase: u32, total: u32) -> Option<Range<u32>> {
        let mut seen = self.claims.load(Ordering::Acquire);
        loop {
            let next = seen as u32;
            if (seen >> 32) as u32 != phase || next >= total {
                return None;
            }
            let share = 2 * self.threads as u32;
            let count = if self.threads == 1 { total - next } else { ((total - next) / share).max(1) };
            let claimed = seen + u64::from(count);
            match self.claims.compare_exchange_weak(seen, claimed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(next..next + count),
                Err(now) => seen = now,
            }
        }
    }

    /// Spins, then sleeps, until something is so. Whoever makes it so calls [`Shared::wake_sleepers`] afterwards.
    fn wait_until(&self, done: impl Fn() -> bool) {
        for _ in 0..SPINS_BEFORE_SLEEP {
            if done() {
                return;
            }
            std::hint::spin_loop();
        }
        let slot = lock(&self.slot);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // Either the waker sees this sleeper, or the sleeper what the waker did before it looked.
        fence(Ordering::SeqCst);
        drop(self.wake.wait_while(slot, |_| !done()).unwrap_or_else(PoisonError::into_inner));
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake_sleepers(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // With the lock, a sleeper is either before its look or already waiting.
            drop(lock(&self.slot));
            self.wake.notify_all();
        }
    }

    fn guarded(&self, job: &Arc<Job>, worker: &Worker<'_>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(worker))) {
            if !panic.is::<Abandoned>() {
                lock(&self.panic).get_or_insert(panic);
            }
            self.failed.store(true, Ordering::SeqCst);
            self.wake_sleepers();
        }
    }

    /// A worker's life.
    fn work(&self, index: usize) {
        let mut seen = 0;
        loop {
            self.wait_until(|| self.epoch.load(Ordering::SeqCst) != seen);
            let slot = lock(&self.slot);
            seen = self.epoch.load(Ordering::SeqCst);
            if slot.stop {
                return;
            }
            let job = slot.job.clone();
            drop(slot);
            // None: the job was done before this worker came.
            if let Some(Posted { job, first, walked }) = job {
                self.guarded(&job, &Worker { index, phase: Cell::new(first), shared: self });
                walked.fetch_add(1, Ordering::SeqCst);
                self.wake_sleepers();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rounds: squares, then sums of neighbours; the second needs all of the first.
    fn rounds(threads: usize) -> Vec<u32> {
        let squares: Arc<Vec<AtomicU32>> = Arc::new((0..100).map(|_| AtomicU32::new(0)).collect());
        let sums: Arc<Vec<AtomicU32>> = Arc::new((0..100).map(|_| AtomicU32::new(0)).collect());
        let (from, to) = (Arc::clone(&squares), Arc::clone(&sums));
        let job: Arc<Job> = Arc::new(move |worker: &Worker<'_>| {
            worker.phase(100, |pieces| {
                pieces.for_each(|i| from[i as usize].store(i * i, Ordering::Relaxed));
            });
            worker.phase(0, |_| panic!("there is nothing to do"));
            worker.phase(100, |pieces| {
                let square = |i: u32| from[i as usize % 100].load(Ordering::Relaxed);
                pieces.for_each(|i| to[i as usize].store(square(i) + square(i + 1), Ordering::Relaxed));
            });
        });
        let mut team = Team::new(threads);
        for _ in 0..50 {
            squares.iter().chain(sums.iter()).for_each(|number| number.store(0, Ordering::Relaxed));
            team.run(Arc::clone(&job));
            assert_eq!(sums[98].load(Ordering::Relaxed), 98 * 98 + 99 * 99, "{threads} threads");
        }
        sums.iter().map(|sum| sum.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn results_do_not_depend_on_how_many_work() {
        let one = rounds(1);
        for threads in [2, 3, 8] {
            assert_eq!(rounds(threads), one, "{threads} threads");
        }
    }

    #[test]
    fn every_piece_is_claimed_once() {
        let counts: Arc<Vec<AtomicU32>> = Arc::new((0..1000).map(|_| AtomicU32::new(0)).collect());
        let counted = Arc::clone(&counts);
        Team::new(4).run(Arc::new(move |worker: &Worker<'_>| {
            worker.phase(1000, |pieces| {
                for i in pieces {
                    counted[i as usize].fetch_add(1, Ordering::Relaxed);
                }
            });
        }));
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn a_worker_that_is_put_aside_holds_nobody_up() {
        let (go_on, sum) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let mut team = Team::new(2);
        let (held, added) = (Arc::clone(&go_on), Arc::clone(&sum));
        team.run(Arc::new(move |worker: &Worker<'_>| {
            while worker.index == 1 && !held.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            for _ in 0..3 {
                worker.phase(10, |pieces| {
                    added.fetch_add(pieces.len() as u32, Ordering::Relaxed);
                });
            }
        }));
        assert_eq!(sum.load(Ordering::Relaxed), 30);
        // What was put aside finds everything done, and helps with what comes next.
        go_on.store(true, Ordering::Relaxed);
        let added = Arc::clone(&sum);
        team.run(Arc::new(move |worker: &Worker<'_>| {
            worker.phase(10, |pieces| {
                added.fetch_add(pieces.len() as u32, Ordering::Relaxed);
            });
        }));
        assert_eq!(sum.load(Ordering::Relaxed), 40);
    }

    #[test]
    fn together_every_worker_walks_the_job() {
        let walked = Arc::new(AtomicU32::new(0));
        let mut team = Team::new(3);
        for times in 1..20 {
            let counted = Arc::clone(&walked);
            team.run_together(Arc::new(move |_: &Worker<'_>| {
                counted.fetch_add(1, Ordering::Relaxed);
            }));
            assert_eq!(walked.load(Ordering::Relaxed), 3 * times);
        }
    }

    #[test]
    fn a_panic_comes_out_and_the_team_lives_on() {
        let mut team = Team::new(4);
        let bad: Arc<Job> = Arc::new(|worker: &Worker<'_>| {
            worker.phase(8, |pieces| {
                if pieces.contains(&5) {
                    resume_unwind(Box::new("broken"));
                }
            });
        });
        let panic = catch_unwind(AssertUnwindSafe(|| team.run(bad))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"broken"));
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        team.run(Arc::new(move |worker: &Worker<'_>| {
            worker.phase(4, |pieces| {
                counted.fetch_add(pieces.len() as u32, Ordering::Relaxed);
            });
        }));
        assert_eq!(count.load(Ordering::Relaxed), 4);
    }
}
