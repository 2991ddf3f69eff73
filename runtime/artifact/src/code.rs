//! Code images: machine code for one class of processors, and what a launcher must know of each kernel in it.
//!
//! A kernel is one or two C functions, `void f(const struct call *c, u32 begin, u32 end)`, that compute tiles
//! `begin..end`. `struct call { void *const *views; const u32 *dims; void *shared; void *local; struct pages *pages; }`:
//! data pointers of the kernel graph's inputs, then outputs; values of the program's symbols in order; scratch of the
//! launch; scratch of the worker; where the worker counts pages of the cache, `struct pages { u64 seen, skipped; }`.

use serde::{Deserialize, Serialize};

/// Machine code of all kernels of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeImage {
    /// The class of processors, e.g. `x86-64-v3`.
    pub class: String,
    /// To be mapped read and execute, at a page's start.
    pub bytes: Vec<u8>,
    /// One for each kernel of the program, in its order.
    pub kernels: Vec<KernelCode>,
}

/// One kernel of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCode {
    /// Runs first; the other phase begins when all its tiles are done.
    pub prepare: Option<Phase>,
    /// Does the work.
    pub main: Phase,
    /// Scratch of a launch.
    pub shared: SharedScratch,
    /// Bytes of scratch of each worker.
    pub local: u64,
    /// Pieces of bf16 that each left operand of its product is multiplied as on matrix tiles; 0 without tiles. Such
    /// products have bits of their own, the same for every number of rows.
    pub tile_pieces: u32,
}

impl KernelCode {
    /// The phases in order.
    pub fn phases(&self) -> impl Iterator<Item = &Phase> {
        self.prepare.iter().chain([&self.main])
    }
}

/// One function of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Where it starts in the image.
    pub offset: u64,
    /// Its tiles.
    pub tiles: Tiles,
}

/// A number, or a number of times a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Index of the symbol.
    pub dim: Option<usize>,
    /// How many times.
    pub times: usize,
}

impl Count {
    /// A number.
    pub fn number(times: usize) -> Count {
        Count { dim: None, times }
    }

    /// A symbol.
    pub fn of(dim: usize) -> Count {
        Count { dim: Some(dim), times: 1 }
    }

    /// The number, given the symbols' values.
    pub fn value(self, dims: &[u32]) -> usize {
        self.times * self.dim.map_or(1, |dim| dims[dim] as usize)
    }
}

/// As generated C writes it, `c` being the call.
impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Count { dim: None, times } => write!(f, "{times}"),
            Count { dim: Some(dim), times: 1 } => write!(f, "c->dims[{dim}]"),
            Count { dim: Some(dim), times } => write!(f, "c->dims[{dim}] * {times}"),
        }
    }
}

/// How many tiles a phase has, from the sizes of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        /// View of the table of sequences, `i32[S, 3]`.
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
    /// A number of tiles that depends on nothing.
    pub fn fixed(tiles: u32) -> Tiles {
        Tiles::Rows { count: Count::number(1), rows: 1, columns: tiles }
    }

    /// How many there are, given the symbols' values; `lengths` reads the sequences' lengths from a view.
    pub fn count<L: IntoIterator<Item = u32>>(&self, dims: &[u32], lengths: impl FnOnce(usize) -> L) -> u32 {
        match *self {
            Tiles::Rows { count, rows, columns } => (count.value(dims) as u32).div_ceil(rows) * columns,
            Tiles::Blocks { table, count, rows, columns } => {
                let sequences = lengths(table).into_iter().take(count.value(dims));
                sequences.map(|length| length.div_ceil(rows)).sum::<u32>() * columns
            }
        }
    }
}

/// Bytes of scratch that all workers of a launch share: `fixed + per_row * count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedScratch {
    /// Whatever the size.
    pub fixed: u64,
    /// For each row.
    pub per_row: u64,
    /// How many rows there are.
    pub count: Count,
}

impl SharedScratch {
    /// None.
    pub const NONE: SharedScratch = SharedScratch { fixed: 0, per_row: 0, count: Count { dim: None, times: 0 } };

    /// Bytes for a launch.
    pub fn bytes(&self, dims: &[u32]) -> u64 {
        self.fixed + self.per_row * self.count.value(dims) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_each_sequence_are_rounded_up() {
        let tiles = Tiles::Blocks { table: 3, count: Count::of(1), rows: 8, columns: 4 };
        assert_eq!(tiles.count(&[20, 2], |view| [view as u32 * 3, 1, 100]), (2 + 1) * 4);
        let tiles = Tiles::Rows { count: Count::of(0), rows: 6, columns: 3 };
        assert_eq!(tiles.count(&[7], |_| []), 6);
        assert_eq!(Tiles::fixed(5).count(&[], |_| []), 5);
    }
}
