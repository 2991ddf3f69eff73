//! Tensor types: element type, extents, and where the pieces lie on a mesh of ranks.
//!
//! Written `f16[24, hidden=64, ffn=256@mp] partial(dp)`: a dimension may carry the *logical axis* a strategy maps to
//! mesh axes (`hidden`), and the mesh axis that splits it (`@mp`); `partial` names the axes over which a sum is still
//! owed. Before `partition` extents are global; after it they are local (`256/mp`).

use crate::extent::{Bindings, Extent, ExtentError};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of binary32.
    BF16,
    /// 32-bit two's complement.
    I32,
    /// 8-bit two's complement.
    I8,
    /// Unsigned nibbles, two in a byte, the even index low.
    U4,
}

impl DType {
    /// All of them, in order of declaration.
    pub const ALL: [DType; 6] = [DType::F32, DType::F16, DType::BF16, DType::I32, DType::I8, DType::U4];

    /// Bits one element takes.
    pub fn bits(self) -> u64 {
        match self {
            DType::F32 | DType::I32 => 32,
            DType::F16 | DType::BF16 => 16,
            DType::I8 => 8,
            DType::U4 => 4,
        }
    }

    /// Bytes that `elements` of them take, packed.
    pub fn bytes(self, elements: u64) -> u64 {
        (elements * self.bits()).div_ceil(8)
    }

    /// Whether values are floating point.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16)
    }

    /// The type that arithmetic between two floats has: their own when equal, else f32.
    pub fn promote(self, other: DType) -> DType {
        if self == other { self } else { DType::F32 }
    }

    /// Its name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I32 => "i32",
            DType::I8 => "i8",
            DType::U4 => "u4",
        }
    }

    /// The type of that name.
    pub fn by_name(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One dimension of a type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dim {
    /// How long it is.
    pub extent: Extent,
    /// The logical axis a strategy knows it by; only inputs and parameters carry one.
    pub logical: Option<String>,
    /// The mesh axis that splits it.
    pub split: Option<String>,
}

impl<E: Into<Extent>> From<E> for Dim {
    fn from(extent: E) -> Dim {
        Dim { extent: extent.into(), logical: None, split: None }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(logical) = &self.logical {
            write!(f, "{logical}=")?;
        }
        write!(f, "{}", self.extent)?;
        if let Some(split) = &self.split {
            write!(f, "@{split}")?;
        }
        Ok(())
    }
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub dims: Vec<Dim>,
    /// Mesh axes over which a sum is owed, in the mesh's order.
    pub partial: Vec<String>,
}

impl TensorType {
    /// A type without placement.
    pub fn new<D: Into<Dim>>(dtype: DType, dims: impl IntoIterator<Item = D>) -> TensorType {
        TensorType { dtype, dims: dims.into_iter().map(Into::into).collect(), partial: Vec::new() }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The extents, outermost first.
    pub fn extents(&self) -> impl Iterator<Item = &Extent> {
        self.dims.iter().map(|dim| &dim.extent)
    }

    /// The same type with other elements.
    #[must_use]
    pub fn with_dtype(&self, dtype: DType) -> TensorType {
        TensorType { dtype, ..self.clone() }
    }

    /// The same type without logical axis names, as values inside a graph have it.
    #[must_use]
    pub fn unnamed(&self) -> TensorType {
        let dims = self.dims.iter().map(|dim| Dim { logical: None, ..dim.clone() }).collect();
        TensorType { dims, ..self.clone() }
    }

    /// The type of one element of the first dimension, as a repeat's body sees a stacked operand.
    pub fn inner(&self) -> TensorType {
        TensorType { dims: self.dims[1..].to_vec(), ..self.clone() }
    }

    /// This type stacked `count` times along a new first dimension.
    pub fn stacked(&self, count: u64) -> TensorType {
        let mut dims = vec![Dim::from(count)];
        dims.extend(self.dims.iter().cloned());
        TensorType { dims, ..self.clone() }
    }

    /// The extents as numbers.
    ///
    /// # Errors
    /// A name without a value, a division with a remainder.
    pub fn shape(&self, bindings: &Bindings) -> Result<Vec<usize>, ExtentError> {
        self.extents().map(|extent| extent.eval(bindings).map(|n| n as usize)).collect()
    }

    /// Number of elements under these bindings.
    ///
    /// # Errors
    /// As [`TensorType::shape`], and products beyond 64 bits.
    pub fn elements(&self, bindings: &Bindings) -> Result<u64, ExtentError> {
        self.extents().fold(Extent::number(1), |product, extent| product.times(extent)).eval(bindings)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, dim) in self.dims.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")?;
        if !self.partial.is_empty() {
            write!(f, " partial({})", self.partial.join(", "))?;
        }
        Ok(())
    }
}

/// The axes that ranks are arranged along, outermost first, e.g. `pp=2, dp=2, mp=4`. No axes: one rank.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// Name and size of each axis.
    pub axes: Vec<(String, u64)>,
}

impl Mesh {
    /// Number of ranks.
    pub fn ranks(&self) -> u64 {
        self.axes.iter().map(|(_, size)| size).product()
    }

    /// The size of an axis.
    pub fn size(&self, axis: &str) -> Option<u64> {
        self.axes.iter().find(|(name, _)| name == axis).map(|(_, size)| *size)
    }

    /// The coordinate of a rank along an axis; the last axis is fastest.
    pub fn coordinate(&self, rank: u64, axis: &str) -> Option<u64> {
        let position = self.axes.iter().position(|(name, _)| name == axis)?;
        let inner: u64 = self.axes[position + 1..].iter().map(|(_, size)| size).product();
        Some(rank / inner % self.axes[position].1)
    }

    /// The ranks that differ from `rank` along `axis` only, in order of that coordinate, `rank` among them.
    pub fn group(&self, rank: u64, axis: &str) -> Vec<u64> {
        let same = |other: u64| {
            let differs = |(name, _): &&(String, u64)| {
                name != axis && self.coordinate(rank, name) != self.coordinate(other, name)
            };
            self.axes.iter().find(differs).is_none()
        };
        (0..self.ranks()).filter(|&other| same(other)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_the_last_axis_fastest() {
        let mesh = Mesh { axes: vec![("pp".into(), 2), ("mp".into(), 4)] };
        assert_eq!(mesh.ranks(), 8);
        assert_eq!((mesh.coordinate(6, "pp"), mesh.coordinate(6, "mp")), (Some(1), Some(2)));
        assert_eq!(mesh.group(6, "pp"), [2, 6]);
        assert_eq!(mesh.group(6, "mp"), [4, 5, 6, 7]);
    }
}
