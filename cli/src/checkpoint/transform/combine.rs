//! `checkpoint combine`: what was trained by many ranks, as one file without the optimizer's states.

use std::path::PathBuf;

use bloomery_formats::mindspore::Key;
use bloomery_models::names::mindspore::is_optimizer;

use super::plan::plan;
use super::sides::Sides;
use super::sources::Sources;
use super::write_file;
use crate::checkpoint::check_ckpt;
use crate::{Error, Progress, output};

/// What to combine.
#[derive(Clone, Debug)]
pub struct CombineOptions {
    /// A folder with `rank_N/*.ckpt`.
    pub source: PathBuf,
    /// The new file.
    pub target: PathBuf,
    /// How ranks share the source: a strategy file, or a folder of them.
    pub strategy: PathBuf,
    /// What opens encrypted files; the new one is not encrypted.
    pub key: Option<Key>,
    /// Whether a file that is there already is replaced.
    pub force: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Combined {
    /// How many parameters.
    pub parameters: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The ranks whose files they were in, highest first.
    pub from: Vec<u32>,
}

/// Merges strategies, leaves out states of the optimizer and sums of gradients, and writes one whole checkpoint.
///
/// # Errors
/// As those of [`transform`](super::transform()); nothing is left of what was begun.
pub fn combine(options: &CombineOptions, progress: &mut dyn Progress) -> Result<Combined, Error> {
    let CombineOptions { source, target, strategy, key, force } = options;
    check_ckpt(target)?;
    output::untaken(target, *force)?;
    let sides = Sides::open(Some(strategy), None, progress)?;
    let mut sources = Sources::find(source, sides.source_ranks(), key.clone())?;
    let plan = plan(&sides, &mut sources, 0, &|name| !is_optimizer(name))?;
    progress.begin("combine", plan.bytes());
    write_file(&plan, &sources, target, progress)?;
    progress.end("");
    Ok(Combined { parameters: plan.parameters(), bytes: plan.bytes(), from: plan.from })
}
