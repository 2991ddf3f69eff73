//! The end of a kernel: 16 columns of one row, calculated and stored while they are in registers.

use super::spec::{Binary, Element, Matrix, Step, Store, Stored, Unary};
use super::text::{fill, literal};
use std::collections::BTreeSet;

const FUNCTION: &str = "/* @what@ */
INLINE void @name@(const struct call *c, u32 row, u32 column@parameter@)
{
@lines@}
";

/// `NAME_store(c, row, column, value)`, or `NAME_at(c, row, column)` where there is no value to begin with.
pub(crate) fn function(name: &str, store: &Store, columns: usize) -> String {
    let value = store.steps.contains(&Step::Value);
    let what = match value {
        true => "What becomes of 16 columns of a row of the product, and where they go.",
        false => "16 columns of a row.",
    };
    let parameter = if value { ", vf value" } else { "" };
    let name = format!("{name}_{}", if value { "store" } else { "at" });
    fill(FUNCTION, &[("what", &what), ("name", &name), ("parameter", &parameter), ("lines", &lines(store, columns))])
}

fn lines(store: &Store, columns: usize) -> String {
    let partial = columns % 16 != 0;
    let mut out = String::new();
    if partial {
        out += &format!("    u32 n = min_u32({columns} - column, 16);\n");
    }
    if !uses_row(store) {
        out += "    (void)row;\n";
    }
    for (i, step) in store.steps.iter().enumerate().filter(|(i, _)| live(store).contains(i)) {
        if !matches!(step, Step::Value | Step::Number(_)) {
            out += &format!("    vf t{i} = {};\n", expression(store, step, partial));
        }
    }
    for (step, to) in &store.outputs {
        let value = operand(store, *step);
        let (place, element) = (place(to, ""), to.element.c_name());
        out += &match partial {
            true => format!("    store_some_{element}({place}, {value}, n);\n"),
            false => format!("    vf_store_{element}({place}, {value});\n"),
        };
    }
    out
}

fn uses_row(store: &Store) -> bool {
    !store.outputs.is_empty() || store.steps.iter().any(|s| matches!(s, Step::Matrix(_) | Step::PerRow(_)))
}

/// Steps that an output depends on: generated code is compiled with unused variables as errors.
fn live(store: &Store) -> BTreeSet<usize> {
    let mut found: BTreeSet<usize> = store.outputs.iter().map(|(step, _)| *step).collect();
    for i in (0..store.steps.len()).rev().filter(|i| store.outputs.iter().any(|(s, _)| s >= i)) {
        if found.contains(&i) {
            match store.steps[i] {
                Step::Unary(_, a) => found.extend([a]),
                Step::Binary(_, a, b) => found.extend([a, b]),
                Step::Fma(a, b, c) => found.extend([a, b, c]),
                _ => {}
            }
        }
    }
    found
}

fn operand(store: &Store, step: usize) -> String {
    match store.steps[step] {
        Step::Value => "value".into(),
        Step::Number(x) => format!("vf_all({})", literal(x)),
        _ => format!("t{step}"),
    }
}

fn expression(store: &Store, step: &Step, partial: bool) -> String {
    let of = |i: &usize| operand(store, *i);
    match step {
        Step::Value | Step::Number(_) => unreachable!("operands, not lines"),
        Step::Column(Stored { view, element }) => {
            load(*element, &format!("(const {} *)c->views[{view}] + column", element.c_name()), partial)
        }
        Step::Matrix(matrix) => load(matrix.element, &place(matrix, "const "), partial),
        Step::Scalar(Stored { view, element }) => {
            let element = element.c_name();
            format!("vf_all(f32_of_{element}(*(const {element} *)c->views[{view}]))")
        }
        Step::PerRow(view) => format!("vf_all(((const f32 *)c->views[{view}])[row])"),
        Step::Unary(op, a) => format!("{}({})", unary(*op), of(a)),
        Step::Binary(op, a, b) => format!("{}({}, {})", binary(*op), of(a), of(b)),
        Step::Fma(a, b, c) => format!("vf_fma({}, {}, {})", of(a), of(b), of(c)),
    }
}

fn place(matrix: &Matrix, constant: &str) -> String {
    let Matrix { view, element, stride, offset } = matrix;
    let offset = if *offset == 0 { String::new() } else { format!("{offset} + ") };
    format!("({constant}{} *)c->views[{view}] + {offset}(u64)row * {stride} + column", element.c_name())
}

fn load(element: Element, from: &str, partial: bool) -> String {
    let element = element.c_name();
    match (partial, element) {
        (false, _) => format!("vf_load_{element}({from})"),
        (true, "f32") => format!("load_some({from}, n)"),
        (true, _) => format!("vf_load_{element}_n({from}, n)"),
    }
}

fn unary(op: Unary) -> &'static str {
    match op {
        Unary::Negative => "vf_negative",
        Unary::Absolute => "vf_absolute",
        Unary::Sqrt => "vf_sqrt",
        Unary::Exp => "vf_exp",
        Unary::Log => "vf_log",
        Unary::Tanh => "vf_tanh",
        Unary::OnePlusTanh => "vf_one_plus_tanh",
        Unary::RoundF16 => "vf_round_f16",
        Unary::RoundBf16 => "vf_round_bf16",
    }
}

fn binary(op: Binary) -> &'static str {
    match op {
        Binary::Add => "vf_add",
        Binary::Sub => "vf_sub",
        Binary::Mul => "vf_mul",
        Binary::Div => "vf_div",
        Binary::Max => "vf_max",
        Binary::Min => "vf_min",
    }
}
