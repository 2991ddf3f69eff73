//! Strategy files of MindSpore's, written by `compile --save-strategy`.

use std::path::{Path, PathBuf};

use bloomery_formats::strategy::StrategyFile;
use serde_json::Value;

use crate::refused::refused;
use crate::shown::json;
use crate::{args, bloomery, call, model, printed, stderr};

fn rank(folder: &Path, rank: u32) -> PathBuf {
    folder.join(format!("ckpt_strategy_rank_{rank}.ckpt"))
}

/// What a file says, its items in the order of their names.
fn sorted(path: &Path) -> StrategyFile {
    let mut file = StrategyFile::open(path).unwrap();
    file.operators.sort_by(|a, b| a.name.cmp(&b.name));
    file.parameters.sort_by(|a, b| a.name.cmp(&b.name));
    file
}

/// A configuration of the size that MindSpore's compiler was given, and of the layout of MindFormers' 7.1B.
#[test]
fn a_configurations_files_say_what_mindspore_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let (file, saved) = (folder.path().join("run.yaml"), folder.path().join("new/strategy"));
    let text = "use_parallel: True\nmodel:\n  model_config:\n    hidden_size: 16\n    num_layers: 2\n    num_heads: 8\n    \
                vocab_size: 32\nparallel_config:\n  data_parallel: 1\n  model_parallel: 4\n  pipeline_stage: 2\n  \
                micro_batch_num: 2\n  optimizer_shard: True\n";
    std::fs::write(&file, text).unwrap();
    let output = call(args!["compile", &file, "--save-strategy", &saved]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("stages get layers as MindFormers deals them out, 1:1"), "{}", stderr(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("strategy files of 8 ranks, dp=1,mp=4,pp=2") && shown.ends_with("layers 1:1\n"), "{shown}");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore/mindformers/mp4-pp2");
    for one in 0..8 {
        assert_eq!(sorted(&rank(&saved, one)), sorted(&rank(&golden, one / 4 * 4)), "rank {one}");
    }
    assert_eq!(std::fs::read_dir(&saved).unwrap().count(), 8);
}

#[test]
fn a_size_needs_no_weights_and_an_artifact_may_come_with_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved");
    let strategy = "dp=2,mp=2,pp=3,optimizer_shard=true,stages=10:10:4";
    let shown = printed(args!["compile", "--size", "560m", "--strategy", strategy, "--save-strategy", &saved]);
    assert!(shown.contains(strategy) && shown.contains("layers 10:10:4"), "{shown}");
    let file = StrategyFile::open(&rank(&saved, 11)).unwrap();
    assert!(file.operators.iter().all(|operator| operator.stage == 2));
    let shard = file.layout("adam_m.blocks.20.output.mapping.weight").unwrap().optimizer_shard.unwrap();
    assert_eq!((shard.step, shard.size), (2, None));

    let (tiny, artifact, saved) = (model("tiny"), folder.path().join("a.bloom"), folder.path().join("also"));
    let compile = args!["compile", &tiny, "--target", "interpreter", "--strategy", "mp=2", "-o", &artifact];
    printed(&[compile, args!["--save-strategy", &saved]].concat());
    assert!(artifact.exists() && rank(&saved, 1).exists() && !rank(&saved, 2).exists());
}

/// Of the largest model on many ranks, in the time of a small one: configurations, sizes, folders without weights.
#[test]
fn plans_need_no_weights() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/bloom/run_bloom_176b.yaml");
    let shown = printed(args!["compile", &config, "--plan-only"]);
    for part in
        ["128 ranks, dp=1,mp=8,pp=16", " 128 ranks of a narrow model differ from one", "send over pp", "15 times"]
    {
        assert!(shown.contains(part), "{shown} lacks {part}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let plan = json(args!["compile", "--size", "176b", "--strategy", "dp=8,mp=8,pp=16", "--plan-only", "--json"]);
    let stages = plan["stages"].as_array().unwrap();
    assert_eq!((&plan["ranks"], stages.len()), (&1024.into(), plan["programs"].as_u64().unwrap() as usize));
    let sum = |key: &str| -> u64 {
        let of = |stage: &Value| {
            let stages = &stage["stages"];
            stage[key].as_u64().unwrap() * (stages["end"].as_u64().unwrap() - stages["start"].as_u64().unwrap())
        };
        stages.iter().map(of).sum()
    };
    // Eight ranks of each stage have its layers; a tied table lies on the first and the last one.
    let table = 250_880 * 14_336;
    let weights = 2 * (plan["parameters"].as_u64().unwrap() + table) / 8;
    assert_eq!(sum("layers"), 70);
    assert!((sum("weight_bytes") as f64 / weights as f64 - 1.0).abs() < 0.01, "{plan}");
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved");
    let uneven = args!["compile", "--size", "560m", "--strategy", "pp=4,stages=4:8:4:8", "--plan-only", "--json"];
    let plan = json(&[uneven, args!["--save-strategy", &saved]].concat());
    // The first, the last, and two in between that differ; documents stay documents beside files.
    assert!(plan["programs"] == 4 && rank(&saved, 3).exists(), "{plan}");
    std::fs::copy(model("tiny").join("config.json"), folder.path().join("config.json")).unwrap();
    assert!(printed(args!["compile", folder.path(), "--plan-only", "--strategy", "pp=2"]).contains("2 ranks"));
    refused(args!["compile", folder.path(), "--plan-only", "--strategy", "mp=3"], &["4 heads cannot be split evenly"]);
}

/// MindFormers replicates a vocabulary that does not come out even, which the files say; the artifact shares it.
#[test]
fn files_and_artifacts_differ_where_the_vocabulary_does_not_come_out_even() {
    let folder = tempfile::tempdir().unwrap();
    let (path, artifact, saved) = (model("tiny-nonpow2"), folder.path().join("a.bloom"), folder.path().join("saved"));
    let compile = args!["compile", &path, "--target", "interpreter", "--strategy", "mp=6", "-o", &artifact];
    let output = call(&[compile, args!["--save-strategy", &saved]].concat());
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    let rows =
        "6 ranks share 256 rows of the vocabulary: 2 rows of zeros are added at the end, which nobody can choose";
    assert!(said.contains(rows), "{said}");
    assert!(
        said.contains("6 ranks cannot share 256 rows of the vocabulary evenly: in the files each has all"),
        "{said}"
    );
    let table = "embedding.word_embedding.embedding_table";
    let file = StrategyFile::open(&rank(&saved, 5)).unwrap();
    assert!(file.layout(table).unwrap().tensor_map.iter().all(Vec::is_empty), "{file:?}");
    let shown = printed(args!["strategy", "show", &artifact]);
    assert!(shown.contains("1/6 of dim 0 (258)"), "{shown}");
}

#[test]
fn strategies_that_have_no_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved");
    let of = |name: &str, strategy: &str, parts: &[&str]| {
        refused(args!["compile", &model(name), "--strategy", strategy, "--save-strategy", &saved], parts);
    };
    of("tiny", "mp=3", &["4 heads cannot be split evenly among 3 ranks", "1, 2 or 4"]);
    of("tiny-untied", "mp=2", &["has a head of its own", "MindFormers' Bloom"]);
    assert!(!saved.exists());
    printed(args!["compile", &model("tiny"), "--strategy", "dp=4", "--save-strategy", &saved]);
    of("tiny", "dp=2", &["saved holds ckpt_strategy_rank_", "of another strategy than this of 2 ranks", "remove it"]);
    let (late, nowhere) = (folder.path().join("late"), folder.path().join("no/such/folder/x"));
    let tiny = model("tiny");
    let compile = args!["compile", &tiny, "--target", "interpreter", "--save-strategy", &late, "-o", &nowhere];
    refused(compile, &["there is no folder"]);
    assert!(!late.exists(), "nothing is written of what cannot be compiled");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    refused(args!["compile", &model("tiny"), "--save-strategy", &file], &["cannot create", "file"]);
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    for (line, part) in [
        ("compile m --save-strategy d --emit ir", "cannot be used with"),
        ("compile --size 560m --save-strategy d -o x", "weights of a size are random: say --random-weights SEED"),
        ("compile --size 560m -o x", "--random-weights <SEED>"),
    ] {
        let output = bloomery().args(line.split_whitespace()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{line}: {} lacks {part}", stderr(&output));
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore").join(name)
}

/// A folder with the files of ranks, by rank.
fn folder_of(files: &[(&str, u32)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in files {
        std::fs::copy(fixture(from), rank(folder.path(), *to)).unwrap();
    }
    folder
}

const STAGE_0: &str = "mindformers/dp2-mp2-pp2-opt/ckpt_strategy_rank_0.ckpt";
const STAGE_1: &str = "mindformers/dp2-mp2-pp2-opt/ckpt_strategy_rank_4.ckpt";

#[test]
fn strategy_files_are_shown() {
    let folder = folder_of(&[(STAGE_0, 0), (STAGE_0, 3), (STAGE_1, 4)]);
    let name = "blocks.1.attention.dense1.weight";
    let expected = serde_json::json!({
        "device_matrix": [2, 2], "tensor_map": [0, -1], "slice_shape": null, "optimizer_shard": {"step": 2, "size": -1}
    });
    let merged = fixture("transform/strategies/mindformers-dp2-mp2-pp2-opt.ckpt");
    for path in [folder.path(), &merged, &fixture(STAGE_1)] {
        let shown = json(args!["strategy", "show", path, "--json"]);
        assert_eq!(shown["stages"]["1"]["parameters"][name], expected, "{shown}");
        assert_eq!(shown["stages"]["0"].is_null(), path == fixture(STAGE_1));
        assert_eq!(shown.as_object().unwrap().len(), 1);
    }
    let whole =
        &json(args!["strategy", "show", &merged, "--json"])["stages"]["0"]["parameters"]["embedding.norm.gamma"];
    assert_eq!((&whole["optimizer_shard"], &whole["tensor_map"]), (&Value::Null, &serde_json::json!([-1])));
    let shaped = fixture("compiler/mp2-pp2-json/merged.json");
    let shown = json(args!["strategy", "show", &shaped, "--json"]);
    assert_eq!(
        shown["stages"]["0"]["parameters"]["blocks.0.output.mapping.weight"]["slice_shape"],
        serde_json::json!([8, 16])
    );
    let text = printed(args!["strategy", "show", &merged]);
    assert!(
        text.contains("stage 1, ranks 4 to 7: ") && text.contains("1/4 of dim 0, shared by the optimizer"),
        "{text}"
    );
    // By content, whatever the name says.
    let other = folder.path().join("whatever");
    std::fs::copy(&shaped, &other).unwrap();
    assert_eq!(json(args!["strategy", "show", &other, "--json"]), shown);
    for path in [&other, &merged, &fixture(STAGE_1)] {
        let inspected = json(args!["inspect", path, "--json"]);
        assert!(inspected["kind"] == "strategy" && inspected["stages"]["1"].is_object(), "{inspected}");
    }
    let axes = json(args!["strategy", "show", &fixture("transform/strategies/axes.ckpt"), "--json"]);
    assert!(axes.to_string().contains("[[1,0],-1]") || axes.to_string().contains("[-1,[1,0]]"), "{axes}");
    let folder = tempfile::tempdir().unwrap();
    refused(args!["strategy", "show", &folder.path().join("none")], &["cannot read", "none"]);
}

#[test]
fn strategy_files_are_merged_and_drawn() {
    let folder = folder_of(&[(STAGE_0, 0), (STAGE_1, 5), (STAGE_0, 2)]);
    let out = folder.path().join("merged.ckpt");
    let merge = args!["strategy", "merge", folder.path(), "-o", &out].to_vec();
    let shown = printed(&merge);
    assert!(shown.contains("merged.ckpt: 2 stages, 8 ranks, "), "{shown}");
    let theirs = fixture("transform/strategies/mindformers-dp2-mp2-pp2-opt.ckpt");
    assert_eq!(sorted(&out), sorted(&theirs));
    assert!(printed(args!["strategy", "diff", &out, &theirs]).starts_with("equal: "));
    // A second time it does not swallow its own output, under this name or another.
    refused(&merge, &["merged.ckpt is there already", "--force"]);
    let first = std::fs::read(&out).unwrap();
    printed(&[&merge[..], args!["--force"]].concat());
    let again = folder.path().join("again.json");
    let shown = printed(args!["strategy", "merge", folder.path(), "-o", &again]);
    assert!(shown.contains("note: ") && shown.contains("merged.ckpt is left out"), "{shown}");
    assert_eq!(
        (std::fs::read(&out).unwrap(), json(args!["strategy", "diff", &again, &out, "--json"])["equal"].clone()),
        (first, true.into())
    );
    let checked = json(args!["strategy", "check", &again, "--json"]);
    assert_eq!(
        (&checked["stages"], &checked["ranks"], &checked["notes"]),
        (&2.into(), &8.into(), &serde_json::json!([]))
    );

    let picture = folder.path().join("picture.svg");
    let written = printed(args!["strategy", "draw", &out, "-o", &picture]);
    for part in [" on 8 ranks\n", "stage 1, ranks 4 to 7", "part 2 of 2 of dim 0                          rank 5, 7\n"]
    {
        assert!(written.contains(part), "{written} lacks {part}");
    }
    refused(args!["strategy", "draw", &out, "-o", &picture], &["picture.svg is there already", "--force"]);
    let table = json(args!["strategy", "draw", &out, "--json"]);
    let norm = &table["parameters"]["blocks.1.attention.dense1.weight"];
    assert_eq!((&norm["ranks"]["6"], &norm["ranks"]["3"]), (&serde_json::json!([[1, 2], [0, 1]]), &Value::Null));
    let drawn = std::fs::read_to_string(&picture).unwrap();
    for part in [
        "8 ranks (stages 2, ranks each 4)",
        ">blocks.1.attention.dense1.weight<",
        "rank 6: 1..2 of dimension 0 of [4, 1] pieces",
        ">dim 0 in 4 parts, on ranks 4 to 7<",
        ">all ranks that are named there<",
    ] {
        assert!(drawn.contains(part), "{drawn} lacks {part}");
    }
    assert_eq!(printed(args!["strategy", "draw", &out]), drawn);
}

#[test]
fn strategies_that_are_not_whole_are_refused() {
    let alone = folder_of(&[(STAGE_1, 4)]);
    let out = alone.path().join("merged.ckpt");
    refused(args!["strategy", "merge", alone.path(), "-o", &out], &["stage 0 is missing"]);
    assert!(!out.exists());
    refused(args!["strategy", "check", &fixture(STAGE_1)], &["it is of stage 1 alone"]);
    let doubled = folder_of(&[(STAGE_0, 0), ("compiler/dp2-mp2/ckpt_strategy_rank_0.ckpt", 1), (STAGE_1, 4)]);
    let parts = ["rank_1.ckpt", "it is of stage 0", "rank_0.ckpt says otherwise", "parameter "];
    refused(args!["strategy", "merge", doubled.path(), "-o", &out], &parts);
    let merged = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("transform/strategies/mp2-pp2.ckpt"), merged.path().join("a.ckpt")).unwrap();
    refused(args!["strategy", "merge", merged.path(), "-o", &out], &["merged already"]);
    let empty = tempfile::tempdir().unwrap();
    refused(args!["strategy", "merge", empty.path(), "-o", &out], &["holds no strategy files"]);
    let whole = std::fs::read(fixture(STAGE_0)).unwrap();
    let cut = empty.path().join("cut.ckpt");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    refused(args!["strategy", "check", &cut], &["cut.ckpt cannot be read as a strategy file"]);
    let other =
        [("dp2-mp2-opt", "mp4")].map(|(a, b)| [a, b].map(|name| fixture(&format!("transform/strategies/{name}.ckpt"))));
    let [a, b] = &other[0];
    let found = json(args!["strategy", "diff", a, b, "--json"]);
    let different = found["different"].as_array().unwrap();
    let one = different.iter().find(|one| one["name"] == "blocks.0.attention.dense1.weight").unwrap();
    assert_eq!(
        (&one["a"], &one["b"]),
        (
            &"[2, 2] cut as [0, -1], shared by all of the optimizer's ranks in steps of 2".into(),
            &"[4] cut as [0, -1]".into()
        )
    );
    assert!(
        printed(args!["strategy", "diff", a, b]).contains("0-blocks.0.attention.dense1.weight: [2, 2] cut as [0, -1]")
    );
    let axes = printed(args!["strategy", "check", &fixture("transform/strategies/axes.ckpt")]);
    assert!(axes.contains("MindSpore 2.0.0"), "{axes}");
}

/// What only states or operators speak of is named, and so are steps; names stay on their lines.
#[test]
fn lacking_layouts_and_other_steps_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, lacking, stepped] = ["whole.ckpt", "lacking.ckpt", "stepped.ckpt"].map(|name| folder.path().join(name));
    let (name, one) = ("blocks.0.attention.dense1.weight", "mindformers/dp2-mp2-opt/ckpt_strategy_rank_0.ckpt");
    std::fs::copy(fixture(one), &whole).unwrap();
    let mut file = StrategyFile::open(&whole).unwrap();
    let at = file.parameters.iter().position(|parameter| parameter.name == name).unwrap();
    file.parameters[at].layout.optimizer_shard.as_mut().unwrap().step = 1;
    file.write(&stepped).unwrap();
    let said = |step: u32| format!("shared by all of the optimizer's ranks in steps of {step}");
    let text = printed(args!["strategy", "diff", &whole, &stepped]);
    assert!(text.contains(&said(1)) && text.contains(&said(2)), "{text}");
    let text = printed(args!["strategy", "check", &stepped]);
    let part = format!("parameter adam_m.{name} is of {name}, and lies otherwise: ");
    assert!(text.contains(&part) && text.contains(&said(1)) && text.contains(&said(2)), "{text}");
    let mut parameter = file.parameters.remove(at);
    parameter.name = "a\nstage 9".to_owned();
    file.parameters.push(parameter);
    file.write(&lacking).unwrap();
    let text = printed(args!["strategy", "check", &lacking]);
    for of in [format!("parameter adam_m.{name}"), format!("parameter adam_v.{name}"), "operator ".to_owned()] {
        let told = text.lines().find(|line| line.contains(&of)).unwrap_or_default();
        assert!(told.ends_with(&format!("is of {name}, which has no layout here: save the strategy again")), "{text}");
    }
    for command in ["show", "check"] {
        let text = printed(args!["strategy", command, &lacking]);
        assert!(!text.contains("\nstage 9"), "{text}");
    }
    assert!(printed(args!["strategy", "show", &lacking]).contains("  a\\nstage 9  "));
}
