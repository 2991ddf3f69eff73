//! `checkpoint` and `convert` for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use bloomery::checkpoint::{Cleaned, Combined, Difference, Differences, Shown, Transformed};
use bloomery::convert::Converted;

use super::{counted, grouped, harmless, line, size};

/// A line for each parameter.
pub(crate) fn checkpoint(shown: &Shown) -> String {
    let bytes = shown.parameters.iter().map(|(_, parameter)| parameter.bytes as u64).sum();
    let mut text = format!("{}, {}\n", counted(shown.parameters.len(), "parameter"), size(bytes));
    for (name, parameter) in &shown.parameters {
        let (ty, shape, bytes) = (parameter.ty, format!("{:?}", parameter.shape), size(parameter.bytes as u64));
        let said = match &parameter.value {
            Some(value) if ty == "str" => format!("= {value:?}"),
            Some(value) => format!("= {value}"),
            None => parameter.sha256[..16].to_owned(),
        };
        let name = line(name);
        let _ = writeln!(text, "  {name:<44} {ty:<9}{shape:<16} {bytes:>9}  {said}");
    }
    harmless(&(text + &notes(&shown.notes)))
}

fn notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("note: {}\n", line(note))).collect()
}

/// A line for each tensor that differs.
pub(crate) fn differences(found: &Differences) -> String {
    if found.equal {
        return format!("equal: {}\n", counted(found.same, "tensor"));
    }
    let mut text = String::new();
    found.only_a.iter().for_each(|name| text.push_str(&format!("only the first has {}\n", line(name))));
    found.only_b.iter().for_each(|name| text.push_str(&format!("only the second has {}\n", line(name))));
    for difference in &found.different {
        let _ = writeln!(text, "{}: {}", line(&difference.name), parts(difference).join("; "));
    }
    let different = found.different.len();
    let alone = found.only_a.len() + found.only_b.len();
    harmless(&format!(
        "{text}{} the same, {different} different, {alone} in one of both\n",
        counted(found.same, "tensor")
    ))
}

fn parts(difference: &Difference) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some([a, b]) = &difference.types {
        parts.push(format!("type {a} and {b}"));
    }
    if let Some([a, b]) = &difference.shapes {
        parts.push(format!("shape {a:?} and {b:?}"));
    }
    if let Some(first) = &difference.first {
        let (index, a, b) = (&first.index, first.a, first.b);
        parts.push(format!("{} differ, the first at {index:?}: {a} and {b}", counted(difference.count, "number")));
    } else if difference.count > 0 {
        parts.push("its content".to_owned());
    }
    match difference.largest_error {
        Some(error) if difference.count > 0 => parts.push(format!("largest error {error:e}")),
        Some(_) if difference.types.is_some() => parts.push("equal numbers".to_owned()),
        _ => {}
    }
    parts
}

/// What was kept and what was not.
pub(crate) fn cleaned(target: &Path, cleaned: &Cleaned) -> String {
    let (kept, dropped) = (counted(cleaned.kept, "parameter"), grouped(cleaned.dropped as u64));
    format!("{}: {kept} of {}, {dropped} left out\n", target.display(), size(cleaned.bytes))
}

/// A line for each rank's file.
pub(crate) fn transformed(done: &Transformed) -> String {
    let mut text = String::new();
    for file in &done.ranks {
        let (parameters, bytes) = (counted(file.parameters, "parameter"), size(file.bytes));
        let from = ranks(&file.from);
        let _ = writeln!(text, "{}: {parameters} of {bytes}, from {from}", file.file.display());
    }
    harmless(&(text + &notes(&done.notes)))
}

/// A line for each rank.
pub(crate) fn needs(needs: &BTreeMap<u32, Vec<u32>>) -> String {
    needs.iter().map(|(rank, from)| format!("rank {rank}: {}\n", ranks(from))).collect()
}

/// `rank 0`, `ranks 0, 1, 4`: lowest first.
fn ranks(from: &[u32]) -> String {
    let all: Vec<String> = from.iter().rev().map(u32::to_string).collect();
    format!("rank{} {}", if all.len() == 1 { "" } else { "s" }, all.join(", "))
}

/// What was combined.
pub(crate) fn combined(target: &Path, combined: &Combined) -> String {
    let (parameters, bytes) = (counted(combined.parameters, "parameter"), size(combined.bytes));
    harmless(&format!("{}: {parameters} of {bytes}, from {}\n", target.display(), ranks(&combined.from)))
}

/// What was written, and what became of its numbers.
pub(crate) fn converted(converted: &Converted) -> String {
    let Converted { target, files, tensors, bytes, lost, .. } = converted;
    let mut text =
        format!("{}: {} of {}: {}\n", target.display(), counted(*tensors, "tensor"), size(*bytes), files.join(", "));
    if lost.overflowed + lost.flushed > 0 {
        let [overflowed, flushed] = [lost.overflowed, lost.flushed].map(grouped);
        let _ = writeln!(
            text,
            "{overflowed} numbers became infinite, {flushed} became zero: the new type cannot hold them"
        );
    }
    harmless(&(text + &notes(&converted.notes)))
}
