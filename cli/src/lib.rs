//! The `bloomery` library: what the command line does, one file per workflow, for programs.
//!
//! Every workflow is a function from plain options to a result; long ones tell a [`Progress`] how far they are. Nothing
//! here prints, exits, or knows how arguments are written: that is the binary's (`main.rs`, `args.rs`, `print.rs`).
//! Formats' bytes, graphs' rules and kernels live in the other rooms; here they meet. Start at [`compile`].

mod code;
mod error;
mod find;
mod input;
mod output;
mod progress;
pub mod targets;

pub mod compile;
pub mod retarget;

pub mod eval;
pub mod execution;
pub mod logits;

pub mod chat;
pub mod run;
mod stop;
pub mod template;

pub mod profile;
mod trace;

pub mod bench;
pub mod limits;

pub mod demo;

pub mod inspect;
pub mod ir_file;
pub mod tokenize;
pub mod verify;

pub use error::Error;
pub use execution::Execution;
pub use output::write_text;
pub use progress::{Progress, Quiet};
