//! How an artifact is run: what all commands that run one have in common.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bloomery_artifact::{Artifact, Check};
use bloomery_models::tokenizer::Tokenizer;
use bloomery_runtime::{Pages, Session, SessionOptions, pages_needed};

use crate::{Error, find};

/// How to run an artifact.
#[derive(Clone, Debug)]
pub struct Execution {
    /// A class of processors, or `interpreter`; by default the best that the artifact and this processor have.
    pub class: Option<String>,
    /// How many threads; by default one per processor.
    pub threads: Option<usize>,
    /// On which pages weights are read.
    pub weights: Pages,
    /// Tokens at once; by default (and at most) what the artifact was compiled for.
    pub chunk: Option<usize>,
    /// When weights are compared with their hashes; by default [`check_once`].
    pub check: Check,
}

impl Default for Execution {
    fn default() -> Execution {
        Execution { class: None, threads: None, weights: Pages::default(), chunk: None, check: check_once() }
    }
}

/// Checks an artifact once on this machine, with notes in the user's folder of caches; each time where there is none.
pub fn check_once() -> Check {
    notes().map_or(Check::Lazy, Check::Once)
}

/// Where notes of checked artifacts lie.
pub(crate) fn notes() -> Option<PathBuf> {
    Some(find::own_cache()?.join("checked"))
}

/// The most threads: more than any machine gives to one process.
pub const THREADS_MAX: usize = 1024;

impl Execution {
    /// Opens an artifact.
    pub(crate) fn open(&self, path: &Path) -> Result<Arc<Artifact>, Error> {
        check_threads(self.threads)?;
        Ok(Arc::new(Artifact::open(path, self.check.clone())?))
    }

    /// A session with room for sequences of these lengths, in tokens.
    pub(crate) fn session(
        &self,
        artifact: &Arc<Artifact>,
        lengths: impl IntoIterator<Item = usize>,
    ) -> Result<Session, Error> {
        let lengths = lengths.into_iter();
        let most = artifact.program().symbols.iter().find(|symbol| symbol.name == "C").map(|symbol| symbol.most);
        let check = |pages: usize| match most {
            Some(most) if pages as u64 > most => Err(Error::Refused(format!(
                "the batch needs at least {pages} pages of cache, the artifact takes at most {most}: run fewer or shorter \
                 sequences at once"
            ))),
            _ => Ok(pages),
        };
        // Every sequence takes a page, so a batch that is too large for that is refused before its lengths are added up.
        check(lengths.size_hint().0)?;
        let pages = check(pages_needed(artifact, lengths)?)?;
        let options = SessionOptions {
            class: self.class.clone(),
            threads: self.threads,
            weights: self.weights,
            chunk: self.chunk,
            pages,
        };
        Ok(Session::new(Arc::clone(artifact), &options)?)
    }
}

/// What comes of work with an artifact, unless somebody wrote into its file meanwhile: then neither a result nor another
/// complaint says anything.
pub(crate) fn on<T>(artifact: &Artifact, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let done = work();
    artifact.unchanged()?;
    done
}

/// Refuses numbers of threads that no machine has.
pub(crate) fn check_threads(threads: Option<usize>) -> Result<(), Error> {
    match threads.filter(|threads| !(1..=THREADS_MAX).contains(threads)) {
        Some(threads) => Err(Error::Refused(format!("--threads is {threads}, it must be 1 to {THREADS_MAX}"))),
        None => Ok(()),
    }
}

/// The tokenizer an artifact holds.
pub(crate) fn tokenizer(artifact: &Artifact) -> Result<Option<Tokenizer>, Error> {
    Ok(artifact.tokenizer().map(|bytes| Tokenizer::from_bytes(bytes.to_vec())).transpose()?)
}

/// The tokenizer of an artifact that is given text alone.
pub(crate) fn tokenizer_for_text(artifact: &Artifact, path: &Path) -> Result<Tokenizer, Error> {
    tokenizer(artifact)?.ok_or_else(|| {
        let path = path.display();
        Error::Refused(format!(
            "{path} holds no tokenizer, so it takes no text: compile from a folder with tokenizer.json"
        ))
    })
}
