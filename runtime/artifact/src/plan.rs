//! Call plans: what an Ascend device is told to do, as data.
//!
//! A plan has one [`PlanPart`] for stages that run the same, with the buffers of a rank and an [`PlanEntry`] for each entry
//! point and range of rows; each entry's steps are a section of the artifact. There are no addresses in it: a runtime takes
//! the arenas, fills what comes from the artifact, and replays the steps with the numbers of a call.
//!
//! Start at [`CallPlan`]; [`aclnn`] knows the calls, [`text`] prints and parses, [`check`] is what stands between a file and
//! anything that trusts it.

pub mod aclnn;
pub mod check;
pub mod parse;
pub mod text;

use bloomery_ir::Mesh;
use bloomery_ir::ascend::{AclType, Chip, Step};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Every piece of an arena begins at a multiple of this.
pub const ALIGNMENT: u64 = 64;

/// Devices of a server.
pub const SERVER: u64 = 8;

/// Bytes that a buffer of so many takes: rounded up to 32, and 32 more, since kernels may touch what lies behind. The largest
/// number, which no arena has, where there are not so many.
pub fn padded(bytes: u64) -> u64 {
    let rounded = bytes.checked_next_multiple_of(32).and_then(|bytes| bytes.checked_add(32));
    rounded.and_then(|bytes| bytes.checked_next_multiple_of(ALIGNMENT)).unwrap_or(u64::MAX)
}

/// What a model's ranks are told to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallPlan {
    /// The program's name.
    pub model: String,
    /// The chips it is for.
    pub chip: Chip,
    /// Names of them, as `aclrtGetSocName` says.
    pub soc: Vec<String>,
    /// The least version of CANN that has every symbol.
    pub cann: String,
    /// Every function it needs of the libraries, in order.
    pub symbols: Vec<String>,
    /// The ranks.
    pub mesh: Mesh,
    /// Copies of all ranks.
    pub replicas: u64,
    /// Groups of ranks that tell each other something.
    pub communicators: Vec<Communicator>,
    /// By stages that run the same.
    pub parts: Vec<PlanPart>,
}

impl CallPlan {
    /// How many ranks a stage has.
    pub fn ranks_per_stage(&self) -> u64 {
        let stages = self.parts.last().map_or(1, |part| part.stages.end);
        (self.mesh.ranks() / stages.max(1)).max(1)
    }

    /// The ranks of a stage.
    pub fn ranks_of(&self, stage: u64) -> Range<u64> {
        let ranks = self.ranks_per_stage();
        stage * ranks..(stage + 1) * ranks
    }

    /// Names of the sections that hold the steps of its entries, in order: the part's first stage, and the entry.
    pub(crate) fn section_names(&self) -> Vec<String> {
        let of = |part: &PlanPart| {
            let stage = part.stages.start;
            part.entries.iter().map(move |entry| format!("{stage}/{}", entry.name)).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of).collect()
    }
}

/// Groups of ranks with a communicator each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Communicator {
    /// Its name in steps: an axis of the mesh, or [`WORLD`].
    pub name: String,
    /// The ranks of each group, of one replica.
    pub groups: Vec<Vec<u64>>,
}

/// The communicator of all ranks of a replica, for what stages hand on.
pub const WORLD: &str = "world";

/// What the ranks of some stages have and do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanPart {
    /// The stages.
    pub stages: Range<u64>,
    /// Layers of each.
    pub layers: u64,
    /// Pieces of device memory.
    pub arenas: Vec<ArenaSize>,
    /// What lies in them.
    pub buffers: Vec<PlanBuffer>,
    /// What is run.
    pub entries: Vec<PlanEntry>,
}

impl PlanPart {
    /// Bytes of an arena.
    pub fn arena_bytes(&self, arena: Arena) -> u64 {
        self.arenas.iter().find(|size| size.arena == arena).map_or(0, |size| size.bytes)
    }
}

/// What device memory is taken for, each in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Arena {
    /// Weights and tables, written once.
    Weights,
    /// The cache.
    Cache,
    /// Inputs and outputs.
    Io,
    /// Values of one call of an entry.
    Values,
    /// Values of one operation.
    Temporaries,
    /// What calls ask for while they run, one arena a stream; an estimate: they say themselves what they need.
    Workspace,
}

impl Arena {
    /// All of them.
    pub const ALL: [Arena; 6] =
        [Arena::Weights, Arena::Cache, Arena::Io, Arena::Values, Arena::Temporaries, Arena::Workspace];

    /// Its name in plans.
    pub fn name(self) -> &'static str {
        match self {
            Arena::Weights => "weights",
            Arena::Cache => "cache",
            Arena::Io => "io",
            Arena::Values => "values",
            Arena::Temporaries => "temporaries",
            Arena::Workspace => "workspace",
        }
    }

    /// The arena of that name.
    pub fn by_name(name: &str) -> Option<Arena> {
        Arena::ALL.into_iter().find(|arena| arena.name() == name)
    }
}

/// An arena's size on a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArenaSize {
    /// Which.
    pub arena: Arena,
    /// Bytes.
    pub bytes: u64,
}

/// A piece of an arena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanBuffer {
    /// Its name, unique in the part.
    pub name: String,
    /// Where it lies.
    pub arena: Arena,
    /// From the arena's start.
    pub offset: u64,
    /// Bytes of one layer of it, or of all of it; it takes [`padded`] as many.
    pub bytes: u64,
    /// Layers, each at a multiple of [`padded`] bytes; 1 where there are none.
    pub layers: u64,
    /// What it holds before anything runs.
    pub content: Content,
}

impl PlanBuffer {
    /// So many bytes of an arena, for each layer.
    pub fn new(name: &str, arena: Arena, offset: u64, bytes: u64, layers: u64, content: Content) -> PlanBuffer {
        PlanBuffer { name: name.to_owned(), arena, offset, bytes, layers, content }
    }

    /// From one layer to the next.
    pub fn pitch(&self) -> u64 {
        padded(self.bytes)
    }

    /// The bytes of the arena it takes.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.pitch().saturating_mul(self.layers))
    }
}

/// What a buffer holds before anything runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Content {
    /// Nothing.
    Scratch,
    /// The rank's part of the program's parameter of this name, row major, layer by layer.
    Parameter,
    /// The program's state of this name.
    State,
    /// The caller's input or output of this name.
    Io,
    /// The rank's part of a product's weight in 8 bits: what its column's factor is multiplied by.
    Int8 {
        /// The program's parameter.
        of: String,
        /// Columns of the product.
        columns: u64,
    },
    /// The factors of such a weight, one for each column.
    Factors {
        /// The program's parameter.
        of: String,
        /// Columns of the product.
        columns: u64,
        /// Their type.
        dtype: AclType,
    },
    /// What ALiBi adds to scores, in this type, `[heads, rows, reach + rows]`: `slope * (k - reach - row)`, and a number that
    /// hides where that is ahead of the row.
    Distances {
        /// Slopes of all heads.
        slopes: Vec<f64>,
        /// The mesh axis that heads are shared over: a rank has as many as its place says further on.
        over: Option<String>,
        /// Heads of a rank.
        heads: u64,
        /// Rows of a block.
        rows: u64,
        /// Positions a sequence can have.
        reach: u64,
        /// Its type.
        dtype: AclType,
    },
}

/// A weight, row by row of so many columns, in 8 bits: whole numbers from -127 to 127, and the factor of each column, which is
/// rounded by `round` before numbers are.
pub fn int8(values: &[f64], columns: usize, round: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<f64>) {
    let mut most = vec![0.0_f64; columns];
    for row in values.chunks_exact(columns) {
        most.iter_mut().zip(row).for_each(|(most, value)| *most = most.max(value.abs()));
    }
    // A column of zeros, or of numbers so small that their factor would be zero, keeps any factor.
    let factor = |most: f64| Some(round(most / 127.0)).filter(|factor| *factor > 0.0).unwrap_or(1.0);
    let factors: Vec<f64> = most.into_iter().map(factor).collect();
    let number = |(i, value): (usize, &f64)| (value / factors[i % columns]).round().clamp(-127.0, 127.0);
    (values.iter().enumerate().map(number).collect(), factors)
}

/// What hides a position: the largest negative number of f16, which other types hold too.
pub const HIDDEN: f64 = -65504.0;

impl Content {
    /// The elements of a table that the host makes, for a rank at this place of the axis its heads are shared over.
    pub fn distances(&self, place: u64) -> Option<Vec<f64>> {
        let Content::Distances { slopes, heads, rows, reach, .. } = self else { return None };
        let own = slopes.iter().skip((place * heads) as usize).take(*heads as usize);
        let value = |slope: f64, row: u64, k: u64| match i128::from(k) - i128::from(*reach) - i128::from(row) {
            ahead if ahead > 0 => HIDDEN,
            distance => slope * distance as f64,
        };
        let of_head = |slope: &f64| {
            let slope = *slope;
            (0..*rows).flat_map(move |row| (0..reach + rows).map(move |k| value(slope, row, k)))
        };
        Some(own.flat_map(of_head).collect())
    }
}

/// Steps for one range of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// Its name, e.g. `body_2_512`.
    pub name: String,
    /// The program's entries of one kind, e.g. `body`; those that also choose tokens have a name of their own.
    pub group: String,
    /// The name whose range this is.
    pub rows: String,
    /// Smallest value of it.
    pub least: u64,
    /// Largest value of it.
    pub most: u64,
    /// Names with their largest values, in a call of this entry.
    pub bounds: Vec<(String, u64)>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}
