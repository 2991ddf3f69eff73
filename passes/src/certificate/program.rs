//! The certificate's second half: that a program, on the bytes that every rank has, computes what one rank's graphs do.
//!
//! What was proven of graphs is lost by a step that is missing, a view that lies elsewhere, a stage that begins at another
//! layer. So the program runs on the interpreter too, with weights cut and packed as ranks have them, kernels in the types
//! they are made for; what comes out may differ by roundings of these.

use super::{Given, Proof, Uncertified, computed};
use bloomery_ir::graph::Role;
use bloomery_ir::program::{Interface, Parameter};
use bloomery_ir::run_program::ProgramInterpreter;
use bloomery_ir::{Bindings, Graph, Interpreter, Module, OwnMemory, Precision, Program, Tensor};

/// Differences above this, of the largest value there is, are no roundings of f32.
pub const PROGRAM_TOLERANCE: f64 = 1e-5;

/// Compares a program with the graphs it was made of, weights as they are in a checkpoint: `whole` as the graphs were before,
/// `divided` as ranks have them. Returns the largest difference, of the largest value there is.
///
/// # Errors
/// The first output of a rank that differs by more than roundings.
///
/// # Panics
/// When the whole module does not run on its inputs, or the program is of other graphs.
pub fn certify_program(
    whole: &Module,
    divided: &Module,
    program: &Program,
    entries: &[Interface],
    inputs: &[(&str, Vec<Tensor>)],
) -> Result<f64, Uncertified> {
    let mut given = Given::new();
    for (name, tensors) in inputs {
        let names = whole.graph(name).expect("inputs are of graphs that are there").inputs.iter();
        // A weight of two graphs is one.
        for (input, tensor) in names.zip(tensors) {
            given.entry(input.name.as_str()).or_insert(tensor);
        }
    }
    let computed = computed(whole, divided, &given)?;
    let mut weights = given.clone();
    weights.extend(computed.iter().map(|(name, tensor)| (*name, tensor)));
    let sizes = sizes(program, &given);
    let mut memory = OwnMemory::new(program, &sizes, |parameter| weight(parameter, &weights));
    let proof = Proof::new(divided);
    let mut largest = 0.0_f64;
    for interface in entries {
        let graph = whole.graph(&interface.graph).expect("entries are graphs");
        let run = Run { program, proof: &proof, given: &given, interface, graph };
        largest = largest.max(run.difference(whole, &sizes, &mut memory)?);
    }
    Ok(largest)
}

/// Values of the program's symbols, by what is given: a length that ranks share is what one of them has.
fn sizes(program: &Program, given: &Given<'_>) -> Bindings {
    let mut sizes = Bindings::new();
    for buffer in program.ios.iter().chain(&program.states) {
        let Some(given) = given.get(buffer.name.as_str()) else { continue };
        for (extent, found) in buffer.ty.extents().zip(&given.shape) {
            let solved = extent.solve(*found as u64, &sizes).map(|(name, value)| (name.to_owned(), value));
            sizes.extend(solved);
        }
    }
    for symbol in &program.symbols {
        sizes.entry(symbol.name.clone()).or_insert(symbol.least);
    }
    sizes
}

/// The whole of a weight, as ranks have it before it is cut.
fn weight(parameter: &Parameter, weights: &Given<'_>) -> Tensor {
    let Some(values) = parameter.origin.literal() else { return weights[parameter.name.as_str()].clone() };
    let shape = parameter.ty.shape(&Bindings::new()).expect("weights have numbers for extents");
    Tensor { dtype: parameter.ty.dtype, shape, data: values.to_vec() }
}

/// One entry, run.
struct Run<'a> {
    program: &'a Program,
    proof: &'a Proof<'a>,
    given: &'a Given<'a>,
    interface: &'a Interface,
    graph: &'a Graph,
}

impl Run<'_> {
    fn difference(&self, whole: &Module, sizes: &Bindings, memory: &mut OwnMemory<'_>) -> Result<f64, Uncertified> {
        let inputs: Vec<Tensor> =
            self.graph.inputs.iter().map(|input| self.given[input.name.as_str()].clone()).collect();
        let expected = Interpreter::new(whole, Precision::Double).run(&self.graph.name, &inputs)?;
        self.run(sizes, memory);
        let mut largest = 0.0_f64;
        for (output, (name, expected)) in self.interface.outputs.iter().zip(&expected).enumerate() {
            let scale = expected.data.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
            for (rank, found, expected) in self.found(memory, name, expected) {
                let difference = found.difference(&expected) / scale;
                if difference > PROGRAM_TOLERANCE {
                    let (graph, ranks) = (self.graph.name.clone(), self.program.mesh.ranks());
                    return Err(Uncertified::ProgramDiffers { graph, output, rank, ranks, difference });
                }
                largest = largest.max(difference);
            }
        }
        Ok(largest)
    }

    /// Runs the entry on what it is given, in memory that holds the weights.
    fn run(&self, sizes: &Bindings, memory: &mut OwnMemory<'_>) {
        for input in &self.graph.inputs {
            if let (Role::Plain, Some(io)) = (input.role, self.program.io(&input.name)) {
                memory.put(io, self.given[input.name.as_str()]);
            }
        }
        for (state, rank) in self.states() {
            let name = &self.program.states[state].name;
            if let Some(piece) = self.given.get(name.as_str()).and_then(|whole| self.state_piece(name, whole, rank)) {
                memory.put_state(rank, state, &piece);
            }
        }
        let entry = self.program.entry(&self.interface.graph, sizes[&self.interface.rows]);
        ProgramInterpreter::new(self.program).run(entry.expect("entries take all rows"), sizes, memory);
    }

    fn states(&self) -> impl Iterator<Item = (usize, u64)> {
        let ranks = self.program.mesh.ranks();
        (0..self.program.states.len()).flat_map(move |state| (0..ranks).map(move |rank| (state, rank)))
    }

    /// An output: of each rank that has it what it has and should have.
    fn found(&self, memory: &OwnMemory<'_>, name: &str, expected: &Tensor) -> Vec<(u64, Tensor, Tensor)> {
        if let Some(state) = self.program.states.iter().position(|state| state.name == name) {
            let of_rank = |rank| {
                let expected = self.state_piece(name, expected, rank)?;
                Some((rank, memory.state(rank, state, &expected.shape), expected))
            };
            return (0..self.program.mesh.ranks()).filter_map(of_rank).collect();
        }
        let io = self.program.io(name).expect("outputs are where callers look");
        self.program.last_ranks().map(|rank| (rank, memory.get(rank, io, &expected.shape), expected.clone())).collect()
    }

    /// What a rank has of a state, if its stage has any of this graph.
    fn state_piece(&self, name: &str, whole: &Tensor, rank: u64) -> Option<Tensor> {
        let (stage, place) = (self.program.stage_of(rank), rank % self.program.ranks_per_stage());
        let parts = self.proof.divided.parts(&self.graph.name);
        let (_, part) = parts.into_iter().find(|(stages, _)| stages.contains(&stage))?;
        Some(self.proof.piece(whole, part.ty(part.input(name)?), stage, place))
    }
}
