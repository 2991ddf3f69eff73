//! Products with packed weights: `out[rows, n] = store(norm(x)[rows, k] @ w[k, n])`.
//!
//! Two kernels by the number of rows, with the same bits: one row streams the weights once past it (`gemv.c`), more
//! rows are packed in panels of six and multiplied as outer products (`gemm.c`). The layout of weights and the order
//! of sums are told in `prelude/weights.h`.

use super::class::Class;
use super::kernel::{Kernel, Phase, SharedScratch, Tiles};
use super::norm;
use super::spec::{Element, GemmSpec, Rows};
use super::store;
use super::text::fill;

/// So many rows are few: kernels for them have tiles of their own.
pub(super) const FEW: usize = 8;

/// How a product of more rows than one is cut into blocks.
struct Blocking {
    /// Most k multiplied before going on to the next panels.
    k: usize,
    /// Rows of a panel.
    panel_rows: usize,
    /// Most panels of rows in a tile: their activations and sums lie in the second cache.
    row_panels: usize,
    /// Column panels of a tile: the more, the seldomer a block of activations comes from the third cache.
    group: usize,
}

impl Blocking {
    /// For products of at most `max` rows with weights of a type.
    ///
    /// Many rows: six with 16 columns fill the registers of v3. Pieces of as many panels as are multiplied at once are 16 KiB
    /// of f32, half of the first cache with AVX2, a third of it with AVX-512. Of the second cache, half a megabyte with AVX2,
    /// two with AVX-512, 174 rows of activations and their sums take 270 KB, 180 rows 280 KB.
    ///
    /// Few rows wait for memory, in two even panels rather than a full one and a rest. On two threads of a Zen 3 they wait up
    /// to a quarter less where a piece of a panel is one page as it is stored, and the processor's own prefetch follows four
    /// panels. What multiplies two panels at once keeps other blocks, as it was not measured; NEON has these unmeasured.
    fn of(class: Class, element: Element, max: usize) -> Blocking {
        match (max <= FEW, class.panels_at_once()) {
            (true, 1) => Blocking { k: PAGE / (16 * element.bytes()), panel_rows: 4, row_panels: 2, group: 4 },
            (true, _) => Blocking { k: 128, panel_rows: 4, row_panels: 2, group: 2 },
            (false, 1) => Blocking { k: 256, panel_rows: 6, row_panels: 29, group: 8 },
            (false, _) => Blocking { k: 128, panel_rows: 6, row_panels: 30, group: 16 },
        }
    }
}

/// Bytes of a small page of memory.
const PAGE: usize = 4096;

/// Panels read beside each other: one stream of memory is up to a third slower than four.
const STREAMS: usize = 4;
/// How far ahead of a stream of weights to prefetch, in bytes: farther, AMD's Zen 3 reads up to a tenth slower.
fn ahead(class: Class) -> usize {
    if class == Class::V3 { 512 } else { 1024 }
}

/// Writes the kernel.
pub(crate) fn emit(class: Class, name: &str, spec: &GemmSpec) -> Kernel {
    let mut kernel = match spec.rows {
        Rows::One => one(class, name, spec),
        Rows::Many { max } => many(class, name, spec, max),
    };
    kernel.text = story(name, spec) + &kernel.text;
    kernel
}

pub(super) fn story(name: &str, spec: &GemmSpec) -> String {
    let GemmSpec { k, n, .. } = spec;
    let rows = match spec.rows {
        Rows::One => "1",
        Rows::Many { .. } => "rows",
    };
    let x = if spec.norm.is_some() { "layer_norm(x)" } else { "x" };
    let x = if spec.rounded { format!("bf16({x})") } else { x.to_owned() };
    format!("/* {name}: out[{rows}, {n}] = {x}[{rows}, {k}] @ w[{k}, {n}] of {}. */\n", spec.w.element.c_name())
}

/// The k of a panel: of 16-bit weights they come in pairs.
fn depth(spec: &GemmSpec) -> usize {
    spec.k.next_multiple_of(spec.w.element.pair())
}

/// The functions that a product begins and ends with.
pub(super) fn head(name: &str, spec: &GemmSpec) -> String {
    let norm = spec.norm.as_ref().map(|norm| norm::function(name, norm, spec.k) + "\n").unwrap_or_default();
    norm + &store::function(name, &spec.store, spec.n)
}

fn many(class: Class, name: &str, spec: &GemmSpec, max: usize) -> Kernel {
    let blocking = Blocking::of(class, spec.w.element, max);
    let (pair, depth, panels) = (spec.w.element.pair(), depth(spec), spec.n.div_ceil(16));
    let block = even_share(depth, blocking.k).next_multiple_of(pair);
    let (panel_rows, group) = (blocking.panel_rows, blocking.group.min(panels));
    let at_once = class.panels_at_once();
    let row_panels = even_share(max.div_ceil(panel_rows), blocking.row_panels).next_multiple_of(at_once);
    let ready = ready(name, spec, "from[r]", "(f32 *)c->local + r * K", "            ");
    let text = fill(
        include_str!("kernels/gemm.c"),
        &[
            ("name", &name),
            ("store", &head(name, spec)),
            ("ready", &ready),
            ("k", &spec.k),
            ("n", &spec.n),
            ("pair", &pair),
            ("depth", &depth),
            ("panels", &panels),
            ("block", &block),
            ("r", &panel_rows),
            ("row_panels", &row_panels),
            ("group", &group),
            ("type", &spec.w.element.c_name()),
            ("b_panel", if pair == 1 { &"DEPTH * 16" } else { &"PIECE" }),
            ("x", &spec.x.view),
            ("x_offset", &spec.x.offset),
            ("x_stride", &spec.x.stride),
            ("w", &spec.w.view),
            ("rows", &spec.count),
        ],
    );
    let rows = |rows, columns| Tiles::Rows { count: spec.count, rows, columns };
    let row_bytes = 4 * depth.next_multiple_of(block);
    let tile_bytes = 4 * 16 * (at_once * block + group * row_panels * panel_rows);
    let ready_bytes = if is_changed(spec) { 4 * panel_rows * spec.k } else { 0 };
    Kernel {
        text,
        prepare: Some(Phase { symbol: format!("{name}_prepare"), tiles: rows(panel_rows as u32, 1) }),
        main: Phase {
            symbol: name.into(),
            tiles: rows((panel_rows * row_panels) as u32, panels.div_ceil(group) as u32),
        },
        shared: SharedScratch {
            fixed: ((panel_rows - 1) * row_bytes) as u64,
            per_row: row_bytes as u64,
            count: spec.count,
        },
        local: tile_bytes.max(ready_bytes),
        tile_pieces: 0,
    }
}

/// `total` cut into as few shares of at most `most` as there can be: the size of a share when they are even.
pub(super) fn even_share(total: usize, most: usize) -> usize {
    let total = total.max(1);
    total.div_ceil(total.div_ceil(most))
}

/// Whether rows are changed before they are multiplied.
fn is_changed(spec: &GemmSpec) -> bool {
    spec.norm.is_some() || spec.rounded
}

/// Lines that make a row ready: normalised, rounded.
fn ready(name: &str, spec: &GemmSpec, from: &str, to: &str, indent: &str) -> String {
    let norm = spec.norm.as_ref().map(|_| format!("{indent}{from} = {name}_norm(c, {from}, {to});"));
    let round = spec.rounded.then(|| format!("{indent}{from} = round_row({from}, K, {to});"));
    let lines: Vec<String> = norm.into_iter().chain(round).collect();
    if lines.is_empty() { format!("{indent}/* as it is */") } else { lines.join("\n") }
}

/// Panels of a tile that streams: about 128 KiB, long enough to be worth claiming, short enough to share out.
pub(super) fn panels_of_tile(steps: usize) -> usize {
    (2048 / steps.max(1)).clamp(1, 64).next_multiple_of(4)
}

fn one(class: Class, name: &str, spec: &GemmSpec) -> Kernel {
    let (pair, panels) = (spec.w.element.pair(), spec.n.div_ceil(16));
    let steps = depth(spec) / pair;
    let group = panels_of_tile(steps).min(panels);
    let at_once = STREAMS.min(group);
    let prepared = is_changed(spec) || spec.k % pair != 0;
    let row = match prepared {
        true => "c->shared".into(),
        false => format!("(const f32 *)c->views[{}] + {}", spec.x.view, spec.x.offset),
    };
    let why = match (&spec.norm, spec.rounded) {
        (Some(_), true) => "normalised and rounded to bf16",
        (Some(_), false) => "normalised",
        (None, true) => "rounded to bf16",
        (None, false) => "with an even number of k",
    };
    let prepare = fill(
        include_str!("kernels/gemv_prepare.c"),
        &[
            ("name", &name),
            ("why", &why),
            ("ready", &ready(name, spec, "from", "c->local", "    ")),
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
            ("ahead", &ahead(class)),
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
        local: if is_changed(spec) { 4 * spec.k } else { 0 },
        tile_pieces: 0,
    }
}
