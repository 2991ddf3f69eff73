//! Products with bf16 weights on matrix tiles: `out[rows, n] = store(norm(x)[rows, k] @ w[k, n])` for classes that have them.
//!
//! The same weights as in [`gemm`](super::gemm), in the same panels; bits of their own, which `prelude/tiles.h` tells. Both
//! kernels give the same: few rows stream the weights past one or two left tiles (`tiles_few.c`), more rows go in blocks
//! (`tiles.c`). Activations are packed before: in three pieces of bf16 each, or in one where the model rounds them.

use super::gemm::{FEW, even_share, head, panels_of_tile, story};
use super::kernel::{Kernel, Phase, SharedScratch, Tiles};
use super::spec::{GemmSpec, Rows};
use super::text::fill;

/// Rows of a tile.
const ROWS: usize = 16;
/// Pairs of k in a tile.
const PAIRS: usize = 16;
/// Bytes of a tile.
const TILE_BYTES: usize = 1024;
/// Tiles along k multiplied before going on, at most: 256 k, two panels of which are 16 KiB, a third of the first cache.
const BLOCK: usize = 8;
/// Row tiles whose sums are kept, at most: with those of a group three quarters of a megabyte of the two megabytes of the
/// second cache, beside a quarter for their block of activations and half of one for the group's weights.
const ROW_TILES_MOST: usize = 24;
/// Column panels of a tile: the more, the seldomer a block of activations comes from the third cache.
const GROUP: usize = 32;
/// How far ahead of a stream of weights to prefetch, in elements: one tile.
const AHEAD: usize = 512;

/// Writes the kernel.
pub(crate) fn emit(name: &str, spec: &GemmSpec) -> Kernel {
    let mut kernel = match spec.rows {
        Rows::One => few(name, spec, 1),
        Rows::Many { max } if max <= FEW => few(name, spec, FEW),
        Rows::Many { max } => many(name, spec, max),
    };
    kernel.text = story(name, spec) + &kernel.text;
    kernel
}

/// Pieces of bf16 that an activation becomes.
fn pieces(spec: &GemmSpec) -> usize {
    if spec.rounded { 1 } else { 3 }
}

/// Tiles along k, the last one perhaps in part.
fn k_tiles(spec: &GemmSpec) -> usize {
    spec.k.div_ceil(2 * PAIRS)
}

/// How activations are packed: panels of rows, each in row tiles of its own.
struct Left {
    rows: usize,
    row_tiles: usize,
    /// Tiles along k that lie together.
    block: usize,
}

impl Left {
    fn of(spec: &GemmSpec, rows: usize, block: usize) -> Left {
        Left { rows, row_tiles: (rows * pieces(spec)).div_ceil(ROWS), block }
    }

    fn prepare(&self, name: &str, spec: &GemmSpec) -> String {
        let norm = match spec.norm {
            Some(_) => format!("        if (row < rows) from = {name}_norm(c, from, c->local);"),
            None => "        /* as it is */".into(),
        };
        let pieces_story = match pieces(spec) {
            1 => "rounded to bf16",
            _ => "in three pieces of bf16, each a row of its own",
        };
        fill(
            include_str!("kernels/tiles_prepare.c"),
            &[
                ("name", &name),
                ("pieces_story", &pieces_story),
                ("norm", &norm),
                ("k", &spec.k),
                ("pieces", &pieces(spec)),
                ("k_tiles", &k_tiles(spec)),
                ("block", &self.block),
                ("r", &self.rows),
                ("row_tiles", &self.row_tiles),
                ("x", &spec.x.view),
                ("x_offset", &spec.x.offset),
                ("x_stride", &spec.x.stride),
                ("rows", &spec.count),
            ],
        )
    }

    fn phase(&self, name: &str, spec: &GemmSpec) -> Phase {
        let tiles = Tiles::Rows { count: spec.count, rows: self.rows as u32, columns: 1 };
        Phase { symbol: format!("{name}_prepare"), tiles }
    }

    fn scratch(&self, spec: &GemmSpec) -> SharedScratch {
        let panel = self.row_tiles * k_tiles(spec).next_multiple_of(self.block) * TILE_BYTES;
        let per_row = panel.div_ceil(self.rows);
        SharedScratch { fixed: ((self.rows - 1) * per_row) as u64, per_row: per_row as u64, count: spec.count }
    }
}

fn many(name: &str, spec: &GemmSpec, max: usize) -> Kernel {
    let (pieces, panels) = (pieces(spec), spec.n.div_ceil(16));
    let left = Left::of(spec, ROWS, even_share(k_tiles(spec), BLOCK));
    let row_panels = even_share(max.div_ceil(ROWS), ROW_TILES_MOST / pieces);
    let group = GROUP.min(panels);
    let text = fill(
        include_str!("kernels/tiles.c"),
        &[
            ("name", &name),
            ("store", &head(name, spec)),
            ("prepare", &left.prepare(name, spec)),
            ("n", &spec.n),
            ("panels", &panels),
            ("pieces", &pieces),
            ("pairs", &spec.k.div_ceil(2)),
            ("k_tiles", &k_tiles(spec)),
            ("block", &left.block),
            ("row_panels", &row_panels),
            ("group", &group),
            ("w", &spec.w.view),
            ("rows", &spec.count),
        ],
    );
    let rows = (row_panels * ROWS) as u32;
    let columns = panels.div_ceil(group) as u32;
    let sums = group * row_panels * pieces;
    kernel(name, spec, &left, text, Tiles::Rows { count: spec.count, rows, columns }, sums + 2)
}

fn few(name: &str, spec: &GemmSpec, rows: usize) -> Kernel {
    let panels = spec.n.div_ceil(16);
    let left = Left::of(spec, rows, k_tiles(spec));
    let group = panels_of_tile(spec.k.div_ceil(2)).min(panels);
    let text = fill(
        include_str!("kernels/tiles_few.c"),
        &[
            ("name", &name),
            ("store", &head(name, spec)),
            ("prepare", &left.prepare(name, spec)),
            ("n", &spec.n),
            ("panels", &panels),
            ("pieces", &pieces(spec)),
            ("pairs", &spec.k.div_ceil(2)),
            ("k_tiles", &k_tiles(spec)),
            ("r", &left.rows),
            ("row_tiles", &left.row_tiles),
            ("group", &group),
            ("ahead", &AHEAD),
            ("w", &spec.w.view),
            ("rows", &spec.count),
        ],
    );
    let columns = panels.div_ceil(group) as u32;
    kernel(name, spec, &left, text, Tiles::Rows { count: spec.count, rows: rows as u32, columns }, 4 + 4)
}

/// `tiles_kept`: tiles of a worker's scratch, sums and the ends of panels.
fn kernel(name: &str, spec: &GemmSpec, left: &Left, text: String, tiles: Tiles, tiles_kept: usize) -> Kernel {
    let norm_bytes = if spec.norm.is_some() { 4 * spec.k } else { 0 };
    Kernel {
        text,
        prepare: Some(left.phase(name, spec)),
        main: Phase { symbol: name.into(), tiles },
        shared: left.scratch(spec),
        local: (tiles_kept * TILE_BYTES).max(norm_bytes),
        tile_pieces: pieces(spec) as u32,
    }
}
