//! The plan of a program: for each stage that runs something of its own, buffers and steps.
//!
//! Steps of the program become calls on tensors. A launch is its kernel's calls; a loop over layers stays one, with layers
//! at `layer * pitch`; what differs by rank, its place along an axis, is a name. Values of the program's arena stay where
//! the memory plan put them; what an operation needs for itself lies in an arena that the next one uses anew, since a
//! stream runs in order.

use super::chips::facts;
use super::exchange;
use super::kernel::{self, Calls, dtype_and_dims};
use bloomery_artifact::plan::{
    Arena, ArenaSize, CallPlan, Communicator, Content, PlanBuffer, PlanEntry, PlanPart, WORLD, padded,
};
use bloomery_ir::ascend::{AclTensor, AclType, Arg, Chip, Event, Exchange, Need, Operand, Over, Step, Stream, Sum};
use bloomery_ir::program::{Collective, Entry, Launch, Place, Step as ProgramStep, View};
use bloomery_ir::target::Refusal;
use bloomery_ir::{Bindings, Op, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Plans a program that was made for this chip's target; `int8`: weights of products are kept in 8 bits, with a factor for
/// each column.
///
/// # Errors
/// A kernel without entry, with its name; what a plan cannot say.
pub fn plan(program: &Program, chip: Chip, int8: bool) -> Result<CallPlan, Refusal> {
    let parts = stage_ranges(program).into_iter().map(|stages| Part::of(program, chip, int8, stages));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let soc = facts(chip).soc.iter().map(|&name| name.to_owned()).collect();
    let (model, mesh, replicas) = (program.name.clone(), program.mesh.clone(), program.replicas);
    let communicators = communicators(program, &parts);
    let mut plan =
        CallPlan { model, chip, soc, cann: CANN.to_owned(), symbols: vec![], mesh, replicas, communicators, parts };
    plan.symbols = bloomery_artifact::plan::check::symbols(&plan).into_iter().collect();
    Ok(plan)
}

/// The version whose headers and kernels every call of a plan was looked for in.
const CANN: &str = "8.1";

/// Neighbouring stages that run the same.
fn stage_ranges(program: &Program) -> Vec<Range<u64>> {
    let ranges = program.entries.iter().flat_map(|entry| &entry.steps).filter_map(|step| match step {
        ProgramStep::Stage { stages, .. } => Some(stages.clone()),
        _ => None,
    });
    let mut cuts: BTreeSet<u64> = ranges.flat_map(|range| [range.start, range.end]).collect();
    if cuts.is_empty() {
        // Without stages every rank is in the first.
        cuts.extend([0, 1]);
    }
    let cuts: Vec<u64> = cuts.into_iter().collect();
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
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

/// Groups of ranks along every axis that is used, and all ranks where stages hand something on.
fn communicators(program: &Program, parts: &[PlanPart]) -> Vec<Communicator> {
    let mut used = BTreeSet::new();
    let steps = parts.iter().flat_map(|part| &part.entries).flat_map(|entry| &entry.steps);
    steps.for_each(|step| names_of_groups(step, &mut used));
    let mesh = &program.mesh;
    let groups = |name: &str| -> Vec<Vec<u64>> {
        if name == WORLD {
            return vec![(0..mesh.ranks()).collect()];
        }
        let all: BTreeSet<Vec<u64>> = (0..mesh.ranks()).map(|rank| mesh.group(rank, name)).collect();
        all.into_iter().collect()
    };
    used.into_iter().map(|name| Communicator { groups: groups(&name), name }).collect()
}

fn names_of_groups(step: &Step, used: &mut BTreeSet<String>) {
    match step {
        Step::Exchange { among, .. } => _ = used.insert(among.clone()),
        Step::Call(call) => call.args.iter().for_each(|arg| {
            if let Arg::Group(name) = arg {
                used.insert(name.clone());
            }
        }),
        step => step.inside().iter().for_each(|step| names_of_groups(step, used)),
    }
}

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
    fn of(program: &'a Program, chip: Chip, int8: bool, stages: Range<u64>) -> Result<PlanPart, Refusal> {
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
        for view in before.into_iter().flatten().filter_map(sent) {
            let from = self.tensor(view, &scope)?;
            made.push(Step::Exchange { what: Exchange::Receive, among: WORLD.to_owned(), from, to: None });
        }
        made.extend(self.steps(steps, &mut scope)?);
        let named = |group: &str, steps| {
            let range = format!("{}_{}", entry.least, entry.most);
            let (name, group, rows) = (format!("{group}_{range}"), group.to_owned(), entry.rows.clone());
            let bounds = bounds.clone();
            PlanEntry { name, group, rows, least: entry.least, most: entry.most, bounds, steps }
        };
        let Some(output) = self.output(steps) else { return Ok(vec![named(&entry.group, made)]) };
        let scores = self.tensor(output, &scope)?;
        let chosen = self.chosen(&scores)?;
        let (full, greedy) = (to_host(scores.clone()), to_host(chosen.clone()));
        let args = [scores.into(), Arg::Int(-1), Arg::Flag(false), chosen.into()];
        let choose = Step::Call(bloomery_ir::ascend::Call {
            name: "aclnnArgMax".to_owned(),
            args: args.into(),
            op: "greedy choice".to_owned(),
        });
        let greedy = made.iter().cloned().chain([choose]).chain(greedy).collect();
        let full = made.into_iter().chain(full).collect();
        Ok(vec![named(&entry.group, full), named(&format!("{}_greedy", entry.group), greedy)])
    }

    /// Names with their largest values in a call of an entry.
    fn bounds(&self, entry: &Entry) -> Vec<(String, u64)> {
        let most = |symbol: &bloomery_ir::SymbolBound| if symbol.name == entry.rows { entry.most } else { symbol.most };
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
            if let Some(fused) = self.product_and_sum(step, after.first(), scope)? {
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
                    let [from, to] = [self.tensor(from, scope)?, self.tensor(to, scope)?];
                    made.push(copy(from, to));
                }
                ProgramStep::Collective { what, over, from, to } => {
                    let [from, to] = [self.tensor(from, scope)?, self.tensor(to, scope)?];
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
        let outputs = launch.outputs.iter().map(|view| self.tensor(view, scope)).collect::<Result<Vec<_>, _>>()?;
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
                _ => _ = scope.views.remove(&key(view)),
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
        next: Option<&ProgramStep>,
        scope: &mut Scope<'_>,
    ) -> Result<Option<Vec<Step>>, Refusal> {
        let (ProgramStep::Launch(launch), Some(ProgramStep::Collective { what: Collective::Sum, over, from, to })) =
            (step, next)
        else {
            return Ok(None);
        };
        let kernel = &self.program.kernels[launch.kernel].graph;
        let [node] = &kernel.nodes[..] else { return Ok(None) };
        let Op::MatMul(product) = &node.op else { return Ok(None) };
        if launch.outputs[..] != [from.clone()] {
            return Ok(None);
        }
        let (inputs, output) = (self.operands(launch, scope)?, self.tensor(to, scope)?);
        let first = self.buffers.len();
        let entry = |_: usize, io: &mut bloomery_ir::ascend::Lowering<'_>| product.ascend_with_sum(over, io);
        match kernel::calls_by(kernel, inputs, &[output], &self.cx(scope, first), &entry) {
            Ok(Calls { steps, needs, .. }) => self.provided(steps, &needs, first, scope).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Steps with memory for what they need; `first` is the number their first need has in them.
    fn provided(
        &mut self,
        mut steps: Vec<Step>,
        needs: &[Need],
        first: usize,
        scope: &Scope<'_>,
    ) -> Result<Vec<Step>, Refusal> {
        let mut offset = 0;
        // The buffer of each, and where in it the storage begins.
        let mut found: Vec<(usize, Sum)> = vec![];
        for need in needs {
            let number = match need {
                Need::Temporary(dtype, dims) => {
                    let most = Sum::product(dims).eval(&scope.most).map_err(|error| Refusal(error.to_string()))?;
                    let bytes = most * dtype.bytes();
                    let name = format!("t{}", self.buffers.len());
                    self.buffers.push(PlanBuffer::new(&name, Arena::Temporaries, offset, bytes, 1, Content::Scratch));
                    offset += padded(bytes);
                    self.buffers.len() - 1
                }
                Need::Distances { slopes, rows, reach, dtype } => self.distances(slopes, *rows, *reach, *dtype)?,
                Need::Int8(weight) => {
                    found.push(self.narrowed(weight, AclType::I8)?);
                    continue;
                }
                Need::Factors(weight) => {
                    found.push(self.narrowed(weight, weight.dtype)?);
                    continue;
                }
            };
            found.push((number, Sum::default()));
        }
        let mut renumber = |tensor: &mut AclTensor| {
            if tensor.buffer >= first {
                let (buffer, base) = found[tensor.buffer - first].clone();
                tensor.base = tensor.base.plus(&base);
                tensor.buffer = buffer;
            }
        };
        steps.iter_mut().for_each(|step| step.change_tensors(&mut renumber));
        Ok(steps)
    }

    /// A weight in 8 bits, or of another type the factors of its columns; and the way from layer to layer.
    fn narrowed(&mut self, weight: &AclTensor, dtype: AclType) -> Result<(usize, Sum), Refusal> {
        let whole = &self.buffers[weight.buffer];
        let (of, layers) = (whole.name.clone(), whole.layers);
        let number = |sum: &Sum| sum.as_number().ok_or_else(|| Refusal(format!("%{of} has no number of columns")));
        let (rows, columns) = (number(&weight.dims[0])?, number(&weight.dims[1])?);
        let (name, bytes, content) = if dtype == AclType::I8 {
            (format!("{of}.int8"), rows * columns, Content::Int8 { of: of.clone(), columns })
        } else {
            (format!("{of}.factors"), columns * dtype.bytes(), Content::Factors { of: of.clone(), columns, dtype })
        };
        let buffer = self.buffer(&name, || PlanBuffer::new(&name, Arena::Weights, 0, bytes, layers, content));
        let pitch = Sum::number(if layers > 1 { self.buffers[buffer].pitch() } else { 0 });
        Ok((buffer, Sum::symbol("layer").times(&pitch)))
    }

    /// The table that ALiBi's slopes make.
    fn distances(&mut self, slopes: &AclTensor, rows: u64, reach: u64, dtype: AclType) -> Result<usize, Refusal> {
        let name = self.buffers[slopes.buffer].name.clone();
        let constant = self.program.parameters.iter().find(|parameter| parameter.name == name);
        let values = constant.and_then(|constant| constant.origin.literal());
        let values = values.ok_or_else(|| Refusal("slopes of attention are not known when compiling".into()))?;
        let heads = slopes.dims[0].as_number().ok_or_else(|| Refusal("heads have no number".into()))?;
        let over = slopes.offset.names().next().map(str::to_owned);
        let content = Content::Distances { slopes: values.to_vec(), over, heads, rows, reach, dtype };
        if let Some(known) = self.buffers.iter().position(|buffer| buffer.content == content) {
            return Ok(known);
        }
        let bytes = heads * rows * (reach + rows) * dtype.bytes();
        let name = format!("distances_{rows}");
        Ok(self.buffer(&name, || PlanBuffer::new(&name, Arena::Weights, 0, bytes, 1, content)))
    }

    /// Whether a tensor lies in what never changes.
    fn is_fixed(&self, tensor: &AclTensor) -> bool {
        self.buffers[tensor.buffer].content == Content::Parameter
    }

    /// The tensor that a view of the program is.
    fn tensor(&mut self, view: &View, scope: &Scope<'_>) -> Result<AclTensor, Refusal> {
        if let (Place::Arena { .. }, Some(known)) = (view.place, scope.views.get(&key(view))) {
            return Ok(known.clone());
        }
        let (dtype, dims) = dtype_and_dims(&view.ty)?;
        let bytes = Sum::product(&dims).eval(&scope.most).map_err(|error| Refusal(error.to_string()))? * dtype.bytes();
        let layer = Sum::symbol("layer");
        let (buffer, step) = match view.place {
            Place::Arena { offset, stride } => {
                let name = format!("{}.{offset}.{bytes}", scope.entry.name);
                let count = stride.checked_div(stride).map_or(1, |_| self.layers);
                let number = self.buffers.len();
                let new =
                    || PlanBuffer::new(&format!("v{number}"), Arena::Values, offset, bytes, count, Content::Scratch);
                (self.buffer(&name, new), stride)
            }
            Place::Parameter(i) => {
                let parameter = &self.program.parameters[i];
                self.kept(&parameter.name, parameter.stacked, view, Arena::Weights, Content::Parameter, scope)?
            }
            Place::State(i) => {
                let name = &self.program.states[i].name;
                self.kept(name, true, view, Arena::Cache, Content::State, scope)?
            }
            Place::Io(i) => {
                let name = &self.program.ios[i].name;
                self.kept(name, false, view, Arena::Io, Content::Io, scope)?
            }
            Place::Coordinate(_) => return Err(Refusal("a rank's place is a number, not a tensor".into())),
        };
        let base = if view.per_layer { layer.times(&step.into()) } else { Sum::default() };
        Ok(AclTensor::whole(buffer, base, dtype, dims))
    }

    /// Memory that is there for longer than a call, and the way from layer to layer.
    fn kept(
        &mut self,
        name: &str,
        stacked: bool,
        view: &View,
        arena: Arena,
        content: Content,
        scope: &Scope<'_>,
    ) -> Result<(usize, u64), Refusal> {
        if stacked && !view.per_layer {
            return Err(Refusal(format!("%{name} is used layer by layer, not as a whole")));
        }
        // Of all entries: the largest that any has.
        let most: Bindings = self.program.symbols.iter().map(|symbol| (symbol.name.clone(), symbol.most)).collect();
        let most = scope.most.iter().map(|(name, value)| (name.clone(), *value)).chain(most).collect();
        let elements = view.ty.elements(&most).map_err(|error| Refusal(error.to_string()))?;
        let (bytes, layers) = (view.ty.dtype.bytes(elements), if stacked { self.layers } else { 1 });
        let buffer = self.buffer(name, || PlanBuffer::new(name, arena, 0, bytes, layers, content));
        Ok((buffer, self.buffers[buffer].pitch()))
    }

    fn buffer(&mut self, name: &str, new: impl FnOnce() -> PlanBuffer) -> usize {
        if let Some(known) = self.places.get(name) {
            return *known;
        }
        self.buffers.push(new());
        self.places.insert(name.to_owned(), self.buffers.len() - 1);
        self.buffers.len() - 1
    }
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

/// Largest values of all names: symbols, places along axes, and what loops give values to.
fn most(program: &Program, bounds: &[(String, u64)], layers: u64) -> Bindings {
    let mut most: Bindings = bounds.iter().cloned().collect();
    most.extend(program.mesh.axes.iter().map(|(axis, size)| (axis.clone(), size - 1)));
    let rows = program.symbols.first().map_or(1, |symbol| most[&symbol.name] * program.mesh.ranks());
    let reach = program.states.first().and_then(|state| state.ty.dims.get(4)?.extent.as_number()).unwrap_or(1);
    let of_loops = [
        ("layer", layers),
        ("start", rows),
        ("length", rows),
        ("first", reach),
        ("page", most.get("C").copied().unwrap_or(1)),
        ("from", rows),
        ("rows", rows.min(bloomery_ir::ascend::BLOCK_ROWS)),
        ("context", reach),
        ("ahead", reach),
    ];
    most.extend(of_loops.map(|(name, value)| (name.to_owned(), value)));
    most
}

fn layers(program: &Program) -> u64 {
    let stacked = program.parameters.iter().filter(|parameter| parameter.stacked);
    stacked.filter_map(|parameter| parameter.ty.dims[0].extent.as_number()).max().unwrap_or(1)
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
    let args = vec![to.into(), from.into()];
    Step::Call(bloomery_ir::ascend::Call { name: "aclnnInplaceCopy".to_owned(), args, op: "copy".to_owned() })
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

/// A part with the buffers that are used, each in its place.
fn settle(buffers: Vec<PlanBuffer>, mut part: PlanPart) -> PlanPart {
    let mut used = BTreeSet::new();
    let steps = |part: &mut PlanPart, change: &mut dyn FnMut(&mut AclTensor)| {
        part.entries.iter_mut().flat_map(|entry| &mut entry.steps).for_each(|step| step.change_tensors(change));
    };
    steps(&mut part, &mut |tensor| _ = used.insert(tensor.buffer));
    let numbers: BTreeMap<usize, usize> = used.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    steps(&mut part, &mut |tensor| tensor.buffer = numbers[&tensor.buffer]);
    let mut ends: BTreeMap<Arena, u64> = BTreeMap::new();
    for mut buffer in buffers.into_iter().enumerate().filter(|(i, _)| used.contains(i)).map(|(_, buffer)| buffer) {
        let end = ends.entry(buffer.arena).or_insert(0);
        if buffer.content != Content::Scratch {
            buffer.offset = *end;
        }
        *end = buffer.range().end.max(*end);
        part.buffers.push(buffer);
    }
    for (number, buffer) in part.buffers.iter_mut().enumerate().filter(|(_, buffer)| buffer.content == Content::Scratch)
    {
        let letter = if buffer.arena == Arena::Values { 'v' } else { 't' };
        buffer.name = format!("{letter}{number}");
    }
    ends.insert(Arena::Workspace, super::reach::workspace(&part));
    part.arenas = ends.into_iter().map(|(arena, bytes)| ArenaSize { arena, bytes }).collect();
    part
}
