//! Checkpoints that ranks share, compiled (shown, converted, run) from their folder, without merging them first: what comes
//! out is what comes of the merged file, to the byte.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use bloomery_formats::Dtype;
use bloomery_formats::mindspore::{MindsporeCheckpoint, MindsporeWriter};
use bloomery_formats::strategy::{Layout, Parameter, StrategyFile};
use serde_json::{Value, json};

use crate::refused::refused;
use crate::shown::json as document;
use crate::{args, call, model, printed, stderr};

/// A training of the shipped model as files: `states.ckpt` with those of its optimizer, `whole` without; and folders of ranks
/// that share it.
struct Training(tempfile::TempDir);

impl Training {
    fn new() -> Training {
        let training = Training(tempfile::tempdir().unwrap());
        let (plain, states, whole) = (training.path("plain"), training.path("states.ckpt"), training.path("whole"));
        printed(args!["convert", &model("trained-web"), &plain, "--to", "mindspore"]);
        write_states(&plain.join("model.ckpt"), &states);
        fs::create_dir(&whole).unwrap();
        printed(args!["checkpoint", "clean", &states, &whole.join("model.ckpt")]);
        training.describe(&whole);
        training
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts what belongs to a model beside its weights.
    fn describe(&self, folder: &Path) {
        for name in ["config.json", "tokenizer.json"] {
            fs::copy(self.path("plain").join(name), folder.join(name)).unwrap();
        }
    }

    /// As MindFormers leaves it: `checkpoint/rank_N`, `strategy` beside that; and what belongs to the model.
    fn shared(&self, strategy: &str) -> PathBuf {
        let output = self.path(strategy);
        let (checkpoint, strategies) = (output.join("checkpoint"), output.join("strategy"));
        printed(args!["compile", &model("trained-web"), "--strategy", strategy, "--save-strategy", &strategies]);
        let states = self.path("states.ckpt");
        printed(args!["checkpoint", "transform", &states, &checkpoint, "--dst-strategy", &strategies]);
        self.describe(&output);
        checkpoint
    }

    fn compiled(&self, from: &Path, more: &[&str]) -> Contents {
        let artifact = self.path("a.bloom");
        let more: Vec<&OsStr> = more.iter().map(OsStr::new).collect();
        let words = args!["compile", from, "--target", "interpreter", "--max-context", "64", "-o", &artifact];
        printed(&[words, &more].concat());
        Contents::of(&artifact)
    }

    /// Compiling is refused, and nothing is left of it.
    fn refused(&self, from: &Path, more: &[&OsStr], parts: &[&str]) {
        let artifact = self.path("refused.bloom");
        refused(&[args!["compile", from, "--target", "interpreter", "-o", &artifact], more].concat(), parts);
        let left = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<String> = left.filter(|name| name.contains("refused") || name.contains("partial")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Writes weights as a training saves them.
fn write_states(from: &Path, to: &Path) {
    let weights = MindsporeCheckpoint::open(from, None).unwrap();
    let mut writer = MindsporeWriter::begin(to).unwrap();
    for entry in weights.entries() {
        writer.entry_like(entry).unwrap();
        writer.write(&weights.bytes(entry).unwrap()).unwrap();
    }
    for state in ["adam_m.", "adam_v.", "accu_grads."] {
        for entry in weights.entries() {
            writer.tensor(&format!("{state}{}", entry.name), Dtype::F32, &entry.shape).unwrap();
            writer.write(&vec![1; Dtype::F32.bytes(&entry.shape).unwrap()]).unwrap();
        }
    }
    writer.tensor("global_step", Dtype::I32, &[1]).unwrap();
    writer.write(&7i32.to_le_bytes()).unwrap();
    writer.complete().unwrap();
}

/// All that is in an artifact, but for what files it was made of.
#[derive(PartialEq)]
struct Contents {
    inputs: Vec<String>,
    /// Sections that are no provenance, by name.
    sections: Vec<(String, Vec<u8>)>,
    said: Value,
}

impl Contents {
    fn of(artifact: &Path) -> Contents {
        let mut said = document(args!["inspect", artifact, "--json"]);
        let bytes = fs::read(artifact).unwrap();
        let sections = said["sections"].as_array().unwrap().iter().filter(|section| section["name"] != "meta");
        let section = |section: &Value| {
            let [offset, length] = ["offset", "bytes"].map(|key| section[key].as_u64().unwrap() as usize);
            (section["name"].as_str().unwrap().to_owned(), bytes[offset..offset + length].to_vec())
        };
        let sections = sections.map(section).collect();
        let name = |input: &Value| input["name"].as_str().unwrap().to_owned();
        let inputs = said["provenance"]["inputs"].as_array().unwrap().iter().map(name).collect();
        said["provenance"]["inputs"].take();
        ["bytes", "sections"].iter().for_each(|key| drop(said[*key].take()));
        Contents { inputs, sections, said }
    }

    /// The same in everything, whatever files it was made of.
    fn same(&self, other: &Contents, what: &str) {
        for (key, said) in self.said.as_object().unwrap() {
            assert_eq!(said, &other.said[key], "{what}: {key}");
        }
        let names = |contents: &Contents| -> Vec<String> {
            contents.sections.iter().map(|(name, bytes)| format!("{name} {}", bytes.len())).collect()
        };
        assert_eq!(names(self), names(other), "{what}");
        assert!(self.sections == other.sections, "{what}");
    }
}

const SHARED: [&str; 4] = ["mp=2", "pp=2", "dp=2,optimizer_shard=true", "mp=2,pp=2"];

#[test]
fn a_shared_checkpoint_compiles_to_the_bytes_of_the_merged_one() {
    let training = Training::new();
    let merged = |to: &str| training.compiled(&training.path("whole"), &["--strategy", to]);
    let expected = ["dp=1", "mp=2", "mp=4,pp=2"].map(|to| (to, merged(to)));
    for strategy in SHARED {
        let checkpoint = training.shared(strategy);
        for (to, expected) in &expected {
            let found = training.compiled(&checkpoint, &["--strategy", to]);
            found.same(expected, &format!("{strategy} to {to}"));
            assert!(found.inputs.contains(&"slices of rank_1/checkpoint_1.ckpt".to_owned()), "{:?}", found.inputs);
            assert!(found.inputs.contains(&"ckpt_strategy_rank_0.ckpt".to_owned()), "{:?}", found.inputs);
        }
    }
}

/// Files that MindSpore itself transformed, with names, layouts and stages of MindFormers' Bloom.
#[test]
fn mindspores_own_files_compile_as_a_configuration_says() {
    let training = Training(tempfile::tempdir().unwrap());
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore/transform");
    let checkpoint = fixtures.join("cases/mindformers-dp2-mp2-pp2-opt-to-full/src");
    let strategy = fixtures.join("strategies/mindformers-dp2-mp2-pp2-opt.ckpt");
    let merged = training.path("merged.ckpt");
    printed(args!["checkpoint", "combine", &checkpoint, &merged, "--strategy", &strategy]);
    let compiled = |load: &Path, said: &str, more: &[&str]| {
        let yaml = training.path("run.yaml");
        let text = format!(
            "load_checkpoint: {}\n{said}model:\n  model_config:\n    hidden_size: 16\n    num_layers: 2\n    num_heads: 4\n    \
             vocab_size: 32\n    param_init_type: float16\n    seq_length: 64\n",
            load.display()
        );
        fs::write(&yaml, text).unwrap();
        training.compiled(&yaml, more)
    };
    let expected = compiled(&merged, "", &[]);
    let said = format!("src_strategy_path_or_dir: {}\n", strategy.display());
    compiled(&checkpoint, &said, &[]).same(&expected, "said in the file");
    compiled(&merged, &said, &[]).same(&expected, "a whole file needs none");
    let option = strategy.to_str().unwrap();
    compiled(&checkpoint, "src_strategy_path_or_dir: nowhere\n", &["--src-strategy", option])
        .same(&expected, "said on the command line");
}

#[test]
fn a_shared_checkpoint_is_shown_converted_and_compared_as_a_whole() {
    let training = Training::new();
    let checkpoint = training.shared("mp=2,pp=2");
    let found = document(args!["inspect", &checkpoint, "--json"]);
    assert_eq!((&found["kind"], &found["ranks"]["count"], &found["files"]), (&json!("folder"), &json!(4), &json!(4)));
    let text = printed(args!["inspect", &checkpoint]).replace("\n    ", " ");
    assert!(text.contains("tokenizer") && text.contains("all is in the files of 0, 1, 2, 3"), "{text}");
    let config = checkpoint.with_file_name("config.json");
    fs::remove_file(&config).unwrap();
    assert_eq!(document(args!["inspect", &checkpoint, "--json"])["kind"], "mindspore");
    let shown = |path: &Path| document(args!["checkpoint", "show", path, "--json"])["parameters"].clone();
    let (shared, whole) = (shown(&checkpoint), shown(&training.path("whole")));
    assert_eq!(shared.as_object().unwrap().len(), whole.as_object().unwrap().len());
    for (name, parameter) in whole.as_object().unwrap() {
        assert_eq!(&shared[name], parameter, "{name}");
    }
    fs::copy(training.path("whole/config.json"), checkpoint.join("config.json")).unwrap();
    let converted = training.path("hf");
    printed(args!["convert", &checkpoint, &converted, "--to", "hf"]);
    let [ours, theirs] =
        [converted, model("trained-web")].map(|folder| fs::read(folder.join("model.safetensors")).unwrap());
    assert!(ours == theirs);
}

/// Compiled on first use, and again when a rank's file is another.
#[test]
fn a_shared_checkpoint_runs_by_its_folder() {
    let training = Training::new();
    let checkpoint = training.shared("mp=2");
    let cache = training.path("cache");
    let run = || {
        let mut command = crate::bloomery();
        command.arg("run").arg(&checkpoint).args([
            "--input-ids",
            "5,6,7",
            "--max-new-tokens",
            "4",
            "--greedy",
            "--json",
        ]);
        let output = command.env("XDG_CACHE_HOME", &cache).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (stderr(&output).contains("is compiled on first use"), output.stdout)
    };
    let (first, again) = (run(), run());
    assert!(first.0 && !again.0);
    let said = |output: &[u8]| serde_json::from_slice::<Value>(output).unwrap()["sequences"].clone();
    assert_eq!(said(&first.1), said(&again.1));
    let rank = checkpoint.join("rank_1/checkpoint_1.ckpt");
    let bytes = fs::read(&rank).unwrap();
    fs::remove_file(&rank).unwrap();
    fs::write(&rank, bytes).unwrap();
    assert!(run().0);
}

#[test]
fn what_is_missing_or_doubled_is_told() {
    let training = Training::new();
    let checkpoint = training.shared("mp=2,pp=2");
    let (rank, strategy) = (
        |rank: u32| checkpoint.join(format!("rank_{rank}/checkpoint_{rank}.ckpt")),
        checkpoint.with_file_name("strategy"),
    );
    fs::copy(rank(2), checkpoint.join("rank_2/other.ckpt")).unwrap();
    training.refused(
        &checkpoint,
        &[],
        &["rank_2 holds 2 checkpoints of rank 2", "checkpoint_2.ckpt and other.ckpt", "leave one"],
    );
    fs::remove_file(checkpoint.join("rank_2/other.ckpt")).unwrap();
    let moved = training.path("moved");
    fs::rename(checkpoint.join("rank_2"), &moved).unwrap();
    training.refused(
        &checkpoint,
        &[],
        &["has no folder of rank 2, which the whole needs: expected", "checkpoint/rank_2"],
    );
    fs::rename(&moved, checkpoint.join("rank_2")).unwrap();
    let config = checkpoint.with_file_name("config.json");
    fs::rename(&config, &moved).unwrap();
    training.refused(&checkpoint, &[], &["checkpoint has files of ranks and no config.json", "load_checkpoint is"]);
    fs::rename(&moved, &config).unwrap();
    fs::rename(&strategy, &moved).unwrap();
    let parts =
        ["has folders of 4 ranks", "neither", "checkpoint/strategy nor", "mp=2,pp=2/strategy", "--src-strategy"];
    training.refused(&checkpoint, &[], &parts);
    let one = moved.join("ckpt_strategy_rank_0.ckpt");
    training.refused(&checkpoint, args!["--src-strategy", &one], &["has a folder of rank 2", "ranks 0 to 1"]);
    let nothing = training.path("nothing");
    training.refused(&checkpoint, args!["--src-strategy", &nothing], &["nothing"]);
    let file = training.path("whole/model.ckpt");
    training.refused(&file, args!["--src-strategy", &moved], &["is no folder with rank_N/*.ckpt", "leave it out"]);
    training.compiled(&checkpoint, &["--src-strategy", moved.to_str().unwrap()]);
    // Nothing is left to say of one rank that has all.
    let alone = training.path("alone");
    fs::create_dir_all(alone.join("rank_0")).unwrap();
    for (from, to) in [("whole/model.ckpt", "rank_0/any.ckpt"), ("whole/config.json", "config.json")] {
        fs::copy(training.path(from), alone.join(to)).unwrap();
    }
    training.compiled(&alone, &[]);
}

const WEIGHT: &str = "blocks.3.output.mapping.weight";

#[test]
fn files_and_strategies_that_do_not_fit_are_told() {
    let training = Training::new();
    let checkpoint = training.shared("mp=2,pp=2");
    let written = |change: &dyn Fn(&mut Vec<Parameter>)| {
        let [own, changed] = ["strategy", "changed"].map(|name| checkpoint.with_file_name(name));
        fs::create_dir_all(&changed).unwrap();
        for rank in 0..4 {
            let name = format!("ckpt_strategy_rank_{rank}.ckpt");
            let mut file = StrategyFile::open(&own.join(&name)).unwrap();
            if rank > 1 {
                change(&mut file.parameters);
            }
            file.write(&changed.join(&name)).unwrap();
        }
        changed
    };
    let lacking = written(&|all| all.retain(|one| one.name != WEIGHT));
    let parts =
        ["parameter blocks.3.output.mapping.weight for the whole: the source's strategy lacks it", "[128, 256]"];
    training.refused(&checkpoint, args!["--src-strategy", &lacking], &parts);
    let more = written(&|all| {
        all.push(Parameter { name: "more".to_owned(), layout: Layout::new(vec![2], vec![vec![]], None) });
    });
    let parts = ["rank 3 lacks parameter more, which the source's strategy has", "rank_3/checkpoint_3.ckpt"];
    training.refused(&checkpoint, args!["--src-strategy", &more], &parts);
    let path = checkpoint.join("rank_3/checkpoint_3.ckpt");
    let old = MindsporeCheckpoint::open(&path, None).unwrap();
    let mut new = MindsporeWriter::begin(&path).unwrap();
    for entry in old.entries() {
        let dtype = if entry.name == WEIGHT { Dtype::F32 } else { entry.dtype().unwrap() };
        new.tensor(&entry.name, dtype, &entry.shape).unwrap();
        new.write(&vec![0; dtype.bytes(&entry.shape).unwrap()]).unwrap();
    }
    new.complete().unwrap();
    let parts = ["rank 3 has parameter", WEIGHT, "Float32 [128, 256], expected Float16 [128, 256] as in rank 2"];
    training.refused(&checkpoint, &[], &parts);
}

/// A checkpoint as MindSpore encrypts it with AES-GCM: blocks, of so many bytes each.
fn encrypted(plain: &[u8], block: usize) -> Vec<u8> {
    use aes_gcm::aead::{AeadInPlace, KeyInit};
    let cipher = aes_gcm::Aes128Gcm::new_from_slice(KEY.as_bytes()).unwrap();
    let mut file = Vec::new();
    for (number, block) in plain.chunks(block).enumerate() {
        let (vector, mut bytes) = ([number as u8; 16], block.to_vec());
        let tag = cipher.encrypt_in_place_detached(vector[..12].into(), b"", &mut bytes).unwrap();
        let length = |length: usize| (length as u32).to_le_bytes();
        let head = [&[0xd8, 0x5e, 0x3a, 0x7f], &tag[..], &length(bytes.len() + 24), &length(16), &vector];
        file.extend([&head.concat()[..], &length(bytes.len()), &bytes].concat());
    }
    file
}

const KEY: &str = "0123456789ABCDEF";

#[test]
fn encrypted_checkpoints_compile_with_their_key() {
    let training = Training::new();
    let whole = training.path("whole/model.ckpt");
    let expected = training.compiled(&whole, &[]);
    let alone = training.path("alone");
    fs::create_dir(&alone).unwrap();
    training.describe(&alone);
    let path = alone.join("model.ckpt");
    let file = encrypted(&fs::read(&whole).unwrap(), 300_000);
    fs::write(&path, &file).unwrap();
    training.compiled(&path, &["--key", KEY]).same(&expected, "one file");
    training.refused(&path, &[], &["it is encrypted (AES-GCM)", "--key"]);
    training.refused(&path, args!["--key", "0123456789ABCDEG"], &["does not open encrypted block 1"]);
    training.refused(&whole, args!["--key", KEY], &["it is not encrypted"]);
    training.refused(&model("tiny"), args!["--key", KEY], &["is not encrypted"]);
    // A block amid a tensor is not looked at before it is needed.
    let mut damaged = file.clone();
    damaged[300_000 + 1000] ^= 1;
    fs::write(&path, damaged).unwrap();
    training.refused(&path, args!["--key", KEY], &["model.ckpt", "does not open encrypted block 2"]);
    let checkpoint = training.shared("mp=2");
    for rank in 0..2 {
        let path = checkpoint.join(format!("rank_{rank}/checkpoint_{rank}.ckpt"));
        fs::write(&path, encrypted(&fs::read(&path).unwrap(), 100_000)).unwrap();
    }
    training.compiled(&checkpoint, &["--key", KEY]).same(&expected, "files of ranks");
    let output = call(args!["compile", "--size", "560m", "--random-weights", "1", "--key", KEY, "-o", "a.bloom"]);
    assert_eq!(output.status.code(), Some(2));
}
