//! Random operands from a seed.

use bloomery_ir::{Bindings, Tensor, TensorType};

/// splitmix64 (Steele, Lea and Flood 2014): few lines, good bits, any seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// From 0 up to 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ bits >> 31) as f64 / 2_f64.powi(64)
    }

    pub(crate) fn real(&mut self, (least, most): (f64, f64)) -> f64 {
        least + self.unit() * (most - least)
    }

    pub(crate) fn integer(&mut self, (least, most): (i64, i64)) -> i64 {
        (least + (self.unit() * (most - least + 1) as f64) as i64).min(most)
    }

    /// A tensor of this type: reals or integers from their range.
    pub(crate) fn tensor(
        &mut self,
        ty: &TensorType,
        names: &Bindings,
        reals: (f64, f64),
        integers: (i64, i64),
    ) -> Tensor {
        let shape = ty.shape(names).expect("every name has a value");
        let count = shape.iter().product::<usize>();
        let element = |_| if ty.dtype.is_float() { self.real(reals) } else { self.integer(integers) as f64 };
        Tensor::new(ty.dtype, &shape, (0..count).map(element).collect::<Vec<_>>())
    }
}
