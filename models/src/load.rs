//! A parameter's numbers, read where the checkpoint keeps them.
//!
//! The caller hands in a lookup from stored names to bytes, so this crate opens no files.

use bloomery_ir::strided::Strided;
use bloomery_ir::{DType, Tensor};

use crate::config::{BloomConfig, WeightType};
use crate::names::{Resolved, StridedSource, parameters};

/// A stored tensor.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its elements, the first one first.
    pub bytes: &'a [u8],
    /// Their type.
    pub dtype: DType,
    /// The step of each dimension, in elements; other than row by row where a checkpoint keeps a transposed view.
    pub strides: &'a [usize],
}

/// The parameter `name` (of `layer`, when it is a block's) as a view of the checkpoint.
///
/// # Panics
/// `name` and `layer` are not the config's, or `lookup` is not of the checkpoint that `resolved` was made for.
pub fn read_parameter<'a>(
    config: &BloomConfig,
    resolved: &Resolved,
    name: &str,
    layer: Option<usize>,
    lookup: impl Fn(&str) -> Option<Stored<'a>>,
) -> Strided<'a> {
    let source = resolved.source(config, name, layer);
    let Stored { bytes, dtype, strides } = lookup(&resolved.stored_name(&source)).expect("`resolve` saw every tensor");
    let View { shape, offset, strides } = view(config, &source, name, strides);
    Strided::new(bytes, dtype, shape, offset, strides)
}

/// How a parameter is seen in a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The parameter's shape.
    pub shape: Vec<usize>,
    /// Its first element, in elements of the tensor.
    pub offset: usize,
    /// The step of each of its dimensions, in the same.
    pub strides: Vec<usize>,
}

/// The parameter `name`, which lies as `source` says, in a tensor with these steps.
///
/// # Panics
/// `name` is not the config's.
pub fn view(config: &BloomConfig, source: &StridedSource, name: &str, strides: &[usize]) -> View {
    let parameter = parameters(config).into_iter().find(|parameter| parameter.name == name);
    let shape = parameter.expect("`source` knows the name").shape();
    let place = |position: usize| relaid(position, &source.shape, strides);
    View { shape, offset: place(source.offset), strides: source.strides.iter().map(|&step| place(step)).collect() }
}

/// Where an element is that lies at `position` if the tensor is kept row by row. It holds for steps too: those of
/// [`Resolved::source`] go along one dimension of the stored tensor and never carry into the next.
fn relaid(position: usize, shape: &[usize], strides: &[usize]) -> usize {
    let mut rest = position;
    let mut place = 0;
    for (dim, stride) in strides.iter().enumerate().skip(1).rev() {
        place += rest % shape[dim] * stride;
        rest /= shape[dim];
    }
    place + strides.first().map_or(0, |stride| rest * stride)
}

/// The whole parameter as the graph takes it: of all layers, stacked, when it is a block's; rounded to `dtype`.
///
/// # Panics
/// As [`read_parameter`].
pub fn parameter_tensor<'a>(
    config: &BloomConfig,
    resolved: &Resolved,
    name: &str,
    dtype: DType,
    lookup: impl Fn(&str) -> Option<Stored<'a>>,
) -> Tensor {
    let read = |layer| read_parameter(config, resolved, name, layer, &lookup).tensor(dtype);
    let per_layer = parameters(config).iter().any(|parameter| parameter.name == name && parameter.per_layer);
    if !per_layer {
        return read(None);
    }
    let layers: Vec<Tensor> = (0..config.layers).map(|layer| read(Some(layer))).collect();
    let shape = [&[config.layers], &layers[0].shape[..]].concat();
    Tensor { dtype, shape, data: layers.into_iter().flat_map(|layer| layer.data).collect() }
}

impl From<WeightType> for DType {
    fn from(ty: WeightType) -> DType {
        match ty {
            WeightType::F32 => DType::F32,
            WeightType::F16 => DType::F16,
            WeightType::Bf16 => DType::BF16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_in_other_orders() {
        for position in 0..12 {
            assert_eq!(relaid(position, &[3, 4], &[4, 1]), position);
            assert_eq!(relaid(position, &[3, 4], &[1, 3]), position % 4 * 3 + position / 4);
            assert_eq!(relaid(position, &[12], &[2]), 2 * position);
        }
        // One past the end, as a step over a dimension of one element is.
        assert_eq!(relaid(12, &[3, 4], &[5, 1]), 15);
        assert_eq!(relaid(0, &[], &[]), 0);
    }
}
