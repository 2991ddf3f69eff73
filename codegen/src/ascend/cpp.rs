//! A call plan as one C++ file that makes the same calls in the same order: for reading, and for owners of the chips.
//!
//! First come the prototypes of what is called and what differs between plans, then helpers (`cpp/device.hpp`), then each part
//! in a namespace: its buffers as constants, an entry as a function ([`entry`]). A `main` (`cpp/main.hpp`) takes one rank's
//! device and runs every entry once. The file needs CANN's headers and libraries, or to be looked at alone `include/`.
//!
//! Not here: what calls mean, and whether a plan holds together (`artifact::plan::check`).

mod entry;
mod words;

use super::header::prototype;
use bloomery_artifact::plan::{Arena, CallPlan, Content, PlanBuffer, PlanEntry, PlanPart, aclnn};
use bloomery_ir::ascend::{Arg, Event, Over, Step};
use entry::{NAMED, Scope, free_names, function, named};
use std::collections::BTreeSet;
use words::{Unique, comment, constant, identifier, real, text};

/// The file.
pub fn source(plan: &CallPlan) -> String {
    let axes: Vec<String> = plan.mesh.axes.iter().map(|(name, _)| name.clone()).collect();
    let fields = fields(plan, &axes);
    let ranks_per_stage = plan.ranks_per_stage();
    let mut file = head(plan);
    file += &prototypes(plan);
    file += &constants(plan, ranks_per_stage);
    file += &sizes(&fields);
    file += include_str!("cpp/device.hpp");
    file += &tables(plan);
    let mut names = Unique::default();
    let names: Vec<String> = plan.parts.iter().map(|part| names.name(&part_name(part))).collect();
    for (part, name) in plan.parts.iter().zip(&names) {
        file += &namespace(name, part, &fields, &axes, ranks_per_stage);
    }
    let parts: Vec<String> = names.iter().map(|name| format!("&{name}::part")).collect();
    file += &format!("\nconst std::vector<const Part *> parts = {{{}}};\n", parts.join(", "));
    file + include_str!("cpp/main.hpp")
}

/// What the file is and how it becomes a program.
fn head(plan: &CallPlan) -> String {
    let (model, soc) = (comment(&plan.model), comment(&plan.soc.join(", ")));
    let (chip, cann) = (plan.chip, comment(&plan.cann));
    format!(
        "// The calls that each rank of {model} makes on {chip} chips ({soc}), as bloomery planned them. Needs CANN {cann} or later:\n\
         //   g++ -std=c++17 -O1 plan.cpp -I$ASCEND_TOOLKIT_HOME/include -L$ASCEND_TOOLKIT_HOME/lib64\n\
         //       -lascendcl -lnnopbase -lopapi -lhccl -lpthread -o plan\n\
         // This text was compiled against headers; no one has yet told of a run.\n\n\
         #include <acl/acl.h>\n#include <aclnn/acl_meta.h>\n#include <hccl/hccl.h>\n\n\
         #include <algorithm>\n#include <array>\n#include <chrono>\n#include <cmath>\n#include <cstdint>\n#include <cstdio>\n\
         #include <cstdlib>\n#include <cstring>\n#include <fstream>\n#include <map>\n#include <string>\n#include <thread>\n\
         #include <utility>\n#include <vector>\n"
    )
}

/// Declarations of the aclnn calls that are made, in the table's order.
fn prototypes(plan: &CallPlan) -> String {
    let mut called = BTreeSet::new();
    each_step(plan, &mut |step| {
        if let Step::Call(call) = step {
            called.insert(call.name.clone());
        }
    });
    let known = aclnn::functions().iter().filter(|function| called.contains(function.name));
    let prototypes: String = known.map(prototype).collect();
    format!(
        "\n// The calls, as the table of bloomery has them. What is `const` is its own guess.\nextern \"C\" {{\n{prototypes}}}\n"
    )
}

fn constants(plan: &CallPlan, ranks_per_stage: u64) -> String {
    let (mut events, mut used) = (0, BTreeSet::new());
    each_step(plan, &mut |step| match step {
        Step::Record(Event(event), _) | Step::Wait(Event(event), _) => events = events.max(u64::from(*event) + 1),
        Step::Call(call) => {
            let parameters = aclnn::function(&call.name).map_or(&[][..], |function| &function.parameters);
            used.extend(call.args.iter().zip(parameters).filter_map(|(arg, parameter)| match arg {
                Arg::Int(number) => named(parameter.name, *number),
                _ => None,
            }));
        }
        _ => {}
    });
    let mut text = format!(
        "\nconstexpr size_t EVENTS = {events};\nconstexpr uint32_t RANKS = {}, RANKS_PER_STAGE = {ranks_per_stage};\n",
        plan.mesh.ranks()
    );
    for (_, value, name) in NAMED.iter().filter(|(.., name)| used.contains(name)) {
        text += &format!("constexpr int {name} = {value};\n");
    }
    let axes = plan.mesh.axes.iter().map(|(name, _)| constant("AXIS", name));
    let comms = plan.communicators.iter().map(|communicator| constant("COMM", &communicator.name));
    text + &enumeration("Axes of the mesh.", axes) + &enumeration("Communicators of a rank.", comms)
}

fn enumeration(about: &str, names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() { String::new() } else { format!("// {about}\nenum {{ {} }};\n", names.join(", ")) }
}

/// Names that a call of an entry gives values to.
fn fields(plan: &CallPlan, axes: &[String]) -> Vec<String> {
    let entries = plan.parts.iter().flat_map(|part| &part.entries);
    let names: BTreeSet<String> = entries.flat_map(|entry| free_names(&entry.steps)).collect();
    names.into_iter().filter(|name| !axes.contains(name)).collect()
}

fn sizes(fields: &[String]) -> String {
    let fields: String = fields.iter().map(|name| format!("    int64_t {} = 0;\n", identifier(name))).collect();
    format!(
        "\n// Rows of one sequence in a call: its first row, how many, the position of the first, its page of the cache.\n\
         struct Sequence {{\n    int64_t start, length, first, page;\n}};\n\n\
         // What differs from call to call.\nstruct Sizes {{\n{fields}    std::vector<Sequence> sequences;\n}};\n"
    )
}

/// What is looked up when a rank starts.
fn tables(plan: &CallPlan) -> String {
    let socs: Vec<String> = plan.soc.iter().map(|name| text(name)).collect();
    let mesh: Vec<String> = plan.mesh.axes.iter().map(|(_, size)| size.to_string()).collect();
    let mut out = format!(
        "\nconst std::vector<std::string> socs = {{{}}};\nconst Dims mesh = {{{}}};\nconst std::vector<Communicator> communicators = {{",
        socs.join(", "),
        mesh.join(", ")
    );
    for communicator in &plan.communicators {
        let group =
            |ranks: &Vec<u64>| format!("{{{}}}", ranks.iter().map(u64::to_string).collect::<Vec<_>>().join(", "));
        let groups = filled(communicator.groups.iter().map(group), 8);
        out += &format!("\n    {{{}, {{{groups}}}}},", text(&communicator.name));
    }
    let end = if plan.communicators.is_empty() { "};\n" } else { "\n};\n" };
    out + end
}

/// `stage_0`, `stages_1_2`
fn part_name(part: &PlanPart) -> String {
    match (part.stages.start, part.stages.end.saturating_sub(1)) {
        (first, last) if first >= last => format!("stage_{first}"),
        (first, last) => format!("stages_{first}_{last}"),
    }
}

/// Everything of a part.
fn namespace(name: &str, part: &PlanPart, fields: &[String], axes: &[String], ranks_per_stage: u64) -> String {
    let mut names = Unique::default();
    let buffers: Vec<String> = part.buffers.iter().map(|buffer| names.name(&buffer.name)).collect();
    let scope = Scope { buffers: &buffers, axes, ranks_per_stage };
    let mut names = Unique::beside(&["part".to_owned()]);
    let functions: Vec<String> = part.entries.iter().map(|entry| names.name(&entry.name)).collect();
    let (last, layers) = (part.stages.end.saturating_sub(1), part.layers);
    let stages = format!("{}..{last}", part.stages.start);
    let mut text =
        format!("\n// ---- Stages {stages}, {layers} layers each. ----\nnamespace {name} {{\n\nnamespace memory {{\n");
    for (buffer, name) in part.buffers.iter().zip(&buffers) {
        text += &memory(name, buffer);
    }
    text += "}  // namespace memory\n\n";
    for (entry, name) in part.entries.iter().zip(&functions) {
        text += &(function(name, entry, &scope) + "\n");
    }
    text += &table(part, &buffers, &functions, fields);
    text + &format!("\n}}  // namespace {name}\n")
}

/// `constexpr Buffer ids{"ids", IO, 0, 4096, 1, 4160};`
fn memory(name: &str, buffer: &PlanBuffer) -> String {
    let PlanBuffer { offset, bytes, layers, .. } = buffer;
    let (arena, pitch) = (buffer.arena.name().to_uppercase(), buffer.pitch());
    format!("constexpr Buffer {name}{{{}, {arena}, {offset}, {bytes}, {layers}, {pitch}}};\n", text(&buffer.name))
}

/// What `main` reads of a part.
fn table(part: &PlanPart, buffers: &[String], functions: &[String], fields: &[String]) -> String {
    let (first, last) = (part.stages.start, part.stages.end.saturating_sub(1));
    let arenas: Vec<String> = Arena::ALL.iter().map(|arena| part.arena_bytes(*arena).to_string()).collect();
    let hosted = hosted(part);
    let held = part.buffers.iter().zip(buffers).enumerate();
    let held: String =
        held.filter_map(|(i, (buffer, name))| holds(&buffer.content, name, hosted.contains(&i))).collect();
    let entries = part.entries.iter().zip(functions).map(|(entry, name)| {
        let (shown, largest) = (text(&entry.name), largest(entry, fields));
        format!("        {{{shown}, {}, {}, {name}, {largest}}},\n", entry.least, entry.most)
    });
    format!(
        "const Part part = {{\n    {first},\n    {last},\n    {},\n    {{{}}},\n    {{\n{held}    }},\n    {{\n{}    }},\n}};\n",
        part.layers,
        arenas.join(", "),
        entries.collect::<String>()
    )
}

/// Buffers that the host reads or writes.
fn hosted(part: &PlanPart) -> BTreeSet<usize> {
    let mut hosted = BTreeSet::new();
    part.entries.iter().for_each(|entry| {
        each_of(&entry.steps, &mut |step| match step {
            Step::FromHost { to: tensor } | Step::ToHost { from: tensor } => _ = hosted.insert(tensor.buffer),
            _ => {}
        })
    });
    hosted
}

/// What a buffer holds before anything runs, where that is something.
fn holds(content: &Content, name: &str, hosted: bool) -> Option<String> {
    let one = |what: &str| Some(format!("        {what}(memory::{name}),\n"));
    match content {
        Content::Parameter | Content::Int8 { .. } | Content::Factors { .. } => one("parameter"),
        Content::Scratch if !hosted => None,
        Content::State if !hosted => one("state"),
        Content::Scratch | Content::State | Content::Io => one("host"),
        Content::Distances { slopes, over, heads, rows, reach, dtype } => {
            let axis = over.as_ref().map_or("-1".to_owned(), |axis| constant("AXIS", axis));
            let slopes = filled(slopes.iter().map(|slope| real(*slope)), 14);
            let rest = format!("{axis}, {heads}, {rows}, {reach}, {}", dtype.c_name());
            Some(format!("        table(memory::{name}, {{{{{slopes}}}, {rest}}}),\n"))
        }
    }
}

/// The largest sizes of an entry, with sequences that have so many rows.
fn largest(entry: &PlanEntry, fields: &[String]) -> String {
    let bound = |name: &String| {
        let bound = entry.bounds.iter().find(|(known, _)| known == name).map(|(_, most)| *most);
        bound.unwrap_or(if *name == entry.rows { entry.most } else { 1 }).to_string()
    };
    let mut reach = entry.most;
    each_of(&entry.steps, &mut |step| {
        if let Step::Loop { over: Over::Blocks { reach: seen, .. }, .. } = step {
            reach = reach.min(*seen);
        }
    });
    let starts = (0..entry.most).step_by(usize::try_from(reach.max(1)).unwrap_or(usize::MAX)).take(SEQUENCES_MOST);
    let sequence = |(page, start): (usize, u64)| format!("{{{start}, {}, 0, {page}}}", (entry.most - start).min(reach));
    let sequences: Vec<String> = starts.enumerate().map(sequence).collect();
    let values: Vec<String> = fields.iter().map(bound).chain([format!("{{{}}}", sequences.join(", "))]).collect();
    format!("{{{}}}", values.join(", "))
}

/// Sequences of the largest call that `main` makes, at most.
const SEQUENCES_MOST: usize = 64;

/// Items with commas, in lines that are filled.
fn filled(items: impl Iterator<Item = String>, indent: usize) -> String {
    let (mut text, mut column) = (String::new(), indent + 24);
    for (i, item) in items.enumerate() {
        if i > 0 && column + item.len() + 2 > 116 {
            text += &format!(",\n{:indent$}", "");
            column = indent;
        } else if i > 0 {
            text += ", ";
            column += 2;
        }
        column += item.len();
        text += &item;
    }
    text
}

fn each_step(plan: &CallPlan, see: &mut dyn FnMut(&Step)) {
    let entries = plan.parts.iter().flat_map(|part| &part.entries);
    entries.for_each(|entry| each_of(&entry.steps, see));
}

fn each_of(steps: &[Step], see: &mut dyn FnMut(&Step)) {
    steps.iter().for_each(|step| step.visit(&mut |step| see(step)));
}

#[cfg(test)]
mod tests;
