//! Rows of a table by their ids, from a row-major table or from the head's panels, normalised on the way if asked. Where
//! ranks share the rows, each gives those it has, and zeros for the others.

use super::kernel::{Kernel, Tiles};
use super::norm;
use super::spec::GatherSpec;
use super::text::fill;

/// Writes the kernel.
pub(crate) fn emit(name: &str, spec: &GatherSpec) -> Kernel {
    let (width, pair) = (spec.width, spec.table.element.pair());
    let (layout, element) = match spec.panels {
        false => ("The table is [rows][WIDTH].".into(), "(u64)id * WIDTH + k".into()),
        true => (
            format!("The table lies in panels of 16 ids, [rows/16][WIDTH/{pair}][16][{pair}]."),
            format!(
                "(u64)(id / 16) * {} + k / {pair} * {} + id % 16 * {pair} + k % {pair}",
                width.next_multiple_of(pair) * 16,
                16 * pair
            ),
        ),
    };
    let norm = spec.norm.as_ref().map(|norm| norm::function(name, norm, width)).unwrap_or_default();
    let apply = if spec.norm.is_some() { format!("        {name}_norm(c, to, to);\n") } else { String::new() };
    let out_type = spec.out.element.c_name();
    let convert = match spec.out.element == spec.table.element {
        true => String::new(),
        false => format!("{out_type}_of_{}", spec.table.element.c_name()),
    };
    let (first, id) = match spec.place {
        None => (String::new(), "min_u32((u32)ids[row], table_rows - 1);".to_owned()),
        Some(place) => (
            format!("    const u32 first = *(const u32 *)c->views[{place}] * table_rows; /* of this rank's rows */\n"),
            "(u32)ids[row] - first;\n        \
             if (id >= table_rows) { /* another rank has it */\n            \
             for (u32 k = 0; k < WIDTH; k++) to[k] = 0;\n            \
             continue;\n        \
             }"
            .to_owned(),
        ),
    };
    let text = fill(
        include_str!("kernels/gather.c"),
        &[
            ("out_type", &out_type),
            ("convert", &convert),
            ("name", &name),
            ("norm", &norm),
            ("apply", &apply),
            ("layout", &layout),
            ("element", &element),
            ("width", &width),
            ("table_rows", &spec.table_rows),
            ("type", &spec.table.element.c_name()),
            ("table", &spec.table.view),
            ("ids", &spec.ids),
            ("first", &first),
            ("id", &id),
            ("out", &spec.out.view),
            ("out_offset", &spec.out.offset),
            ("out_stride", &spec.out.stride),
        ],
    );
    let story = format!("/* {name}: out[rows, {width}] = table[ids[rows]], of {} rows. */\n", spec.table_rows);
    Kernel::simple(name, story + &text, Tiles::Rows { count: spec.count, rows: 1, columns: 1 })
}
