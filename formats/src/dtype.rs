//! The element types that tensor files name.
//!
//! A file may hold types that no model of ours uses: they are all named here so that a refusal can say which one it met.

use std::fmt;

macro_rules! dtypes {
    ($($variant:ident $foreign:ident $name:literal $bits:literal,)*) => {
        /// The type of one element of a stored tensor; little-endian, and named as errors and `--json` print it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each variant is the name of its type")]
        pub enum Dtype {
            $($variant,)*
        }

        impl Dtype {
            /// Every type, in the order of the list.
            pub const ALL: &[Dtype] = &[$(Dtype::$variant,)*];

            /// The name in lower case: `f32`, `bf16`, `i64`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Dtype::$variant => $name,)*
                }
            }

            /// The size of one element in bits; some types are narrower than a byte.
            pub fn bits(self) -> usize {
                match self {
                    $(Dtype::$variant => $bits,)*
                }
            }

            /// Ours for a name in a file's header, such as `BF16`; `None` for a type that a newer release of the format added.
            pub(crate) fn from_safetensors(name: &str) -> Option<Dtype> {
                match name {
                    $(stringify!($foreign) => Some(Dtype::$variant),)*
                    _ => None,
                }
            }

            /// The `safetensors` crate's for ours.
            pub(crate) fn to_safetensors(self) -> ::safetensors::Dtype {
                match self {
                    $(Dtype::$variant => ::safetensors::Dtype::$foreign,)*
                }
            }
        }
    };
}

dtypes! {
    Bool BOOL "bool" 8,
    F4 F4 "f4" 4,
    F6E2m3 F6_E2M3 "f6_e2m3" 6,
    F6E3m2 F6_E3M2 "f6_e3m2" 6,
    U8 U8 "u8" 8,
    I8 I8 "i8" 8,
    F8E5m2 F8_E5M2 "f8_e5m2" 8,
    F8E4m3 F8_E4M3 "f8_e4m3" 8,
    F8E8m0 F8_E8M0 "f8_e8m0" 8,
    F8E4m3Fnuz F8_E4M3FNUZ "f8_e4m3fnuz" 8,
    F8E5m2Fnuz F8_E5M2FNUZ "f8_e5m2fnuz" 8,
    I16 I16 "i16" 16,
    U16 U16 "u16" 16,
    F16 F16 "f16" 16,
    Bf16 BF16 "bf16" 16,
    I32 I32 "i32" 32,
    U32 U32 "u32" 32,
    F32 F32 "f32" 32,
    C64 C64 "c64" 64,
    F64 F64 "f64" 64,
    I64 I64 "i64" 64,
    U64 U64 "u64" 64,
}

/// The types that MindSpore's checkpoints name, as they spell them.
const MINDSPORE: [(Dtype, &str); 13] = [
    (Dtype::Bool, "Bool"),
    (Dtype::U8, "UInt8"),
    (Dtype::I8, "Int8"),
    (Dtype::I16, "Int16"),
    (Dtype::U16, "UInt16"),
    (Dtype::F16, "Float16"),
    (Dtype::Bf16, "BFloat16"),
    (Dtype::I32, "Int32"),
    (Dtype::U32, "UInt32"),
    (Dtype::F32, "Float32"),
    (Dtype::F64, "Float64"),
    (Dtype::I64, "Int64"),
    (Dtype::U64, "UInt64"),
];

impl Dtype {
    /// The name in MindSpore's checkpoints, such as `Float32`; `None` for a type that they cannot hold.
    pub fn mindspore(self) -> Option<&'static str> {
        MINDSPORE.iter().find(|(dtype, _)| *dtype == self).map(|(_, name)| *name)
    }

    /// Ours for MindSpore's name, whose spelling and case are exact.
    pub(crate) fn from_mindspore(name: &str) -> Option<Dtype> {
        MINDSPORE.iter().find(|(_, spelled)| *spelled == name).map(|(dtype, _)| *dtype)
    }

    /// Bytes of a tensor of this type and `shape`; `None` when the count overflows or ends inside a byte.
    pub fn bytes(self, shape: &[usize]) -> Option<usize> {
        let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent))?;
        let bits = elements.checked_mul(self.bits())?;
        (bits % 8 == 0).then_some(bits / 8)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_crate_on_every_type() {
        for &dtype in Dtype::ALL {
            let foreign = dtype.to_safetensors();
            assert_eq!(Dtype::from_safetensors(&foreign.to_string()), Some(dtype));
            assert_eq!(foreign.bitsize(), dtype.bits());
            assert_eq!(foreign.to_string().to_lowercase(), dtype.name());
        }
    }

    #[test]
    fn counts_bytes_without_overflow() {
        assert_eq!(Dtype::Bf16.bytes(&[3, 5]), Some(30));
        assert_eq!(Dtype::F32.bytes(&[]), Some(4));
        assert_eq!(Dtype::F4.bytes(&[3]), None);
        assert_eq!(Dtype::F32.bytes(&[usize::MAX, 2]), None);
    }
}
