//! Ascend chips: from a program to a plan of aclnn, HCCL and runtime calls.
//!
//! An operation's file in `ir` lists the calls that compute it on each chip; here they are put on memory. [`Ascend`] is the
//! target that passes ask, [`plan`] makes the plan, [`chips`] knows the chips, [`reach`] counts what a plan takes of one,
//! [`cpp`] writes it as C++, for which [`header`] declares the calls.
//!
//! Not here: what a plan is and what it must fulfil (`artifact::plan`), what its calls mean (`runtime::ascend`).

pub mod chips;
pub mod cpp;
mod exchange;
pub mod header;
mod kernel;
mod part;
pub mod reach;
mod target;

pub use part::plan;
pub use target::Ascend;
