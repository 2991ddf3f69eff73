//! Passes: from the graph that describes a model to the program that computes it.
//!
//! Every pass is a pure function from module to module, or on to [`ir::Program`](bloomery_ir::Program); the driver
//! verifies between them. Absent: files, clocks, randomness, names of models and of devices (a pass asks
//! [`Target`](bloomery_ir::Target)). Start at [`pipeline`].

pub mod certificate;
pub mod pass;
pub mod pipeline;

/// Declares the passes over graphs, in the order they run; `pipeline` says why in this one.
macro_rules! graph_passes {
    ($($module:ident),* $(,)?) => {
        $(pub mod $module;)*

        /// All passes over graphs.
        const GRAPH_PASSES: &[&Pass] = &[$(&$module::PASS),*];
    };
}

// A new pass is a file and a line here.
graph_passes! {
    clean,
    fold_weights,
    pad,
    shard,
    cut,
    partition,
    simplify,
    defer,
    group,
}

mod bind;
mod layouts;
mod lower;

mod memory_plan;
mod schedule;

mod rewrite;

pub use pass::{Context, Pass, PassError, Stages, Strategy, Unseen, Weights};
