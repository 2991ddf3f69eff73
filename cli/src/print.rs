//! What people see: results on stdout, progress, notes and errors on stderr.

mod checkpoint;
mod config;
mod data;
mod inspection;
mod plan;
mod profile;
mod shares;
mod strategy;
mod tensors;
mod wrap;

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use bloomery::Progress;
use bloomery::bench::{self, Benched};
use bloomery::compile::Saved;
use bloomery::eval::Evaluated;
use bloomery::limits::MachineLimits;
use bloomery::run::{NewToken, Sequence};
use serde::Serialize;

pub(crate) use checkpoint::{checkpoint, cleaned, combined, converted, differences, needs, transformed};
pub(crate) use config::config;
pub(crate) use data::data_set;
pub(crate) use inspection::inspection;
pub(crate) use plan::plan;
pub(crate) use profile::profile;
pub(crate) use shares::shares;
pub(crate) use strategy::{checked, drawn, holders, strategy, strategy_differences};

/// Writes a result. A reader that closed the pipe has what it wanted: nothing is said, and the program ends.
pub(crate) fn out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

/// Writes one JSON document and the end of its line.
pub(crate) fn json<T: Serialize>(value: &T) -> io::Result<()> {
    out(&json_text(value))
}

/// The document, as a line.
pub(crate) fn json_text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("results are plain data") + "\n"
}

/// Writes something beside the result.
pub(crate) fn notice(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes an error, and what to do about it; when even that fails there is nobody left to tell.
pub(crate) fn error(message: &str, way_out: Option<&str>) {
    let way_out = way_out.map_or(String::new(), |way_out| format!("; {way_out}"));
    let _ = writeln!(io::stderr(), "error: {}{way_out}", harmless(message));
}

/// A text that may hold what strangers wrote into their files, with escapes for whatever would move a terminal's cursor.
pub(crate) fn harmless(text: &str) -> String {
    escaped(text, &['\n', '\t'])
}

/// A name or a sentence that strangers wrote, on one line.
pub(crate) fn line(text: &str) -> String {
    escaped(text, &[])
}

fn escaped(text: &str, kept: &[char]) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() && !kept.contains(&c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// Shows nothing, and gives up when a signal asks for it.
pub(crate) struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &str, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn end(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}

    fn interrupted(&self) -> bool {
        crate::interrupt::happened()
    }
}

/// One new token: its text alone when there is one sequence, else a line that says whose it is.
pub(crate) fn token(token: &NewToken<'_>, to_stderr: bool) {
    let NewToken { sequence, of, id, text } = *token;
    let id = id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let line = if of == 1 { text.to_owned() } else { format!("{sequence}\t{id}\t{text:?}\n") };
    if to_stderr {
        let _ = io::stderr().write_all(line.as_bytes());
    } else {
        // What cannot be written is told at the end, when the rest is.
        let _ = out(&line);
    }
}

/// The texts, or the ids where there is no text; with logarithms of probabilities if there are any.
pub(crate) fn sequences(sequences: &[Sequence]) -> String {
    let mut text = String::new();
    for (i, sequence) in sequences.iter().enumerate() {
        if sequences.len() > 1 {
            let score = sequence.score.map_or(String::new(), |score| format!(", score {score:.4}"));
            let prompt = sequence.prompt.map_or(String::new(), |prompt| format!(", prompt {prompt}"));
            let _ = writeln!(text, "[{i}] {} tokens, {}{prompt}{score}", sequence.ids.len(), sequence.finish);
        }
        match &sequence.text {
            Some(new) => text.push_str(new),
            None => text.push_str(&join(&sequence.ids)),
        }
        text.push('\n');
        text.push_str(&logprobs(sequence));
    }
    text
}

/// What is left to say when the tokens were shown: the end of a single text's line, logarithms of probabilities.
pub(crate) fn after_stream(sequences: &[Sequence]) -> String {
    let end = if sequences.len() == 1 { "\n" } else { "" };
    sequences.iter().fold(end.to_owned(), |text, sequence| text + &logprobs(sequence))
}

fn logprobs(sequence: &Sequence) -> String {
    sequence.logprobs.as_ref().map_or(String::new(), |logprobs| format!("logprobs {}\n", join(logprobs)))
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

/// The figures of a measurement, a line each; below them a profile, if there is one.
pub(crate) fn benched(benched: &Benched) -> String {
    let mut text = format!("{:<30}{:>14}{:>14}{:>14}\n", "", "median", "least", "most");
    for (name, values) in &benched.figures {
        let [median, least, most] = bench::summary(values).map(|value| figure(name, value));
        let _ = writeln!(text, "{name:<30}{median:>14}{least:>14}{most:>14}");
    }
    for (name, value) in &benched.work {
        let _ = writeln!(text, "{name:<30}{value:>14.3}");
    }
    let _ = writeln!(text, "{:<30}{:>14}", "weights_bytes", benched.weights_bytes);
    let _ = writeln!(text, "{:<30}{:>14}", "pages", benched.pages);
    let _ = writeln!(text, "{:<30}{:>14}", "threads", benched.threads);
    let _ = writeln!(text, "{:<30}{:>14}", "class", benched.class);
    if let Some(table) = &benched.profile {
        let _ = write!(text, "\n{}", profile(table));
    }
    text
}

/// What a model makes of a text, a line for each figure.
pub(crate) fn evaluated(evaluated: &Evaluated) -> String {
    let Evaluated { tokens, scored_tokens, scored_bytes, windows, window, stride, .. } = evaluated;
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<26}{value}\n"));
    line("tokens", format!("{tokens}, {scored_tokens} of them predicted ({scored_bytes} bytes)"));
    line("windows", format!("{windows} of {window}, one every {stride} tokens"));
    line("mean_nll", format!("{:.6} nats per token", evaluated.mean_nll));
    line("perplexity", format!("{:.4}", evaluated.perplexity));
    line("bits_per_byte", format!("{:.5}", evaluated.bits_per_byte));
    text
}

fn figure(name: &str, value: f64) -> String {
    if name.contains("fraction") { format!("{value:.3}") } else { format!("{value:.1}") }
}

/// What a machine can do, a line each, and what to know of it.
pub(crate) fn limits(limits: &MachineLimits) -> String {
    let mut text = format!("{:<26}{:>8}{:>12}{:>12}\n", "", "threads", "best", "median");
    for limit in &limits.limits {
        let (name, threads, unit) = (limit.name, limit.threads, limit.unit);
        let _ = writeln!(text, "{name:<26}{threads:>8}{:>12.1}{:>12.1}  {unit}", limit.best, limit.median);
    }
    limits.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    text
}

/// An artifact that was written: where, how large, and what it runs on.
pub(crate) fn written(path: &Path, bytes: u64, classes: &[String]) -> String {
    let of = match classes {
        [] => "runs on the interpreter".to_owned(),
        [chip] if chip.starts_with("ascend:") => format!("calls for {chip}"),
        classes => format!("runs on {}", classes.join(", ")),
    };
    format!("{}: {}, {of}\n", path.display(), size(bytes))
}

/// Strategy files that were written: where, how many, and what they say.
pub(crate) fn saved_strategy(folder: &Path, saved: &Saved) -> String {
    let layers: Vec<String> = saved.layers.iter().map(u32::to_string).collect();
    let (folder, files) = (folder.display(), saved.files);
    format!("{folder}: strategy files of {files} ranks, {}, layers {}\n", saved.strategy, layers.join(":"))
}

/// A size for people: `512 B`, `1.1 GB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// A number with commas between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}

/// `1 file`, `2 files`
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(count as u64), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_break_lines() {
        assert_eq!([harmless("a\tb\n\u{1b}[2J"), line("a\tb\n\u{1b}")], ["a\tb\n\\u{1b}[2J", "a\\tb\\n\\u{1b}"]);
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!([size(999), size(1000), size(1_119_000_000)], ["999 B", "1.0 kB", "1.1 GB"]);
        assert_eq!([grouped(7), grouped(1_000), grouped(12_345_678)], ["7", "1,000", "12,345,678"]);
    }
}
