//! What a line means: a question, or a command behind a slash.

use std::path::Path;

/// What `/help` prints.
pub(super) const HELP: &str = "\
/reset      begins the conversation anew
/save FILE  writes it as JSON: questions, answers, ids
/stats      says how long it is, and how fast
/help       prints this
/exit       ends the program, as Ctrl-D does
//..        asks a question that begins with a slash
Ctrl-C      ends an answer; on a line, empties it; on an empty line, ends the program
";

/// A line's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// An empty line.
    Nothing,
    Question(&'a str),
    Reset,
    Save(&'a Path),
    Stats,
    Help,
    Exit,
    /// No command there is.
    Unknown(&'a str),
    /// A command with too little or too much behind it, and how it is written.
    Misused(&'static str),
}

impl<'a> Said<'a> {
    /// Reads a line.
    pub(super) fn of(line: &'a str) -> Said<'a> {
        let Some(command) = line.strip_prefix('/') else {
            return if line.trim().is_empty() { Said::Nothing } else { Said::Question(line) };
        };
        if command.starts_with('/') {
            return Said::Question(command);
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, rest.trim()) {
            ("reset", "") => Said::Reset,
            ("save", path) if !path.is_empty() => Said::Save(Path::new(path)),
            ("stats", "") => Said::Stats,
            ("help", "") => Said::Help,
            ("exit", "") => Said::Exit,
            ("reset", _) => Said::Misused("/reset, with nothing behind it"),
            ("save", _) => Said::Misused("/save FILE, with the name of a file to write"),
            ("stats", _) => Said::Misused("/stats, with nothing behind it"),
            ("help", _) => Said::Misused("/help, with nothing behind it"),
            ("exit", _) => Said::Misused("/exit, with nothing behind it"),
            _ => Said::Unknown(command),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_questions_or_commands() {
        for (line, said) in [
            ("", Said::Nothing),
            ("  ", Said::Nothing),
            (" why /reset?", Said::Question(" why /reset?")),
            ("//etc is what?", Said::Question("/etc is what?")),
            ("/reset", Said::Reset),
            ("/save my talk.json ", Said::Save(Path::new("my talk.json"))),
            ("/stats ", Said::Stats),
            ("/help", Said::Help),
            ("/exit", Said::Exit),
            ("/save", Said::Misused("/save FILE, with the name of a file to write")),
            ("/reset now", Said::Misused("/reset, with nothing behind it")),
            ("/", Said::Unknown("")),
            ("/etc", Said::Unknown("etc")),
        ] {
            assert_eq!(Said::of(line), said, "{line:?}");
        }
    }

    #[test]
    fn help_has_every_command() {
        for command in ["/reset", "/save FILE", "/stats", "/help", "/exit"] {
            assert!(HELP.contains(&format!("\n{command} ")) || HELP.starts_with(command), "{command}");
        }
    }
}
