//! How far long work is: told by the workflows, shown (or not) by whoever called them.

use crate::Error;

/// Hears of stages as they begin, proceed and end.
pub trait Progress {
    /// A stage begins; `total` is what [`Progress::advance`] will add up to, 0 when that is not known.
    fn begin(&mut self, stage: &str, total: u64);

    /// So much more of the stage is done.
    fn advance(&mut self, by: u64);

    /// The stage is over; `detail` says what came of it.
    fn end(&mut self, detail: &str);

    /// Something a person should know.
    fn note(&mut self, text: &str);

    /// Whether to give up: workflows ask between pieces of long work and leave nothing behind.
    fn interrupted(&self) -> bool {
        false
    }

    /// Goes on unless interrupted.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    fn go_on(&self) -> Result<(), Error> {
        if self.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _: &str, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn end(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}
}
