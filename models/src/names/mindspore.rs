//! MindFormers' side of the table: its tensors' names and layouts, and each side's tensors as made of the other's.
//!
//! MindFormers writes its names bare; its converter kept the prefix of the checkpoint it came from, so some files have one.
//! Beside the weights, training checkpoints hold states of the optimizer and counters.

use super::{PROJECTED, Row, Stored, StridedSource, TABLE, extent, row_major};
use crate::config::BloomConfig;

/// The untied head, which MindFormers' model has no parameter for; its converter writes it all the same.
pub const HEAD: &str = "head.weight";

/// The table of the embedding.
pub const EMBEDDING: &str = "embedding.word_embedding.embedding_table";

/// A tensor of one side, made of the other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its name, without any prefix.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The tensors it is made of, by their names without prefix: one, or query's, key's and value's.
    pub from: Vec<String>,
    /// How.
    pub how: How,
}

/// How a tensor of one side is made of the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is the same.
    Same,
    /// Rows become columns.
    Transposed,
    /// Query, key or value out of the fused three: of each head, three blocks of so many numbers, the one of this index.
    Third {
        /// 0, 1 or 2.
        third: usize,
        /// Numbers of a block.
        block: usize,
    },
    /// The three, head by head one block of each.
    Fused {
        /// Numbers of a block.
        block: usize,
    },
}

/// MindFormers' tensors, in the order of its files, made of Hugging Face's; with a head of its own if there is one.
pub fn of_hugging_face(config: &BloomConfig, head: bool) -> Vec<Made> {
    in_order(config, head)
        .map(|(row, layer)| {
            let how = match row.stored {
                Stored::Same => How::Same,
                Stored::Transposed => How::Transposed,
                Stored::Third(third) => How::Third { third, block: row.block(config) },
            };
            let StridedSource { tensor, shape, .. } = row.mindspore_source(config, layer);
            Made { name: tensor, shape, from: vec![row.tensor_name(config, layer)], how }
        })
        .collect()
}

/// Hugging Face's tensors made of MindFormers'; with a head of its own if there is one.
pub fn to_hugging_face(config: &BloomConfig, head: bool) -> Vec<Made> {
    let mut made: Vec<Made> = Vec::new();
    for (row, layer) in in_order(config, head) {
        let StridedSource { tensor: name, shape, .. } = row.source(config, layer);
        let from = row.mindspore_source(config, layer).tensor;
        match row.stored {
            Stored::Same => made.push(Made { name, shape, from: vec![from], how: How::Same }),
            Stored::Transposed => made.push(Made { name, shape, from: vec![from], how: How::Transposed }),
            // Query, key and value come in this order.
            Stored::Third(0) => {
                made.push(Made { name, shape, from: vec![from], how: How::Fused { block: row.block(config) } });
            }
            Stored::Third(_) => {
                let fused = made.iter_mut().rfind(|made| made.name == name).expect("the query came before");
                fused.from.push(from);
            }
        }
    }
    made
}

/// Every tensor that a model has, in the order of MindFormers' files.
fn in_order(config: &BloomConfig, head: bool) -> impl Iterator<Item = (&'static Row, Option<usize>)> {
    let find = |name: &str| TABLE.iter().find(|row| row.mindspore == name).expect("the orders name rows of the table");
    let before = FIRST.iter().map(move |name| (find(name), None));
    let blocks = (0..config.layers).flat_map(move |layer| BLOCK.iter().map(move |name| (find(name), Some(layer))));
    let after = LAST.iter().map(move |name| (find(name), None));
    before.chain(blocks).chain(after).filter(move |(row, _)| head || row.mindspore != HEAD)
}

const FIRST: &[&str] = &[EMBEDDING, "embedding.norm.gamma", "embedding.norm.beta"];
const BLOCK: &[&str] = &[
    "blocks.*.layernorm1.gamma",
    "blocks.*.layernorm1.beta",
    "blocks.*.layernorm2.gamma",
    "blocks.*.layernorm2.beta",
    "blocks.*.attention.projection.weight",
    "blocks.*.attention.projection.bias",
    "blocks.*.attention.dense1.weight",
    "blocks.*.attention.dense1.bias",
    "blocks.*.attention.dense2.weight",
    "blocks.*.attention.dense2.bias",
    "blocks.*.attention.dense3.weight",
    "blocks.*.attention.dense3.bias",
    "blocks.*.output.mapping.weight",
    "blocks.*.output.mapping.bias",
    "blocks.*.output.projection.weight",
    "blocks.*.output.projection.bias",
];
const LAST: &[&str] = &["ln_f.gamma", "ln_f.beta", HEAD];

impl Row {
    /// The parameter as a view of MindFormers' tensor.
    pub(super) fn mindspore_source(&self, config: &BloomConfig, layer: Option<usize>) -> StridedSource {
        let tensor = self.of_layer(self.mindspore, config, layer);
        let extents: Vec<usize> = self.axes.iter().map(|axis| extent(config, axis)).collect();
        let strides = row_major(&extents);
        match self.stored {
            Stored::Same => StridedSource { tensor, shape: extents, offset: 0, strides },
            // `[in.., out]`, as the parameter is.
            Stored::Transposed => {
                let (&output, inputs) = extents.split_last().expect("a weight has dimensions");
                StridedSource { tensor, shape: vec![inputs.iter().product(), output], offset: 0, strides }
            }
            // `[heads, head_dim, in]` where the parameter is `[in, heads, head_dim]`.
            Stored::Third(_) if self.axes.len() == PROJECTED.len() => {
                let (hidden, head_dim) = (config.hidden, config.head_dim());
                let strides = vec![1, head_dim * hidden, hidden];
                StridedSource { tensor, shape: vec![hidden, hidden], offset: 0, strides }
            }
            Stored::Third(_) => StridedSource { tensor, shape: vec![config.hidden], offset: 0, strides },
        }
    }

    /// Numbers that a head has of a third.
    fn block(&self, config: &BloomConfig) -> usize {
        let row = if self.axes.len() == PROJECTED.len() { config.hidden } else { 1 };
        config.head_dim() * row
    }
}

/// What stands before the names of a checkpoint's weights: what stands before its embedding table's.
pub fn prefix<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let before = names.filter(|name| !is_state(name, &[2])).filter_map(|name| name.strip_suffix(EMBEDDING));
    before.filter(|prefix| prefix.is_empty() || prefix.ends_with('.')).min_by_key(|prefix| prefix.len())
}

/// Whether an entry is none of the weights but what training keeps beside them: states of the optimizer, sums of gradients,
/// counters; or a cache of keys and values.
pub fn is_state(name: &str, shape: &[usize]) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    is_optimizer(name) || shape.iter().product::<usize>() <= 1 || matches!(last, "key_past" | "value_past")
}

/// Whether an entry is the optimizer's or a sum of gradients, told as MindFormers' own scripts do.
pub fn is_optimizer(name: &str) -> bool {
    ["accu_grads", "adam_"].iter().any(|part| name.contains(part))
        || ["moment1.", "moment2."].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{NameError, Names, Parameter, Shapes, parameters, resolve, shapes, source, stored_name};
    use crate::sizes;

    /// 2 layers, hidden 12, 3 heads of 4, vocabulary 5.
    fn small() -> BloomConfig {
        BloomConfig { hidden: 12, layers: 2, heads: 3, vocab: 5, tied_head: false, ..sizes::by_name("560m").unwrap() }
    }

    /// What `made` makes of tensors that hold these numbers.
    fn make(made: &Made, from: &[&[u32]]) -> Vec<u32> {
        match made.how {
            How::Same => from[0].to_vec(),
            How::Transposed => {
                let [rows, columns] = made.shape[..] else { panic!("{made:?}") };
                (0..rows * columns).map(|i| from[0][i % columns * rows + i / columns]).collect()
            }
            How::Third { third, block } => from[0].chunks(block).skip(third).step_by(3).flatten().copied().collect(),
            How::Fused { block } => {
                let heads = from[0].len() / block;
                let of = |head: usize| from.iter().flat_map(move |one| &one[head * block..][..block]);
                (0..heads).flat_map(of).copied().collect()
            }
        }
    }

    fn view(source: &StridedSource, shape: &[usize], stored: &[u32]) -> Vec<u32> {
        let steps = row_major(shape);
        let place = |i: usize| {
            let index = steps.iter().zip(shape).map(|(step, extent)| i / step % extent);
            source.offset + index.zip(&source.strides).map(|(index, stride)| index * stride).sum::<usize>()
        };
        (0..shape.iter().product()).map(|i| stored[place(i)]).collect()
    }

    #[test]
    fn there_and_back_is_the_same_and_parameters_see_no_difference() {
        let config = small();
        let made = of_hugging_face(&config, true);
        let back = to_hugging_face(&config, true);
        // Every number of every tensor of Hugging Face's is another.
        let numbers = |index: usize, made: &Made| -> Vec<u32> {
            (0..made.shape.iter().product::<usize>()).map(|i| (index * 10_000 + i) as u32).collect()
        };
        let there: Vec<(&str, Vec<u32>)> =
            back.iter().enumerate().map(|(index, made)| (made.name.as_str(), numbers(index, made))).collect();
        let of = |held: &[(&str, Vec<u32>)], name: &str| -> Vec<u32> {
            held.iter().find(|(held, _)| *held == name).unwrap_or_else(|| panic!("{name}")).1.clone()
        };
        let run = |made: &Made, held: &[(&str, Vec<u32>)]| {
            let from: Vec<Vec<u32>> = made.from.iter().map(|name| of(held, name)).collect();
            make(made, &from.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        let mindspore: Vec<(&str, Vec<u32>)> = made.iter().map(|one| (one.name.as_str(), run(one, &there))).collect();
        for one in &back {
            assert_eq!(run(one, &mindspore), of(&there, &one.name), "{}", one.name);
        }
        for Parameter { name, dims, per_layer } in parameters(&config) {
            let shape: Vec<usize> = dims.iter().map(|dim| dim.0).collect();
            let layer = per_layer.then_some(1);
            let (one, other) =
                (source(&config, name, layer), crate::names::row_of(&config, name).mindspore_source(&config, layer));
            let seen = [(&one, &there), (&other, &mindspore)]
                .map(|(source, held)| view(source, &shape, &of(held, &source.tensor)));
            assert_eq!(seen[0], seen[1], "{name}");
            assert_eq!(other.shape, made.iter().find(|made| made.name == other.tensor).unwrap().shape);
        }
    }

    type Tensors = Vec<(String, &'static str, Vec<usize>)>;

    fn tensors(prefix: &str) -> Tensors {
        let made = of_hugging_face(&small(), true).into_iter();
        made.map(|made| (stored_name(prefix, &made.name), "f16", made.shape)).collect()
    }

    #[test]
    fn checkpoints_of_training_resolve_with_any_prefix() {
        for prefix in ["", "transformer.", "backbone.net."] {
            let mut stored = tensors(prefix);
            for beside in ["adam_m.", "adam_v.", "accu_grads."] {
                stored.push((format!("{beside}{prefix}{EMBEDDING}"), "f32", vec![5, 12]));
            }
            stored.push(("epoch_num".to_owned(), "i64", vec![]));
            stored.push((format!("{prefix}blocks.0.attention.key_past"), "f16", vec![1, 3, 7, 4]));
            let seen: Vec<(&str, &[usize])> =
                stored.iter().map(|(name, _, shape)| (name.as_str(), &shape[..])).collect();
            let found = shapes(Names::MindSpore, seen.iter().copied());
            assert_eq!(found, Some(Shapes { hidden: 12, layers: 2, vocab: 5, head: true }), "{prefix}");
            let resolved = resolve(&small(), Names::MindSpore, stored).unwrap();
            assert_eq!(resolved.prefix, prefix);
            assert_eq!(resolved.notes, ["5 entries are ignored: what training keeps beside weights, and caches"]);
            let key = resolved.source(&small(), "h.attention.key.bias", Some(1));
            assert_eq!(resolved.stored_name(&key), format!("{prefix}blocks.1.attention.dense2.bias"));
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refused = |change: &dyn Fn(&mut Tensors)| -> NameError {
            let mut stored = tensors("");
            change(&mut stored);
            resolve(&small(), Names::MindSpore, stored).unwrap_err()
        };
        let said = refused(&|stored| stored.retain(|(name, ..)| !name.contains("dense2"))).to_string();
        assert!(said.contains("lack tensor blocks.0.attention.dense2.bias (3 others are missing too)"), "{said}");
        let said = refused(&|stored| stored.retain(|(name, ..)| !name.starts_with("blocks.1"))).to_string();
        assert!(said.contains("2 layers, but the weights hold 1 (up to blocks.0)"), "{said}");
        let said = refused(&|stored| stored[0].2 = vec![12, 5]).to_string();
        assert!(said.contains("has shape [12, 5], but config.json asks for [5, 12]"), "{said}");
        let said = refused(&|stored| stored.push(("lora.a".to_owned(), "f16", vec![2]))).to_string();
        assert!(said.contains("no tensor lora.a"), "{said}");
    }
}
