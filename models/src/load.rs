//! A parameter's numbers, read where the checkpoint keeps them.
//!
//! The caller hands in a lookup from stored names to bytes, so this crate opens no files.

use bloomery_ir::strided::Strided;
use bloomery_ir::{DType, Tensor};

use crate::config::{BloomConfig, WeightType};
use crate::names::{Resolved, parameters, source};

/// A stored tensor's bytes and element type.
pub type Stored<'a> = (&'a [u8], DType);

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
    let source = source(config, name, layer);
    let (bytes, dtype) = lookup(&resolved.stored_name(&source)).expect("`resolve` saw every tensor");
    let parameter = parameters(config).into_iter().find(|parameter| parameter.name == name);
    let shape = parameter.expect("`source` knows the name").shape();
    Strided::new(bytes, dtype, shape, source.offset, source.strides)
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
