//! `config show` for people: a table of at most 80 columns.

use std::fmt::Write;

use bloomery::config::{Shown, WeightsView};
use bloomery_configs::Shape;

use super::wrap::{WIDTH, wrapped};
use super::{grouped, harmless};

/// Columns of a setting's name.
const NAME: usize = 30;
/// Columns of its value; where that comes from has the rest.
const VALUE: usize = 26;

/// What a configuration means, and every setting.
pub(crate) fn config(shown: &Shown) -> String {
    let notes = shown.notes.iter().chain(&shown.ignored);
    let notes: String = notes.map(|note| format!("note: {note}\n")).collect();
    let text = format!("{}\n{}\n{notes}", meaning(shown), settings(shown));
    text.lines().map(wrapped).collect()
}

/// What the settings mean together.
fn meaning(shown: &Shown) -> String {
    let Shown { model, strategy, batch, .. } = shown;
    let mut text = format!("{}\n\n", plain(&shown.file.display().to_string()));
    let Shape { layers, hidden, heads, .. } = model.shape;
    let (vocab, parameters) = (model.shape.vocab, grouped(model.parameters));
    let _ = writeln!(
        text,
        "model     {layers} layers, {hidden} hidden, {heads} heads of {}, MLP {}",
        model.head_dim, model.ffn
    );
    let _ = writeln!(text, "          vocabulary {vocab}, {parameters} parameters");
    let _ = writeln!(text, "weights   {}", shown.weights.as_ref().map_or("none are named".to_owned(), weights));
    let (ranks, short) = (strategy.ranks, &strategy.strategy);
    let _ = writeln!(text, "ranks     {ranks} = dp {} x mp {} x pp {}", short.dp, short.mp, short.pp);
    let _ = writeln!(text, "strategy  {short}");
    if strategy.ranks > 1 {
        let _ = writeln!(text, "layers    {}", dealt(strategy.layers.as_deref()));
    }
    let _ = writeln!(text, "step      {} tokens = {} x {}", grouped(batch.tokens), batch.sequences, batch.length);
    text
}

fn weights(weights: &WeightsView) -> String {
    format!("{}, as {} says", plain(&weights.name), weights.key)
}

/// Layers of each stage: `11 x 6, 14`.
fn dealt(layers: Option<&[u32]>) -> String {
    let Some(layers) = layers else { return "balanced among the stages by cost".to_owned() };
    let runs = layers.chunk_by(|a, b| a == b).map(|run| match run {
        [one] => one.to_string(),
        several => format!("{} x {}", several.len(), several[0]),
    });
    format!("{} by stage", runs.collect::<Vec<_>>().join(", "))
}

/// Every setting, a line each, below the section it stands in.
fn settings(shown: &Shown) -> String {
    let mut text = row("setting", "value", "from");
    let mut within = "";
    for setting in &shown.settings {
        let (section, name) = setting.path.rsplit_once('.').unwrap_or(("", setting.path));
        if section != within {
            let _ = writeln!(text, "{section}");
            within = section;
        }
        let indent = if section.is_empty() { "" } else { "  " };
        text += &row(&format!("{indent}{name}"), &plain(&setting.text()), &setting.origin.to_string());
    }
    text
}

/// Where a value is too long for its column, its origin follows below.
fn row(name: &str, value: &str, origin: &str) -> String {
    let line = format!("{name:<NAME$}{value:<VALUE$}{origin}\n");
    let fits = value.chars().count() < VALUE;
    if fits { line } else { long(name, value, origin) }
}

fn long(name: &str, value: &str, origin: &str) -> String {
    let line = format!("{name:<NAME$}{value}  {origin}\n");
    if line.chars().count() <= WIDTH + 1 {
        line
    } else {
        format!("{name:<NAME$}{value}\n{:1$}{origin}\n", "", NAME + VALUE)
    }
}

/// A text on one line, whatever is in it.
fn plain(text: &str) -> String {
    harmless(text).replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_leave_their_column() {
        let check = |value: &str, origin: &str, expect: &str| {
            let row = row("a", value, origin);
            assert_eq!(row.replace("      ", ""), expect);
            assert!(row.lines().all(|line| line.chars().count() <= WIDTH), "{row}");
        };
        check(&"v".repeat(25), "line 1", &format!("a     {} line 1\n", "v".repeat(25)));
        check(&"v".repeat(26), "line 1", &format!("a     {}  line 1\n", "v".repeat(26)));
        let long = "v".repeat(50);
        check(&long, "line 1", &format!("a     {long}\n  line 1\n"));
    }

    #[test]
    fn equal_stages_are_counted() {
        assert_eq!(dealt(Some(&[6, 6, 14])), "2 x 6, 14 by stage");
        assert_eq!(dealt(None), "balanced among the stages by cost");
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
