//! Weights on their way to f16, whose largest number is 65504 and whose smallest is 6e-8: what they lose.
//!
//! Processors keep weights as they are, so there a number beyond the range is a mistake. A device that has no other type
//! takes the largest number there is, as its own arithmetic does, and whoever compiles is told how many there were.

use bloomery_ir::program::Parameter;
use bloomery_ir::{DType, Strided};

use crate::Error;

/// Numbers that are not what they were, but for rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Narrowed {
    /// Beyond the largest, which they became.
    pub(super) overflowed: u64,
    /// Below the smallest, and zero now.
    pub(super) flushed: u64,
}

/// What becomes of a number beyond the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// It is refused.
    Refused,
    /// It becomes the largest.
    Largest,
}

impl Narrowed {
    /// Looks at packed numbers, and at what they were before.
    ///
    /// # Errors
    /// A number beyond the largest, where that is refused.
    pub(super) fn of(
        parameter: &Parameter,
        layer: u64,
        source: &Strided<'_>,
        stored: DType,
        beyond: Beyond,
        packed: &mut [u8],
    ) -> Result<Narrowed, Error> {
        let mut narrowed = Narrowed::default();
        if parameter.ty.dtype != DType::F16 || stored == DType::F16 {
            return Ok(narrowed);
        }
        for pair in packed.chunks_exact_mut(2).filter(|pair| pair[1] & 0x7c == 0x7c) {
            // The largest finite number is one below infinity.
            (pair[0], pair[1]) = (0xff, pair[1] & 0x80 | 0x7b);
            narrowed.overflowed += 1;
        }
        match beyond {
            Beyond::Refused if narrowed.overflowed > 0 => Err(refused(parameter, layer, stored)),
            Beyond::Refused => Ok(narrowed),
            Beyond::Largest => {
                // Padding is zero before and after, and counts on one side alone.
                let numbers = source.shape().iter().product::<usize>();
                let zeros = packed.chunks_exact(2).filter(|pair| pair[0] == 0 && pair[1] & 0x7f == 0).count();
                let padding = packed.len() / 2 - numbers;
                let before = source.tensor(DType::F32).data.iter().filter(|value| **value == 0.0).count();
                narrowed.flushed = (zeros - padding).saturating_sub(before) as u64;
                Ok(narrowed)
            }
        }
    }

    pub(super) fn add(&mut self, other: Narrowed) {
        self.overflowed += other.overflowed;
        self.flushed += other.flushed;
    }

    /// What there is to tell.
    pub(super) fn note(self) -> Option<String> {
        let Narrowed { overflowed, flushed } = self;
        let told = (overflowed, flushed) != (0, 0);
        told.then(|| format!("as f16, {overflowed} weights beyond 65504 became that, and {flushed} below 6e-8 zero"))
    }
}

fn refused(parameter: &Parameter, layer: u64, stored: DType) -> Error {
    let of_layer = if parameter.stacked { format!(" of layer {layer}") } else { String::new() };
    Error::Refused(format!(
        "{}{of_layer} is stored as {stored} and holds values beyond 65504, the largest of f16: use --dtype keep or bf16",
        parameter.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloomery_ir::program::Origin;
    use bloomery_ir::{Layout, TensorType};

    #[test]
    fn numbers_that_f16_does_not_have_are_counted() {
        let values: [f32; 6] = [1.0, 1e6, -7e4, 1e-9, 0.0, 6e-8];
        let source = Strided::made(values.iter().flat_map(|value| value.to_le_bytes()).collect(), DType::F32, vec![6]);
        let parameter = Parameter {
            name: "w".to_owned(),
            ty: TensorType::new(DType::F16, [6u64]),
            stacked: false,
            layout: Layout::RowMajor,
            origin: Origin::Checkpoint,
            cuts: vec![],
        };
        let mut packed = vec![0; 12];
        bloomery_codegen::pack::pack(&source, DType::F16, &Layout::RowMajor, &mut packed);
        let mut copy = packed.clone();
        let narrowed = Narrowed::of(&parameter, 0, &source, DType::F32, Beyond::Largest, &mut copy).unwrap();
        assert_eq!(narrowed, Narrowed { overflowed: 2, flushed: 1 });
        let found: Vec<f64> = (0..6).map(|i| bloomery_ir::tensor::read_element(DType::F16, &copy, i)).collect();
        assert_eq!((found[1], found[2], found[3]), (65504.0, -65504.0, 0.0));
        let error = Narrowed::of(&parameter, 0, &source, DType::F32, Beyond::Refused, &mut packed).unwrap_err();
        assert!(error.to_string().starts_with("w is stored as f32 and holds values beyond 65504"), "{error}");
        // What was infinite before stays so.
        let same = Narrowed::of(&parameter, 0, &source, DType::F16, Beyond::Refused, &mut packed).unwrap();
        assert_eq!(same, Narrowed::default());
    }
}
