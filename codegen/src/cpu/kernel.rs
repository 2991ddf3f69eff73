//! An emitted kernel: its text, and what a launcher must know of it.

pub use bloomery_artifact::code::{SharedScratch, Tiles};

/// One function of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Its symbol.
    pub symbol: String,
    /// Its tiles.
    pub tiles: Tiles,
}

/// An emitted kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its C functions.
    pub text: String,
    /// Runs first; the other phase begins when all its tiles are done.
    pub prepare: Option<Phase>,
    /// Does the work.
    pub main: Phase,
    /// Scratch of a launch.
    pub shared: SharedScratch,
    /// Bytes of scratch of each worker.
    pub local: usize,
    /// Pieces of bf16 that each left operand of its product is multiplied as on matrix tiles; 0 without tiles.
    pub tile_pieces: u32,
}

impl Kernel {
    /// A kernel of one phase that needs no scratch.
    pub(crate) fn simple(name: &str, text: String, tiles: Tiles) -> Kernel {
        let main = Phase { symbol: name.into(), tiles };
        Kernel { text, prepare: None, main, shared: SharedScratch::NONE, local: 0, tile_pieces: 0 }
    }

    /// The phases in order.
    pub fn phases(&self) -> impl Iterator<Item = &Phase> {
        self.prepare.iter().chain([&self.main])
    }
}
