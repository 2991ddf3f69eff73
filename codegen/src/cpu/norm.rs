//! Layer normalisation of one row, as a function that other kernels call.

use super::spec::{Norm, Stored};
use super::text::{fill, literal};

/// `NAME_norm(c, x, to)`: writes the normalised row to `to` and returns it.
pub(crate) fn function(name: &str, norm: &Norm, width: usize) -> String {
    let (vectors, [gamma, beta], rest) = match norm.affine {
        Some((gamma, beta)) => (
            vector("gamma", gamma) + &vector("beta", beta),
            [("gamma", gamma), ("beta", beta)].map(|(name, of)| format!("vf_load_{}({name} + i)", of.element.c_name())),
            [("gamma", gamma), ("beta", beta)]
                .map(|(name, of)| format!("vf_load_{}_n({name} + WHOLE, WIDTH - WHOLE)", of.element.c_name())),
        ),
        None => ("    (void)c;\n".to_owned(), plain(), plain()),
    };
    let tail = match width % 16 {
        0 => String::new(),
        _ => fill(include_str!("kernels/norm_tail.c"), &[("gamma", &rest[0]), ("beta", &rest[1])]),
    };
    fill(
        include_str!("kernels/norm.c"),
        &[
            ("name", &name),
            ("width", &width),
            ("vectors", &vectors),
            ("gamma", &gamma),
            ("beta", &beta),
            ("epsilon", &literal(norm.epsilon)),
            ("whole", if width % 16 == 0 { &"" } else { &", WHOLE = WIDTH / 16 * 16" }),
            ("tail", &tail),
        ],
    )
}

/// The line that declares a vector of parameters.
fn vector(name: &str, of: Stored) -> String {
    format!("    const {} *{name} = c->views[{}];\n", of.element.c_name(), of.view)
}

/// The factor and shift of a norm that has none.
fn plain() -> [String; 2] {
    ["vf_all(1.0f)", "vf_all(0.0f)"].map(str::to_owned)
}
