//! What a plan takes of a chip: memory of a device, calls of a token, and the time its facts allow.

use super::chips::{COMMUNICATOR_BYTES, facts};
use bloomery_artifact::plan::{Arena, CallPlan, PlanEntry, PlanPart, SERVER};
use bloomery_ir::Bindings;
use bloomery_ir::ascend::{AclTensor, Arg, Call, Exchange, Over, Step};
use std::collections::BTreeSet;

/// What the ranks of a part take.
#[derive(Clone, Debug, PartialEq)]
pub struct Reach {
    /// Bytes of device memory, by arena.
    pub arenas: Vec<(Arena, u64)>,
    /// Bytes that HCCL takes for its communicators.
    pub communicators: u64,
    /// Calls, copies and exchanges of one token of one sequence, with its choice.
    pub launches: u64,
    /// Nanoseconds that memory, products and links take for them, at the rates of the chip's facts.
    pub nanoseconds: f64,
}

impl Reach {
    /// Bytes of device memory, all together.
    pub fn bytes(&self) -> u64 {
        self.arenas.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.communicators
    }
}

/// What the ranks of a part take; a token attends to `context` positions.
pub fn reach(plan: &CallPlan, part: &PlanPart, context: u64) -> Reach {
    let first = plan.ranks_of(part.stages.start).start;
    let is_in = |group: &&Vec<u64>| group.contains(&first);
    let groups = plan.communicators.iter().filter(|c| c.groups.iter().any(|group| is_in(&group)));
    let mut work = Work { plan, launches: 0, nanoseconds: 0.0 };
    for entry in part.entries.iter().filter(|entry| is_a_token(part, entry)) {
        let mut values: Bindings = entry.bounds.iter().map(|(name, _)| (name.clone(), 1)).collect();
        values.extend(plan.mesh.axes.iter().map(|(axis, _)| (axis.clone(), 0)));
        entry.steps.iter().for_each(|step| work.step(step, &mut values, context, 1));
    }
    Reach {
        arenas: part.arenas.iter().map(|size| (size.arena, size.bytes)).collect(),
        communicators: COMMUNICATOR_BYTES * groups.count() as u64,
        launches: work.launches,
        nanoseconds: work.nanoseconds,
    }
}

/// Whether an entry is run for one token: those of one row, and of two that differ in what the host gets, the shorter way.
fn is_a_token(part: &PlanPart, entry: &PlanEntry) -> bool {
    let chooses = part.entries.iter().any(|other| other.group == format!("{}_greedy", entry.group));
    entry.least == 1 && !chooses
}

struct Work<'a> {
    plan: &'a CallPlan,
    launches: u64,
    nanoseconds: f64,
}

impl Work<'_> {
    fn step(&mut self, step: &Step, values: &mut Bindings, context: u64, times: u64) {
        let facts = facts(self.plan.chip);
        let bytes = |tensor: &AclTensor, values: &Bindings| bytes(tensor, values) as f64;
        let nanoseconds = match step {
            Step::Loop { over, steps } => {
                let times = match over {
                    Over::Layers { from, to } => times * (to - from),
                    Over::Sequences | Over::Blocks { .. } => times,
                };
                bind(over, values, context);
                return steps.iter().for_each(|step| self.step(step, values, context, times));
            }
            Step::Call(call) => {
                let alone = call_time(call, values, facts.cube.value, facts.memory.value);
                // A product that is summed over ranks hides one behind the other.
                let summed =
                    call.args.iter().find_map(|arg| if let Arg::Group(among) = arg { Some(among) } else { None });
                let result = call.args.last().and_then(|arg| arg.tensors().first());
                summed.zip(result).map_or(alone, |(among, result)| {
                    alone.max(self.told(Exchange::AllReduce, among, bytes(result, values)))
                })
            }
            Step::Exchange { what, among, from, .. } => self.told(*what, among, bytes(from, values)),
            Step::Copy { from, .. } => 2.0 * bytes(from, values) / facts.memory.value,
            Step::FromHost { .. } | Step::ToHost { .. } => 0.0,
            Step::Record(..) | Step::Wait(..) | Step::Fence(_) | Step::Await(_) => return,
        };
        self.launches += times;
        self.nanoseconds += times as f64 * nanoseconds;
    }
}

impl Work<'_> {
    /// Nanoseconds that an exchange of so many bytes of a rank takes, in a ring.
    fn told(&self, what: Exchange, among: &str, bytes: f64) -> f64 {
        let facts = facts(self.plan.chip);
        let group = self.plan.communicators.iter().find(|c| c.name == among).and_then(|c| c.groups.first());
        let ranks = group.map_or(1.0, |group| group.len() as f64);
        let servers = |ranks: &Vec<u64>| ranks.iter().map(|rank| rank / SERVER).collect::<BTreeSet<_>>().len();
        // Stages hand on to the ranks of the next, which may be on another server.
        let apart = group.is_some_and(|group| servers(group) > 1);
        let rate = if apart { facts.network.value } else { facts.link.value };
        let passes = match what {
            Exchange::AllReduce => 2.0 * (ranks - 1.0) / ranks,
            Exchange::ReduceScatter => (ranks - 1.0) / ranks,
            Exchange::AllGather => ranks - 1.0,
            Exchange::Send => 1.0,
            Exchange::Receive => 0.0,
        };
        passes * bytes / rate
    }
}

/// Values of a loop's names for one row behind `context - 1` others.
fn bind(over: &Over, values: &mut Bindings, context: u64) {
    let named: &[(&str, u64)] = match over {
        Over::Layers { .. } => &[("layer", 0)],
        Over::Sequences => &[("start", 0), ("length", 1), ("first", context.saturating_sub(1)), ("page", 0)],
        Over::Blocks { reach, .. } => {
            &[("from", 0), ("rows", 1), ("context", context.min(*reach)), ("ahead", reach.saturating_sub(context))]
        }
    };
    values.extend(named.iter().map(|(name, value)| ((*name).to_owned(), *value)));
}

fn bytes(tensor: &AclTensor, values: &Bindings) -> u64 {
    tensor.elements().eval(values).unwrap_or(0) * tensor.dtype.bytes()
}

/// The bytes of all tensors, or the products, whichever takes longer. Of a table, the rows that are read.
fn call_time(call: &Call, values: &Bindings, cube: f64, memory: f64) -> f64 {
    let tensors: Vec<&AclTensor> = call.args.iter().flat_map(Arg::tensors).collect();
    let sizes = tensors.iter().map(|tensor| bytes(tensor, values));
    let touched: u64 = if call.name == "aclnnEmbedding" { sizes.skip(1).sum() } else { sizes.sum() };
    let product = |call: &Call| ["aclnnMm", "aclnnBatchMatMul", "aclnnMatmulAllReduce"].contains(&&*call.name);
    let flop = match &tensors[..] {
        [left, right, ..] if product(call) => {
            let columns = right.dims.last().map_or(1, |dim| dim.eval(values).unwrap_or(0));
            2 * left.elements().eval(values).unwrap_or(0) * columns
        }
        _ => 0,
    };
    f64::max(touched as f64 / memory, flop as f64 / cube)
}

/// An estimate of what calls ask for while they run: what they lay out anew, which is views that are no rows one after
/// another, and operands of products, which the first generation reads in a format of its own.
pub(super) fn workspace(part: &PlanPart) -> u64 {
    part.entries.iter().map(|entry| most_workspace(&entry.steps, part)).max().unwrap_or(0)
}

fn most_workspace(steps: &[Step], part: &PlanPart) -> u64 {
    let of = |step: &Step| match step {
        Step::Call(call) => call.args.iter().flat_map(Arg::tensors).map(|tensor| laid_out(call, tensor, part)).sum(),
        step => most_workspace(step.inside(), part),
    };
    steps.iter().map(of).max().unwrap_or(0)
}

fn laid_out(call: &Call, tensor: &AclTensor, part: &PlanPart) -> u64 {
    let product = call.name.contains("Mm") || call.name.contains("MatMul") || call.name.contains("Matmul");
    let table = call.name == "aclnnEmbedding";
    if (product || !tensor.is_contiguous()) && !table { part.buffers[tensor.buffer].bytes } else { 0 }
}
