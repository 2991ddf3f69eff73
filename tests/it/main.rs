//! Whole-workspace tests, one binary.
//!
//! Start at `golden`, which compares models with Hugging Face; `filetests` runs the `.bir` cases, `samples` every
//! operation's samples, `sharded` and `mutants` graphs whose work ranks share, right and wrong, `by_hand` graphs that
//! passes will one day write, `ranks` artifacts for several ranks. `fixture` and `random` are helpers.

mod fixture;
mod random;

mod ascend;
mod by_hand;
mod chat;
mod compiled;
mod corpora;
mod edges;
mod filetests;
mod formatting;
mod generation;
mod golden;
mod library;
mod mutants;
mod plan_mutants;
mod profile;
mod program_mutants;
mod ranks;
mod retargeted;
mod samples;
mod sharded;
mod tiles;
