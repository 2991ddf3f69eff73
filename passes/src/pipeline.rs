//! The order of passes, and the driver that runs them.
//!
//! First what is simpler, then what is faster, then what is concrete:
//! 1. `clean` drops what nobody reads, so that later passes see no dead uses;
//! 2. `simplify` does algebra while operations are still single;
//! 3. `group` joins operations into kernels, on the final algebra;
//! 4. `lower`, `schedule`, `memory-plan` turn the grouped graphs into a program.

use crate::pass::{Context, Pass, PassError};
use crate::{clean, group, lower, memory_plan, schedule, simplify};
use bloomery_ir::{Module, Program, verify};

/// Passes over graphs, in order.
const GRAPH_PASSES: &[Pass] = &[clean::PASS, simplify::PASS, group::PASS];

/// Names of the passes to and over programs.
const PROGRAM_PASSES: &[&str] = &[lower::NAME, schedule::NAME, memory_plan::NAME];

/// What there is after a pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Still graphs.
    Module(Module),
    /// A program; before `memory-plan` its arena offsets are numbers of buffers.
    Program(Box<Program>),
}

impl Stage {
    /// As text.
    pub fn print(&self) -> String {
        match self {
            Stage::Module(module) => bloomery_ir::print::print(module),
            Stage::Program(program) => program.print(),
        }
    }
}

/// Names of all passes, in the order they run.
pub fn names() -> Vec<&'static str> {
    GRAPH_PASSES.iter().map(|pass| pass.name).chain(PROGRAM_PASSES.iter().copied()).collect()
}

/// The pass over graphs of this name.
///
/// # Errors
/// There is none.
pub fn by_name(name: &str) -> Result<&'static Pass, PassError> {
    GRAPH_PASSES.iter().find(|pass| pass.name == name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> PassError {
    PassError::Unknown { name: name.to_owned(), known: names().join(", ") }
}

/// Runs one pass over graphs and verifies what it made.
///
/// # Errors
/// What the pass refuses.
pub fn apply(pass: &Pass, module: Module, cx: &Context<'_>) -> Result<Module, PassError> {
    let module = (pass.run)(module, cx)?;
    verify(&module).map_err(|error| PassError::Broken { pass: pass.name.to_owned(), error })?;
    Ok(module)
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
    if let Some(name) = stop_after.filter(|name| !names().contains(name)) {
        return Err(unknown(name));
    }
    let stops = |name: &str| stop_after == Some(name);
    let mut module = module;
    for pass in GRAPH_PASSES {
        let stage = Stage::Module(apply(pass, module, cx)?);
        observe(pass.name, &stage);
        if stops(pass.name) {
            return Ok(stage);
        }
        let Stage::Module(next) = stage else { unreachable!("passes over graphs make graphs") };
        module = next;
    }
    let mut draft = lower::lower(&module, cx)?;
    for name in [lower::NAME, schedule::NAME] {
        if name == schedule::NAME {
            draft = schedule::schedule(draft);
        }
        let stage = Stage::Program(Box::new(draft.program.clone()));
        observe(name, &stage);
        if stops(name) {
            return Ok(stage);
        }
    }
    let stage = Stage::Program(Box::new(memory_plan::plan(draft)));
    observe(memory_plan::NAME, &stage);
    Ok(stage)
}
