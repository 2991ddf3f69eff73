//! Call plans for Ascend chips: what they mean, by the documents of their calls, against the graph they were made from.
//!
//! No device takes part. [`Simulation`] computes every call of every rank; that memory nobody wrote is read as no number
//! shows what a device would take for one.

use std::collections::BTreeMap;
use std::path::Path;

use bloomery::Quiet;
use bloomery::compile::{self, CompileOptions, Configured};
use bloomery::targets::Target;
use bloomery_artifact::Artifact;
use bloomery_artifact::plan::parse::parse;
use bloomery_artifact::plan::text::print;
use bloomery_configs::{Config, Options};
use bloomery_ir::ascend::Chip;
use bloomery_ir::{Bindings, Graph, Interpreter, Module, Precision, Role, Tensor};
use bloomery_runtime::ascend::{Digits, Simulation, Tokens};

use crate::compiled::{Compiled, compiled};
use crate::fixture::{Fixture, assert_close};

/// Positions a sequence can have.
const CONTEXT: u64 = 48;

pub(crate) fn planned(name: &str, chip: Chip, strategy: &str) -> Compiled {
    planned_with(name, chip, strategy, |_| {})
}

fn planned_with(name: &str, chip: Chip, strategy: &str, change: impl Fn(&mut CompileOptions)) -> Compiled {
    compiled(name, |options| {
        change(options);
        options.targets = vec![Target::Ascend(chip)];
        options.dtype = None;
        options.kv_dtype = None;
        options.max_context = CONTEXT;
        options.strategy = strategy.parse().unwrap();
    })
}

/// The graph that an artifact was made from, with the weights a device has, in f64.
struct Whole {
    module: Module,
    parameters: BTreeMap<String, Tensor>,
    kv: Tensor,
}

impl Whole {
    fn of(fixture: &Fixture, artifact: &Artifact) -> Whole {
        let module = bloomery_ir::parse(artifact.graph().unwrap()).unwrap();
        let inputs = ["body", "head"].into_iter().flat_map(|name| &module.graph(name).unwrap().inputs);
        let parameters = inputs.filter(|input| input.role == Role::Parameter);
        let parameters =
            parameters.map(|input| (input.name.clone(), fixture.parameter(&input.name, input.ty.dtype))).collect();
        let config = &fixture.config;
        let shape = vec![config.layers, PAGES, 2, config.heads, CONTEXT as usize, config.head_dim()];
        let cached = module.graph("body").unwrap().inputs.iter().find(|input| input.role == Role::State).unwrap();
        Whole { kv: Tensor::zeros(cached.ty.dtype, shape), module, parameters }
    }

    /// Scores of every row.
    fn call(&mut self, ids: &[u32], sequences: &[Tokens]) -> Vec<f64> {
        let rows = sequences.iter().flat_map(|s| [s.start, s.length, s.first]).map(|n| n as i64);
        let given = BTreeMap::from([
            ("ids", Tensor::integers(&[ids.len()], ids.iter().map(|&id| i64::from(id)))),
            ("rows", Tensor::integers(&[sequences.len(), 3], rows)),
            ("pages", Tensor::integers(&[sequences.len(), 1], sequences.iter().map(|s| s.page as i64))),
            ("kv", self.kv.clone()),
        ]);
        let [hidden, kv] = self.run("body", given).try_into().unwrap();
        self.kv = kv;
        let pick = Tensor::integers(&[ids.len()], (0..ids.len()).map(|row| row as i64));
        self.run("head", BTreeMap::from([("hidden", hidden), ("pick", pick)])).remove(0).data
    }

    fn run(&self, name: &str, given: BTreeMap<&str, Tensor>) -> Vec<Tensor> {
        let graph: &Graph = self.module.graph(name).unwrap();
        let input = |input: &bloomery_ir::Input| {
            given.get(&*input.name).cloned().unwrap_or_else(|| self.parameters[&input.name].clone())
        };
        let inputs: Vec<Tensor> = graph.inputs.iter().map(input).collect();
        Interpreter::new(&self.module, Precision::Double).run(name, &inputs).unwrap()
    }
}

/// Sequences that a cache has room for.
const PAGES: usize = 8;

/// Scores of every row, by the plan. The id that the device chooses has the largest.
pub(crate) fn call(
    simulation: &mut Simulation<'_>,
    ranks: u64,
    shared: u64,
    ids: &[u32],
    sequences: &[Tokens],
) -> Vec<f64> {
    let (logits, chosen) = scored(simulation, ranks, shared, ids, sequences);
    let width = logits.len() / ids.len();
    for (row, chosen) in logits.chunks_exact(width).zip(chosen) {
        let best = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let numbers = row.iter().all(|score| !score.is_nan());
        assert!(!numbers || row[chosen as usize] == best, "the device chooses the largest");
    }
    logits
}

/// Scores of every row, and the id that the device chooses for it, which entries of their own compute.
pub(crate) fn scored(
    simulation: &mut Simulation<'_>,
    ranks: u64,
    shared: u64,
    ids: &[u32],
    sequences: &[Tokens],
) -> (Vec<f64>, Vec<f64>) {
    // Where ranks share rows, what they have together is filled up with rows of no sequence.
    let rows = (ids.len() as u64).div_ceil(shared);
    let mut filled = ids.to_vec();
    filled.resize((rows * shared) as usize, 0);
    simulation.put("ids", &filled.iter().map(|&id| f64::from(id)).collect::<Vec<_>>());
    let sizes = |rows: u64, picked: u64| {
        let named = [("N", rows), ("S", sequences.len() as u64), ("P", 1), ("C", PAGES as u64), ("R", picked)];
        named.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<Bindings>()
    };
    simulation.run("body", &sizes(rows, 1), sequences);
    simulation.put("pick", &(0..ids.len()).map(|row| row as f64).collect::<Vec<_>>());
    let sizes = sizes(rows, ids.len() as u64);
    simulation.run("head", &sizes, &[]);
    let logits = simulation.get(ranks - 1, "logits").unwrap().to_vec();
    simulation.run("head_greedy", &sizes, &[]);
    let chosen = simulation.get(ranks - 1, "chosen").unwrap()[..ids.len()].to_vec();
    (logits, chosen)
}

/// Two prompts at once, then a token of each, then one more of the first alone.
pub(crate) fn calls(fixture: &Fixture) -> Vec<(Vec<u32>, Vec<Tokens>)> {
    let vocab = fixture.config.vocab as u32;
    let ids = |seed: u32, count: u32| (0..count).map(|i| (seed + 37 * i * i) % vocab).collect::<Vec<u32>>();
    let (a, b) = (ids(3, 11), ids(200, 5));
    let of = |start, length, first, page| Tokens { start, length, first, page };
    vec![
        ([a, b].concat(), vec![of(0, 11, 0, 5), of(11, 5, 0, 2)]),
        (ids(77, 2), vec![of(0, 1, 11, 5), of(1, 1, 5, 2)]),
        (ids(9, 1), vec![of(0, 1, 12, 5)]),
        (ids(21, 7), vec![of(0, 7, 13, 5)]),
    ]
}

/// Every call of a plan against the graph.
fn check(name: &str, chip: Chip, strategy: &str, digits: Digits, tolerance: f64) {
    check_plan(name, &planned(name, chip, strategy), strategy, digits, tolerance);
}

fn check_plan(name: &str, compiled: &Compiled, strategy: &str, digits: Digits, tolerance: f64) {
    let what = format!("{name}, {strategy:?}, {digits:?}");
    let fixture = Fixture::open(name);
    let artifact = &*compiled.artifact;
    let shared = if strategy.contains("sequence_parallel") { artifact.program().mesh.size("mp").unwrap() } else { 1 };
    let ranks = artifact.program().mesh.ranks();
    let (mut whole, mut simulation) = (Whole::of(&fixture, artifact), Simulation::of(artifact, digits).unwrap());
    for (ids, sequences) in calls(&fixture) {
        let expected = whole.call(&ids, &sequences);
        let found = call(&mut simulation, ranks, shared, &ids, &sequences);
        let tensor = |data: Vec<f64>| Tensor { dtype: bloomery_ir::DType::F32, shape: vec![data.len()], data };
        assert_close(&what, &tensor(found), &tensor(expected), tolerance);
    }
}

/// In exact numbers a plan is the graph, 9e-9 of the largest score apart where this was written: what differs is the order of
/// sums, and that the graph's gelu has eight digits of a constant of which the call's documents have all.
const EXACT: f64 = 1e-6;
/// With the chip's rounding, each result once: 1e-3 of the largest score was found for f16, and 8e-3 for bf16.
const ROUNDED: f64 = 2e-2;

#[test]
fn plans_mean_what_their_graphs_mean() {
    for chip in Chip::ALL {
        for name in ["tiny", "tiny-nonpow2", "tiny-fp16", "tiny-bf16", "tiny-untied", "tiny-postln", "tiny-eps"] {
            check(name, chip, "mp=1", Digits::All, EXACT);
            check(name, chip, "mp=1", Digits::Chip, ROUNDED);
        }
    }
}

/// Weights of 8 bits have a step of a 254th of the column's range: scores are 3 % of the largest apart where this was written.
const NARROWED: f64 = 6e-2;

#[test]
fn weights_of_8_bits_are_near() {
    for strategy in ["mp=1", "mp=2,pp=2"] {
        let compiled = planned_with("tiny", Chip::B910, strategy, |options| options.int8 = true);
        let names: Vec<&str> = compiled.artifact.plan().unwrap().symbols.iter().map(String::as_str).collect();
        assert!(
            names.contains(&"aclnnWeightQuantBatchMatmulV2") && !names.contains(&"aclnnMatmulAllReduce"),
            "{names:?}"
        );
        for digits in [Digits::All, Digits::Chip] {
            check_plan("tiny", &compiled, strategy, digits, NARROWED);
        }
    }
}

#[test]
fn plans_print_as_they_are_kept() {
    for (chip, strategy) in [(Chip::A910, "mp=2,pp=2"), (Chip::B910, "mp=2")] {
        let compiled = planned("tiny", chip, strategy);
        let plan = compiled.artifact.plan().unwrap();
        let text = print(plan);
        assert_eq!(parse(&text).as_ref(), Ok(plan), "a plan reads as it prints");
        let mut settings = insta::Settings::new();
        settings.set_snapshot_path("plans");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(format!("tiny-{chip}"), text));
    }
}

/// Every configuration that is shipped, for all of its ranks, on both chips.
#[test]
fn configurations_have_plans() {
    for size in ["560m", "7.1b", "65b", "176b"] {
        let path = format!("{}/../configs/bloom/run_bloom_{size}.yaml", env!("CARGO_MANIFEST_DIR"));
        for chip in Chip::ALL {
            let text = std::fs::read_to_string(&path).unwrap();
            let config = Config::from_text(&text, Path::new(&path), &Options::default()).unwrap();
            let configured = Configured { config, random: Some(1), keep: false };
            let options = CompileOptions { targets: vec![Target::Ascend(chip)], ..CompileOptions::from(configured) };
            let planned = compile::plan(&options, &mut Quiet).unwrap();
            let stages: u64 = planned.devices.iter().map(|part| part.stages.end - part.stages.start).sum();
            assert_eq!(stages, planned.stages.iter().map(|stage| stage.stages.end - stage.stages.start).sum::<u64>());
            for device in &planned.devices {
                assert!(device.bytes < device.capacity, "{size} on {chip}: {device:?}");
                assert!(device.launches > 0 && device.microseconds > 0.0, "{size} on {chip}: {device:?}");
            }
        }
    }
}

#[test]
fn plans_of_ranks_do_too() {
    for chip in Chip::ALL {
        for strategy in ["mp=4", "mp=2,pp=2", "mp=2,sequence_parallel=true", "mp=4,vocab_emb_dp=true"] {
            check("tiny", chip, strategy, Digits::All, EXACT);
            check("tiny", chip, strategy, Digits::Chip, ROUNDED);
        }
    }
}
