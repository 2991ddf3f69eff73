//! `checkpoint transform`: the files of ranks that share a checkpoint one way, made of those that share it another.
//!
//! Both ways are strategies ([`sides`]); none is one rank with all. Of every new rank it is planned which bytes of which old
//! files it gets, in MindSpore's own order ([`plan`], [`gather`]), and every plan is checked before anything is written.
//! Tensors go by some megabytes at a time. A rank's file appears when it is complete, and a transformation that was
//! interrupted goes on where it was ([`journal`]). [`combine()`] makes one file without the optimizer's states.

mod combine;
mod gather;
mod journal;
mod plan;
mod sides;
mod sources;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bloomery_formats::mindspore::{Key, MindsporeWriter};

pub use combine::{CombineOptions, Combined, combine};
use journal::Journal;
use plan::{Plan, plan};
use sides::Sides;
use sources::Sources;
pub(crate) use sources::ranks_in;
pub(crate) use whole::{Whole, around, has_ranks, strategy_places};

use crate::{Error, Progress, output};

/// What to transform, and how.
#[derive(Clone, Debug)]
pub struct TransformOptions {
    /// A folder with `rank_N/*.ckpt`; of one rank, also a file.
    pub source: PathBuf,
    /// The folder that gets `rank_N/PREFIXN.ckpt`.
    pub target: PathBuf,
    /// How ranks share the source: a strategy file, or a folder of them; one rank has all if nothing is said.
    pub source_strategy: Option<PathBuf>,
    /// How they will share the target.
    pub target_strategy: Option<PathBuf>,
    /// What stands before the rank in names of files.
    pub prefix: String,
    /// The one rank of the target to write.
    pub rank: Option<u32>,
    /// What opens encrypted files; new ones are not encrypted.
    pub key: Option<Key>,
    /// Whether files that are there already are replaced.
    pub force: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Transformed {
    /// The new files, by rank.
    pub ranks: Vec<RankFile>,
    /// How many of them an interrupted run had written before.
    pub resumed: usize,
    /// What to know.
    pub notes: Vec<String>,
}

/// A new rank's file.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct RankFile {
    /// The rank.
    pub rank: u32,
    /// Its file.
    pub file: PathBuf,
    /// How many parameters are in it.
    pub parameters: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The ranks whose files it was made of, highest first.
    pub from: Vec<u32>,
}

/// Transforms a checkpoint.
///
/// # Errors
/// Strategies or files that do not fit each other, a file that is missing or doubled or there already, a refusal of the
/// file system, an interruption: ranks that are done stay, and the next run goes on.
pub fn transform(options: &TransformOptions, progress: &mut dyn Progress) -> Result<Transformed, Error> {
    let TransformOptions { source, target, source_strategy, target_strategy, .. } = options;
    if source_strategy.is_none() && target_strategy.is_none() {
        return Err(Error::Refused(
            "nothing is said of how ranks share the checkpoint: say --src-strategy, --dst-strategy or both".to_owned(),
        ));
    }
    if options.prefix.contains(std::path::is_separator) {
        return Err(Error::Refused(format!("--prefix {}: a file's name has no folder in it", options.prefix)));
    }
    let sides = Sides::open(source_strategy.as_deref(), target_strategy.as_deref(), progress)?;
    let ranks = sides.target_ranks(options.rank)?;
    check_folder(target, source)?;
    let mut sources = Sources::find(source, sides.source_ranks(), options.key.clone())?;
    let mut files = Vec::new();
    let mut left_out = BTreeSet::new();
    for rank in &ranks {
        let plan = plan(&sides, &mut sources, *rank, &|_| true)?;
        left_out.extend(plan.left_out.iter().cloned());
        let file = target.join(format!("rank_{rank}")).join(format!("{}{rank}.ckpt", options.prefix));
        let (parameters, bytes) = (plan.parameters(), plan.bytes());
        files.push(RankFile { rank: *rank, file, parameters, bytes, from: plan.from });
    }
    let notes = left_out.first().map(|name| {
        let count = left_out.len();
        format!("sums of gradients are left out ({count}, such as {name}): the target's strategy has no place for them")
    });
    let resumed = Writing { options, sides: &sides, sources: &mut sources, files: &files }.write(progress)?;
    Ok(Transformed { ranks: files, resumed, notes: notes.into_iter().collect() })
}

/// By rank of the target, the ranks whose files it needs, highest first.
///
/// # Errors
/// Strategies that cannot be read, or a rank that there is not.
pub fn needs(
    source: Option<&Path>,
    target: Option<&Path>,
    rank: Option<u32>,
    progress: &mut dyn Progress,
) -> Result<BTreeMap<u32, Vec<u32>>, Error> {
    let sides = Sides::open(source, target, progress)?;
    Ok(sides.target_ranks(rank)?.into_iter().map(|rank| (rank, sides.needed(rank))).collect())
}

/// Refuses to write among what is read, where nobody could tell the two apart.
fn check_folder(target: &Path, source: &Path) -> Result<(), Error> {
    if target.exists() && !target.is_dir() {
        return Err(Error::Refused(format!("{} is no folder: name another place", target.display())));
    }
    output::apart(target, source)
}

/// Refuses a folder with ranks that the new checkpoint does not have: readers would take them for its own.
fn refuse_others(target: &Path, ranks: &[u32]) -> Result<(), Error> {
    let there = if target.is_dir() { ranks_in(target)? } else { BTreeMap::new() };
    let Some((_, other)) = there.iter().find(|(rank, _)| !ranks.contains(rank)) else { return Ok(()) };
    Err(Error::Refused(format!(
        "{} is of another checkpoint, the new one has {} ranks: remove it, or name another folder",
        other.display(),
        ranks.len()
    )))
}

/// Files under way.
struct Writing<'a> {
    options: &'a TransformOptions,
    sides: &'a Sides,
    sources: &'a mut Sources,
    files: &'a [RankFile],
}

impl Writing<'_> {
    /// Writes what is not there yet; how many were.
    fn write(&mut self, progress: &mut dyn Progress) -> Result<usize, Error> {
        let target = &self.options.target;
        let ranks: Vec<u32> = self.files.iter().map(|file| file.rank).collect();
        let mark = journal::mark(self.options, self.sides, self.sources, &ranks)?;
        // Of one rank there is nothing to go on with; such runs may be under way side by side.
        let many = self.options.rank.is_none();
        let known = if many { Journal::read(target, &mark)? } else { None };
        if known.is_none() {
            self.files.iter().try_for_each(|file| output::untaken(&file.file, self.options.force))?;
        }
        if many {
            refuse_others(target, &ranks)?;
        }
        self.files.iter().try_for_each(|file| output::check(&file.file))?;
        let is_new = !target.exists();
        fs::create_dir_all(target).map_err(Error::io("create", target))?;
        let written = match known {
            None if many => Journal::begin(target, &mark).and_then(|journal| self.write_left(Some(journal), progress)),
            known => self.write_left(known, progress),
        };
        if written.is_err() && is_new {
            // It goes if it is empty.
            let _ = fs::remove_dir(target);
        }
        written
    }

    /// Writes the ranks that are not done; how many are.
    fn write_left(&mut self, mut journal: Option<Journal>, progress: &mut dyn Progress) -> Result<usize, Error> {
        let is_done =
            |file: &RankFile| journal.as_ref().is_some_and(|journal| journal.has(file.rank)) && file.file.is_file();
        let left: Vec<&RankFile> = self.files.iter().filter(|file| !is_done(file)).collect();
        let resumed = self.files.len() - left.len();
        if resumed > 0 {
            let all = self.files.len();
            progress.note(&format!("{resumed} of {all} ranks are there already from a run that was interrupted"));
        }
        progress.begin("transform", left.iter().map(|file| file.bytes).sum());
        for file in left {
            if let Err(error) = self.rank(file, &mut journal, progress) {
                journal.into_iter().for_each(Journal::give_up);
                return Err(error);
            }
        }
        progress.end("");
        journal.map_or(Ok(()), Journal::remove)?;
        Ok(resumed)
    }

    fn rank(
        &mut self,
        file: &RankFile,
        journal: &mut Option<Journal>,
        progress: &mut dyn Progress,
    ) -> Result<(), Error> {
        let plan = plan(self.sides, self.sources, file.rank, &|_| true)?;
        let folder = file.file.parent().expect("files are in folders of ranks");
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        if journal.is_some() {
            remove_unfinished(folder)?;
        }
        if let Err(error) = write_file(&plan, self.sources, &file.file, progress) {
            // It goes if it is empty.
            let _ = fs::remove_dir(folder);
            return Err(error);
        }
        journal.as_mut().map_or(Ok(()), |journal| journal.add(file.rank))
    }
}

/// Writes a rank's file, which is there when it is complete.
fn write_file(plan: &Plan, sources: &Sources, path: &Path, progress: &mut dyn Progress) -> Result<(), Error> {
    let mut writer = MindsporeWriter::begin(path)?;
    plan.write(sources, &mut writer, progress)?;
    sources.unchanged(&plan.from)?;
    progress.go_on()?;
    Ok(writer.complete()?)
}

/// Removes what a run that was killed had begun in a rank's folder.
fn remove_unfinished(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') && name.ends_with(".partial") {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
