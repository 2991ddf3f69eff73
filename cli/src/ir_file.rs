//! `ir`: a `.bir` file printed, verified, passed through passes, interpreted, compared. What `mlir-opt` is to MLIR.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bloomery_codegen::cpu::Cpu;
use bloomery_formats::{Checkpoint, Dtype, Tensor as Stored};
use bloomery_ir::interpret::shard;
use bloomery_ir::tensor::read_element;
use bloomery_ir::{DType, Dim, Graph, Input, Interpreter, Mesh, Module, Precision, Tensor};
use bloomery_passes::pipeline::{self, Stage};
use bloomery_passes::{Context, Strategy, Unseen};

use crate::input::read_text;
use crate::{Error, Progress};

/// What to do with an IR file.
#[derive(Clone, Debug)]
pub struct IrOptions {
    /// The file.
    pub file: PathBuf,
    /// Passes to run, in this order.
    pub passes: Vec<String>,
    /// How ranks share the work, for passes that ask.
    pub strategy: Option<Strategy>,
    /// A safetensors file with the inputs of the first graph, by name: interpret it.
    pub run: Option<PathBuf>,
    /// A snapshot that the result must equal.
    pub check: Option<PathBuf>,
}

/// Does all that in order, and returns the text that results: IR, a program, or values.
///
/// # Errors
/// A text that does not parse or verify, a pass that refuses, inputs that do not fit, a snapshot that differs. With a
/// snapshot, a refusal is a result like any other: it may be what is expected.
pub fn ir(options: &IrOptions, progress: &mut dyn Progress) -> Result<String, Error> {
    let result = make(options, progress);
    let Some(snapshot) = &options.check else { return result };
    match result {
        Ok(text) => compare(snapshot, text),
        Err(Error::Parse { source, .. }) => compare(snapshot, source.to_string()),
        Err(Error::Pass(error)) => compare(snapshot, error.to_string()),
        Err(error) => Err(error),
    }
}

fn make(options: &IrOptions, progress: &mut dyn Progress) -> Result<String, Error> {
    let text = read_text(&options.file)?;
    let module = bloomery_ir::parse(&text).map_err(|source| Error::Parse { path: options.file.clone(), source })?;
    let stage = run_passes(module, options)?;
    match (&options.run, stage) {
        (None, stage) => Ok(stage.print()),
        (Some(inputs), Stage::Module(module)) => interpret(&module, inputs, progress),
        (Some(_), _) => Err(Error::Refused(
            "--run interprets graphs, but after `lower` there is a program: name fewer passes".to_owned(),
        )),
    }
}

fn run_passes(module: Module, options: &IrOptions) -> Result<Stage, Error> {
    let (interfaces, strategy) = (pipeline::interfaces(&module), options.strategy.as_ref());
    let cx = Context { target: &Cpu, entries: &interfaces, strategy, inference: Some(&Unseen) };
    let names: Vec<&str> = options.passes.iter().map(String::as_str).collect();
    Ok(pipeline::run_named(module, &cx, &names, &mut |_, _| {})?)
}

/// Runs the first graph and prints what each rank returns.
fn interpret(module: &Module, inputs: &Path, progress: &mut dyn Progress) -> Result<String, Error> {
    let graph = module.graphs.first().expect("a parsed module has a graph");
    let file = Checkpoint::open_file(inputs)?;
    let refused = |message: String| Error::Refused(format!("{}: {message}", inputs.display()));
    let read = |input| read(&file, input, &module.mesh).map_err(refused);
    let given: Vec<Tensor> = graph.inputs.iter().map(read).collect::<Result<_, _>>()?;
    let unread = file.tensors().map(|tensor| tensor.name).filter(|name| graph.input(name).is_none());
    let unread: Vec<&str> = unread.collect();
    if !unread.is_empty() {
        progress.note(&format!("{}: @{} has no input {}", inputs.display(), graph.name, unread.join(", ")));
    }
    let of_rank = |rank| -> Vec<Tensor> {
        let pairs = given.iter().zip(&graph.inputs);
        pairs.map(|(tensor, input)| shard(tensor, &input.ty, &module.mesh, rank)).collect()
    };
    let ranks: Vec<Vec<Tensor>> = (0..module.mesh.ranks()).map(of_rank).collect();
    let outputs = Interpreter::new(module, Precision::Typed).run_ranks(&graph.name, ranks);
    let outputs = outputs.map_err(|error| refused(error.to_string()))?;
    Ok(print_outputs(graph, &outputs))
}

/// One input as stored, whole, if it can be cut into the pieces of all ranks.
fn read(file: &Checkpoint, input: &Input, mesh: &Mesh) -> Result<Tensor, String> {
    let Input { name, ty, .. } = input;
    let Some(stored) = file.tensor(name) else {
        let held: Vec<&str> = file.tensors().map(|tensor| tensor.name).collect();
        return Err(format!("it lacks input `{name}` (it holds {})", held.join(", ")));
    };
    if !stored.is_dense() {
        return Err(format!("input %{name} is not stored row by row (its strides are {:?})", stored.strides));
    }
    let other = || format!("input %{name} is {ty}, a tensor {}{:?} is given", stored.dtype, stored.shape);
    let data = values(&stored, ty.dtype).ok_or_else(other)?;
    let outside = data.iter().find(|value| ty.dtype == DType::I32 && f64::from(**value as i32) != **value);
    if let Some(value) = outside {
        return Err(format!("input %{name} is {ty}, which holds -2147483648 to 2147483647: {value} is given"));
    }
    let pieces = |dim: &Dim| -> u64 {
        let axes = dim.split.iter().map(String::as_str).chain(dim.extent.divisors());
        axes.filter_map(|axis| mesh.size(axis)).product()
    };
    let cut = ty.dims.iter().zip(stored.shape).all(|(dim, &found)| (found as u64) % pieces(dim) == 0);
    if cut && ty.rank() == stored.shape.len() { Ok(Tensor::new(ty.dtype, stored.shape, data)) } else { Err(other()) }
}

/// The elements as numbers, if they are of this type; 64-bit integers pass as 32-bit ones.
fn values(tensor: &Stored<'_>, dtype: DType) -> Option<Vec<f64>> {
    if (tensor.dtype, dtype) == (Dtype::I64, DType::I32) {
        let numbers = tensor.bytes.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().expect("eight")));
        return Some(numbers.map(|number| number as f64).collect());
    }
    let count: usize = tensor.shape.iter().product();
    let same = tensor.dtype.name() == dtype.name();
    same.then(|| (0..count).map(|i| read_element(dtype, tensor.bytes, i)).collect())
}

/// Each output's type and values, innermost dimension on one line.
fn print_outputs(graph: &Graph, ranks: &[Vec<Tensor>]) -> String {
    let mut text = String::new();
    for (rank, outputs) in ranks.iter().enumerate() {
        for (i, tensor) in outputs.iter().enumerate() {
            let of_rank = if ranks.len() > 1 { format!(" on rank {rank}") } else { String::new() };
            let _ = writeln!(text, "@{} output {i}{of_rank}: {}{:?}", graph.name, tensor.dtype, tensor.shape);
            let width = tensor.shape.last().copied().unwrap_or(1).max(1);
            for row in tensor.data.chunks(width) {
                let row: Vec<String> = row.iter().map(|value| format!("{}", *value as f32)).collect();
                let _ = writeln!(text, "  {}", row.join(" "));
            }
        }
    }
    text
}

/// The text again, when the snapshot says the same.
fn compare(path: &Path, found: String) -> Result<String, Error> {
    let snapshot = read_text(path)?;
    let (skipped, expected) = body(&snapshot);
    let (mut theirs, mut ours) = (expected.trim_end().lines(), found.trim_end().lines());
    for line in 1.. {
        match (theirs.next(), ours.next()) {
            (None, None) => break,
            (expected, found) if expected != found => {
                let or_end = |line: Option<&str>| line.unwrap_or("the end").to_owned();
                let (expected, found) = (or_end(expected), or_end(found));
                return Err(Error::Differs { path: path.to_owned(), line: line + skipped, expected, found });
            }
            _ => {}
        }
    }
    Ok(found)
}

/// A snapshot without insta's header, and how many lines that has.
fn body(snapshot: &str) -> (usize, &str) {
    let rest = snapshot.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
    match rest {
        Some((header, body)) => (header.lines().count() + 2, body),
        None => (0, snapshot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_compared_without_its_header() {
        assert_eq!(body("---\nsource: a\n---\ngraph\n"), (3, "graph\n"));
        assert_eq!(body("graph\n"), (0, "graph\n"));
    }
}
