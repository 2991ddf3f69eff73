//! From grouped graphs to a program: kernels specialised by range of rows, steps on views of memory.
//!
//! Each graph that callers enter becomes one entry point per range of its rows. A call becomes a launch, a repeat a
//! loop whose views move along the layers. A repeat's carry has one buffer: the last step of the body writes it in
//! place when nothing reads the old value later, else it is copied. Arena views leave here with the number of their
//! buffer in place of an offset; `memory_plan` gives them one.
//!
//! Stages of a pipeline follow one another in an entry: what each does is a step of it, with what it hands on at its end.
//!
//! Ranks run one program: extents are numbers from here on ([`bind`](crate::bind)), collectives are steps, and a rank's place on
//! the mesh is a number that its kernels read.

use crate::bind::{Numbers, bound_module};
use crate::cut;
use crate::layouts::{self, Layouts};
use crate::pass::{Context, PassError};
use bloomery_ir::extent::{Bindings, Extent};
use bloomery_ir::graph::{Graph, Module, Node, Role, SymbolBound, ValueId};
use bloomery_ir::layout::Layout;
use bloomery_ir::ops::{Op, constant::Constant, repeat::Repeat};
use bloomery_ir::program::{
    Buffer, Collective, Entry, Interface, Kernel, KernelKind, Launch, Origin, Parameter, Place, Program, Step, View,
};
use bloomery_ir::target::Target;
use bloomery_ir::types::TensorType;
use bloomery_ir::verify::consumed_by;
use std::collections::BTreeMap;
use std::ops::Range;

/// Name of the pass.
pub(crate) const NAME: &str = "lower";

/// A program whose arena views name buffers, and for each entry the bytes of its buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub(crate) program: Program,
    pub(crate) buffers: Vec<Vec<u64>>,
}

/// Lowers a grouped module.
pub(crate) fn lower(divided: &Module, cx: &Context<'_>) -> Result<Draft, PassError> {
    let numbers = Numbers::of(divided);
    let module = &bound_module(NAME, divided, &numbers)?;
    let layouts = Layouts::of(module, cx.entries, cx.target)?;
    let program = Program {
        name: cx.entries.first().map(|interface| interface.graph.clone()).unwrap_or_default(),
        mesh: module.mesh.clone(),
        replicas: 1,
        stages: module.stages.iter().map(|stage| stage.layers.clone()).collect(),
        symbols: widest_symbols(module, cx.entries),
        parameters: vec![],
        states: vec![],
        ios: vec![],
        kernels: vec![],
        entries: vec![],
    };
    let mut lowering =
        Lowering { module, divided, target: cx.target, layouts, draft: Draft { program, buffers: vec![] } };
    for interface in cx.entries {
        let parts = entry_parts(module, interface)?;
        let graph = parts[0].graph;
        let rows = graph.symbols.iter().find(|symbol| symbol.name == interface.rows);
        let rows = rows.ok_or_else(|| refused(graph, format!("has no symbol {} to count rows", interface.rows)))?;
        // Ranges are of all rows, of which a rank may have its share.
        let ranges = cx.target.row_ranges(rows.most.saturating_mul(numbers.ranks(&rows.name)));
        let ranges = ranges.iter().map(|(least, most)| SymbolBound::new(&rows.name, *least, *most));
        for range in ranges.filter_map(|range| numbers.bounds(&range)) {
            lowering.entry(&parts, interface, range)?;
        }
    }
    Ok(lowering.draft)
}

/// What some stages do of an entry; all of it, where there are no stages.
struct EntryPart<'a> {
    stages: Range<u64>,
    graph: &'a Graph,
    /// Names of what it returns.
    outputs: Vec<String>,
    /// How many of them, the first ones, it hands on to the next stage.
    handed_on: usize,
}

pub(crate) fn refused(graph: &Graph, message: String) -> PassError {
    PassError::Refused { pass: NAME, graph: graph.name.clone(), message }
}

fn entry_parts<'a>(module: &'a Module, interface: &Interface) -> Result<Vec<EntryPart<'a>>, PassError> {
    let parts = module.parts(&interface.graph);
    let Some((_, last)) = parts.last() else {
        let (graph, message) = (interface.graph.clone(), "is an entry, but there is no such graph".to_owned());
        return Err(PassError::Refused { pass: NAME, graph, message });
    };
    if last.outputs.len() != interface.outputs.len() {
        let (found, named) = (last.outputs.len(), interface.outputs.len());
        return Err(refused(last, format!("returns {found} values, its interface names {named}")));
    }
    let part = |(i, (stages, graph)): (usize, &(Range<u64>, &'a Graph))| {
        let next = parts.get(i + 1).map(|(_, graph)| *graph);
        let (outputs, handed_on) = cut::outputs(interface, graph, next);
        EntryPart { stages: stages.clone(), graph, outputs, handed_on }
    };
    Ok(parts.iter().enumerate().map(part).collect())
}

/// All names of the entries, with the widest bounds anyone gives them.
fn widest_symbols(module: &Module, entries: &[Interface]) -> Vec<SymbolBound> {
    let mut widest: Vec<SymbolBound> = vec![];
    let parts = entries.iter().flat_map(|interface| module.parts(&interface.graph));
    for symbol in parts.flat_map(|(_, graph)| &graph.symbols) {
        match widest.iter_mut().find(|known| known.name == symbol.name) {
            Some(known) => {
                known.least = known.least.min(symbol.least);
                known.most = known.most.max(symbol.most);
            }
            None => widest.push(symbol.clone()),
        }
    }
    widest
}

struct Lowering<'a> {
    /// In numbers.
    module: &'a Module,
    /// With the names of axes.
    divided: &'a Module,
    target: &'a dyn Target,
    layouts: Layouts<'a>,
    draft: Draft,
}

/// One entry point in the making.
struct Scope<'a> {
    graph: &'a Graph,
    /// The range of rows, replacing the bounds of that symbol.
    range: SymbolBound,
    /// Memory of the values so far.
    views: BTreeMap<ValueId, View>,
}

impl<'a> Lowering<'a> {
    fn entry(&mut self, parts: &[EntryPart<'a>], interface: &Interface, range: SymbolBound) -> Result<(), PassError> {
        self.draft.buffers.push(vec![]);
        let mut steps = vec![];
        for part in parts {
            let of_part = self.part(part, &range)?;
            if self.module.stages.is_empty() {
                steps = of_part;
            } else {
                steps.push(Step::Stage { stages: part.stages.clone(), steps: of_part });
            }
        }
        let name = format!("{}_{}_{}", interface.graph, range.least, range.most);
        let (group, rows) = (interface.graph.clone(), range.name.clone());
        let (least, most) = (range.least, range.most);
        self.draft.program.entries.push(Entry { name, group, rows, least, most, arena_bytes: 0, steps });
        Ok(())
    }

    fn part(&mut self, part: &EntryPart<'a>, range: &SymbolBound) -> Result<Vec<Step>, PassError> {
        let EntryPart { graph, outputs, handed_on, .. } = part;
        let mut scope = Scope { graph, range: range.clone(), views: BTreeMap::new() };
        for (i, input) in graph.inputs.iter().enumerate() {
            let view = self.input_view(graph, ValueId(i as u32), &input.name);
            scope.views.insert(ValueId(i as u32), view);
        }
        let outputs: Vec<(ValueId, View)> = self.output_views(graph, outputs)?;
        let mut steps = self.steps(&mut scope, &outputs)?;
        for (value, view) in &outputs {
            self.copy_unless_there(&mut steps, &scope.views[value], view);
        }
        steps.extend(outputs.into_iter().take(*handed_on).map(|(_, what)| Step::Send { what }));
        Ok(steps)
    }

    fn copy_unless_there(&self, steps: &mut Vec<Step>, from: &View, to: &View) {
        if from.place != to.place {
            steps.push(Step::Copy { from: from.clone(), to: to.clone() });
        }
    }

    /// The type of an input: with all layers of the model, of which a stage has some.
    fn of_all_stages(&self, ty: &TensorType, stacked: bool) -> TensorType {
        let mut ty = ty.clone();
        if let (Some(layers), true) = (self.draft.program.staged_layers(), stacked) {
            ty.dims[0].extent = Extent::number(layers);
        }
        ty
    }

    /// Memory of an input of an entry.
    fn input_view(&mut self, graph: &Graph, value: ValueId, name: &str) -> View {
        let input = &graph.inputs[value.index()];
        let ty = input.ty.unnamed();
        let known = self.layouts.of_parameter(name);
        let layout = match input.role {
            Role::Parameter => known.layout.clone(),
            Role::State => self.target.cache_layout(),
            Role::Plain => Layout::RowMajor,
        };
        let buffer =
            Buffer { name: name.to_owned(), ty: input.ty.clone(), stacked: known.stacked, layout: layout.clone() };
        let place = match input.role {
            Role::Plain => Place::Io(position(&mut self.draft.program.ios, buffer)),
            Role::State => {
                let states = &mut self.draft.program.states;
                let place = position(states, Buffer { stacked: true, ..buffer });
                if layers(&states[place].ty) < layers(&ty) {
                    states[place].ty = input.ty.clone();
                }
                Place::State(place)
            }
            Role::Parameter => {
                let (name, stacked) = (buffer.name, known.stacked);
                let ty = self.of_all_stages(&buffer.ty, stacked);
                let made = self.module.weight(&name).cloned();
                let origin = made.map_or(Origin::Checkpoint, |graph| Origin::Computed(Box::new(graph)));
                let cuts =
                    self.divided.graph(&graph.name).map_or(vec![], |graph| cuts(&graph.inputs[value.index()].ty));
                let parameter = Parameter { name, ty, stacked, layout: layout.clone(), origin, cuts };
                Place::Parameter(parameter_position(&mut self.draft.program, parameter))
            }
        };
        View { place, per_layer: false, ty, layout }
    }

    /// Where an entry's outputs must end up: states where they are, the rest with the caller.
    fn output_views(&mut self, graph: &Graph, names: &[String]) -> Result<Vec<(ValueId, View)>, PassError> {
        let mut views = vec![];
        for (&value, name) in graph.outputs.iter().zip(names) {
            let ty = graph.ty(value).unnamed();
            let state = self.draft.program.states.iter().position(|state| state.name == *name);
            let view = match state {
                Some(state) => {
                    View { place: Place::State(state), per_layer: false, ty, layout: self.target.cache_layout() }
                }
                None => {
                    let buffer =
                        Buffer { name: name.clone(), ty: ty.clone(), stacked: false, layout: Layout::RowMajor };
                    let place = Place::Io(position(&mut self.draft.program.ios, buffer));
                    View { place, per_layer: false, ty, layout: Layout::RowMajor }
                }
            };
            views.push((value, view));
        }
        Ok(views)
    }

    /// The steps of a graph; values listed in `wanted` are written to those views where that is possible.
    fn steps(&mut self, scope: &mut Scope<'a>, wanted: &[(ValueId, View)]) -> Result<Vec<Step>, PassError> {
        let wanted = self.wanted_places(scope, wanted);
        let mut steps = vec![];
        for node in &scope.graph.nodes {
            match &node.op {
                Op::Constant(constant) => self.constant(scope, node, constant),
                Op::Call(call) => {
                    let kernel = self.module.graph(&call.body).expect("verified");
                    self.launch(scope, node, kernel, &wanted, &mut steps)?;
                }
                Op::Repeat(repeat) => self.repeat(scope, node, repeat, &wanted, &mut steps)?,
                Op::AxisIndex(place) => self.coordinate(scope, node, &place.axis),
                op if Collective::of(op).is_some() => steps.push(self.collective(scope, node, &wanted)),
                op => return Err(refused(scope.graph, format!("`{}` was not grouped into a kernel", op.name()))),
            }
        }
        Ok(steps)
    }

    /// The wanted places, and those of values that a repeat carries into a wanted place.
    fn wanted_places(&mut self, scope: &Scope<'a>, wanted: &[(ValueId, View)]) -> BTreeMap<ValueId, View> {
        let graph = scope.graph;
        let inputs = graph.inputs.len();
        let free =
            |value: &ValueId, views: &BTreeMap<ValueId, View>| value.index() >= inputs && !views.contains_key(value);
        let mut places: BTreeMap<ValueId, View> = BTreeMap::new();
        for (value, view) in wanted {
            if free(value, &places) {
                places.insert(*value, view.clone());
            }
        }
        let readers = graph.readers();
        for node in graph.nodes.iter().rev() {
            let Op::Repeat(repeat) = &node.op else { continue };
            for (operand, result) in node.operands.iter().zip(&node.results).take(repeat.carry) {
                let only_reader = readers[operand.index()].len() == 1 && !graph.outputs.contains(operand);
                if let (Some(view), true) = (places.get(result).cloned(), only_reader && free(operand, &places)) {
                    places.insert(*operand, view);
                }
            }
        }
        places
    }

    /// A new buffer of the entry's arena that holds `ty`, `layers` times.
    fn arena(&mut self, scope: &Scope<'_>, ty: &TensorType, layers: u64) -> View {
        let one = self.target.buffer_bytes(bytes_most(ty, &scope.graph.symbols, &scope.range));
        let buffers = self.draft.buffers.last_mut().expect("an entry is being lowered");
        buffers.push(one * layers);
        let place = Place::Arena { offset: buffers.len() as u64 - 1, stride: if layers > 1 { one } else { 0 } };
        View { place, per_layer: layers > 1, ty: ty.clone(), layout: Layout::RowMajor }
    }

    fn constant(&mut self, scope: &mut Scope<'_>, node: &Node, constant: &Constant) {
        let ty = scope.graph.ty(node.results[0]).clone();
        let program = &mut self.draft.program;
        let origin = Origin::Literal(constant.values.clone());
        let known = program.parameters.iter().find(|parameter| parameter.origin == origin && parameter.ty == ty);
        let count = program.parameters.iter().filter(|parameter| parameter.origin.literal().is_some()).count();
        let name = known.map_or_else(|| format!("constant.{count}"), |known| known.name.clone());
        let parameter =
            Parameter { name, ty: ty.clone(), stacked: false, layout: Layout::RowMajor, origin, cuts: vec![] };
        let place = Place::Parameter(parameter_position(program, parameter));
        scope.views.insert(node.results[0], View { place, per_layer: false, ty, layout: Layout::RowMajor });
    }

    /// The rank's place along an axis.
    fn coordinate(&self, scope: &mut Scope<'_>, node: &Node, axis: &str) {
        let axis = self.module.mesh.axes.iter().position(|(name, _)| name == axis).expect("verified");
        let (result, place) = (node.results[0], Place::Coordinate(axis));
        let ty = scope.graph.ty(result).clone();
        scope.views.insert(result, View { place, per_layer: false, ty, layout: Layout::RowMajor });
    }

    fn collective(&mut self, scope: &mut Scope<'a>, node: &Node, wanted: &BTreeMap<ValueId, View>) -> Step {
        let (from, result) = (scope.views[&node.operands[0]].clone(), node.results[0]);
        let to = wanted.get(&result).cloned();
        let to = to.unwrap_or_else(|| self.arena(scope, &scope.graph.ty(result).clone(), 1));
        scope.views.insert(result, to.clone());
        let (what, over) = Collective::of(&node.op).expect("it is one");
        Step::Collective { what, over: over.to_owned(), from, to }
    }

    fn launch(
        &mut self,
        scope: &mut Scope<'a>,
        node: &Node,
        kernel: &Graph,
        wanted: &BTreeMap<ValueId, View>,
        steps: &mut Vec<Step>,
    ) -> Result<(), PassError> {
        let inputs: Vec<View> = node.operands.iter().map(|operand| scope.views[operand].clone()).collect();
        let in_place = in_place(kernel);
        let mut outputs = vec![];
        for (i, &result) in node.results.iter().enumerate() {
            let view = match (in_place, wanted.get(&result)) {
                (Some((output, input)), _) if output == i => inputs[input].clone(),
                (_, Some(view)) => view.clone(),
                _ => self.arena(scope, &scope.graph.ty(result).clone(), 1),
            };
            scope.views.insert(result, view.clone());
            outputs.push(view);
        }
        let layouts = |views: &[View]| views.iter().map(|view| view.layout.clone()).collect();
        let mut graph = kernel.clone();
        graph
            .symbols
            .iter_mut()
            .filter(|symbol| symbol.name == scope.range.name)
            .for_each(|s| *s = scope.range.clone());
        let (of_inputs, of_outputs) = (layouts(&inputs), layouts(&outputs));
        let kind = layouts::kind(&graph);
        let (name, range) = (graph.name.clone(), &scope.range);
        let kernel = Kernel { name, kind, graph, inputs: of_inputs, outputs: of_outputs, in_place };
        let kernel = self.kernel(kernel, range);
        steps.push(Step::Launch(Launch { kernel, inputs, outputs, wave: 0 }));
        Ok(())
    }

    /// The index of a kernel equal to this one but for its name.
    fn kernel(&mut self, mut kernel: Kernel, range: &SymbolBound) -> usize {
        let kernels = &mut self.draft.program.kernels;
        let same = |known: &Kernel| {
            let named = Graph { name: kernel.graph.name.clone(), ..known.graph.clone() };
            (named, &known.inputs, &known.outputs) == (kernel.graph.clone(), &kernel.inputs, &kernel.outputs)
        };
        if let Some(known) = kernels.iter().position(same) {
            return known;
        }
        let rows = kernel.graph.symbols.iter().find(|symbol| *symbol == range);
        let suffix = rows.map_or(String::new(), |rows| format!("_{}_{}", rows.least, rows.most));
        let base = format!("{}{suffix}", kernel.name);
        let taken = |name: &str| kernels.iter().any(|known| known.name == name);
        let mut numbered = (1..).map(|i| if i == 1 { base.clone() } else { format!("{base}_v{i}") });
        kernel.name = numbered.find(|name| !taken(name)).expect("numbers do not run out");
        kernel.graph.name = kernel.name.clone();
        kernels.push(kernel);
        kernels.len() - 1
    }

    fn repeat(
        &mut self,
        scope: &mut Scope<'a>,
        node: &Node,
        repeat: &Repeat,
        wanted: &BTreeMap<ValueId, View>,
        steps: &mut Vec<Step>,
    ) -> Result<(), PassError> {
        let body = self.module.graph(&repeat.body).expect("verified");
        let mut inner = Scope { graph: body, range: scope.range.clone(), views: BTreeMap::new() };
        let mut ends: Vec<(ValueId, View)> = vec![];
        for (i, operand) in node.operands.iter().enumerate() {
            let outer = scope.views[operand].clone();
            let view = if i < repeat.carry {
                let view = self.carry_view(scope, node, i, &outer, wanted);
                self.copy_unless_there(steps, &outer, &view);
                scope.views.insert(node.results[i], view.clone());
                ends.push((body.outputs[i], view.clone()));
                view
            } else if repeat.is_stacked(i) {
                View { per_layer: true, ty: outer.ty.inner(), ..outer }
            } else {
                outer
            };
            inner.views.insert(ValueId(i as u32), view);
        }
        for (operand, result) in repeat.states() {
            scope.views.insert(node.results[result], scope.views[&node.operands[operand]].clone());
        }
        for i in repeat.carry + repeat.state..node.results.len() {
            let view = self.arena(scope, &body.ty(body.outputs[i]).unnamed(), repeat.to);
            ends.push((body.outputs[i], view.clone()));
            let ty = scope.graph.ty(node.results[i]).clone();
            scope.views.insert(node.results[i], View { per_layer: false, ty, ..view });
        }
        let late = |(value, _): &&(ValueId, View)| writes_late(self.module, body, *value);
        let in_place: Vec<(ValueId, View)> = ends.iter().filter(late).cloned().collect();
        let mut layer_steps = self.steps(&mut inner, &in_place)?;
        for (value, view) in ends {
            self.copy_unless_there(&mut layer_steps, &inner.views[&value].clone(), &view);
        }
        steps.push(Step::Loop { from: repeat.from, to: repeat.to, reverse: repeat.reverse, steps: layer_steps });
        Ok(())
    }

    /// The one buffer of a carry: where its result is wanted, else the operand's own when nothing else reads that.
    fn carry_view(
        &mut self,
        scope: &Scope<'a>,
        node: &Node,
        i: usize,
        outer: &View,
        wanted: &BTreeMap<ValueId, View>,
    ) -> View {
        if let Some(view) = wanted.get(&node.results[i]) {
            return view.clone();
        }
        let readers = scope.graph.readers();
        let operand = node.operands[i];
        let sole = readers[operand.index()].len() == 1 && !scope.graph.outputs.contains(&operand);
        if sole && matches!(outer.place, Place::Arena { .. }) {
            return outer.clone();
        }
        self.arena(scope, &outer.ty, 1)
    }
}

/// Whether a body's output can be written over the carry: nothing reads the carried input after the node that makes
/// the output, and that node reads it place by place if at all.
fn writes_late(module: &Module, body: &Graph, output: ValueId) -> bool {
    let Some(maker) = body.definitions()[output.index()] else { return false };
    let mut places = body.outputs.iter().enumerate().filter(|(_, o)| **o == output).map(|(i, _)| ValueId(i as u32));
    let (Some(carried), None) = (places.next(), places.next()) else { return false };
    let readers = body.readers();
    let before = readers[carried.index()]
        .iter()
        .all(|&reader| reader < maker || reader == maker && reads_in_place(module, &body.nodes[maker], carried));
    before && readers[output.index()].is_empty()
}

/// Whether a called kernel reads a value of its result's type by elementwise operations only: each place is read
/// before it is written.
fn reads_in_place(module: &Module, node: &Node, value: ValueId) -> bool {
    let Op::Call(call) = &node.op else { return false };
    let kernel = module.graph(&call.body).expect("verified");
    let inputs: Vec<usize> = (0..node.operands.len()).filter(|&i| node.operands[i] == value).collect();
    let by_place = |reader: &Node| {
        let touches = reader.operands.iter().any(|operand| inputs.contains(&operand.index()));
        !touches
            || reader.op.def().expr().is_some()
                && reader.results.iter().all(|r| kernel.ty(*r).dims == kernel.types[inputs[0]].dims)
    };
    kernel.nodes.iter().all(by_place)
}

/// The output of a kernel that lies in an input's memory.
fn in_place(kernel: &Graph) -> Option<(usize, usize)> {
    let node = kernel.nodes.iter().find(|node| !consumed_by(node).is_empty())?;
    let input = consumed_by(node)[0].index();
    let output = kernel.outputs.iter().position(|output| *output == node.results[0])?;
    Some((output, input))
}

/// Bytes of a row-major value at the most rows.
fn bytes_most(ty: &TensorType, symbols: &[SymbolBound], range: &SymbolBound) -> u64 {
    let mut bindings: Bindings = symbols.iter().map(|symbol| (symbol.name.clone(), symbol.most)).collect();
    bindings.insert(range.name.clone(), range.most);
    ty.dtype.bytes(ty.elements(&bindings).expect("verified"))
}

fn layers(ty: &TensorType) -> Option<u64> {
    ty.dims.first().and_then(|dim| dim.extent.as_number())
}

/// The dimensions of which a rank has a piece, and by which axes.
fn cuts(ty: &TensorType) -> Vec<(usize, String)> {
    let of = |(dim, extent): (usize, &Extent)| extent.divisors().map(|axis| (dim, axis.to_owned())).collect::<Vec<_>>();
    ty.extents().enumerate().flat_map(of).collect()
}

fn position(buffers: &mut Vec<Buffer>, buffer: Buffer) -> usize {
    buffers.iter().position(|known| known.name == buffer.name).unwrap_or_else(|| {
        buffers.push(buffer);
        buffers.len() - 1
    })
}

fn parameter_position(program: &mut Program, parameter: Parameter) -> usize {
    let known = program.parameters.iter().position(|known| known.name == parameter.name);
    known.unwrap_or_else(|| {
        program.parameters.push(parameter);
        program.parameters.len() - 1
    })
}

/// What a kernel is anchored by.
pub(crate) fn anchor(op: &Op) -> Option<KernelKind> {
    match op {
        Op::MatMul(_) => Some(KernelKind::Contraction),
        Op::AlibiAttention(_) => Some(KernelKind::Attention),
        Op::CacheAppend(_) => Some(KernelKind::Append),
        Op::Gather(_) | Op::GatherPart(_) => Some(KernelKind::Gather),
        Op::LayerNorm(_) | Op::Softmax(_) | Op::Reduce(_) => Some(KernelKind::Row),
        _ => None,
    }
}
