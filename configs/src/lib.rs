//! Configurations: MindFormers' YAML files, typed, then resolved.
//!
//! A file's text becomes keys, values and places (`document`) along the list of all keys ([`keys`]); `--set` and defaults
//! fill what it leaves open; that is typed ([`settings`]), and what follows from it is computed and checked (`resolve`):
//! sizes, a [`Strategy`], batches, notes. Each value knows which line set it, so whatever is wrong is said with its place.
//! `configs/bloom` holds the files of four sizes. Absent here: graphs, weights. Start at [`Config::read`].

mod document;
mod error;
pub mod keys;

pub mod settings;
pub mod strategy;

mod resolve;

pub use error::{Position, Problem, Refusal, SettingsError};
pub use resolve::{Batch, Config, Options, Origin, Setting, Shape};
pub use settings::Settings;
pub use strategy::{Stages, Strategy, StrategyError};
