//! Fitting a config to a checkpoint's names: the prefix, what is missing, misshapen or too much.

use std::collections::{BTreeMap, BTreeSet};

use super::{HEAD, Names, StridedSource, mindspore, row_of, rows};
use crate::config::{BloomConfig, LAYERS_MAX, WeightType};

/// What checkpoints saved from the causal model put before every name but the head's.
const PREFIX: &str = "transformer.";

/// A checkpoint that holds every weight a config asks for, in the right shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Whose names it uses.
    pub names: Names,
    /// What stands before them, such as `transformer.`, or empty.
    pub prefix: String,
    /// Sentences for a person about what was ignored.
    pub notes: Vec<String>,
    /// Each parameter's type: the stored one, and the widest where layers differ.
    types: BTreeMap<&'static str, WeightType>,
}

impl Resolved {
    /// Where a parameter lies, as [`source`](super::source) says it of Hugging Face's tensors.
    ///
    /// # Panics
    /// As there.
    pub fn source(&self, config: &BloomConfig, name: &str, layer: Option<usize>) -> StridedSource {
        match self.names {
            Names::HuggingFace => super::source(config, name, layer),
            Names::MindSpore => row_of(config, name).mindspore_source(config, layer),
        }
    }

    /// The name under which the checkpoint stores `source`'s tensor.
    pub fn stored_name(&self, source: &StridedSource) -> String {
        stored_name(&self.prefix, &source.tensor)
    }

    /// The type of a parameter of the graph: as stored, and the widest where its layers differ.
    ///
    /// # Panics
    /// `parameter` is not one of the config's [`parameters`](super::parameters).
    pub fn weight_type(&self, parameter: &str) -> WeightType {
        self.types[parameter]
    }
}

/// A checkpoint that does not fit its config.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum NameError {
    /// The blocks stored are not the blocks configured.
    #[error("config.json says {config} layers, but the weights hold {weights} (up to {block}{}): one of them is another model's", weights - 1)]
    Layers {
        /// Layers in the config.
        config: usize,
        /// One more than the last block stored.
        weights: usize,
        /// What stands before a block's number, such as `transformer.h.`.
        block: String,
    },
    /// A tensor is not there.
    #[error("the weights lack tensor {tensor}{}{help}: download them again, or take the config.json that belongs to them", more(*others, "are missing too"))]
    Missing {
        /// The first missing tensor.
        tensor: String,
        /// How many others are missing.
        others: usize,
        /// Why, where it can be told, or empty.
        help: &'static str,
    },
    /// A tensor has another shape than the config implies.
    #[error(
        "tensor {tensor} has shape {found:?}, but config.json asks for {expected:?}: one of them is another model's"
    )]
    Shape {
        /// The tensor as stored.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that follows from the config.
        expected: Vec<usize>,
    },
    /// A tensor has a type that weights cannot have.
    #[error("tensor {tensor} has type {found}; weights must be f32, f16 or bf16: save it as one of them")]
    Type {
        /// The tensor as stored.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// One tensor under two names.
    #[error("the weights hold both {with} and {without}, which are one tensor: remove the one that is not meant")]
    Both {
        /// With the prefix.
        with: String,
        /// Without it.
        without: String,
    },
    /// Tensors that no BLOOM has.
    #[error("a BLOOM model has no tensor {tensor}{}: merge adapters into the weights and remove added heads first", more(*others, "are unknown too"))]
    Unknown {
        /// The first unknown tensor.
        tensor: String,
        /// How many others are unknown.
        others: usize,
    },
}

impl NameError {
    /// The tensor it is about, as stored, if that is there.
    pub fn stored(&self) -> Option<&str> {
        match self {
            NameError::Shape { tensor, .. } | NameError::Type { tensor, .. } | NameError::Unknown { tensor, .. } => {
                Some(tensor)
            }
            NameError::Both { with, .. } => Some(with),
            NameError::Layers { .. } | NameError::Missing { .. } => None,
        }
    }
}

fn more(others: usize, what: &str) -> String {
    if others == 0 { String::new() } else { format!(" ({others} others {what})") }
}

/// One tensor of a checkpoint.
struct Found {
    dtype: String,
    shape: Vec<usize>,
}

/// Fits `config` to the tensors of a checkpoint with such names, given as name, type (`f16`) and shape, in any order.
///
/// # Errors
/// The layers differ in number, a tensor is missing, misshapen or of a type that is not for weights, or there is one that
/// a BLOOM does not have.
pub fn resolve<N, D, S>(
    config: &BloomConfig,
    names: Names,
    tensors: impl IntoIterator<Item = (N, D, S)>,
) -> Result<Resolved, NameError>
where
    N: Into<String>,
    D: Into<String>,
    S: Into<Vec<usize>>,
{
    let stored: BTreeMap<String, Found> = tensors
        .into_iter()
        .map(|(name, dtype, shape)| (name.into(), Found { dtype: dtype.into(), shape: shape.into() }))
        .collect();
    let prefix = prefix(names, stored.keys().map(String::as_str)).to_owned();
    let checkpoint = Stored { names, prefix, tensors: stored };
    if let Some((with, without)) = checkpoint.both_names() {
        return Err(NameError::Both { with, without });
    }
    checkpoint.check_layers(config)?;
    let sources: Vec<(&'static str, StridedSource)> = sources(config, names).collect();
    checkpoint.check_present(&sources)?;
    let types = checkpoint.check_each(&sources)?;
    let notes = checkpoint.check_rest(config, &sources)?;
    Ok(Resolved { names, prefix: checkpoint.prefix, notes, types })
}

/// What stands before all names.
fn prefix<'a>(names: Names, mut stored: impl Iterator<Item = &'a str>) -> &'a str {
    match names {
        Names::HuggingFace if stored.any(|name| name.starts_with(PREFIX)) => PREFIX,
        Names::HuggingFace => "",
        Names::MindSpore => mindspore::prefix(stored).unwrap_or_default(),
    }
}

/// What the shapes of a checkpoint tell of its model: all but the heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// Width of the stream.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Whether there is a head of its own.
    pub head: bool,
}

/// Reads sizes off the tensors of a checkpoint with such names, given as name and shape; nothing if it has no embedding
/// table of two dimensions or no blocks.
pub fn shapes<'a>(names: Names, tensors: impl Iterator<Item = (&'a str, &'a [usize])> + Clone) -> Option<Shapes> {
    let (embedding, head) = match names {
        Names::HuggingFace => ("word_embeddings.weight", HEAD),
        Names::MindSpore => (mindspore::EMBEDDING, mindspore::HEAD),
    };
    let prefix = prefix(names, tensors.clone().map(|(name, _)| name));
    let head = tensors.clone().any(|(name, _)| name == head);
    let bare = tensors.filter_map(|(name, shape)| Some((name.strip_prefix(prefix)?, shape)));
    let (_, table) = bare.clone().find(|(name, _)| *name == embedding)?;
    let &[vocab, hidden] = table else { return None };
    let last =
        bare.filter_map(|(name, _)| Some(split_layer(names, name)?.0)).filter(|layer| *layer < LAYERS_MAX).max()?;
    Some(Shapes { hidden, layers: last + 1, vocab, head })
}

/// Every parameter of every layer.
fn sources(config: &BloomConfig, names: Names) -> impl Iterator<Item = (&'static str, StridedSource)> {
    rows(config).flat_map(move |row| {
        let layers = if row.per_layer() { config.layers } else { 1 };
        (0..layers).map(move |layer| {
            let layer = row.per_layer().then_some(layer);
            let source = match names {
                Names::HuggingFace => row.source(config, layer),
                Names::MindSpore => row.mindspore_source(config, layer),
            };
            (row.name, source)
        })
    })
}

/// A tensor's name with what stands before all names; but before the head's there is nothing.
pub fn stored_name(prefix: &str, tensor: &str) -> String {
    if matches!(tensor, HEAD | mindspore::HEAD) { tensor.to_owned() } else { format!("{prefix}{tensor}") }
}

/// A checkpoint's tensors.
struct Stored {
    names: Names,
    prefix: String,
    tensors: BTreeMap<String, Found>,
}

impl Stored {
    fn check_layers(&self, config: &BloomConfig) -> Result<(), NameError> {
        let layer = |name: &String| Some(split_layer(self.names, name.strip_prefix(&self.prefix)?)?.0);
        match self.tensors.keys().filter_map(layer).max() {
            Some(last) if last.checked_add(1) != Some(config.layers) => Err(NameError::Layers {
                config: config.layers,
                weights: last.saturating_add(1),
                block: format!("{}{}", self.prefix, block(self.names)),
            }),
            _ => Ok(()),
        }
    }

    fn check_present(&self, sources: &[(&str, StridedSource)]) -> Result<(), NameError> {
        let names: BTreeSet<&str> = sources.iter().map(|(_, source)| source.tensor.as_str()).collect();
        let stored = names.into_iter().map(|name| stored_name(&self.prefix, name));
        let missing: Vec<String> = stored.filter(|name| !self.tensors.contains_key(name)).collect();
        let Some(tensor) = missing.first().cloned() else { return Ok(()) };
        let help = match tensor.as_str() {
            HEAD | mindspore::HEAD => " (tie_word_embeddings is false, so the head needs a table of its own)",
            _ => "",
        };
        Err(NameError::Missing { tensor, others: missing.len() - 1, help })
    }

    /// Checks each tensor's shape and type, and collects the parameters' types.
    fn check_each(
        &self,
        sources: &[(&'static str, StridedSource)],
    ) -> Result<BTreeMap<&'static str, WeightType>, NameError> {
        let mut types = BTreeMap::new();
        for (parameter, source) in sources {
            let tensor = stored_name(&self.prefix, &source.tensor);
            let Found { dtype, shape } = &self.tensors[&tensor];
            if *shape != source.shape {
                return Err(NameError::Shape { tensor, found: shape.clone(), expected: source.shape.clone() });
            }
            let Some(found) = WeightType::from_name(dtype) else {
                return Err(NameError::Type { tensor, found: dtype.clone() });
            };
            types
                .entry(*parameter)
                .and_modify(|widest: &mut WeightType| *widest = widest.widest(found))
                .or_insert(found);
        }
        Ok(types)
    }

    /// Looks through what the config does not ask for: a copy of the tied head, harmless buffers, what training keeps, and
    /// strangers.
    fn check_rest(&self, config: &BloomConfig, sources: &[(&str, StridedSource)]) -> Result<Vec<String>, NameError> {
        let used: BTreeSet<String> =
            sources.iter().map(|(_, source)| stored_name(&self.prefix, &source.tensor)).collect();
        let mut rest: Vec<&String> = self.tensors.keys().filter(|name| !used.contains(*name)).collect();
        let mut notes = Vec::new();
        let head = match self.names {
            Names::HuggingFace => HEAD,
            Names::MindSpore => mindspore::HEAD,
        };
        if config.tied_head && self.tensors.contains_key(head) {
            rest.retain(|name| *name != head);
            notes.push(format!("{head} is ignored: tie_word_embeddings is true, so the head is the embedding table"));
        }
        match self.names {
            Names::HuggingFace => rest.retain(|name| !is_buffer(name)),
            Names::MindSpore => {
                let all = rest.len();
                rest.retain(|name| !mindspore::is_state(name, &self.tensors[*name].shape));
                let states = all - rest.len();
                if states > 0 {
                    notes.push(format!("{states} entries are ignored: what training keeps beside weights, and caches"));
                }
            }
        }
        match rest.first() {
            Some(tensor) => Err(NameError::Unknown { tensor: tensor.to_string(), others: rest.len() - 1 }),
            None => Ok(notes),
        }
    }

    /// A tensor that is there with the prefix and without it.
    fn both_names(&self) -> Option<(String, String)> {
        let prefixed = self.tensors.keys().filter(|_| !self.prefix.is_empty());
        let mut both = prefixed.filter_map(|name| Some((name, name.strip_prefix(&self.prefix)?)));
        let (with, without) = both.find(|(_, without)| self.tensors.contains_key(*without))?;
        Some((with.clone(), without.to_owned()))
    }
}

/// What stands before a block's number.
fn block(names: Names) -> &'static str {
    match names {
        Names::HuggingFace => "h.",
        Names::MindSpore => "blocks.",
    }
}

/// `h.7.mlp.x` as 7 and `mlp.x`.
fn split_layer(names: Names, name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix(block(names))?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}

/// Masks that older versions saved beside the weights; they hold nothing learnt.
pub(super) fn is_buffer(name: &str) -> bool {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    split_layer(Names::HuggingFace, name).is_some_and(|(_, rest)| {
        matches!(rest, "attn.bias" | "attn.masked_bias" | "self_attention.bias" | "self_attention.masked_bias")
    })
}
