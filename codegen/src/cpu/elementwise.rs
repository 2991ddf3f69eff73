//! Kernels place by place: a group of elementwise operations over `[rows, width]`, 16 columns at a time.

use super::kernel::{Kernel, Tiles};
use super::row::rows_of_tile;
use super::spec::ElementwiseSpec;
use super::store;
use super::text::fill;

/// Writes the kernel.
pub(crate) fn emit(name: &str, spec: &ElementwiseSpec) -> Kernel {
    let tile = rows_of_tile(spec.width);
    let text = fill(
        include_str!("kernels/elementwise.c"),
        &[
            ("name", &name),
            ("store", &store::function(name, &spec.store, spec.width)),
            ("tile", &tile),
            ("width", &spec.width),
            ("rows", &spec.count),
        ],
    );
    let story = format!("/* {name}: place by place over [rows, {}]. */\n", spec.width);
    Kernel::simple(name, story + &text, Tiles::Rows { count: spec.count, rows: tile as u32, columns: 1 })
}
