//! `strategy`: which rank of an artifact holds what of each weight, and what ranks tell each other in a step.
//!
//! All of it is read off the artifact's program. [`draw`] makes a picture of it. Strategies of MindSpore's are [`files`].

pub mod draw;
pub mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use bloomery_artifact::{Artifact, Check, Placement, WeightTable};
use bloomery_ir::program::{Parameter, Place, Step};
use bloomery_ir::{Bindings, Program};
use serde::Serialize;

use crate::Error;

/// How ranks share an artifact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shares {
    /// Copies of all ranks, each with sequences of its own.
    pub replicas: u64,
    /// How many ranks a copy has.
    pub ranks: u64,
    /// The axes they are numbered along, the last one fastest.
    pub mesh: Vec<(String, u64)>,
    /// Every weight.
    pub weights: Vec<Share>,
    /// What ranks tell each other in a step of one token, and where its scores are wanted.
    pub collectives: Vec<Exchange>,
}

/// How ranks share a weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Its name.
    pub name: String,
    /// Its type as a whole, layers first if it has them.
    pub whole: String,
    /// Its extents as a whole.
    pub shape: Vec<u64>,
    /// Whether its first dimension counts layers that stages share.
    pub staged: bool,
    /// By rank: bytes of all of it that the rank has.
    pub rank_bytes: Vec<u64>,
    /// By rank: what it has of the dimensions that are cut, layers by stages too; no slices where all ranks have all, and
    /// nothing for a rank that has nothing of it.
    pub slices: Vec<Option<Slice>>,
}

/// Dimensions that are cut, and the range of each that a rank has.
pub type Slice = BTreeMap<usize, Range<u64>>;

/// What ranks tell each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exchange {
    /// The entry of the program, such as `body_1_1`.
    pub entry: String,
    /// `all_reduce` or another collective.
    pub op: String,
    /// The axis whose ranks do it.
    pub over: String,
    /// What each of them gives.
    #[serde(rename = "type")]
    pub ty: String,
    /// How often in a step, layers counted.
    pub times: u64,
    /// Bytes that each gives in all of these; of stages, one after another, all of them together.
    pub bytes: u64,
}

/// Looks at an artifact.
///
/// # Errors
/// It is none, or damaged.
pub fn strategy(path: &Path) -> Result<Shares, Error> {
    let artifact = Artifact::open(path, Check::None)?;
    Ok(shares(artifact.program(), artifact.weight_table()))
}

/// How ranks share a program, of weights that lie as the table says.
pub(crate) fn shares(program: &Program, table: &WeightTable) -> Shares {
    let readers = readers(program);
    let weights = program.parameters.iter().zip(&table.placements);
    let weights = weights.filter(|(parameter, _)| parameter.origin.literal().is_none());
    Shares {
        replicas: program.replicas,
        ranks: program.mesh.ranks(),
        mesh: program.mesh.axes.clone(),
        weights: weights
            .map(|(parameter, place)| share(program, parameter, place, &readers[&parameter.name]))
            .collect(),
        collectives: exchanges(program),
    }
}

fn share(program: &Program, parameter: &Parameter, place: &Placement, readers: &BTreeSet<u64>) -> Share {
    let mesh = &program.mesh;
    let whole = parameter.whole(mesh);
    let layers = |rank| program.stages.get(program.stage_of(rank) as usize).filter(|_| parameter.stacked).cloned();
    let has = |rank: &u64| readers.contains(&program.stage_of(*rank));
    let slice = |rank: u64| {
        let mut ranges = parameter.ranges(mesh, parameter.part(mesh, rank));
        ranges.extend(layers(rank).map(|layers| (0, layers)));
        has(&rank).then_some(ranges)
    };
    let bytes = |rank: u64| match has(&rank) {
        true => place.bytes * layers(rank).map_or(place.layers, |layers| layers.end - layers.start),
        false => 0,
    };
    let shape = whole.extents().map(|extent| extent.as_number().unwrap_or_default());
    Share {
        name: parameter.name.clone(),
        shape: shape.collect(),
        whole: whole.to_string(),
        staged: parameter.stacked && !program.stages.is_empty(),
        rank_bytes: (0..mesh.ranks()).map(bytes).collect(),
        slices: (0..mesh.ranks()).map(slice).collect(),
    }
}

/// By parameter, the stages that read it; stage 0 where there are none.
fn readers(program: &Program) -> BTreeMap<String, BTreeSet<u64>> {
    let none = |parameter: &Parameter| (parameter.name.clone(), BTreeSet::new());
    let mut found: BTreeMap<String, BTreeSet<u64>> = program.parameters.iter().map(none).collect();
    for entry in &program.entries {
        each(&entry.steps, 0..1, 1, &mut |step, stages, _| {
            for view in step.reads() {
                if let Place::Parameter(i) = view.place {
                    found.get_mut(&program.parameters[i].name).expect("all are there").extend(stages.clone());
                }
            }
        });
    }
    found
}

/// Of the entries for one row, in the program's order; equal ones of an entry together.
fn exchanges(program: &Program) -> Vec<Exchange> {
    let one: Bindings = program.symbols.iter().map(|symbol| (symbol.name.clone(), 1)).collect();
    let mut found: Vec<Exchange> = Vec::new();
    for entry in program.entries.iter().filter(|entry| entry.least == 1) {
        each(&entry.steps, 0..1, 1, &mut |step, stages, times| {
            let (op, over, from) = match step {
                Step::Collective { what, over, from, .. } => (what.name(), over.as_str(), from),
                Step::Send { what } => ("send", program.mesh.axes[0].0.as_str(), what),
                _ => return,
            };
            // Stages that do the same do it one after another.
            let times = times * (stages.end - stages.start);
            let bytes = from.ty.elements(&one).map_or(0, |elements| from.ty.dtype.bytes(elements)) * times;
            let (entry, op, ty) = (entry.name.clone(), op.to_owned(), from.ty.unnamed().to_string());
            let same = found.iter_mut().find(|one| (&one.entry, &one.op, &one.ty) == (&entry, &op, &ty));
            match same {
                Some(one) => (one.times, one.bytes) = (one.times + times, one.bytes + bytes),
                None => found.push(Exchange { entry, op, over: over.to_owned(), ty, times, bytes }),
            }
        });
    }
    found
}

/// Calls back with every step that has none inside, the stages that do it, and how often each of them does.
pub(crate) fn each(steps: &[Step], stages: Range<u64>, times: u64, seen: &mut impl FnMut(&Step, &Range<u64>, u64)) {
    for step in steps {
        match step {
            Step::Loop { from, to, steps, .. } => each(steps, stages.clone(), times * (to - from), seen),
            Step::Stage { stages, steps } => each(steps, stages.clone(), times, seen),
            step => seen(step, &stages, times),
        }
    }
}
