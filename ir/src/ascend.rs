//! Calls of the Ascend libraries, as data: what operations say of how they are computed there.
//!
//! An operation's file lists the calls ([`OpDef::ascend`](crate::OpDef::ascend)); `codegen` puts the lists of a program's
//! kernels one after another and makes a plan of them; nothing here links to a device. Facts about the calls (prototypes,
//! types, rules of memory) are CANN's own, in this project's words; see `codegen/src/ascend/README.md` for their sources.
//!
//! A call takes tensors that are views: a buffer, dims and strides in elements. What is known only when the plan runs has
//! a name: `N` rows of a call, `layer`, and inside a loop over sequences what [`Over`] lists. Everything else is a number.

mod call;
mod lowering;
mod sum;
mod tensor;

pub use call::{Arg, Call, Event, Exchange, LOOPS_MOST, Over, Scalar, Step, Stream};
pub use lowering::{Lowered, Lowering, Need, Operand};
pub use sum::Sum;
pub use tensor::{AclTensor, AclType};

/// Rows of one sequence that attention takes at once: scores of all heads are `[heads, rows, context]`.
pub const BLOCK_ROWS: u64 = 128;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A generation of chips. They differ in what they can compute, so in the calls of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Chip {
    /// The first, Atlas training series: no bf16, products of f16 alone, no fused attention, a result beyond the largest
    /// number becomes it.
    A910,
    /// The second, Atlas A2: bf16, fused attention, products fused with their reduction.
    B910,
}

impl Chip {
    /// All of them.
    pub const ALL: [Chip; 2] = [Chip::A910, Chip::B910];

    /// Its name, as in `--target ascend:910a`.
    pub fn name(self) -> &'static str {
        match self {
            Chip::A910 => "910a",
            Chip::B910 => "910b",
        }
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Chip {
    type Err = String;

    fn from_str(name: &str) -> Result<Chip, String> {
        let known = Chip::ALL.into_iter().find(|chip| chip.name() == name);
        known.ok_or_else(|| format!("there is no chip `{name}`; there are {}", Chip::ALL.map(Chip::name).join(", ")))
    }
}
