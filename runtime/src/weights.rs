//! Where kernels read weights: the mapped file, or a copy of it in huge pages.
//!
//! A mapped file is there at once and shared by all processes that run it, but its pages are small to the processor.
//! Copied into anonymous memory for which huge pages were asked, the same bytes are read faster; a copy takes about a
//! second per gigabyte, memory of its own, and is this process's alone. [`Pages::Auto`] starts on the mapped file and
//! copies in the background once a run turns out to be long; the copy takes over between two calls. What the file's pages
//! held of this process's memory is given back as the copy grows.

use crate::error::RunError;
use crate::memory::{Block, kernel_bytes};
use bloomery_artifact::Artifact;
use bloomery_artifact::weights::PIECE;
use std::sync::Arc;
use std::thread::JoinHandle;

/// On which pages weights are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// The file's, as it is mapped.
    #[default]
    Mapped,
    /// A copy in huge pages, made before the first call.
    Huge,
    /// The file's at first; a copy in huge pages in long runs, where memory allows.
    Auto,
}

/// Calls after which a run is long: a short answer is over before a copy would be.
const CALLS_BEFORE_COPY: u32 = 32;
/// Bytes copied at once, hashes compared just before.
const STEP: usize = PIECE as usize;
/// Memory that a copy made unasked leaves free.
const SPARE: u64 = 1 << 30;

/// The bytes that kernels read.
pub struct Weights {
    artifact: Arc<Artifact>,
    copy: Option<Block>,
}

impl Weights {
    /// All weights, packed.
    pub fn bytes(&self) -> &[u8] {
        self.copy.as_ref().map_or(self.artifact.weights(), Block::bytes)
    }

    /// `mapped` or `huge`.
    pub fn pages(&self) -> &'static str {
        if self.copy.is_some() { "huge" } else { "mapped" }
    }

    fn mapped(artifact: &Arc<Artifact>) -> Weights {
        Weights { artifact: Arc::clone(artifact), copy: None }
    }

    /// Compares every piece with its hash, unless that was done before or is never to be, and copies it.
    fn copied(artifact: &Arc<Artifact>) -> Result<Weights, RunError> {
        let mut block = Block::new("a copy of the weights", artifact.weights().len() as u64)?;
        for (piece, to) in block.bytes_mut().chunks_mut(STEP).enumerate() {
            artifact.check_piece_once(piece)?;
            let range = piece * STEP..piece * STEP + to.len();
            to.copy_from_slice(&artifact.weights()[range.clone()]);
            artifact.give_back(range);
        }
        Ok(Weights { artifact: Arc::clone(artifact), copy: Some(block) })
    }
}

/// The weights of an executor over time.
pub(crate) struct Store {
    now: Arc<Weights>,
    pages: Pages,
    calls: u32,
    coming: Option<JoinHandle<Result<Weights, RunError>>>,
}

impl Store {
    /// # Errors
    /// No memory for a copy that was asked for, damaged weights met while copying.
    pub(crate) fn new(artifact: &Arc<Artifact>, pages: Pages) -> Result<Store, RunError> {
        let now = if pages == Pages::Huge { Weights::copied(artifact)? } else { Weights::mapped(artifact) };
        Ok(Store { now: Arc::new(now), pages, calls: 0, coming: None })
    }

    /// What to read now.
    pub(crate) fn now(&self) -> &Arc<Weights> {
        &self.now
    }

    /// Before a call: begins a copy when the run is long, and takes it when it is ready.
    pub(crate) fn before_call(&mut self) {
        self.calls = self.calls.saturating_add(1);
        if self.pages == Pages::Auto && self.calls == CALLS_BEFORE_COPY {
            let artifact = Arc::clone(&self.now.artifact);
            if available_memory().is_some_and(|free| free > artifact.weights().len() as u64 + SPARE) {
                self.coming = Some(std::thread::spawn(move || Weights::copied(&artifact)));
            }
        }
        if self.coming.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(Ok(Ok(copy))) = self.coming.take().map(JoinHandle::join)
        {
            // A copy that failed changes nothing: the mapped file goes on, and says so itself when it is damaged.
            self.now = Arc::new(copy);
        }
    }
}

/// Bytes the system could still give, as it says.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    text.lines().find_map(|line| kernel_bytes(line, "MemAvailable"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::artifact;

    #[test]
    fn a_copy_holds_what_the_file_does() {
        let artifact = artifact();
        let store = Store::new(&artifact, Pages::Huge).unwrap();
        assert_eq!(store.now().pages(), "huge");
        assert!(store.now().bytes() == artifact.weights() && !artifact.weights().is_empty());
    }

    #[test]
    fn a_long_run_moves_to_its_copy() {
        let artifact = artifact();
        let mut store = Store::new(&artifact, Pages::Auto).unwrap();
        (1..CALLS_BEFORE_COPY).for_each(|_| store.before_call());
        assert!(store.coming.is_none() && store.now().pages() == "mapped");
        store.before_call();
        while store.coming.is_some() {
            store.before_call();
        }
        assert!(store.now().pages() == "huge" && store.now().bytes() == artifact.weights());
    }
}
