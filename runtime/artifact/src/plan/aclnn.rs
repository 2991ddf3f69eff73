//! The calls of the libraries: parameters, and which chip has them on what evidence.
//!
//! `aclnn.tsv` holds 145 of them. Its columns are the evidence: the version of the headers that a prototype was seen in,
//! whether the documents say that a chip has it, and which kernels were in CANN 8.1 for that chip, with the types of their
//! first input.

use bloomery_ir::ascend::{AclType, Chip};
use std::sync::OnceLock;

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `aclTensor*`
    Tensor,
    /// `aclScalar*`
    Scalar,
    /// `aclIntArray*`
    Ints,
    /// `aclBoolArray*`
    Bools,
    /// `aclTensorList*`
    Tensors,
    /// An integer of some width.
    Int,
    /// `double`, `float`
    Real,
    /// `bool`
    Flag,
    /// `char*`
    Text,
    /// `aclDataType`
    Type,
}

impl Kind {
    fn of(c: &str) -> Option<Kind> {
        Some(match c {
            "T" => Kind::Tensor,
            "S" => Kind::Scalar,
            "I" => Kind::Ints,
            "B" => Kind::Bools,
            "L" => Kind::Tensors,
            "int8_t" | "int" | "int32_t" | "int64_t" | "uint64_t" => Kind::Int,
            "double" | "float" => Kind::Real,
            "bool" => Kind::Flag,
            "char*" => Kind::Text,
            "aclDataType" => Kind::Type,
            _ => return None,
        })
    }
}

/// A parameter of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in the prototype.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its type in the prototype: `T` for `aclTensor*`, and so on; C's own types as they are.
    pub c_type: &'static str,
}

impl Parameter {
    /// Whether it may be absent: the prototypes say so in its name, and where they do not, the documents do.
    pub fn is_optional(&self) -> bool {
        const ABSENT: &[&str] =
            &["pseShift", "attenMask", "actualSeqLengths", "actualSeqLengthsKv", "blocktable", "kvPaddingSize", "bias"];
        let quantised = ["deq", "dequant", "quant", "antiquant"].iter().any(|prefix| self.name.starts_with(prefix));
        let pointer = !matches!(self.kind, Kind::Int | Kind::Real | Kind::Flag | Kind::Type | Kind::Text);
        pointer && (self.name.contains("Optional") || quantised || ABSENT.contains(&self.name))
    }

    /// Whether the call writes it.
    pub fn is_output(&self) -> bool {
        let named = ["out", "output", "y", "gradInput", "softmaxLse"].contains(&self.name);
        let written = named || self.name.ends_with("Out") || self.name.ends_with("OutOptional");
        matches!(self.kind, Kind::Tensor | Kind::Tensors) && written
    }

    /// Whether the call reads and writes it.
    pub fn is_both(&self) -> bool {
        matches!(self.kind, Kind::Tensor) && (self.name.ends_with("Ref") || self.name == "data")
    }
}

/// What is known of a call on one chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// Whether the documents say that the chip has it.
    pub documented: bool,
    /// The kernels of CANN 8.1 for it, e.g. `Gelu:f16,f32`; `none` where there is none, `?` where nobody looked.
    pub kernel: &'static str,
}

impl Support {
    /// Whether it can be relied on: the documents have it.
    pub fn is_there(&self) -> bool {
        self.documented
    }

    /// Whether a kernel takes this type as its first input, as far as the list says.
    pub fn takes(&self, dtype: AclType) -> bool {
        let Some((_, types)) = self.kernel.split_once(':') else { return true };
        let name = if dtype == AclType::Bool { "b" } else { dtype.name() };
        types.split(',').any(|known| known == "dyn" || known == name)
    }
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, e.g. `aclnnGelu`.
    pub name: &'static str,
    /// Where its prototype was seen: `8.1+doc`, `8.1`, or `later`.
    pub seen_in: &'static str,
    support: [Support; 2],
    /// Parameters of the first phase, less the last two.
    pub parameters: Vec<Parameter>,
}

impl Function {
    /// What is known of it on a chip.
    pub fn on(&self, chip: Chip) -> &Support {
        &self.support[chip as usize]
    }

    /// The evidence for it on a chip, in a phrase.
    pub fn evidence(&self, chip: Chip) -> String {
        let Support { documented, kernel } = self.on(chip);
        let docs = if *documented { "documented" } else { "not documented" };
        let kernel = match *kernel {
            "none" => "no kernel in the list".to_owned(),
            "?" => "kernel not looked for".to_owned(),
            kernel => format!("kernel {kernel}"),
        };
        format!("header {}, {docs}, {kernel}", self.seen_in)
    }
}

/// All calls, in the order of the table.
///
/// # Panics
/// When the table that is built in is not one.
pub fn functions() -> &'static [Function] {
    static FUNCTIONS: OnceLock<Vec<Function>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| include_str!("aclnn.tsv").lines().skip(1).map(line).collect())
}

/// The call of that name.
pub fn function(name: &str) -> Option<&'static Function> {
    functions().iter().find(|function| function.name == name)
}

fn line(line: &'static str) -> Function {
    let columns: Vec<&str> = line.split('\t').collect();
    let [name, seen_in, documented_a, documented_b, kernel_a, kernel_b, parameters] = columns[..] else {
        panic!("a line of the table has seven columns: {line}");
    };
    let support = |documented: &str, kernel| Support { documented: documented == "Y", kernel };
    let parameter = |text: &'static str| {
        let (c_type, name) = text.split_once(':').expect("a parameter has a type and a name");
        Parameter { name, kind: Kind::of(c_type).expect("the type is known"), c_type }
    };
    Function {
        name,
        seen_in,
        support: [support(documented_a, kernel_a), support(documented_b, kernel_b)],
        parameters: parameters.split(' ').map(parameter).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        assert_eq!(functions().len(), 145);
        let mm = function("aclnnMm").unwrap();
        let kinds: Vec<Kind> = mm.parameters.iter().map(|parameter| parameter.kind).collect();
        assert_eq!(kinds, [Kind::Tensor, Kind::Tensor, Kind::Tensor, Kind::Int]);
        assert!(mm.parameters[2].is_output() && !mm.parameters[1].is_output());
        let gelu = function("aclnnGelu").unwrap();
        assert!(gelu.on(Chip::A910).takes(AclType::F32) && !gelu.on(Chip::A910).takes(AclType::BF16));
        assert!(gelu.on(Chip::B910).takes(AclType::BF16));
        assert_eq!(gelu.evidence(Chip::A910), "header 8.1+doc, documented, kernel Gelu:f16,f32");
        assert!(!function("aclnnPromptFlashAttentionV3").unwrap().on(Chip::A910).is_there());
    }
}
