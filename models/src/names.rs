//! Which weight is where: the graph's parameters and the tensors of a checkpoint they are cut from, Hugging Face's or
//! MindFormers'.
//!
//! One table says all sides. Our parameters lie `[in, out]`, heads are an extent of their own, and query, key and value
//! are three parameters; Hugging Face keeps `[out, in]` and fuses the three head by head. MindFormers keeps three as well,
//! those as `[out, in]` and other products as we do. Every parameter is therefore a *strided view* of one stored tensor of
//! either: an offset and a stride per extent, nothing more. Over layers the parameters are stacked, layers outermost.
//!
//! [`parameters`] lists a model's parameters, [`source`] gives a parameter's view, and `resolve` fits both to the names a
//! checkpoint really uses. [`mindspore`] is the other side's, and the way from one to the other.

pub mod mindspore;
mod resolve;

pub use resolve::{NameError, Resolved, Shapes, resolve, shapes, stored_name};

/// Whose names and layouts a checkpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// transformers'.
    HuggingFace,
    /// MindFormers', on MindSpore.
    MindSpore,
}

use crate::config::BloomConfig;

/// One parameter of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The name in the graph, such as `h.attention.query.weight`.
    pub name: &'static str,
    /// Extent and logical axis (`vocab`, `hidden`, `heads`, `head_dim`, `ffn`) of each dimension, outermost first and
    /// without the layers.
    pub dims: Vec<(usize, &'static str)>,
    /// Whether there is one per layer: the graph stacks them with the layers as first extent.
    pub per_layer: bool,
}

impl Parameter {
    /// The extents, without the layers.
    pub fn shape(&self) -> Vec<usize> {
        self.dims.iter().map(|dim| dim.0).collect()
    }
}

/// A parameter (of one layer, if it is per layer) as a strided view of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StridedSource {
    /// Hugging Face's or MindFormers' name, without the prefix, such as `transformer.`, that some checkpoints have.
    pub tensor: String,
    /// The shape the stored tensor must have.
    pub shape: Vec<usize>,
    /// The first element of the view, in elements of the stored tensor.
    pub offset: usize,
    /// The step of each of the parameter's dimensions, in elements of the stored tensor.
    pub strides: Vec<usize>,
}

/// How a parameter lies in its stored tensor.
#[derive(Clone, Copy)]
enum Stored {
    /// As it is.
    Same,
    /// `[out, in]` where the parameter is `[in.., out]`.
    Transposed,
    /// The given third of rows that are `[heads, 3, head_dim]`.
    Third(usize),
}

/// A row of the table: the parameter, its axes, the stored tensor (`*` stands for the layer), and MindFormers'.
struct Row {
    name: &'static str,
    axes: &'static [&'static str],
    tensor: &'static str,
    stored: Stored,
    mindspore: &'static str,
}

const fn row(
    name: &'static str,
    axes: &'static [&'static str],
    tensor: &'static str,
    stored: Stored,
    mindspore: &'static str,
) -> Row {
    Row { name, axes, tensor, stored, mindspore }
}

use Stored::{Same, Third, Transposed};

const QKV_WEIGHT: &str = "h.*.self_attention.query_key_value.weight";
const QKV_BIAS: &str = "h.*.self_attention.query_key_value.bias";
const PROJECTED: &[&str] = &["hidden", "heads", "head_dim"];
const HEADS: &[&str] = &["heads", "head_dim"];
const HIDDEN: &[&str] = &["hidden"];

/// Everything a BLOOM has, in the order of its graph.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row("word_embeddings.weight",            &["vocab", "hidden"],             "word_embeddings.weight",                  Same,       "embedding.word_embedding.embedding_table"),
    row("word_embeddings_layernorm.weight",  HIDDEN,                           "word_embeddings_layernorm.weight",        Same,       "embedding.norm.gamma"),
    row("word_embeddings_layernorm.bias",    HIDDEN,                           "word_embeddings_layernorm.bias",          Same,       "embedding.norm.beta"),
    row("h.input_layernorm.weight",          HIDDEN,                           "h.*.input_layernorm.weight",              Same,       "blocks.*.layernorm1.gamma"),
    row("h.input_layernorm.bias",            HIDDEN,                           "h.*.input_layernorm.bias",                Same,       "blocks.*.layernorm1.beta"),
    row("h.attention.query.weight",          PROJECTED,                        QKV_WEIGHT,                                Third(0),   "blocks.*.attention.dense1.weight"),
    row("h.attention.query.bias",            HEADS,                            QKV_BIAS,                                  Third(0),   "blocks.*.attention.dense1.bias"),
    row("h.attention.key.weight",            PROJECTED,                        QKV_WEIGHT,                                Third(1),   "blocks.*.attention.dense2.weight"),
    row("h.attention.key.bias",              HEADS,                            QKV_BIAS,                                  Third(1),   "blocks.*.attention.dense2.bias"),
    row("h.attention.value.weight",          PROJECTED,                        QKV_WEIGHT,                                Third(2),   "blocks.*.attention.dense3.weight"),
    row("h.attention.value.bias",            HEADS,                            QKV_BIAS,                                  Third(2),   "blocks.*.attention.dense3.bias"),
    row("h.attention.dense.weight",          &["heads", "head_dim", "hidden"], "h.*.self_attention.dense.weight",         Transposed, "blocks.*.attention.projection.weight"),
    row("h.attention.dense.bias",            HIDDEN,                           "h.*.self_attention.dense.bias",           Same,       "blocks.*.attention.projection.bias"),
    row("h.post_attention_layernorm.weight", HIDDEN,                           "h.*.post_attention_layernorm.weight",     Same,       "blocks.*.layernorm2.gamma"),
    row("h.post_attention_layernorm.bias",   HIDDEN,                           "h.*.post_attention_layernorm.bias",       Same,       "blocks.*.layernorm2.beta"),
    row("h.mlp.up.weight",                   &["hidden", "ffn"],               "h.*.mlp.dense_h_to_4h.weight",            Transposed, "blocks.*.output.mapping.weight"),
    row("h.mlp.up.bias",                     &["ffn"],                         "h.*.mlp.dense_h_to_4h.bias",              Same,       "blocks.*.output.mapping.bias"),
    row("h.mlp.down.weight",                 &["ffn", "hidden"],               "h.*.mlp.dense_4h_to_h.weight",            Transposed, "blocks.*.output.projection.weight"),
    row("h.mlp.down.bias",                   HIDDEN,                           "h.*.mlp.dense_4h_to_h.bias",              Same,       "blocks.*.output.projection.bias"),
    row("ln_f.weight",                       HIDDEN,                           "ln_f.weight",                             Same,       "ln_f.gamma"),
    row("ln_f.bias",                         HIDDEN,                           "ln_f.bias",                               Same,       "ln_f.beta"),
    row(HEAD,                                &["vocab", "hidden"],             HEAD,                                      Same,       mindspore::HEAD),
];

/// The untied head, whose stored name never has a prefix.
const HEAD: &str = "lm_head.weight";

/// The parameters of `config`'s graph, in the order of the graph; an untied head comes last.
pub fn parameters(config: &BloomConfig) -> Vec<Parameter> {
    rows(config).map(|row| row.parameter(config)).collect()
}

/// Where the parameter `name` of `layer` (`None` for parameters outside the blocks) lies in a checkpoint.
///
/// # Panics
/// `name` is not one of [`parameters`], or `layer` is given where there is none, absent where there is one, or too large.
pub fn source(config: &BloomConfig, name: &str, layer: Option<usize>) -> StridedSource {
    row_of(config, name).source(config, layer)
}

fn row_of(config: &BloomConfig, name: &str) -> &'static Row {
    rows(config).find(|row| row.name == name).expect("names come from `parameters`")
}

fn rows(config: &BloomConfig) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| row.name != HEAD || !config.tied_head)
}

impl Row {
    fn per_layer(&self) -> bool {
        self.tensor.contains('*')
    }

    fn parameter(&self, config: &BloomConfig) -> Parameter {
        let dims = self.axes.iter().map(|&axis| (extent(config, axis), axis)).collect();
        Parameter { name: self.name, dims, per_layer: self.per_layer() }
    }

    fn source(&self, config: &BloomConfig, layer: Option<usize>) -> StridedSource {
        let tensor = self.tensor_name(config, layer);
        let extents: Vec<usize> = self.axes.iter().map(|axis| extent(config, axis)).collect();
        match self.stored {
            Same => StridedSource { tensor, offset: 0, strides: row_major(&extents), shape: extents },
            Transposed => transposed(tensor, &extents),
            Third(third) => fused_third(config, tensor, third, extents.len() == PROJECTED.len()),
        }
    }

    fn tensor_name(&self, config: &BloomConfig, layer: Option<usize>) -> String {
        self.of_layer(self.tensor, config, layer)
    }

    fn of_layer(&self, tensor: &str, config: &BloomConfig, layer: Option<usize>) -> String {
        assert_eq!(self.per_layer(), layer.is_some(), "{} and its layer agree", self.name);
        match layer {
            Some(layer) => {
                assert!(layer < config.layers, "layer {layer} of {}", config.layers);
                tensor.replace('*', &layer.to_string())
            }
            None => tensor.to_owned(),
        }
    }
}

/// `[in.., out]` seen in a stored `[out, in]`: the last dimension steps over whole stored rows.
fn transposed(tensor: String, extents: &[usize]) -> StridedSource {
    let (&output, inputs) = extents.split_last().expect("a weight has dimensions");
    let input = inputs.iter().product();
    let mut strides = row_major(inputs);
    strides.push(input);
    StridedSource { tensor, shape: vec![output, input], offset: 0, strides }
}

/// Query, key or value of a stored `[heads, 3, head_dim, hidden]`, or of its bias, which lacks the last dimension.
fn fused_third(config: &BloomConfig, tensor: String, third: usize, weight: bool) -> StridedSource {
    let (hidden, head_dim) = (config.hidden, config.head_dim());
    let row = if weight { hidden } else { 1 };
    let by_head = [3 * head_dim * row, row];
    let (shape, strides) = if weight {
        (vec![3 * hidden, hidden], vec![1, by_head[0], by_head[1]])
    } else {
        (vec![3 * hidden], by_head.to_vec())
    };
    StridedSource { tensor, shape, offset: third * head_dim * row, strides }
}

fn row_major(extents: &[usize]) -> Vec<usize> {
    (1..=extents.len()).map(|dim| extents[dim..].iter().product()).collect()
}

fn extent(config: &BloomConfig, axis: &str) -> usize {
    match axis {
        "vocab" => config.vocab,
        "hidden" => config.hidden,
        "heads" => config.heads,
        "head_dim" => config.head_dim(),
        "ffn" => config.ffn(),
        other => unreachable!("the table names no axis {other}"),
    }
}

#[cfg(test)]
mod tests;
