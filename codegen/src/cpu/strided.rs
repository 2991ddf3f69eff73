//! Elements moved between strided arrangements: the fallback for movement that no other kernel absorbs.

use super::kernel::{Kernel, Tiles};
use super::spec::{Extent, StridedSpec};
use super::text::fill;

/// Writes the kernel.
pub(crate) fn emit(name: &str, spec: &StridedSpec) -> Kernel {
    let unit = match spec.bytes {
        1 => "u8",
        2 => "u16",
        4 => "u32",
        bytes => panic!("elements of {bytes} bytes"),
    };
    let text = fill(
        include_str!("kernels/strided.c"),
        &[
            ("name", &name),
            ("unit", &unit),
            ("x", &spec.x.0),
            ("x_offset", &spec.x.1),
            ("out", &spec.out.0),
            ("out_offset", &spec.out.1),
            ("loops", &loops(spec)),
        ],
    );
    let tiles = match spec.loops[0].0 {
        Extent::Number(count) => Tiles::Fixed(count as u32),
        Extent::Dim(dim) => Tiles::Rows { dim, rows: 1, columns: 1 },
    };
    Kernel::simple(name, format!("/* {name}: moves elements. */\n{text}"), tiles)
}

fn loops(spec: &StridedSpec) -> String {
    let mut out = String::new();
    for (i, (extent, ..)) in spec.loops.iter().enumerate().skip(1) {
        let end = match extent {
            Extent::Number(n) => n.to_string(),
            Extent::Dim(dim) => format!("c->dims[{dim}]"),
        };
        out += &format!("{:1$}for (u32 i{i} = 0; i{i} < {end}; i{i}++)\n", "", 4 + 4 * i);
    }
    let index = |stride: fn(&(Extent, usize, usize)) -> usize| {
        let terms: Vec<String> =
            spec.loops.iter().enumerate().map(|(i, l)| format!("(u64)i{i} * {}", stride(l))).collect();
        terms.join(" + ")
    };
    let indent = 4 + 4 * spec.loops.len();
    out + &format!("{:indent$}to[{}] = from[{}];\n", "", index(|l| l.2), index(|l| l.1))
}
