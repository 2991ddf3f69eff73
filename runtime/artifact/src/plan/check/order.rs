//! Events, and what ranks tell each other.

use super::{PlanError, hccl, place};
use crate::plan::{CallPlan, PlanEntry, PlanPart, SERVER, WORLD};
use bloomery_ir::ascend::{Arg, Chip, Exchange, Step};
use std::collections::{BTreeMap, BTreeSet};

/// Every wait has its record before it.
pub(super) fn events(part: &PlanPart, entry: &PlanEntry) -> Result<(), PlanError> {
    let mut recorded = BTreeSet::new();
    let mut found = Ok(());
    for step in &entry.steps {
        step.visit(&mut |step| match step {
            Step::Record(event, _) => _ = recorded.insert(*event),
            Step::Wait(event, _) | Step::Await(event) if !recorded.contains(event) && found.is_ok() => {
                let what = "nobody has recorded it".to_owned();
                found = Err(PlanError { place: place(part, entry, step), what });
            }
            _ => {}
        });
    }
    found
}

/// What a rank says on a communicator, in order; loops say what is inside of them so many times.
fn said(steps: &[Step], among: &str, text: &mut Vec<String>) {
    for step in steps {
        match step {
            Step::Exchange { what, among: on, from, .. } if on == among => {
                text.push(format!("{} {:?} x {}", hccl(*what), from.dims, from.dtype));
            }
            Step::Call(call) if call.args.contains(&Arg::Group(among.to_owned())) => text.push(call.name.clone()),
            Step::Loop { over, steps } => {
                let mut inside = vec![];
                said(steps, among, &mut inside);
                if !inside.is_empty() {
                    text.push(format!("{over:?} {inside:?}"));
                }
            }
            _ => {}
        }
    }
}

/// Ranks of a communicator say the same; what stages hand on is taken.
pub(super) fn exchanges(plan: &CallPlan) -> Result<(), PlanError> {
    let ranks = plan.ranks_per_stage();
    let part_of = |rank: u64| plan.parts.iter().find(|part| part.stages.contains(&(rank / ranks)));
    for group in plan.communicators.iter().filter(|group| group.name != WORLD) {
        for members in &group.groups {
            let of: Vec<Option<BTreeMap<&str, Vec<String>>>> =
                members.iter().map(|rank| part_of(*rank).map(|part| all_said(part, &group.name))).collect();
            if of.iter().any(|said| said.is_none() || *said != of[0]) {
                let place = format!("communicator {} of ranks {members:?}", group.name);
                return Err(PlanError { place, what: "its ranks do not say the same in the same order".to_owned() });
            }
        }
    }
    for pair in plan.parts.windows(2) {
        handed_on(&pair[0], &pair[1])?;
    }
    for part in plan.parts.iter().filter(|part| part.stages.end - part.stages.start > 1) {
        handed_on(part, part)?;
    }
    Ok(())
}

fn all_said<'a>(part: &'a PlanPart, among: &str) -> BTreeMap<&'a str, Vec<String>> {
    let of = |entry: &'a PlanEntry| {
        let mut text = vec![];
        said(&entry.steps, among, &mut text);
        (entry.name.as_str(), text)
    };
    part.entries.iter().map(of).filter(|(_, text)| !text.is_empty()).collect()
}

fn handed_on(part: &PlanPart, next: &PlanPart) -> Result<(), PlanError> {
    let of = |part: &PlanPart, wanted: Exchange| -> BTreeMap<String, Vec<String>> {
        let mut all = BTreeMap::new();
        for entry in &part.entries {
            let sizes: &mut Vec<String> = all.entry(entry.name.clone()).or_default();
            for step in &entry.steps {
                step.visit(&mut |step| {
                    if let Step::Exchange { what, from, .. } = step {
                        if *what == wanted {
                            sizes.push(format!("{:?} x {}", from.dims, from.dtype));
                        }
                    }
                });
            }
        }
        all.retain(|_, sizes| !sizes.is_empty());
        all
    };
    let (sent, received) = (of(part, Exchange::Send), of(next, Exchange::Receive));
    if sent == received {
        return Ok(());
    }
    let place = format!("stages {}..{} and the next", part.stages.start, part.stages.end);
    Err(PlanError { place, what: format!("sent is {sent:?}, received {received:?}") })
}

/// Neighbours that a group smaller than a server may not straddle on the first generation.
const ISLAND: u64 = 4;

/// Groups as the servers of the first generation allow: so many devices of each server, 1, 2, 4 or 8, and those that are
/// fewer than a server's on one side of it.
pub(super) fn groups(plan: &CallPlan) -> Result<(), PlanError> {
    let ranks = plan.mesh.ranks() * plan.replicas;
    let server = [SERVER, 4, 2, 1].into_iter().find(|size| ranks % size == 0).unwrap_or(1);
    if plan.chip != Chip::A910 {
        return Ok(());
    }
    for communicator in &plan.communicators {
        for group in &communicator.groups {
            // Replicas follow one another, so they lie in as many ways as there are places of a server.
            for replica in 0..plan.replicas.min(server) {
                let mut devices: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
                for rank in group.iter().map(|rank| rank + replica * plan.mesh.ranks()) {
                    devices.entry(rank / server).or_default().push(rank % server);
                }
                let place = || format!("communicator {} of ranks {group:?}", communicator.name);
                one_group(&devices).map_err(|what| PlanError { place: place(), what })?;
            }
        }
    }
    Ok(())
}

fn one_group(devices: &BTreeMap<u64, Vec<u64>>) -> Result<(), String> {
    let sizes: BTreeSet<usize> = devices.values().map(Vec::len).collect();
    if sizes.len() > 1 || sizes.iter().any(|size| !matches!(size, 1 | 2 | 4 | 8)) {
        return Err(format!(
            "a server of the 910a gives 1, 2, 4 or 8 devices to a group, and every server as many; here {sizes:?}"
        ));
    }
    for of_server in devices.values().filter(|of_server| matches!(of_server.len(), 2 | 4)) {
        let islands: BTreeSet<u64> = of_server.iter().map(|device| device / ISLAND).collect();
        if islands.len() > 1 {
            return Err(format!(
                "devices {of_server:?} lie on both sides of a server of the 910a, 0 to 3 and 4 to 7: a group of 2 or 4 may not"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_lie_on_one_side_of_a_server() {
        let group = |devices: &[(u64, &[u64])]| {
            one_group(&devices.iter().map(|(server, devices)| (*server, devices.to_vec())).collect())
        };
        assert_eq!(group(&[(0, &[4, 5, 6, 7])]), Ok(()));
        assert_eq!(group(&[(0, &[0, 1, 2, 3, 4, 5, 6, 7]), (1, &[0, 1, 2, 3, 4, 5, 6, 7])]), Ok(()));
        assert!(group(&[(0, &[0, 4])]).unwrap_err().contains("0 to 3 and 4 to 7"));
        assert!(group(&[(0, &[2, 3, 4, 5])]).unwrap_err().contains("0 to 3 and 4 to 7"));
        assert!(group(&[(0, &[0, 1, 2])]).unwrap_err().contains("1, 2, 4 or 8 devices"));
        assert!(group(&[(0, &[0, 1]), (1, &[0])]).unwrap_err().contains("every server as many"));
    }
}
