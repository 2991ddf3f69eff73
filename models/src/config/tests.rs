//! Configs as they are found, and the ways in which they are refused.

use super::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/hf");
const TINY: &str = r#"{"model_type":"bloom","hidden_size":64,"n_layer":2,"n_head":4,"vocab_size":512}"#;

fn fixture(name: &str) -> BloomConfig {
    BloomConfig::from_folder(&Path::new(FIXTURES).join(name).join("model")).unwrap()
}

fn read(json: &str) -> Result<BloomConfig, ConfigError> {
    BloomConfig::from_json(json.as_bytes(), Path::new("config.json"))
}

/// The tiny config with more or other keys.
fn with(keys: &str) -> Result<BloomConfig, ConfigError> {
    let mut json: serde_json::Value = serde_json::from_str(TINY).unwrap();
    let keys: serde_json::Value = serde_json::from_str(&format!("{{{keys}}}")).unwrap();
    json.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    read(&json.to_string())
}

fn refused(result: Result<BloomConfig, ConfigError>, part: &str) {
    let message = result.expect_err("should be refused").to_string();
    assert!(message.contains(part), "{message:?} lacks {part:?}");
}

#[test]
fn a_narrow_model_can_be_shared_as_the_wide_one() {
    let wide = crate::sizes::by_name("176b").unwrap();
    let narrow = wide.narrow(1);
    assert_eq!((narrow.heads, narrow.hidden, narrow.head_dim(), narrow.layers), (112, 224, 2, 2));
    let alike = |ranks: usize| wide.vocab % ranks == wide.narrow(ranks).vocab % ranks;
    assert!((1..=128).all(alike));
    assert_eq!([1, 2, 3, 112].map(|ranks| wide.narrow(ranks).vocab), [7, 8, 11, 224]);
}

#[test]
fn both_key_styles_read_alike() {
    let sizes = |config: &BloomConfig| [config.hidden, config.layers, config.heads, config.vocab];
    let (new, old) = (fixture("tiny"), fixture("tiny-nonpow2"));
    assert_eq!(sizes(&new), [64, 2, 4, 512]);
    assert_eq!(sizes(&old), [96, 2, 6, 256]);
    assert_eq!((new.head_dim(), new.ffn(), old.head_dim()), (16, 256, 16));
    assert_eq!((new.dtype, old.dtype), (Some(WeightType::F32), None));
    assert!(new.notes.is_empty() && old.notes.is_empty());
    assert!(with(r#""n_embed":64,"num_hidden_layers":2,"num_attention_heads":4"#).is_ok());
}

#[test]
fn fixtures_show_each_switch() {
    assert!(!fixture("tiny-untied").tied_head && fixture("tiny").tied_head);
    assert!(fixture("tiny-postln").residual_post_layernorm && !fixture("tiny").residual_post_layernorm);
    assert_eq!((fixture("tiny-eps").layer_norm_epsilon, fixture("tiny").layer_norm_epsilon), (1e-3, 1e-5));
    assert_eq!(fixture("trained-web").dtype, Some(WeightType::F16));
    assert_eq!(fixture("tiny-bf16").dtype, Some(WeightType::Bf16));
    assert_eq!(fixture("trained-web").special, SpecialIds::default());
}

#[test]
fn absent_keys_have_blooms_values() {
    let config = read(TINY).unwrap();
    assert_eq!((config.layer_norm_epsilon, config.trained_length), (1e-5, 2048));
    assert!(config.tied_head && !config.residual_post_layernorm && config.dtype.is_none());
    assert_eq!(config.special, SpecialIds { bos: 1, eos: vec![2], pad: 3, unk: 0 });
}

#[test]
fn eos_may_be_one_several_or_none() {
    let eos = |keys: &str| with(keys).unwrap().special.eos;
    assert_eq!(eos(r#""eos_token_id":[2,5]"#), [2, 5]);
    assert_eq!(eos(r#""eos_token_id":7"#), [7]);
    assert_eq!(eos(r#""eos_token_id":null"#), [0u32; 0]);
}

#[test]
fn harmless_keys_are_noted() {
    let notes = |keys: &str| with(keys).unwrap().notes.join("; ");
    assert!(notes(r#""slow_but_exact":true,"pretraining_tp":4"#).contains("slow_but_exact is ignored"));
    assert!(notes(r#""slow_but_exact":true,"pretraining_tp":4"#).contains("pretraining_tp = 4"));
    assert!(notes(r#""torch_dtype":"int8""#).contains("torch_dtype \"int8\""));
    assert!(notes(r#""eos_token_id":512"#).contains("eos_token_id 512 lies outside the vocabulary of 512"));
    assert!(notes(r#""quantization_config":{"load_in_8bit":true}"#).contains("quantization_config is ignored"));
    assert_eq!(notes(r#""slow_but_exact":false,"pretraining_tp":1,"n_inner":256,"torch_dtype":"torch.float16""#), "");
}

#[test]
fn only_blooms_are_read() {
    let classes = TINY.replace(r#""model_type":"bloom""#, r#""architectures":["BloomModel"]"#);
    assert!(read(&classes).is_ok());
    refused(read(&classes.replace("BloomModel", "LlamaForCausalLM")), "LlamaForCausalLM");
    refused(read(&TINY.replace("\"bloom\"", "\"gpt2\"")), "model_type \"gpt2\"");
    refused(read("{}"), "no model_type");
}

#[test]
fn impossible_numbers_are_refused_with_both_sides() {
    refused(with(r#""n_head":5"#), "hidden size 64 cannot be divided into 5 heads");
    refused(with(r#""n_embed":32"#), "hidden_size is 64 and n_embed is 32");
    refused(with(r#""num_hidden_layers":3"#), "n_layer is 2 and num_hidden_layers is 3");
    refused(with(r#""n_head":0"#), "n_head is 0, expected 1 to 65536");
    refused(with(r#""hidden_size":18446744073709551615"#), "hidden_size is 18446744073709551615, expected 1 to 65536");
    refused(with(r#""n_layer":1025"#), "expected 1 to 1024");
    refused(with(r#""vocab_size":4194305"#), "expected 1 to 4194304");
    refused(with(r#""n_inner":100"#), "n_inner is 100, but BLOOM's MLP is 4 x 64 = 256 wide");
    refused(with(r#""layer_norm_epsilon":-1"#), "layer_norm_epsilon is -1");
    refused(with(r#""vocab_size":null"#), "lacks vocab_size");
    refused(with(r#""hidden_size":null"#), "lacks hidden_size (or n_embed)");
}

#[test]
fn wrong_types_name_their_key() {
    refused(with(r#""hidden_size":"64""#), "hidden_size is \"64\", expected a whole number");
    refused(with(r#""hidden_size":64.5"#), "hidden_size is 64.5");
    refused(with(r#""hidden_size":-64"#), "hidden_size is -64");
    refused(with(r#""tie_word_embeddings":1"#), "tie_word_embeddings is 1, expected true or false");
    refused(with(r#""eos_token_id":[1,"x"]"#), "eos_token_id is [1,\"x\"], expected a token id or a list of token ids");
    refused(with(r#""pad_token_id":4294967296"#), "pad_token_id is 4294967296");
    refused(with(r#""architectures":"BloomModel""#), "expected a list of strings");
    refused(read("[1]"), "the document is [1], expected an object");
    refused(with(&format!(r#""model_type":[{}1]"#, "1,".repeat(99))), "..");
}

#[test]
fn cut_json_says_where() {
    for end in 0..TINY.len() {
        refused(read(&TINY[..end]), "line 1 column");
    }
    let message = BloomConfig::from_json(b"{\"a\":\"\xff\"}", Path::new("config.json")).unwrap_err().to_string();
    assert!(message.contains("not valid JSON"), "{message}");
    refused(BloomConfig::from_folder(Path::new("no/such/folder")), "cannot read no/such/folder/config.json");
}
