//! Plain nested loops: the fallback for what no other kernel takes. Right, not fast.

use super::kernel::{Kernel, Tiles};
use super::spec::{Element, Fold, LoopsSpec, Nest, Strided};

/// Writes the kernel. A tile is one step of the outermost loop.
pub(crate) fn emit(name: &str, spec: &LoopsSpec) -> Kernel {
    let nests: String = spec.pieces.iter().map(nest).collect();
    let text = format!(
        "/* {name}: plain loops; a tile is one step of the outermost. */\n\
         void {name}(const struct call *c, u32 begin, u32 end)\n{{\n    \
         for (u32 i0 = begin; i0 < end; i0++) {{\n{nests}    }}\n}}\n"
    );
    let count = spec.pieces[0].extents[0];
    Kernel::simple(name, text, Tiles::Rows { count, rows: 1, columns: 1 })
}

fn nest(nest: &Nest) -> String {
    let loops = |range: std::ops::Range<usize>| -> String {
        range.map(|i| format!("for (u32 i{i} = 0; i{i} < {}; i{i}++) ", nest.extents[i])).collect()
    };
    let (outer, inner) = (loops(1..nest.kept), loops(nest.kept..nest.extents.len()));
    let (target, narrow) = (place(&nest.out, ""), narrow(nest.out.element));
    let read: Vec<String> = nest.operands.iter().map(element).collect();
    if nest.fold == Fold::Copy && nest.operands[0].element == nest.out.element {
        return format!("        {outer}{target} = {};\n", place(&nest.operands[0], "const "));
    }
    let (start, step) = match nest.fold {
        Fold::Copy => ("0", format!("sum = {};", read[0])),
        Fold::Sum => ("0", format!("sum += {};", read[0])),
        Fold::Max => ("-__builtin_inff()", format!("sum = sum > {0} ? sum : {0};", read[0])),
        Fold::Product => ("0", format!("sum = fma_f32({}, {}, sum);", read[0], read[1])),
    };
    format!(
        "        {outer}{{\n            f32 sum = {start};\n            {inner}{step}\n            {target} = {narrow}(sum);\n        }}\n"
    )
}

fn element(operand: &Strided) -> String {
    format!("f32_of_{}({})", operand.element.c_name(), place(operand, "const "))
}

fn narrow(element: Element) -> String {
    format!("{}_of_f32", element.c_name())
}

fn place(strided: &Strided, constant: &str) -> String {
    let Strided { view, element, offset, strides } = strided;
    let steps = strides.iter().enumerate().filter(|(_, stride)| **stride != 0);
    let terms: String = steps.map(|(i, stride)| format!(" + (u64)i{i} * {stride}")).collect();
    format!("(({constant}{} *)c->views[{view}])[{offset}{terms}]", element.c_name())
}
