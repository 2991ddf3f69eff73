//! Layer normalisation of one row, as a function that other kernels call.

use super::spec::Norm;
use super::text::{fill, literal};

/// `NAME_norm(c, x, to)`: writes the normalised row to `to` and returns it.
pub(crate) fn function(name: &str, norm: &Norm, width: usize) -> String {
    let (gamma_type, beta_type) = (norm.gamma.element.c_name(), norm.beta.element.c_name());
    let types: [(&str, &dyn std::fmt::Display); 2] = [("gamma_type", &gamma_type), ("beta_type", &beta_type)];
    let tail = if width % 16 == 0 { String::new() } else { fill(include_str!("kernels/norm_tail.c"), &types) };
    fill(
        include_str!("kernels/norm.c"),
        &[
            ("name", &name),
            ("width", &width),
            ("gamma_type", &gamma_type),
            ("beta_type", &beta_type),
            ("gamma", &norm.gamma.view),
            ("beta", &norm.beta.view),
            ("epsilon", &literal(norm.epsilon)),
            ("whole", if width % 16 == 0 { &"" } else { &", WHOLE = WIDTH / 16 * 16" }),
            ("tail", &tail),
        ],
    )
}
