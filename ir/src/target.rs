//! What passes need to know of a target. Implemented in `codegen`, handed in by the command line.

use crate::graph::Graph;
use crate::layout::Layout;
use crate::types::DType;

/// A place programs are compiled for.
pub trait Target {
    /// Its name, e.g. `cpu`.
    fn name(&self) -> &str;

    /// The element type of activations.
    fn activation(&self) -> DType;

    /// Tokens in one page of the key-value cache.
    fn page_tokens(&self) -> u64;

    /// How a weight lies that is a product's right operand, summed over these of its dimensions: in panels, where kernels
    /// are our own.
    fn weight_layout(&self, contracted: Vec<usize>) -> Layout {
        Layout::Panels { contracted }
    }

    /// How the cache lies.
    fn cache_layout(&self) -> Layout {
        Layout::CachePages
    }

    /// Bytes of the arena that a buffer of so many takes.
    fn buffer_bytes(&self, bytes: u64) -> u64 {
        bytes
    }

    /// Ranges of rows that kernels are specialised for, ascending and without gaps, up to `most`.
    fn row_ranges(&self, most: u64) -> Vec<(u64, u64)>;

    /// The estimated time of a kernel that computes this graph, in nanoseconds, or why it cannot be one kernel.
    ///
    /// # Errors
    /// A graph the target has no kernel for.
    fn cost(&self, kernel: &Graph) -> Result<f64, Refusal>;
}

/// Why a graph cannot be one kernel.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("no kernel: {0}")]
pub struct Refusal(pub String);
