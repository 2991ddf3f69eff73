//! Against ids and texts recorded from Hugging Face.

use serde_json::Value;

use super::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/hf");

fn tokenizer(file: &str) -> Tokenizer {
    Tokenizer::from_folder(&Path::new(FIXTURES).join(file)).unwrap().unwrap()
}

fn golden(file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(Path::new(FIXTURES).join(file)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Both spellings of the merges must give the same tokenizer.
fn both_forms() -> [Tokenizer; 2] {
    [tokenizer("tokenizer"), tokenizer("tokenizer/tokenizer.arrays.json")]
}

#[test]
fn encodes_every_recorded_text() {
    let golden = golden("tokenizer/golden.json");
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 200);
    for tokenizer in both_forms() {
        assert_eq!(tokenizer.vocab(), golden["vocab_size"].as_u64().unwrap() as usize);
        for case in cases {
            let (text, expect) = (case["text"].as_str().unwrap(), ids(&case["ids"]));
            assert_eq!(tokenizer.encode(text).unwrap(), expect, "{text:?}");
            assert_eq!(tokenizer.decode(&expect, false), text);
            assert_eq!(tokenizer.byte_lengths(&expect).into_iter().sum::<usize>(), text.len(), "{text:?}");
            assert_eq!(tokenizer.decode(&expect, true), case["decoded_without_specials"].as_str().unwrap());
            assert_eq!(tokenizer.decode(&expect, true), tokenizer.inner.decode(&expect, true).unwrap());
        }
    }
}

#[test]
fn streams_prefixes_of_the_recorded_ones() {
    let golden = golden("tokenizer/golden.json");
    let tokenizer = tokenizer("tokenizer");
    for case in golden["partial_decodes"].as_array().unwrap() {
        let ids = ids(&case["ids"]);
        let prefixes: Vec<&str> = case["decoded_prefixes"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
        let mut stream = tokenizer.stream(false);
        let mut text = String::new();
        for (count, &id) in ids.iter().enumerate() {
            text.push_str(&stream.push(id));
            let prefix = prefixes[count + 1];
            assert_eq!(tokenizer.decode(&ids[..=count], false), prefix);
            assert_eq!(text, prefix.trim_end_matches('\u{fffd}'));
        }
        assert_eq!(stream.finish(), "");
    }
}

#[test]
fn decodes_the_trained_models_texts() {
    let golden = golden("trained-web/golden.json");
    let tokenizer = tokenizer("trained-web/model");
    for case in golden["greedy"].as_array().unwrap() {
        let (prompt, text) = (case["prompt"].as_str().unwrap(), case["text"].as_str().unwrap());
        assert_eq!(tokenizer.encode(&format!("<s>{prompt}")).unwrap(), ids(&case["input_ids"]));
        assert_eq!(tokenizer.decode(&ids(&case["greedy_ids"]), true), text);
    }
}

#[test]
fn pieces_are_the_vocabularys_spelling() {
    let tokenizer = tokenizer("tokenizer");
    let ids = tokenizer.encode("<s>In the").unwrap();
    assert_eq!(tokenizer.pieces(&ids), ["<s>", "In", "Ġthe"]);
    assert_eq!(tokenizer.pieces(&[9_999_999]), ["<9999999>"]);
    assert_eq!(tokenizer.decode(&[9_999_999], false), "");
}

#[test]
fn random_ids_stream_as_they_decode_at_once() {
    let tokenizer = tokenizer("tokenizer");
    let mut state = 1u64;
    for _ in 0..200 {
        let ids: Vec<u32> = (0..40)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u32 % 300
            })
            .collect();
        assert_eq!(tokenizer.decode(&ids, false), tokenizer.inner.decode(&ids, false).unwrap());
    }
}

#[test]
fn keeps_the_files_bytes_and_its_absence() {
    let folder = Path::new(FIXTURES).join("tokenizer");
    assert_eq!(tokenizer("tokenizer").bytes(), std::fs::read(folder.join("tokenizer.json")).unwrap());
    assert!(Tokenizer::from_folder(&Path::new(FIXTURES).join("tiny/model")).unwrap().is_none());
    let message = Tokenizer::from_folder(Path::new("no/such/file.json")).unwrap_err().to_string();
    assert!(message.starts_with("cannot read no/such/file.json: "), "{message}");
}

#[test]
fn damaged_files_are_refused_by_name() {
    let whole = std::fs::read(Path::new(FIXTURES).join("tokenizer/tokenizer.json")).unwrap();
    for size in (0..whole.len()).step_by(9_973) {
        let message = Tokenizer::from_bytes(whole[..size].to_vec()).unwrap_err().to_string();
        assert!(message.starts_with("tokenizer.json is not a usable tokenizer: "), "{message}");
    }
}

/// The crate below panics on a decoder that does not parse, so the file is looked through first.
#[test]
fn damage_at_the_decoder_is_an_error() {
    let whole = std::fs::read_to_string(Path::new(FIXTURES).join("tokenizer/tokenizer.json")).unwrap();
    let refused = |text: &str, part: &str| {
        let message = Tokenizer::from_bytes(text.as_bytes().to_vec()).unwrap_err().to_string();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    };
    let decoder = whole.find(r#""decoder""#).unwrap();
    for end in decoder..decoder + 120 {
        refused(&whole[..end], "line 1 column");
    }
    refused(&whole.replace(r#""decoder":{"type":"ByteLevel""#, r#""decoder":{"type":"Fuse""#), "its decoder is Fuse");
    refused(
        &whole.replace(r#""decoder":{"type":"ByteLevel""#, r#""decoder":{"typo":"ByteLevel""#),
        "missing field `type`",
    );
    refused(&whole.replace(r#""decoder":{"#, r#""decoder":null,"x":{"#), "it has no decoder");
    refused(&whole.replace(r#""normalizer":null"#, r#""normalizer":{"type":"Precompiled"}"#), "Precompiled");
}

/// Cutting, padding and added tokens that the file asks for would change a prompt silently.
#[test]
fn truncation_and_padding_of_the_file_are_off() {
    let whole = std::fs::read_to_string(Path::new(FIXTURES).join("tokenizer/tokenizer.json")).unwrap();
    let truncation = r#""truncation":{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0}"#;
    let cutting = Tokenizer::from_bytes(whole.replace(r#""truncation":null"#, truncation).into_bytes()).unwrap();
    let text = "In the beginning";
    assert_eq!(cutting.encode(text).unwrap(), tokenizer("tokenizer").encode(text).unwrap());
}
