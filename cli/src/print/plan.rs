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
        "{:<8}{:>7}{:>8}{:>14}{:>14}{:>13}{:>16}",
        "stages", "ranks", "layers", "weights", "cache", "arena", "launches"
    );
    for stage in &plan.stages {
        let _ = writeln!(text, "{}", row(stage));
    }
    text += "(of each stage: its ranks and layers; of a rank: bytes of weights, of the cache of a\n";
    text += "sequence of the longest context, of intermediate values, and launches for a token)\n";
    text += &exchanges(&plan.collectives);
    if let Some(proof) = &plan.certificate {
        let _ = writeln!(
            text,
            "\nproven: {} ranks of a narrow model differ from one by {:.1e} in {} numbers",
            proof.ranks, proof.difference, proof.compared
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
        "{numbers:<8}{ranks:>7}{layers:>8}{:>14}{:>14}{:>13}{launches:>16}",
        size(*weight_bytes),
        size(*cache_bytes),
        size(*arena_bytes)
    )
}
