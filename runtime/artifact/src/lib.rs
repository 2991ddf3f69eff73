//! The `*.bloom` file: one file that holds a compiled model.
//!
//! Here live the file's format, its writer, its reader, and the checks that stand between bytes of a file and anything
//! that trusts them. Absent: running any of it (`runtime`), making any of it (`codegen`, `passes`).
//!
//! A file is a header and page-aligned sections ([`mod@format`]). [`ArtifactWriter`] writes sections as they come and the
//! header last, under a temporary name. [`Artifact::open`] maps the file, hashes everything but the weights, checks the
//! program ([`check`]), and hands out slices. An artifact holds machine code: run only what you trust.
//!
//! Start at [`mod@format`], then [`artifact`].

pub mod code;
pub mod format;
pub mod meta;
pub mod sizes;

pub mod check;
pub mod plan;
pub mod weights;

pub mod artifact;
pub mod note;
pub mod writer;

pub use artifact::{Artifact, Check, Image, OpenError};
pub use check::CheckError;
pub use code::{CodeImage, Count, KernelCode, Phase, SharedScratch, Tiles};
pub use format::{Section, SectionKind, VERSION};
pub use meta::{Maker, Meta, Provenance, Source};
pub use weights::{Placement, Slot, WeightTable, plan_weights};
pub use writer::{ArtifactWriter, WeightSink, WriteError};
