//! The plan of a program: its parts by stages, and who tells whom.

use super::chips::facts;
use super::part;
use bloomery_artifact::plan::{CallPlan, Communicator, PlanPart, WORLD, check};
use bloomery_ir::Program;
use bloomery_ir::ascend::{Arg, Chip, Step};
use bloomery_ir::program::Step as ProgramStep;
use bloomery_ir::target::Refusal;
use std::collections::BTreeSet;
use std::ops::Range;

/// Plans a program that was made for this chip's target; `int8`: weights of products are kept in 8 bits, with a factor for
/// each column.
///
/// # Errors
/// A kernel without entry, with its name; what a plan cannot say.
pub fn plan(program: &Program, chip: Chip, int8: bool) -> Result<CallPlan, Refusal> {
    let parts = stage_ranges(program).into_iter().map(|stages| part::part(program, chip, int8, stages));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let soc = facts(chip).soc.iter().map(|&name| name.to_owned()).collect();
    let (model, mesh, replicas) = (program.name.clone(), program.mesh.clone(), program.replicas);
    let communicators = communicators(program, &parts);
    let mut plan =
        CallPlan { model, chip, soc, cann: CANN.to_owned(), symbols: vec![], mesh, replicas, communicators, parts };
    plan.symbols = check::symbols(&plan).into_iter().collect();
    Ok(plan)
}

/// The version whose headers and kernels every call of a plan was looked for in.
const CANN: &str = "8.1";

/// Neighbouring stages that run the same.
fn stage_ranges(program: &Program) -> Vec<Range<u64>> {
    let ranges = program.entries.iter().flat_map(|entry| &entry.steps).filter_map(|step| match step {
        ProgramStep::Stage { stages, .. } => Some(stages.clone()),
        _ => None,
    });
    let mut cuts: BTreeSet<u64> = ranges.flat_map(|range| [range.start, range.end]).collect();
    if cuts.is_empty() {
        // Without stages every rank is in the first.
        cuts.extend([0, 1]);
    }
    let cuts: Vec<u64> = cuts.into_iter().collect();
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Groups of ranks along every axis that is used, and all ranks where stages hand something on.
fn communicators(program: &Program, parts: &[PlanPart]) -> Vec<Communicator> {
    let mut used = BTreeSet::new();
    let steps = parts.iter().flat_map(|part| &part.entries).flat_map(|entry| &entry.steps);
    steps.for_each(|step| {
        step.visit(&mut |step| match step {
            Step::Exchange { among, .. } => _ = used.insert(among.clone()),
            Step::Call(call) => {
                let group = |arg: &Arg| if let Arg::Group(name) = arg { Some(name.clone()) } else { None };
                used.extend(call.args.iter().filter_map(group));
            }
            _ => {}
        });
    });
    let mesh = &program.mesh;
    let groups = |name: &str| -> Vec<Vec<u64>> {
        if name == WORLD {
            return vec![(0..mesh.ranks()).collect()];
        }
        let all: BTreeSet<Vec<u64>> = (0..mesh.ranks()).map(|rank| mesh.group(rank, name)).collect();
        all.into_iter().collect()
    };
    used.into_iter().map(|name| Communicator { groups: groups(&name), name }).collect()
}
