//! YAML configurations: shown after defaults, and compiled.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::json as value;

use crate::refused::refused;
use crate::shown::json;
use crate::{args, bloomery, model, printed, stderr};

const SIZES: [&str; 4] = ["560m", "7.1b", "65b", "176b"];
/// Settings of drawing that MindFormers' code takes where nothing is said.
const DRAWN: &str = "do_sample=true top_k=5 top_p=1.0";

/// One of the files that are shipped.
fn shipped(size: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../configs/bloom/run_bloom_{size}.yaml"))
}

/// A file about the trained model.
struct Written(tempfile::TempDir);

impl Written {
    fn new(more: &str) -> Written {
        let folder = tempfile::tempdir().unwrap();
        let weights = model("trained-web");
        let text = format!(
            "model:\n  model_config:\n    hidden_size: 128\n    num_layers: 4\n    num_heads: 4\n    vocab_size: 4096\n    \
             seq_length: 96\n    param_init_type: float16\n    checkpoint_name_or_path: {}\n{more}",
            weights.display()
        );
        std::fs::write(folder.path().join("run.yaml"), text).unwrap();
        Written(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("run.yaml")
    }

    fn artifact(&self) -> PathBuf {
        self.0.path().join("model.bloom")
    }

    /// Compiles it, and returns what is in the artifact.
    fn compiled(&self, more: &[&str]) -> serde_json::Value {
        let more: Vec<&OsStr> = more.iter().map(OsStr::new).collect();
        let (file, artifact) = (self.file(), self.artifact());
        let compile = args!["compile", &file, "--target", "interpreter", "-o", &artifact];
        printed(&[compile, &more].concat());
        json(args!["inspect", &self.artifact(), "--json"])
    }

    /// Compiling must fail, and leave no artifact.
    fn no_artifact(&self, more: &[&str], parts: &[&str]) {
        let more: Vec<&OsStr> = more.iter().map(OsStr::new).collect();
        let (file, artifact) = (self.file(), self.artifact());
        let compile = args!["compile", &file, "--target", "interpreter", "-o", &artifact];
        refused(&[compile, &more].concat(), parts);
        assert!(!self.artifact().exists());
    }
}

#[test]
fn shipped_files_are_shown_on_a_narrow_terminal() {
    for size in SIZES {
        let table = printed(args!["config", "show", &shipped(size)]);
        // The first line is the file's path, wherever that is.
        let wide = table.lines().skip(1).find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{size}");
    }
    let table = printed(args!["config", "show", &shipped("65b"), "--set", "parallel_config.stages=mindformers"]);
    for part in [
        "model     80 layers, 8192 hidden, 64 heads of 128, MLP 32768\n",
        "vocabulary 250880, 66,488,270,848 parameters\n",
        "weights   none are named\n",
        "ranks     96 = dp 2 x mp 4 x pp 12\n",
        "layers    11 x 6, 14 by stage\n",
        "step      196,608 tokens = 96 x 2048\n",
        "\nparallel_config\n  data_parallel               2                         line ",
        "\n  stages                      mindformers               --set\n",
        "\n  keep_checkpoint_max         5                         default of MindFormers\n",
        "note: hidden_act fast_gelu (line ",
        "changes nothing:",
    ] {
        assert!(table.contains(part), "{table}\nlacks {part:?}");
    }
}

#[test]
fn a_configuration_is_one_document() {
    let shown = json(args!["config", "show", &shipped("7.1b"), "--set", "seed=7", "--devices", "8", "--json"]);
    let keys: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["file", "model", "strategy", "batch", "weights", "settings", "notes", "ignored"]);
    assert_eq!((&shown["model"]["parameters"], &shown["strategy"]["ranks"]), (&value!(7_069_016_064_u64), &value!(8)));
    assert_eq!(shown["batch"], value!({"sequences": 8, "length": 2048, "tokens": 16384}));
    assert_eq!(shown["settings"][0], value!({"path": "seed", "value": 7, "origin": {"set": "seed=7"}}));
}

#[test]
fn a_configuration_compiles_as_the_folder_it_names() {
    let written = Written::new("");
    let artifact = written.compiled(&[]);
    assert_eq!((&artifact["max_context"], &artifact["options"]["dtype"]), (&value!(96), &value!("configured")));
    let inputs = artifact["provenance"]["inputs"].as_array().unwrap();
    assert!(inputs.iter().any(|input| input["name"] == "run.yaml"), "{inputs:?}");
    let table = printed(args!["inspect", &written.artifact()]);
    assert!(table.replace("\n    ", " ").contains(DRAWN), "{table}");
    let run = |artifact: &Path| {
        let prompt = args!["--prompt", "In the beginning", "--greedy", "--max-new-tokens", "8", "--json"];
        json(&[args!["run", artifact], prompt].concat())["sequences"].clone()
    };
    assert_eq!(run(&written.artifact()), run(crate::trained()));
}

#[test]
fn options_come_before_the_configuration_and_set_before_its_file() {
    let written = Written::new("");
    let of = |artifact: &serde_json::Value, option: &str| artifact["options"][option].as_str().map(str::to_owned);
    let set = written.compiled(&["--set", "model.model_config.seq_length=32", "--random-weights", "5"]);
    assert_eq!(set["max_context"], value!(32));
    assert_eq!(of(&set, "set").as_deref(), Some("model.model_config.seq_length=32"));
    assert_eq!((of(&set, "random-weights").as_deref(), of(&set, "kv-dtype").as_deref()), (Some("5"), Some("f16")));
    let asked = written.compiled(&["--max-context", "48", "--dtype", "f32"]);
    assert_eq!((&asked["max_context"], of(&asked, "kv-dtype").as_deref()), (&value!(48), Some("f32")));
    let kept = written.compiled(&["--dtype", "keep"]);
    assert_eq!(of(&kept, "dtype").as_deref(), Some("keep"));
}

#[test]
fn shipped_files_are_compiled_for_one_rank() {
    for size in SIZES {
        let random = args!["--random-weights", "1", "--set", "use_parallel=False", "--emit", "program"];
        let program = printed(&[args!["compile", &shipped(size)], random].concat());
        assert!(program.contains("program"), "{size}: {program}");
    }
    let of_size = printed(args!["compile", "--size", "560m", "--random-weights", "1", "--emit", "program"]);
    assert_eq!(printed(args!["compile", &shipped("560m"), "--random-weights", "1", "--emit", "program"]), of_size);
}

#[test]
fn what_cannot_be_is_said_with_its_place() {
    let written = Written::new("parallel_config:\n  model_paralell: 2\n");
    let place = format!("{}:11:3  parallel_config.model_paralell", written.file().display());
    let unknown =
        ["there is no key parallel_config.model_paralell", &place, "did you mean parallel_config.model_parallel?"];
    refused(args!["config", "show", &written.file()], &unknown);
    written.no_artifact(&[], &unknown);
    let heads = ["128 cannot be divided into 3 heads", "--> --set model.model_config.num_heads=3", "divisor"];
    Written::new("").no_artifact(&["--set", "model.model_config.num_heads=3"], &heads);
    let file = shipped("7.1b");
    let devices = args!["config", "show", &file, "--devices", "16"];
    refused(devices, &["= 8 ranks for 16 devices", "parallel_config.data_parallel", "set data_parallel to 2"]);
    refused(args!["config", "show", "no/such.yaml"], &["cannot read no/such.yaml"]);
    refused(args!["config", "show", &model("trained-web")], &["cannot read", "no regular file"]);
}

#[test]
fn shipped_files_are_compiled_for_their_ranks() {
    for size in ["7.1b", "65b", "176b"] {
        let file = shipped(size);
        let random = args!["compile", &file, "--random-weights", "1"];
        let program = printed(&[random, args!["--emit", "program"]].concat());
        for part in ["mesh pp: ", "mesh mp: ", "all_reduce over mp", "send "] {
            assert!(program.contains(part), "{size} lacks {part}: {program}");
        }
    }
    let set = args!["--set", "parallel_config.data_parallel=1", "--set", "parallel_config.pipeline_stage=1"];
    let file = shipped("7.1b");
    let compile = args!["compile", &file, "--random-weights", "1", "--emit", "program"];
    assert!(printed(&[compile, set].concat()).contains("mesh mp: "));
}

#[test]
fn weights_must_be_there_and_fit() {
    let key = "model.model_config.checkpoint_name_or_path";
    let written = Written::new("");
    let named = |weights: &str, parts: &[&str]| written.no_artifact(&["--set", &format!("{key}={weights}")], parts);
    named("", &["neither load_checkpoint nor checkpoint_name_or_path names weights", "--random-weights SEED"]);
    named("no/such/folder", &["there is no file or folder no/such/folder", "--> --set", "--random-weights SEED"]);
    named(written.file().to_str().unwrap(), &["run.yaml is neither a folder nor a checkpoint", key]);
    let tiny = model("tiny");
    named(
        tiny.to_str().unwrap(),
        &["hidden_size is 128, and 64 in", "config.json", "run.yaml:3:5", "set model.model_config"],
    );
    let ratio = ["expand_ratio is 2", "4 times", "set expand_ratio to 4"];
    written.no_artifact(&["--set", "model.model_config.expand_ratio=2"], &ratio);
    let file = written.file();
    let over = args!["compile", &file, "--target", "interpreter", "-o", &file];
    refused(over, &["run.yaml is part of the model to be compiled"]);
}

/// Weights without `config.json` are whatever the configuration says, if their shapes agree.
#[test]
fn a_folder_need_not_describe_itself() {
    let written = Written::new("");
    let bare = written.0.path().join("bare");
    std::fs::create_dir(&bare).unwrap();
    std::fs::copy(model("trained-web").join("model.safetensors"), bare.join("model.safetensors")).unwrap();
    let named = format!("load_checkpoint={}", bare.display());
    written.compiled(&["--set", &named]);
    std::fs::remove_file(written.artifact()).unwrap();
    written.no_artifact(&["--set", &named, "--set", "model.model_config.hidden_size=64"], &["bare", "128", "64"]);
}

#[test]
fn options_of_configurations_are_for_configurations() {
    for (line, parts) in [
        ("compile folder --set seed=1 -o x", ["--set goes with a configuration", "folder is none"]),
        ("compile folder --random-weights 1 -o x", ["--random-weights goes with", "or with --size"]),
        ("compile --size 560m --random-weights 1 --set seed=1 -o x", ["--set", "cannot be used with"]),
        ("config show run.yaml --devices 0", ["0 is not in 1..=65536", "--devices"]),
    ] {
        let output = bloomery().args(line.split_whitespace()).output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {message}");
        parts.iter().for_each(|part| assert!(message.contains(part), "{line}: {message} lacks {part}"));
    }
}
