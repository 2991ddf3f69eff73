//! What the models of the BLOOM family are: their settings, graphs, sizes, weights' names, tokenizers, and the
//! templates they were tuned with.
//!
//! What deliberately does not live here: files of weights (`formats`), passes and kernels. Start reading at [`mod@bloom`],
//! the model on one page; [`dsl`] is the language it is written in, [`config`] what it is written from.

pub mod bloom;
pub mod config;
pub mod dsl;
mod files;
pub mod load;
pub mod mindspore_strategy;
pub mod names;
pub mod published;
pub mod sizes;
pub mod template;
pub mod tokenizer;
pub mod trial;

pub use bloom::{BloomOptions, Model, bloom};
