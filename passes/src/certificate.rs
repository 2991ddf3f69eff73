//! The sharding certificate: that ranks together compute what one rank computes.
//!
//! Two checks that fail for different reasons. The *symbolic* one is the verifier over the graphs that `shard` and
//! `partition` made: every type follows from its operands' by the letters of the operation, what owes a sum is not taken for
//! it, collectives go over axes of the mesh that are owed or split. It says nothing of values that have the right type and
//! are wrong. The *numeric* one runs all ranks on the interpreter in f64 and compares with one rank, so its inputs may be
//! small: sums in another order differ by 1e-15 of their size, every mistake that was tried by far more (`tests/it/mutants.rs`).

use bloomery_ir::graph::Role;
use bloomery_ir::interpret::{InterpretError, shard};
use bloomery_ir::sharding::global;
use bloomery_ir::{Graph, Interpreter, Module, Precision, Tensor, TensorType, VerifyError, verify};

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
    let ranks = divided.mesh.ranks();
    let mut certificate = Certificate { ranks, compared: 0, difference: 0.0 };
    for (name, given) in inputs {
        let expected = Interpreter::new(whole, Precision::Double).run(name, given).expect("one rank runs");
        let missing = || InterpretError::NoGraph((*name).to_owned());
        let graph = divided.graph(name).ok_or_else(missing)?;
        check_outputs(graph)?;
        let cut = |rank| {
            let pairs = graph.inputs.iter().zip(given);
            pairs.map(|(input, tensor)| shard(tensor, &input.ty, &divided.mesh, rank)).collect()
        };
        let given: Vec<Vec<Tensor>> = (0..ranks).map(cut).collect();
        let found = Interpreter::new(divided, Precision::Double).run_ranks(name, &given)?;
        for (rank, outputs) in (0..ranks).zip(found) {
            for (output, (found, expected)) in outputs.iter().zip(&expected).enumerate() {
                let expected = shard(expected, graph.ty(graph.outputs[output]), &divided.mesh, rank);
                let same_shape = found.shape == expected.shape;
                let difference = if same_shape { found.difference(&expected) } else { f64::INFINITY };
                if difference > TOLERANCE {
                    let graph = graph.name.clone();
                    return Err(Uncertified::Differs { graph, output, rank, ranks, difference });
                }
                certificate.compared += found.data.len();
                certificate.difference = certificate.difference.max(difference);
            }
        }
    }
    Ok(certificate)
}

/// States stay where they lie, everything else comes whole.
fn check_outputs(graph: &Graph) -> Result<(), Uncertified> {
    let states = || graph.inputs.iter().filter(|input| input.role == Role::State).map(|input| input.ty.unnamed());
    for (output, value) in graph.outputs.iter().enumerate() {
        let ty = graph.ty(*value);
        if (global(ty) != *ty || !ty.partial.is_empty()) && !states().any(|state| state == *ty) {
            return Err(Uncertified::Parted { graph: graph.name.clone(), output, ty: ty.clone() });
        }
    }
    Ok(())
}
