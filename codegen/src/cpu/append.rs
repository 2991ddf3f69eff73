//! The cache's writer: new keys and values go to the pages of their sequences, in the layout attention reads.

use super::kernel::{Kernel, Tiles};
use super::spec::{CacheAppendSpec, Element};
use super::text::fill;

/// Rows of a tile.
const ROWS: usize = 16;

/// Writes the kernel.
pub(crate) fn emit(name: &str, spec: &CacheAppendSpec) -> Kernel {
    let (d, dp) = (spec.d, spec.d.next_multiple_of(16));
    assert!(spec.kv.element != Element::Bf16, "caches are f32 or f16");
    let text = fill(
        include_str!("kernels/append.c"),
        &[
            ("name", &name),
            ("heads", &spec.heads),
            ("d", &d),
            ("dp", &dp),
            ("size_elements", &(4 / spec.kv.element.bytes())),
            ("tile", &ROWS),
            ("type", &spec.kv.element.c_name()),
            ("kv", &spec.kv.view),
            ("k", &spec.k.view),
            ("k_offset", &spec.k.offset),
            ("k_stride", &spec.k.stride),
            ("v", &spec.v.view),
            ("v_offset", &spec.v.offset),
            ("v_stride", &spec.v.stride),
            ("rows", &spec.rows),
            ("pages", &spec.pages),
            ("count", &spec.count),
            ("pages_width", &spec.pages_width),
            ("sequences", &spec.sequences),
            ("t", &spec.page_tokens),
        ],
    );
    let story = format!("/* {name}: keys and values [rows, {}, {d}] into the cache. */\n", spec.heads);
    Kernel::simple(name, story + &text, Tiles::Rows { count: spec.count, rows: ROWS as u32, columns: 1 })
}
