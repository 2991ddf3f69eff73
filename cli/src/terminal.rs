//! Progress for a person: the one place of the library that writes to stderr.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::Progress;

/// Progress on stderr: a bar on a terminal, a line for each finished stage otherwise.
pub struct Terminal {
    bar: Option<ProgressBar>,
    stage: String,
    started: Instant,
    /// The last sign of life, its share of the total, and both parts of that.
    told: Instant,
    done: u64,
    total: u64,
    interrupted: fn() -> bool,
}

/// How long a stage may take in silence.
const SILENCE: Duration = Duration::from_secs(10);

impl Terminal {
    /// Nothing is under way yet; `interrupted` says when to give up.
    pub fn new(interrupted: fn() -> bool) -> Terminal {
        let now = Instant::now();
        Terminal { bar: None, stage: String::new(), started: now, told: now, done: 0, total: 0, interrupted }
    }
}

impl Progress for Terminal {
    fn begin(&mut self, stage: &str, total: u64) {
        let now = Instant::now();
        (self.stage, self.started, self.told) = (stage.to_owned(), now, now);
        (self.done, self.total) = (0, total);
        self.bar = io::stderr().is_terminal().then(|| bar(stage, total));
    }

    fn advance(&mut self, by: u64) {
        self.done += by;
        match &self.bar {
            Some(bar) => bar.inc(by),
            None if self.told.elapsed() > SILENCE && self.total > 0 => {
                self.told = Instant::now();
                eprint_line(&format!("  {:<20} {} %", self.stage, self.done * 100 / self.total));
            }
            None => {}
        }
    }

    fn end(&mut self, detail: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        eprint_line(&format!("  {:<20} {:>9}  {detail}", self.stage, time(self.started.elapsed())));
    }

    fn interrupted(&self) -> bool {
        (self.interrupted)()
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }
}

/// Something a person should know.
pub fn note(text: &str) {
    eprint_line(&format!("note: {text}"));
}

fn eprint_line(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn bar(stage: &str, total: u64) -> ProgressBar {
    let bar = if total > 0 { ProgressBar::new(total) } else { ProgressBar::new_spinner() };
    let template =
        if total > 0 { "  {msg:20} {bar:30} {bytes}/{total_bytes} {eta}" } else { "  {msg:20} {spinner} {elapsed}" };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is sound"));
    bar.set_message(stage.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A duration for people: `12 ms`, `3.4 s`.
fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!([time(Duration::from_micros(1500)), time(Duration::from_millis(2346))], ["1.5 ms", "2.35 s"]);
    }
}
