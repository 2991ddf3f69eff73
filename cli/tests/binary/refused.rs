//! Bad input: one clear error, exit code 1 (2 for a wrong command line), nothing half-written.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bloomery_formats::safetensors::{NewTensor, write};
use bloomery_formats::{Checkpoint, Dtype};

use crate::interrupted::long_answer;
use crate::{args, bloomery, call, fixture, model, printed, stderr, trained};

/// The call must fail with one line that holds all the parts.
pub(crate) fn refused(arguments: &[&OsStr], parts: &[&str]) {
    let output = call(arguments);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
    assert_eq!(message.matches("error: ").count(), 1, "{message}");
    assert!(!message.contains("panicked"), "{message}");
    parts.iter().for_each(|part| assert!(message.contains(part), "{message:?} lacks {part:?}"));
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Compiling must fail, and leave nothing where the artifact would be.
fn no_artifact(model: &Path, parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model.bloom");
    refused(args!["compile", model, "--target", "interpreter", "-o", &output], parts);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A copy of the tiny model's folder, to be damaged.
struct Copied(tempfile::TempDir);

impl Copied {
    fn new() -> Copied {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(model("tiny").join(name), folder.path().join(name)).unwrap();
        }
        Copied(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn weights(&self) -> PathBuf {
        self.path().join("model.safetensors")
    }

    fn config(&self, from: &str, to: &str) {
        let path = self.path().join("config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Writes the weights again, each as `change` wants it.
    fn change(&self, change: impl Fn(&str, &[usize]) -> Option<(String, Vec<usize>)>) {
        let checkpoint = Checkpoint::open(&model("tiny")).unwrap();
        let changed: Vec<_> = checkpoint
            .tensors()
            .filter_map(|tensor| Some((tensor.clone(), change(tensor.name, tensor.shape)?)))
            .collect();
        let tensors = changed.iter().map(|(tensor, (name, shape))| NewTensor {
            name,
            dtype: tensor.dtype,
            shape,
            bytes: &tensor.bytes[..tensor.dtype.bytes(shape).unwrap()],
        });
        write(&self.weights(), &tensors.collect::<Vec<_>>()).unwrap();
    }
}

#[test]
fn no_compiler_says_what_to_install_and_what_works_without() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model.bloom");
    let without = |target: &[&str]| {
        let mut command = bloomery();
        command.arg("compile").arg(model("tiny")).arg("-o").arg(&output).args(target).env("PATH", "").env_remove("CC");
        command.output().unwrap()
    };
    let failed = without(&["--target", "cpu:x86-64-v3"]);
    let message = stderr(&failed);
    assert_eq!(failed.status.code(), Some(1), "{message}");
    for part in ["no C compiler", "apt install gcc", "--target interpreter"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let works = without(&["--target", "interpreter"]);
    assert!(works.status.success() && output.exists(), "{}", stderr(&works));
}

/// Programs called `cc` that are no working compilers, by what they do.
#[test]
#[cfg(unix)]
fn broken_compilers_are_named_with_what_they_said() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (cc, output) = (folder.path().join("broken"), folder.path().join("model.bloom"));
    let named = format!("C compiler `{}`", cc.display());
    let broken = |does: &str, target: &str, parts: &[&str]| {
        std::fs::write(&cc, format!("#!/bin/sh\n{does}\n")).unwrap();
        std::fs::set_permissions(&cc, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = bloomery();
        command.arg("compile").arg(model("tiny")).arg("-o").arg(&output).args(["--target", target]).env("CC", &cc);
        let failed = command.output().unwrap();
        let message = stderr(&failed);
        assert_eq!((failed.status.code(), output.exists()), (Some(1), false), "{message}");
        [named.as_str()].iter().chain(parts).for_each(|part| assert!(message.contains(part), "{message} lacks {part}"));
    };
    let version = r#"[ "$1" = --version ] && echo cc 1.0 && exit;"#;
    for target in ["cpu:all-x86", "cpu:native", "cpu:x86-64-v3"] {
        broken("exit 1", target, &["exit status: 1", "called with --version, and said nothing"]);
        broken("echo no licence; exit 7", target, &["exit status: 7", "no licence"]);
        broken("exit 0", target, &["did not write image.elf", "said nothing", "CC", "--target interpreter"]);
        broken(&format!("{version} echo too old >&2; exit 1"), target, &["-O3", "kernels.c", "too old"]);
    }
    for target in ["cpu:all-x86", "cpu:native"] {
        broken(&format!("{version} exit 1"), target, &["(cc 1.0) compiles for none of the targets"]);
    }
    std::fs::set_permissions(&cc, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = bloomery();
    command.arg("compile").arg(model("tiny")).arg("-o").arg(&output).env("CC", &cc);
    let message = stderr(&command.output().unwrap());
    assert!(message.contains("cannot start the C compiler") && message.contains("--target interpreter"), "{message}");
}

#[test]
fn no_compiler_for_another_machine_names_its_package() {
    let (target, package) = match std::env::consts::ARCH {
        "x86_64" => ("cpu:aarch64", "gcc-aarch64-linux-gnu"),
        _ => ("cpu:x86-64-v3", "gcc-x86-64-linux-gnu"),
    };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model.bloom");
    let mut command = bloomery();
    command.arg("compile").arg(model("tiny")).args(["--target", target, "-o"]).arg(&output).env("PATH", "");
    let failed = command.env_remove("CC_AARCH64").env_remove("CC_X86_64").output().unwrap();
    let message = stderr(&failed);
    assert_eq!(failed.status.code(), Some(1), "{message}");
    for part in ["no C compiler for ", &format!("apt install {package}"), "the variable CC_"] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn classes_without_code() {
    let run = args!["run", trained(), "--input-ids", "5", "--cpu", "x86-64-v4"];
    refused(run, &["no code for x86-64-v4", "it has none", "`bloomery retarget` adds some"]);
    let retarget = args!["retarget", trained(), "--target", "interpreter"];
    refused(retarget, &["--target interpreter names none"]);
    refused(args!["retarget", "no/such/file.bloom", "--target", "cpu:x86-64-v3"], &["no/such/file.bloom"]);
    let config = model("tiny").join("config.json");
    refused(args!["retarget", &config, "--target", "cpu:x86-64-v3"], &["is no bloomery artifact"]);
    let unknown = call(args!["retarget", trained(), "--target", "cpu:x86-64-v9"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("cpu:x86-64-v4, cpu:x86-64-amx, cpu:aarch64"), "{}", stderr(&unknown));
}

#[test]
fn models_that_are_none() {
    no_artifact(Path::new("no/such/folder"), &["no file or folder no/such/folder", "bloom_560m"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), r#"{"model_type":"llama"}"#).unwrap();
    no_artifact(folder.path(), &["model_type \"llama\"", "only BLOOM"]);
}

#[test]
fn names_of_models_that_are_not_here() {
    let folder = tempfile::tempdir().unwrap();
    let named = |arguments: &[&OsStr], parts: &[&str]| {
        let mut command = bloomery();
        let command = command.args(arguments).env("HF_HOME", folder.path()).env_remove("HF_HUB_CACHE");
        let failed = command.env("CHECKPOINT_DOWNLOAD_FOLDER", "/downloads").output().unwrap();
        let message = stderr(&failed);
        assert_eq!(failed.status.code(), Some(1), "{message}");
        parts.iter().for_each(|part| assert!(message.contains(part), "{message} lacks {part}"));
    };
    let parts = ["no model bloom_7.1b", "/downloads/bloom/bloom_7.1b", "hub/models--bigscience--bloomz-7b1-mt"];
    let parts = [&parts[..], &["`hf download bigscience/bloomz-7b1-mt` fetches it"]].concat();
    named(args!["tokenize", "bloom_7.1b", "--text", "a"], &parts);
    named(args!["inspect", "bloom_7.1b"], &parts);
    named(args!["compile", "bloom_7.1b", "-o", "x"], &parts);
}

#[test]
fn weights_that_are_cut_short() {
    let copied = Copied::new();
    let bytes = std::fs::read(copied.weights()).unwrap();
    std::fs::write(copied.weights(), &bytes[..bytes.len() - 1]).unwrap();
    let (described, found) = (bytes.len().to_string(), (bytes.len() - 1).to_string());
    no_artifact(copied.path(), &["model.safetensors", &described, &found, "cut short"]);
    std::fs::remove_file(copied.weights()).unwrap();
    no_artifact(copied.path(), &["holds neither model.safetensors nor pytorch_model.bin"]);
}

#[test]
fn torch_files_that_are_damaged_or_ask_for_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    let [whole, config] = ["pytorch_model.bin", "config.json"].map(|name| {
        let read = std::fs::read(model("tiny-bin").join(name)).unwrap();
        std::fs::write(folder.path().join(name), &read).unwrap();
        read
    });
    assert!(whole.len() > config.len());
    let hurt = |bytes: &[u8], parts: &[&str]| {
        std::fs::write(&path, bytes).unwrap();
        let parts = [&["pytorch_model.bin cannot be read as a torch file: "], parts].concat();
        no_artifact(folder.path(), &parts);
        refused(args!["inspect", &path], &parts);
    };
    hurt(&whole[..whole.len() / 2], &["is cut short"]);
    hurt(b"<html>", &["begins neither as", "interrupted"]);
    let name = b"_rebuild_tensor_v2";
    let at = whole.windows(name.len()).position(|window| window == name).unwrap();
    let mut other = whole.clone();
    other[at..at + name.len()].copy_from_slice(b"_rebuild_sparse_v2");
    hurt(&other, &["asks for torch._utils._rebuild_sparse_v2", "save model.state_dict() alone"]);
    std::fs::write(&path, &whole).unwrap();
    let output = folder.path().join("model.bloom");
    refused(args!["compile", folder.path(), "--target", "interpreter", "-o", &path], &["is part of the model"]);
    crate::compile(folder.path(), &output, &[]);
}

/// Headers that lie, each about the tensor that it names.
#[test]
fn weights_whose_header_is_wrong() {
    let copied = Copied::new();
    let whole = std::fs::read(copied.weights()).unwrap();
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&whole[8..8 + length]).unwrap().trim_end();
    let hurt = |from: &str, to: &str, parts: &[&str]| {
        assert!(header.contains(from), "{header}");
        let header = header.replacen(from, to, 1);
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &whole[8 + length..]].concat();
        std::fs::write(copied.weights(), bytes).unwrap();
        let parts = [&["model.safetensors is not a sound", "download it again or save it anew"], parts].concat();
        no_artifact(copied.path(), &parts);
        refused(args!["inspect", &copied.weights()], &parts);
    };
    let name = "transformer.ln_f.bias";
    let entry = &header[header.find(&format!("\"{name}\"")).unwrap()..];
    let entry = &entry[..=entry.find('}').unwrap()];
    let with = |from: &str, to: &str, parts: &[&str]| hurt(entry, &entry.replace(from, to), &[&[name], parts].concat());
    with("F32", "F8_E9", &["has type F8_E9", "weights are F32, F16 or BF16"]);
    with("[64]", "[63]", &["shape [63] takes 252 bytes", "its offsets are"]);
    with("[64]", "[0]", &["shape [0] takes 0 bytes"]);
    with("[64]", "[18446744073709551615,64]", &["takes more bytes than can be counted"]);
    with("[64]", "[-1]", &["is described wrongly", "`-1`"]);
    with("dtype", "type", &["is described wrongly", "missing field `dtype`"]);
    hurt(entry, &format!("{entry},{entry}"), &[name, "is there twice"]);
}

/// What strangers wrote into their files moves no cursor.
#[test]
fn names_that_are_orders_for_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let tensor = NewTensor { name: "a\u{1b}[2Jb\u{7}", dtype: Dtype::U8, shape: &[1], bytes: &[1] };
    write(&path, &[tensor]).unwrap();
    let table = printed(args!["inspect", &path]);
    assert!(table.contains(r"a\u{1b}[2Jb\u{7}"), "{table:?}");
    let copied = Copied::new();
    copied.change(|name, shape| Some((name.replace("ln_f", "ln\u{1b}[2J_f"), shape.to_vec())));
    no_artifact(copied.path(), &["lack tensor transformer.ln_f.bias"]);
    let checkpoint = Checkpoint::open(&model("tiny")).unwrap();
    let all = checkpoint.tensors().map(|tensor| NewTensor {
        name: tensor.name,
        dtype: tensor.dtype,
        shape: tensor.shape,
        bytes: tensor.bytes,
    });
    let all: Vec<NewTensor<'_>> = all.chain([tensor]).collect();
    write(&copied.weights(), &all).unwrap();
    no_artifact(copied.path(), &[r"no tensor a\u{1b}[2Jb\u{7}"]);
}

#[test]
fn weights_that_do_not_fit_the_config() {
    let same = |name: &str, shape: &[usize]| Some((name.to_owned(), shape.to_vec()));
    let copied = Copied::new();
    copied.change(|name, shape| if name.contains("h.1.mlp.dense_h_to_4h.bias") { None } else { same(name, shape) });
    no_artifact(copied.path(), &["lack tensor transformer.h.1.mlp.dense_h_to_4h.bias"]);
    copied.change(|name, shape| {
        let name = if name.ends_with("ln_f.bias") { "transformer.ln_f.beta" } else { name };
        same(name, shape)
    });
    no_artifact(copied.path(), &["lack tensor transformer.ln_f.bias"]);
    copied.change(|name, shape| if name.ends_with("ln_f.bias") { same(name, &[63]) } else { same(name, shape) });
    no_artifact(copied.path(), &["transformer.ln_f.bias has shape [63]", "asks for [64]"]);

    let checkpoint = Checkpoint::open(&model("tiny")).unwrap();
    let mut tensors: Vec<NewTensor<'_>> = checkpoint
        .tensors()
        .map(|tensor| {
            let bytes = tensor.bytes;
            NewTensor {
                name: tensor.name,
                dtype: tensor.dtype,
                shape: checkpoint_shape(&checkpoint, tensor.name),
                bytes,
            }
        })
        .collect();
    tensors.push(NewTensor { name: "transformer.adapter.weight", dtype: Dtype::F32, shape: &[1], bytes: &[0; 4] });
    write(&copied.weights(), &tensors).unwrap();
    no_artifact(copied.path(), &["no tensor transformer.adapter.weight"]);
    let last = tensors.len() - 1;
    tensors[last] = NewTensor { name: "ln_f.bias", dtype: Dtype::F32, shape: &[64], bytes: &[0; 256] };
    write(&copied.weights(), &tensors).unwrap();
    no_artifact(copied.path(), &["both transformer.ln_f.bias and ln_f.bias", "which are one tensor"]);
}

fn checkpoint_shape<'a>(checkpoint: &'a Checkpoint, name: &str) -> &'a [usize] {
    checkpoint.tensor(name).unwrap().shape
}

#[test]
fn configs_that_contradict_the_weights() {
    let copied = Copied::new();
    copied.config("\"n_layer\": 2", "\"n_layer\": 3");
    no_artifact(copied.path(), &["config.json says 3 layers", "hold 2"]);
    let copied = Copied::new();
    copied.config("\"n_head\": 4", "\"n_head\": 5");
    no_artifact(copied.path(), &["hidden size 64", "5 heads"]);
}

#[test]
fn options_that_cannot_be_had() {
    let tiny = model("tiny");
    let of_f32 = ["weight is of f32", "say --dtype bf16", "or --compute f32"];
    refused(args!["compile", &tiny, "--compute", "bf16", "-o", "x"], &of_f32);
    refused(args!["compile", &tiny, "--emit", "c", "--target", "interpreter"], &["--target cpu:CLASS"]);
    refused(args!["compile", &tiny, "--target", "interpreter", "-o", "no/such/folder/x"], &["no/such/folder/x"]);
}

#[test]
fn outputs_that_would_replace_something_else() {
    let copied = Copied::new();
    let compile = |output: &Path, parts: &[&str]| {
        refused(args!["compile", copied.path(), "--target", "interpreter", "-o", output], parts);
    };
    compile(&copied.weights(), &["model.safetensors is part of the model"]);
    compile(copied.path(), &["is not a regular file"]);
    refused(args!["compile", copied.path(), "--emit", "ir", "-o", copied.path()], &["is not a regular file"]);
    assert!(Checkpoint::open(copied.path()).is_ok());
}

/// Reading a pipe would wait for whoever writes into it.
#[test]
#[cfg(unix)]
fn pipes_where_files_belong() {
    let copied = Copied::new();
    let file = |name: &str| copied.path().join(name);
    let pipe = |name: &str| {
        let _ = std::fs::remove_file(file(name));
        assert!(Command::new("mkfifo").arg(file(name)).status().unwrap().success());
    };
    let ir = file("a.bir");
    std::fs::write(&ir, "graph @a(%x: f32[2]) { return %x }").unwrap();
    for name in ["pipe.bir", "pipe.json", "pipe.safetensors"] {
        pipe(name);
    }
    let [text, json, tensors] = ["pipe.bir", "pipe.json", "pipe.safetensors"].map(file);
    refused(args!["ir", &text], &["pipe.bir is not a regular file"]);
    refused(args!["ir", &ir, "--check", &text], &["pipe.bir is not a regular file"]);
    refused(args!["ir", &ir, "--run", &tensors], &["pipe.safetensors is not a regular file"]);
    refused(args!["tokenize", trained(), "--file", &text], &["pipe.bir is not a regular file"]);
    refused(args!["tokenize", &json, "--text", "a"], &["pipe.json", "no regular file"]);
    for path in [&text, &json, &tensors] {
        refused(args!["inspect", path], &["pipe", "is not a regular file"]);
    }
    refused(args!["bench", &text, "--limits"], &["pipe.bir is not a regular file"]);
    for command in ["run", "logits", "bench", "verify"] {
        let more = match command {
            "run" => args!["--input-ids", "1"],
            "logits" => args!["--input-ids", "1", "-o", "x"],
            _ => args![],
        };
        refused(&[args![command, &text], more].concat(), &["pipe.bir", "no regular file"]);
    }
    // Each file of the folder in turn, the one that is read last first.
    for name in
        ["model.safetensors", "model.safetensors.index.json", "tokenizer.json", "generation_config.json", "config.json"]
    {
        if name == "model.safetensors.index.json" {
            std::fs::remove_file(file("model.safetensors")).unwrap();
        }
        pipe(name);
        no_artifact(copied.path(), &[name, "regular file"]);
    }
    refused(args!["inspect", copied.path()], &["config.json", "no regular file"]);
}

#[test]
fn prompts_that_do_not_fit() {
    let long = vec!["5"; 65].join(",");
    refused(
        args!["run", trained(), "--input-ids", "1,4096"],
        &["prompt 0", "token id 4096", "vocabulary of 4096 (0 to 4095)"],
    );
    let second = args!["run", trained(), "--input-ids", "1", "--input-ids", "1,4096"];
    refused(second, &["prompt 1 (counted from 0): token id 4096"]);
    refused(args!["run", trained(), "--input-ids", &long], &["65 tokens do not fit the context of 64"]);
    refused(args!["run", trained(), "--prompt", ""], &["prompt 0", "no tokens are given"]);
    refused(args!["run", trained(), "--prompt", "a", "--cpu", "x86-64-v3"], &["no code for x86-64-v3; it has none"]);
    for batch in ["99999", "1000000000000"] {
        let arguments = args!["bench", trained(), "--batch", batch, "--prompt-tokens", "9"];
        refused(arguments, &[&format!("needs at least {batch} pages of cache"), "at most 65536"]);
    }
    let output = tempfile::tempdir().unwrap();
    let path = output.path().join("logits.safetensors");
    refused(args!["logits", trained(), "--input-ids", "4096", "-o", &path], &["prompt 0", "token id 4096"]);
    assert!(!path.exists());
    refused(args!["bench", trained(), "--prompt-tokens", "60", "--new-tokens", "5"], &["65 tokens", "context of 64"]);
}

#[test]
fn files_that_are_no_artifacts() {
    let config = model("tiny").join("config.json");
    for command in ["run", "verify"] {
        let more = if command == "run" { args!["--input-ids", "1"] } else { args![] };
        let call = |path: &Path, parts: &[&str]| refused(&[args![command, path], more].concat(), parts);
        call(&config, &["is no bloomery artifact", "bloomery compile"]);
        call(Path::new("no/such/file"), &["no/such/file"]);
    }
    refused(args!["verify", &model("tiny")], &["cannot read"]);
    let whole = std::fs::read(trained()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hurt.bloom");
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    refused(args!["verify", &path], &["is cut off", &whole.len().to_string()]);
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    refused(args!["verify", &path], &["is damaged"]);
}

#[test]
fn texts_without_a_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.bloom");
    crate::compile(&model("tiny"), &path, &[]);
    refused(args!["run", &path, "--prompt", "a"], &["holds no tokenizer", "--input-ids"]);
    refused(args!["tokenize", &path, "--text", "a"], &["holds no tokenizer.json: compile it again"]);
    refused(args!["tokenize", &model("tiny"), "--text", "a"], &["holds no tokenizer.json: put the one"]);
    let bytes = folder.path().join("bytes");
    std::fs::write(&bytes, b"ab\xffc").unwrap();
    refused(args!["tokenize", trained(), "--file", &bytes], &["0xff at offset 2"]);
}

#[test]
fn prompts_in_files_that_are_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let [good, bad] = ["good", "bad"].map(|name| folder.path().join(name));
    std::fs::write(&good, "In the beginning").unwrap();
    std::fs::write(&bad, b"In the\xff beginning").unwrap();
    let run = args!["run", trained(), "--prompt-file", &good, "--prompt-file", &bad];
    refused(run, &["bad is not UTF-8 text", "0xff at offset 6 of 17"]);
    refused(args!["run", trained(), "--prompt-file", folder.path()], &["is not a regular file"]);
    let said = |option: &str, value: &OsStr| printed(args!["run", trained(), option, value, "--max-new-tokens", "8"]);
    assert_eq!(said("--prompt-file", good.as_ref()), said("--prompt", "In the beginning".as_ref()));
}

/// Whoever may do everything may not read everything without the right to pass over a file's permissions.
#[test]
#[cfg(target_os = "linux")]
fn files_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let copied = Copied::new();
    let (weights, config) = (copied.weights(), copied.path().join("config.json"));
    let refused = |path: &Path, command: &str, more: &[&str]| {
        let mut call = Command::new("setpriv");
        call.arg("--bounding-set=-dac_override,-dac_read_search").arg("--inh-caps=-all");
        let Ok(output) = call.arg(env!("CARGO_BIN_EXE_bloomery")).arg(command).arg(path).args(more).output() else {
            return eprintln!("skipped: there is no setpriv, which takes rights away");
        };
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let parts = ["error: cannot read", "Permission denied", "`ls -ld` shows who may"];
        parts.iter().for_each(|part| assert!(message.contains(part), "{message} lacks {part}"));
    };
    let hide = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).unwrap();
    hide(&weights);
    refused(&weights, "inspect", &[]);
    refused(copied.path(), "compile", &["--target", "interpreter", "-o", "x"]);
    hide(&config);
    refused(copied.path(), "compile", &["--target", "interpreter", "-o", "x"]);
    let artifact = copied.path().join("a.bloom");
    std::fs::copy(trained(), &artifact).unwrap();
    hide(&artifact);
    refused(&artifact, "run", &["--input-ids", "5"]);
}

/// A C compiler that does something to a file first.
#[cfg(target_os = "linux")]
fn meddler(folder: &Path, does: &str, file: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let cc = folder.join("meddler");
    std::fs::write(&cc, format!("#!/bin/sh\n{does} {}\nexec cc \"$@\"\n", file.display())).unwrap();
    std::fs::set_permissions(&cc, std::fs::Permissions::from_mode(0o755)).unwrap();
    cc
}

/// The compiler that is called in the middle does it: by then the weights are mapped, and none of them is read.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn weights_that_somebody_writes_into() {
    for (writes, now) in [("truncate -s 8192", "8192 now"), ("truncate -s 0", "0 now"), ("touch -d 2001-01-01", "now")]
    {
        let copied = Copied::new();
        let output = copied.path().join("out");
        std::fs::create_dir(&output).unwrap();
        let cc = meddler(copied.path(), writes, &copied.weights());
        let mut command = bloomery();
        command.arg("compile").arg(copied.path()).args(["--target", "cpu:x86-64-v3"]).env("CC", &cc);
        command.arg("-o").arg(output.join("x"));
        let failed = command.output().unwrap();
        let message = stderr(&failed);
        assert_eq!(failed.status.code(), Some(1), "{writes}: {message}");
        let parts = ["model.safetensors was written into while it was read", now, "do it again"];
        parts.iter().for_each(|part| assert!(message.contains(part), "{writes}: {message} lacks {part}"));
        assert_eq!(std::fs::read_dir(&output).unwrap().count(), 0, "{writes}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn artifacts_that_somebody_writes_into() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("x.bloom");
    for bytes in [0, 4096] {
        std::fs::copy(trained(), &artifact).unwrap();
        let mut child = bloomery();
        child.arg("chat").arg(&artifact).args(["--max-new-tokens", "4", "--eos-token-id", "none"]);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"<s>In the\n").unwrap();
        let mut byte = [0];
        while byte != *b"\n" {
            child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        }
        std::fs::OpenOptions::new().write(true).open(&artifact).unwrap().set_len(bytes).unwrap();
        input.write_all(b" beginning\n").unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let parts = ["x.bloom was written into while it was used", &format!("{bytes} now"), "counts for nothing"];
        parts.iter().for_each(|part| assert!(message.contains(part), "{message} lacks {part}"));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_artifact_that_is_cut_while_code_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let [artifact, output] = ["x.bloom", "out"].map(|name| folder.path().join(name));
    std::fs::copy(trained(), &artifact).unwrap();
    std::fs::create_dir(&output).unwrap();
    let mut command = bloomery();
    command.arg("retarget").arg(&artifact).args(["--target", "cpu:x86-64-v3", "-o"]).arg(output.join("y"));
    let failed = command.env("CC", meddler(folder.path(), "truncate -s 4096", &artifact)).output().unwrap();
    let message = stderr(&failed);
    assert_eq!(failed.status.code(), Some(1), "{message}");
    let parts = ["x.bloom was written into while it was used", "4096 now"];
    parts.iter().for_each(|part| assert!(message.contains(part), "{message} lacks {part}"));
    assert_eq!(std::fs::read_dir(&output).unwrap().count(), 0);
}

#[test]
fn recordings_that_cannot_be_made() {
    let run = args!["run", trained(), "--input-ids", "5", "--max-new-tokens", "1"];
    refused(&[run, args!["--profile"]].concat(), &["machine code", "interpreter", "--cpu"]);
    let folder = tempfile::tempdir().unwrap();
    refused(&[run, args!["--trace", folder.path()]].concat(), &["is not a regular file"]);
    refused(args!["bench", trained(), "--prompt-tokens", "4", "--profile"], &["machine code"]);
    refused(args!["bench", "--limits", &folder.path().join("none")], &["cannot read", "none"]);
}

#[test]
fn texts_that_are_no_ir() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bir");
    std::fs::write(&path, "graph @a(%x: f32[2]) { return %y }").unwrap();
    refused(args!["ir", &path], &["a.bir:1:31: %y is not defined"]);
    std::fs::write(&path, "graph @a(%x: f32[2]) { return %x }").unwrap();
    let inputs = folder.path().join("inputs.safetensors");
    write(&inputs, &[NewTensor { name: "z", dtype: Dtype::U8, shape: &[1], bytes: &[1] }]).unwrap();
    refused(args!["ir", &path, "--run", &inputs], &["lacks input `x`", "it holds z"]);
    let snapshot = folder.path().join("a.snap");
    std::fs::write(&snapshot, "graph @b(%x: f32[2]) {\n").unwrap();
    refused(args!["ir", &path, "--check", &snapshot], &["a.snap:1: expected `graph @b", "found `graph @a"]);
}

#[test]
fn strategies_for_another_model() {
    let tiny = model("tiny");
    let compile = |strategy: &str, parts: &[&str]| {
        let compile = args!["compile", &tiny, "--target", "interpreter", "-o", "x", "--strategy", strategy];
        refused(compile, parts);
    };
    compile("mp=3", &["4 heads cannot be split evenly among 3 ranks", "can be 1, 2 or 4"]);
    compile("pp=3", &["3 pipeline stages for 2 layers", "at most 2"]);
    compile("pp=2,stages=1:2", &["the layers given for each stage are 3 in all, and the model has 2"]);
    let unknown = call(args!["compile", &model("tiny"), "-o", "x", "--strategy", "tp=2"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("there are dp, mp, pp"), "{}", stderr(&unknown));
}

#[test]
fn artifacts_that_cannot_be_shared_anew() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("x");
    let reshard = |path: &Path, strategy: &str, parts: &[&str]| {
        refused(args!["reshard", path, "--strategy", strategy, "-o", &output], parts);
        assert!(!output.exists());
    };
    reshard(trained(), "mp=3", &["4 heads cannot be split evenly", "can be 1, 2 or 4"]);
    reshard(trained(), "pp=5", &["5 pipeline stages for 4 layers"]);
    reshard(&model("tiny").join("config.json"), "mp=2", &["is no bloomery artifact"]);
    reshard(Path::new("no/such.bloom"), "mp=2", &["no/such.bloom"]);
}

#[test]
fn strategies_for_something_else() {
    let block = fixture("../../filetests/shard/mlp.bir");
    let shard = |mesh: &str, share: &str, parts: &[&str]| {
        refused(args!["ir", &block, "--pass", "shard", "--mesh", mesh, "--share", share], parts);
    };
    shard("mp=3", "ffn=mp", &["mp = 3 does not divide the 8 of axis ffn of %up", "mp = 1, 2, 4, 8 does"]);
    let cut = args!["ir", &block, "--pass", "cut", "--mesh", "pp=2", "--stages", "balanced"];
    refused(cut, &["is not of these ranks yet", "`shard` comes before `cut`"]);
    shard("mp=2", "ffn=dp", &["ffn is shared over dp", "it has mp"]);
    shard("mp=2", "fnn=mp", &["no input has an axis fnn", "ffn, hidden"]);
    let shared = printed(args!["ir", &block, "--pass", "shard", "--mesh", "mp=2", "--share", "ffn=mp"]);
    assert!(shared.contains("all_reduce %3 {over = mp}"), "{shared}");
}

/// Inputs for `graph @a<N: 1..8>(%ids: i32[N], %x: f32[N, 2])`, each changed in one way.
#[test]
fn inputs_that_the_graph_does_not_take() {
    let folder = tempfile::tempdir().unwrap();
    let (path, inputs) = (folder.path().join("a.bir"), folder.path().join("a.safetensors"));
    let graph = "graph @a<N: 1..8>(%ids: i32[N], %x: f32[8, 2]) { %0 = gather %x, %ids : f32[N, 2] return %0 }";
    std::fs::write(&path, graph).unwrap();
    let table = NewTensor { name: "x", dtype: Dtype::F32, shape: &[8, 2], bytes: &[0; 64] };
    let given = |ids: &[i64], dtype: Dtype| {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()[..dtype.bits() / 8].to_vec()).collect();
        let spare = NewTensor { name: "spare", ..table };
        write(&inputs, &[NewTensor { name: "ids", dtype, shape: &[ids.len()], bytes: &bytes }, table, spare]).unwrap();
        args!["ir", &path, "--run", &inputs].iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>()
    };
    let wrong = |ids: &[i64], dtype: Dtype, part: &str| {
        let arguments = given(ids, dtype);
        refused(&arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &["a.safetensors: input %ids", part]);
    };
    wrong(&[0, 0], Dtype::F32, "is i32[N], a tensor f32[2] is given");
    wrong(&[0; 9], Dtype::I32, "of shape [9] makes N 9, which must be 1 to 8");
    wrong(&[], Dtype::I64, "of shape [0] makes N 0, which must be 1 to 8");
    wrong(&[1, (1 << 40) + 1], Dtype::I64, "1099511627777 is given");
    for dtype in [Dtype::I32, Dtype::I64] {
        let output = bloomery().args(given(&[7; 8], dtype)).output().unwrap();
        let noted = format!("note: {}: @a has no input spare\n", inputs.display());
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), noted));
    }
}

#[test]
fn files_that_inspect_knows_by_name_only() {
    let folder = fixture("tiny-safetensors-sharded").join("model");
    refused(
        args!["inspect", &folder.join("model.safetensors.index.json")],
        &["index of a checkpoint", "give its folder"],
    );
    refused(args!["inspect", &fixture("tokenizer").join("tokenizer.json")], &["is a tokenizer", "bloomery tokenize"]);
    let other = tempfile::tempdir().unwrap();
    for (name, text, part) in [("a.json", "{}", "no config.json"), ("a.txt", "a", "is nothing known")] {
        std::fs::write(other.path().join(name), text).unwrap();
        refused(
            args!["inspect", &other.path().join(name)],
            &[part, "give an artifact, a safetensors, torch or MindSpore file"],
        );
    }
    refused(args!["inspect", "no/such/file"], &["no file or folder no/such/file"]);
}

#[test]
fn wrong_command_lines_are_usage() {
    let usage = |line: &str, parts: &[&str]| {
        let output = bloomery().args(line.split_whitespace()).output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {message}");
        parts.iter().for_each(|part| assert!(message.contains(part), "{line}: {message} lacks {part}"));
    };
    usage("", &["Usage: bloomery"]);
    usage("smelt", &["smelt"]);
    usage("compile folder", &["--output <FILE.bloom>"]);
    usage("compile -o x", &["MODEL|--size <NAME>"]);
    usage("compile folder --target cpu:z80 -o x", &["cpu:z80", "interpreter"]);
    usage("compile --size 560m -o x", &["--random-weights <SEED>"]);
    usage("compile --size 561m --random-weights 1 -o x", &["\"561m\"", "560m, 1b1, 1b7, 3b, 7b1, 65b, 176b"]);
    usage("compile folder --size 560m --random-weights 1 -o x", &["cannot be used with"]);
    usage("compile folder --random-weights 1 -o x", &["--random-weights"]);
    usage("compile folder --chunk 0 -o x", &["0 is not in 1..=16384"]);
    usage("compile folder --max-context 0 -o x", &["0 is not in 1..=1048576"]);
    usage("compile folder --stop-after simplfy", &["'simplfy'", "'simplify'"]);
    usage("ir a.bir --pass nothing", &["'nothing'", "memory-plan"]);
    usage("ir a.bir --mesh mp=0 --share ffn=mp", &["`0` is no number of ranks along mp"]);
    usage("ir a.bir --mesh mp=2", &["--share"]);
    usage("run x.bloom", &["--prompt <TEXT>|--prompt-file <F>|--input-ids <IDS>"]);
    usage("run x.bloom --input-ids 1,x", &["`x` is no token id"]);
    usage("run x.bloom --prompt a --input-ids 1", &["cannot be used with"]);
    usage("run x.bloom --prompt a --top-k -5", &["--top-k", "`-5` is no whole number from 0 on"]);
    usage("run x.bloom --prompt a --seed -5", &["--seed", "`-5` is no whole number from 0 on"]);
    usage("run x.bloom --prompt a --temperature -1", &["temperature is -1, it must be above 0"]);
    usage("run x.bloom --prompt a --num-beams 0", &["--num-beams", "`0` is no whole number from 1 on"]);
    usage("run x.bloom --prompt a --input b", &["--input goes with an instruction", "--template alpaca"]);
    usage("run x.bloom --prompt a --input b --template belle", &["--input goes with an instruction"]);
    usage("run x.bloom --prompt a --threads 0", &["0 is not in 1..=1024"]);
    usage("run x.bloom --prompt a --threads 99999", &["99999 is not in 1..=1024"]);
    usage("run x.bloom --prompt a --chunk 0", &["--chunk"]);
    usage("run x.bloom --prompt a --cpu nonsense", &["no target `cpu:nonsense`", "cpu:x86-64-v3"]);
    usage("run x.bloom --prompt a --do-sample --temperature 0", &["temperature is 0, it must be above 0"]);
    usage("run x.bloom --prompt a --num-beams 2 --stream", &["--stream", "--num-beams"]);
    usage("run x.bloom --prompt a --max-length 9 --max-new-tokens 9", &["--max-length"]);
    usage("run x.bloom --prompt a --do-sample --min-p 2", &["min-p is 2, it must be 0 to 1"]);
    usage("run x.bloom --prompt a --do-sample --top-p 1.5", &["top-p is 1.5, it must be above 0 and at most 1"]);
    usage("run x.bloom --prompt a --do-sample --greedy", &["--do-sample", "--greedy"]);
    usage("run x.bloom --prompt a --eos-token-id none,2", &["`none` is no token id"]);
    usage("run x.bloom --prompt a --eos-token-id none --eos-token-id 2", &["cannot be used multiple times"]);
    usage("eval x.bloom", &["--text <F>"]);
    usage("chat x.bloom --num-beams 2", &["--num-beams"]);
    usage("chat x.bloom --max-new-tokens 0", &["--max-new-tokens"]);
    usage("completions sh", &["bash, elvish, fish, powershell, zsh"]);
    usage("tokenize folder", &["--text <TEXT>|--file <F>"]);
    usage("bench x.bloom --batch 0", &["--batch"]);
    usage("run x.bloom --prompt a --limits", &["--profile"]);
    usage("bench", &["FILE.bloom"]);
    usage("bench --limits --prompt-tokens 5", &["--limits"]);
    assert!(printed(args!["--help"]).contains("bloomery demo"));
}

#[test]
fn conversations_that_cannot_be() {
    let refused = |input: &[u8], more: &[&str], parts: &[&str]| {
        let mut child = long_answer("chat", more).spawn().unwrap();
        // One that refuses at once may close the pipe before.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let message = stderr(&output);
        assert_eq!((output.status.code(), message.matches("error: ").count()), (Some(1), 1), "{message}");
        parts.iter().for_each(|part| assert!(message.contains(part), "{message} lacks {part}"));
        assert!(output.stdout.is_empty());
    };
    refused(b"/nope\n", &[], &["no command /nope", "/help"]);
    refused(b"/save\n", &[], &["written /save FILE"]);
    refused(b"/stats now\n", &[], &["written /stats, with nothing behind it"]);
    refused(b"\na\xff\n", &[], &["line 2 of standard input", "byte 1"]);
    refused("a ".repeat(64).as_bytes(), &[], &["the question has", "room for 64"]);
    refused(b"", &["--system", &"a ".repeat(64)], &["before the first question", "room for 64"]);
    refused(b"", &["--stop", ""], &["a stop string is empty"]);
    let folder = tempfile::tempdir().unwrap();
    let save = format!("/save {}\n", folder.path().display());
    refused(save.as_bytes(), &[], &["is not a regular file"]);
}

#[test]
fn texts_that_cannot_be_measured() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    let eval = |bytes: &[u8], more: &[&str], parts: &[&str]| {
        std::fs::write(&text, bytes).unwrap();
        let more: Vec<&OsStr> = more.iter().map(OsStr::new).collect();
        refused(&[args!["eval", trained(), "--text", &text], &more].concat(), parts);
    };
    eval(b"In the beginning", &["--window", "65"], &["window of 65 tokens", "context of 64", "--max-context 65"]);
    eval(b"In the beginning", &["--window", "8", "--stride", "9"], &["stride is 9", "windows of 8"]);
    eval(b"In the beginning", &["--window", "1"], &["window is 1", "at least 2"]);
    eval(b"In", &[], &["a text of 1 tokens", "at least 2"]);
    eval(b"", &[], &["a text of 0 tokens"]);
    eval(b"ab\xe4\xb8c", &[], &["text is not UTF-8", "0xe4 at offset 2 of 5"]);
    let tiny = folder.path().join("tiny.bloom");
    crate::compile(&model("tiny"), &tiny, &[]);
    std::fs::write(&text, "In the beginning").unwrap();
    refused(args!["eval", &tiny, "--text", &text], &["holds no tokenizer", "tokenizer.json"]);
    refused(args!["eval", trained(), "--text", "no/such/text"], &["no/such/text"]);
}

#[test]
fn contradictory_options_of_generation() {
    let run = |options: &[&str], parts: &[&str]| {
        let options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        refused(&[args!["run", trained(), "--prompt", "In the beginning"], &options].concat(), parts);
    };
    run(&["--num-beams", "4", "--do-sample"], &["num-beams is 4 with do-sample", "leave one out"]);
    run(&["--num-beams", "2", "--num-return-sequences", "3"], &["num-return-sequences is 3 with 2 beams", "at most 2"]);
    run(&["--num-return-sequences", "3"], &["greedy search has one answer", "do-sample"]);
    run(&["--max-length", "3"], &["max-length is 3", "has 5 tokens already", "max-new-tokens"]);
    run(&["--stop", ""], &["a stop string is empty", "leave it out"]);
    for setting in ["temperature", "top-k", "top-p", "min-p"] {
        let option = format!("--{setting}");
        run(&[&option, "1"], &[setting, "changes nothing without do-sample", "leave"]);
        run(&["--greedy", &option, "1"], &[setting, "changes nothing without do-sample"]);
    }
    run(&["--length-penalty", "2"], &["length-penalty changes nothing without num-beams"]);
    run(&["--early-stopping", "never"], &["early-stopping changes nothing without num-beams"]);
    let ids = args!["run", trained(), "--input-ids", "5", "--template", "belle"];
    refused(ids, &["the template belle goes around texts"]);
    run(&["--eos-token-id", "5,4096"], &["eos-token-id: token id 4096", "vocabulary of 4096"]);
}
