//! A part of a plan: what the ranks of stages that run the same have and do.
//!
//! Steps of the program become calls on tensors. A launch is its kernel's calls; a loop over layers stays one, with layers
//! at `layer * pitch`; what differs by rank, its place along an axis, is a name. Values of the program's arena stay where
//! the memory plan put them; what an operation needs for itself lies in an arena that the next one uses anew, since a
//! stream runs in order.

mod memory;

use memory::{layers, most, settle};

use super::exchange;
use super::kernel::{self, Calls};
use bloomery_artifact::plan::{Arena, Content, PlanBuffer, PlanEntry, PlanPart, WORLD};
use bloomery_ir::ascend::{
    AclTensor, AclType, Arg, Call, Chip, Event, Exchange, Lowering, Operand, Over, Step, Stream, Sum,
};
use bloomery_ir::program::{Collective, Entry, Launch, Place, Program, Step as ProgramStep, View};
use bloomery_ir::target::Refusal;
use bloomery_ir::{Bindings, Op, SymbolBound};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What the ranks of some stages have and do.
///
/// # Errors
/// As [`plan`](super::plan()).
pub(super) fn part(program: &Program, chip: Chip, int8: bool, stages: Range<u64>) -> Result<PlanPart, Refusal> {
    let layers = match program.stages.get(stages.start as usize) {
        Some(layers) => layers.end - layers.start,
        None => layers(program),
    };
    let io = Traffic::of(program);
    let mut part = Part { program, chip, int8, layers, buffers: vec![], places: BTreeMap::new(), io };
    let mut entries = vec![];
    for entry in &program.entries {
        if let Some(steps) = steps_of(entry, &stages) {
            let before = (stages.start > 0).then(|| steps_of(entry, &(stages.start - 1..stages.start))).flatten();
            entries.extend(part.entries(entry, steps, before)?);
        }
    }
    Ok(settle(part.buffers, PlanPart { stages, layers, arenas: vec![], buffers: vec![], entries }))
}

/// The event of inputs that have gone to the device.
const GONE: Event = Event(1);

/// Whether a step reads what lies there before it writes something else there; `None` where it does neither.
fn reads_first(step: &ProgramStep, view: &View) -> Option<bool> {
    let there = |other: &View| other.place == view.place;
    let own = step.reads().iter().any(there).then_some(true).or(step.writes().iter().any(there).then_some(false));
    own.or_else(|| step.inside().iter().find_map(|step| reads_first(step, view)))
}

/// Ranks that a product and its sum are one call for: those of one server, as documents of calls like it say.
const SUMMED: [u64; 3] = [2, 4, 8];

/// A part in the making.
struct Part<'a> {
    program: &'a Program,
    chip: Chip,
    int8: bool,
    layers: u64,
    buffers: Vec<PlanBuffer>,
    /// Numbers of the buffers that places have.
    places: BTreeMap<String, usize>,
    io: Traffic,
}

/// Which inputs and outputs the host gives and gets.
struct Traffic {
    read: BTreeSet<usize>,
    written: BTreeSet<usize>,
}

impl<'a> Part<'a> {
    /// An entry, and where its scores could be used up on the device, the same with a token chosen there.
    fn entries(
        &mut self,
        entry: &Entry,
        steps: &[ProgramStep],
        before: Option<&[ProgramStep]>,
    ) -> Result<Vec<PlanEntry>, Refusal> {
        let bounds = self.bounds(entry);
        let mut scope = Scope { entry, most: most(self.program, &bounds, self.layers), views: BTreeMap::new() };
        let mut made = self.inputs(steps, &scope)?;
        // Whoever writes the host's inputs anew waits until they have gone, which this entry's calls need not wait for.
        let gone = (!made.is_empty()).then_some(GONE);
        made.extend(gone.map(|event| Step::Record(event, Stream::Compute)));
        for view in before.into_iter().flatten().filter_map(sent) {
            let from = self.tensor(view, &scope)?;
            made.push(Step::Exchange { what: Exchange::Receive, among: WORLD.to_owned(), from, to: None });
        }
        made.extend(self.steps(steps, &mut scope)?);
        let awaited = gone.map(Step::Await);
        let named = |group: &str, steps| {
            let range = format!("{}_{}", entry.least, entry.most);
            let (name, group, rows) = (format!("{group}_{range}"), group.to_owned(), entry.rows.clone());
            let bounds = bounds.clone();
            PlanEntry { name, group, rows, least: entry.least, most: entry.most, bounds, steps }
        };
        let Some(output) = self.output(steps) else {
            made.extend(awaited);
            return Ok(vec![named(&entry.group, made)]);
        };
        let scores = self.tensor(output, &scope)?;
        let chosen = self.chosen(&scores)?;
        let (full, greedy) = (to_host(scores.clone()), to_host(chosen.clone()));
        let args = [scores.into(), Arg::Int(-1), Arg::Flag(false), chosen.into()];
        let choose =
            Step::Call(Call { name: "aclnnArgMax".to_owned(), args: args.into(), op: "greedy choice".to_owned() });
        let greedy = made.iter().cloned().chain([choose]).chain(greedy).chain(awaited.clone()).collect();
        let full = made.into_iter().chain(full).chain(awaited).collect();
        Ok(vec![named(&entry.group, full), named(&format!("{}_greedy", entry.group), greedy)])
    }

    /// Names with their largest values in a call of an entry.
    fn bounds(&self, entry: &Entry) -> Vec<(String, u64)> {
        let most = |symbol: &SymbolBound| if symbol.name == entry.rows { entry.most } else { symbol.most };
        self.program.symbols.iter().map(|symbol| (symbol.name.clone(), most(symbol))).collect()
    }

    /// Inputs on their way to the device.
    fn inputs(&mut self, steps: &[ProgramStep], scope: &Scope<'_>) -> Result<Vec<Step>, Refusal> {
        let mut views: BTreeMap<usize, &View> = BTreeMap::new();
        visit(steps, &mut |step| {
            for view in step.reads() {
                if let Place::Io(io) = view.place {
                    views.entry(io).or_insert(view);
                }
            }
        });
        views.retain(|io, _| !self.io.written.contains(io));
        views.into_values().map(|view| Ok(Step::FromHost { to: self.tensor(view, scope)? })).collect()
    }

    /// What an entry makes for the host alone.
    fn output<'s>(&self, steps: &'s [ProgramStep]) -> Option<&'s View> {
        let mut found = None;
        visit(steps, &mut |step| {
            for view in step.writes() {
                if matches!(view.place, Place::Io(io) if !self.io.read.contains(&io)) {
                    found = Some(view);
                }
            }
        });
        found
    }

    /// Memory of the tokens chosen by these scores.
    fn chosen(&mut self, scores: &AclTensor) -> Result<AclTensor, Refusal> {
        let rows = scores.dims[0].clone();
        let most = self.program.symbols.iter().map(|symbol| (symbol.name.clone(), symbol.most)).collect();
        let bytes = 4 * rows.eval(&most).map_err(|error| Refusal(error.to_string()))?;
        let io = Content::Io;
        let buffer = self.buffer("chosen", || PlanBuffer::new("chosen", Arena::Io, 0, bytes, 1, io));
        Ok(AclTensor::whole(buffer, Sum::default(), AclType::I32, vec![rows]))
    }

    fn steps(&mut self, steps: &[ProgramStep], scope: &mut Scope<'_>) -> Result<Vec<Step>, Refusal> {
        let mut made = vec![];
        let mut rest = steps;
        while let [step, after @ ..] = rest {
            rest = after;
            if let Some(fused) = self.product_and_sum(step, after, scope)? {
                made.extend(fused);
                rest = &after[1..];
                continue;
            }
            match step {
                ProgramStep::Launch(launch) => made.extend(self.launch(launch, scope)?),
                ProgramStep::Loop { from, to, reverse: false, steps } => {
                    let steps = self.steps(steps, scope)?;
                    made.push(Step::Loop { over: Over::Layers { from: *from, to: *to }, steps });
                }
                ProgramStep::Loop { reverse: true, .. } => return Err(Refusal("a plan's loops go forward".into())),
                ProgramStep::Copy { from, to } => {
                    let [from, to] = [self.tensor(from, scope)?, self.written(to, scope)?];
                    made.push(copy(from, to));
                }
                ProgramStep::Collective { what, over, from, to } => {
                    let [from, to] = [self.tensor(from, scope)?, self.written(to, scope)?];
                    let ranks = self.program.mesh.size(over).expect("it is an axis");
                    let first = self.buffers.len();
                    let (steps, needs) = exchange::steps(*what, over, ranks, from, to, first);
                    made.extend(self.provided(steps, &needs, first, scope)?);
                }
                ProgramStep::Send { what } => {
                    let from = self.tensor(what, scope)?;
                    made.push(Step::Exchange { what: Exchange::Send, among: WORLD.to_owned(), from, to: None });
                }
                ProgramStep::Stage { .. } => unreachable!("a stage's steps have no stages"),
            }
        }
        Ok(made)
    }

    fn launch(&mut self, launch: &Launch, scope: &mut Scope<'_>) -> Result<Vec<Step>, Refusal> {
        let kernel = &self.program.kernels[launch.kernel];
        let inputs = self.operands(launch, scope)?;
        let outputs = launch.outputs.iter().map(|view| self.written(view, scope)).collect::<Result<Vec<_>, _>>()?;
        let fixed = inputs.iter().all(|input| match input {
            Operand::Tensor(tensor) => self.is_fixed(tensor),
            Operand::Place(_) => true,
        });
        let first = self.buffers.len();
        let named = |refusal: Refusal| Refusal(format!("`{}`: {}", kernel.name, refusal.0));
        let calls = kernel::calls(&kernel.graph, inputs, &outputs, &self.cx(scope, first)).map_err(named)?;
        let Calls { mut steps, needs, views } = calls;
        for ((view, made), output) in launch.outputs.iter().zip(views).zip(outputs) {
            match (view.place, made) {
                // A part of what never changes is looked at where it is.
                (Place::Arena { .. }, Some(made)) if fixed => _ = scope.views.insert(key(view), made),
                (_, Some(made)) if made != output => steps.push(copy(made, output)),
                _ => {}
            }
        }
        self.provided(steps, &needs, first, scope)
    }

    fn cx<'s>(&self, scope: &'s Scope<'_>, first: usize) -> kernel::Cx<'s> {
        kernel::Cx { chip: self.chip, int8: self.int8, most: &scope.most, first }
    }

    fn operands(&mut self, launch: &Launch, scope: &Scope<'_>) -> Result<Vec<Operand>, Refusal> {
        let axes = &self.program.mesh.axes;
        let operand = |part: &mut Self, view: &View| match view.place {
            Place::Coordinate(axis) => Ok(Operand::Place(Sum::symbol(&axes[axis].0))),
            _ => part.tensor(view, scope).map(Operand::Tensor),
        };
        launch.inputs.iter().map(|view| operand(self, view)).collect()
    }

    /// A product whose one reader is the sum over ranks, where the chip does both at once.
    fn product_and_sum(
        &mut self,
        step: &ProgramStep,
        after: &[ProgramStep],
        scope: &mut Scope<'_>,
    ) -> Result<Option<Vec<Step>>, Refusal> {
        let (ProgramStep::Launch(launch), Some(ProgramStep::Collective { what: Collective::Sum, over, from, to })) =
            (step, after.first())
        else {
            return Ok(None);
        };
        let kernel = &self.program.kernels[launch.kernel].graph;
        let [node] = &kernel.nodes[..] else { return Ok(None) };
        let Op::MatMul(product) = &node.op else { return Ok(None) };
        let again = after[1..].iter().find_map(|step| reads_first(step, from)).unwrap_or(false);
        let ranks = self.program.mesh.size(over).expect("it is an axis");
        if launch.outputs[..] != [from.clone()] || again || !SUMMED.contains(&ranks) {
            return Ok(None);
        }
        let (inputs, output) = (self.operands(launch, scope)?, self.written(to, scope)?);
        let first = self.buffers.len();
        let entry = |_: usize, io: &mut Lowering<'_>| product.ascend_with_sum(over, io);
        match kernel::calls_by(kernel, inputs, &[output], &self.cx(scope, first), &entry) {
            Ok(Calls { steps, needs, .. }) => self.provided(steps, &needs, first, scope).map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// What some stages do of an entry.
fn steps_of<'a>(entry: &'a Entry, stages: &Range<u64>) -> Option<&'a [ProgramStep]> {
    let staged = |step: &ProgramStep| matches!(step, ProgramStep::Stage { .. });
    if !entry.steps.iter().any(staged) {
        return Some(&entry.steps);
    }
    entry.steps.iter().find_map(|step| match step {
        ProgramStep::Stage { stages: of, steps } if of.contains(&stages.start) => Some(&steps[..]),
        _ => None,
    })
}

impl Traffic {
    fn of(program: &Program) -> Traffic {
        let mut traffic = Traffic { read: BTreeSet::new(), written: BTreeSet::new() };
        let io = |view: &View| if let Place::Io(io) = view.place { Some(io) } else { None };
        for entry in &program.entries {
            visit(&entry.steps, &mut |step| {
                // What stages hand on is made on the device, whoever reads it there.
                traffic.read.extend(step.reads().iter().filter_map(io));
                traffic.written.extend(step.writes().iter().filter_map(io));
            });
        }
        // Tables of sequences are the host's: it goes through them itself.
        traffic.written.extend(["rows", "pages"].iter().filter_map(|name| program.io(name)));
        traffic
    }
}

/// One entry in the making.
struct Scope<'a> {
    entry: &'a Entry,
    /// Largest values of all names.
    most: Bindings,
    /// Values of the arena that are parts of what never changes.
    views: BTreeMap<String, AclTensor>,
}

fn key(view: &View) -> String {
    match view.place {
        Place::Arena { offset, .. } => format!("{offset}"),
        _ => String::new(),
    }
}

fn visit<'s>(steps: &'s [ProgramStep], each: &mut dyn FnMut(&'s ProgramStep)) {
    for step in steps {
        each(step);
        visit(step.inside(), each);
    }
}

fn sent(step: &ProgramStep) -> Option<&View> {
    match step {
        ProgramStep::Send { what } => Some(what),
        _ => None,
    }
}

/// Bytes where both lie alike, else a call that knows strides and types.
fn copy(from: AclTensor, to: AclTensor) -> Step {
    if from.is_contiguous() && to.is_contiguous() && from.dtype == to.dtype {
        return Step::Copy { from, to };
    }
    Step::Call(Call::copy(&to, &from, "copy"))
}

/// The host gets a tensor when the compute stream has made it, and waits for it.
fn to_host(from: AclTensor) -> [Step; 4] {
    let made = Event(0);
    [
        Step::Record(made, Stream::Compute),
        Step::Wait(made, Stream::Transfer),
        Step::ToHost { from },
        Step::Fence(Stream::Transfer),
    ]
}
