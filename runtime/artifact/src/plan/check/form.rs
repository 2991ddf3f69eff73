//! The form of a plan: that its numbers are of a size, its stages follow one another, its groups are the mesh's.
//!
//! A plan may come from a file of anybody's making; what follows this check need not fear what overflows or never ends.

use super::PlanError;
use crate::plan::{ALIGNMENT, CallPlan, PlanEntry, PlanPart, WORLD};
use bloomery_ir::ascend::{Over, Step};
use std::collections::BTreeSet;

/// Ranks of all replicas, at most: more than anybody has.
pub(crate) const RANKS_MOST: u64 = 1 << 20;
/// Bytes of an arena, at most.
const ARENA_MOST: u64 = 1 << 48;
/// Buffers and entries of a part, and steps of a plan, at most: many times what models have.
const BUFFERS_MOST: usize = 1024;
const ENTRIES_MOST: usize = 64;
const STEPS_MOST: usize = 100_000;
/// Layers of a stage, and the largest value of a name.
const LAYERS_MOST: u64 = 1 << 20;
const VALUE_MOST: u64 = 1 << 32;

/// Checks it.
pub(super) fn check(plan: &CallPlan) -> Result<(), PlanError> {
    let wrong = |place: &str, what: String| Err(PlanError { place: place.to_owned(), what });
    let sizes = plan.mesh.axes.iter().map(|(_, size)| *size);
    let ranks = sizes.chain([plan.replicas]).try_fold(1_u64, u64::checked_mul);
    let Some(ranks) = ranks.filter(|ranks| (1..=RANKS_MOST).contains(ranks)) else {
        return wrong("mesh", format!("ranks are none, or more than {RANKS_MOST}"));
    };
    let mut stages = 0;
    for part in &plan.parts {
        if part.stages.start != stages || part.stages.end <= stages {
            return wrong("parts", format!("stages {:?} do not follow {stages} others", part.stages));
        }
        stages = part.stages.end;
    }
    if stages == 0 || (ranks / plan.replicas) % stages != 0 {
        return wrong("parts", format!("{stages} stages of {} ranks", ranks / plan.replicas));
    }
    let mut steps = 0;
    let entries = plan.parts.iter().flat_map(|part| &part.entries);
    entries.flat_map(|entry| &entry.steps).for_each(|step| step.visit(&mut |_| steps += 1));
    if steps > STEPS_MOST {
        return wrong("parts", format!("more than {STEPS_MOST} steps"));
    }
    plan.parts.iter().try_for_each(|part| of_part(plan, part))?;
    groups(plan, ranks / plan.replicas)
}

fn of_part(plan: &CallPlan, part: &PlanPart) -> Result<(), PlanError> {
    let place = format!("stages {}..{}", part.stages.start, part.stages.end);
    let wrong = |what: String| Err(PlanError { place: place.clone(), what });
    let (buffers, entries) = (part.buffers.len(), part.entries.len());
    if buffers > BUFFERS_MOST || entries > ENTRIES_MOST {
        return wrong(format!("{buffers} buffers and {entries} entries, {BUFFERS_MOST} and {ENTRIES_MOST} at most"));
    }
    if let Some(arena) = part.arenas.iter().find(|arena| arena.bytes > ARENA_MOST) {
        return wrong(format!("{} has {} bytes", arena.arena.name(), arena.bytes));
    }
    if !(1..=LAYERS_MOST).contains(&part.layers) {
        return wrong(format!("{} layers", part.layers));
    }
    for buffer in &part.buffers {
        if buffer.bytes > ARENA_MOST || !(1..=LAYERS_MOST).contains(&buffer.layers) || buffer.offset % ALIGNMENT != 0 {
            let (bytes, layers) = (buffer.bytes, buffer.layers);
            return wrong(format!(
                "%{}: {layers} times {bytes} bytes from byte {}, pieces begin at multiples of {ALIGNMENT}",
                buffer.name, buffer.offset
            ));
        }
    }
    part.entries.iter().try_for_each(|entry| of_entry(plan, part, entry))
}

fn of_entry(plan: &CallPlan, part: &PlanPart, entry: &PlanEntry) -> Result<(), PlanError> {
    let place = format!("stages {}..{}, {}", part.stages.start, part.stages.end, entry.name);
    let wrong = |what: String| Err(PlanError { place: place.clone(), what });
    if !(1..=entry.most).contains(&entry.least) || entry.most > VALUE_MOST {
        return wrong(format!("rows {}..{}", entry.least, entry.most));
    }
    let taken = |name: &str| Over::NAMES.contains(&name) || plan.mesh.size(name).is_some();
    let mut names = BTreeSet::new();
    for (name, most) in &entry.bounds {
        if taken(name) || !names.insert(name) || !(1..=VALUE_MOST).contains(most) {
            return wrong(format!("{name} is {most} at most, or its name is taken"));
        }
    }
    let mut found = Ok(());
    for step in &entry.steps {
        step.visit(&mut |step| {
            let ok = match step {
                Step::Loop { over: Over::Layers { from, to }, .. } => from < to && *to <= part.layers,
                Step::Loop { over: Over::Blocks { rows, reach }, .. } => *rows > 0 && (1..=VALUE_MOST).contains(reach),
                _ => true,
            };
            if let (false, Step::Loop { over, .. }) = (ok && found.is_ok(), step) {
                if found.is_ok() {
                    found = wrong(format!("{over:?} in a part of {} layers", part.layers));
                }
            }
        });
    }
    found
}

/// Groups are those of the mesh.
fn groups(plan: &CallPlan, ranks: u64) -> Result<(), PlanError> {
    for communicator in &plan.communicators {
        let name = &communicator.name;
        let expected: BTreeSet<Vec<u64>> = if name == WORLD {
            BTreeSet::from([(0..ranks).collect()])
        } else if plan.mesh.size(name).is_some() {
            (0..ranks).map(|rank| plan.mesh.group(rank, name)).collect()
        } else {
            BTreeSet::new()
        };
        if communicator.groups.len() != expected.len()
            || !communicator.groups.iter().all(|group| expected.contains(group))
        {
            let what = format!("its groups are not those of ranks along {name}");
            return Err(PlanError { place: format!("communicator {name}"), what });
        }
    }
    Ok(())
}
