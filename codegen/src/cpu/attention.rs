//! Attention with ALiBi over the paged cache, softmax taken online a page of keys at a time, the newest page first.
//!
//! The order of every sum depends on a row's position alone: scores are chains over the head's columns, a page's
//! weights are summed as 16 lanes and a tree, values are added in the order of keys. So a row's bits do not depend
//! on its neighbours, on chunks, or on which of the two ways through the page (one row, six rows) it takes.
//!
//! ALiBi takes `slope * distance` off a score, so with steep slopes old keys weigh nothing: their weights e^(score -
//! largest) are 0 in f32. A page keeps a bound of each key's size; when |q| |k| cannot lift any of its keys to where
//! weights are not 0, the page is left out, and no bit of the result changes.

use super::kernel::{Kernel, Phase, SharedScratch, Tiles};
use super::spec::AttentionSpec;
use super::text::{fill, literal};

/// Query rows of a tile; a multiple of six. What they need and a widened page fit the second cache.
const ROWS: usize = 96;

const STORE: &str = "INLINE void @name@_store(const struct call *c, u32 row, u32 head, u32 group, vf x)
{
    f32 *out = (f32 *)c->views[@out@] + @offset@ + (u64)row * @stride@ + head * @d@ + group * 16;
    store_some(out, x, @d@ - group * 16);
}

";

/// Writes the kernel.
pub(crate) fn emit(name: &str, spec: &AttentionSpec) -> Kernel {
    let (d, dp) = (spec.d, spec.d.next_multiple_of(16));
    let element = spec.kv.element.c_name();
    let store = fill(
        STORE,
        &[
            ("name", &name),
            ("out", &spec.out.view),
            ("offset", &spec.out.offset),
            ("stride", &spec.out.stride),
            ("d", &d),
        ],
    );
    // `struct NAME_rows`, then keys and values of a page.
    let local = 4 * (ROWS * (d + dp + 64) + ROWS / 6 * (3 * 16 + 1) + 64 + 2 * spec.page_tokens * dp);
    let text = fill(
        include_str!("kernels/attention.c"),
        &[
            ("name", &name),
            ("heads", &spec.heads),
            ("d", &d),
            ("dp", &dp),
            ("size_elements", &(4 / spec.kv.element.bytes())),
            ("local", &local),
            ("panels", &(ROWS / 6)),
            ("block", &ROWS),
            ("type", &element),
            ("scale", &literal(spec.scale)),
            ("q", &spec.q.view),
            ("q_offset", &spec.q.offset),
            ("q_stride", &spec.q.stride),
            ("kv", &spec.kv.view),
            ("slopes", &spec.slopes),
            ("rows", &spec.rows),
            ("pages", &spec.pages),
            ("pages_width", &spec.pages_width),
            ("sequences", &spec.sequences),
            ("t", &spec.page_tokens),
            ("count", &spec.count),
        ],
    );
    let story = format!(
        "/* {name}: attention of {0} heads of {d} columns, ALiBi, over a paged cache of {element}.\n * \
         q, out: [rows, {0}, {d}]; cache: [pages][K, V][{0}][{1} keys x {dp}], K as [{1}/16][{dp}][16]. */\n",
        spec.heads, spec.page_tokens
    );
    let tiles =
        Tiles::Blocks { table: spec.rows, count: spec.sequences, rows: ROWS as u32, columns: spec.heads as u32 };
    Kernel {
        text: story + &store + &text,
        prepare: None,
        main: Phase { symbol: name.into(), tiles },
        shared: SharedScratch::NONE,
        tile_pieces: 0,
        local,
    }
}
