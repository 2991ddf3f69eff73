//! What a pass is, what it may look at, and how it fails.

use bloomery_ir::program::Interface;
use bloomery_ir::{DType, Mesh, Module, Target, TypeError, VerifyError};
use std::collections::{BTreeMap, BTreeSet};

/// A named function from module to module.
pub struct Pass {
    /// Its name, for dumps, `--stop-after`, and errors.
    pub name: &'static str,
    /// The function.
    pub run: fn(Module, &Context<'_>) -> Result<Module, PassError>,
}

/// What passes may look at beside the module.
pub struct Context<'a> {
    /// Where the program will run.
    pub target: &'a dyn Target,
    /// The graphs that callers enter.
    pub entries: &'a [Interface],
    /// How ranks share the work; `None` for one rank.
    pub strategy: Option<&'a Strategy>,
    /// When weights stay as they are, so that what is computed from them alone can be computed beforehand: what is known
    /// of them. `None` when they are trained.
    pub inference: Option<&'a dyn Weights>,
}

/// How ranks share the work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strategy {
    /// The ranks.
    pub mesh: Mesh,
    /// For each logical axis that is shared, the mesh axis that splits it.
    pub axes: BTreeMap<String, String>,
    /// Those of them that zeros are added to where the number of ranks does not divide them; others have to come out even.
    pub padded: BTreeSet<String>,
    /// How layers are shared.
    pub stages: Stages,
}

impl Strategy {
    /// The mesh axis that splits a logical axis, and its ranks.
    pub(crate) fn size(&self, logical: &str) -> Option<(&str, u64)> {
        let axis = self.axes.get(logical)?;
        Some((axis, self.mesh.size(axis)?))
    }
}

/// How layers are dealt out to stages of a pipeline, which the first axis of the mesh numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stages {
    /// Every rank has all of them.
    #[default]
    One,
    /// So that the stage with most work has as little as may be.
    Balanced,
    /// So many each.
    Layers(Vec<u64>),
}

/// What passes may ask about the values of weights.
pub trait Weights {
    /// Whether every element of a weight, as `dtype`, stays exact when it is multiplied by this power of two, which is
    /// less than one.
    fn scales_exactly(&self, weight: &str, dtype: DType, by: f64) -> bool;
}

/// Weights whose values nobody has looked at. The range of f32 and bf16 holds any weight and its multiples; an f16 below
/// 2^-14 has fewer digits than others, so it may lose some.
pub struct Unseen;

impl Weights for Unseen {
    fn scales_exactly(&self, _: &str, dtype: DType, _: f64) -> bool {
        matches!(dtype, DType::F32 | DType::BF16)
    }
}

/// Why a pass refuses a module.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PassError {
    /// The pass cannot take this module.
    #[error("{pass}: @{graph}: {message}")]
    Refused {
        /// The pass.
        pass: &'static str,
        /// The graph.
        graph: String,
        /// The reason, with both sides' numbers.
        message: String,
    },
    /// The pass made a module that does not verify: a mistake of the pass.
    #[error("after {pass}: {error}")]
    Broken {
        /// The pass.
        pass: String,
        /// What the verifier found.
        error: VerifyError,
    },
    /// A pass that takes something else than there is.
    #[error("{pass} cannot run here: there is {found}")]
    Order {
        /// The pass.
        pass: &'static str,
        /// What the passes before it made.
        found: &'static str,
    },
    /// No pass of that name.
    #[error("there is no pass `{name}` (there are {known})")]
    Unknown {
        /// The name asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// Rebuilding a graph failed inference: a mistake of the pass.
    #[error("{pass}: @{graph}: {error}")]
    Type {
        /// The pass.
        pass: &'static str,
        /// The graph.
        graph: String,
        /// What inference found.
        error: TypeError,
    },
}
