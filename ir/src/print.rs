//! The text form, written. `parse(print(m)) == m`, and printing is canonical: results are numbered in order.

use crate::graph::{Graph, Module, Node, Part, Role, Stage, ValueId};
use crate::ops::Op;
use crate::ops::repeat::Repeat;
use crate::types::Mesh;
use serde_json::Value;
use std::fmt::Write;

/// A whole module.
pub fn print(module: &Module) -> String {
    let mut text = String::new();
    if !module.mesh.axes.is_empty() {
        let _ = writeln!(text, "mesh @m = [{}]\n", mesh(&module.mesh));
    }
    for stage in &module.stages {
        let _ = writeln!(text, "{}", print_stage(stage));
    }
    if !module.stages.is_empty() {
        text.push('\n');
    }
    let graphs = module.graphs.iter().map(print_graph);
    let weights = module.weights.iter().map(|graph| print_as("weight", graph));
    text + &graphs.chain(weights).collect::<Vec<String>>().join("\n")
}

/// `stage 0..12 [@body = @body.0]`
fn print_stage(stage: &Stage) -> String {
    let part = |part: &Part| format!("@{} = @{}", part.whole, part.graph);
    let parts: Vec<String> = stage.parts.iter().map(part).collect();
    format!("stage {}..{} [{}]", stage.layers.start, stage.layers.end, parts.join(", "))
}

fn mesh(mesh: &Mesh) -> String {
    let axes: Vec<String> = mesh.axes.iter().map(|(name, size)| format!("{name}={size}")).collect();
    axes.join(", ")
}

/// One graph.
pub fn print_graph(graph: &Graph) -> String {
    print_as("graph", graph)
}

fn print_as(keyword: &str, graph: &Graph) -> String {
    let mut text = format!("{keyword} @{}", graph.name);
    let symbols: Vec<String> = graph.symbols.iter().map(|s| format!("{}: {}..{}", s.name, s.least, s.most)).collect();
    if !symbols.is_empty() {
        let _ = write!(text, "<{}>", symbols.join(", "));
    }
    let inputs: Vec<String> = graph.inputs.iter().map(|i| format!("{}%{}: {}", role(i.role), i.name, i.ty)).collect();
    let line = inputs.join(", ");
    if inputs.is_empty() || text.len() + line.len() <= 110 {
        let _ = writeln!(text, "({line}) {{");
    } else {
        let _ = writeln!(text, "(\n    {},\n) {{", inputs.join(",\n    "));
    }
    for node in &graph.nodes {
        let _ = writeln!(text, "  {}", print_node(graph, node));
    }
    let _ = writeln!(text, "  return {}\n}}", values(graph, &graph.outputs));
    text
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Plain => "",
        Role::Parameter => "param ",
        Role::State => "state ",
    }
}

/// `%name` of an input, `%number` of a result.
fn value(graph: &Graph, value: ValueId) -> String {
    match graph.inputs.get(value.index()) {
        Some(input) => format!("%{}", input.name),
        None => format!("%{}", value.index() - graph.inputs.len()),
    }
}

fn values(graph: &Graph, list: &[ValueId]) -> String {
    let names: Vec<String> = list.iter().map(|&v| value(graph, v)).collect();
    names.join(", ")
}

fn print_node(graph: &Graph, node: &Node) -> String {
    let body = match &node.op {
        Op::Repeat(repeat) => print_repeat(graph, repeat, &node.operands),
        Op::Call(call) => format!("call @{} {}", call.body, values(graph, &node.operands)),
        op => [op.name().to_owned(), values(graph, &node.operands), attributes(op)]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" "),
    };
    let types: Vec<String> = node.results.iter().map(|&v| graph.ty(v).to_string()).collect();
    format!("{} = {} : {}", values(graph, &node.results), body.trim_end(), types.join(", "))
}

fn print_repeat(graph: &Graph, repeat: &Repeat, operands: &[ValueId]) -> String {
    let reverse = if repeat.reverse { "reverse " } else { "" };
    let mut text = format!("repeat {reverse}@{} over {} {}..{}", repeat.body, repeat.over, repeat.from, repeat.to);
    let mut rest = operands;
    let groups = [("carry", repeat.carry), ("slice", repeat.slice), ("state", repeat.state), ("with", repeat.with)];
    for (name, count) in groups.into_iter().filter(|(_, count)| *count > 0) {
        let (these, others) = rest.split_at(count);
        let _ = write!(text, " {name}({})", values(graph, these));
        rest = others;
    }
    if repeat.collect > 0 {
        let _ = write!(text, " collect({})", repeat.collect);
    }
    text
}

/// `{by = 2.0, to = f16}`; nothing when there are none. Also the canonical key of an operation's attributes.
pub fn attributes(op: &Op) -> String {
    let Value::Object(fields) = op.attributes() else { return String::new() };
    let present = fields.iter().filter(|(_, value)| !value.is_null());
    let fields: Vec<String> = present.map(|(name, value)| format!("{name} = {}", attribute(value))).collect();
    if fields.is_empty() { String::new() } else { format!("{{{}}}", fields.join(", ")) }
}

fn attribute(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(attribute).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) if is_word(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether a string can stand without quotes: a name, or an extent such as `256/mp`.
pub(crate) fn is_word(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '*' | '.');
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(word) && !matches!(text, "true" | "false")
        || text.starts_with(|c: char| c.is_ascii_digit()) && text.contains(['*', '/']) && text.chars().all(word)
}
