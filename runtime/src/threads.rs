//! A team of threads that do one job together.
//!
//! Every worker runs the same function and claims pieces of work by a counter; barriers stand where one piece needs
//! another's result. Between jobs workers spin a little, then sleep. A panic in one worker ends the job in all and comes
//! out of [`Team::run`]; nobody waits for ever. The caller is worker 0, so a team of one has no threads at all.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What a team does; it is given each worker.
pub(crate) type Job = dyn Fn(&Worker<'_>) + Send + Sync;

/// How often a worker looks for the next job before it sleeps: some 50 microseconds, more than sampling takes.
const SPINS_BEFORE_SLEEP: u32 = 20_000;
/// How often a worker looks at a barrier before it lets others run.
const SPINS_BEFORE_YIELD: u32 = 2_000;

/// The threads.
pub(crate) struct Team {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

/// One of them at work.
pub(crate) struct Worker<'a> {
    /// Which one, from 0.
    pub(crate) index: usize,
    shared: &'a Shared,
}

struct Shared {
    threads: usize,
    /// Counts jobs; what sleepers and spinners look at.
    epoch: AtomicU64,
    slot: Mutex<Slot>,
    wake: Condvar,
    /// Workers other than the caller that are not done.
    running: AtomicUsize,
    /// Claims of work since the last barrier.
    next: AtomicU32,
    arrived: AtomicUsize,
    generation: AtomicU32,
    /// A worker panicked; nobody must wait for it.
    failed: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Default)]
struct Slot {
    job: Option<Arc<Job>>,
    stop: bool,
}

/// The panic of a worker that leaves because another one panicked.
struct Abandoned;

impl Team {
    /// A team of so many, the caller included.
    pub(crate) fn new(threads: usize) -> Team {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            threads,
            epoch: AtomicU64::new(0),
            slot: Mutex::new(Slot::default()),
            wake: Condvar::new(),
            running: AtomicUsize::new(0),
            next: AtomicU32::new(0),
            arrived: AtomicUsize::new(0),
            generation: AtomicU32::new(0),
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

    /// Does a job and returns when all are done.
    ///
    /// # Panics
    /// With a worker's panic.
    pub(crate) fn run(&mut self, job: Arc<Job>) {
        let worker = Worker { index: 0, shared: &self.shared };
        if self.handles.is_empty() {
            self.shared.next.store(0, Ordering::Relaxed);
            return job(&worker);
        }
        self.shared.start(Arc::clone(&job));
        self.shared.guarded(&job, &worker);
        spin_until(|| self.shared.running.load(Ordering::Acquire) == 0);
        self.shared.end();
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        lock(&self.shared.slot).stop = true;
        self.shared.epoch.fetch_add(1, Ordering::Release);
        self.shared.wake.notify_all();
        for handle in self.handles.drain(..) {
            // Workers catch every panic; there is nothing to hear from them.
            let _ = handle.join();
        }
    }
}

impl Worker<'_> {
    /// How many work together.
    pub(crate) fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Claims the next `count` pieces; returns the first. The count begins at 0 after each barrier.
    pub(crate) fn claim(&self, count: u32) -> u32 {
        self.shared.next.fetch_add(count, Ordering::Relaxed)
    }

    /// Waits for all others.
    pub(crate) fn barrier(&self) {
        let shared = self.shared;
        if shared.threads == 1 {
            shared.next.store(0, Ordering::Relaxed);
            return;
        }
        let generation = shared.generation.load(Ordering::Relaxed);
        if shared.arrived.fetch_add(1, Ordering::AcqRel) + 1 == shared.threads {
            shared.arrived.store(0, Ordering::Relaxed);
            shared.next.store(0, Ordering::Relaxed);
            shared.generation.store(generation.wrapping_add(1), Ordering::Release);
            return;
        }
        spin_until(|| shared.generation.load(Ordering::Acquire) != generation || shared.failed.load(Ordering::Relaxed));
        if shared.failed.load(Ordering::Relaxed) {
            resume_unwind(Box::new(Abandoned));
        }
    }
}

impl Shared {
    fn start(&self, job: Arc<Job>) {
        self.next.store(0, Ordering::Relaxed);
        self.arrived.store(0, Ordering::Relaxed);
        self.running.store(self.threads - 1, Ordering::Relaxed);
        let mut slot = lock(&self.slot);
        slot.job = Some(job);
        self.epoch.fetch_add(1, Ordering::Release);
        self.wake.notify_all();
    }

    /// After a job: a panic goes on in the caller.
    fn end(&self) {
        lock(&self.slot).job = None;
        if self.failed.swap(false, Ordering::Relaxed) {
            let panic = lock(&self.panic).take();
            resume_unwind(panic.unwrap_or_else(|| Box::new("a worker failed")));
        }
    }

    fn guarded(&self, job: &Arc<Job>, worker: &Worker<'_>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(worker))) {
            if !panic.is::<Abandoned>() {
                lock(&self.panic).get_or_insert(panic);
            }
            self.failed.store(true, Ordering::Release);
        }
    }

    /// A worker's life.
    fn work(&self, index: usize) {
        let mut seen = 0;
        while let Some(job) = self.next_job(&mut seen) {
            self.guarded(&job, &Worker { index, shared: self });
            drop(job);
            self.running.fetch_sub(1, Ordering::Release);
        }
    }

    fn next_job(&self, seen: &mut u64) -> Option<Arc<Job>> {
        for _ in 0..SPINS_BEFORE_SLEEP {
            if self.epoch.load(Ordering::Acquire) != *seen {
                break;
            }
            std::hint::spin_loop();
        }
        let slot = lock(&self.slot);
        let waiting = |_: &mut Slot| self.epoch.load(Ordering::Acquire) == *seen;
        let slot = self.wake.wait_while(slot, waiting).unwrap_or_else(PoisonError::into_inner);
        *seen = self.epoch.load(Ordering::Acquire);
        if slot.stop { None } else { slot.job.clone() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spin_until(done: impl Fn() -> bool) {
    let mut spins = 0;
    while !done() {
        spins += 1;
        if spins < SPINS_BEFORE_YIELD { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
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
            let each = |work: &dyn Fn(usize)| {
                loop {
                    let i = worker.claim(1);
                    if i >= 100 {
                        break;
                    }
                    work(i as usize);
                }
                worker.barrier();
            };
            each(&|i| from[i].store((i * i) as u32, Ordering::Relaxed));
            each(&|i| {
                to[i].store(
                    from[i].load(Ordering::Relaxed) + from[(i + 1) % 100].load(Ordering::Relaxed),
                    Ordering::Relaxed,
                )
            });
        });
        let mut team = Team::new(threads);
        (0..50).for_each(|_| team.run(Arc::clone(&job)));
        sums.iter().map(|sum| sum.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn results_do_not_depend_on_how_many_work() {
        let one = rounds(1);
        assert_eq!(one[98], 98 * 98 + 99 * 99);
        for threads in [2, 3, 8] {
            assert_eq!(rounds(threads), one, "{threads} threads");
        }
    }

    #[test]
    fn a_panic_comes_out_and_the_team_lives_on() {
        let mut team = Team::new(4);
        let bad: Arc<Job> = Arc::new(|worker: &Worker<'_>| {
            if worker.index == 2 {
                resume_unwind(Box::new("broken"));
            }
            worker.barrier();
        });
        let panic = catch_unwind(AssertUnwindSafe(|| team.run(bad))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"broken"));
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        team.run(Arc::new(move |worker: &Worker<'_>| {
            worker.barrier();
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        assert_eq!(count.load(Ordering::Relaxed), 4);
    }
}
