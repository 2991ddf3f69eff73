//! Checkpoints of MindSpore's: shown, compared, cleaned, converted, compiled.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use bloomery_formats::mindspore::{MindsporeCheckpoint, MindsporeWriter};
use bloomery_formats::{Checkpoint, Dtype};
use serde_json::{Value, json};

use crate::{model, stderr};

/// Words of a command line.
macro_rules! words {
    ($($word:expr),* $(,)?) => { vec![$(OsString::from($word)),*] };
}

fn call(words: &[OsString]) -> Output {
    crate::call(&words.iter().map(OsString::as_os_str).collect::<Vec<_>>())
}

fn printed(words: Vec<OsString>) -> String {
    crate::printed(&words.iter().map(OsString::as_os_str).collect::<Vec<_>>())
}

fn printed_json(words: Vec<OsString>) -> Value {
    serde_json::from_str(&printed([words, words!["--json"]].concat())).unwrap()
}

fn refused(words: Vec<OsString>, parts: &[&str]) {
    crate::refused::refused(&words.iter().map(OsString::as_os_str).collect::<Vec<_>>(), parts);
}

fn ckpt(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore/ckpt").join(name)
}

const KEY: &str = "0123456789ABCDEF";

fn entries(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn shown(path: &Path, more: Vec<OsString>) -> Value {
    printed_json([words!["checkpoint", "show", path], more].concat())
}

/// Hashes as MindSpore's own values have them, for every file it wrote.
#[test]
fn golden_files_are_shown_with_the_recorded_hashes() {
    let expected: Value = serde_json::from_slice(&fs::read(ckpt("expected.json")).unwrap()).unwrap();
    for (file, said) in expected.as_object().unwrap().iter().filter(|(file, _)| file.ends_with(".ckpt")) {
        let key = if file.starts_with("aes") { words!["--key", KEY] } else { words![] };
        let found = shown(&ckpt(file), key);
        let (found, said) = (found["parameters"].as_object().unwrap(), said.as_object().unwrap());
        assert!(found.keys().eq(said.keys()), "{file}");
        for (name, said) in said {
            let one = &found[name];
            let shape = if said[0] == json!([0]) { json!([]) } else { said[0].clone() };
            assert_eq!([&one["shape"], &one["type"], &one["bytes"]], [&shape, &said[1], &said[2]], "{file} {name}");
            let hash = one["sha256"].as_str().unwrap();
            assert!(hash.len() == 64 && hash.starts_with(said[4].as_str().unwrap()), "{file} {name}: {hash}");
        }
    }
    let text = printed(words!["checkpoint", "show", ckpt("dtypes.ckpt")]);
    assert!(
        text.starts_with("22 parameters, 205 B\n") && text.contains("= 2400") && text.contains("= \"ünïcode 步\""),
        "{text}"
    );
    let inspected = printed(words!["inspect", ckpt("aes-cbc.ckpt"), "--key", KEY]);
    assert!(inspected.contains("tensors   1 in 1 file, 32 B: 1 f32"), "{inspected}");
}

#[test]
fn a_checkpoint_is_known_by_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whatever.bin");
    fs::copy(ckpt("train-state.ckpt"), &path).unwrap();
    let found: Value = printed_json(words!["inspect", &path]);
    assert_eq!((&found["kind"], found["tensors"].as_array().unwrap().len()), (&json!("mindspore"), 91));
    assert_eq!(shown(&path, words![])["parameters"].as_object().unwrap().len(), 91);
}

/// There and back: the same bytes in every tensor under the same names, and the same config.json.
#[test]
fn to_mindspore_and_back_is_the_same_to_the_bit() {
    let all = [
        "tiny",
        "tiny-nonpow2",
        "tiny-bf16",
        "tiny-safetensors-sharded",
        "tiny-bin",
        "tiny-bin-lmhead",
        "tiny-bin-legacy",
        "tiny-sharded",
        "tiny-untied",
        "trained-web",
    ];
    for name in all {
        let folder = tempfile::tempdir().unwrap();
        let [there, back] = ["there", "back"].map(|name| folder.path().join(name));
        printed(words!["convert", model(name), &there, "--to", "mindspore"]);
        printed(words!["convert", &there, &back, "--to", "hf"]);
        let same: Value = printed_json(words!["checkpoint", "diff", model(name), &back]);
        assert_eq!(same["equal"], true, "{name}: {same}");
        for file in ["config.json", "tokenizer.json", "generation_config.json"] {
            let read = |folder: &Path| fs::read(folder.join(file)).ok();
            assert_eq!(read(&model(name)), read(&back), "{name} {file}");
        }
        let whole = model(name).join("model.safetensors");
        if whole.exists() {
            assert_eq!(fs::read(whole).unwrap(), fs::read(back.join("model.safetensors")).unwrap(), "{name}");
        }
        assert_eq!(entries(folder.path()), ["back", "there"]);
    }
}

#[test]
fn names_in_a_checkpoint_are_bare_and_in_mindformers_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.ckpt");
    printed(words!["convert", model("tiny-untied"), &path, "--to", "mindspore"]);
    let checkpoint = MindsporeCheckpoint::open(&path, None).unwrap();
    let names: Vec<&str> = checkpoint.entries().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(
        names[..4],
        [
            "embedding.word_embedding.embedding_table",
            "embedding.norm.gamma",
            "embedding.norm.beta",
            "blocks.0.layernorm1.gamma"
        ]
    );
    assert_eq!(names[names.len() - 3..], ["ln_f.gamma", "ln_f.beta", "head.weight"]);
    // A file alone says nothing of heads, and what stood before names is what transformers puts there.
    let back = folder.path().join("back");
    printed(words!["convert", &path, &back, "--to", "hf", "--heads", "4", "--shard-size", "20KB"]);
    let shards = entries(&back);
    assert!(shards.len() > 4 && shards.contains(&"model.safetensors.index.json".to_owned()), "{shards:?}");
    let opened = Checkpoint::open(&back).unwrap();
    let original = Checkpoint::open(&model("tiny-untied")).unwrap();
    for tensor in original.tensors() {
        assert_eq!(opened.tensor(tensor.name).unwrap().bytes, tensor.bytes, "{}", tensor.name);
    }
}

#[test]
fn types_change_with_a_count_of_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let [wide, narrow] = ["wide.ckpt", "narrow.ckpt"].map(|name| folder.path().join(name));
    printed(words!["convert", model("tiny"), &wide, "--to", "mindspore"]);
    // Two numbers that f16 cannot hold.
    let checkpoint = MindsporeCheckpoint::open(&wide, None).unwrap();
    let spoilt = folder.path().join("spoilt.ckpt");
    let mut writer = MindsporeWriter::begin(&spoilt).unwrap();
    for entry in checkpoint.entries() {
        let mut bytes = checkpoint.bytes(entry).unwrap().into_owned();
        if entry.name == "blocks.0.attention.dense2.weight" {
            bytes[..8].copy_from_slice(&[1e6f32.to_le_bytes(), 1e-9f32.to_le_bytes()].concat());
        }
        writer.entry_like(entry).unwrap();
        writer.write(&bytes).unwrap();
    }
    writer.complete().unwrap();
    let convert = |dtype: &str, to: &Path| -> Value {
        printed_json(words!["convert", &spoilt, to, "--to", "mindspore", "--heads", "4", "--dtype", dtype])
    };
    let made = convert("f16", &narrow);
    assert_eq!((&made["overflowed"], &made["tensors"]), (&json!(1), &json!(37)), "{made}");
    assert!(made["flushed"].as_u64().unwrap() >= 1, "{made}");
    let made = convert("bf16", &folder.path().join("b.ckpt"));
    assert_eq!((&made["overflowed"], &made["flushed"]), (&json!(0), &json!(0)), "{made}");
    assert!(made["notes"][0].as_str().unwrap().contains("MindSpore 2.0.0 knows no BFloat16"), "{made}");
    let text = printed(words!["checkpoint", "diff", &spoilt, &narrow]);
    let line = text.lines().find(|line| line.starts_with("blocks.0.attention.dense2.weight")).unwrap();
    assert!(line.contains("type Float32 and Float16") && line.contains("first at [0, 0]: 1000000 and inf"), "{line}");
}

#[test]
fn models_of_mindspores_files_compile_to_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    printed(words!["convert", model("tiny-nonpow2"), &there, "--to", "mindspore"]);
    let yaml = folder.path().join("run.yaml");
    let text = format!(
        "load_checkpoint: {}\nmodel:\n  model_config:\n    hidden_size: 96\n    num_layers: 2\n    num_heads: 6\n    \
         vocab_size: 256\n    param_init_type: float32\n    embedding_init_type: float32\n    seq_length: 512\n",
        there.join("model.ckpt").display()
    );
    fs::write(&yaml, text).unwrap();
    let logits = |of: &Path| {
        let (artifact, file) = (folder.path().join("a.bloom"), folder.path().join("a.safetensors"));
        printed(words!["compile", of, "--target", "interpreter", "-o", &artifact]);
        printed(words!["logits", &artifact, "--input-ids", "5,6,7,8", "-o", &file]);
        fs::read(file).unwrap()
    };
    let expect = logits(&model("tiny-nonpow2"));
    fs::create_dir(folder.path().join("cut")).unwrap();
    let cut = folder.path().join("cut/model.ckpt");
    fs::copy(there.join("config.json"), cut.with_file_name("config.json")).unwrap();
    fs::write(&cut, in_pieces(&there.join("model.ckpt"))).unwrap();
    for of in [there.clone(), there.join("model.ckpt"), yaml, cut] {
        assert!(logits(&of) == expect, "{}", of.display());
    }
}

/// A checkpoint with every tensor cut in two, as MindSpore cuts large ones.
fn in_pieces(path: &Path) -> Vec<u8> {
    let checkpoint = MindsporeCheckpoint::open(path, None).unwrap();
    let mut file = Vec::new();
    for entry in checkpoint.entries() {
        let bytes = checkpoint.bytes(entry).unwrap();
        for piece in bytes.chunks(bytes.len() / 2 + 1) {
            let dims = entry.shape.iter().flat_map(|dim| [vec![0x08], varint(*dim)].concat());
            let head = [dims.collect(), field(2, entry.kind.name().as_bytes()), field(3, piece)].concat();
            file.extend(field(1, &[field(1, entry.name.as_bytes()), field(2, &head)].concat()));
        }
    }
    file
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint(bytes.len()), bytes.to_vec()].concat()
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[test]
fn cleaning_leaves_what_is_no_optimizers() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("clean.ckpt");
    let said: Value =
        serde_json::from_str(&printed(words!["checkpoint", "clean", ckpt("train-state.ckpt"), &target, "--json"]))
            .unwrap();
    assert_eq!((&said["kept"], &said["dropped"]), (&json!(28), &json!(63)), "{said}");
    let kept = shown(&target, words![]);
    let names: Vec<&String> = kept["parameters"].as_object().unwrap().keys().collect();
    assert!(names.iter().all(|name| !name.contains("adam_") && !name.contains("accu_grads")), "{names:?}");
    let compared = printed(words!["checkpoint", "diff", &target, ckpt("train-state.ckpt")]);
    assert!(compared.ends_with("28 tensors the same, 0 different, 63 in one of both\n"), "{compared}");
    let clean = words!["checkpoint", "clean", ckpt("train-state-2.0.0.ckpt"), &target];
    refused(clean.clone(), &["clean.ckpt is there already", "--force"]);
    printed([clean, words!["--force"]].concat());
    assert_eq!(shown(&target, words![]), kept);
    assert_eq!(entries(folder.path()), ["clean.ckpt"]);
}

/// Twelve shards and their index are replaced by two, and these by one without an index.
#[test]
fn a_replaced_folder_holds_only_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("hf");
    let shards = |size: &str| {
        printed(words!["convert", model("tiny"), &target, "--to", "hf", "--shard-size", size, "--force"]);
        entries(&target).into_iter().filter(|name| name != "config.json").collect::<Vec<_>>()
    };
    let (many, two, one) = (shards("60KB"), shards("300KB"), shards("5GB"));
    assert!(many.len() == 13 && many.contains(&"model.safetensors.index.json".to_owned()), "{many:?}");
    assert!(two.len() == 3 && two.iter().all(|name| !many[..many.len() - 1].contains(name)), "{two:?}");
    assert_eq!(one, ["model.safetensors"]);
    printed(words!["convert", model("tiny"), &target, "--to", "mindspore", "--force"]);
    assert_eq!(entries(&target), ["config.json", "model.ckpt"]);
    assert_eq!(entries(folder.path()), ["hf"]);
}

/// Each is refused with one message, and leaves what was there and nothing else.
#[test]
fn what_cannot_be_converted_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let target = path("target");
    printed(words!["convert", model("tiny"), path("one.ckpt"), "--to", "mindspore"]);
    let whole = fs::read(path("one.ckpt")).unwrap();
    let to_hf = |source: &Path, more: Vec<OsString>, parts: &[&str]| {
        refused([words!["convert", source, &target, "--to", "hf"], more].concat(), parts);
        assert!(!target.exists());
    };
    let heads = || words!["--heads", "4"];
    to_hf(&path("one.ckpt"), words![], &["one.ckpt has 2 layers of width 64", "say --heads N"]);
    to_hf(&path("one.ckpt"), words!["--heads", "5"], &["--heads says 5", "64, cannot be divided"]);
    fs::write(path("cut.ckpt"), &whole[..whole.len() - 7]).unwrap();
    to_hf(&path("cut.ckpt"), heads(), &["cut.ckpt cannot be read", "value 37", "cut short"]);
    // Cut between two values it is a shorter whole, but no model.
    let last = whole.len() - (64 * 4 + 2 + 1 + 2 + 9 + 2 + 11 + 3);
    let shorter = (last - 8..last + 9).find(|length| {
        fs::write(path("shorter.ckpt"), &whole[..*length]).unwrap();
        MindsporeCheckpoint::open(&path("shorter.ckpt"), None).is_ok()
    });
    assert!(shorter.is_some());
    to_hf(&path("shorter.ckpt"), heads(), &["the weights lack tensor ln_f.beta"]);
    let mut damaged = whole.clone();
    damaged[1] ^= 0x20;
    fs::write(path("damaged.ckpt"), damaged).unwrap();
    to_hf(&path("damaged.ckpt"), heads(), &["damaged.ckpt cannot be read as a checkpoint of MindSpore's: ", "value 1"]);
    to_hf(&ckpt("aes-gcm.ckpt"), heads(), &["it is encrypted (AES-GCM): give its key with --key"]);
    to_hf(&ckpt("aes-gcm.ckpt"), words!["--key", "0123456789ABCDEG"], &["the key does not open encrypted block 1"]);
    to_hf(&ckpt("bf16.ckpt"), heads(), &["no table of an embedding"]);
    fs::create_dir(path("two")).unwrap();
    let _ = ["a.ckpt", "b.ckpt"].map(|name| fs::copy(path("one.ckpt"), path("two").join(name)).unwrap());
    to_hf(&path("two"), heads(), &["holds 2 checkpoints, a.ckpt and b.ckpt among them"]);
    fs::write(path("two/config.json"), fs::read(model("tiny").join("config.json")).unwrap()).unwrap();
    to_hf(&path("two/a.ckpt"), words!["--heads", "8"], &["--heads says 8 and", "says 4"]);

    // What is there stays there.
    fs::create_dir(&target).unwrap();
    fs::write(target.join("thesis.txt"), "years of work").unwrap();
    let convert = words!["convert", path("two/a.ckpt"), &target, "--to", "hf"];
    refused(convert.clone(), &["target is there already", "--force"]);
    refused([convert.clone(), words!["--force"]].concat(), &["holds thesis.txt, which is no part of a model"]);
    fs::remove_file(target.join("thesis.txt")).unwrap();
    fs::write(target.join("model.safetensors"), "old").unwrap();
    printed([convert, words!["--force"]].concat());
    assert_eq!(entries(&target), ["config.json", "model.safetensors"]);
    refused(words!["convert", model("tiny"), model("tiny"), "--to", "hf", "--force"], &["is what is read"]);
    refused(words!["convert", model("tiny"), path("one.ckpt"), "--to", "mindspore"], &["one.ckpt is there already"]);
    refused(words!["convert", model("tiny"), path("no/such/one.ckpt"), "--to", "mindspore"], &["cannot write"]);
    assert_eq!(fs::read(path("one.ckpt")).unwrap(), whole);
    let expect = ["cut.ckpt", "damaged.ckpt", "one.ckpt", "shorter.ckpt", "target", "two"];
    assert_eq!(entries(folder.path()), expect);
}

#[test]
fn names_of_new_files_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let source = model("tiny-nonpow2");
    for (target, to) in [("new.ckpt", "hf"), ("new.safetensors", "hf"), ("new.safetensors", "mindspore")] {
        refused(words!["convert", &source, at(target), "--to", to], &[target, "is a file's name: name a folder"]);
    }
    let sized = words!["convert", &source, at("new.ckpt"), "--to", "mindspore", "--shard-size", "1KB"];
    refused(sized, &["--shard-size is for --to hf"]);
    let trained = ckpt("train-state.ckpt");
    refused(words!["checkpoint", "clean", &trained, at("new")], &["does not end in .ckpt", "new.ckpt"]);
    let copied = at("copied.ckpt");
    fs::copy(&trained, &copied).unwrap();
    refused(words!["checkpoint", "clean", &copied, &copied, "--force"], &["is what is read"]);
    assert_eq!(fs::read(&copied).unwrap(), fs::read(&trained).unwrap());
    refused(
        words!["compile", &copied, "-o", at("new.bloom")],
        &["no config.json beside it", "--heads", "load_checkpoint"],
    );
    assert_eq!(entries(folder.path()), ["copied.ckpt"]);
}

/// Names without a prefix: a folder keeps that, a file cannot.
#[test]
fn a_file_tells_that_it_loses_what_stood_before_names() {
    let folder = tempfile::tempdir().unwrap();
    let [file, kept] = ["new.ckpt", "new"].map(|name| folder.path().join(name));
    let notes = |source: &str, target: &Path| {
        let converted = printed_json(words!["convert", model(source), target, "--to", "mindspore", "--force"]);
        converted["notes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|note| note.as_str().unwrap().contains("keep that"))
            .count()
    };
    assert_eq!(notes("tiny-nonpow2", &file), 1);
    assert_eq!(notes("tiny-nonpow2", &kept), 0);
    assert_eq!(notes("tiny", &file), 0);
}

#[test]
fn sizes_and_keys_on_the_command_line() {
    for (arguments, part) in [
        (words!["convert", "a", "b", "--to", "hf", "--shard-size", "5XB"], "no size such as 5GB"),
        (words!["checkpoint", "show", "a", "--key", "short"], "a key has 16, 24 or 32 bytes"),
    ] {
        let output = call(&arguments);
        assert!(output.status.code() == Some(2) && stderr(&output).contains(part), "{}", stderr(&output));
    }
}

/// The models of MindFormers 0.8.0, by its own keys: its logits, which it computes in f16, within 0.02.
#[test]
fn models_of_mindformers_give_its_logits() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore/models");
    let expected: Value = serde_json::from_slice(&fs::read(models.join("expected.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (case, said) in expected["cases"].as_object().unwrap() {
        // The same weights under another gate.
        let weights = models.join(format!("{}.ckpt", if case == "fast-gelu" { "gelu" } else { case }));
        let keys = [
            "vocab_size",
            "hidden_size",
            "num_layers",
            "num_heads",
            "hidden_act",
            "param_init_type",
            "embedding_init_type",
        ];
        let lines = keys.iter().filter_map(|key| Some(format!("    {key}: {}\n", plain(said["config"].get(key)?))));
        let yaml = folder.path().join(format!("{case}.yaml"));
        let lines: String = lines.collect();
        let text =
            format!("load_checkpoint: {}\nmodel:\n  model_config:\n    seq_length: 64\n{lines}", weights.display());
        fs::write(&yaml, text).unwrap();
        let [artifact, file] = ["a.bloom", "a.safetensors"].map(|name| folder.path().join(name));
        printed(words!["compile", &yaml, "--target", "interpreter", "-o", &artifact]);
        let golden = Checkpoint::open_file(&models.join(format!("{case}.safetensors"))).unwrap();
        let (tokens, logits) = (golden.tensor("tokens").unwrap(), golden.tensor("logits").unwrap());
        let (length, vocab) = (tokens.shape[1], logits.shape[2]);
        let tokens: Vec<i32> = tokens.bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
        let mut largest = 0f32;
        for row in 0..3 {
            // Ends of texts are masked there, and not here: what comes before them is the same.
            let row_tokens = &tokens[row * length..][..length];
            let until = row_tokens.iter().position(|id| *id == 2).unwrap_or(length);
            let ids: Vec<String> = row_tokens[..until].iter().map(i32::to_string).collect();
            printed(words!["logits", &artifact, "--input-ids", ids.join(","), "-o", &file]);
            let found = Checkpoint::open_file(&file).unwrap();
            let found = floats(found.tensor("logits").unwrap().bytes);
            let expect = floats(&logits.bytes[row * length * vocab * 4..]);
            for (found, expect) in found.iter().zip(&expect).take(until * vocab) {
                largest = largest.max((found - expect).abs());
            }
        }
        assert!(largest > 0.0 && largest < 0.02, "{case}: {largest}");
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn names_cannot_break_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ckpt");
    let mut writer = MindsporeWriter::begin(&path).unwrap();
    for name in ["first", "second\nfalse line\u{1b}[2J"] {
        writer.tensor(name, Dtype::F32, &[1]).unwrap();
        writer.write(&[0; 4]).unwrap();
    }
    writer.complete().unwrap();
    for command in [crate::args!["checkpoint", "show", &path], crate::args!["inspect", &path]] {
        let text = crate::printed(command);
        assert!(text.contains("second\\nfalse line\\u{1b}[2J ") && text.lines().count() == 3, "{text}");
    }
}
