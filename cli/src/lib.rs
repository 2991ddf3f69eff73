//! The `bloomery` library: what the command line does, one file per workflow, for programs.
//!
//! Every workflow is a function from plain options to a result; long ones tell a [`Progress`] how far they are. Nothing
//! here prints (but [`terminal`], which shows progress to a person), exits, or knows how arguments are written: that is
//! the binary's (`main.rs`, `args.rs`, `print.rs`). Formats' bytes, graphs' rules and kernels live in the other rooms; here
//! they meet. Start at [`compile`].
//!
//! For programs that want text there is the shape people know, over the same workflows:
//!
//! ```
//! use bloomery::{AutoModel, GenerationConfig, Pipeline, PretrainedOptions};
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/hf/trained-web/model");
//! # let cache = tempfile::tempdir().unwrap();
//! # let options = PretrainedOptions { cache: Some(cache.path().into()), targets: vec![bloomery::targets::Target::Interpreter], ..Default::default() };
//! // With the usual options: `bloomery::pipeline("text-generation", "bigscience/bloom-560m")?`.
//! let bloom = Pipeline::new(AutoModel::from_pretrained_with(folder, &options, &mut bloomery::Quiet)?);
//! let config = GenerationConfig { max_new_tokens: 8, ..Default::default() };
//! for answer in bloom.generate(["In the beginning", "And it came to pass"], &config)? {
//!     println!("{}", answer.text.unwrap_or_default());
//! }
//! for piece in bloom.stream("And God said,", &config)? {
//!     print!("{}", piece?);
//! }
//! # Ok::<(), bloomery::Error>(())
//! ```

mod code;
mod error;
mod find;
mod input;
mod output;
mod progress;
mod stored;
pub mod targets;
pub mod terminal;

pub mod compile;
pub mod reshard;
pub mod retarget;

pub mod eval;
pub mod execution;
pub mod logits;

pub mod chat;
pub mod generation;
pub mod run;
mod stop;

pub mod pipeline;
pub mod pretrained;

pub mod profile;
mod trace;

pub mod bench;
pub mod limits;

pub mod demo;

pub mod checkpoint;
pub mod config;
pub mod convert;
pub mod data;
pub mod inspect;
pub mod ir_file;
pub mod rank_table;
pub mod strategy;
pub mod tokenize;
pub mod verify;

pub use bloomery_formats::mindspore::Key;
pub use bloomery_models::template;
pub use bloomery_models::tokenizer::Tokenizer;
pub use bloomery_runtime::{Chunk, EarlyStopping, GenerationConfig, SequenceId, Session, Want};
pub use error::Error;
pub use execution::Execution;
pub use output::write_text;
pub use pipeline::{Pipeline, Stream, pipeline};
pub use pretrained::{AutoModel, AutoTokenizer, Model, PretrainedOptions};
pub use progress::{Progress, Quiet};
