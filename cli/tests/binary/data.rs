//! `data make` and `data show`: instruction sets and MindRecord data sets.

use std::io::Write;
use std::path::{Path, PathBuf};

use bloomery_formats::mindrecord::{MindRecord, Value as Column};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::refused::refused;
use crate::shown::json as shown;
use crate::{args, fixture, model, printed};

fn mindspore(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore").join(name)
}

fn tokenizer() -> PathBuf {
    fixture("tokenizer")
}

/// The first column of each row.
fn ids(path: &Path) -> Vec<Vec<i64>> {
    let rows = MindRecord::open(path).unwrap();
    let list = |row: Vec<Column>| if let Column::Ints(ids) = &row[0] { ids.clone() } else { panic!("{row:?}") };
    rows.iter().map(|row| list(row.unwrap())).collect()
}

/// `rows` records, the first of which says `0`.
fn records(rows: usize) -> Vec<Value> {
    (0..rows)
        .map(|i| json!({"instruction": format!("Say {i}"), "input": "", "output": format!("{i} it is.")}))
        .collect()
}

#[test]
fn rows_are_those_of_mindformers() {
    let golden: Value = serde_json::from_slice(&std::fs::read(mindspore("data/mindformers.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in.json", "dataset.mindrecord"].map(|name| folder.path().join(name));
    std::fs::write(&input, golden["records"].to_string()).unwrap();
    let (tokenizer, length) = (tokenizer(), golden["seq_length"].to_string());
    let make = args![
        "data",
        "make",
        &input,
        &output,
        "--tokenizer",
        &tokenizer,
        "--seq-length",
        &length,
        "--compat",
        "mindformers"
    ];
    let made = shown(&[make, args!["--json"]].concat());
    let shown = shown(args!["data", "show", &output, "--rows", "99", "--json"]);
    let rows: Vec<&Value> = shown["rows"].as_array().unwrap().iter().map(|row| &row["input_ids"]).collect();
    assert_eq!(rows, golden["rows"].as_array().unwrap().iter().collect::<Vec<_>>());
    assert_eq!(shown["schema"], json!({"input_ids": {"type": "int64", "shape": [-1]}}));
    assert_eq!(shown["description"], "lm-schema");
    assert_eq!((&made["rows"], &made["row_length"], &made["cut"]), (&json!(6), &json!(129), &json!(2)));
}

#[test]
fn a_row_says_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output, packed] =
        ["in.json", "out.mindrecord", "packed.mindrecord"].map(|name| folder.path().join(name));
    std::fs::write(&input, Value::from(records(40)).to_string()).unwrap();
    let tokenizer = tokenizer();
    let text = printed(args![
        "data",
        "make",
        &input,
        &output,
        "--tokenizer",
        &tokenizer,
        "--seq-length",
        "256",
        "--template",
        "belle"
    ]);
    for part in ["out.mindrecord: 40 rows of 256 ids", "samples   40", "padding   9", "16 to 31"] {
        assert!(text.contains(part), "{text}");
    }
    let made = shown(args!["data", "show", &output, "--json", "--rows", "1", "--tokenizer", &tokenizer]);
    assert_eq!(
        (&made["rows_total"], &made["shards"], made["rows"].as_array().unwrap().len()),
        (&json!(40), &json!(1), 1)
    );
    let row = &made["rows"][0];
    assert_eq!(row["text"], "Human: Say 0 \n\nAssistant:0 it is.</s>");
    let length = row["lengths"][0].as_u64().unwrap() as usize;
    let ids: Vec<i64> = serde_json::from_value(row["input_ids"].clone()).unwrap();
    assert!(ids.len() == 256 && ids[length - 1..].iter().all(|id| *id == 2) && ids[length - 2] != 2);
    let text = printed(args!["data", "show", &output, "--tokenizer", &tokenizer]);
    assert!(text.contains("40 rows in 1 file") && text.contains("column    lengths: int32[-1]"), "{text}");
    assert!(text.contains("row 2\n") && !text.contains("row 3\n"), "{text}");
    let inspected = shown(args!["inspect", &output, "--json"]);
    assert_eq!((&inspected["kind"], &inspected["schema"]), (&json!("mindrecord"), &made["schema"]));
    assert!(printed(args!["inspect", &output]).contains("MindRecord data set, 40 rows"));

    let make = args![
        "data",
        "make",
        &input,
        &packed,
        "--tokenizer",
        &tokenizer,
        "--seq-length",
        "256",
        "--template",
        "belle",
        "--packed"
    ];
    let made = shown(&[make, args!["--json"]].concat());
    let rows = made["rows"].as_u64().unwrap();
    assert!((3..8).contains(&rows) && made["samples"] == 40 && made["padding"].as_f64().unwrap() < 0.2, "{made}");
    let packed = shown(args!["data", "show", &packed, "--json", "--rows", "9"]);
    let mut samples = Vec::new();
    for row in packed["rows"].as_array().unwrap() {
        let ids: Vec<i64> = serde_json::from_value(row["input_ids"].clone()).unwrap();
        let [lengths, prompts]: [Vec<usize>; 2] =
            ["lengths", "prompt_lengths"].map(|name| serde_json::from_value(row[name].clone()).unwrap());
        let mut rest = &ids[..];
        for (length, prompt) in lengths.into_iter().zip(prompts) {
            let (sample, after) = rest.split_at(length);
            assert!(prompt < length && sample[length - 1] == 2);
            samples.push(sample.to_vec());
            rest = after;
        }
        assert!(rest.iter().all(|id| *id == 2));
    }
    let alone = MindRecord::open(&output).unwrap();
    assert_eq!(samples.len(), alone.rows());
    for (sample, row) in samples.iter().zip(alone.iter()) {
        let row = row.unwrap();
        assert!(matches!((&row[0], &row[1]), (Column::Ints(ids), Column::Ints(lengths))
            if lengths[0] == sample.len() as i64 && ids.starts_with(sample)));
    }
}

#[test]
fn files_of_each_kind_give_the_same_rows_whatever_the_shards() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let all = records(600);
    let lines: String = all.iter().map(|record| format!("{record}\n")).collect();
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    zip.write_all(lines.as_bytes()).unwrap();
    std::fs::write(path("array.json"), serde_json::to_string_pretty(&all).unwrap()).unwrap();
    std::fs::write(path("lines.json"), &lines).unwrap();
    std::fs::write(path("lines.gz"), zip.finish().unwrap()).unwrap();
    let tokenizer = tokenizer();
    let make = |input: &str, output: &str, more: &[&str]| {
        let (input, output) = (path(input), path(output));
        let mut arguments =
            args!["data", "make", &input, &output, "--tokenizer", &tokenizer, "--seq-length", "64"].to_vec();
        arguments.extend(more.iter().map(std::ffi::OsStr::new));
        printed(&arguments);
    };
    make("array.json", "a", &[]);
    make("lines.json", "b", &[]);
    make("lines.gz", "c", &["--shards", "7"]);
    make("array.json", "d", &["--N", "10", "--shards", "11"]);
    let rows = ids(&path("a"));
    assert_eq!(rows.len(), 600);
    assert_eq!(ids(&path("b")), rows);
    assert_eq!(ids(&path("c3")), rows);
    assert_eq!(ids(&path("d00")), rows[..10]);
    let sharded = shown(args!["data", "show", &path("c0"), "--json"]);
    assert_eq!((&sharded["shards"], &sharded["files"][6][1]), (&json!(7), &json!(85)));
    // Fewer shards replace all of an older data set's files, and no others.
    make("array.json", "e", &["--shards", "4"]);
    std::fs::write(path("e4"), "somebody's").unwrap();
    let (input, output) = (path("array.json"), path("e"));
    let fewer = args!["data", "make", &input, &output, "--tokenizer", &tokenizer, "--seq-length", "64", "--shards"];
    let text = printed(&[fewer, args!["2", "--force"]].concat());
    assert!(text.contains("e2\n") && text.contains("e3\n") && text.contains("removed"), "{text}");
    for (name, there) in [("e1", true), ("e2", false), ("e2.db", false), ("e3", false), ("e3.db", false), ("e4", true)]
    {
        assert_eq!(path(name).exists(), there, "{name}");
    }
    assert_eq!(ids(&path("e1")), rows);
    // The same twice is the same to the byte.
    let again = path("again");
    std::fs::create_dir(&again).unwrap();
    make("array.json", "again/a", &[]);
    for name in ["a", "a.db"] {
        assert!(std::fs::read(path(name)).unwrap() == std::fs::read(again.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn bad_rows_are_named_or_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in.json", "out"].map(|name| folder.path().join(name));
    let mut all = records(5);
    all[2] = json!({"instruction": "a", "answer": "b"});
    all[4] = json!({"instruction": "a", "output": 7});
    std::fs::write(&input, Value::from(all).to_string()).unwrap();
    let tokenizer = tokenizer();
    let make = args!["data", "make", &input, &output, "--tokenizer", &tokenizer, "--seq-length", "64"];
    refused(make, &["in.json: row 3 has no field `output`", "--skip-bad"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let made = shown(&[make, args!["--skip-bad", "--json"]].concat());
    assert_eq!((&made["rows"], &made["samples"], &made["skipped"]), (&json!(3), &json!(3), &json!(2)));
    // What is there is kept.
    refused(make, &["out is there already", "--force"]);
    let text = printed(&[make, args!["--skip-bad", "--force", "--N", "2"]].concat());
    assert!(text.contains("2 rows of 64 ids"), "{text}");
    std::fs::write(&input, r#"[{"instruction": "a"}]"#).unwrap();
    refused(&[make, args!["--skip-bad", "--force"]].concat(), &["gives no sample", "row 1 has no field `output`"]);
    assert_eq!(ids(&output).len(), 2);
}

#[test]
fn what_fits_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in.json", "out"].map(|name| folder.path().join(name));
    std::fs::write(&input, Value::from(records(3)).to_string()).unwrap();
    let make = |tokenizer: &Path, more: &[&str], parts: &[&str]| {
        let mut arguments = args!["data", "make", &input, &output, "--tokenizer", tokenizer].to_vec();
        arguments.extend(more.iter().map(std::ffi::OsStr::new));
        refused(&arguments, parts);
        assert!(!output.exists());
    };
    // A tokenizer of 4096 beside a model of 512.
    let other = folder.path().join("model");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(model("tiny").join("config.json"), other.join("config.json")).unwrap();
    make(&other, &[], &["holds no tokenizer.json"]);
    std::fs::copy(tokenizer().join("tokenizer.json"), other.join("tokenizer.json")).unwrap();
    make(&other, &[], &["ids up to 4095", "a vocabulary of 512"]);
    let tokenizer = tokenizer();
    let text = std::fs::read_to_string(tokenizer.join("tokenizer.json")).unwrap();
    let anonymous = folder.path().join("tokenizer.json");
    std::fs::write(&anonymous, text.replace("</s>", "</end>")).unwrap();
    make(&anonymous, &[], &["no token </s>", "eos_token_id"]);

    std::fs::write(&input, "instruction,output\n").unwrap();
    make(&tokenizer, &[], &["in.json begins neither with"]);
    std::fs::write(&input, r#"[{"instruction": "a", "output": "b"}, {"instr"#).unwrap();
    make(&tokenizer, &[], &["in.json is no sound JSON array", "line 1"]);
    refused(
        args!["data", "make", &input, &input, "--tokenizer", &tokenizer, "--force"],
        &["in.json is the instruction set itself", "name another"],
    );
    std::fs::remove_file(&input).unwrap();
    make(&tokenizer, &[], &["in.json", "No such file"]);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn damaged_data_sets_have_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["dataset.mindrecord", "dataset.mindrecord.db"] {
        std::fs::copy(mindspore("mindrecord/one-int64").join(name), folder.path().join(name)).unwrap();
    }
    let data = folder.path().join("dataset.mindrecord");
    let all = shown(args!["data", "show", &data, "--rows", "99", "--json"]);
    let expected: Value =
        serde_json::from_slice(&std::fs::read(mindspore("mindrecord/one-int64/expected.json")).unwrap()).unwrap();
    assert_eq!((&all["rows"], &all["schema"]), (&expected["rows"], &expected["schema"]));
    let sound = std::fs::read(&data).unwrap();
    std::fs::write(&data, &sound[..sound.len() - 1]).unwrap();
    refused(args!["data", "show", &data], &["dataset.mindrecord", "page 1 ends at byte", "cut short"]);
    let mut damaged = sound.clone();
    damaged[16 << 10] ^= 1;
    std::fs::write(&data, damaged).unwrap();
    refused(args!["data", "show", &data], &["row 0 is damaged", "by page 0"]);
    std::fs::write(&data, &sound).unwrap();
    let index = folder.path().join("dataset.mindrecord.db");
    std::fs::write(&index, "nothing of SQLite").unwrap();
    refused(args!["data", "show", &data], &["dataset.mindrecord.db", "not a database"]);
    refused(args!["inspect", &data], &["dataset.mindrecord.db"]);
    std::fs::remove_file(&index).unwrap();
    refused(args!["data", "show", &data], &["dataset.mindrecord.db", "missing"]);
    let four = mindspore("mindrecord/four").join("dataset.mindrecord2");
    let text = printed(args!["data", "show", &four, "--rows", "1"]);
    assert!(text.contains("10 rows in 4 files") && text.contains("[-77909,"), "{text}");
}
