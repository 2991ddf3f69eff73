//! Tables of tensors: those of a model's layers, which are alike, in one line.

use std::collections::BTreeMap;
use std::fmt::Write;

use bloomery::inspect::{RanksView, TensorView, Tensors};

use super::{counted, grouped, line, size};

/// How many tensors in how many files, of which types; and a line for each, or for those that differ in their layer alone.
pub(super) fn tensors(held: &Tensors) -> String {
    let types = types(held.tensors.iter().map(|tensor| (tensor.dtype.as_str(), 1)));
    let types: Vec<String> = types.into_iter().map(|(dtype, count)| format!("{} {dtype}", grouped(count))).collect();
    let (count, files) = (grouped(held.tensors.len() as u64), counted(held.files, "file"));
    let mut text = format!("tensors   {count} in {files}, {}: {}\n", size(held.bytes), types.join(", "));
    if let Some(RanksView { count, strategy, read }) = &held.ranks {
        let read: Vec<String> = read.iter().map(u32::to_string).collect();
        let by = strategy.as_ref().map_or(String::new(), |path| format!(" by {}", path.display()));
        let _ = writeln!(
            text,
            "shared    {}{by}; all is in the files of {}",
            counted(*count as usize, "rank"),
            read.join(", ")
        );
    }
    for (TensorView { dtype, shape, .. }, name) in alike(&held.tensors) {
        let name = line(&name);
        let _ = writeln!(text, "  {name:<57} {dtype:<5}{shape:?}");
    }
    text
}

/// How much there is of each type, the most first.
pub(super) fn types<'a>(each: impl Iterator<Item = (&'a str, u64)>) -> Vec<(&'a str, u64)> {
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    each.for_each(|(dtype, much)| *types.entry(dtype).or_default() += much);
    let mut types: Vec<_> = types.into_iter().collect();
    types.sort_by_key(|(_, much)| std::cmp::Reverse(*much));
    types
}

/// Tensors of one type and shape whose names differ in a number alone, in the order of the first of each: one of them, and
/// the name with the numbers' range, or with how many there are of it.
fn alike(tensors: &[TensorView]) -> Vec<(&TensorView, String)> {
    let mut places = BTreeMap::new();
    let mut found: Vec<(&TensorView, Vec<u64>)> = Vec::new();
    for tensor in tensors {
        let (pattern, layer) = without_layer(&tensor.name);
        let place = *places.entry((pattern, &tensor.dtype, &tensor.shape)).or_insert(found.len());
        if place == found.len() {
            found.push((tensor, Vec::new()));
        }
        found[place].1.extend(layer);
    }
    let named = |tensor: &TensorView, layers: &[u64]| match (layers.iter().min(), layers.iter().max()) {
        (Some(first), Some(last)) if layers.len() > 1 => {
            let (before, after) = without_layer(&tensor.name).0;
            let all = last - first + 1 == layers.len() as u64;
            let some = if all { String::new() } else { format!(" ({} of them)", layers.len()) };
            format!("{before}{first}..{last}{after}{some}")
        }
        _ => tensor.name.clone(),
    };
    found.into_iter().map(|(tensor, layers)| (tensor, named(tensor, &layers))).collect()
}

/// A name's parts around its first number between dots, and that number: a layer's.
fn without_layer(name: &str) -> ((&str, &str), Option<u64>) {
    let mut at = 0;
    for part in name.split('.') {
        if let Ok(layer) = part.parse() {
            return ((&name[..at], &name[at + part.len()..]), Some(layer));
        }
        at += part.len() + 1;
    }
    ((name, ""), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_are_alike_share_a_line() {
        let tensor = |name: &str, rows: usize| TensorView {
            name: name.to_owned(),
            dtype: if rows == 9 { "f32" } else { "f16" }.to_owned(),
            shape: vec![rows, 4],
        };
        let names = ["h.0.a", "h.0.b", "h.1.a", "h.1.b", "h.10.a", "h.x.a", "table"];
        let mut held: Vec<TensorView> = names.iter().map(|name| tensor(name, 2)).collect();
        held[3] = tensor("h.1.b", 9);
        let shown = tensors(&Tensors { files: 1, bytes: 1000, ranks: None, tensors: held });
        let lines: Vec<String> =
            shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "tensors 7 in 1 file, 1.0 kB: 6 f16, 1 f32",
                "h.0..10.a (3 of them) f16 [2, 4]",
                "h.0.b f16 [2, 4]",
                "h.1.b f32 [9, 4]",
                "h.x.a f16 [2, 4]",
                "table f16 [2, 4]",
            ]
        );
    }
}
