//! The two strategies of a transformation, and which ranks' files a new rank needs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use bloomery_formats::strategy::{Layout, Piece, Stages};

use crate::{Error, Progress};

/// How tensors lie before and after; without a strategy, one rank has all.
pub(super) struct Sides {
    pub(super) source: Option<Stages>,
    pub(super) target: Option<Stages>,
}

impl Sides {
    /// Reads the strategies: files, or folders of them.
    pub(super) fn open(
        source: Option<&Path>,
        target: Option<&Path>,
        progress: &mut dyn Progress,
    ) -> Result<Sides, Error> {
        let mut read = |path: Option<&Path>| -> Result<Option<Stages>, Error> {
            let Some(opened) = path.map(Stages::open).transpose()? else { return Ok(None) };
            opened.notes.iter().for_each(|note| progress.note(note));
            Ok(Some(opened.stages))
        };
        Ok(Sides { source: read(source)?, target: read(target)? })
    }

    /// Ranks that have files now.
    pub(super) fn source_ranks(&self) -> u32 {
        self.source.as_ref().map_or(1, Stages::ranks)
    }

    /// Ranks that will have files: all, or the one that is asked for.
    pub(super) fn target_ranks(&self, asked: Option<u32>) -> Result<Vec<u32>, Error> {
        let ranks = self.target.as_ref().map_or(1, Stages::ranks);
        match asked {
            None => Ok((0..ranks).collect()),
            Some(rank) if rank < ranks => Ok(vec![rank]),
            Some(rank) => {
                let whose =
                    if self.target.is_some() { "the target's strategy has" } else { "without a strategy there is" };
                Err(Error::Refused(format!("there is no rank {rank}: {whose} {ranks}, numbered from 0")))
            }
        }
    }

    /// A new rank, in messages.
    pub(super) fn whose(&self, rank: u32) -> String {
        match self.target {
            Some(_) => format!("rank {rank} of the target"),
            None => "the whole".to_owned(),
        }
    }

    /// Source ranks of a stage.
    pub(super) fn source_devices(&self) -> u32 {
        self.source.as_ref().map_or(1, Stages::devices)
    }

    /// The stage of a new rank, and its number there.
    pub(super) fn place(&self, rank: u32) -> (usize, u32) {
        self.target.as_ref().map_or((0, 0), |stages| stages.place(rank))
    }

    /// What the new rank holds of a parameter, if anything.
    pub(super) fn wanted(&self, name: &str, dims: usize, rank: u32) -> Option<Vec<Piece>> {
        let Some(stages) = &self.target else { return Some(vec![Piece::WHOLE; dims]) };
        let (stage, local) = stages.place(rank);
        Some(stages.stages()[stage].layout(name)?.pieces(local))
    }

    /// Ranks whose files a new rank needs, highest first, as MindSpore lists them.
    ///
    /// They suffice, and are as few as that allows; MindSpore's own list has sometimes more.
    pub(super) fn needed(&self, rank: u32) -> Vec<u32> {
        let Some(source) = &self.source else { return vec![0] };
        let local = self.place(rank).1;
        let mut needed = BTreeSet::new();
        let mut seen: HashSet<(usize, &Layout, Vec<Piece>)> = HashSet::new();
        for (stage, said) in source.stages().iter().enumerate() {
            for parameter in &said.file.parameters {
                let layout = &parameter.layout;
                let Some(wanted) = self.wanted(&parameter.name, layout.tensor_map.len(), rank) else { continue };
                let is_first = source.first_with(&parameter.name).is_some_and(|(first, _)| first == stage);
                if is_first && seen.insert((stage, layout, wanted.clone())) {
                    let first = stage as u32 * source.devices();
                    needed.extend(copies(layout, &wanted, local).values().map(|copy| first + copy));
                }
            }
        }
        needed.into_iter().rev().collect()
    }
}

/// Of each piece that has something of what is wanted, by its number: the rank of the stage that it is taken from. Of
/// those that hold it, it is the one most like the new rank, which spares reading other files.
pub(super) fn copies(layout: &Layout, wanted: &[Piece], local: u32) -> BTreeMap<usize, u32> {
    let own = layout.coordinates(local % layout.devices());
    let mut best: BTreeMap<usize, (usize, u32)> = BTreeMap::new();
    for rank in 0..layout.devices() {
        let held = layout.pieces(rank);
        if !held.iter().zip(wanted).all(|(held, wanted)| held.overlaps(*wanted)) {
            continue;
        }
        let unlike = layout.coordinates(rank).iter().zip(&own).filter(|(one, other)| one != other).count();
        let copy = best.entry(number(&held)).or_insert((unlike, rank));
        *copy = (*copy).min((unlike, rank));
    }
    best.into_iter().map(|(number, (_, rank))| (number, rank)).collect()
}

/// A piece's number, row by row.
fn number(pieces: &[Piece]) -> usize {
    pieces.iter().fold(0, |number, piece| number * piece.of as usize + piece.index as usize)
}
