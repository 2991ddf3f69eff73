//! What ranks tell each other and what is copied: sizes, types, places.

use super::{PlanError, place};
use crate::plan::{CallPlan, PlanEntry, PlanPart};
use bloomery_ir::ascend::{AclTensor, AclType, Chip, Exchange, Step, Sum};

/// Checks every exchange and copy of an entry.
pub(super) fn check(plan: &CallPlan, part: &PlanPart, entry: &PlanEntry) -> Result<(), PlanError> {
    let mut found = Ok(());
    for step in &entry.steps {
        step.visit(&mut |step| {
            let checked = match step {
                Step::Exchange { what, among, from, to } => exchange(plan, *what, among, from, to.as_ref()),
                Step::Copy { from, to } => alike(from, to).and_then(|()| sizes("copied", &from.dims, &to.dims)),
                Step::FromHost { to: tensor } | Step::ToHost { from: tensor } => whole(tensor),
                _ => Ok(()),
            };
            if let (Ok(()), Err(what)) = (&found, checked) {
                found = Err(PlanError { place: place(part, entry, step), what });
            }
        });
    }
    found
}

fn exchange(
    plan: &CallPlan,
    what: Exchange,
    among: &str,
    from: &AclTensor,
    to: Option<&AclTensor>,
) -> Result<(), String> {
    let group = plan.communicators.iter().find(|group| group.name == among);
    let group = group.ok_or_else(|| format!("there is no communicator {among}"))?;
    let ranks = Sum::number(group.groups.first().map_or(1, Vec::len) as u64);
    let apart = matches!(what, Exchange::Send | Exchange::Receive);
    if apart == to.is_some() {
        return Err(format!("it has {} place for what comes of it", if apart { "a" } else { "no" }));
    }
    whole(from)?;
    // Sums are of what HCCL adds on the chip.
    let adds = match from.dtype {
        AclType::BF16 => plan.chip == Chip::B910,
        AclType::F32 | AclType::F16 | AclType::I32 | AclType::I64 | AclType::I8 => true,
        AclType::U8 | AclType::Bool => apart || what == Exchange::AllGather,
    };
    if !adds {
        return Err(format!("HCCL on the {} does not take {} so", plan.chip, from.dtype));
    }
    let Some(to) = to else { return Ok(()) };
    alike(from, to)?;
    let (given, got) = (from.elements(), to.elements());
    match what {
        Exchange::AllReduce => sizes("summed", &from.dims, &to.dims),
        Exchange::AllGather if given.times(&ranks) != got => {
            Err(format!("{ranks} times {given} elements are not {got}"))
        }
        Exchange::ReduceScatter if got.times(&ranks) != given => {
            Err(format!("{ranks} times {got} elements are not {given}"))
        }
        _ => Ok(()),
    }
}

/// Elements one after another, of one type.
fn alike(from: &AclTensor, to: &AclTensor) -> Result<(), String> {
    whole(from)?;
    whole(to)?;
    if from.dtype == to.dtype { Ok(()) } else { Err(format!("{} does not become {}", from.dtype, to.dtype)) }
}

fn whole(tensor: &AclTensor) -> Result<(), String> {
    if tensor.is_contiguous() { Ok(()) } else { Err("its elements do not lie one after another".to_owned()) }
}

fn sizes(what: &str, from: &[Sum], to: &[Sum]) -> Result<(), String> {
    let text = |dims: &[Sum]| dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if Sum::product(from) == Sum::product(to) {
        return Ok(());
    }
    Err(format!("what is {what} is [{}], its place [{}]", text(from), text(to)))
}
