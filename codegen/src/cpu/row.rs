//! Kernels over whole rows: layer normalisation and softmax.

use super::kernel::{Kernel, Tiles};
use super::norm;
use super::spec::{RowFunction, RowSpec};
use super::text::fill;

/// Rows of a tile: some 16 thousand elements.
pub(crate) fn rows_of_tile(width: usize) -> usize {
    (16384 / width.max(1)).clamp(1, 64)
}

/// Writes the kernel.
pub(crate) fn emit(name: &str, spec: &RowSpec) -> Kernel {
    let tile = rows_of_tile(spec.width);
    let (what, template, norm) = match &spec.function {
        RowFunction::LayerNorm(norm) => {
            ("layer_norm", include_str!("kernels/layer_norm.c"), norm::function(name, norm, spec.width))
        }
        RowFunction::Softmax => ("softmax", include_str!("kernels/softmax.c"), String::new()),
    };
    let text = fill(
        template,
        &[
            ("name", &name),
            ("norm", &norm),
            ("tile", &tile),
            ("width", &spec.width),
            ("rows", &spec.count),
            ("x", &spec.x.view),
            ("x_offset", &spec.x.offset),
            ("x_stride", &spec.x.stride),
            ("out", &spec.out.view),
            ("out_offset", &spec.out.offset),
            ("out_stride", &spec.out.stride),
        ],
    );
    let story = format!("/* {name}: out[rows, {0}] = {what}(x[rows, {0}]). */\n", spec.width);
    Kernel::simple(name, story + &text, Tiles::Rows { count: spec.count, rows: tile as u32, columns: 1 })
}
