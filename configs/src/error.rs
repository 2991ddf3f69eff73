//! What can be wrong with a configuration: what, where, and the way out.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use crate::keys;
use crate::strategy::StrategyError;

/// A place in a file, both numbers from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Its line.
    pub line: usize,
    /// Its column, in characters.
    pub column: usize,
}

/// A configuration that is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file says what cannot be.
    #[error(transparent)]
    Refused(Box<Refusal>),
}

impl From<Refusal> for SettingsError {
    fn from(refusal: Refusal) -> SettingsError {
        SettingsError::Refused(Box::new(refusal))
    }
}

/// What a configuration says and cannot be, with its place and the way out.
#[derive(Debug, thiserror::Error)]
pub struct Refusal {
    /// What is wrong.
    pub problem: Problem,
    /// Where it was said.
    pub place: String,
    /// The key's dotted path; empty for the whole file.
    pub path: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  --> {}", self.problem, self.place)?;
        if !self.path.is_empty() && !self.place.contains(&self.path) {
            write!(f, "  {}", self.path)?;
        }
        write!(f, "\n  help: {}", self.problem.way_out())
    }
}

/// What is wrong. [`Problem::way_out`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Bytes that are no text.
    #[error("it is no UTF-8 text from byte {from} on")]
    NoText {
        /// Counted from 0.
        from: usize,
    },
    /// More than anybody writes.
    #[error("it has {bytes} bytes, and no configuration has more than {most}")]
    TooLarge {
        /// Of the file.
        bytes: u64,
        /// That are read.
        most: u64,
    },
    /// Text that is no YAML.
    #[error("it is not valid YAML: {said}")]
    Yaml {
        /// What the parser says.
        said: String,
    },
    /// A file without a key.
    #[error("it says nothing at all")]
    Empty,
    /// More than one document in a file.
    #[error("a second document begins")]
    SecondDocument,
    /// Text that can be read in two ways.
    #[error("it can be read in two ways")]
    TwoReadings,
    /// A list or a section where a key belongs.
    #[error("a key is no word")]
    KeyIsNoWord,
    /// A key that is there twice.
    #[error("{path} is said twice, in line {first} and here")]
    Twice {
        /// The key.
        path: String,
        /// The line of the first.
        first: usize,
    },
    /// A key that nothing reads.
    #[error("there is no key {path}")]
    Unknown {
        /// The key.
        path: String,
        /// The key or section that may have been meant.
        nearest: Option<&'static str>,
        /// The known section around it.
        section: String,
    },
    /// An item of a list that says not which it is.
    #[error("item {item} of {} has no type", keys::LISTED)]
    NoType {
        /// Counted from 0.
        item: usize,
    },
    /// Two items of one type.
    #[error("{path} is listed twice")]
    ItemTwice {
        /// Its path.
        path: String,
    },
    /// A value of another kind.
    #[error("{path} is {found}, expected {expected}")]
    Type {
        /// The key.
        path: String,
        /// The value, shortened.
        found: String,
        /// What belongs there.
        expected: String,
        /// Whether the value is text.
        text: bool,
    },
    /// A value of the right kind that cannot be.
    #[error("{path} is {found}, expected {expected}")]
    Range {
        /// The key.
        path: &'static str,
        /// The value, shortened.
        found: String,
        /// What belongs there.
        expected: String,
    },
    /// `--set` without a value.
    #[error("--set {given} sets nothing")]
    NoValue {
        /// As given.
        given: String,
    },
    /// `--set` of more than one key.
    #[error("{path} is a section")]
    Section {
        /// Its path.
        path: String,
    },
    /// A strategy that cannot be.
    #[error("{0}")]
    Strategy(StrategyError),
    /// Settings that contradict each other, or something outside.
    #[error("{problem}")]
    Contradiction {
        /// What, with both sides.
        problem: String,
        /// What to do.
        way_out: String,
    },
}

impl Problem {
    /// What to do.
    pub fn way_out(&self) -> String {
        match self {
            Problem::NoText { .. } => "write it as UTF-8".to_owned(),
            Problem::TooLarge { .. } => "name a YAML file with MindFormers' keys".to_owned(),
            Problem::Yaml { .. } => "YAML wants keys as `key: value`, indented with spaces".to_owned(),
            Problem::Empty => "configs/bloom of this project has files to begin with".to_owned(),
            Problem::SecondDocument => "keep one, without a line `---`".to_owned(),
            Problem::TwoReadings => "write plain keys and values".to_owned(),
            Problem::KeyIsNoWord => "write `key: value`".to_owned(),
            Problem::Twice { .. } | Problem::ItemTwice { .. } => "leave one of both out".to_owned(),
            Problem::Unknown { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            Problem::Unknown { section, .. } => keys_of(section),
            Problem::NoType { .. } => format!("say `type:` and one of {}", keys::names(keys::LISTED).join(", ")),
            Problem::Type { expected, .. } if expected == "text" => "put it into quotes".to_owned(),
            Problem::Type { path, text: true, expected, .. } => format!("set {path} to {expected}, without quotes"),
            Problem::Type { path, expected, .. } => format!("set {path} to {expected}"),
            Problem::Range { path, expected, .. } => format!("set {path} to {expected}"),
            Problem::NoValue { .. } => "write --set key=value, such as parallel_config.model_parallel=1".to_owned(),
            Problem::Section { path } => format!("set one of its keys; {}", keys_of(path)),
            Problem::Strategy(error) => error.way_out(),
            Problem::Contradiction { way_out, .. } => way_out.clone(),
        }
    }
}

fn keys_of(section: &str) -> String {
    let place = if section.is_empty() { "at the top".to_owned() } else { format!("in {section}") };
    format!("{place} there are {}", keys::names(section).join(", "))
}
