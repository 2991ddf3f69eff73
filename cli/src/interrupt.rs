//! Ctrl-C and SIGTERM while something is being written: the workflow is asked to stop, removes what it began, and the
//! program ends with 130. A second signal ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell expects of a program that Ctrl-C ended.
pub(crate) const EXIT: u8 = 130;

static HAPPENED: AtomicBool = AtomicBool::new(false);

/// From now on signals ask instead of ending the program.
pub(crate) fn ask_first() {
    let heard = || {
        if HAPPENED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(EXIT));
        }
    };
    // Without a handler signals end the program as they always did; that is no reason to refuse work.
    let _ = ctrlc::set_handler(heard);
}

/// Whether a signal came.
pub(crate) fn happened() -> bool {
    HAPPENED.load(Ordering::Relaxed)
}
