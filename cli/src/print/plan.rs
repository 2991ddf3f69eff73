//! `compile --plan-only` for people: a table of at most 80 columns.

use std::fmt::Write;

use bloomery::compile::{Plan, StagePlan};

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

fn row(plan: &StagePlan) -> String {
    let StagePlan { stages, layers, ranks, weight_bytes, cache_bytes, arena_bytes, launches } = plan;
    let numbers = if stages.end - stages.start == 1 {
        stages.start.to_string()
    } else {
        format!("{}..{}", stages.start, stages.end - 1)
    };
    format!(
        "{numbers:<8}{ranks:>7}{layers:>8}{:>14}{:>14}{:>13}{launches:>15}",
        size(*weight_bytes),
        size(*cache_bytes),
        size(*arena_bytes)
    )
}
