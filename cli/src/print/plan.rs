//! `compile --plan-only` for people: a table of at most 80 columns.

use std::fmt::Write;

use bloomery::compile::{DevicePlan, Plan, StagePlan};

use super::shares::exchanges;
use super::{counted, size};

/// What ranks of each stage hold and do.
pub(crate) fn plan(plan: &Plan) -> String {
    let mut text = format!("{}, {}\n\n", counted(plan.ranks as usize, "rank"), plan.strategy);
    let _ = writeln!(
        text,
        "{:<8}{:>7}{:>8}{:>14}{:>14}{:>13}{:>15}",
        "stages", "ranks", "layers", "weights", "cache", "arena", "launches"
    );
    for stage in &plan.stages {
        let _ = writeln!(text, "{}", row(stage));
    }
    text += "(ranks and layers are those of each stage; bytes and launches those of a rank:\n";
    text += "cache of a longest sequence, arena of a chunk, launches of a token)\n";
    text += &exchanges(&plan.collectives);
    text += &devices(&plan.devices);
    if let Some(proof) = &plan.certificate {
        let _ = writeln!(
            text,
            "\nproven: in {} numbers {} ranks of a narrow model differ from one\n\
             by {:.1e}, and as a program in its own types by {:.1e} of the largest",
            proof.compared, proof.ranks, proof.difference, proof.program_difference
        );
    }
    text
}

/// What a plan of calls takes of the devices it is for.
fn devices(parts: &[DevicePlan]) -> String {
    let Some(first) = parts.first() else { return String::new() };
    let mut text = format!(
        "\n{:<8}{:>11}{:>11}{:>11}{:>13}{:>11}{:>13}\n",
        "device", "weights", "cache", "others", "communicat.", "all", "calls"
    );
    for part in parts {
        let of = |name: &str| part.arenas.get(name).copied().unwrap_or(0);
        let others = part.bytes - part.communicator_bytes - of("weights") - of("cache");
        let sizes = [of("weights"), of("cache"), others].map(size);
        let _ = writeln!(
            text,
            "{:<8}{:>11}{:>11}{:>11}{:>13}{:>11}{:>13}",
            numbers(&part.stages),
            sizes[0],
            sizes[1],
            sizes[2],
            size(part.communicator_bytes),
            size(part.bytes),
            part.launches
        );
    }
    let stages = |part: &DevicePlan| (part.stages.end - part.stages.start) as f64;
    let time: f64 = parts.iter().map(|part| stages(part) * part.microseconds).sum();
    let most = parts.iter().map(|part| part.bytes).max().unwrap_or(0);
    let fits = if most > first.capacity { "do not fit into" } else { "of" };
    let _ = writeln!(
        text,
        "({} {fits} the {} that a device has for a model; a token of one sequence\nwith a full context takes {:.1} ms at \
         the rates of the chip's facts, and\nwhat the host takes to make its calls)",
        size(most),
        size(first.capacity),
        time / 1000.0
    );
    text
}

/// `3`, or `3..5` with the last one named.
fn numbers(stages: &std::ops::Range<u64>) -> String {
    if stages.end - stages.start == 1 {
        stages.start.to_string()
    } else {
        format!("{}..{}", stages.start, stages.end - 1)
    }
}

fn row(plan: &StagePlan) -> String {
    let StagePlan { stages, layers, ranks, weight_bytes, cache_bytes, arena_bytes, launches } = plan;
    let numbers = numbers(stages);
    format!(
        "{numbers:<8}{ranks:>7}{layers:>8}{:>14}{:>14}{:>13}{launches:>15}",
        size(*weight_bytes),
        size(*cache_bytes),
        size(*arena_bytes)
    )
}
