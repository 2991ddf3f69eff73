//! Runs artifacts: memory, threads, machine code or interpreter, the key-value cache, generation of text.
//!
//! From below: [`executor`] runs an entry point of a program on memory it owns, natively (`native`, `launcher`,
//! `threads`; `weights` says from which pages) or on the interpreter. [`session`] feeds sequences of tokens through it and
//! keeps the paged cache ([`pages`]). [`generate()`], [`logits`] and [`perplexity()`] are what people ask for; [`sampling`]
//! picks tokens.
//! [`profile`] says where time went, [`limits`] what the machine could do at most. Absent: graphs, passes, strategies,
//! text (ids go in and out).
//!
//! Start at [`session`].

pub mod error;
mod memory;
pub mod pages;
pub mod sampling;

mod launcher;
mod native;
mod threads;
mod tiles;
mod weights;

pub mod ascend;
pub mod executor;
pub mod session;

pub mod generate;
pub mod logits;
pub mod perplexity;

pub mod limits;
pub mod profile;

pub use error::RunError;
pub use executor::{Executor, ExecutorOptions};
pub use generate::config::{EarlyStopping, GenerationConfig};
pub use generate::kept::Kept;
pub use generate::{Finish, Generated, Listener, generate};
pub use launcher::{best_class, runs_here};
pub use logits::{AllLogits, all_logits};
pub use perplexity::{Perplexity, Window, Windows, perplexity};
pub use session::{Chunk, SequenceId, Session, SessionOptions, Want, pages_needed};
pub use weights::{Pages, Weights};

#[cfg(test)]
mod fixture;
