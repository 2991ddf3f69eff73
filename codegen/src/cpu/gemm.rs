//! Products with packed weights: `out[rows, n] = store(norm(x)[rows, k] @ w[k, n])`.
//!
//! Three kernels by the number of rows, with the same bits: one row streams the weights once past it (`gemv.c`),
//! 2 to 8 rows share each piece of a panel (`skinny.c`), more rows are packed in panels of six and multiplied as
//! outer products (`gemm.c`). The layout of weights and the order of sums are told in `prelude/weights.h`.

use super::kernel::{Kernel, Phase, SharedScratch, Tiles};
use super::norm;
use super::spec::{GemmSpec, Rows};
use super::store;
use super::text::fill;

/// Most k (per chain) multiplied before going on to the next rows: a piece of a panel is 16 KiB of f32, half of
/// the first cache of v3, and 174 rows of activations 178 KB, a third of the second.
const BLOCK: usize = 256;
/// Most panels of six rows in a tile.
const ROW_PANELS_MAX: usize = 29;
/// Column panels of a tile.
const GROUP: usize = 4;
/// Steps of a panel (64 bytes each) that few rows share before the next are read.
const PIECE: usize = 64;
/// Panels read beside each other: one stream of memory is up to a third slower than four.
const STREAMS: usize = 4;
/// How far ahead of a stream of weights to prefetch, in bytes.
const AHEAD: usize = 1024;

/// Writes the kernel.
pub(crate) fn emit(name: &str, spec: &GemmSpec) -> Kernel {
    let mut kernel = match spec.rows {
        Rows::One => one(name, spec),
        Rows::Few => few(name, spec),
        Rows::Many { max } => many(name, spec, max),
    };
    kernel.text = story(name, spec) + &kernel.text;
    if spec.norm.is_some() {
        kernel.local = kernel.local.max(4 * spec.k);
    }
    kernel
}

fn story(name: &str, spec: &GemmSpec) -> String {
    let GemmSpec { k, n, .. } = spec;
    let rows = match spec.rows {
        Rows::One => "1",
        Rows::Few => "2..8",
        Rows::Many { .. } => "rows",
    };
    let x = if spec.norm.is_some() { "layer_norm(x)" } else { "x" };
    format!("/* {name}: out[{rows}, {n}] = {x}[{rows}, {k}] @ w[{k}, {n}] of {}. */\n", spec.w.element.c_name())
}

/// Steps along k, of one k (f32) or a pair (16-bit weights).
fn steps(spec: &GemmSpec) -> usize {
    spec.k.div_ceil(spec.w.element.pair())
}

fn head(name: &str, spec: &GemmSpec) -> String {
    let norm = spec.norm.as_ref().map(|norm| norm::function(name, norm, spec.k) + "\n").unwrap_or_default();
    norm + &store::function(name, &spec.store, spec.n)
}

/// The line of a prepare phase that normalises the row `from`.
fn normalise(name: &str, spec: &GemmSpec, indent: &str) -> String {
    match spec.norm {
        Some(_) => format!("{indent}if (from) from = {name}_norm(c, from, c->local);"),
        None => format!("{indent}/* as it is */"),
    }
}

fn many(name: &str, spec: &GemmSpec, max: usize) -> Kernel {
    let (pair, steps, panels) = (spec.w.element.pair(), steps(spec), spec.n.div_ceil(16));
    let (block, group) = (BLOCK.min(steps), GROUP.min(panels));
    let row_panels_all = max.div_ceil(6).max(1);
    let row_panels = row_panels_all.div_ceil(row_panels_all.div_ceil(ROW_PANELS_MAX));
    let widen = match pair {
        1 => "piece".into(),
        _ => format!("widened_half_{}(piece, depth, chain, wide)", spec.w.element.c_name()),
    };
    let fold = match pair {
        1 => "vf_load(sum)",
        _ => "vf_add(vf_load(sum), vf_load(sum + ROW_PANELS * 96))",
    };
    let text = fill(
        include_str!("kernels/gemm.c"),
        &[
            ("name", &name),
            ("store", &head(name, spec)),
            ("norm", &normalise(name, spec, "            ")),
            ("k", &spec.k),
            ("n", &spec.n),
            ("chains", &pair),
            ("depth", &steps),
            ("panels", &panels),
            ("block", &block),
            ("row_panels", &row_panels),
            ("group", &group),
            ("type", &spec.w.element.c_name()),
            ("widen", &widen),
            ("fold", &fold),
            ("x", &spec.x.view),
            ("x_offset", &spec.x.offset),
            ("x_stride", &spec.x.stride),
            ("w", &spec.w.view),
            ("rows", &spec.count),
        ],
    );
    let rows = |rows, columns| Tiles::Rows { count: spec.count, rows, columns };
    let row_bytes = 4 * pair * steps;
    Kernel {
        text,
        prepare: Some(Phase { symbol: format!("{name}_prepare"), tiles: rows(6, 1) }),
        main: Phase { symbol: name.into(), tiles: rows(6 * row_panels as u32, panels.div_ceil(group) as u32) },
        shared: SharedScratch { fixed: 5 * row_bytes as u64, per_row: row_bytes as u64, count: spec.count },
        local: 4 * (block * 16 + group * pair * row_panels * 96),
    }
}

fn few(name: &str, spec: &GemmSpec) -> Kernel {
    let (pair, steps, panels) = (spec.w.element.pair(), steps(spec), spec.n.div_ceil(16));
    let group = panels_of_tile(steps).min(panels);
    let text = fill(
        include_str!("kernels/skinny.c"),
        &[
            ("name", &name),
            ("store", &head(name, spec)),
            ("norm", &normalise(name, spec, "        ")),
            ("k", &spec.k),
            ("n", &spec.n),
            ("pair", &pair),
            ("steps", &steps),
            ("panels", &panels),
            ("piece", &PIECE),
            ("at_once", &STREAMS.min(group)),
            ("group", &group),
            ("type", &spec.w.element.c_name()),
            ("x", &spec.x.view),
            ("x_offset", &spec.x.offset),
            ("x_stride", &spec.x.stride),
            ("w", &spec.w.view),
            ("rows", &spec.count),
        ],
    );
    let rows = |rows, columns| Tiles::Rows { count: spec.count, rows, columns };
    Kernel {
        text,
        prepare: Some(Phase { symbol: format!("{name}_prepare"), tiles: rows(1, 1) }),
        main: Phase { symbol: name.into(), tiles: rows(8, panels.div_ceil(group) as u32) },
        shared: SharedScratch { fixed: (4 * 8 * pair * steps) as u64, per_row: 0, count: spec.count },
        local: 0,
    }
}

/// Panels of a tile that streams: about 256 KiB, long enough to be worth claiming, short enough to share out.
fn panels_of_tile(steps: usize) -> usize {
    (4096 / steps.max(1)).clamp(1, 64).next_multiple_of(4)
}

fn one(name: &str, spec: &GemmSpec) -> Kernel {
    let (pair, steps, panels) = (spec.w.element.pair(), steps(spec), spec.n.div_ceil(16));
    let group = panels_of_tile(steps).min(panels);
    let at_once = STREAMS.min(group);
    let prepared = spec.norm.is_some() || spec.k % pair != 0;
    let row = match prepared {
        true => "c->shared".into(),
        false => format!("(const f32 *)c->views[{}] + {}", spec.x.view, spec.x.offset),
    };
    let why = if spec.norm.is_some() { "normalised" } else { "with an even number of k" };
    let prepare = fill(
        include_str!("kernels/gemv_prepare.c"),
        &[
            ("name", &name),
            ("why", &why),
            ("norm", &normalise(name, spec, "    ")),
            ("k", &spec.k),
            ("pair", &pair),
            ("steps", &steps),
            ("x", &spec.x.view),
            ("x_offset", &spec.x.offset),
            ("x_stride", &spec.x.stride),
        ],
    );
    let text = fill(
        include_str!("kernels/gemv.c"),
        &[
            ("name", &name),
            ("store", &head(name, spec)),
            ("prepare", if prepared { &prepare } else { &"" }),
            ("n", &spec.n),
            ("pair", &pair),
            ("steps", &steps),
            ("panels", &panels),
            ("group", &group),
            ("at_once", &at_once),
            ("ahead", &AHEAD),
            ("type", &spec.w.element.c_name()),
            ("row", &row),
            ("w", &spec.w.view),
        ],
    );
    let rows = |rows, columns| Tiles::Rows { count: spec.count, rows, columns };
    Kernel {
        text,
        prepare: prepared.then(|| Phase { symbol: format!("{name}_prepare"), tiles: rows(1, 1) }),
        main: Phase { symbol: name.into(), tiles: rows(1, panels.div_ceil(group) as u32) },
        shared: SharedScratch {
            fixed: if prepared { (4 * pair * steps) as u64 } else { 0 },
            per_row: 0,
            count: spec.count,
        },
        local: 0,
    }
}
