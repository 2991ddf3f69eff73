//! The names from Python that a state dict needs: these, and no other, are known.

use crate::Dtype;

/// A function or class that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`, called with nothing: an empty dict.
    OrderedDict,
    /// A tensor of a storage, an offset, a size and strides; what follows says nothing about its values.
    RebuildTensor,
    /// The same with a type of its own, for storages that have none.
    RebuildTyped,
    /// A tensor that is trained, made of one that is not.
    RebuildParameter,
    /// A type of storages.
    Storage(Dtype),
    /// Storages that are bytes.
    UntypedStorage,
    /// A type of elements.
    Dtype(Dtype),
}

/// The global of that name, if it is harmless.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
        ("torch._utils", "_rebuild_tensor_v3") => Some(Global::RebuildTyped),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Global::RebuildParameter),
        ("torch.storage" | "torch", "UntypedStorage") => Some(Global::UntypedStorage),
        ("torch", name) => dtype(name),
        _ => None,
    }
}

/// torch's types of storages, by the name before `Storage`; and of elements. Types that no weight has are known so that
/// masks can be passed over and a refusal names the type.
const TYPES: &[(&str, &str, Dtype)] = &[
    ("Float", "float32", Dtype::F32),
    ("Half", "float16", Dtype::F16),
    ("BFloat16", "bfloat16", Dtype::Bf16),
    ("Double", "float64", Dtype::F64),
    ("Long", "int64", Dtype::I64),
    ("Int", "int32", Dtype::I32),
    ("Short", "int16", Dtype::I16),
    ("Char", "int8", Dtype::I8),
    ("Byte", "uint8", Dtype::U8),
    ("Bool", "bool", Dtype::Bool),
    ("ComplexFloat", "complex64", Dtype::C64),
    ("", "uint16", Dtype::U16),
    ("", "uint32", Dtype::U32),
    ("", "uint64", Dtype::U64),
    ("", "float8_e5m2", Dtype::F8E5m2),
    ("", "float8_e4m3fn", Dtype::F8E4m3),
    ("", "float8_e5m2fnuz", Dtype::F8E5m2Fnuz),
    ("", "float8_e4m3fnuz", Dtype::F8E4m3Fnuz),
    ("", "float8_e8m0fnu", Dtype::F8E8m0),
];

fn dtype(name: &str) -> Option<Global> {
    let storage = name.strip_suffix("Storage").filter(|kind| !kind.is_empty());
    let of_storage = |kind| TYPES.iter().find(|row| row.0 == kind).map(|row| Global::Storage(row.2));
    let of_elements = || TYPES.iter().find(|row| row.1 == name).map(|row| Global::Dtype(row.2));
    storage.and_then(of_storage).or_else(of_elements)
}
