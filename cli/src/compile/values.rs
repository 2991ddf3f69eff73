//! The values of a model's weights, a part at a time: from its mapped checkpoint, from files of ranks that share it, or made
//! of a seed.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bloomery_formats::Tensor;
use bloomery_formats::mindspore::MindsporeCheckpoint;
use bloomery_ir::pieces::Cut;
use bloomery_ir::{DType, Strided};
use bloomery_models::load::{Stored, View, read_parameter, view};
use bloomery_models::names::{self, Resolved};

use super::model::{Loaded, Weights};
use super::random;
use crate::Error;
use crate::checkpoint::Whole;
use crate::stored::StoredTensors;

/// A weight's name, which layer of it, and its values.
type Kept = (String, Option<u64>, Strided<'static>);

/// Weights by the names that a model's description has for them.
pub(super) struct Values<'a> {
    loaded: &'a Loaded,
    /// The large weight that was made last, random or of pieces: its parts are often asked for one after another, small ones between.
    /// Threads that want one wait for whoever makes it.
    last: Mutex<Option<Kept>>,
    /// Why the first of those that could not be read could not.
    failed: Mutex<Option<Error>>,
}

impl<'a> Values<'a> {
    pub(super) fn of(loaded: &'a Loaded) -> Values<'a> {
        Values { loaded, last: Mutex::new(None), failed: Mutex::new(None) }
    }

    /// The type that a weight is stored in.
    pub(super) fn dtype(&self, name: &str) -> DType {
        self.loaded.weights.dtype(name).into()
    }

    /// Whether all that was asked for is what was stored. What cannot be read, such as a damaged encrypted block, comes as
    /// zeros, so that graphs of weights need not know of it.
    pub(super) fn sound(&self) -> Result<(), Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    fn or_zeros(&self, read: Result<Vec<u8>, Error>, bytes: usize) -> Arc<Vec<u8>> {
        Arc::new(read.unwrap_or_else(|error| {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            vec![0; bytes]
        }))
    }

    /// A weight, or one layer of it: all, or the part that `cut` names.
    pub(super) fn part(&self, name: &str, layer: Option<u64>, cut: Option<Cut>) -> Strided<'a> {
        let whole = match (&self.loaded.weights, &cut) {
            (Weights::Stored { checkpoint: StoredTensors::Common(checkpoint), resolved }, _) => {
                let stored = |name: &str| {
                    let Tensor { bytes, dtype, strides, .. } = checkpoint.tensor(name)?;
                    Some(Stored { bytes, dtype: DType::by_name(dtype.name())?, strides })
                };
                read_parameter(&self.loaded.config, resolved, name, layer.map(|layer| layer as usize), stored)
            }
            (Weights::Stored { checkpoint: StoredTensors::MindSpore(checkpoint), resolved }, _) => {
                self.mindspore(checkpoint, resolved, name, layer)
            }
            (Weights::Stored { checkpoint: StoredTensors::Ranks(whole), resolved }, _) => {
                return self.of_ranks(whole, resolved, name, layer, cut);
            }
            // Pieces along the outermost dimension are made one by one, others from all values.
            (Weights::Random(seed), Some(Cut { dim: 0, range })) => {
                let mut shape = self.parameter(name).shape();
                shape[0] = range.len();
                let row: usize = shape[1..].iter().product();
                return random_values(*seed, name, layer, range.start * row, shape);
            }
            (Weights::Random(seed), _) => self.random(*seed, name, layer),
        };
        match cut {
            Some(cut) => whole.range(cut.dim, cut.range),
            None => whole,
        }
    }

    /// A weight of MindSpore's, where it lies; one that is cut into pieces or encrypted is put together, and kept for its
    /// next part.
    fn mindspore(
        &self,
        checkpoint: &'a MindsporeCheckpoint,
        resolved: &Resolved,
        name: &str,
        layer: Option<u64>,
    ) -> Strided<'a> {
        let config = &self.loaded.config;
        let source = resolved.source(config, name, layer.map(|layer| layer as usize));
        let entry = checkpoint.entry(&resolved.stored_name(&source)).expect("`resolve` saw every tensor");
        let dtype = entry.dtype().and_then(|dtype| DType::by_name(dtype.name())).expect("`resolve` saw its type");
        let View { shape, offset, strides } = view(config, &source, name, &row_major(&entry.shape));
        let lies_together = !entry.is_cut() && !checkpoint.is_encrypted();
        if let Some(Ok(Cow::Borrowed(bytes))) = lies_together.then(|| checkpoint.bytes(entry)) {
            return Strided::new(bytes, dtype, shape, offset, strides);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(values) = kept(&last, name, layer) {
            return values;
        }
        let is_small = shape.iter().product::<usize>() < LOOKED_AT;
        if !is_small {
            // The one before goes first, so that there are never two.
            *last = None;
        }
        let read = checkpoint.bytes(entry).map(Cow::into_owned).map_err(Error::from);
        let values: Strided<'static> = Strided::shared(self.or_zeros(read, entry.bytes), dtype, shape, offset, strides);
        if !is_small {
            *last = Some((name.to_owned(), layer, values.clone()));
        }
        values
    }

    /// A part of a weight that lies in files of ranks: the smallest slice of the stored tensor that has all of it is put
    /// together.
    fn of_ranks(
        &self,
        whole: &Whole,
        resolved: &Resolved,
        name: &str,
        layer: Option<u64>,
        cut: Option<Cut>,
    ) -> Strided<'a> {
        let config = &self.loaded.config;
        let source = resolved.source(config, name, layer.map(|layer| layer as usize));
        let stored = resolved.stored_name(&source);
        let (dtype, extents) = whole.tensor(&stored).expect("`resolve` saw every tensor");
        let dtype = DType::by_name(dtype.name()).expect("`resolve` saw its type");
        let View { mut shape, offset: mut first, strides } = view(config, &source, name, &row_major(extents));
        if let Some(Cut { dim, range }) = cut {
            first += range.start * strides[dim];
            shape[dim] = range.len();
        }
        let last = first + shape.iter().zip(&strides).map(|(extent, stride)| (extent - 1) * stride).sum::<usize>();
        // Each dimension goes along one of the stored tensor, so these two are its least and its greatest index in all.
        let [first, last] = [first, last].map(|position| index(position, extents));
        let slice: Vec<Range<usize>> = first.into_iter().zip(last).map(|(first, last)| first..last + 1).collect();
        let extents: Vec<usize> = slice.iter().map(Range::len).collect();
        let bytes = dtype.bytes(extents.iter().product::<usize>() as u64) as usize;
        let read = self.or_zeros(whole.slice(&stored, &slice), bytes);
        let View { strides, .. } = view(config, &source, name, &row_major(&extents));
        Strided::shared(read, dtype, shape, 0, strides)
    }

    /// All of a random weight.
    fn random(&self, seed: u64, name: &str, layer: Option<u64>) -> Strided<'static> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(values) = kept(&last, name, layer) {
            return values;
        }
        let shape = self.parameter(name).shape();
        let is_small = shape.iter().product::<usize>() < LOOKED_AT;
        let values = random_values(seed, name, layer, 0, shape);
        if !is_small {
            *last = Some((name.to_owned(), layer, values.clone()));
        }
        values
    }

    fn parameter(&self, name: &str) -> names::Parameter {
        let parameters = names::parameters(&self.loaded.config);
        parameters.into_iter().find(|parameter| parameter.name == name).expect("passes invent no weights")
    }

    /// Lets go of the pages of a stored weight.
    pub(super) fn done_with(&self, name: &str, layer: Option<u64>) {
        if let Weights::Stored { checkpoint, resolved } = &self.loaded.weights {
            let source = resolved.source(&self.loaded.config, name, layer.map(|layer| layer as usize));
            checkpoint.done_with_all(&resolved.stored_name(&source));
        }
    }
}

/// The values that were kept, if they are this weight's.
fn kept(last: &Option<Kept>, name: &str, layer: Option<u64>) -> Option<Strided<'static>> {
    last.as_ref().filter(|(known, of, _)| (known.as_str(), *of) == (name, layer)).map(|(.., values)| values.clone())
}

/// The index of each dimension of what lies at a position, row by row.
fn index(position: usize, shape: &[usize]) -> Vec<usize> {
    row_major(shape).iter().zip(shape).map(|(step, extent)| position / step % extent).collect()
}

/// The steps of a tensor that lies row by row.
fn row_major(shape: &[usize]) -> Vec<usize> {
    (1..=shape.len()).map(|dim| shape[dim..].iter().product()).collect()
}

fn random_values(seed: u64, name: &str, layer: Option<u64>, first: usize, shape: Vec<usize>) -> Strided<'static> {
    let mut bytes = vec![0; 2 * shape.iter().product::<usize>()];
    random::fill(seed, name, layer.unwrap_or(0), first as u64, &mut bytes);
    Strided::made(bytes, DType::F16, shape)
}

/// Elements looked at together; weights of fewer are made anew rather than kept.
const LOOKED_AT: usize = 1 << 16;

impl bloomery_passes::Weights for Values<'_> {
    /// Looks at the values until one is found that a smaller exponent would leave fewer digits.
    fn scales_exactly(&self, weight: &str, dtype: DType, by: f64) -> bool {
        let least = smallest(dtype).normal / by;
        // Nothing that small can be stored in a type of smaller range.
        if smallest(self.dtype(weight)).positive >= least {
            return true;
        }
        let parameter = self.parameter(weight);
        let layers = if parameter.per_layer { self.loaded.config.layers as u64 } else { 1 };
        (0..layers).map(|layer| parameter.per_layer.then_some(layer)).all(|layer| {
            let whole = |value: &f64| *value == 0.0 || value.abs() >= least;
            let exact = parts(&parameter.shape())
                .all(|cut| self.part(weight, layer, Some(cut)).tensor(dtype).data.iter().all(whole));
            self.done_with(weight, layer);
            exact
        })
    }
}

/// Parts of a weight along its outermost dimension.
fn parts(shape: &[usize]) -> impl Iterator<Item = Cut> + use<> {
    let (rows, row) = (shape[0], shape[1..].iter().product::<usize>());
    let step = (LOOKED_AT / row).max(1);
    (0..rows).step_by(step).map(move |start| Cut { dim: 0, range: start..(start + step).min(rows) })
}

/// The smallest numbers of a type.
struct Smallest {
    /// With all its digits.
    normal: f64,
    /// At all.
    positive: f64,
}

fn smallest(dtype: DType) -> Smallest {
    let (normal, positive) = match dtype {
        DType::F16 => (-14, -24),
        DType::BF16 => (-126, -133),
        _ => (-126, -149),
    };
    Smallest { normal: 2f64.powi(normal), positive: 2f64.powi(positive) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{CompileOptions, ModelSource};
    use bloomery_passes::Weights as _;

    const QUERY: &str = "h.attention.query.weight";

    fn random() -> Loaded {
        let options = CompileOptions::new(ModelSource::Random { size: "560m".to_owned(), seed: 1 });
        Loaded::open(&options, &mut crate::Quiet).unwrap()
    }

    #[test]
    fn a_part_is_a_part_of_the_whole() {
        let loaded = random();
        let values = Values::of(&loaded);
        let whole = values.part(QUERY, Some(3), None).tensor(DType::F16);
        for (dim, range) in [(0, 7..9), (1, 2..3), (2, 60..64)] {
            let part = values.part(QUERY, Some(3), Some(Cut { dim, range: range.clone() }));
            assert_eq!(part.tensor(DType::F16), whole.slice(dim, range), "dimension {dim}");
        }
    }

    #[test]
    fn small_halves_lose_digits_where_others_do_not() {
        let loaded = random();
        let values = Values::of(&loaded);
        assert!(!values.scales_exactly(QUERY, DType::F16, 0.125));
        assert!(values.scales_exactly(QUERY, DType::F32, 0.125) && values.scales_exactly(QUERY, DType::BF16, 0.125));
        // A norm's factors are around one.
        assert!(values.scales_exactly("h.input_layernorm.weight", DType::F16, 0.125));
        assert!(!values.scales_exactly("ln_f.weight", DType::F16, 2f64.powi(-15)));
    }
}
