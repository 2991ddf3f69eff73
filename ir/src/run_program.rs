//! Programs on the interpreter: the same steps a processor runs, kernels evaluated by their graphs.
//!
//! Memory is bytes, as on a real target: values pass through their types and layouts, so a wrong offset or lifetime
//! shows here. What holds the bytes is the caller's ([`Memory`]). Ranks go step by step together, as everywhere.

use crate::DType;
use crate::extent::Bindings;
use crate::graph::Module;
use crate::interpret::{Interpreter, Precision};
use crate::layout::{Layout, key_size_position};
use crate::op::RankContext;
use crate::ops::Op;
use crate::program::{Entry, Launch, Place, Program, Step, View};
use crate::tensor::{Tensor, flat, indices, read_element, write_element};
use std::collections::BTreeMap;
use std::ops::Range;

/// The bytes behind places.
pub trait Memory {
    /// Bytes of a place of a rank, from its start (of layer `layer`, for views that are per layer; a stage's first is 0, so
    /// parameters lie [`Program::first_layer`] further on). Coordinates are never asked for.
    fn read(&self, rank: u64, view: &View, layer: u64, bytes: usize) -> &[u8];

    /// The same, to be written. Parameters are never asked for.
    fn write(&mut self, rank: u64, view: &View, layer: u64, bytes: usize) -> &mut [u8];
}

/// A program's kernels, ready to be interpreted.
pub struct ProgramInterpreter<'a> {
    program: &'a Program,
    /// One module per kernel.
    kernels: Vec<Module>,
}

impl<'a> ProgramInterpreter<'a> {
    /// Prepares the kernels.
    pub fn new(program: &'a Program) -> ProgramInterpreter<'a> {
        let module = |graph: &crate::graph::Graph| Module { graphs: vec![graph.clone()], ..Module::default() };
        ProgramInterpreter { program, kernels: program.kernels.iter().map(|kernel| module(&kernel.graph)).collect() }
    }

    /// Runs one entry point.
    ///
    /// # Panics
    /// When a name has no value, or a kernel's graph does not fit its views: the planner's mistake.
    pub fn run(&self, entry: &Entry, bindings: &Bindings, memory: &mut dyn Memory) {
        self.steps(&entry.steps, 0..self.program.mesh.ranks(), bindings, memory, 0);
    }

    fn steps(&self, steps: &[Step], ranks: Range<u64>, bindings: &Bindings, memory: &mut dyn Memory, layer: u64) {
        for step in steps {
            let each = ranks.clone();
            match step {
                Step::Launch(launch) => each.for_each(|rank| self.launch(rank, launch, bindings, memory, layer)),
                Step::Copy { from, to } => each.for_each(|rank| {
                    let tensor = self.load(memory, rank, from, bindings, layer);
                    store(memory, rank, to, &tensor, layer);
                }),
                Step::Send { what } => each.for_each(|rank| {
                    let tensor = self.load(memory, rank, what, bindings, layer);
                    store(memory, rank + ranks.end - ranks.start, what, &tensor, layer);
                }),
                Step::Collective { what, over, from, to } => {
                    self.collective(&what.op(over), [from, to], each, bindings, memory, layer);
                }
                Step::Stage { stages, steps } => {
                    let of = |stage| self.program.ranks_of(stage);
                    stages.clone().for_each(|stage| self.steps(steps, of(stage), bindings, memory, layer));
                }
                Step::Loop { from, to, reverse, steps } => {
                    let layers: Vec<u64> = if *reverse { (*from..*to).rev().collect() } else { (*from..*to).collect() };
                    layers.into_iter().for_each(|layer| self.steps(steps, each.clone(), bindings, memory, layer));
                }
            }
        }
    }

    fn collective(
        &self,
        op: &Op,
        [from, to]: [&View; 2],
        ranks: Range<u64>,
        bindings: &Bindings,
        memory: &mut dyn Memory,
        layer: u64,
    ) {
        let mesh = &self.program.mesh;
        let has = |rank| (rank, self.load(memory, rank, from, bindings, layer));
        let given: BTreeMap<u64, Tensor> = ranks.clone().map(has).collect();
        let axis = op.def().collective().expect("it is one");
        for rank in ranks {
            let group: Vec<&Tensor> = mesh.group(rank, axis).into_iter().map(|rank| &given[&rank]).collect();
            let cx = RankContext { bindings, mesh, rank };
            let made = op.def().reference(&group, std::slice::from_ref(&to.ty), &cx).remove(0);
            store(memory, rank, to, &made.rounded(), layer);
        }
    }

    fn launch(&self, rank: u64, launch: &Launch, bindings: &Bindings, memory: &mut dyn Memory, layer: u64) {
        let load = |view: &View| self.load(memory, rank, view, bindings, layer);
        let inputs = vec![launch.inputs.iter().map(load).collect()];
        let name = &self.program.kernels[launch.kernel].graph.name;
        let interpreter = Interpreter::new(&self.kernels[launch.kernel], Precision::Typed);
        let outputs = interpreter.run_ranks(name, inputs).expect("views fit the kernel");
        for (view, tensor) in launch.outputs.iter().zip(&outputs[0]) {
            store(memory, rank, view, tensor, layer);
        }
    }

    fn load(&self, memory: &dyn Memory, rank: u64, view: &View, bindings: &Bindings, layer: u64) -> Tensor {
        if let Place::Coordinate(axis) = view.place {
            let place = self.program.mesh.coordinate(rank, &self.program.mesh.axes[axis].0).expect("it is an axis");
            return Tensor { dtype: DType::I32, shape: vec![1], data: vec![place as f64] };
        }
        let shape = view.ty.shape(bindings).expect("names have values");
        let bytes = view.layout.bytes(&shape, view.ty.dtype) as usize;
        unpack(&view.layout, &shape, view.ty.dtype, memory.read(rank, view, layer, bytes))
    }
}

fn store(memory: &mut dyn Memory, rank: u64, view: &View, tensor: &Tensor, layer: u64) {
    let bytes = view.layout.bytes(&tensor.shape, tensor.dtype) as usize;
    pack(&view.layout, tensor, memory.write(rank, view, layer, bytes));
}

/// The tensor in laid-out bytes.
pub fn unpack(layout: &Layout, shape: &[usize], dtype: crate::types::DType, bytes: &[u8]) -> Tensor {
    let mut tensor = Tensor::zeros(dtype, shape.to_vec());
    if *layout == Layout::RowMajor {
        tensor.data.iter_mut().enumerate().for_each(|(i, value)| *value = read_element(dtype, bytes, i));
        return tensor;
    }
    let mut values = tensor.data.iter_mut();
    // `for_each`, not `for`: an iterator over iterators is fast only when it drives itself.
    layout.positions(shape, dtype).for_each(|position| {
        *values.next().expect("one for each position") = read_element(dtype, bytes, position);
    });
    tensor
}

/// A tensor into laid-out bytes; padding keeps what it held.
pub fn pack(layout: &Layout, tensor: &Tensor, bytes: &mut [u8]) {
    let mut values = tensor.data.iter();
    layout.positions(&tensor.shape, tensor.dtype).for_each(|position| {
        write_element(tensor.dtype, bytes, position, *values.next().expect("one for each position"));
    });
    if *layout == Layout::CachePages {
        write_key_sizes(tensor, bytes);
    }
}

/// The bounds that cache pages hold behind keys and values.
fn write_key_sizes(cache: &Tensor, bytes: &mut [u8]) {
    let [pages, _, heads, tokens, d] = cache.shape[..] else { unreachable!("a cache layer has 5 dimensions") };
    for index in indices(&[pages, heads, tokens]) {
        let (page, head, token) = (index[0], index[1], index[2]);
        let key = flat(&cache.shape, &[page, 0, head, token, 0]);
        let size = cache.data[key..key + d].iter().map(|k| k * k).sum::<f64>().sqrt();
        let at = key_size_position(&cache.shape, cache.dtype, page, head, token);
        write_element(DType::F32, bytes, at, 1.001 * size);
    }
}
