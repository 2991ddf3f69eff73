//! `reshard`: an artifact for other ranks, from itself, without the checkpoint.
//!
//! It holds the graph it was made from: passes and the C compiler run again. Weights are the same ones, those computed
//! beforehand too, in other pieces: each new piece is put together from the old pieces that it overlaps, as it is
//! written. What comes out is what `compile` would have written.

use std::ops::Range;
use std::path::Path;

use bloomery_artifact::{Artifact, ArtifactWriter, Check, Meta, Slot, WeightSink, WeightTable, plan_weights};
use bloomery_codegen::cpu::Cpu;
use bloomery_configs::Strategy;
use bloomery_ir::program::{Origin, Parameter};
use bloomery_ir::tensor::map_indices;
use bloomery_ir::{DType, Layout, Mesh, Module, Program, TensorType};
use bloomery_models::config::BloomConfig;
use bloomery_models::{BloomOptions, bloom};
use bloomery_passes::pipeline::{self, Stage};
use bloomery_passes::{Context, Unseen, Weights, pad};

use crate::code::{self, Made};
use crate::compile::in_order::in_order;
use crate::compile::strategy;
use crate::compile::weights::shape;
use crate::execution::on;
use crate::retarget::of_processors;
use crate::targets::Target;
use crate::{Error, Progress, output};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resharded {
    /// The artifact's size.
    pub bytes: u64,
    /// Classes of processors it has code for, as before.
    pub classes: Vec<String>,
}

/// Writes the artifact at `input` to `output` for ranks that share it as `asked`. Both may be one file, which is replaced
/// when the new one is complete.
///
/// # Errors
/// A damaged artifact, or one without its graph; a strategy that its model cannot have; the C compiler's and the file
/// system's.
pub fn reshard(input: &Path, output: &Path, asked: &Strategy, progress: &mut dyn Progress) -> Result<Resharded, Error> {
    output::check(output)?;
    let artifact = Artifact::open(input, Check::Lazy)?;
    of_processors(&artifact)?;
    let config = config(&artifact)?;
    let meta = noted(artifact.meta(), asked, &config, progress)?;
    let program = program(&artifact, asked, &config)?;
    let certificate = strategy::proven(asked, &config, progress)?;
    let mut writer = ArtifactWriter::create(output)?;
    let images = code::images(&program, &targets(&artifact)?, progress)?;
    let meta = Meta { certificate, ..with(meta, asked, &images) };
    on(&artifact, || write(&mut writer, &artifact, &program, &images, meta, progress))?;
    let bytes = writer.finish()?;
    Ok(Resharded { bytes, classes: images.into_iter().map(|made| made.image.class).collect() })
}

fn config(artifact: &Artifact) -> Result<BloomConfig, Error> {
    serde_json::from_str(&artifact.meta().config).map_err(|_| lacks(artifact, "its model's settings"))
}

fn lacks(artifact: &Artifact, what: &str) -> Error {
    Error::Refused(format!(
        "{} does not hold {what}: compile the model again with --strategy",
        artifact.path().display()
    ))
}

fn targets(artifact: &Artifact) -> Result<Vec<Target>, Error> {
    let parse = |class: &str| format!("cpu:{class}").parse().map_err(|_| lacks(artifact, "code for known processors"));
    artifact.classes().into_iter().map(parse).collect()
}

/// What an artifact says of itself, with what there is to know of the new strategy instead of the old one.
fn noted(meta: &Meta, asked: &Strategy, config: &BloomConfig, progress: &mut dyn Progress) -> Result<Meta, Error> {
    let (_, new) = strategy::shared(asked, config)?;
    new.iter().for_each(|note| progress.note(note));
    let old = meta.options.get("strategy").and_then(|old| old.parse().ok());
    let old = old.and_then(|old: Strategy| strategy::shared(&old, config).ok()).map_or(vec![], |(_, notes)| notes);
    let kept = meta.notes.iter().filter(|note| !old.contains(note));
    Ok(Meta { notes: kept.cloned().chain(new).collect(), ..meta.clone() })
}

fn with(meta: Meta, asked: &Strategy, images: &[Made]) -> Meta {
    let Meta { mut options, mut provenance, .. } = meta.clone();
    options.insert("strategy".to_owned(), asked.to_string());
    code::describe(images, &mut options, &mut provenance);
    Meta { options, provenance, ..meta }
}

/// An answer about weights that nobody can look at any more.
struct Said(bool);

impl Weights for Said {
    fn scales_exactly(&self, _: &str, _: DType, _: f64) -> bool {
        self.0
    }
}

/// The program for other ranks, with the same weights as before: what passes asked about values then is answered so that
/// these come out.
fn program(artifact: &Artifact, asked: &Strategy, config: &BloomConfig) -> Result<Program, Error> {
    let text = artifact.graph().ok_or_else(|| lacks(artifact, "the graph it was made from"))?;
    let module = bloomery_ir::parse(text).map_err(|_| lacks(artifact, "a graph that this version reads"))?;
    let answers: [&dyn Weights; 3] = [&Said(true), &Said(false), &Unseen];
    for answer in answers {
        let program = passes(&module, asked, config, answer)?;
        if same_weights(artifact.program(), &program) {
            return Ok(program);
        }
    }
    Err(lacks(artifact, "weights that this version's passes make"))
}

fn passes(module: &Module, asked: &Strategy, config: &BloomConfig, answer: &dyn Weights) -> Result<Program, Error> {
    let (shared, _) = strategy::shared(asked, config)?;
    let entries = bloom(config, &BloomOptions::default()).interfaces;
    let cx = Context { target: &Cpu, entries: &entries, strategy: shared.as_ref(), inference: Some(answer) };
    match pipeline::run(module.clone(), &cx, None, &mut |_, _| {})? {
        Stage::Program(program) => Ok(strategy::replicated(*program, asked)),
        _ => unreachable!("the last pass makes a program"),
    }
}

/// Whether a program has the weights of another, each in other pieces, with or without zeros after the last.
fn same_weights(old: &Program, new: &Program) -> bool {
    let same = |parameter: &Parameter| {
        let known = find(old, parameter);
        known.is_some_and(|(_, known)| {
            (unpadded(known, &old.mesh), known.stacked, &known.layout)
                == (unpadded(parameter, &new.mesh), parameter.stacked, &parameter.layout)
        })
    };
    new.parameters.iter().all(same)
}

/// What a weight is and where its values come from, without the zeros that some numbers of ranks need.
fn unpadded(parameter: &Parameter, mesh: &Mesh) -> (TensorType, Origin) {
    let whole = parameter.whole(mesh).unnamed();
    let Origin::Computed(graph) = &parameter.origin else { return (whole, parameter.origin.clone()) };
    let graph = pad::unpadded(graph);
    let ty = graph.ty(graph.outputs[0]).unnamed();
    let origin = if graph.nodes.is_empty() { Origin::Checkpoint } else { Origin::Computed(Box::new(graph)) };
    (ty, origin)
}

fn find<'a>(program: &'a Program, wanted: &Parameter) -> Option<(usize, &'a Parameter)> {
    program.parameters.iter().enumerate().find(|(_, parameter)| parameter.name == wanted.name)
}

/// The sections in `compile`'s order.
fn write(
    writer: &mut ArtifactWriter,
    artifact: &Artifact,
    program: &Program,
    images: &[Made],
    meta: Meta,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    writer.program(program)?;
    writer.graph(artifact.graph().expect("passes ran on it"))?;
    if let Some(tokenizer) = artifact.tokenizer() {
        writer.tokenizer(tokenizer)?;
    }
    images.iter().try_for_each(|made| writer.code(&made.image))?;
    let table = plan_weights(program).map_err(|error| Error::Refused(error.to_string()))?;
    progress.begin("cut the weights anew", table.bytes);
    writer.weights(&table, |sink| repack(sink, artifact, program, &table, progress))?;
    progress.end(&format!("{} bytes", table.bytes));
    writer.meta(&meta)?;
    progress.go_on()
}

fn repack(
    sink: &mut WeightSink<'_>,
    artifact: &Artifact,
    program: &Program,
    table: &WeightTable,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    let slots = table.slots().into_iter().map(|slot| (slot, slot.bytes));
    let make = |slot: Slot| (slot, piece(artifact, program, slot));
    in_order(slots, make, |(slot, bytes)| {
        progress.go_on()?;
        sink.record(slot, &bytes?)?;
        progress.advance(slot.bytes);
        Ok(())
    })
}

/// A new piece of a weight, from the old ones.
fn piece(artifact: &Artifact, program: &Program, slot: Slot) -> Result<Vec<u8>, Error> {
    let new = &program.parameters[slot.parameter];
    let (number, old) = find(artifact.program(), new).expect("the weights are the same");
    artifact.unchecked(number, slot.layer).try_for_each(|piece| artifact.check_piece(piece))?;
    let placement = &artifact.weight_table().placements[number];
    let to = Held::of(new, &program.mesh, slot.part);
    let mut bytes = vec![0; slot.bytes as usize];
    for part in 0..placement.parts {
        let range = placement.range(slot.layer, part);
        let from = Held::of(old, &artifact.program().mesh, part);
        copy(&from, &artifact.weights()[range.start as usize..range.end as usize], &to, &mut bytes);
    }
    Ok(bytes)
}

/// A piece of a weight, or of a layer of it: where it lies in the whole.
struct Held<'a> {
    parameter: &'a Parameter,
    /// Of every dimension.
    ranges: Vec<Range<usize>>,
}

impl Held<'_> {
    fn of<'a>(parameter: &'a Parameter, mesh: &Mesh, part: u64) -> Held<'a> {
        let cut = parameter.layer_ranges(mesh, part);
        let range = |(dim, extent)| cut.get(&dim).cloned().unwrap_or(0..extent);
        Held { parameter, ranges: shape(parameter).into_iter().enumerate().map(range).collect() }
    }

    /// The bytes at which elements begin that differ along some dimensions, counted from where those dimensions are 0; the
    /// others stay at their first.
    fn bytes(&self, dims: &[usize], both: &[Range<usize>]) -> Vec<usize> {
        let Parameter { layout, ty, .. } = self.parameter;
        let shape: Vec<usize> = self.ranges.iter().map(Range::len).collect();
        let extents: Vec<usize> = dims.iter().map(|dim| both[*dim].len()).collect();
        let byte = |offset: &[usize]| {
            let mut index = vec![0; shape.len()];
            dims.iter().zip(offset).for_each(|(&dim, i)| index[dim] = both[dim].start - self.ranges[dim].start + i);
            layout.position(&shape, ty.dtype, &index) * ty.dtype.bits() as usize / 8
        };
        map_indices(&extents, byte).collect()
    }
}

/// Copies the elements that both have. In every layout of weights the place of an element is a sum: of what the dimensions that
/// products sum over (or the last) say, and of what the others say.
fn copy(from: &Held<'_>, given: &[u8], to: &Held<'_>, bytes: &mut [u8]) {
    let both = from.ranges.iter().zip(&to.ranges).map(|(a, b)| a.start.max(b.start)..a.end.min(b.end));
    let both: Vec<Range<usize>> = both.collect();
    if both.iter().any(Range::is_empty) {
        return;
    }
    let dims = 0..both.len();
    let inner: Vec<usize> = match &to.parameter.layout {
        Layout::Panels { contracted } => contracted.clone(),
        _ => dims.clone().rev().take(1).collect(),
    };
    let outer: Vec<usize> = dims.filter(|dim| !inner.contains(dim)).collect();
    let places = |dims: &[usize]| -> Vec<(usize, usize)> {
        from.bytes(dims, &both).into_iter().zip(to.bytes(dims, &both)).collect()
    };
    let (outer, inner, size) = (places(&outer), places(&inner), to.parameter.ty.dtype.bits() as usize / 8);
    for (old, new) in outer {
        for (from, to) in &inner {
            bytes[new + to..][..size].copy_from_slice(&given[old + from..][..size]);
        }
    }
}
