//! What the files of ranks hold together, read as the one checkpoint that [`combine`](super::combine()) would write of them.
//!
//! Nothing is merged ahead: a tensor, or a slice of one, is put together when it is asked for, of the pieces that have
//! something of it, and their pages are let go of at once. Files of ranks that hold the same as others are not opened. So a
//! model is compiled from the folder that a training left, to the same bytes as from the combined file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bloomery_formats::Dtype;
use bloomery_formats::map::Mapping;
use bloomery_formats::mindspore::{Key, Kind, MindsporeCheckpoint};
use bloomery_formats::strategy;
use bloomery_models::names::mindspore::is_optimizer;

use super::plan::{How, Plan, Planned, entry, plan};
use super::sides::Sides;
use super::sources::{Sources, ranks_in};
use crate::stored::{self, Input, Item};
use crate::{Error, Progress};

/// A checkpoint that ranks share.
#[derive(Debug)]
pub(crate) struct Whole {
    /// All ranks that share it.
    ranks: u32,
    /// What says how they do; without, one has all.
    strategy: Option<PathBuf>,
    sources: Sources,
    plan: Plan,
    /// Places in the plan.
    by_name: HashMap<String, usize>,
}

impl Whole {
    /// Opens a folder with `rank_N/*.ckpt`; where nothing is said of the strategy, it is looked for.
    ///
    /// # Errors
    /// No strategy, or one that does not fit the files; files that are missing, doubled, damaged, or do not fit each other.
    pub(crate) fn open(
        folder: &Path,
        strategy: Option<&Path>,
        key: Option<&Key>,
        progress: &mut dyn Progress,
    ) -> Result<Whole, Error> {
        let strategy = strategy.map_or_else(|| strategy_of(folder), |path| Ok(Some(path.to_path_buf())))?;
        let sides = Sides::open(strategy.as_deref(), None, progress)?;
        let ranks = sides.source_ranks();
        let mut sources = Sources::find(folder, ranks, key.cloned())?;
        let plan = plan(&sides, &mut sources, 0, &|name| !is_optimizer(name))?;
        if let Some(strategy) = &strategy {
            let [folder, strategy] = [folder, strategy].map(Path::display);
            progress.note(&format!("{folder} is shared by {ranks} ranks, as {strategy} says"));
        }
        let names = plan.entries.iter().map(|planned| planned.name.clone());
        let by_name = names.zip(0..).collect();
        Ok(Whole { ranks, strategy, sources, plan, by_name })
    }

    fn planned(&self, name: &str) -> Option<&Planned> {
        Some(&self.plan.entries[*self.by_name.get(name)?])
    }

    /// Everything in it, in MindSpore's order.
    pub(crate) fn items(&self) -> Vec<Item> {
        let item = |planned: &Planned| match &planned.how {
            How::Copied { from } => stored::entry(entry(&self.sources, *from, &planned.name)),
            How::Cut { tensor, .. } => Item {
                name: planned.name.clone(),
                ty: Kind::Tensor(tensor.dtype).name(),
                dtype: Some(tensor.dtype),
                shape: tensor.shape.clone(),
                bytes: planned.bytes,
            },
        };
        self.plan.entries.iter().map(item).collect()
    }

    /// The type and the shape of a tensor that strategies are about.
    pub(crate) fn tensor(&self, name: &str) -> Option<(Dtype, &[usize])> {
        match &self.planned(name)?.how {
            How::Cut { tensor, .. } => Some((tensor.dtype, &tensor.shape)),
            How::Copied { .. } => None,
        }
    }

    /// Bytes `range` of what is there under a name, row by row.
    ///
    /// # Errors
    /// Encrypted bytes that the key does not open.
    pub(crate) fn read(&self, name: &str, range: Range<usize>) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(range.len());
        self.planned(name).expect(THERE).stream(&self.sources, range, &mut |more| {
            bytes.extend_from_slice(more);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Some of each dimension of a tensor, row by row: only pieces with something of that are read.
    ///
    /// # Errors
    /// As [`Whole::read`].
    pub(crate) fn slice(&self, name: &str, ranges: &[Range<usize>]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.planned(name).expect(THERE).stream_slice(&self.sources, ranges, &mut |more| {
            bytes.extend_from_slice(more);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// What a text says.
    ///
    /// # Errors
    /// As [`Whole::read`].
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let How::Copied { from } = self.planned(name).expect(THERE).how else { return Ok(None) };
        Ok(self.sources.rank(from).text(entry(&self.sources, from, name))?)
    }

    /// A file that has something of a parameter.
    pub(crate) fn path_of(&self, name: &str) -> Option<&Path> {
        let planned = self.planned(name)?;
        let (_, checkpoint) = self.sources.opened().find(|(rank, _)| planned.is_from(*rank))?;
        Some(checkpoint.path())
    }

    /// The mapped files, by rank.
    pub(crate) fn files(&self) -> Vec<&Mapping> {
        self.sources.opened().map(|(_, checkpoint)| checkpoint.file()).collect()
    }

    /// What is read of them.
    pub(crate) fn inputs(&self) -> Vec<Input<'_>> {
        self.sources.opened().map(|(rank, checkpoint)| self.input(rank, checkpoint)).collect()
    }

    /// Of a rank the slices that are taken from it; all of a file that is encrypted, where they are not to be told apart.
    fn input<'a>(&self, rank: u32, checkpoint: &'a MindsporeCheckpoint) -> Input<'a> {
        let all = Input::all(checkpoint.file());
        let name = format!("rank_{rank}/{}", all.name);
        if checkpoint.is_encrypted() {
            return Input { name, ..all };
        }
        let is_taken = |name: &str| self.planned(name).is_some_and(|planned| planned.is_from(rank));
        let entries = checkpoint.entries().iter().filter(|entry| is_taken(&entry.name));
        let parts = entries.flat_map(|entry| entry.pieces()).cloned().collect();
        Input { name: format!("slices of {name}"), parts, ..all }
    }

    /// The files of the strategy.
    pub(crate) fn strategy_files(&self) -> Vec<PathBuf> {
        // They were read a moment ago.
        self.strategy.iter().flat_map(|path| strategy::files(path).unwrap_or_default()).collect()
    }

    /// What a reader should know.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> =
            self.sources.opened().flat_map(|(_, checkpoint)| checkpoint.notes()).cloned().collect();
        notes.dedup();
        notes
    }

    /// How many ranks share it, what says how, and the ranks whose files have all.
    pub(crate) fn shared(&self) -> (u32, Option<&Path>, Vec<u32>) {
        (self.ranks, self.strategy.as_deref(), self.sources.opened().map(|(rank, _)| rank).collect())
    }
}

const THERE: &str = "names come from `items`";

/// Whether a folder has folders of ranks.
///
/// # Errors
/// It cannot be read, or has two of one rank.
pub(crate) fn has_ranks(folder: &Path) -> Result<bool, Error> {
    Ok(!ranks_in(folder)?.is_empty())
}

/// Where MindFormers leaves strategies: `output/strategy` is beside `output/checkpoint`; who moves a checkpoint may put it
/// in there.
pub(crate) fn strategy_places(folder: &Path) -> [PathBuf; 2] {
    [folder.to_path_buf(), around(folder)].map(|place| place.join("strategy"))
}

/// The folder that a folder is in.
pub(crate) fn around(folder: &Path) -> PathBuf {
    match (folder.file_name(), folder.parent()) {
        (Some(_), Some(parent)) => parent.to_path_buf(),
        // Such as `.`.
        _ => folder.join(".."),
    }
}

/// The strategy of a checkpoint, where nothing is said of it; one rank needs none.
fn strategy_of(folder: &Path) -> Result<Option<PathBuf>, Error> {
    let places = strategy_places(folder);
    if let Some(found) = places.iter().find(|place| place.is_dir()) {
        return Ok(Some(found.clone()));
    }
    let ranks = ranks_in(folder)?;
    if ranks.keys().eq([&0]) {
        return Ok(None);
    }
    let (folder, count, [within, beside]) =
        (folder.display(), ranks.len(), places.each_ref().map(|place| place.display()));
    Err(Error::Refused(format!(
        "{folder} has folders of {count} ranks, and there is neither {within} nor {beside} to say how they share the \
         checkpoint: name the training's strategy (ckpt_strategy_rank_N.ckpt) with --src-strategy, or one rank's file if \
         each has all"
    )))
}
