//! Other systems' files, read and written: bytes, names, types and shapes.
//!
//! What lives here: mapping a file, writing one whole or not at all, and one module per format. What deliberately does not: what a tensor means (that is
//! `models`), and our own artifact (that is `artifact`). This crate uses nothing of ours.
//!
//! Start reading at [`Checkpoint`]; [`Kind`] tells what a file is; [`map`] is the only place with `unsafe`.

mod checkpoint;
mod dtype;
mod error;
mod kind;
pub mod map;
pub mod mindrecord;
pub mod mindspore;
mod partial;
pub mod rank_table;
pub mod safetensors;
pub mod strategy;
pub mod torch;

pub use checkpoint::{Checkpoint, Tensor, cached_model};
pub use dtype::Dtype;
pub use error::FormatError;
pub use kind::Kind;
pub use partial::{Partial, PartialFolder};
