//! What a converted model is: its `config.json`, or the sizes that shapes tell where there is none; and that file of the new
//! folder.

use std::path::Path;

use bloomery_models::config::{BloomConfig, Gate, SpecialIds, WeightType};
use bloomery_models::names::{Names, Shapes, shapes};
use bloomery_models::sizes;
use serde_json::{Map, Value, json};

use super::ConvertOptions;
use crate::Error;
use crate::stored::{Item, StoredTensors};

/// Where the prefix of Hugging Face's names is kept while they are MindFormers'.
const PREFIX_KEY: &str = "hf_name_prefix";
/// What transformers puts before every name today.
pub(super) const PREFIX: &str = "transformer.";

/// What is known of a model.
#[derive(Debug)]
pub(super) struct Described {
    /// Its sizes; its head counts as tied where the weights have none of its own.
    pub(super) config: BloomConfig,
    /// What stands before Hugging Face's names.
    pub(super) prefix: String,
    /// Its `config.json`, if it has one.
    pub(super) text: Option<String>,
}

/// Learns what a model is.
pub(super) fn described(
    stored: &StoredTensors,
    items: &[Item],
    folder: &Path,
    options: &ConvertOptions,
) -> Result<Described, Error> {
    let seen: Vec<(&str, &[usize])> = items.iter().map(|item| (item.name.as_str(), &item.shape[..])).collect();
    let found = shapes(stored.names(), seen.iter().copied());
    let head = found.as_ref().is_some_and(|found| found.head);
    let path = folder.join("config.json");
    if !path.exists() {
        let file = stored.files()[0].path();
        let found = found.ok_or_else(|| {
            let file = file.display();
            Error::Refused(format!("{file} has no table of an embedding and no blocks by the names of a BLOOM, and no config.json is beside it"))
        })?;
        let config = of_shapes(&found, options.heads, file)?;
        return Ok(Described { config, prefix: PREFIX.to_owned(), text: None });
    }
    let bytes = bloomery_formats::map::read(&path)?;
    let config = BloomConfig::from_json(&bytes, &path)?;
    check_heads(&config, options.heads, &path)?;
    let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let prefix = json.get(PREFIX_KEY).and_then(Value::as_str).unwrap_or(PREFIX).to_owned();
    // What else it says of the head: weights that hold one keep it, and those that should and do not are refused.
    let config = BloomConfig { tied_head: config.tied_head && !head, ..config };
    Ok(Described { config, prefix, text: Some(String::from_utf8_lossy(&bytes).into_owned()) })
}

fn check_heads(config: &BloomConfig, asked: Option<usize>, path: &Path) -> Result<(), Error> {
    match asked {
        Some(heads) if heads != config.heads => Err(Error::Refused(format!(
            "--heads says {heads} and {} says {}: leave --heads out, or correct the file",
            path.display(),
            config.heads
        ))),
        _ => Ok(()),
    }
}

/// A model by the shapes of its weights, and by how many heads it is said to have.
fn of_shapes(found: &Shapes, heads: Option<usize>, file: &Path) -> Result<BloomConfig, Error> {
    let Shapes { hidden, layers, vocab, head } = *found;
    let file = file.display();
    let published = sizes::names().filter_map(|name| Some((name, sizes::by_name(name).ok()?)));
    let like = published.filter(|(_, size)| (size.hidden, size.layers) == (hidden, layers)).last();
    let Some(heads) = heads else {
        let like = like
            .map_or(String::new(), |(name, size)| format!(" (BLOOM {name}, of the same sizes, has {})", size.heads));
        return Err(Error::Refused(format!(
            "{file} has {layers} layers of width {hidden} and no config.json beside it, and shapes do not tell how many heads: say --heads N{like}"
        )));
    };
    if hidden % heads != 0 {
        return Err(Error::Refused(format!(
            "--heads says {heads}, and the width of {file}, {hidden}, cannot be divided by that: say another number"
        )));
    }
    Ok(BloomConfig {
        hidden,
        layers,
        heads,
        vocab,
        layer_norm_epsilon: 1e-5,
        residual_post_layernorm: false,
        tied_head: !head,
        gate: Gate::Gelu,
        dtype: None,
        trained_length: 2048,
        special: SpecialIds::default(),
        notes: Vec::new(),
    })
}

impl Described {
    /// The new folder's `config.json`: the old one's text as it is, but for the prefix and a new type.
    pub(super) fn text(&self, to: Names, dtype: Option<WeightType>) -> String {
        let text = self.text.clone().unwrap_or_else(|| pretty(&self.made()));
        let text = with_prefix(&text, (to == Names::MindSpore).then_some(&self.prefix));
        dtype.map_or(text.clone(), |dtype| with_dtype(&text, dtype))
    }

    /// A `config.json` of a model that had none.
    fn made(&self) -> Value {
        let BloomConfig { hidden, layers, heads, vocab, layer_norm_epsilon, tied_head, ref special, .. } = self.config;
        json!({
            "architectures": ["BloomForCausalLM"],
            "model_type": "bloom",
            "hidden_size": hidden,
            "n_layer": layers,
            "n_head": heads,
            "vocab_size": vocab,
            "layer_norm_epsilon": layer_norm_epsilon,
            "apply_residual_connection_post_layernorm": false,
            "tie_word_embeddings": tied_head,
            "bos_token_id": special.bos,
            "eos_token_id": special.eos[0],
            "pad_token_id": special.pad,
            "unk_token_id": special.unk,
        })
    }
}

fn pretty(json: &Value) -> String {
    serde_json::to_string_pretty(json).expect("plain data") + "\n"
}

/// The line that keeps a prefix.
fn line(prefix: &str) -> String {
    format!("\n  {}: {},", json!(PREFIX_KEY), json!(prefix))
}

/// Puts the prefix into a `config.json`, or takes it out. Nothing else of the text changes: what went there and back is
/// the same file.
fn with_prefix(text: &str, prefix: Option<&String>) -> String {
    let json: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let kept = json.get(PREFIX_KEY).and_then(Value::as_str);
    let bare = match kept {
        None => text.to_owned(),
        Some(kept) if text.contains(&line(kept)) => text.replacen(&line(kept), "", 1),
        Some(_) => {
            let mut json = json.clone();
            json.shift_remove(PREFIX_KEY);
            pretty(&Value::Object(json))
        }
    };
    match (prefix, bare.find('{')) {
        (Some(prefix), Some(brace)) => format!("{}{}{}", &bare[..=brace], line(prefix), &bare[brace + 1..]),
        _ => bare,
    }
}

/// Says another type of weights, under the key that is there.
fn with_dtype(text: &str, dtype: WeightType) -> String {
    let mut json: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let key = if json.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    let name = match dtype {
        WeightType::F32 => "float32",
        WeightType::F16 => "float16",
        WeightType::Bf16 => "bfloat16",
    };
    json.insert(key.to_owned(), name.into());
    pretty(&Value::Object(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_goes_in_and_out_and_leaves_the_text_as_it_was() {
        for text in ["{\n  \"n_layer\": 2,\n  \"layer_norm_epsilon\": 1e-05\n}\n", "{\"a\": 1}"] {
            for prefix in ["transformer.", ""].map(str::to_owned) {
                let with = with_prefix(text, Some(&prefix));
                let json: Value = serde_json::from_str(&with).unwrap();
                assert_eq!(json[PREFIX_KEY], prefix.as_str());
                assert_eq!(with_prefix(&with, Some(&prefix)), with);
                assert_eq!(with_prefix(&with, None), text);
                let written_anew = serde_json::to_string(&json).unwrap();
                let without: Value = serde_json::from_str(&with_prefix(&written_anew, None)).unwrap();
                assert_eq!(without, serde_json::from_str::<Value>(text).unwrap());
            }
        }
    }
}
