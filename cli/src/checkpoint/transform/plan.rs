//! What a new rank's file will hold, and where each of its bytes comes from; everything is checked before any is written.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use bloomery_formats::Dtype;
use bloomery_formats::mindspore::{Entry, MindsporeCheckpoint, MindsporeWriter};
use bloomery_formats::strategy::{Layout, Piece};
use bloomery_models::names::mindspore::is_optimizer;

use super::gather::Gather;
use super::sides::{Sides, copies};
use super::sources::Sources;
use crate::stored::STRIDE;
use crate::{Error, Progress};

/// A new rank's file.
#[derive(Debug)]
pub(super) struct Plan {
    /// The ranks whose files it is made of, highest first.
    pub(super) from: Vec<u32>,
    /// In order: first what is cut by strategies, then what is copied, each as it comes in the files.
    pub(super) entries: Vec<Planned>,
    /// Sums of gradients that the target has no place for.
    pub(super) left_out: Vec<String>,
}

/// A parameter of it.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) bytes: usize,
    pub(super) how: How,
}

/// Where a parameter's bytes come from.
#[derive(Debug)]
pub(super) enum How {
    /// As a rank has it.
    Copied { from: u32 },
    /// Ranges of a tensor, put together from ranks' pieces.
    Cut { tensor: Cut, wanted: Vec<Range<usize>> },
}

/// A tensor that lies in pieces.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) dtype: Dtype,
    /// Of the whole tensor.
    pub(super) shape: Vec<usize>,
    /// Into how many pieces each dimension is cut.
    cuts: Vec<usize>,
    /// By the number of a piece, the rank that it is taken from.
    from: BTreeMap<usize, u32>,
}

impl Cut {
    /// Where some ranges of it lie.
    fn gather(&self, wanted: &[Range<usize>]) -> Gather {
        Gather::new(&self.shape, &self.cuts, wanted, self.dtype.bits() / 8)
    }
}

/// Plans the file of a rank from parameters that are to be kept, and opens what it needs.
pub(super) fn plan(
    sides: &Sides,
    sources: &mut Sources,
    rank: u32,
    keep: &dyn Fn(&str) -> bool,
) -> Result<Plan, Error> {
    let from = sides.needed(rank);
    sources.open(&from, &sides.whose(rank))?;
    let planning = Planning { sides, sources, rank, from: &from, keep };
    planning.check_sources()?;
    let (mut cut, mut copied, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for (name, entry) in planning.names() {
        match planning.fate(name, entry)? {
            Fate::Cut(wanted) => cut.push(planning.cut(name, &wanted)?),
            Fate::Copied => copied.push(planning.copied(name)),
            Fate::LeftOut => left_out.push(name.to_owned()),
            Fate::Elsewhere => {}
        }
    }
    planning.check_target(&cut)?;
    cut.append(&mut copied);
    Ok(Plan { from, entries: cut, left_out })
}

/// What becomes of a parameter in a new rank's file.
enum Fate {
    /// These pieces of it are there.
    Cut(Vec<Piece>),
    /// It is no part of any strategy, such as a counter of steps.
    Copied,
    /// The target has no place for it, and nothing is lost.
    LeftOut,
    /// Other ranks have it.
    Elsewhere,
}

struct Planning<'a> {
    sides: &'a Sides,
    sources: &'a Sources,
    rank: u32,
    from: &'a [u32],
    keep: &'a dyn Fn(&str) -> bool,
}

impl<'a> Planning<'a> {
    fn refuse<T>(&self, name: &str, why: &str) -> Result<T, Error> {
        Err(Error::Refused(format!("parameter {name} for {}: {why}", self.sides.whose(self.rank))))
    }

    fn stage(&self, source: u32) -> u32 {
        source / self.sides.source_devices()
    }

    /// The entries of a source rank that are kept.
    fn entries(&self, source: u32) -> impl Iterator<Item = &'a Entry> {
        self.sources.rank(source).entries().iter().filter(|entry| (self.keep)(&entry.name))
    }

    /// All parameters in the order in which MindSpore comes upon them, from the highest rank down.
    fn names(&self) -> Vec<(&'a str, &'a Entry)> {
        let mut seen = HashSet::new();
        let all = self.from.iter().flat_map(|source| self.entries(*source));
        all.map(|entry| (entry.name.as_str(), entry)).filter(|(name, _)| seen.insert(*name)).collect()
    }

    /// Ranks of a stage hold the same parameters, as the strategy says, in pieces of one type and shape.
    fn check_sources(&self) -> Result<(), Error> {
        for source in self.from {
            let like = self.from.iter().rev().find(|other| self.stage(**other) == self.stage(*source));
            let like = *like.expect("it is one itself");
            self.check_alike(*source, like)?;
            self.check_alike(like, *source)?;
            let stages = self.sides.source.as_ref().map(|stages| &stages.stages()[self.stage(*source) as usize]);
            let parameters = stages.into_iter().flat_map(|stage| &stage.file.parameters);
            for name in parameters.map(|parameter| &parameter.name).filter(|name| (self.keep)(name)) {
                if self.sources.rank(*source).entry(name).is_none() && !is_optimizer(name) {
                    return Err(Error::Refused(format!(
                        "rank {source} lacks parameter {name}, which the source's strategy has: {} was cut short, or it is of another \
                         training than the strategy",
                        self.sources.rank(*source).path().display()
                    )));
                }
            }
        }
        Ok(())
    }

    /// What one rank has, another one of the stage has too.
    fn check_alike(&self, one: u32, other: u32) -> Result<(), Error> {
        for entry in self.entries(one).filter(|_| one != other) {
            let said = |entry: &Entry| format!("{} {:?}", entry.kind.name(), entry.shape);
            let Some(like) = self.sources.rank(other).entry(&entry.name) else {
                return Err(Error::Refused(format!(
                    "rank {other} lacks parameter {}, which rank {one} of the same stage has as {}: {} was cut short, or the two are \
                     of different trainings, or stages are not as the strategy says",
                    entry.name,
                    said(entry),
                    self.sources.rank(other).path().display()
                )));
            };
            if (like.kind, &like.shape) != (entry.kind, &entry.shape) {
                return Err(Error::Refused(format!(
                    "rank {one} has parameter {} as {}, expected {} as in rank {other} of the same stage: {} is of another training",
                    entry.name,
                    said(entry),
                    said(like),
                    self.sources.rank(one).path().display()
                )));
            }
        }
        Ok(())
    }

    fn fate(&self, name: &str, entry: &Entry) -> Result<Fate, Error> {
        let Sides { source, target } = self.sides;
        let has_source = source.as_ref().is_none_or(|stages| stages.first_with(name).is_some());
        let has_target = target.as_ref().is_some_and(|stages| stages.first_with(name).is_some());
        let is_one = entry.dtype().is_none() || entry.shape.iter().product::<usize>() <= 1;
        match (has_source, self.sides.wanted(name, entry.shape.len(), self.rank)) {
            (true, Some(wanted)) => return Ok(Fate::Cut(wanted)),
            (true, None) if has_target => return Ok(Fate::Elsewhere),
            // A finished step has no use for what its gradients were.
            (true, None) if name.starts_with("accu_grads.") => return Ok(Fate::LeftOut),
            (false, _) if has_target => {}
            _ if is_one && (source.is_none() || !has_source) => return Ok(Fate::Copied),
            _ => {}
        }
        let whose = if has_source { "target" } else { "source" };
        let way_out = match is_optimizer(name) {
            true => "give the strategy of a training, or leave the optimizer's states out with `checkpoint clean`",
            false => "save the strategy of this network again",
        };
        let shape = &entry.shape;
        self.refuse(name, &format!("the {whose}'s strategy lacks it, and it is {shape:?} in the files: {way_out}"))
    }

    /// Where a parameter is copied from: the first stage that has it, and there the rank with the new one's number.
    fn copied(&self, name: &str) -> Planned {
        let devices = self.sides.source_devices();
        let with = |source: &&u32| self.sources.rank(**source).entry(name).is_some();
        let lowest = *self.from.iter().rev().find(with).expect("it was found in one");
        let like = self.stage(lowest) * devices + self.sides.place(self.rank).1 % devices;
        let from = if self.from.contains(&like) { like } else { lowest };
        let bytes = self.sources.rank(from).entry(name).expect("ranks of a stage have the same").bytes;
        Planned { name: name.to_owned(), bytes, how: How::Copied { from } }
    }

    /// How a parameter is put together.
    fn cut(&self, name: &str, wanted: &[Piece]) -> Result<Planned, Error> {
        let whole = || Layout::new(vec![1], vec![Vec::new(); wanted.len()], None);
        let (stage, layout) = match &self.sides.source {
            None => (0, whole()),
            Some(stages) => {
                let (stage, layout) = stages.first_with(name).expect("its fate was looked up");
                (stage, layout.clone())
            }
        };
        let first = stage as u32 * self.sides.source_devices();
        let local = self.sides.place(self.rank).1;
        let from = copies(&layout, wanted, local).into_iter().map(|(number, copy)| (number, first + copy));
        let from: BTreeMap<usize, u32> = from.collect();
        let (_, holder) = from.first_key_value().expect("pieces cover all");
        let Some(entry) = self.sources.rank(*holder).entry(name) else {
            return self.refuse(name, &format!("rank {holder} lacks it, and holds it by the source's strategy"));
        };
        let Some(dtype) = entry.dtype() else {
            return self.refuse(name, "it is a text, and strategies are about tensors");
        };
        let held = &entry.shape;
        for (whose, dims) in [("source", layout.tensor_map.len()), ("target", wanted.len())] {
            if dims != held.len() {
                let expected = held.len();
                let why = format!("it has {expected} dimensions, {held:?}, and {dims} in the {whose}'s strategy");
                return self.refuse(name, &why);
            }
        }
        let cuts: Vec<usize> = layout.pieces(0).iter().map(|piece| piece.of as usize).collect();
        let shape: Vec<usize> = held.iter().zip(&cuts).map(|(held, cuts)| held * cuts).collect();
        let ranges = self.ranges(name, &shape, wanted)?;
        let slice: Vec<usize> = ranges.iter().map(Range::len).collect();
        let Some(bytes) = dtype.bytes(&slice) else { return self.refuse(name, "it is larger than memory can be") };
        let how = How::Cut { tensor: Cut { dtype, shape, cuts, from }, wanted: ranges };
        Ok(Planned { name: name.to_owned(), bytes, how })
    }

    fn ranges(&self, name: &str, shape: &[usize], wanted: &[Piece]) -> Result<Vec<Range<usize>>, Error> {
        let range = |(dim, (extent, piece)): (usize, (&usize, &Piece))| {
            let (index, of) = (piece.index as usize, piece.of as usize);
            if extent % of != 0 {
                let why = format!("dimension {dim} of {shape:?} cannot be cut in {of} equal pieces");
                return self.refuse(name, &why);
            }
            Ok(extent / of * index..extent / of * (index + 1))
        };
        shape.iter().zip(wanted).enumerate().map(range).collect()
    }

    /// The target's strategy has no parameter that is nowhere, but states of the optimizer, which may have been cleaned.
    fn check_target(&self, cut: &[Planned]) -> Result<(), Error> {
        let Some(stages) = &self.sides.target else { return Ok(()) };
        let there: HashSet<&str> = cut.iter().map(|planned| planned.name.as_str()).collect();
        let (stage, _) = stages.place(self.rank);
        let names = stages.stages()[stage].file.parameters.iter().map(|parameter| parameter.name.as_str());
        match names.into_iter().find(|name| !there.contains(name) && !is_optimizer(name) && (self.keep)(name)) {
            None => Ok(()),
            Some(name) => self.refuse(
                name,
                "the target's strategy has it, and no file of the source: it is of another network than the files",
            ),
        }
    }
}

impl Plan {
    /// How many parameters.
    pub(super) fn parameters(&self) -> usize {
        self.entries.len()
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|planned| planned.bytes as u64).sum()
    }

    /// Writes them; nothing is held of a tensor but what goes by.
    pub(super) fn write(
        &self,
        sources: &Sources,
        writer: &mut MindsporeWriter,
        progress: &mut dyn Progress,
    ) -> Result<(), Error> {
        for planned in &self.entries {
            match &planned.how {
                How::Copied { from } => writer.entry_like(entry(sources, *from, &planned.name))?,
                How::Cut { tensor, wanted } => {
                    let shape: Vec<usize> = wanted.iter().map(Range::len).collect();
                    writer.tensor(&planned.name, tensor.dtype, &shape)?;
                }
            }
            planned.stream(sources, 0..planned.bytes, &mut |bytes| {
                progress.go_on()?;
                writer.write(bytes)?;
                progress.advance(bytes.len() as u64);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Takes the bytes that come next.
pub(super) type Out<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + 'a;

impl Planned {
    /// Whether something of it comes from a rank.
    pub(super) fn is_from(&self, rank: u32) -> bool {
        match &self.how {
            How::Copied { from } => *from == rank,
            How::Cut { tensor, .. } => tensor.from.values().any(|from| *from == rank),
        }
    }

    /// Hands on its bytes `within`, row by row.
    pub(super) fn stream(&self, sources: &Sources, within: Range<usize>, out: &mut Out<'_>) -> Result<(), Error> {
        match &self.how {
            How::Cut { tensor, wanted } => {
                Pieces::new(sources, &tensor.from, &self.name).stream(&tensor.gather(wanted), within, out)
            }
            How::Copied { from } => {
                let (checkpoint, entry) = (sources.rank(*from), entry(sources, *from, &self.name));
                for start in within.clone().step_by(STRIDE) {
                    let part = start..within.end.min(start + STRIDE);
                    out(&checkpoint.read(entry, part.clone())?)?;
                    checkpoint.done_with(entry, part);
                }
                Ok(())
            }
        }
    }

    /// Hands on ranges of each dimension of the tensor that it is of; all, if that is not in pieces.
    pub(super) fn stream_slice(
        &self,
        sources: &Sources,
        ranges: &[Range<usize>],
        out: &mut Out<'_>,
    ) -> Result<(), Error> {
        let How::Cut { tensor, .. } = &self.how else { return self.stream(sources, 0..self.bytes, out) };
        let gather = tensor.gather(ranges);
        Pieces::new(sources, &tensor.from, &self.name).stream(&gather, 0..gather.bytes(), out)
    }
}

/// What a rank has under a name.
pub(super) fn entry<'a>(sources: &'a Sources, rank: u32, name: &str) -> &'a Entry {
    sources.rank(rank).entry(name).expect("ranks of a stage have the same")
}

/// The pieces of a tensor, and what was read of each since its pages were let go.
struct Pieces<'a> {
    sources: &'a Sources,
    from: &'a BTreeMap<usize, u32>,
    name: &'a str,
    read: BTreeMap<usize, Range<usize>>,
    since: usize,
}

impl<'a> Pieces<'a> {
    fn new(sources: &'a Sources, from: &'a BTreeMap<usize, u32>, name: &'a str) -> Pieces<'a> {
        Pieces { sources, from, name, read: BTreeMap::new(), since: 0 }
    }

    fn entry(&self, number: usize) -> (&'a MindsporeCheckpoint, &'a Entry) {
        let rank = self.from[&number];
        (self.sources.rank(rank), entry(self.sources, rank, self.name))
    }

    fn stream(&mut self, gather: &Gather, within: Range<usize>, out: &mut Out<'_>) -> Result<(), Error> {
        // Runs may be a few bytes each, and what hears of them wants some more.
        let mut joined = Vec::with_capacity(STRIDE.min(1 << 20));
        gather.runs(within, &mut |number, range: Range<usize>| {
            let (checkpoint, entry) = self.entry(number);
            for start in range.clone().step_by(STRIDE) {
                let part = start..range.end.min(start + STRIDE);
                let bytes = checkpoint.read(entry, part.clone())?;
                if joined.len() + bytes.len() > joined.capacity() {
                    out(&joined)?;
                    joined.clear();
                }
                if bytes.len() > joined.capacity() {
                    out(&bytes)?
                } else {
                    joined.extend_from_slice(&bytes)
                }
                self.was_read(number, part);
            }
            Ok::<_, Error>(())
        })?;
        out(&joined)?;
        self.let_go();
        Ok(())
    }

    fn was_read(&mut self, number: usize, part: Range<usize>) {
        self.since += part.len();
        let read = self.read.entry(number).or_insert(part.clone());
        *read = read.start.min(part.start)..read.end.max(part.end);
        if self.since >= STRIDE {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        for (number, range) in std::mem::take(&mut self.read) {
            let (checkpoint, entry) = self.entry(number);
            checkpoint.done_with(entry, range);
        }
        self.since = 0;
    }
}
