//! Work shared out to all threads, whose results come in the order of its items.
//!
//! What is made and not yet taken is bounded twice: by number, so that nobody waits, and by size, so that a machine of
//! many threads needs no more memory than one of few; one item is always allowed.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Bytes that items may take together while they are worked on.
const BYTES_AT_ONCE: u64 = 256 << 20;

/// Calls `make` with each item on some thread, and `take` with each result on this one. Items come with the bytes that
/// making them takes.
///
/// # Errors
/// The first of `take`'s; what is left is not taken then.
pub(crate) fn in_order<T: Send, R: Send, E>(
    items: impl Iterator<Item = (T, u64)>,
    make: impl Fn(T) -> R + Sync,
    take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let (jobs, waiting) = channel();
    let waiting = Mutex::new(waiting);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&waiting, &make));
        }
        // One more than threads: a result that was taken leaves nobody without work.
        hand_out(items, jobs, threads + 1, take)
    })
}

/// An item, and where its result goes.
type Job<T, R> = (T, Sender<R>);

fn work<T, R>(waiting: &Mutex<Receiver<Job<T, R>>>, make: &impl Fn(T) -> R) {
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok((item, result)) = next() {
        // Nobody listens any more after an error.
        let _ = result.send(make(item));
    }
}

fn hand_out<T, R, E>(
    items: impl Iterator<Item = (T, u64)>,
    jobs: Sender<Job<T, R>>,
    most: usize,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let mut items = items.peekable();
    let (mut begun, mut bytes) = (VecDeque::new(), 0);
    loop {
        let room = |(_, more): &(T, u64)| begun.is_empty() || begun.len() < most && bytes + more <= BYTES_AT_ONCE;
        if let Some((item, more)) = items.next_if(room) {
            let (result, ready) = channel();
            bytes += more;
            begun.push_back((ready, more));
            // Without workers there is no result either, which is seen below.
            let _ = jobs.send((item, result));
            continue;
        }
        let Some((ready, less)) = begun.pop_front() else { return Ok(()) };
        // A worker that panicked sends nothing; the scope passes its panic on.
        let Ok(result): Result<R, _> = ready.recv() else { return Ok(()) };
        bytes -= less;
        take(result)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn results_come_in_order_and_none_is_lost() {
        let mut seen = Vec::new();
        let slow_first = |i: u64| {
            std::hint::black_box((0..(100 - i) * 1000).fold(0, |sum: u64, i| std::hint::black_box(sum ^ i)));
            i * i
        };
        in_order((0..100).map(|i| (i, 1)), slow_first, |square| -> Result<(), ()> {
            seen.push(square);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, (0..100).map(|i| i * i).collect::<Vec<u64>>());
    }

    #[test]
    fn large_items_are_made_one_at_a_time() {
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let make = |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::hint::black_box((0..1000).sum::<u64>());
            now.fetch_sub(1, Ordering::SeqCst);
        };
        in_order((0..50).map(|i| (i, BYTES_AT_ONCE)), make, |()| Ok::<(), ()>(())).unwrap();
        assert_eq!(most.into_inner(), 1);
    }

    #[test]
    fn an_error_ends_it() {
        let mut taken = 0;
        let error = in_order(
            (0..).map(|i| (i, 1)),
            |i: u64| i,
            |i| {
                taken += 1;
                if i == 7 { Err("seven") } else { Ok(()) }
            },
        );
        assert_eq!((error, taken), (Err("seven"), 8));
    }
}
