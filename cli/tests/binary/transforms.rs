//! `checkpoint transform`, `needs` and `combine`: refusals, resumption, folders. What they compute is tested in the library.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use bloomery_formats::Dtype;
use bloomery_formats::mindspore::{MindsporeCheckpoint, MindsporeWriter};
use bloomery_formats::strategy::{Layout, Parameter, StrategyFile};
use serde_json::{Value, json};

use crate::refused::refused;
use crate::{args, call, printed, stderr};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore/transform").join(name)
}

fn strategy(name: &str) -> PathBuf {
    fixture(&format!("strategies/{name}.ckpt"))
}

/// Ranks of two stages, four each, that share a network, to be damaged.
struct Case {
    folder: tempfile::TempDir,
    source: PathBuf,
    target: PathBuf,
    src: PathBuf,
    dst: Option<PathBuf>,
}

impl Case {
    fn new() -> Case {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        let from = fixture("cases/mp4-pp2-opt-to-dp2-mp2-pp2-opt/src");
        for rank in 0..8 {
            let rank = format!("rank_{rank}");
            fs::create_dir_all(source.join(&rank)).unwrap();
            fs::copy(from.join(&rank).join("cleaned.ckpt"), source.join(&rank).join("cleaned.ckpt")).unwrap();
        }
        let target = folder.path().join("target");
        let (src, dst) = (strategy("mp4-pp2-opt"), Some(strategy("dp2-mp2-pp2-opt")));
        Case { folder, source, target, src, dst }
    }

    fn rank(&self, rank: u32) -> PathBuf {
        self.source.join(format!("rank_{rank}/cleaned.ckpt"))
    }

    fn words(&self) -> Vec<&OsStr> {
        let (source, target, src) = (&self.source, &self.target, &self.src);
        let mut words = args!["checkpoint", "transform", source, target, "--src-strategy", src].to_vec();
        if let Some(dst) = &self.dst {
            words.extend(args!["--dst-strategy", dst]);
        }
        words
    }

    /// It is refused, and nothing is written.
    fn refused(&self, parts: &[&str]) {
        refused(&self.words(), parts);
        assert!(!self.target.exists(), "{parts:?}");
    }

    /// Writes a rank's file again, each entry as `change` wants it.
    fn rewrite(&self, rank: u32, change: impl Fn(&str, Dtype, Vec<usize>) -> Option<(Dtype, Vec<usize>)>) {
        let path = self.rank(rank);
        let old = MindsporeCheckpoint::open(&path, None).unwrap();
        let mut new = MindsporeWriter::begin(&path).unwrap();
        for entry in old.entries() {
            let Some((dtype, shape)) = change(&entry.name, entry.dtype().unwrap(), entry.shape.clone()) else {
                continue;
            };
            new.tensor(&entry.name, dtype, &shape).unwrap();
            new.write(&vec![0; dtype.bytes(&shape).unwrap()]).unwrap();
        }
        new.complete().unwrap();
    }

    /// The target's or the source's strategy, changed and in a file of its own.
    fn strategy(&self, name: &str, change: impl Fn(&mut Vec<Parameter>)) -> PathBuf {
        let mut file = StrategyFile::open(&strategy(name)).unwrap();
        change(&mut file.parameters);
        let path = self.folder.path().join(format!("{name}.ckpt"));
        file.write(&path).unwrap();
        path
    }
}

const WEIGHT: &str = "blocks.1.attention.dense1.weight";

#[test]
fn folders_of_ranks_have_one_file_each() {
    let case = Case::new();
    fs::remove_dir_all(case.source.join("rank_5")).unwrap();
    case.refused(&["has no folder of rank 5", "which rank 4 of the target needs", "rank_5"]);
    fs::create_dir(case.source.join("rank_5")).unwrap();
    case.refused(&["has no checkpoint of rank 5"]);
    fs::write(case.rank(5), b"").unwrap();
    case.refused(&["rank_5/cleaned.ckpt", "empty"]);
    fs::copy(case.rank(4), case.rank(5)).unwrap();
    fs::copy(case.rank(4), case.source.join("rank_5/other.ckpt")).unwrap();
    case.refused(&["rank_5 holds 2 checkpoints of rank 5", "cleaned.ckpt and other.ckpt", "leave one"]);
    fs::remove_file(case.source.join("rank_5/other.ckpt")).unwrap();
    fs::create_dir(case.source.join("rank_05")).unwrap();
    case.refused(&["are both of rank 5"]);
    fs::remove_dir(case.source.join("rank_05")).unwrap();
    fs::create_dir(case.source.join("rank_8")).unwrap();
    case.refused(&["has a folder of rank 8", "ranks 0 to 7", "that they were saved with"]);
    let words = args!["checkpoint", "transform", &case.source, &case.target, "--dst-strategy", &case.src];
    refused(words, &["has a folder of rank 1", "say --src-strategy"]);
    refused(args!["checkpoint", "transform", &case.source, &case.target], &["say --src-strategy, --dst-strategy"]);
}

#[test]
fn ranks_of_a_stage_hold_the_same() {
    let case = Case::new();
    case.rewrite(6, |name, dtype, shape| Some((if name == WEIGHT { Dtype::F32 } else { dtype }, shape)));
    case.refused(&["rank 6", WEIGHT, "Float32 [2, 8]", "Float16 [2, 8]", "rank_6/cleaned.ckpt"]);
    let case = Case::new();
    case.rewrite(6, |name, dtype, shape| Some((dtype, if name == WEIGHT { vec![4, 8] } else { shape })));
    case.refused(&["rank 6", WEIGHT, "Float16 [4, 8]", "Float16 [2, 8]"]);
    let case = Case::new();
    case.rewrite(6, |name, dtype, shape| (name != WEIGHT).then_some((dtype, shape)));
    case.refused(&["rank 6 lacks parameter blocks.1.attention.dense1.weight", "Float16 [2, 8]"]);
    let case = Case::new();
    (4..8).for_each(|rank| case.rewrite(rank, |name, dtype, shape| (name != WEIGHT).then_some((dtype, shape))));
    case.refused(&["lacks parameter blocks.1.attention.dense1.weight, which the source's strategy has"]);
    let case = Case::new();
    let whole = fs::read(case.rank(4)).unwrap();
    fs::write(case.rank(4), &whole[..whole.len() - 9]).unwrap();
    case.refused(&["rank_4/cleaned.ckpt", "cut short"]);
}

#[test]
fn strategies_say_all_parameters_and_no_others() {
    let mut case = Case::new();
    let name = format!("1-{WEIGHT}");
    case.dst = Some(case.strategy("dp2-mp2-pp2-opt", |all| all.retain(|one| one.name != name)));
    case.refused(&[WEIGHT, "for rank 4 of the target", "the target's strategy lacks it", "[2, 8] in the files"]);
    case.dst = Some(case.strategy("dp2-mp2-pp2-opt", |all| {
        all.push(Parameter { name: "1-more".to_owned(), layout: Layout::new(vec![4], vec![vec![]], None) });
    }));
    case.refused(&["parameter more for rank 4", "no file of the source"]);
    case.dst = Some(strategy("dp2-mp2-pp2-opt"));
    case.src = case.strategy("mp4-pp2-opt", |all| all.retain(|one| one.name != name));
    case.refused(&[WEIGHT, "the source's strategy lacks it"]);
    case.src = strategy("mp4-pp2-opt");
    case.dst = Some(case.strategy("dp2-mp2-pp2-opt", |all| {
        let layout = Layout::new(vec![2, 2], vec![vec![0], vec![], vec![]], None);
        all.iter_mut().filter(|one| one.name == name).for_each(|one| one.layout = layout.clone());
    }));
    case.refused(&[WEIGHT, "rank 4 of the target", "it has 2 dimensions", "and 3 in the target's strategy"]);
}

/// What the target has no use for, and what its extents cannot be cut in.
#[test]
fn states_that_the_target_lacks_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("w.ckpt");
    let mut writer = MindsporeWriter::begin(&source).unwrap();
    for name in ["w", "accu_grads.w", "adam_m.w"] {
        writer.tensor(name, Dtype::F32, &[6, 2]).unwrap();
        writer.write(&[7; 48]).unwrap();
    }
    writer.complete().unwrap();
    let written = |name: &str, devices: u32, names: &[&str]| {
        let parameters = names.iter().map(|name| {
            let layout = Layout::new(vec![devices], vec![vec![0], vec![]], None);
            Parameter { name: (*name).to_owned(), layout }
        });
        let path = folder.path().join(name);
        StrategyFile { parameters: parameters.collect(), ..StrategyFile::default() }.write(&path).unwrap();
        path
    };
    let target = folder.path().join("target");
    let weights = written("weights", 2, &["w"]);
    let words = args!["checkpoint", "transform", &source, &target, "--dst-strategy", &weights];
    refused(words, &["parameter adam_m.w", "the target's strategy lacks it", "checkpoint clean"]);
    let four = written("four", 4, &["w", "adam_m.w"]);
    let words = args!["checkpoint", "transform", &source, &target, "--dst-strategy", &four];
    refused(words, &["parameter w for rank 0", "dimension 0 of [6, 2] cannot be cut in 4 equal pieces"]);
    let all = written("all", 3, &["w", "adam_m.w"]);
    let words = args!["checkpoint", "transform", &source, &target, "--dst-strategy", &all];
    let shown = printed(words);
    assert!(shown.contains("note: sums of gradients are left out (1, such as accu_grads.w)"), "{shown}");
    assert!(shown.contains("rank_2/checkpoint_2.ckpt: 2 parameters of 32 B, from rank 0"), "{shown}");
}

#[test]
fn what_is_there_is_replaced_only_if_that_is_asked_for() {
    let case = Case::new();
    let first = printed(&case.words());
    assert!(first.contains("rank_7/checkpoint_7.ckpt: "), "{first}");
    refused(&case.words(), &["rank_0/checkpoint_0.ckpt is there already", "--force"]);
    printed(&[&case.words(), args!["--force"]].concat());
    let one = json_of(&[&case.words(), args!["--rank", "6", "--prefix", "new_"]].concat());
    assert_eq!((&one["ranks"][0]["rank"], one["ranks"].as_array().unwrap().len()), (&json!(6), 1));
    let [all, one] =
        ["checkpoint_6.ckpt", "new_6.ckpt"].map(|name| fs::read(case.target.join("rank_6").join(name)).unwrap());
    assert_eq!(all, one);
    refused(&[&case.words(), args!["--rank", "8"]].concat(), &["there is no rank 8", "has 8, numbered from 0"]);
    let same = args!["checkpoint", "transform", &case.source, &case.source, "--src-strategy", &case.src];
    refused(same, &["is what is read"]);
    refused(&[&case.words(), args!["--prefix", "../x"]].concat(), &["--prefix ../x", "has no folder in it"]);
    fs::create_dir(case.target.join("rank_8")).unwrap();
    let words = [&case.words(), args!["--force"]].concat();
    refused(&words, &["rank_8 is of another checkpoint", "the new one has 8 ranks", "name another folder"]);
}

fn json_of(words: &[&OsStr]) -> Value {
    serde_json::from_str(&printed(&[words, args!["--json"]].concat())).unwrap()
}

/// The third rank cannot be written: the first two stay, and are not written again.
#[test]
fn what_was_interrupted_goes_on() {
    let case = Case::new();
    let whole = case.folder.path().join("whole");
    let words = |target: &Path| -> Vec<std::ffi::OsString> {
        let words = args!["checkpoint", "transform", &case.source, target, "--src-strategy", &case.src];
        [words, args!["--dst-strategy", case.dst.as_ref().unwrap()]].concat().into_iter().map(OsStr::to_owned).collect()
    };
    let run = |target: &Path| call(&words(target).iter().map(|word| word.as_os_str()).collect::<Vec<_>>());
    assert!(run(&whole).status.success());
    fs::create_dir(&case.target).unwrap();
    fs::write(case.target.join("rank_2"), "in the way").unwrap();
    let output = run(&case.target);
    assert_eq!(output.status.code(), Some(1));
    fs::remove_file(case.target.join("rank_2")).unwrap();
    let [first, second] = [0, 1].map(|rank| case.target.join(format!("rank_{rank}/checkpoint_{rank}.ckpt")));
    let time = |path: &Path| path.metadata().unwrap().modified().unwrap();
    let before = (time(&first), time(&second));
    // What a run that was killed may have left.
    fs::create_dir(case.target.join("rank_2")).unwrap();
    fs::write(case.target.join("rank_2/.abc.partial"), "half").unwrap();
    let output = run(&case.target);
    assert!(
        output.status.success() && stderr(&output).contains("2 of 8 ranks are there already"),
        "{}",
        stderr(&output)
    );
    assert_eq!((time(&first), time(&second)), before);
    for rank in 0..8 {
        let [one, other] = [&whole, &case.target].map(|folder| folder.join(format!("rank_{rank}")));
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
        let file = format!("checkpoint_{rank}.ckpt");
        assert_eq!(fs::read(one.join(&file)).unwrap(), fs::read(other.join(&file)).unwrap());
    }
    assert_eq!(fs::read_dir(&case.target).unwrap().count(), 8);
    // Other files are another transformation.
    fs::write(case.target.join(".transform.unfinished"), "of something else\n0.\n").unwrap();
    refused(&case.words(), &["is there already"]);
}

/// One encrypted whole, in rows of two ranks.
#[test]
fn encrypted_files_need_their_key() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, target) = (folder.path().join("rows.json"), folder.path().join("target"));
    let layout = Layout::new(vec![2], vec![vec![0], vec![]], None);
    let parameters = vec![Parameter { name: "a".to_owned(), layout }];
    StrategyFile { parameters, ..StrategyFile::default() }.write(&rows).unwrap();
    let whole = fixture("../ckpt/aes-gcm.ckpt");
    let words = args!["checkpoint", "transform", &whole, &target, "--dst-strategy", &rows];
    refused(words, &["it is encrypted (AES-GCM)", "--key"]);
    printed(&[words, args!["--key", "0123456789ABCDEF"]].concat());
    let back = folder.path().join("back");
    printed(args!["checkpoint", "transform", &target, &back, "--src-strategy", &rows]);
    let made = back.join("rank_0/checkpoint_0.ckpt");
    let same = json_of(args!["checkpoint", "diff", &made, &whole, "--key", "0123456789ABCDEF"]);
    assert_eq!(same["equal"], true, "{same}");
}

#[test]
fn ranks_that_are_needed_are_listed() {
    let (src, dst) = (strategy("mp4-pp2-opt"), strategy("dp2-mp2-pp2-opt"));
    let words = args!["checkpoint", "needs", "--src-strategy", &src, "--dst-strategy", &dst];
    let all = json_of(words);
    assert_eq!((&all["0"], &all["1"], all.as_object().unwrap().len()), (&json!([1, 0]), &json!([3, 2, 1]), 8));
    assert_eq!(printed(&[words, args!["--rank", "0"]].concat()), "rank 0: ranks 0, 1\n");
    assert_eq!(printed(args!["checkpoint", "needs", "--dst-strategy", &dst, "--rank", "7"]), "rank 7: rank 0\n");
}

#[test]
fn combining_is_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("combined.ckpt");
    let (source, strategy) = (fixture("combine/checkpoint"), fixture("combine/strategy"));
    let shown = printed(args!["checkpoint", "combine", &source, &target, "--strategy", &strategy]);
    assert!(shown.ends_with("from ranks 0, 1, 2, 3, 4, 5, 6, 7\n"), "{shown}");
    let theirs = fixture("combine/combined/rank_0/combined_0.ckpt");
    let same: Value = json_of(args!["checkpoint", "diff", &target, &theirs]);
    assert_eq!(same["equal"], true, "{same}");
    refused(args!["checkpoint", "combine", &source, &target, "--strategy", &strategy], &["is there already"]);
    let nowhere = folder.path().join("no/combined.ckpt");
    refused(args!["checkpoint", "combine", &source, &nowhere, "--strategy", &strategy], &["no/combined.ckpt"]);
}
