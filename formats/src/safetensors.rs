//! safetensors: the format Hugging Face keeps weights in, and a writer for results.
//!
//! A file is eight bytes of header length, a JSON header (name to type, shape and byte range), then the data. `header`
//! turns a file's first bytes into checked ranges, which
//! [`Checkpoint`](crate::Checkpoint) opens; `write` makes files.

mod header;
mod write;

pub(crate) use header::{begins, read};
pub use write::{Head, NewTensor, SafetensorsWriter, write, write_while};
