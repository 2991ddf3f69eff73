//! Passes: from the graph that describes a model to the program that computes it.
//!
//! Every pass is a pure function from module to module, or on to [`ir::Program`](bloomery_ir::Program); the driver
//! verifies between them. Absent: files, clocks, randomness, names of models and of devices (a pass asks
//! [`Target`](bloomery_ir::Target)). Start at [`pipeline`].

pub mod pass;
pub mod pipeline;

mod clean;
pub mod simplify;

mod group;
mod layouts;
mod lower;

mod memory_plan;
mod schedule;

mod rewrite;

pub use pass::{Context, Pass, PassError};
