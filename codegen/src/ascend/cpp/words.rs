//! Names and numbers of a plan as C++ has them.

use bloomery_ir::ascend::{AclType, Sum};
use half::{bf16, f16};

/// What names may not be: words of the language, and what the emitted file calls its own things in functions.
const TAKEN: &[&str] = &[
    "alignas",
    "alignof",
    "and",
    "asm",
    "auto",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "const",
    "constexpr",
    "continue",
    "default",
    "delete",
    "do",
    "double",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "nullptr",
    "operator",
    "or",
    "private",
    "protected",
    "public",
    "register",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "template",
    "this",
    "throw",
    "true",
    "try",
    "typedef",
    "typename",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "while",
    "xor",
    "d",
    "n",
    "memory",
    "sequence",
    "sequences",
    "std",
    "main",
    "Buffer",
    "Device",
    "Dims",
    "Ints",
    "Scalar",
    "Sequence",
    "Sizes",
    "Tensor",
    "Tensors",
    "WEIGHTS",
    "CACHE",
    "IO",
    "VALUES",
    "TEMPORARIES",
    "WORKSPACE",
    "ARENAS",
    "TRY",
    "CALL",
    "NULL",
    "EOF",
];

/// A name as an identifier: what else is in it becomes an underscore. Two names may come out as one; see [`Unique`].
pub(super) fn identifier(name: &str) -> String {
    let mut text: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    // Two underscores in a row, and one before a capital at the beginning, are the compiler's own.
    while text.contains("__") {
        text = text.replace("__", "_");
    }
    let text = text.trim_matches('_');
    let letter = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let text = if letter { text.to_owned() } else { format!("x{text}") };
    if TAKEN.contains(&&text[..]) { text + "_" } else { text }
}

/// Identifiers of which no two are alike, in one scope.
#[derive(Default)]
pub(super) struct Unique(std::collections::BTreeSet<String>);

impl Unique {
    /// Beside names that are taken.
    pub(super) fn beside<'a>(taken: impl IntoIterator<Item = &'a String>) -> Unique {
        Unique(taken.into_iter().cloned().collect())
    }

    /// An identifier for one more name.
    pub(super) fn name(&mut self, name: &str) -> String {
        let first = identifier(name);
        let numbered = (2..).map(|i| format!("{}_{i}", first.trim_end_matches('_')));
        let free = std::iter::once(first.clone()).chain(numbered).find(|name| !self.0.contains(name));
        let free = free.expect("there are enough numbers");
        self.0.insert(free.clone());
        free
    }
}

/// Names of the whole file, by what they stand for: axes and communicators are constants with a prefix.
pub(super) fn constant(prefix: &str, name: &str) -> String {
    format!("{prefix}_{}", name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>())
}

/// A sum as an expression. Names of sums are letters, digits and underscores already.
pub(super) fn sum(sum: &Sum) -> String {
    let text = sum.to_string();
    let mut out = String::with_capacity(text.len());
    let mut rest = &text[..];
    while !rest.is_empty() {
        let of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !of_word(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        out += &if word.starts_with(|c: char| c.is_ascii_alphabetic()) { identifier(word) } else { word.to_owned() };
        let mut chars = tail.chars();
        match chars.next() {
            Some('+') => out += " + ",
            Some('*') => out += " * ",
            Some('/') => out += " / ",
            Some(other) => out.push(other),
            None => {}
        }
        rest = chars.as_str();
    }
    out
}

/// `{N, 4096}`
pub(super) fn dims(dims: &[Sum]) -> String {
    format!("{{{}}}", dims.iter().map(sum).collect::<Vec<String>>().join(", "))
}

/// Text as a literal.
pub(super) fn text(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' | '?' => format!("\\{c}"),
        c if c.is_ascii_graphic() || c == ' ' => c.to_string(),
        c => c.to_string().bytes().map(|byte| format!("\\{byte:03o}")).collect(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// Text for a comment to the line's end.
pub(super) fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_control() || c == '\\' { ' ' } else { c }).collect()
}

/// A number as a `double`.
pub(super) fn real(number: f64) -> String {
    match number {
        number if number.is_nan() => "std::nan(\"\")".to_owned(),
        number if number.is_infinite() => format!("{}HUGE_VAL", if number > 0.0 { "" } else { "-" }),
        number => format!("{number:?}"),
    }
}

/// An integer.
pub(super) fn int(number: i64) -> String {
    match number {
        i64::MIN => "INT64_MIN".to_owned(),
        number if number == i64::from(i32::MAX) => "INT32_MAX".to_owned(),
        number => number.to_string(),
    }
}

/// A number of an element type, as that type's bits.
pub(super) fn scalar(number: f64, dtype: AclType) -> String {
    let real = real(number);
    match dtype {
        AclType::F32 => format!("float({real})"),
        AclType::F16 => format!("uint16_t({:#06x} /* {real} */)", f16::from_f64(number).to_bits()),
        AclType::BF16 => format!("uint16_t({:#06x} /* {real} */)", bf16::from_f64(number).to_bits()),
        other => format!("{}({real})", c_type(other)),
    }
}

/// The C++ type of a scalar of an element type; 16-bit floats are given as `float`.
pub(super) fn c_type(dtype: AclType) -> &'static str {
    match dtype {
        AclType::F32 | AclType::F16 | AclType::BF16 => "float",
        AclType::I8 => "int8_t",
        AclType::U8 => "uint8_t",
        AclType::I32 => "int32_t",
        AclType::I64 => "int64_t",
        AclType::Bool => "bool",
    }
}

/// HCCL's name of an element type.
pub(super) fn hccl_type(dtype: AclType) -> &'static str {
    match dtype {
        AclType::F32 => "HCCL_DATA_TYPE_FP32",
        AclType::F16 => "HCCL_DATA_TYPE_FP16",
        AclType::BF16 => "HCCL_DATA_TYPE_BFP16",
        AclType::I8 => "HCCL_DATA_TYPE_INT8",
        AclType::U8 | AclType::Bool => "HCCL_DATA_TYPE_UINT8",
        AclType::I32 => "HCCL_DATA_TYPE_INT32",
        AclType::I64 => "HCCL_DATA_TYPE_INT64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_languages() {
        assert_eq!(
            ["h.0.w", "a b", "7", "for", "N", "__x", ""].map(identifier),
            ["h_0_w", "a_b", "x7", "for_", "N", "x", "x"]
        );
        let mut names = Unique::default();
        assert_eq!(["a.b", "a b", "a_b", "d"].map(|name| names.name(name)), ["a_b", "a_b_2", "a_b_3", "d_"]);
        assert_eq!(sum(&"8*first+2*n/mp+1".parse().unwrap()), "2 * n_ / mp + 8 * first + 1");
        assert_eq!(text("B\"N\\\u{e9}"), "\"B\\\"N\\\\\\303\\251\"");
    }

    #[test]
    fn numbers_keep_their_bits() {
        assert_eq!(scalar(0.1, AclType::F32), "float(0.1)");
        assert_eq!(scalar(1.0, AclType::F16), "uint16_t(0x3c00 /* 1.0 */)");
        assert_eq!(
            (int(i64::MIN), int(-7), real(f64::NEG_INFINITY)),
            ("INT64_MIN".into(), "-7".into(), "-HUGE_VAL".into())
        );
    }
}
