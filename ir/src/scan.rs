//! Reading text forms: tokens, lists, and errors with line and column.
//!
//! A parser has a [`Cursor`] and says where ([`Scan::cursor`]); what it reads by is the rest of [`Scan`]. White space and
//! `//` comments stand between any two tokens. What a text means lives in parsers: [`crate::parse`], and call plans' own.

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was expected or found.
    pub message: String,
}

/// What a reading gives.
pub type Parsed<T> = Result<T, ParseError>;

/// A text, and how far it is read.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    /// All of it.
    pub text: &'a str,
    /// Bytes that are read.
    pub at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning.
    pub fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0 }
    }

    /// What is left.
    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips white space and `//` comments.
    pub fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// An error about the byte `at`.
    pub fn error_at(&self, at: usize, message: &str) -> ParseError {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.to_owned(),
        }
    }
}

/// How parsers read.
pub trait Scan<'a> {
    /// Where it reads.
    fn cursor(&mut self) -> &mut Cursor<'a>;

    /// What is left.
    fn rest(&mut self) -> &'a str {
        self.cursor().rest()
    }

    /// Skips white space and `//` comments.
    fn skip(&mut self) {
        self.cursor().skip();
    }

    /// Items separated by commas up to `close`; a trailing comma is allowed.
    ///
    /// # Errors
    /// As items, or none of `,` and `close` behind one.
    fn list<T>(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>>
    where
        Self: Sized,
    {
        let mut items = vec![];
        while !self.eat(close) {
            items.push(item(self)?);
            if !self.eat(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    /// A word of letters, digits, and underscores.
    ///
    /// # Errors
    /// There is none.
    fn name(&mut self) -> Parsed<&'a str> {
        self.take(|c| c.is_ascii_alphanumeric() || c == '_', "a name")
    }

    /// A name with dots, as parameters have.
    ///
    /// # Errors
    /// There is none.
    fn path(&mut self) -> Parsed<&'a str> {
        self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'), "a name")
    }

    /// Digits.
    ///
    /// # Errors
    /// There are none, or more than 64 bits hold.
    fn number(&mut self) -> Parsed<u64> {
        self.skip();
        let begin = self.cursor().at;
        let digits = self.take(|c| c.is_ascii_digit(), "a number")?;
        digits.parse().map_err(|_| self.error_at(begin, &format!("{digits} is larger than 64 bits hold")))
    }

    /// As many characters as are accepted, one at least.
    ///
    /// # Errors
    /// There is none; the message says `what` was expected.
    fn take(&mut self, accept: impl Fn(char) -> bool, what: &str) -> Parsed<&'a str> {
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.error(&format!("expected {what}")));
        }
        self.cursor().at += end;
        Ok(&rest[..end])
    }

    /// Whether the next word is this one; takes it if so.
    fn word(&mut self, word: &str) -> bool {
        self.skip();
        let rest = self.rest().strip_prefix(word);
        let found = rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        self.cursor().at += if found { word.len() } else { 0 };
        found
    }

    /// A word that must come next.
    ///
    /// # Errors
    /// It does not.
    fn keyword(&mut self, word: &str) -> Parsed<()> {
        if self.word(word) { Ok(()) } else { Err(self.error(&format!("expected `{word}`"))) }
    }

    /// Whether this comes next; takes it if so.
    fn eat(&mut self, token: &str) -> bool {
        self.skip();
        let found = self.rest().starts_with(token);
        self.cursor().at += if found { token.len() } else { 0 };
        found
    }

    /// What must come next.
    ///
    /// # Errors
    /// It does not.
    fn expect(&mut self, token: &str) -> Parsed<()> {
        if self.eat(token) { Ok(()) } else { Err(self.error(&format!("expected `{token}`"))) }
    }

    /// The next character that is not skipped.
    fn peek(&mut self) -> Option<char> {
        self.skip();
        self.rest().chars().next()
    }

    /// Whether nothing is left.
    fn at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// An error about what comes next.
    fn error(&mut self, message: &str) -> ParseError {
        let at = self.cursor().at;
        self.error_at(at, message)
    }

    /// An error about the byte `at`.
    fn error_at(&mut self, at: usize, message: &str) -> ParseError {
        self.cursor().error_at(at, message)
    }
}
