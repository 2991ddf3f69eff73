//! `strategy` of MindSpore's files: what they say ([`show`]), whether that can be ([`check`]), in what two differ
//! ([`diff`](diff())), and the files of a folder as one ([`merge`]). [`shares`] is what a picture is drawn of.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use bloomery_formats::Kind;
use bloomery_formats::strategy::{Layout, Stage, Stages, StrategyFile};
use serde::Serialize;

use super::{Share, Shares, Slice};
use crate::inspect::is_artifact;
use crate::{Error, output};

/// Whether a path is a strategy of MindSpore's, or else an artifact: told by content, and by name where there is none.
pub fn is_strategy(path: &Path) -> bool {
    !is_artifact(path) && path.extension().is_none_or(|extension| extension != "bloom")
}

/// Whether a folder holds strategies, told by content.
///
/// # Errors
/// The folder or one of its files cannot be read.
pub(crate) fn are_in(folder: &Path) -> Result<bool, Error> {
    for entry in folder.read_dir().map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let named = path.extension().is_some_and(|extension| extension == "ckpt" || extension == "json");
        if named && path.is_file() && Kind::of(&path)? == Some(Kind::Strategy) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a strategy says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownFiles {
    /// By stage.
    pub stages: BTreeMap<u32, ShownStage>,
    /// What was left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a stage's ranks hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownStage {
    /// By name.
    pub parameters: BTreeMap<String, ShownLayout>,
}

/// How ranks hold a parameter, as files say it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownLayout {
    /// The arrangement of the stage's ranks.
    pub device_matrix: Vec<u32>,
    /// Of each dimension the axis that cuts it, from the right, or -1.
    pub tensor_map: Vec<Axes>,
    /// What a rank has of it, where the file says the whole.
    pub slice_shape: Option<Vec<u64>>,
    /// How the optimizer's ranks share it.
    pub optimizer_shard: Option<ShownShard>,
    /// Into how many pieces each dimension is cut, and which ranks hold which.
    #[serde(skip)]
    pub pieces: Vec<(Vec<[u32; 2]>, Vec<u32>)>,
}

/// What cuts a dimension.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Axes {
    /// An axis, or -1.
    One(i64),
    /// Several, the slowest first.
    Several(Vec<u32>),
}

/// How the optimizer's ranks share a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ShownShard {
    /// From one rank of a group to the next.
    pub step: u32,
    /// Ranks of a group; -1 for all that would hold equal pieces.
    pub size: i64,
}

/// Reads a strategy: a file of one stage or of all, or a folder.
///
/// # Errors
/// It cannot be read, or is none.
pub fn show(path: &Path) -> Result<ShownFiles, Error> {
    let (stages, notes) = Stages::read(path)?;
    let devices = |file: &StrategyFile| file.parameters.first().map_or(1, |one| one.layout.devices());
    let stage = |(stage, file): (u32, StrategyFile)| {
        let first = stage * devices(&file);
        let shown = |name: &String, layout: &Layout| shown(layout, file.shapes.get(name), first);
        let parameters = file.parameters.iter().map(|one| (one.name.clone(), shown(&one.name, &one.layout)));
        (stage, ShownStage { parameters: parameters.collect() })
    };
    Ok(ShownFiles { stages: stages.into_iter().map(stage).collect(), notes })
}

fn shown(layout: &Layout, shape: Option<&Vec<u64>>, first: u32) -> ShownLayout {
    let axes = |axes: &Vec<u32>| match axes[..] {
        [] => Axes::One(-1),
        [axis] => Axes::One(i64::from(axis)),
        _ => Axes::Several(axes.clone()),
    };
    let mut pieces: BTreeMap<Vec<[u32; 2]>, Vec<u32>> = BTreeMap::new();
    for rank in 0..layout.devices() {
        let held = layout.pieces(rank).iter().map(|piece| [piece.index, piece.of]).collect();
        pieces.entry(held).or_default().push(first + rank);
    }
    let cuts = layout.pieces(0);
    let slice = |shape: &Vec<u64>| {
        let fits =
            shape.len() == cuts.len() && shape.iter().zip(&cuts).all(|(whole, cut)| whole % u64::from(cut.of) == 0);
        fits.then(|| shape.iter().zip(&cuts).map(|(whole, cut)| whole / u64::from(cut.of)).collect())
    };
    ShownLayout {
        device_matrix: layout.dev_matrix.clone(),
        tensor_map: layout.tensor_map.iter().map(axes).collect(),
        slice_shape: shape.and_then(slice),
        optimizer_shard: layout
            .optimizer_shard
            .map(|shard| ShownShard { step: shard.step, size: shard.size.map_or(-1, i64::from) }),
        pieces: pieces.into_iter().collect(),
    }
}

/// What a whole strategy is, and what is peculiar about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// Stages.
    pub stages: usize,
    /// Ranks of all stages.
    pub ranks: u32,
    /// Parameters of all stages.
    pub parameters: usize,
    /// What some version of MindSpore makes trouble of, and files that were left out.
    pub notes: Vec<String>,
}

/// Checks that a file or a folder is a whole, sound strategy.
///
/// # Errors
/// It is not; the message says why.
pub fn check(path: &Path) -> Result<Checked, Error> {
    let opened = Stages::open(path)?;
    let stages = &opened.stages;
    let mut notes = opened.notes;
    for (number, stage) in stages.stages().iter().enumerate() {
        for parameter in &stage.file.parameters {
            let (name, layout) = (&parameter.name, &parameter.layout);
            notes.extend(peculiar(layout).map(|what| format!("stage {number}: parameter {name} {what}")));
            let weight = STATES.iter().find_map(|prefix| name.strip_prefix(prefix));
            notes.extend(
                weight
                    .and_then(|weight| unlike(layout, weight, stage))
                    .map(|(weight, what)| format!("stage {number}: parameter {name} is of {weight}, {what}")),
            );
        }
        notes.extend(stage.file.operators.iter().filter_map(|operator| {
            // Kinds are words without an underscore.
            let weight = operator.name.split_once('_').map_or("", |(_, name)| name);
            let lacks = !weight.is_empty() && stage.layout(weight).is_none();
            lacks.then(|| format!("stage {number}: operator {} is of {weight}, {LACKING}", operator.name))
        }));
    }
    let parameters = stages.stages().iter().map(|stage| stage.file.parameters.len()).sum();
    Ok(Checked { stages: stages.stages().len(), ranks: stages.ranks(), parameters, notes })
}

/// What names of a weight's states begin with.
const STATES: [&str; 3] = ["adam_m.", "adam_v.", "accu_grads."];

/// What is said of a parameter that only others speak of.
const LACKING: &str = "which has no layout here: save the strategy again";

/// In what a state of a weight's lies otherwise than the weight, if it does.
fn unlike<'a>(layout: &Layout, weight: &'a str, stage: &Stage) -> Option<(&'a str, String)> {
    match stage.layout(weight) {
        None => Some((weight, LACKING.to_owned())),
        Some(other) if other == layout => None,
        Some(other) => Some((weight, format!("and lies otherwise: {}, expected {}", layout.said(), other.said()))),
    }
}

/// What some version of MindSpore cannot transform.
fn peculiar(layout: &Layout) -> Option<String> {
    if layout.tensor_map.iter().any(|axes| axes.len() > 1) {
        return Some("has a dimension cut along several axes, of which MindSpore 2.0.0 reads one".to_owned());
    }
    let cuts =
        layout.tensor_map.iter().flatten().map(|axis| layout.dev_matrix[layout.dev_matrix.len() - 1 - *axis as usize]);
    let (cuts, step) = (cuts.product::<u32>(), layout.optimizer_shard?.step);
    (cuts != step).then(|| {
        format!("is shared by the optimizer's ranks in steps of {step} and cut in {cuts} pieces, which MindSpore 2.0.0 refuses")
    })
}

/// In what two strategies differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StrategyDifferences {
    /// Whether they say the same of all parameters.
    pub equal: bool,
    /// Parameters of which both say the same.
    pub same: usize,
    /// Those that the first alone has, as `STAGE-NAME`.
    pub only_a: Vec<String>,
    /// Those that the second alone has.
    pub only_b: Vec<String>,
    /// Those that lie otherwise.
    pub different: Vec<StrategyDifference>,
}

/// A parameter that lies otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StrategyDifference {
    /// Its stage.
    pub stage: u32,
    /// Its name.
    pub name: String,
    /// In the first.
    pub a: String,
    /// In the second.
    pub b: String,
}

/// Compares two strategies, parameter by parameter.
///
/// # Errors
/// One cannot be read, or is none.
pub fn diff(a: &Path, b: &Path) -> Result<StrategyDifferences, Error> {
    let layouts = |path: &Path| -> Result<BTreeMap<(u32, String), Layout>, Error> {
        let stages = Stages::read(path)?.0.into_iter();
        let of = |(stage, file): (u32, StrategyFile)| {
            file.parameters.into_iter().map(move |one| ((stage, one.name), one.layout))
        };
        Ok(stages.flat_map(of).collect())
    };
    let (a, b) = (layouts(a)?, layouts(b)?);
    type Layouts = BTreeMap<(u32, String), Layout>;
    let only = |has: &Layouts, other: &Layouts| -> Vec<String> {
        let alone = has.keys().filter(|key| !other.contains_key(*key));
        alone.map(|(stage, name)| format!("{stage}-{name}")).collect()
    };
    let both: Vec<_> = a.iter().filter_map(|(key, layout)| Some((key, layout, b.get(key)?))).collect();
    let unlike = both.iter().filter(|(_, one, other)| one != other);
    let different: Vec<StrategyDifference> = unlike
        .map(|((stage, name), a, b)| StrategyDifference { stage: *stage, name: name.clone(), a: a.said(), b: b.said() })
        .collect();
    let (only_a, only_b, same) = (only(&a, &b), only(&b, &a), both.len() - different.len());
    let equal = only_a.is_empty() && only_b.is_empty() && different.is_empty();
    Ok(StrategyDifferences { equal, same, only_a, only_b, different })
}

/// Merges the files of ranks in a folder into one, as `merge_pipeline_strategys` does; stages come in order.
///
/// # Errors
/// Stages that are missing or say different things, files that were merged already, a file that is there already.
pub fn merge(folder: &Path, target: &Path, force: bool) -> Result<Checked, Error> {
    output::new(target, force)?;
    let opened = Stages::in_folder(folder, Some(target))?;
    if opened.merged {
        let folder = folder.display();
        return Err(Error::Refused(format!("{folder} holds nothing but a strategy that is merged already: use that")));
    }
    let stages = &opened.stages;
    stages.merged().write(target)?;
    let parameters = stages.stages().iter().map(|stage| stage.file.parameters.len()).sum();
    Ok(Checked { stages: stages.stages().len(), ranks: stages.ranks(), parameters, notes: opened.notes })
}

/// Which rank holds what of each parameter, to be drawn; extents that no file says are counted in pieces.
///
/// # Errors
/// It is no whole strategy.
pub fn shares(path: &Path) -> Result<Shares, Error> {
    let stages = Stages::open(path)?.stages;
    let (ranks, devices) = (stages.ranks(), stages.devices());
    let mut weights: Vec<Share> = Vec::new();
    for (number, stage) in stages.stages().iter().enumerate() {
        let first = number as u32 * devices;
        for parameter in &stage.file.parameters {
            let slices = slices(&parameter.layout, stage.file.shapes.get(&parameter.name));
            // A tied table stands in the files of two stages, and is one parameter.
            let known = weights.iter().position(|share| share.name == parameter.name);
            let at = known.unwrap_or_else(|| {
                weights.push(share(&parameter.name, &parameter.layout, stage.file.shapes.get(&parameter.name), ranks));
                weights.len() - 1
            });
            for (local, slice) in (0..).zip(slices) {
                weights[at].slices[(first + local) as usize] = Some(slice);
            }
        }
    }
    weights.sort_by(|one, other| natural(&one.name).cmp(&natural(&other.name)));
    let mesh = vec![("stages".to_owned(), stages.stages().len() as u64), ("ranks each".to_owned(), u64::from(devices))];
    Ok(Shares { replicas: 1, ranks: u64::from(ranks), mesh, weights, collectives: Vec::new() })
}

/// Numbers in names by their value: `blocks.2` before `blocks.10`.
fn natural(name: &str) -> Vec<(u64, &str)> {
    name.split('.').map(|part| (part.parse().unwrap_or(u64::MAX), part)).collect()
}

fn share(name: &str, layout: &Layout, shape: Option<&Vec<u64>>, ranks: u32) -> Share {
    let whole = match shape {
        Some(shape) => format!("{shape:?}"),
        None => {
            let pieces = layout.pieces(0);
            let cuts: Vec<String> = pieces.iter().map(|piece| piece.of.to_string()).collect();
            format!("[{}] pieces", cuts.join(", "))
        }
    };
    Share {
        name: name.to_owned(),
        whole,
        shape: extents(layout, shape),
        staged: false,
        rank_bytes: vec![0; ranks as usize],
        slices: vec![None; ranks as usize],
    }
}

fn extents(layout: &Layout, shape: Option<&Vec<u64>>) -> Vec<u64> {
    let pieces = layout.pieces(0);
    let cuts = pieces.iter().map(|piece| u64::from(piece.of));
    match shape.filter(|shape| shape.len() == pieces.len()) {
        Some(shape) => shape.clone(),
        None => cuts.collect(),
    }
}

/// By rank of a stage.
fn slices(layout: &Layout, shape: Option<&Vec<u64>>) -> Vec<Slice> {
    let extents = extents(layout, shape);
    let of_rank = |rank: u32| -> Slice {
        let pieces = layout.pieces(rank).into_iter().zip(&extents).enumerate();
        let cut = pieces.filter(|(_, (piece, _))| piece.of > 1);
        let range = |(dim, (piece, extent)): (usize, (bloomery_formats::strategy::Piece, &u64))| {
            let one = extent / u64::from(piece.of);
            let range: Range<u64> = one * u64::from(piece.index)..one * u64::from(piece.index + 1);
            (dim, range)
        };
        cut.map(range).collect()
    };
    (0..layout.devices()).map(of_rank).collect()
}
