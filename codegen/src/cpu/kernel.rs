//! An emitted kernel: its text, and what a launcher must know of it.

use super::spec::Count;

/// How many tiles a phase has, from the sizes of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiles {
    /// ceil(count / rows) * columns.
    Rows {
        /// How many rows there are.
        count: Count,
        /// Rows of a tile.
        rows: u32,
        /// Tiles beside each other.
        columns: u32,
    },
    /// (sum over sequences of ceil(length / rows)) * columns.
    Blocks {
        /// View of the table of sequences.
        table: usize,
        /// How many sequences there are.
        count: Count,
        /// Query rows of a block.
        rows: u32,
        /// Heads.
        columns: u32,
    },
}

impl Tiles {
    /// How many there are, given the symbols' values; `lengths` reads the sequences' lengths from a view.
    pub fn count(&self, dims: &[u32], lengths: impl FnOnce(usize) -> Vec<u32>) -> u32 {
        match *self {
            Tiles::Rows { count, rows, columns } => (count.value(dims) as u32).div_ceil(rows) * columns,
            Tiles::Blocks { table, count, rows, columns } => {
                let sequences = lengths(table).into_iter().take(count.value(dims));
                sequences.map(|length| length.div_ceil(rows)).sum::<u32>() * columns
            }
        }
    }
}

/// One function of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Its symbol.
    pub symbol: String,
    /// Its tiles.
    pub tiles: Tiles,
}

/// Bytes of scratch that all workers of a launch share: `fixed + per_row * count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedScratch {
    /// Whatever the size.
    pub fixed: usize,
    /// For each row.
    pub per_row: usize,
    /// How many rows there are.
    pub count: Count,
}

impl SharedScratch {
    /// None.
    pub(crate) const NONE: SharedScratch = SharedScratch { fixed: 0, per_row: 0, count: Count { dim: None, times: 0 } };

    /// Bytes for a launch.
    pub fn bytes(&self, dims: &[u32]) -> usize {
        self.fixed + self.per_row * self.count.value(dims)
    }
}

/// An emitted kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its C functions.
    pub text: String,
    /// Runs first, with a barrier after it.
    pub prepare: Option<Phase>,
    /// Does the work.
    pub main: Phase,
    /// Scratch of a launch.
    pub shared: SharedScratch,
    /// Bytes of scratch of each worker.
    pub local: usize,
}

impl Kernel {
    /// A kernel of one phase that needs no scratch.
    pub(crate) fn simple(name: &str, text: String, tiles: Tiles) -> Kernel {
        let main = Phase { symbol: name.into(), tiles };
        Kernel { text, prepare: None, main, shared: SharedScratch::NONE, local: 0 }
    }

    /// The phases in order.
    pub fn phases(&self) -> impl Iterator<Item = &Phase> {
        self.prepare.iter().chain([&self.main])
    }
}
