//! What must be true of a plan before anyone replays it.
//!
//! - [`form`]: numbers are of a size, stages follow one another, groups are the mesh's.
//! - [`calls`]: every call is one of the table, has its arguments in kind and order, is there on the chip, and takes the
//!   types; shapes of what it writes are inferred again from what it reads, and must be those the graph said.
//! - [`memory`]: views lie in their buffers whatever numbers a call has, buffers in their arenas by the rules of device
//!   memory, and nothing is read that was not written or has been written over.
//! - [`order`]: waits have records, ranks of a communicator say the same in the same order, what one stage sends the next
//!   receives, and groups lie as the chip's servers allow.

mod calls;
mod exchange;
mod form;
mod memory;
mod order;
mod shapes;

pub(crate) use form::RANKS_MOST;

use super::{CallPlan, PlanEntry, PlanPart};
use bloomery_ir::ascend::{Exchange, Step};
use std::collections::BTreeSet;

/// What is wrong with a plan, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct PlanError {
    /// Stages, entry, call.
    pub place: String,
    /// What is wrong, with both sides.
    pub what: String,
}

/// Checks all of it.
///
/// # Errors
/// The first thing that is not so.
pub fn check(plan: &CallPlan) -> Result<(), PlanError> {
    form::check(plan)?;
    let wanted: Vec<String> = symbols(plan).into_iter().collect();
    if plan.symbols != wanted {
        let unlike = |name: &&String| plan.symbols.contains(name) != wanted.contains(name);
        let first = plan.symbols.iter().chain(&wanted).find(unlike).map_or("in another order", |name| name);
        let what = format!("it lists {} symbols, its steps use {}: {first}", plan.symbols.len(), wanted.len());
        return Err(PlanError { place: "symbols".to_owned(), what });
    }
    for part in &plan.parts {
        let overlaps = memory::arenas(part)?;
        for entry in &part.entries {
            calls::check(plan, part, entry)?;
            memory::views(plan, part, entry)?;
            exchange::check(plan, part, entry)?;
            memory::values(part, entry, &overlaps)?;
            order::events(part, entry)?;
        }
    }
    order::exchanges(plan)?;
    order::groups(plan)
}

/// Every function of the libraries that a plan uses, those that any plan does among them.
pub fn symbols(plan: &CallPlan) -> BTreeSet<String> {
    const ALWAYS: &[&str] = &[
        "aclInit",
        "aclFinalize",
        "aclrtSetDevice",
        "aclrtResetDevice",
        "aclrtGetSocName",
        "aclGetRecentErrMsg",
        "aclrtCreateStream",
        "aclrtDestroyStream",
        "aclrtSynchronizeStream",
        "aclrtMalloc",
        "aclrtFree",
        "aclrtMallocHost",
        "aclrtFreeHost",
        "aclrtMemcpy",
        "aclrtMemcpyAsync",
        "aclrtMemset",
        "aclrtGetMemInfo",
        "aclCreateTensor",
        "aclDestroyTensor",
        "aclCreateScalar",
        "aclDestroyScalar",
        "aclCreateIntArray",
        "aclDestroyIntArray",
        "aclCreateTensorList",
        "aclDestroyTensorList",
    ];
    const EVENTS: &[&str] =
        &["aclrtCreateEventExWithFlag", "aclrtDestroyEvent", "aclrtRecordEvent", "aclrtStreamWaitEvent"];
    const RANKS: &[&str] =
        &["HcclGetRootInfo", "HcclCommInitRootInfo", "HcclCommDestroy", "HcclGetErrorString", "HcclGetCommName"];
    let mut all: BTreeSet<String> = ALWAYS.iter().map(|&name| name.to_owned()).collect();
    for step in plan.parts.iter().flat_map(|part| &part.entries).flat_map(|entry| &entry.steps) {
        step.visit(&mut |step| match step {
            Step::Call(call) => all.extend([call.name.clone(), format!("{}GetWorkspaceSize", call.name)]),
            Step::Exchange { what, .. } => _ = all.insert(hccl(*what).to_owned()),
            Step::Await(_) => _ = all.insert("aclrtSynchronizeEvent".to_owned()),
            Step::Record(..) | Step::Wait(..) => all.extend(EVENTS.iter().map(|&name| name.to_owned())),
            _ => {}
        });
    }
    if !plan.communicators.is_empty() {
        all.extend(RANKS.iter().map(|&name| name.to_owned()));
    }
    all
}

/// The function of an exchange.
pub fn hccl(what: Exchange) -> &'static str {
    match what {
        Exchange::AllReduce => "HcclAllReduce",
        Exchange::AllGather => "HcclAllGather",
        Exchange::ReduceScatter => "HcclReduceScatter",
        Exchange::Send => "HcclSend",
        Exchange::Receive => "HcclRecv",
    }
}

/// Where in a plan.
fn place(part: &PlanPart, entry: &PlanEntry, step: &Step) -> String {
    let what = match step {
        Step::Call(call) => format!("{} of {}", call.name, call.op),
        Step::Exchange { what, among, .. } => format!("{} among {among}", hccl(*what)),
        Step::Copy { .. } => "copy".to_owned(),
        Step::FromHost { .. } => "copy from the host".to_owned(),
        Step::ToHost { .. } => "copy to the host".to_owned(),
        Step::Record(event, _) => format!("record of event {}", event.0),
        Step::Wait(event, _) => format!("wait for event {}", event.0),
        Step::Await(event) => format!("the host's wait for event {}", event.0),
        Step::Fence(stream) => format!("fence of {}", stream.name()),
        Step::Loop { .. } => "loop".to_owned(),
    };
    format!("stages {}..{}, {}, {what}", part.stages.start, part.stages.end, entry.name)
}
