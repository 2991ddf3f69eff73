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
    assert_eq!(json, file);
    assert_eq!(StrategyFile::from_json(&file.to_json().unwrap()).unwrap(), file);
    // Ours lacks nothing but shapes, which are not read.
    let [mut theirs, ours]: [Value; 2] =
        [bytes("compiler/mp2-pp2-json/ckpt_strategy_rank_0.json"), file.to_json().unwrap()]
            .map(|text| serde_json::from_slice(&text).unwrap());
    for entry in theirs["parallel_layout_item"].as_object_mut().unwrap().values_mut() {
        entry.as_object_mut().unwrap().remove("tensor_shape");
    }
    assert_eq!(theirs.to_string(), ours.to_string());
    let merged = StrategyFile::open(&fixture("compiler/mp2-pp2-json/merged.json")).unwrap();
    assert!(merged.layout("1-ln_f.gamma").is_some());
}

fn one(layout: Layout) -> StrategyFile {
    StrategyFile {
        current_stage: 1,
        operators: Vec::new(),
        parameters: vec![Parameter { name: "w".to_owned(), layout }],
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
