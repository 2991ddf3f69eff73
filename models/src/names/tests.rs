//! The views against a tensor written out by its formula, and checkpoints that do not fit.

use std::path::Path;

use super::*;
use crate::config::WeightType;
use crate::sizes;

/// 2 layers, hidden 12, 3 heads of 4, vocabulary 5.
fn small(tied_head: bool) -> BloomConfig {
    BloomConfig { hidden: 12, layers: 2, heads: 3, vocab: 5, tied_head, ..sizes::by_name("560m").unwrap() }
}

type Tensors = Vec<(String, &'static str, Vec<usize>)>;

/// A checkpoint that fits.
fn checkpoint(config: &BloomConfig, prefix: &str) -> Tensors {
    let mut tensors = Tensors::new();
    for parameter in parameters(config) {
        let layers = if parameter.per_layer { config.layers } else { 1 };
        for layer in 0..layers {
            let source = source(config, parameter.name, parameter.per_layer.then_some(layer));
            let name = if source.tensor == HEAD { source.tensor } else { format!("{prefix}{}", source.tensor) };
            tensors.push((name, "f16", source.shape));
        }
    }
    tensors
}

fn refused(config: &BloomConfig, tensors: Tensors, part: &str) {
    let message = resolve(config, Names::HuggingFace, tensors).expect_err("should be refused").to_string();
    assert!(message.contains(part), "{message:?} lacks {part:?}");
}

/// The element of the stored tensor that `index` of the parameter names.
fn at(source: &StridedSource, index: &[usize]) -> usize {
    source.offset + index.iter().zip(&source.strides).map(|(i, stride)| i * stride).sum::<usize>()
}

#[test]
fn the_parameters_of_the_graph_and_their_axes() {
    let found = parameters(&small(false));
    let query = found.iter().find(|parameter| parameter.name == "h.attention.query.weight").unwrap();
    assert_eq!(query.dims, [(12, "hidden"), (3, "heads"), (4, "head_dim")]);
    assert!(query.per_layer);
    assert_eq!(found.len(), 22);
    assert_eq!((found[21].name, found[21].per_layer), ("lm_head.weight", false));
    assert_eq!(parameters(&small(true)).len(), 21);
}

#[test]
fn parameters_add_up_to_the_models_count() {
    for tied_head in [true, false] {
        for name in sizes::names() {
            let config = BloomConfig { tied_head, ..sizes::by_name(name).unwrap() };
            let count = |parameter: &Parameter| {
                let one: usize = parameter.dims.iter().map(|(extent, _)| extent).product();
                (one * if parameter.per_layer { config.layers } else { 1 }) as u64
            };
            assert_eq!(parameters(&config).iter().map(count).sum::<u64>(), config.parameters(), "{name}");
        }
    }
}

#[test]
fn query_key_and_value_are_cut_head_by_head() {
    let config = small(true);
    for (third, name) in ["query", "key", "value"].iter().enumerate() {
        let weight = source(&config, &format!("h.attention.{name}.weight"), Some(1));
        let bias = source(&config, &format!("h.attention.{name}.bias"), Some(0));
        assert_eq!(weight.tensor, "h.1.self_attention.query_key_value.weight");
        assert_eq!((&weight.shape[..], &bias.shape[..]), (&[36, 12][..], &[36][..]));
        for (head, dim, hidden) in [(0, 0, 0), (1, 2, 5), (2, 3, 11)] {
            let row = (head * 3 + third) * 4 + dim;
            assert_eq!(at(&weight, &[hidden, head, dim]), row * 12 + hidden);
            assert_eq!(at(&bias, &[head, dim]), row);
        }
    }
}

#[test]
fn products_are_stored_transposed() {
    let config = small(true);
    let dense = source(&config, "h.attention.dense.weight", Some(0));
    assert_eq!((dense.shape.clone(), at(&dense, &[2, 1, 7])), (vec![12, 12], 7 * 12 + 2 * 4 + 1));
    let up = source(&config, "h.mlp.up.weight", Some(0));
    assert_eq!((up.shape.clone(), at(&up, &[3, 40])), (vec![48, 12], 40 * 12 + 3));
    let down = source(&config, "h.mlp.down.weight", Some(0));
    assert_eq!((down.shape.clone(), at(&down, &[40, 3])), (vec![12, 48], 3 * 48 + 40));
    let table = source(&config, "word_embeddings.weight", None);
    assert_eq!((table.shape.clone(), at(&table, &[4, 3])), (vec![5, 12], 4 * 12 + 3));
}

#[test]
fn every_view_reads_its_tensor_once() {
    let config = small(false);
    let mut seen = std::collections::BTreeMap::<String, Vec<u32>>::new();
    for parameter in parameters(&config) {
        let source = source(&config, parameter.name, parameter.per_layer.then_some(0));
        let counts = seen.entry(source.tensor.clone()).or_insert(vec![0; source.shape.iter().product()]);
        let extents: Vec<usize> = parameter.dims.iter().map(|dim| dim.0).collect();
        for flat in 0..extents.iter().product() {
            let index: Vec<usize> =
                row_major(&extents).iter().zip(&extents).map(|(step, extent)| flat / step % extent).collect();
            counts[at(&source, &index)] += 1;
        }
    }
    assert!(seen.values().flatten().all(|&count| count == 1));
}

#[test]
fn both_prefixes_and_both_heads_resolve() {
    for tied_head in [true, false] {
        for prefix in ["", "transformer."] {
            let config = small(tied_head);
            let resolved = resolve(&config, Names::HuggingFace, checkpoint(&config, prefix)).unwrap();
            assert_eq!((resolved.prefix.as_str(), resolved.notes.len()), (prefix, 0));
            let key = source(&config, "h.attention.key.bias", Some(1));
            assert_eq!(resolved.stored_name(&key), format!("{prefix}h.1.self_attention.query_key_value.bias"));
            assert_eq!(resolved.weight_type("ln_f.bias"), WeightType::F16);
        }
    }
    let untied = small(false);
    let resolved = resolve(&untied, Names::HuggingFace, checkpoint(&untied, "transformer.")).unwrap();
    assert_eq!(resolved.stored_name(&source(&untied, HEAD, None)), "lm_head.weight");
}

#[test]
fn a_tied_heads_copy_and_buffers_are_ignored() {
    let config = small(true);
    let mut tensors = checkpoint(&config, "transformer.");
    tensors.push((HEAD.to_owned(), "f16", vec![5, 12]));
    tensors.push(("transformer.h.0.attn.masked_bias".to_owned(), "f32", vec![]));
    tensors.push(("transformer.h.1.self_attention.bias".to_owned(), "bool", vec![1, 1, 8, 8]));
    let notes = resolve(&config, Names::HuggingFace, tensors).unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("lm_head.weight is ignored"), "{notes:?}");
}

#[test]
fn mixed_types_widen_to_what_holds_them_all() {
    let config = small(true);
    let mut tensors = checkpoint(&config, "");
    let mut retype = |name: &str, dtype| tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap().1 = dtype;
    retype("h.1.mlp.dense_h_to_4h.bias", "bf16");
    retype("ln_f.weight", "f32");
    let resolved = resolve(&config, Names::HuggingFace, tensors).unwrap();
    let types = ["h.mlp.up.bias", "ln_f.weight", "ln_f.bias"].map(|name| resolved.weight_type(name));
    assert_eq!(types, [WeightType::F32, WeightType::F32, WeightType::F16]);
}

#[test]
fn what_does_not_fit_is_refused_with_both_sides() {
    let config = small(true);
    let fits = || checkpoint(&config, "transformer.");
    let without = |part: &str| fits().into_iter().filter(|tensor| !tensor.0.contains(part)).collect::<Tensors>();
    let with = |name: &str, dtype, shape| without(name).into_iter().chain([(name.to_owned(), dtype, shape)]).collect();
    let deeper = BloomConfig { layers: 24, ..config.clone() };
    refused(&deeper, fits(), "says 24 layers, but the weights hold 2 (up to transformer.h.1)");
    refused(&config, with("transformer.h.24.ln.weight", "f16", vec![]), "says 2 layers, but the weights hold 25");
    let huge = format!("transformer.h.{}.x", usize::MAX);
    refused(&config, with(&huge, "f16", vec![]), "says 2 layers");
    refused(&config, without("ln_f.weight"), "lack tensor transformer.ln_f.weight");
    refused(&config, without("ln_f"), "lack tensor transformer.ln_f.bias (1 others are missing too)");
    refused(&config, vec![], "lack tensor h.0.input_layernorm.bias (28 others");
    refused(&small(false), fits(), "lack tensor lm_head.weight (tie_word_embeddings is false");
    let table = "transformer.word_embeddings.weight";
    refused(&config, with(table, "f16", vec![6, 12]), "weight has shape [6, 12], but config.json asks for [5, 12]");
    refused(&config, with(table, "i8", vec![5, 12]), "weight has type i8; weights must be f32, f16 or bf16");
    refused(&config, with("score.weight", "f16", vec![2, 12]), "has no tensor score.weight: merge adapters");
    refused(&config, with("word_embeddings.weight", "f16", vec![5, 12]), "lack tensor transformer.word_embeddings");
}

#[test]
fn fixtures_configs_name_their_own_weights() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/hf"));
    for name in ["tiny", "tiny-nonpow2", "tiny-fp16", "tiny-bf16", "tiny-untied", "tiny-postln", "trained-web"] {
        let model = folder.join(name).join("model");
        let config = BloomConfig::from_folder(&model).unwrap();
        let resolved = resolve(&config, Names::HuggingFace, header(&model.join("model.safetensors"))).unwrap();
        let bare = matches!(name, "tiny-nonpow2" | "tiny-fp16");
        assert_eq!(resolved.prefix, if bare { "" } else { "transformer." }, "{name}");
        if let Some(dtype) = config.dtype {
            assert_eq!(resolved.weight_type("word_embeddings.weight"), dtype, "{name}");
        }
    }
}

/// A safetensors header, read by hand because this crate does not use `formats`.
fn header(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let tensors = json.into_iter().filter(|(name, _)| name != "__metadata__");
    let dtype = |value: &serde_json::Value| WeightType::from_name(value.as_str().unwrap()).unwrap().name();
    let shape = |value: &serde_json::Value| serde_json::from_value(value.clone()).unwrap();
    tensors.map(|(name, value)| (name, dtype(&value["dtype"]), shape(&value["shape"]))).collect()
}
