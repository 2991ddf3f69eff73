//! Why a run is refused or fails.

use bloomery_artifact::OpenError;
use std::io;

/// Why a run is refused or fails.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Bytes of the artifact are not those written.
    #[error(transparent)]
    Artifact(#[from] OpenError),
    /// The system gives no memory, or none to execute.
    #[error("cannot get {bytes} bytes of memory for {what}: {source}")]
    Memory {
        /// What for.
        what: &'static str,
        /// How many.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The program is none a session can run.
    #[error("the artifact's program {0}; compile the model with this version of bloomery")]
    Program(String),
    /// The artifact has no code for a class.
    #[error("the artifact has no code for {class}; it has {there}; `bloomery retarget` adds some")]
    NoCode {
        /// The class asked for.
        class: String,
        /// What there is.
        there: String,
    },
    /// The processor cannot run a class.
    #[error("this processor cannot run {class}: {reason}; --cpu {works} would work, `bloomery retarget` adds code")]
    Processor {
        /// The class.
        class: String,
        /// Why.
        reason: String,
        /// What works here.
        works: String,
    },
    /// The artifact is for devices that are not here.
    #[error(
        "the artifact is for Ascend chips ({chip}), which this version plans for and does not drive: --cpu interpreter runs its \
         program here, slowly"
    )]
    Device {
        /// Which.
        chip: &'static str,
    },
    /// A size outside its bounds.
    #[error("{name} is {value}, the program takes {least} to {most}")]
    Size {
        /// The symbol.
        name: String,
        /// Its value.
        value: u64,
        /// Smallest.
        least: u64,
        /// Largest.
        most: u64,
    },
    /// An id the model does not know.
    #[error("token id {id} is outside the vocabulary of {vocabulary} (0 to {}); leave it out", .vocabulary - 1)]
    Id {
        /// The id.
        id: u32,
        /// How many there are.
        vocabulary: u32,
    },
    /// More tokens than the model was compiled for.
    #[error(
        "{tokens} tokens do not fit the context of {context}; shorten the prompt or compile with --max-context {tokens}"
    )]
    Context {
        /// How many.
        tokens: u64,
        /// What fits.
        context: u64,
    },
    /// One of several prompts is refused.
    #[error("prompt {prompt} (counted from 0): {error}")]
    Prompt {
        /// Which, from 0.
        prompt: usize,
        /// Why.
        error: Box<RunError>,
    },
    /// A prompt without tokens.
    #[error("no tokens are given; there must be at least one")]
    Empty,
    /// A text in which no token can be predicted.
    #[error("a text of {0} tokens has none that another stands before; give one of at least 2")]
    Short(usize),
    /// Times of kernels without machine code.
    #[error(
        "times of kernels are taken of machine code, this run uses the interpreter; leave out --cpu interpreter, or compile for this processor"
    )]
    Untimed,
    /// The cache is full.
    #[error("the cache has {free} free pages, {needed} are needed; make the session with more pages")]
    Pages {
        /// How many more.
        needed: usize,
        /// How many are free.
        free: usize,
    },
    /// A setting that means nothing.
    #[error("{name} is {value}, it must be {expected}")]
    Setting {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// Settings that cannot be together, or not with this artifact; the message says all.
    #[error("{0}")]
    Contradiction(String),
    /// Logits that are no numbers.
    #[error("the model's logits are not finite at token {0}; the weights may be damaged or overflow their type")]
    NotFinite(usize),
}
