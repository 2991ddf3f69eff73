//! Against MindSpore's own transformations, there and back again, and what has to be refused.

use bloomery_formats::Dtype;
use bloomery_formats::mindspore::{Entry, MindsporeCheckpoint};
use bloomery_formats::strategy::{Layout, Operator, OptimizerShard, Parameter, StrategyFile};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;
use crate::Quiet;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore/transform").join(name)
}

fn options(source: &Path, target: &Path, strategies: [Option<&Path>; 2]) -> TransformOptions {
    let [source_strategy, target_strategy] = strategies.map(|path| path.map(Path::to_path_buf));
    TransformOptions {
        source: source.to_path_buf(),
        target: target.to_path_buf(),
        source_strategy,
        target_strategy,
        prefix: "checkpoint_".to_owned(),
        rank: None,
        key: None,
        force: false,
    }
}

/// Dims, type, bytes, and the beginning of the hash, as fixtures have them.
fn described(checkpoint: &MindsporeCheckpoint, entry: &Entry) -> Value {
    let hash = Sha256::digest(checkpoint.bytes(entry).unwrap());
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!([entry.shape, entry.kind.name(), entry.bytes, hash])
}

/// Every parameter of every rank, in MindSpore's order, to the bit; and no more ranks are read than have to be.
#[test]
fn results_are_mindspores_own() {
    let cases: Vec<PathBuf> = fs::read_dir(fixture("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(cases.len(), 19);
    for case in cases {
        let expected: Value = serde_json::from_slice(&fs::read(case.join("expected.json")).unwrap()).unwrap();
        let strategy = |key: &str| Some(fixture(&format!("strategies/{}.ckpt", expected[key].as_str()?)));
        let [source, target] = ["src_strategy", "dst_strategy"].map(strategy);
        let folder = tempfile::tempdir().unwrap();
        let prefix = expected["ckpt_prefix"].as_str().unwrap().to_owned();
        let made = options(&case.join("src"), folder.path(), [source.as_deref(), target.as_deref()]);
        let done = transform(&TransformOptions { prefix, ..made }, &mut Quiet).unwrap();
        let ranks = expected["ranks"].as_object().unwrap();
        assert_eq!(done.ranks.len(), ranks.len(), "{case:?}");
        for file in done.ranks {
            let rank = &ranks[&file.rank.to_string()];
            assert_eq!(file.file, folder.path().join(rank["file"].as_str().unwrap().strip_prefix("dst/").unwrap()));
            let made = MindsporeCheckpoint::open(&file.file, None).unwrap();
            let theirs = rank["parameters"].as_object().unwrap();
            let names: Vec<&String> = made.entries().iter().map(|entry| &entry.name).collect();
            assert_eq!(names, theirs.keys().collect::<Vec<_>>(), "{case:?} rank {}", file.rank);
            for entry in made.entries() {
                let [dims, ty, bytes, _, hash] = &theirs[&entry.name].as_array().unwrap()[..] else { panic!() };
                let dims = if dims == &serde_json::json!([0]) { serde_json::json!([]) } else { dims.clone() };
                let expected = serde_json::json!([dims, ty, bytes, hash]);
                assert_eq!(described(&made, entry), expected, "{case:?} rank {} {}", file.rank, entry.name);
            }
            let least: Vec<u32> = serde_json::from_value(rank["minimal_rank_list"].clone()).unwrap();
            // Of a table on the first and the last stage we read the first stage's alone.
            assert!(file.from.iter().all(|rank| least.contains(rank)), "{case:?} rank {}: {:?}", file.rank, file.from);
            let tied = case.ends_with("mindformers-dp2-mp2-pp2-opt-to-dp2-mp2-opt");
            assert!(file.from == least || tied, "{case:?} rank {}: {:?}, {least:?}", file.rank, file.from);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), ranks.len(), "{case:?}: nothing else is left");
    }
}

#[test]
fn combining_is_what_mindspore_does_in_several_steps() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("combined.ckpt");
    let theirs = MindsporeCheckpoint::open(&fixture("combine/combined/rank_0/combined_0.ckpt"), None).unwrap();
    for strategy in ["combine/strategy", "combine/merged_strategy.ckpt"] {
        let (source, strategy) = (fixture("combine/checkpoint"), fixture(strategy));
        let options = CombineOptions { source, target: target.clone(), strategy, key: None, force: true };
        let done = combine(&options, &mut Quiet).unwrap();
        let ours = MindsporeCheckpoint::open(&target, None).unwrap();
        let all = |checkpoint: &MindsporeCheckpoint| -> Vec<(String, Value)> {
            let entries = checkpoint.entries().iter();
            entries.map(|entry| (entry.name.clone(), described(checkpoint, entry))).collect()
        };
        assert_eq!((all(&ours), done.parameters), (all(&theirs), theirs.entries().len()));
    }
    // A case with states of the optimizer: the weights and counters are left.
    let (source, strategy) = (fixture("cases/dp2-mp2-pp2-opt-to-full/src"), fixture("strategies/dp2-mp2-pp2-opt.ckpt"));
    let options = CombineOptions { source, target: target.clone(), strategy, key: None, force: true };
    combine(&options, &mut Quiet).unwrap();
    let ours = MindsporeCheckpoint::open(&target, None).unwrap();
    assert!(ours.entries().len() == 41 && ours.entry("global_step").is_some());
    assert!(ours.entries().iter().all(|entry| !entry.name.contains("adam_") && !entry.name.contains("accu_grads")));
    let again = combine(&CombineOptions { force: false, ..options }, &mut Quiet).unwrap_err().to_string();
    assert!(again.contains("is there already"), "{again}");
}

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Extents that all layouts below can cut.
const EXTENTS: [usize; 3] = [24, 48, 72];

/// A layout of so many dimensions on so many ranks: any axes, on any dimensions, several on one.
fn random_layout(random: &mut Random, devices: &[u32], dims: usize) -> Layout {
    let mut map = vec![Vec::new(); dims];
    for axis in 0..devices.len() as u32 {
        // One dimension cut along two axes is what no file can say.
        let dim = random.below(dims + 1);
        if dim < dims && (dims > 1 || map[dim].is_empty()) {
            map[dim].push(axis);
        }
    }
    let shard = (random.below(2) == 0).then_some(OptimizerShard { step: 1, size: None });
    let mut devices = devices.to_vec();
    if random.below(2) == 0 {
        devices.reverse();
    }
    Layout::new(devices, map, shard)
}

fn random_strategy(random: &mut Random, shapes: &[(String, Vec<usize>)]) -> StrategyFile {
    let devices = random.one(&[&[1][..], &[2], &[2, 2], &[3], &[2, 3], &[4, 2], &[2, 2, 3]]);
    let stages = 1 + random.below(3);
    let mut file = StrategyFile { current_stage: 1, ..StrategyFile::default() };
    for (i, (name, shape)) in shapes.iter().enumerate() {
        // Every stage has something, and the first parameter lies on the first and the last, as a tied table does.
        let stage = if i < stages { i } else { random.below(stages) };
        let on = if i == 0 && stages > 1 { vec![0, stages - 1] } else { vec![stage] };
        for stage in on {
            let layout = random_layout(random, devices, shape.len());
            let name = if stages > 1 { format!("{stage}-{name}") } else { name.clone() };
            file.parameters.push(Parameter { name, layout });
        }
    }
    file.operators.push(Operator { name: "MatMul_w0".to_owned(), stage: 0, inputs: vec![] });
    file
}

fn write_checkpoint(path: &Path, tensors: &[(String, Vec<usize>)], random: &mut Random) {
    let mut writer = MindsporeWriter::begin(path).unwrap();
    for (name, shape) in tensors {
        let dtype = random.one(&[Dtype::F16, Dtype::F32, Dtype::Bf16, Dtype::I8]);
        let bytes: Vec<u8> = (0..dtype.bytes(shape).unwrap()).map(|_| random.below(256) as u8).collect();
        writer.tensor(name, dtype, shape).unwrap();
        writer.write(&bytes).unwrap();
    }
    writer.text("note", "kept").unwrap();
    writer.complete().unwrap();
}

/// Whole, shared one way, shared another way, whole again: every bit is where it was.
#[test]
fn there_and_back_is_the_same_for_random_strategies() {
    let random = &mut Random(20_230_826);
    for case in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let shape = |random: &mut Random| {
            let dims = 1 + random.below(3);
            (0..dims).map(|_| random.one(&EXTENTS[..if dims == 3 { 1 } else { 3 }])).collect()
        };
        let shapes: Vec<(String, Vec<usize>)> = (0..6).map(|i| (format!("w{i}"), shape(random))).collect();
        let whole = path("whole.ckpt");
        write_checkpoint(&whole, &shapes, random);
        let [one, other] = ["one.ckpt", "other.ckpt"].map(|name| {
            random_strategy(random, &shapes).write(&path(name)).unwrap();
            path(name)
        });
        let steps = [
            (whole.clone(), path("a"), [None, Some(&*one)]),
            (path("a"), path("b"), [Some(&*one), Some(&*other)]),
            (path("b"), path("c"), [Some(&*other), None]),
        ];
        for (source, target, strategies) in steps {
            transform(&options(&source, &target, strategies), &mut Quiet).unwrap_or_else(|error| {
                panic!("case {case}: {error}: {:?}", strategies.map(|path| path.map(StrategyFile::open)))
            });
        }
        let [before, after] =
            [whole, path("c/rank_0/checkpoint_0.ckpt")].map(|path| MindsporeCheckpoint::open(&path, None).unwrap());
        assert_eq!(before.entries().len(), after.entries().len());
        for entry in before.entries() {
            let there = after.entry(&entry.name).unwrap();
            assert_eq!(described(&before, entry), described(&after, there), "case {case}: {}", entry.name);
        }
    }
}
