//! `strategy` of MindSpore's files for people.

use std::fmt::Write;
use std::path::Path;

use bloomery::strategy::Shares;
use bloomery::strategy::files::{Axes, Checked, ShownFiles, ShownLayout, ShownStage, StrategyDifferences};

use super::{counted, harmless, line};

/// A line for each parameter: how ranks are arranged, what cuts it, what a rank has.
pub(crate) fn strategy(shown: &ShownFiles) -> String {
    let row = |(name, layout): (&String, &ShownLayout)| {
        [line(name), format!("{:?}", layout.device_matrix), map(layout), held(layout)]
    };
    let of_stage = |stage: &ShownStage| stage.parameters.iter().map(row).collect::<Vec<_>>();
    let rows: Vec<Vec<[String; 4]>> = shown.stages.values().map(of_stage).collect();
    let width = |column: usize| rows.iter().flatten().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2].map(width);
    let mut text = String::new();
    for ((stage, said), rows) in shown.stages.iter().zip(&rows) {
        text.push_str(&heading(*stage, said));
        for [name, devices, map, held] in rows {
            let [a, b, c] = widths;
            let _ = writeln!(text, "  {name:<a$}  {devices:<b$}  {map:<c$}  {held}");
        }
    }
    harmless(&(text + &notes(&shown.notes)))
}

fn heading(stage: u32, said: &ShownStage) -> String {
    let devices = said.parameters.values().next().map_or(1, |layout| layout.device_matrix.iter().product::<u32>());
    let (first, last) = (stage * devices, stage * devices + devices - 1);
    format!("stage {stage}, ranks {first} to {last}: {}\n", counted(said.parameters.len(), "parameter"))
}

/// A picture that was written.
pub(crate) fn drawn(path: &Path, shares: &Shares) -> String {
    let (ranks, weights) = (counted(shares.ranks as usize, "rank"), counted(shares.weights.len(), "parameter"));
    format!("{}: a picture of {weights} on {ranks}\n", path.display())
}

/// Under each parameter, which ranks hold which piece.
pub(crate) fn holders(shown: &ShownFiles) -> String {
    let mut text = String::new();
    for (stage, said) in &shown.stages {
        text.push_str(&heading(*stage, said));
        for (name, layout) in &said.parameters {
            let _ = writeln!(text, "  {}", line(name));
            for (piece, ranks) in &layout.pieces {
                let part = |(dim, [index, of]): (usize, &[u32; 2])| format!("part {} of {of} of dim {dim}", index + 1);
                let cut: Vec<String> = piece.iter().enumerate().filter(|(_, [_, of])| *of > 1).map(part).collect();
                let what = if cut.is_empty() { "all".to_owned() } else { cut.join(", ") };
                let ranks: Vec<String> = ranks.iter().map(u32::to_string).collect();
                let _ = writeln!(text, "    {what:<44}  rank {}", ranks.join(", "));
            }
        }
    }
    harmless(&(text + &notes(&shown.notes)))
}

fn map(layout: &ShownLayout) -> String {
    let axes = |axes: &Axes| match axes {
        Axes::One(axis) => axis.to_string(),
        Axes::Several(axes) => format!("{axes:?}"),
    };
    let all: Vec<String> = layout.tensor_map.iter().map(axes).collect();
    format!("[{}]", all.join(", "))
}

/// `1/4 of dim 0, 1/2 for the optimizer`.
fn held(layout: &ShownLayout) -> String {
    let first = &layout.pieces[0].0;
    let cut = first.iter().enumerate().filter(|(_, [_, of])| *of > 1);
    let mut parts: Vec<String> = cut.map(|(dim, [_, of])| format!("1/{of} of dim {dim}")).collect();
    if parts.is_empty() {
        parts.push("all".to_owned());
    }
    parts.extend(layout.slice_shape.as_ref().map(|shape| format!("{shape:?}")));
    parts.extend(layout.optimizer_shard.map(|_| "shared by the optimizer".to_owned()));
    parts.join(", ")
}

fn notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("note: {}\n", line(note))).collect()
}

/// What a whole strategy is.
pub(crate) fn checked(path: &Path, checked: &Checked) -> String {
    let stages = counted(checked.stages, "stage");
    let (ranks, parameters) = (counted(checked.ranks as usize, "rank"), counted(checked.parameters, "parameter"));
    harmless(&format!("{}: {stages}, {ranks}, {parameters}\n{}", path.display(), notes(&checked.notes)))
}

/// A line for each parameter that lies otherwise.
pub(crate) fn strategy_differences(found: &StrategyDifferences) -> String {
    if found.equal {
        return format!("equal: {}\n", counted(found.same, "parameter"));
    }
    let mut text = String::new();
    found.only_a.iter().for_each(|name| text.push_str(&format!("only the first has {}\n", line(name))));
    found.only_b.iter().for_each(|name| text.push_str(&format!("only the second has {}\n", line(name))));
    for one in &found.different {
        let _ = writeln!(text, "{}-{}: {}; {}", one.stage, line(&one.name), one.a, one.b);
    }
    let (different, alone) = (found.different.len(), found.only_a.len() + found.only_b.len());
    let same = counted(found.same, "parameter");
    harmless(&format!("{text}{same} the same, {different} different, {alone} in one of both\n"))
}
