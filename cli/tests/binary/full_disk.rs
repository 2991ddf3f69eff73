//! A disk that takes no more: one message with the file and the reason, what was there before, and nothing half-written.
//!
//! A small disk is mounted where that is allowed. Elsewhere, and to fail early, late and in between, the limit on the size of
//! files stands for it, which needs no rights: it is raised until the command succeeds.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{args, fixture, model, stderr, trained};

fn mindspore(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore").join(name)
}

/// Calls the binary where no file may have more than `blocks` of 512 bytes.
fn limited(blocks: u64, arguments: &[&OsStr]) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f \"$1\"; shift; exec \"$@\"", "sh", &blocks.to_string()]);
    shell.arg(env!("CARGO_BIN_EXE_bloomery")).args(arguments).output().unwrap()
}

/// Every file and folder below one, with what is in it.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        }
        let bytes = path.is_file().then(|| std::fs::read(&path).unwrap());
        found.insert(path, bytes);
    }
    found
}

/// A command that writes below `folder` fails while files may not be as large as it needs, says of `target` why, and changes
/// nothing; then it succeeds.
fn fails_until_there_is_room(folder: &Path, target: &str, arguments: &[&OsStr]) {
    let before = contents(folder);
    for (failures, blocks) in (0..2).chain((2..24).map(|power| 3 << (power - 2))).enumerate() {
        let output = limited(blocks, arguments);
        if output.status.success() {
            assert!(failures > 2, "{arguments:?} needs no more than {blocks} blocks");
            return;
        }
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{blocks}: {message}");
        assert_eq!(message.matches("error: ").count(), 1, "{blocks}: {message}");
        for part in [target, "File too large", "ulimit -f"] {
            assert!(message.contains(part), "{blocks}: {message:?} lacks {part:?}");
        }
        assert!(!message.contains("partial") && !message.contains("panicked"), "{blocks}: {message}");
        assert!(contents(folder) == before, "{blocks}: something else is there than before: {message}");
    }
    panic!("{arguments:?} never succeeds");
}

#[test]
fn a_conversion_that_finds_no_room_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (tiny, ckpt, ms, hf) = (model("tiny"), path("bloom.ckpt"), path("ms"), path("hf"));
    let convert = |from: &Path, target: &Path, more: &[&OsStr]| {
        let words = [args!["convert", from, target], more].concat();
        fails_until_there_is_room(folder.path(), &target.to_string_lossy(), &words);
    };
    convert(&tiny, &ckpt, args!["--to", "mindspore"]);
    convert(&tiny, &ms, args!["--to", "mindspore"]);
    convert(&ms, &hf, args!["--to", "hf"]);
    // What is to be replaced is there until then.
    convert(&ms, &hf, args!["--to", "hf", "--force", "--dtype", "f32", "--shard-size", "100KB"]);
    convert(&tiny, &ckpt, args!["--to", "mindspore", "--force"]);
}

#[test]
fn a_checkpoint_that_finds_no_room_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (state, clean) = (mindspore("ckpt/train-state.ckpt"), path("clean.ckpt"));
    fails_until_there_is_room(folder.path(), "clean.ckpt", args!["checkpoint", "clean", &state, &clean]);
    let transform = |name: &str| mindspore("transform").join(name);
    let (src, dst) = (transform("strategies/mp4-pp2-opt.ckpt"), transform("strategies/dp2-mp2-pp2-opt.ckpt"));
    let ranks = transform("cases/mp4-pp2-opt-to-dp2-mp2-pp2-opt/src");
    let combined = path("combined.ckpt");
    let words = args!["checkpoint", "combine", &ranks, &combined, "--strategy", &src];
    fails_until_there_is_room(folder.path(), "combined.ckpt", words);
    let target = path("target");
    let words = args!["checkpoint", "transform", &ranks, &target, "--src-strategy", &src, "--dst-strategy", &dst];
    fails_until_there_is_room(folder.path(), &target.to_string_lossy(), words);
}

#[test]
fn a_data_set_that_finds_no_room_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [input, one, several] =
        ["in.json", "one.mindrecord", "several.mindrecord"].map(|name| folder.path().join(name));
    std::fs::write(&input, records(40)).unwrap();
    let tokenizer = fixture("tokenizer");
    for (output, shards) in [(&one, "1"), (&several, "3")] {
        let words = args!["data", "make", &input, output, "--tokenizer", &tokenizer, "--shards", shards];
        fails_until_there_is_room(folder.path(), &output.to_string_lossy(), words);
    }
}

/// An instruction set.
fn records(rows: usize) -> String {
    let record =
        |i| serde_json::json!({"instruction": format!("Say {i}"), "input": "", "output": format!("{i} it is.")});
    serde_json::Value::from_iter((0..rows).map(record)).to_string()
}

/// A disk of so much, in a name space of its own; its name is `full`.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_nothing_behind() {
    let (tiny, trained, tokenizer) = (model("trained-web"), trained().display(), fixture("tokenizer"));
    let (tiny, tokenizer) = (tiny.display(), tokenizer.display());
    let (gelu, ranks) =
        (mindspore("models/gelu.ckpt"), mindspore("transform/cases/mp4-pp2-opt-to-dp2-mp2-pp2-opt/src"));
    let [src, dst] =
        ["mp4-pp2-opt", "dp2-mp2-pp2-opt"].map(|name| mindspore("transform/strategies").join(format!("{name}.ckpt")));
    let (gelu, ranks, src, dst) = (gelu.display(), ranks.display(), src.display(), dst.display());
    let ids = "--input-ids 5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20 ".repeat(8);
    for (room, file, writes) in [
        ("64k", "x", format!("compile {tiny} --target interpreter -o full/x")),
        ("4k", "x", format!("compile {tiny} --emit program -o full/x")),
        ("64k", "x", format!("logits {trained} {ids} -o full/x")),
        ("64k", "x.ckpt", format!("convert {tiny} full/x.ckpt --to mindspore")),
        ("64k", "x/model.safetensors", format!("convert {tiny} full/x --to hf")),
        ("4k", "x.ckpt", format!("checkpoint clean {gelu} full/x.ckpt")),
        ("4k", "x.ckpt", format!("checkpoint combine {ranks} full/x.ckpt --strategy {src}")),
        (
            "4k",
            "x/rank_0/checkpoint_0.ckpt",
            format!("checkpoint transform {ranks} full/x --src-strategy {src} --dst-strategy {dst}"),
        ),
        ("32k", "x", format!("data make in.json full/x --tokenizer {tokenizer}")),
        ("88k", "x.db", format!("data make in.json full/x --tokenizer {tokenizer} --packed --seq-length 64")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("full")).unwrap();
        std::fs::write(folder.path().join("in.json"), records(400)).unwrap();
        let bloomery = env!("CARGO_BIN_EXE_bloomery");
        let script = format!(
            "mount -t tmpfs -o size={room} none full || exit 77; {bloomery} {writes}; code=$?; ls -A full; exit $code"
        );
        let mut call = Command::new("unshare");
        let call = call.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).current_dir(folder.path());
        let output = call.output().unwrap();
        let message = stderr(&output);
        if output.status.code() == Some(77) || message.contains("unshare") {
            return eprintln!("skipped: no file system can be mounted here: {message}");
        }
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b""[..]), "{writes}: {message}");
        let said =
            if file.ends_with(".db") { "database or disk is full" } else { "No space left on device (os error 28)" };
        let expect = format!("cannot write full/{file}: {said}; make room there");
        assert!(message.contains(&expect), "{writes}: {message} lacks {expect}");
    }
}
