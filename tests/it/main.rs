//! Whole-workspace tests, one binary.
//!
//! Start at `golden`, which compares models with Hugging Face; `samples` runs every operation's samples. `fixture` and
//! `random` are helpers.

mod fixture;
mod random;

mod golden;
mod samples;
