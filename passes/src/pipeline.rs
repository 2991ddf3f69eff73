//! The order of passes, and the driver that runs them.
//!
//! First what is simpler, then what is faster, then what is concrete:
//! 1. `clean` drops what nobody reads, so that later passes see no dead uses;
//! 2. `fold-weights` computes beforehand what depends on weights alone, if they are not trained. It comes before ranks
//!    share the work, or what it moves through a product would be a sum over ranks; and before `simplify`, which then
//!    finds less to do;
//! 3. `pad`, `shard`, `cut` and `partition` divide the work among ranks, if there are several: `pad` makes what does not come
//!    out even longer, after which `shard` finds that it does; `cut` goes by layers, while sizes are still the model's;
//! 4. `simplify` does algebra while operations are still single;
//! 5. `defer` leaves to the head what only picked rows need, on the final algebra;
//! 6. `group` joins operations into kernels;
//! 7. `lower`, `schedule`, `memory-plan` turn the grouped graphs into a program.

use crate::lower::Draft;
use crate::pass::{Context, Pass, PassError};
use crate::{GRAPH_PASSES, lower, memory_plan, schedule};
use bloomery_ir::graph::Role;
use bloomery_ir::program::Interface;
use bloomery_ir::verify::callee;
use bloomery_ir::{Module, Program, verify};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// All passes, in order.
fn passes() -> impl Iterator<Item = Entry> {
    let graphs = GRAPH_PASSES.iter().copied().map(Entry::Graph);
    graphs.chain([Entry::Lower, Entry::Schedule, Entry::MemoryPlan])
}

/// One entry of the list, by what it takes and makes.
#[derive(Clone, Copy)]
enum Entry {
    Graph(&'static Pass),
    Lower,
    Schedule,
    MemoryPlan,
}

impl Entry {
    fn name(self) -> &'static str {
        match self {
            Entry::Graph(pass) => pass.name,
            Entry::Lower => lower::NAME,
            Entry::Schedule => schedule::NAME,
            Entry::MemoryPlan => memory_plan::NAME,
        }
    }

    fn run(self, stage: Stage, cx: &Context<'_>) -> Result<Stage, PassError> {
        match (self, stage) {
            (Entry::Graph(pass), Stage::Module(module)) => {
                let module = (pass.run)(module, cx)?;
                verify(&module).map_err(|error| PassError::Broken { pass: pass.name.to_owned(), error })?;
                Ok(Stage::Module(module))
            }
            (Entry::Lower, Stage::Module(module)) => {
                lower::lower(&module, cx).map(|draft| Stage::Draft(Box::new(draft)))
            }
            (Entry::Schedule, Stage::Draft(draft)) => Ok(Stage::Draft(Box::new(schedule::schedule(*draft)))),
            (Entry::MemoryPlan, Stage::Draft(draft)) => Ok(Stage::Program(Box::new(memory_plan::plan(*draft)))),
            (entry, stage) => Err(PassError::Order { pass: entry.name(), found: stage.what() }),
        }
    }
}

/// What there is between passes.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Graphs.
    Module(Module),
    /// A program whose arena offsets are still numbers of buffers.
    Draft(Box<Draft>),
    /// A program.
    Program(Box<Program>),
}

impl Stage {
    /// As text.
    pub fn print(&self) -> String {
        match self {
            Stage::Module(module) => bloomery_ir::print::print(module),
            Stage::Draft(draft) => draft.program.print(),
            Stage::Program(program) => program.print(),
        }
    }

    fn what(&self) -> &'static str {
        match self {
            Stage::Module(_) => "graphs",
            Stage::Draft(_) => "a program without offsets",
            Stage::Program(_) => "a finished program",
        }
    }
}

/// Names of all passes, in the order they run.
pub fn names() -> Vec<&'static str> {
    passes().map(Entry::name).collect()
}

/// Runs all passes, or those up to and with `stop_after`; `observe` sees what each made.
///
/// # Errors
/// What a pass refuses; an unknown name to stop after.
pub fn run(
    module: Module,
    cx: &Context<'_>,
    stop_after: Option<&str>,
    observe: &mut dyn FnMut(&str, &Stage),
) -> Result<Stage, PassError> {
    let all = names();
    let last = match stop_after {
        Some(name) => all.iter().position(|known| *known == name).ok_or_else(|| unknown(name))?,
        None => all.len() - 1,
    };
    run_named(module, cx, &all[..=last], observe)
}

/// Runs the named passes in the order given.
///
/// # Errors
/// What a pass refuses; an unknown name; a pass over programs before there is one.
pub fn run_named(
    module: Module,
    cx: &Context<'_>,
    names: &[&str],
    observe: &mut dyn FnMut(&str, &Stage),
) -> Result<Stage, PassError> {
    let mut stage = Stage::Module(module);
    for name in names {
        let entry = passes().find(|entry| entry.name() == *name).ok_or_else(|| unknown(name))?;
        stage = entry.run(stage, cx)?;
        observe(name, &stage);
    }
    Ok(stage)
}

fn unknown(name: &str) -> PassError {
    PassError::Unknown { name: name.to_owned(), known: names().join(", ") }
}

/// The graphs that callers enter: those the context names, or all that could be.
pub(crate) fn entered<'a>(module: &Module, cx: &Context<'a>) -> Cow<'a, [Interface]> {
    if cx.entries.is_empty() { Cow::Owned(interfaces(module)) } else { Cow::Borrowed(cx.entries) }
}

/// Names of graphs that others enter.
pub(crate) fn callees(module: &Module) -> BTreeSet<&str> {
    module.graphs.iter().flat_map(|graph| &graph.nodes).filter_map(|node| callee(&node.op)).collect()
}

/// Interfaces for a module that came without: every graph that no other enters, its rows the first symbol, its outputs
/// named after the states they replace or by number.
pub fn interfaces(module: &Module) -> Vec<Interface> {
    let callees = callees(module);
    let roots =
        module.graphs.iter().filter(|graph| !callees.contains(graph.name.as_str()) && !graph.symbols.is_empty());
    let interface = |graph: &bloomery_ir::Graph| {
        let states: Vec<_> = graph.inputs.iter().filter(|input| input.role == Role::State).collect();
        let plain = graph.outputs.len().saturating_sub(states.len());
        let numbered = (0..plain).map(|i| format!("out{i}"));
        let outputs = numbered.chain(states.iter().map(|state| state.name.clone())).take(graph.outputs.len()).collect();
        Interface { graph: graph.name.clone(), rows: graph.symbols[0].name.clone(), outputs }
    };
    roots.map(interface).collect()
}
