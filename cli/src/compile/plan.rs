//! `--plan-only`: what ranks would run, hold and tell each other, without weights and without code.
//!
//! Sizes and the strategy say it all, so this is for machines that nobody has yet: passes make the program, the certificate
//! proves the strategy, and the rest is counted. Time goes by different stages, not by layers or ranks.

use std::collections::BTreeMap;
use std::ops::Range;

use bloomery_artifact::plan::{CallPlan, PlanPart};
use bloomery_artifact::plan_weights;
use bloomery_codegen::ascend::chips::facts;
use bloomery_codegen::ascend::reach::reach;
use bloomery_ir::Program;
use bloomery_ir::program::Step;
use bloomery_passes::Unseen;
use serde::Serialize;

use super::configured::Configured;
use super::model::{self, Loaded};
use super::strategy::{self, Certified};
use super::{CompileOptions, ModelSource, call_plan, check, describe, lower, opened};
use crate::inspect::{page_bytes, page_tokens};
use crate::strategy::{Exchange, Shares, each, shares};
use crate::{Error, Progress, find};

/// What ranks would run and hold.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The strategy, in its short form.
    pub strategy: String,
    /// All ranks.
    pub ranks: u64,
    /// Numbers in the model's weights.
    pub parameters: u64,
    /// Different programs: those that stages have.
    pub programs: usize,
    /// Stages, neighbours that run the same together.
    pub stages: Vec<StagePlan>,
    /// What ranks of a replica tell each other in a step of one token, and for its scores.
    pub collectives: Vec<Exchange>,
    /// What it takes of the devices it is for; empty where it is for processors.
    pub devices: Vec<DevicePlan>,
    /// That ranks together compute what one computes.
    pub certificate: Option<Certified>,
}

/// What each rank of some stages takes of an Ascend device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DevicePlan {
    /// The stages.
    pub stages: Range<u64>,
    /// Bytes of device memory, by arena.
    pub arenas: BTreeMap<String, u64>,
    /// Bytes that HCCL takes for its communicators.
    pub communicator_bytes: u64,
    /// All of them.
    pub bytes: u64,
    /// What a device has for a model.
    pub capacity: u64,
    /// Calls, copies and exchanges of one token of one sequence, with its choice.
    pub launches: u64,
    /// What memory, products and links take for them, by the chip's facts, behind a full context.
    pub microseconds: f64,
}

/// What each rank of some stages runs and holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StagePlan {
    /// The stages.
    pub stages: Range<u64>,
    /// Layers of each.
    pub layers: u64,
    /// Ranks of each, of all replicas.
    pub ranks: u64,
    /// Bytes of weights on a rank.
    pub weight_bytes: u64,
    /// Bytes of the cache on a rank, for a sequence of the longest context.
    pub cache_bytes: u64,
    /// Bytes of intermediate values on a rank.
    pub arena_bytes: u64,
    /// Kernels that a rank launches for one token and its scores.
    pub launches: u64,
}

/// Plans a model for ranks. No weight is opened: matrices count as f16 where neither an option nor a configuration says
/// otherwise.
///
/// # Errors
/// As [`compile`](super::compile), but for what is about weights, code and the artifact.
pub fn plan(options: &CompileOptions, progress: &mut dyn Progress) -> Result<Plan, Error> {
    check(options)?;
    progress.begin("read the model", 0);
    let loaded = opened(sized(options, progress)?, options, progress)?;
    let description = describe(&loaded, options)?;
    let program = lower(&loaded, &description, &Unseen, options, progress)?;
    let certificate = strategy::certificate(&options.strategy, &loaded.config, progress)?;
    let table = plan_weights(&program).map_err(|error| Error::Refused(error.to_string()))?;
    let layers = loaded.config.layers as u64;
    let pages = options.max_context.div_ceil(page_tokens(&program).expect("a model's program has a cache of pages"));
    let shares = shares(&program, &table);
    let stages = stages(&program, &shares, layers, pages);
    let calls = call_plan(&program, options, progress)?;
    Ok(Plan {
        strategy: options.strategy.to_string(),
        ranks: program.ranks(),
        parameters: loaded.config.parameters(),
        programs: different(&stages),
        stages,
        collectives: shares.collectives,
        devices: calls.map_or(vec![], |calls| devices(&calls, options.max_context)),
        certificate,
    })
}

/// What the parts of a plan take.
fn devices(calls: &CallPlan, context: u64) -> Vec<DevicePlan> {
    let capacity = facts(calls.chip).capacity.value as u64;
    let of = |part: &PlanPart| {
        let reach = reach(calls, part, context);
        DevicePlan {
            stages: part.stages.clone(),
            bytes: reach.bytes(),
            arenas: reach.arenas.iter().map(|(arena, bytes)| (arena.name().to_owned(), *bytes)).collect(),
            communicator_bytes: reach.communicators,
            capacity,
            launches: reach.launches,
            microseconds: reach.nanoseconds / 1000.0,
        }
    };
    calls.parts.iter().map(of).collect()
}

/// A model's sizes, with nothing in place of its weights.
fn sized(options: &CompileOptions, progress: &mut dyn Progress) -> Result<Loaded, Error> {
    match &options.model {
        ModelSource::Folder(folder) => {
            let config = model::described(&find::noted(folder, progress)?)?;
            let mut loaded = Loaded::random(config, 0);
            let unseen = "weights are not opened, and count as f16 where --dtype does not say otherwise";
            loaded.notes.push(unseen.to_owned());
            Ok(loaded)
        }
        ModelSource::Random { .. } => Loaded::open(options, progress),
        ModelSource::Configured(configured) => {
            let configured = Configured { random: Some(0), ..(**configured).clone() };
            let model = ModelSource::Configured(Box::new(configured));
            Loaded::open(&CompileOptions { model, ..options.clone() }, progress)
        }
    }
}

/// What ranks of each stage have and do.
fn stages(program: &Program, shares: &Shares, layers: u64, pages: u64) -> Vec<StagePlan> {
    let counts = program.stages.iter().map(|layers| layers.end - layers.start);
    let counts: Vec<u64> = if program.stages.is_empty() { vec![layers] } else { counts.collect() };
    let mut plans: Vec<StagePlan> = Vec::new();
    for (number, layers) in (0..).zip(counts) {
        let ranks = program.ranks_of(number);
        let weights = shares.weights.iter().map(|share| share.rank_bytes[ranks.start as usize]);
        let plan = StagePlan {
            stages: number..number + 1,
            layers,
            ranks: program.replicas * (ranks.end - ranks.start),
            weight_bytes: weights.sum(),
            cache_bytes: program.states.iter().map(|state| pages * page_bytes(program, state) * layers).sum(),
            arena_bytes: program.arena_bytes(),
            launches: launches(program, number),
        };
        match plans.last_mut() {
            Some(last) if last.alike(&plan) => last.stages.end = number + 1,
            _ => plans.push(plan),
        }
    }
    plans
}

/// How many stages are unlike all before them.
fn different(stages: &[StagePlan]) -> usize {
    let is_new = |i: &usize| !stages[..*i].iter().any(|before| before.alike(&stages[*i]));
    (0..stages.len()).filter(is_new).count()
}

impl StagePlan {
    /// Whether stages run the same.
    fn alike(&self, other: &StagePlan) -> bool {
        *self == StagePlan { stages: self.stages.clone(), ..other.clone() }
    }
}

/// Kernels that a rank of a stage launches for one row of every entry.
fn launches(program: &Program, stage: u64) -> u64 {
    let mut count = 0;
    for entry in program.entries.iter().filter(|entry| entry.least == 1) {
        each(&entry.steps, 0..1, 1, &mut |step, stages, times| {
            if stages.contains(&stage) && matches!(step, Step::Launch(_)) {
                count += times;
            }
        });
    }
    count
}
