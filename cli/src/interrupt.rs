//! Ctrl-C, SIGTERM and a closed terminal while something is being written: the workflow is asked to stop, removes what it began, and the
//! program ends with 128 and the signal's number. A second signal ends it at once. Commands that write no file do not
//! ask: signals end them as they end any program. A program that talks has [`Turns`]: Ctrl-C ends an answer there.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::unregister;
use signal_hook::{SigId, flag};

/// A file that may not grow any further (`ulimit -f`) is an error of the write, like a full disk, and no end of the program,
/// which then removes what it began.
pub(crate) fn outlive_file_limit() {
    // Where no handler can be set, the signal ends the program as it always did.
    #[cfg(unix)]
    let _ = flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}

/// The number of the signal that came; 0 while none did.
static CAME: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Whether Ctrl-C ends the program as if nothing had ever been registered, once [`asking`] is over.
static ENDS: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on signals ask instead of ending the program.
pub(crate) fn ask_first() {
    register();
}

/// As [`ask_first`], for as long as this takes.
pub(crate) fn asking<T>(work: impl FnOnce() -> T) -> T {
    let registered = register();
    let done = work();
    for signal in signals() {
        let ends = if signal == SIGINT { ENDS.get_or_init(Arc::default).clone() } else { Arc::default() };
        ends.store(true, Ordering::Relaxed);
        let _ = flag::register_conditional_default(signal, ends);
    }
    registered.into_iter().for_each(|id| _ = unregister(id));
    done
}

fn register() -> Vec<SigId> {
    let came = CAME.get_or_init(Arc::default);
    let again = Arc::new(AtomicBool::new(false));
    let mut registered = Vec::new();
    for signal in signals() {
        // In this order, so that the first signal is not taken for a second one. Where no handler can be set, signals end
        // the program as they always did; that is no reason to refuse work.
        let shutdown = flag::register_conditional_shutdown(signal, status(signal as usize).into(), Arc::clone(&again));
        registered.extend(shutdown);
        registered.extend(flag::register(signal, Arc::clone(&again)));
        registered.extend(flag::register_usize(signal, Arc::clone(came), signal as usize));
    }
    registered
}

fn signals() -> impl Iterator<Item = i32> {
    [SIGINT, SIGTERM].into_iter().chain(hangup())
}

/// Ctrl-C while a program talks: in a turn the first one asks for the turn's end and the second one ends the program;
/// between turns the first one does.
pub(crate) struct Turns {
    stop: Arc<AtomicBool>,
    last: Arc<AtomicBool>,
}

impl Turns {
    /// From now on Ctrl-C means this; no turn has begun.
    pub(crate) fn new() -> Turns {
        let turns = Turns { stop: Arc::default(), last: Arc::new(AtomicBool::new(true)) };
        if let Some(ends) = ENDS.get() {
            ends.store(false, Ordering::Relaxed);
        }
        // The same order as above, for the same reason.
        let _ = flag::register_conditional_shutdown(SIGINT, status(SIGINT as usize).into(), Arc::clone(&turns.last));
        let _ = flag::register(SIGINT, Arc::clone(&turns.last));
        let _ = flag::register(SIGINT, Arc::clone(&turns.stop));
        turns
    }

    /// Takes a turn, which asks whether to stop.
    pub(crate) fn take<T>(&self, turn: impl FnOnce(&dyn Fn() -> bool) -> T) -> T {
        self.stop.store(false, Ordering::Relaxed);
        self.last.store(false, Ordering::Relaxed);
        let taken = turn(&|| self.stop.load(Ordering::Relaxed));
        self.last.store(true, Ordering::Relaxed);
        taken
    }
}

/// The signal of a closed terminal, unless whoever started this wants it ignored, as `nohup` does.
#[cfg(unix)]
fn hangup() -> Option<i32> {
    let hangup = signal_hook::consts::SIGHUP;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (ignored >> (hangup - 1) & 1 == 0).then_some(hangup)
}

#[cfg(not(unix))]
fn hangup() -> Option<i32> {
    None
}

/// Whether a signal came.
pub(crate) fn happened() -> bool {
    exit().is_some()
}

/// What a shell expects of a program that the signal which came has ended.
pub(crate) fn exit() -> Option<u8> {
    let signal = CAME.get()?.load(Ordering::Relaxed);
    (signal != 0).then(|| status(signal))
}

fn status(signal: usize) -> u8 {
    128 + signal as u8
}
