//! `strategy`: which rank of an artifact holds what of each weight, and what ranks tell each other in a step.
//!
//! All of it is read off the artifact's program. [`draw`] makes a picture of it.

pub mod draw;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use bloomery_artifact::{Artifact, Check};
use bloomery_ir::program::{Parameter, Step};
use bloomery_ir::{Bindings, Program};
use serde::Serialize;

use crate::Error;

/// How ranks share an artifact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shares {
    /// How many ranks there are.
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
    /// Bytes of all of it that a rank has.
    pub rank_bytes: u64,
    /// By rank: what it has of the dimensions that are cut; nothing where all ranks have all.
    pub slices: Vec<BTreeMap<usize, Range<u64>>>,
}

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
    /// Bytes that each gives in all of these.
    pub bytes: u64,
}

/// Looks at an artifact.
///
/// # Errors
/// It is none, or damaged.
pub fn strategy(path: &Path) -> Result<Shares, Error> {
    let artifact = Artifact::open(path, Check::None)?;
    let program = artifact.program();
    let placements = artifact.weight_table().placements.iter();
    let weights =
        program.parameters.iter().zip(placements).filter(|(parameter, _)| parameter.origin.literal().is_none());
    Ok(Shares {
        ranks: program.mesh.ranks(),
        mesh: program.mesh.axes.clone(),
        weights: weights.map(|(parameter, place)| share(program, parameter, place.bytes * place.layers)).collect(),
        collectives: exchanges(program),
    })
}

fn share(program: &Program, parameter: &Parameter, rank_bytes: u64) -> Share {
    let mesh = &program.mesh;
    let whole = parameter.whole(mesh);
    let slice = |rank| parameter.ranges(mesh, parameter.part(mesh, rank));
    let shape = whole.extents().map(|extent| extent.as_number().unwrap_or_default());
    Share {
        name: parameter.name.clone(),
        shape: shape.collect(),
        whole: whole.to_string(),
        rank_bytes,
        slices: (0..mesh.ranks()).map(slice).collect(),
    }
}

/// Of the entries for one row, in the program's order; equal ones of an entry together.
fn exchanges(program: &Program) -> Vec<Exchange> {
    let one: Bindings = program.symbols.iter().map(|symbol| (symbol.name.clone(), 1)).collect();
    let mut found: Vec<Exchange> = Vec::new();
    for entry in program.entries.iter().filter(|entry| entry.least == 1) {
        each(&entry.steps, 1, &mut |step, times| {
            let Step::Collective { what, over, from, .. } = step else { return };
            let bytes = from.ty.elements(&one).map_or(0, |elements| from.ty.dtype.bytes(elements)) * times;
            let (entry, op, ty) = (entry.name.clone(), what.name().to_owned(), from.ty.unnamed().to_string());
            let same = found.iter_mut().find(|one| (&one.entry, &one.op, &one.ty) == (&entry, &op, &ty));
            match same {
                Some(one) => (one.times, one.bytes) = (one.times + times, one.bytes + bytes),
                None => found.push(Exchange { entry, op, over: over.clone(), ty, times, bytes }),
            }
        });
    }
    found
}

/// Calls back with every step that is no loop, and how often it is done.
fn each(steps: &[Step], times: u64, seen: &mut impl FnMut(&Step, u64)) {
    for step in steps {
        match step {
            Step::Loop { from, to, steps, .. } => each(steps, times * (to - from), seen),
            step => seen(step, times),
        }
    }
}
