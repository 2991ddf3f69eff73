//! What can go wrong in a workflow: mostly what another room refused, with the file it was about.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use bloomery_artifact::{OpenError, WriteError};
use bloomery_codegen::cpu::image::ImageError;
use bloomery_configs::SettingsError;
use bloomery_formats::FormatError;
use bloomery_models::config::ConfigError;
use bloomery_models::names::NameError;
use bloomery_models::sizes::UnknownSize;
use bloomery_models::tokenizer::TokenizerError;
use bloomery_passes::PassError;
use bloomery_runtime::RunError;

/// Why a workflow did not do what it was asked. Messages say what, where, both numbers, and the way out.
#[derive(thiserror::Error)]
pub enum Error {
    /// A `config.json` that describes no BLOOM.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A YAML configuration that cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A foreign file that cannot be read or written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Weights that do not fit their config.
    #[error("{}: {source}", path.display())]
    Names {
        /// The file with what does not fit, or the model's folder.
        path: PathBuf,
        /// What does not fit.
        source: NameError,
    },
    /// A model's name, and no model of it.
    #[error("there is no model {name}, as a path nor as {looked}: {way_out}")]
    NoModel {
        /// The name as given.
        name: String,
        /// The places looked in.
        looked: String,
        /// What to do.
        way_out: String,
    },
    /// Neither a path nor a name.
    #[error(
        "there is no file or folder {}, and no model is called that: names are bloom_560m, bloomz-7b1, or as the hub has them, \
         such as BelleGroup/BELLE-7B-2M",
        path.display()
    )]
    Nothing {
        /// What was given.
        path: PathBuf,
    },
    /// A size that is not published.
    #[error(transparent)]
    Size(#[from] UnknownSize),
    /// A tokenizer that cannot be read or used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A pass that refuses.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// No code: no compiler, or one that refuses.
    #[error(transparent)]
    Code(#[from] ImageError),
    /// An artifact that cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An artifact that cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A run that is refused or fails.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A text that is no IR.
    #[error("{}:{source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and message.
        source: bloomery_ir::ParseError,
    },
    /// The system refused an operation on a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write".
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A text that is not the one expected.
    #[error("{}:{line}: expected `{expected}`, found `{found}`", path.display())]
    Differs {
        /// The expectation's file.
        path: PathBuf,
        /// First line that differs, from 1.
        line: usize,
        /// What the file says there.
        expected: String,
        /// What was made.
        found: String,
    },
    /// A signal ended it; what it had begun is gone.
    #[error("interrupted; no unfinished file is left")]
    Interrupted,
    /// Something asked for that cannot be done; the message says all.
    #[error("{0}")]
    Refused(String),
}

/// As for a person, so that a `main` that returns it says what is wrong.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// What to do where the system refused something, if that is plain.
    pub fn way_out(&self) -> Option<&'static str> {
        match self {
            Error::Io { action: "write" | "create", source, .. }
            | Error::Format(FormatError::Io { action: "write" | "create", source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Some("`mkdir -p` makes the folder it should be in");
            }
            _ => {}
        }
        let mut cause = Some(self as &dyn std::error::Error);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return way_out(io.kind());
            }
            cause = error.source();
        }
        None
    }

    /// The same about what will be in the folder `to`, and is in `from` until that is complete.
    pub(crate) fn within(self, from: &Path, to: &Path) -> Error {
        let moved = |path: PathBuf| path.strip_prefix(from).map(|rest| to.join(rest)).unwrap_or(path);
        match self {
            Error::Io { action, path, source } => Error::Io { action, path: moved(path), source },
            Error::Format(FormatError::Io { action, path, source }) => {
                Error::Format(FormatError::Io { action, path: moved(path), source })
            }
            other => other,
        }
    }

    /// For `map_err`: the system's refusal to `action` the file at `path`.
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
        move |source| Error::Io { action, path: path.to_path_buf(), source }
    }
}

/// What to do about what a system says.
fn way_out(said: io::ErrorKind) -> Option<&'static str> {
    match said {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("make room there, or name another place"),
        io::ErrorKind::FileTooLarge => Some(
            "`ulimit -f` shows how large a file may be, if its disk allows more; raise that, or name another place",
        ),
        io::ErrorKind::PermissionDenied => Some("`ls -ld` shows who may; ask them, or name another place"),
        io::ErrorKind::NotFound => Some("`ls` shows what there is"),
        _ => None,
    }
}
