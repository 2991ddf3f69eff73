//! Text of generated C: templates with `@holes@`, and vector code from steps.

use std::fmt::Write;

/// Fills the `@holes@` of a template. Every hole must be named, and a filling may not bring a new one.
pub(crate) fn fill(template: &str, holes: &[(&str, &dyn std::fmt::Display)]) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut pieces = template.split('@');
    out.push_str(pieces.next().unwrap_or_default());
    while let Some(hole) = pieces.next() {
        let (_, value) =
            holes.iter().find(|(name, _)| *name == hole).unwrap_or_else(|| panic!("no value for @{hole}@"));
        write!(out, "{value}").expect("a string takes all");
        out.push_str(pieces.next().expect("holes come as @name@"));
    }
    out
}

/// A float as a C literal of the same bits.
pub(crate) fn literal(x: f32) -> String {
    match x {
        x if x.is_nan() => "__builtin_nanf(\"\")".into(),
        x if x.is_infinite() => if x > 0.0 { "__builtin_inff()" } else { "-__builtin_inff()" }.into(),
        x => format!("{x:?}f"), // the shortest decimal that reads back as the same float
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_and_floats_keep_their_bits() {
        assert_eq!(fill("a@x@b@y@", &[("x", &1), ("y", &"two")]), "a1btwo");
        assert_eq!(literal(1e-5), "1e-5f");
        assert_eq!(literal(-2.0), "-2.0f");
    }
}
