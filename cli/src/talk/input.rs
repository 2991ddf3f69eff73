//! Lines of a person, edited and remembered, or of a program, as they are.

use std::io::{self, BufRead, IsTerminal};

use bloomery::{Error, terminal};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler, KeyEvent, Movement, RepeatCount,
};

use crate::Failure;

/// Where lines come from.
pub(super) enum Input {
    /// A terminal.
    Edited(Box<Editor<(), MemHistory>>),
    /// Anything else, and how many lines came.
    Plain(usize),
}

/// What comes next.
pub(super) enum Next {
    Line(String),
    /// There are no more lines.
    End,
    /// Ctrl-C on an empty line.
    Interrupted,
}

impl Input {
    pub(super) fn new() -> Result<Input, Failure> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(Input::Plain(0));
        }
        let config = Config::builder().auto_add_history(true).build();
        let mut editor = Editor::with_history(config, MemHistory::new()).map_err(failure)?;
        editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(EmptiesFirst)));
        Ok(Input::Edited(Box::new(editor)))
    }

    /// Whether a person types.
    pub(super) fn is_edited(&self) -> bool {
        matches!(self, Input::Edited(_))
    }

    /// The next line, without its end.
    pub(super) fn next(&mut self) -> Result<Next, Failure> {
        match self {
            Input::Edited(editor) => loop {
                match editor.readline("> ") {
                    Ok(line) => return Ok(Next::Line(line)),
                    Err(ReadlineError::Eof) => return Ok(Next::End),
                    Err(ReadlineError::Interrupted) => return Ok(Next::Interrupted),
                    // A slip of the hand or of the clipboard, which no conversation should be lost for.
                    Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                        terminal::note("what was typed is not UTF-8 text, and the line is dropped: type it again");
                    }
                    Err(error) => return Err(failure(error)),
                }
            },
            Input::Plain(lines) => {
                *lines += 1;
                Ok(plain(&mut io::stdin().lock(), *lines)?.map_or(Next::End, Next::Line))
            }
        }
    }
}

/// Reads the line of this number, counted from 1.
fn plain(from: &mut impl BufRead, number: usize) -> Result<Option<String>, Failure> {
    let mut line = Vec::new();
    let read = from.read_until(b'\n', &mut line);
    if read.map_err(|error| Error::Refused(format!("cannot read standard input: {error}")))? == 0 {
        return Ok(None);
    }
    let line = String::from_utf8(line).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::Refused(format!(
            "line {number} of standard input is not UTF-8 text: byte {at} of it starts no character"
        ))
    })?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
}

fn failure(error: ReadlineError) -> Failure {
    Error::Refused(format!("cannot read from the terminal: {error}; give it lines by a pipe")).into()
}

/// Ctrl-C empties a line; on an empty one it is what it always was.
struct EmptiesFirst;

impl ConditionalEventHandler for EmptiesFirst {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, line: &EventContext<'_>) -> Option<Cmd> {
        (!line.line().is_empty()).then_some(Cmd::Kill(Movement::WholeBuffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_either_way_and_the_last_in_none() {
        let mut from = &b"one\r\ntwo\n\nlast"[..];
        let mut lines = Vec::new();
        while let Some(line) = plain(&mut from, lines.len() + 1).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["one", "two", "", "last"]);
    }

    #[test]
    fn a_line_that_is_no_text_is_named() {
        let error = plain(&mut &b"ab\xff\n"[..], 7).unwrap_err().to_string();
        assert!(error.starts_with("line 7 of standard input") && error.contains("byte 2"), "{error}");
    }
}
