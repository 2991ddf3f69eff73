//! Tensors as calls take them: views of buffers, dims and strides in elements.

use super::Sum;
use crate::types::DType;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Element types of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AclType {
    /// `ACL_FLOAT`
    F32,
    /// `ACL_FLOAT16`
    F16,
    /// `ACL_BF16`
    BF16,
    /// `ACL_INT8`
    I8,
    /// `ACL_UINT8`
    U8,
    /// `ACL_INT32`
    I32,
    /// `ACL_INT64`
    I64,
    /// `ACL_BOOL`, a byte
    Bool,
}

impl AclType {
    /// All of them.
    pub const ALL: [AclType; 8] = [
        AclType::F32,
        AclType::F16,
        AclType::BF16,
        AclType::I8,
        AclType::U8,
        AclType::I32,
        AclType::I64,
        AclType::Bool,
    ];

    /// Its name in plans.
    pub fn name(self) -> &'static str {
        match self {
            AclType::F32 => "f32",
            AclType::F16 => "f16",
            AclType::BF16 => "bf16",
            AclType::I8 => "i8",
            AclType::U8 => "u8",
            AclType::I32 => "i32",
            AclType::I64 => "i64",
            AclType::Bool => "bool",
        }
    }

    /// Its name in C.
    pub fn c_name(self) -> &'static str {
        match self {
            AclType::F32 => "ACL_FLOAT",
            AclType::F16 => "ACL_FLOAT16",
            AclType::BF16 => "ACL_BF16",
            AclType::I8 => "ACL_INT8",
            AclType::U8 => "ACL_UINT8",
            AclType::I32 => "ACL_INT32",
            AclType::I64 => "ACL_INT64",
            AclType::Bool => "ACL_BOOL",
        }
    }

    /// Bytes of an element.
    pub fn bytes(self) -> u64 {
        match self {
            AclType::I64 => 8,
            AclType::F32 | AclType::I32 => 4,
            AclType::F16 | AclType::BF16 => 2,
            AclType::I8 | AclType::U8 | AclType::Bool => 1,
        }
    }

    /// Whether values are floating point.
    pub fn is_float(self) -> bool {
        matches!(self, AclType::F32 | AclType::F16 | AclType::BF16)
    }

    /// The type of that name.
    pub fn by_name(name: &str) -> Option<AclType> {
        AclType::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

impl TryFrom<DType> for AclType {
    type Error = DType;

    fn try_from(dtype: DType) -> Result<AclType, DType> {
        AclType::by_name(dtype.name()).ok_or(dtype)
    }
}

impl fmt::Display for AclType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor: dims and strides over a storage, which is a range of a buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AclTensor {
    /// Index of the buffer.
    pub buffer: usize,
    /// Bytes from the buffer's start to the storage: the layer, the page.
    pub base: Sum,
    /// Element type.
    pub dtype: AclType,
    /// The storage's own dims, row major.
    pub storage: Vec<Sum>,
    /// Elements from the storage's start to the view's first.
    pub offset: Sum,
    /// The view's dims.
    pub dims: Vec<Sum>,
    /// Elements from one index to the next, by dimension.
    pub strides: Vec<Sum>,
}

impl AclTensor {
    /// All of a storage.
    pub fn whole(buffer: usize, base: Sum, dtype: AclType, dims: Vec<Sum>) -> AclTensor {
        let strides = row_major(&dims);
        AclTensor { buffer, base, dtype, storage: dims.clone(), offset: Sum::default(), dims, strides }
    }

    /// How many elements.
    pub fn elements(&self) -> Sum {
        Sum::product(&self.dims)
    }

    /// Whether elements lie one after another in order.
    pub fn is_contiguous(&self) -> bool {
        let expected = row_major(&self.dims);
        let one = |dim: &Sum| dim.as_number() == Some(1);
        self.dims.iter().zip(self.strides.iter().zip(&expected)).all(|(dim, (a, b))| one(dim) || a == b)
    }

    /// Dimensions in another order.
    #[must_use]
    pub fn permuted(&self, order: &[usize]) -> AclTensor {
        let dims = order.iter().map(|&i| self.dims[i].clone()).collect();
        let strides = order.iter().map(|&i| self.strides[i].clone()).collect();
        AclTensor { dims, strides, ..self.clone() }
    }

    /// The last two dimensions exchanged: the view by which products know a transposed operand.
    #[must_use]
    pub fn transposed(&self) -> AclTensor {
        let mut order: Vec<usize> = (0..self.dims.len()).collect();
        order.swap(self.dims.len() - 2, self.dims.len() - 1);
        self.permuted(&order)
    }

    /// Indices `from ..` of a dimension, so many.
    #[must_use]
    pub fn narrowed(&self, dim: usize, from: &Sum, length: &Sum) -> AclTensor {
        let mut view = self.clone();
        view.offset = view.offset.plus(&from.times(&view.strides[dim]));
        view.dims[dim] = length.clone();
        view
    }

    /// One index of the first dimension, as a storage of its own.
    #[must_use]
    pub fn entry(&self, index: &Sum) -> AclTensor {
        let bytes = self.strides[0].times(index).times(&Sum::number(self.dtype.bytes()));
        AclTensor {
            base: self.base.plus(&bytes),
            storage: self.storage[1..].to_vec(),
            dims: self.dims[1..].to_vec(),
            strides: self.strides[1..].to_vec(),
            ..self.clone()
        }
    }

    /// With a further first dimension, along which everything is the same.
    #[must_use]
    pub fn repeated(&self, length: &Sum) -> AclTensor {
        let mut view = self.clone();
        view.dims.insert(0, length.clone());
        view.strides.insert(0, Sum::default());
        view
    }

    /// Other dims over the same elements in the same order, where that is a view; `None` where it takes a copy.
    pub fn reshaped(&self, dims: &[Sum]) -> Option<AclTensor> {
        let strides = if self.is_contiguous() { row_major(dims) } else { self.strides_of(dims)? };
        let storage = if self.is_whole() { dims.to_vec() } else { self.storage.clone() };
        Some(AclTensor { dims: dims.to_vec(), strides, storage, ..self.clone() })
    }

    /// Whether it is all of its storage, in order.
    fn is_whole(&self) -> bool {
        self.is_contiguous() && self.dims == self.storage && self.offset == Sum::default()
    }

    /// Strides of other dims: groups of dimensions with equal products, each of which lies in order.
    fn strides_of(&self, dims: &[Sum]) -> Option<Vec<Sum>> {
        let one = Sum::number(1);
        let old: Vec<usize> = (0..self.dims.len()).filter(|&i| self.dims[i] != one).collect();
        let mut strides = vec![one.clone(); dims.len()];
        let (mut i, mut j) = (0, 0);
        while i < old.len() {
            let (first, start) = (i, j);
            let (mut a, mut b) = (self.dims[old[i]].clone(), one.clone());
            i += 1;
            while a != b {
                // Take from the side that has less; names are compared by their largest terms only through equality, so grow
                // the new side first, and the old one when the new dims of this group have run out.
                match dims.get(j) {
                    Some(dim) if b.times(dim) == a || divides(&b.times(dim), &a) => {
                        b = b.times(dim);
                        j += 1;
                    }
                    _ => {
                        let next = *old.get(i)?;
                        let inner = Sum::product([&self.strides[next], &self.dims[next]]);
                        if self.strides[old[i - 1]] != inner {
                            return None;
                        }
                        a = a.times(&self.dims[next]);
                        i += 1;
                    }
                }
            }
            debug_assert!(first < i);
            let mut stride = self.strides[old[i - 1]].clone();
            for k in (start..j).rev() {
                strides[k] = stride.clone();
                stride = stride.times(&dims[k]);
            }
        }
        dims[j..].iter().all(|dim| *dim == one).then_some(strides)
    }
}

/// Whether `a` times something is `b`, as far as numbers and equal texts tell.
fn divides(a: &Sum, b: &Sum) -> bool {
    match (a.as_number(), b.as_number()) {
        (Some(a), Some(b)) => a != 0 && b % a == 0,
        _ => false,
    }
}

/// Strides of elements that lie one after another.
pub(super) fn row_major(dims: &[Sum]) -> Vec<Sum> {
    let mut strides = vec![Sum::number(1); dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].times(&dims[i]);
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(text: &str) -> Vec<Sum> {
        text.split_whitespace().map(|dim| dim.parse().unwrap()).collect()
    }

    #[test]
    fn a_part_of_rows_is_reshaped_as_a_view() {
        let qkv = AclTensor::whole(0, Sum::default(), AclType::F32, dims("N 3 4 8"));
        let key = qkv.narrowed(1, &Sum::number(1), &Sum::number(1)).reshaped(&dims("N 4 8")).unwrap();
        assert_eq!((key.strides.clone(), key.offset.clone()), (dims("96 8 1"), Sum::number(32)));
        let of = key.narrowed(0, &"start+from".parse().unwrap(), &Sum::symbol("rows")).permuted(&[1, 0, 2]);
        assert_eq!(
            (of.dims, of.strides, of.offset.to_string()),
            (dims("4 rows 8"), dims("8 96 1"), "96*from+96*start+32".into())
        );
        // Heads and their dimensions lie in order, rows and heads do not.
        assert_eq!(key.reshaped(&dims("N 32")).unwrap().strides, dims("96 1"));
        assert_eq!(key.reshaped(&dims("N 2 2 8")).unwrap().strides, dims("96 16 8 1"));
        assert!(key.reshaped(&dims("4*N 8")).is_none());
    }

    #[test]
    fn a_page_is_a_storage_of_its_own() {
        let kv = AclTensor::whole(1, "64*layer".parse().unwrap(), AclType::F16, dims("C 2 4 16 8"));
        let keys = kv.entry(&Sum::symbol("page")).entry(&Sum::number(1)).narrowed(
            1,
            &Sum::symbol("first"),
            &Sum::symbol("length"),
        );
        assert_eq!(keys.base.to_string(), "64*layer+2048*page+1024");
        assert_eq!(
            (keys.storage, keys.dims, keys.offset.to_string()),
            (dims("4 16 8"), dims("4 length 8"), "8*first".into())
        );
    }
}
