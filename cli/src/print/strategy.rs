//! `strategy` of MindSpore's files for people.

use std::fmt::Write;
use std::path::Path;

use bloomery::strategy::files::{Axes, Checked, ShownFiles, ShownLayout, StrategyDifferences};

use super::{counted, harmless};

/// A line for each parameter: how ranks are arranged, what cuts it, what a rank has.
pub(crate) fn strategy(shown: &ShownFiles) -> String {
    let line = |name: &str, layout: &ShownLayout| {
        let devices = format!("{:?}", layout.device_matrix);
        format!("  {name:<44} {devices:<10}{:<12}{}\n", map(layout), held(layout))
    };
    stages(shown, line)
}

/// A line for each parameter, and under it which ranks hold which piece.
pub(crate) fn holders(shown: &ShownFiles) -> String {
    let lines = |name: &str, layout: &ShownLayout| {
        let mut text = format!("  {name}\n");
        for (piece, ranks) in &layout.pieces {
            let part = |(dim, [index, of]): (usize, &[u32; 2])| format!("part {} of {of} of dim {dim}", index + 1);
            let cut: Vec<String> = piece.iter().enumerate().filter(|(_, [_, of])| *of > 1).map(part).collect();
            let what = if cut.is_empty() { "all".to_owned() } else { cut.join(", ") };
            let ranks: Vec<String> = ranks.iter().map(u32::to_string).collect();
            let _ = writeln!(text, "    {what:<44} rank {}", ranks.join(", "));
        }
        text
    };
    stages(shown, lines)
}

fn stages(shown: &ShownFiles, lines: impl Fn(&str, &ShownLayout) -> String) -> String {
    let mut text = String::new();
    for (stage, said) in &shown.stages {
        let devices = said.parameters.values().next().map_or(1, |layout| layout.device_matrix.iter().product::<u32>());
        let (first, last) = (stage * devices, stage * devices + devices - 1);
        let count = counted(said.parameters.len(), "parameter");
        let _ = writeln!(text, "stage {stage}, ranks {first} to {last}: {count}");
        said.parameters.iter().for_each(|(name, layout)| text.push_str(&lines(name, layout)));
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
    notes.iter().map(|note| format!("note: {note}\n")).collect()
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
    found.only_a.iter().for_each(|name| text.push_str(&format!("only the first has {name}\n")));
    found.only_b.iter().for_each(|name| text.push_str(&format!("only the second has {name}\n")));
    for one in &found.different {
        let _ = writeln!(text, "{}-{}: {}; {}", one.stage, one.name, one.a, one.b);
    }
    let (different, alone) = (found.different.len(), found.only_a.len() + found.only_b.len());
    let same = counted(found.same, "parameter");
    harmless(&format!("{text}{same} the same, {different} different, {alone} in one of both\n"))
}
