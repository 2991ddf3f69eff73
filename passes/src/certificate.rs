//! The sharding certificate: that ranks together compute what one rank computes.
//!
//! Three checks that fail for different reasons. The *symbolic* one is the verifier over the graphs that `shard` and
//! `partition` made: every type follows from its operands' by the letters of the operation, what owes a sum is not taken for
//! it, collectives go over axes of the mesh that are owed or split. It says nothing of values that have the right type and
//! are wrong. The *numeric* one runs all ranks on the interpreter in f64 and compares with one rank, so its inputs may be
//! small: sums in another order differ by 1e-15 of their size, every mistake that was tried by far more (`tests/it/mutants.rs`).
//! Parameters that only the divided graphs have computed beforehand, such as longer ones, are computed from what the whole is
//! given.
//! The third runs the [program](certify_program) that was made of the graphs.

mod program;

use bloomery_ir::graph::Role;
use bloomery_ir::interpret::{InterpretError, shard};
use bloomery_ir::sharding::global;
use bloomery_ir::{Graph, Input, Interpreter, Mesh, Module, Precision, Tensor, TensorType, VerifyError, verify};
use std::collections::BTreeMap;

pub use program::{PROGRAM_TOLERANCE, certify_program};

/// Differences above this, of values of about 1, are no roundings of f64.
pub const TOLERANCE: f64 = 1e-10;

/// What was compared, and how near it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Certificate {
    /// Ranks that ran.
    pub ranks: u64,
    /// Numbers of all ranks that were compared.
    pub compared: usize,
    /// The largest difference.
    pub difference: f64,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Uncertified {
    /// The divided graphs do not verify.
    #[error("the divided graphs are not sound: {0}")]
    Unsound(#[from] VerifyError),
    /// They cannot be run on these inputs.
    #[error("the divided graphs do not run: {0}")]
    Fails(#[from] InterpretError),
    /// A stage that takes something which neither the caller nor the stage before gives it.
    #[error("@{graph} takes what nobody hands it")]
    NotHanded {
        /// The graph.
        graph: String,
    },
    /// A result of which a rank has a slice or a part: callers take any rank's for the whole.
    #[error("output {output} of @{graph} is {ty} on each rank, it has to be whole")]
    Parted {
        /// The graph.
        graph: String,
        /// The output's position.
        output: usize,
        /// What a rank has.
        ty: TensorType,
    },
    /// A rank's program computes something else.
    #[error(
        "the program of rank {rank} of {ranks} differs from one rank by {difference:e} in output {output} of @{graph}, \
         more than {PROGRAM_TOLERANCE:e}"
    )]
    ProgramDiffers {
        /// The graph.
        graph: String,
        /// The output's position.
        output: usize,
        /// The rank.
        rank: u64,
        /// How many there are.
        ranks: u64,
        /// The largest difference, of the largest value there is.
        difference: f64,
    },
    /// A rank computes something else.
    #[error(
        "rank {rank} of {ranks} differs from one rank by {difference:e} in output {output} of @{graph}, more than {TOLERANCE:e}"
    )]
    Differs {
        /// The graph.
        graph: String,
        /// The output's position.
        output: usize,
        /// The rank.
        rank: u64,
        /// How many there are.
        ranks: u64,
        /// The largest difference.
        difference: f64,
    },
}

/// Compares the divided graphs of these names with the whole ones, on the whole ones' inputs.
///
/// # Errors
/// The first thing that is not so.
///
/// # Panics
/// When the whole module has no such graph or does not run on its inputs.
pub fn certify(whole: &Module, divided: &Module, inputs: &[(&str, Vec<Tensor>)]) -> Result<Certificate, Uncertified> {
    verify(divided)?;
    let mut proof = Proof::new(divided);
    for (name, given) in inputs {
        let expected = Interpreter::new(whole, Precision::Double).run(name, given).expect("one rank runs");
        let names = &whole.graph(name).expect("it ran").inputs;
        let mut given: Given<'_> = names.iter().map(|input| input.name.as_str()).zip(given).collect();
        let computed = computed(whole, divided, &given)?;
        given.extend(computed.iter().map(|(name, tensor)| (*name, tensor)));
        proof.stages(name, &given, &expected)?;
    }
    Ok(proof.certificate)
}

/// What a graph is run on, by the names of its inputs.
type Given<'a> = BTreeMap<&'a str, &'a Tensor>;

/// Parameters that the divided graphs alone have computed beforehand, as far as they are made of what is given.
fn computed<'a>(whole: &Module, divided: &'a Module, given: &Given<'_>) -> Result<Vec<(&'a str, Tensor)>, Uncertified> {
    let alone = Module { graphs: divided.weights.clone(), ..Module::default() };
    let interpreter = Interpreter::new(&alone, Precision::Double);
    let made = |graph: &'a Graph| {
        let names = graph.inputs.iter().map(|input| given.get(input.name.as_str()));
        let sources: Vec<Tensor> = names.map(|tensor| tensor.copied().cloned()).collect::<Option<_>>()?;
        let made = interpreter.run(&graph.name, &sources);
        Some(made.map(|mut made| (graph.name.as_str(), made.remove(0))).map_err(Uncertified::from))
    };
    divided.weights.iter().filter(|graph| whole.weight(&graph.name).is_none()).filter_map(made).collect()
}

/// The ranks of one stage, on a mesh of their own; all of them without stages.
fn ranks_of_stage(divided: &Module) -> Module {
    let stages = usize::from(!divided.stages.is_empty());
    let mesh = Mesh { axes: divided.mesh.axes[stages..].to_vec() };
    Module { mesh, stages: vec![], ..divided.clone() }
}

/// A comparison on its way.
struct Proof<'a> {
    divided: &'a Module,
    /// The divided graphs, for the ranks of one stage.
    ranks: Module,
    certificate: Certificate,
}

impl Proof<'_> {
    fn new(divided: &Module) -> Proof<'_> {
        let certificate = Certificate { ranks: divided.mesh.ranks(), compared: 0, difference: 0.0 };
        Proof { divided, ranks: ranks_of_stage(divided), certificate }
    }

    /// Runs what is divided stage by stage, and compares what comes out with the whole's outputs.
    fn stages(&mut self, name: &str, given: &Given<'_>, expected: &[Tensor]) -> Result<(), Uncertified> {
        let parts = self.divided.parts(name);
        let last = parts.last().map(|(_, graph)| graph.outputs.len());
        if last != Some(expected.len()) {
            return Err(InterpretError::NoGraph(name.to_owned()).into());
        }
        let mut handed_on = vec![vec![]; self.ranks.mesh.ranks() as usize];
        let all = parts.into_iter().flat_map(|(stages, graph)| stages.map(move |stage| (stage, graph)));
        for (stage, graph) in all {
            let found = self.run(graph, stage, given, &handed_on)?;
            // What it returns last are the whole's last outputs; before them comes what the next stage takes.
            let states = graph.inputs.iter().filter(|input| input.role == Role::State).count();
            let is_last = stage + 1 == self.divided.stages.len().max(1) as u64;
            let own = if is_last { 0 } else { graph.outputs.len() - states };
            let expected = &expected[expected.len() - (graph.outputs.len() - own)..];
            self.compare(graph, stage, own, &found, expected)?;
            handed_on = found.into_iter().map(|outputs| outputs.into_iter().take(own).collect()).collect();
        }
        Ok(())
    }

    /// Runs a stage's ranks, on their pieces of what the whole is given and on what the stage before handed on.
    fn run(
        &self,
        graph: &Graph,
        stage: u64,
        given: &Given<'_>,
        handed_on: &[Vec<Tensor>],
    ) -> Result<Vec<Vec<Tensor>>, Uncertified> {
        let of_rank = |rank: usize| {
            let mut before = handed_on[rank].iter();
            let mut of = |input: &Input| match given.get(input.name.as_str()) {
                Some(tensor) => Some(self.piece(tensor, &input.ty, stage, rank as u64)),
                None => before.next().cloned(),
            };
            graph.inputs.iter().map(&mut of).collect::<Option<Vec<Tensor>>>()
        };
        let given: Option<Vec<Vec<Tensor>>> = (0..handed_on.len()).map(of_rank).collect();
        let given = given.ok_or_else(|| Uncertified::NotHanded { graph: graph.name.clone() })?;
        Ok(Interpreter::new(&self.ranks, Precision::Double).run_ranks(&graph.name, given)?)
    }

    /// What a rank of a stage has of a whole value: of one that is longer by the other stages' layers, the stage's layers.
    fn piece(&self, whole: &Tensor, ty: &TensorType, stage: u64, rank: u64) -> Tensor {
        let layers = self.divided.stages.get(stage as usize).map(|stage| &stage.layers);
        let own = ty.dims.first().and_then(|dim| dim.extent.as_number());
        let cut = layers.filter(|layers| own == Some(layers.end - layers.start) && own < Some(whole.shape[0] as u64));
        match cut {
            Some(layers) => {
                shard(&whole.slice(0, layers.start as usize..layers.end as usize), ty, &self.ranks.mesh, rank)
            }
            None => shard(whole, ty, &self.ranks.mesh, rank),
        }
    }

    /// Compares what ranks of a stage return, beside what is for the next stage.
    fn compare(
        &mut self,
        graph: &Graph,
        stage: u64,
        own: usize,
        found: &[Vec<Tensor>],
        expected: &[Tensor],
    ) -> Result<(), Uncertified> {
        check_outputs(graph, own)?;
        let ranks = self.certificate.ranks;
        for (place, outputs) in (0..).zip(found) {
            for (output, (found, expected)) in (own..).zip(outputs[own..].iter().zip(expected)) {
                let expected = self.piece(expected, graph.ty(graph.outputs[output]), stage, place);
                let same_shape = found.shape == expected.shape;
                let difference = if same_shape { found.difference(&expected) } else { f64::INFINITY };
                if difference > TOLERANCE {
                    let (graph, rank) = (graph.name.clone(), stage * self.ranks.mesh.ranks() + place);
                    return Err(Uncertified::Differs { graph, output, rank, ranks, difference });
                }
                self.certificate.compared += found.data.len();
                self.certificate.difference = self.certificate.difference.max(difference);
            }
        }
        Ok(())
    }
}

/// States stay where they lie, and so do slices of what is for the next stage; everything else comes whole.
fn check_outputs(graph: &Graph, own: usize) -> Result<(), Uncertified> {
    let states = || graph.inputs.iter().filter(|input| input.role == Role::State).map(|input| input.ty.unnamed());
    for (output, value) in graph.outputs.iter().enumerate() {
        let ty = graph.ty(*value);
        let in_slices = global(ty) != *ty && output >= own;
        if (in_slices || !ty.partial.is_empty()) && !states().any(|state| state == *ty) {
            return Err(Uncertified::Parted { graph: graph.name.clone(), output, ty: ty.clone() });
        }
    }
    Ok(())
}
