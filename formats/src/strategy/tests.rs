//! Against files that MindSpore wrote, byte for byte, and files that nobody should write.

use std::path::PathBuf;

use serde_json::Value;

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// What a stage's file says, as `expected.json` has it: in the file's order.
fn plain(file: &StrategyFile) -> Value {
    let operators = file.operators.iter().map(|op| serde_json::json!([op.name, op.stage, op.inputs]));
    let layout = |parameter: &Parameter| {
        let map: Vec<Vec<i32>> = written_map(&parameter.layout).into_iter().map(|list| list.dim).collect();
        let said = serde_json::json!({
            "dev_matrix": parameter.layout.dev_matrix,
            "tensor_map": map,
            "opt": written_shard(&parameter.layout),
        });
        (parameter.name.clone(), said)
    };
    serde_json::json!({
        "current_stage": file.current_stage,
        "operators": operators.collect::<Vec<_>>(),
        "layouts": file.parameters.iter().map(layout).collect::<serde_json::Map<_, _>>(),
    })
}

/// Each stage's file and the stage.
const FILES: [(&str, u32, &str); 12] = [
    ("mindformers/dp2-mp2-opt", 0, "0"),
    ("mindformers/dp2-mp2-pp2-opt", 0, "0"),
    ("mindformers/dp2-mp2-pp2-opt", 4, "1"),
    ("mindformers/mp4-pp2", 0, "0"),
    ("mindformers/mp4-pp2", 4, "1"),
    ("compiler/axes", 0, "0"),
    ("compiler/dp2-mp2", 0, "0"),
    ("compiler/dp4-mp2-opt2", 0, "0"),
    ("compiler/mp2", 0, "0"),
    ("compiler/mp8", 0, "0"),
    ("compiler/mp2-pp2", 0, "0"),
    ("compiler/mp2-pp2", 2, "1"),
];

#[test]
fn files_of_mindspore_are_read_and_written_to_the_byte() {
    for (folder, rank, stage) in FILES {
        let path = format!("{folder}/ckpt_strategy_rank_{rank}.ckpt");
        let file = StrategyFile::open(&fixture(&path)).unwrap();
        let expected: Value = serde_json::from_slice(&bytes(&format!("{folder}/expected.json"))).unwrap();
        let expected = &expected["stages"][stage];
        assert_eq!(plain(&file), *expected, "{path}");
        assert_eq!(file.encode().unwrap(), bytes(&path), "{path}");
    }
    let merged = StrategyFile::open(&fixture("compiler/mp2-pp2/merged.ckpt")).unwrap();
    let table = merged.layout("0-embedding.word_embedding.embedding_table").unwrap();
    assert_eq!(table.dev_matrix, [2]);
    assert_eq!(merged.encode().unwrap(), bytes("compiler/mp2-pp2/merged.ckpt"));
}

#[test]
fn json_says_the_same() {
    let json = StrategyFile::open(&fixture("compiler/mp2-pp2-json/ckpt_strategy_rank_0.json")).unwrap();
    let mut file = StrategyFile::open(&fixture("compiler/mp2-pp2/ckpt_strategy_rank_0.ckpt")).unwrap();
    file.operators.sort_by(|a, b| a.name.cmp(&b.name));
    file.parameters.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(json.to_json().unwrap(), bytes("compiler/mp2-pp2-json/ckpt_strategy_rank_0.json"));
    assert_eq!(json.shapes["blocks.0.output.mapping.weight"], [8, 32]);
    assert_eq!(StrategyFile { shapes: BTreeMap::new(), ..json }, file);
    assert_eq!(StrategyFile::from_json(&file.to_json().unwrap()).unwrap(), file);
    let merged = StrategyFile::open(&fixture("compiler/mp2-pp2-json/merged.json")).unwrap();
    assert!(merged.layout("1-ln_f.gamma").is_some());
}

fn one(layout: Layout) -> StrategyFile {
    StrategyFile {
        current_stage: 1,
        operators: Vec::new(),
        parameters: vec![Parameter { name: "w".to_owned(), layout }],
        shapes: BTreeMap::new(),
    }
}

#[test]
fn files_are_written_in_the_form_of_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = one(Layout::new(vec![2, 4], vec![vec![0], vec![]], Some(OptimizerShard { step: 4, size: Some(2) })));
    for name in ["a.ckpt", "a.json", "a"] {
        let path = folder.path().join(name);
        file.write(&path).unwrap();
        assert_eq!(StrategyFile::open(&path).unwrap(), file);
        assert_eq!(std::fs::read(&path).unwrap().starts_with(b"{"), name == "a.json");
    }
    let error = file.write(&folder.path().join("none/a")).unwrap_err();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
}

fn refused<T: std::fmt::Debug>(result: Result<T, StrategyProblem>, message: &str) {
    let error = result.expect_err("it should be refused").to_string();
    assert!(error.contains(message), "{error:?} lacks {message:?}");
}

#[test]
fn layouts_that_cannot_be_are_refused() {
    let check = |devices: &[u32], map: &[&[u32]], message: &str| {
        let map = map.iter().map(|axes| axes.to_vec()).collect();
        refused(one(Layout::new(devices.to_vec(), map, None)).encode(), message);
    };
    check(&[], &[], "parameter w arranges ranks as []");
    check(&[2, 0], &[], "arranges ranks as [2, 0]");
    check(&[1 << 16, 1 << 16], &[], "arranges ranks as [65536, 65536]");
    check(&[1 << 21], &[], "arranges ranks as [2097152]");
    check(&[2, 2], &[&[2]], "along axis 2 of [2, 2], axes are 0 to 1");
    check(&[2, 2], &[&[0], &[0]], "cut twice along one axis");
    check(&[2, 2], &[&[0, 1]], "has one dimension, cut along 2 axes");
    let shard = |step, size| one(Layout::new(vec![2], vec![], Some(OptimizerShard { step, size })));
    refused(shard(0, None).encode(), "in steps or groups of 0");
    refused(shard(1, Some(u32::MAX)).to_json(), "in steps or groups of 4294967295");
    let several = one(Layout::new(vec![2, 2], vec![vec![0, 1], vec![]], None));
    assert_eq!(StrategyFile::decode(&several.encode().unwrap()).unwrap(), several);
    refused(several.to_json(), "JSON cannot say: name a file that ends in .ckpt");
}

#[test]
fn other_bytes_are_refused() {
    let check = |bytes: &[u8], message: &str| refused(StrategyFile::decode(bytes), message);
    check(b"", "it is empty");
    check(b"{\"current_stage\":1}", "it is no such protobuf message");
    check(&[0x12, 0x00], "the file lacks current_stage");
    check(&[0x08, 0x01, 0x12, 0x00], "an operator lacks node_name");
    check(&[0x08, 0x01, 0x12, 0x03, 0x0a, 0x01, b'x'], "operator x lacks parallel_strategys");
    check(&[0x08, 0x01, 0x1a, 0x03, 0x0a, 0x01, b'x'], "parameter x lacks parallel_layouts");
    check(&[0x08, 0x01, 0x1a, 0x05, 0x0a, 0x01, b'x', 0x12, 0x00], "parameter x lacks field");
    let message = |shard: &[u8]| [&[0x08, 0x01, 0x1a, 11, 0x0a, 0x01, b'x', 0x12, 6, 0x28, 0][..], shard].concat();
    check(&message(&[0x30, 0, 0x38, 0]), "parameter x has 0 arrangements of ranks, expected one");
    let json = |text: &str, message: &str| refused(StrategyFile::from_json(text.as_bytes()), message);
    json("", "it is empty");
    json("{}", "it is no such JSON (missing field");
    json(
        r#"{"current_stage":1,"parallel_strategy_item":{},"parallel_layout_item":{"w":{"dev_matrix":[2],"field":0,
            "opt_weight_shard_size":3,"opt_weight_shard_step":0,"tensor_map":[-1]}}}"#,
        "parameter w is shared by the optimizer's ranks in steps of 0 and groups of 3",
    );
    json(
        r#"{"current_stage":1,"parallel_strategy_item":{},"parallel_layout_item":{"w":{"dev_matrix":[2],"field":0,
            "opt_weight_shard_size":0,"opt_weight_shard_step":0,"tensor_map":[-2]}}}"#,
        "parameter w is cut along axis -2",
    );
}

/// Every beginning of a file, and every file with a byte changed, is read or refused; what is read reads as the same again.
#[test]
fn damaged_files_are_read_or_refused() {
    let whole = bytes("compiler/axes/ckpt_strategy_rank_0.ckpt");
    let cut = (0..whole.len()).map(|end| whole[..end].to_vec());
    let changed = (0..whole.len()).flat_map(|at| {
        [0x00, 0x7f, 0x80, 0xff].map(|byte| {
            let mut changed = whole.clone();
            changed[at] ^= byte;
            changed
        })
    });
    for bytes in cut.chain(changed) {
        if let Ok(file) = StrategyFile::decode(&bytes) {
            assert_eq!(StrategyFile::decode(&file.encode().unwrap()).unwrap(), file);
        }
    }
}

fn folder_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in files {
        std::fs::write(folder.path().join(to), bytes(from)).unwrap();
    }
    folder
}

fn rank(stage: u32) -> String {
    format!("mindformers/dp2-mp2-pp2-opt/ckpt_strategy_rank_{}.ckpt", stage * 4)
}

/// As MindSpore's own merging, which takes files in the folder's order; ours are in the order of stages.
#[test]
fn stages_are_merged_as_mindspore_merges_them() {
    let (zero, one) = (rank(0), rank(1));
    let files = [(&*one, "ckpt_strategy_rank_4.ckpt"), (&zero, "ckpt_strategy_rank_0.ckpt"), (&zero, "b_rank_3.ckpt")];
    let folder = folder_of(&files);
    let opened = Stages::open(folder.path()).unwrap();
    assert!(!opened.merged && opened.notes.is_empty());
    let stages = opened.stages;
    assert_eq!((stages.devices(), stages.ranks(), stages.place(6)), (4, 8, (1, 2)));
    let sorted = |mut file: StrategyFile| {
        file.parameters.sort_by(|a, b| a.name.cmp(&b.name));
        file.operators.sort_by(|a, b| (a.stage, &a.name).cmp(&(b.stage, &b.name)));
        file
    };
    let theirs = StrategyFile::open(&fixture("transform/strategies/mindformers-dp2-mp2-pp2-opt.ckpt")).unwrap();
    assert_eq!(sorted(stages.merged()), sorted(theirs));
    // Its own output beside the files it came from is left out, and is the same strategy alone.
    let out = folder.path().join("merged.ckpt");
    stages.merged().write(&out).unwrap();
    let again = Stages::open(folder.path()).unwrap();
    assert_eq!(again.stages.merged(), stages.merged());
    assert!(again.notes[0].contains("merged.ckpt is left out: it is merged already"), "{:?}", again.notes);
    assert!(Stages::in_folder(folder.path(), Some(&out)).unwrap().notes.is_empty());
    let alone = Stages::open(&out).unwrap();
    assert!(alone.merged && alone.stages.merged() == stages.merged());
    assert_eq!(alone.stages.first_with("embedding.word_embedding.embedding_table").unwrap().0, 0);
}

#[test]
fn folders_that_are_no_whole_strategy_are_refused() {
    let (zero, one) = (rank(0), rank(1));
    let check = |files: &[(&str, &str)], parts: &[&str]| {
        let folder = folder_of(files);
        let error = Stages::open(folder.path()).unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "{error:?} lacks {part:?}"));
    };
    check(&[], &["holds no strategy files"]);
    check(&[(&one, "a.ckpt")], &["stage 0 is missing, stages are 0 to 1"]);
    check(
        &[(&zero, "ckpt_strategy_rank_4.ckpt")],
        &["rank_4.ckpt is of stage 0", "rank 4 of 4 in a stage is in stage 1"],
    );
    check(&[(&zero, "a.ckpt"), ("compiler/mp2-pp2-json/ckpt_strategy_rank_0.json", "b.json")], &["1 file of protobuf"]);
    let other = "compiler/dp2-mp2/ckpt_strategy_rank_0.ckpt";
    check(&[(&zero, "a.ckpt"), (other, "b.ckpt")], &["b.ckpt", "stage 0", "a.ckpt says otherwise", "parameter "]);
    check(&[(other, "a.ckpt"), (&one, "b.ckpt"), ("compiler/mp8/ckpt_strategy_rank_0.ckpt", "c.ckpt")], &["c.ckpt"]);
    let mp8 = "compiler/mp8/ckpt_strategy_rank_0.ckpt";
    check(&[(mp8, "a.ckpt"), (&one, "b.ckpt")], &["of stage 1 is on 4 ranks", "in stage 0 is on 8"]);
    let single = Stages::open(&fixture(&one)).unwrap_err().to_string();
    assert!(single.contains("it is of stage 1 alone"), "{single}");
    let named = |names: &[&str]| StrategyFile {
        parameters: names
            .iter()
            .map(|name| Parameter { name: (*name).to_owned(), layout: Layout::new(vec![2], vec![vec![]], None) })
            .collect(),
        ..StrategyFile::default()
    };
    let refused = |names: &[&str], part: &str| {
        let error = Stages::of_file(named(names)).unwrap_err().to_string();
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    };
    refused(&[], "it has no parameters");
    refused(&["0-0-w"], "0-0-w");
    refused(&["0-w", "w"], "0-w and w");
    refused(&["0-w", "0-w"], "stage 0 has parameter w twice");
    refused(&["1-w"], "stage 0 is missing");
    let folder = tempfile::tempdir().unwrap();
    let far = folder.path().join("far.ckpt");
    named(&["4294967295-w"]).write(&far).unwrap();
    let error = Stages::read(&far).unwrap_err().to_string();
    assert!(error.contains("which makes 8589934592 in all"), "{error}");
}
