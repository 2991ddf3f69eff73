//! `compile`: a model's folder (or a published size with random weights, or a YAML configuration) to one artifact.
//!
//! The way: settings and names of weights (`model`, `configured`), graphs, passes, a program, code for each class (`code`),
//! then weights packed one by one as they are written (`weights`). Nothing large is held: a tensor is mapped, packed in
//! pieces by all threads, written, dropped. Equal inputs give equal bytes; the artifact knows hashes of what was read, no
//! path, no time.

mod compute_error;
mod configured;
pub(crate) mod in_order;
mod model;
mod narrowed;
mod plan;
mod random;
mod save_strategy;
pub mod strategy;
mod values;
pub(crate) mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bloomery_artifact::plan::CallPlan;
use bloomery_artifact::{ArtifactWriter, Meta, Provenance, Source, plan_weights};
use bloomery_codegen::ascend;
use bloomery_configs::Strategy;
use bloomery_formats::mindspore::Key;
use bloomery_ir::ascend::Chip;
use bloomery_ir::{DType, Module, Op, Program};
use bloomery_models::config::WeightType;
use bloomery_models::{BloomOptions, bloom};
use bloomery_passes::pipeline::{self, Stage};
use bloomery_passes::{self as passes, Context};

use crate::code::{self, Made};
use crate::targets::{self, Target};
use crate::{Error, Progress, output};
pub use configured::Configured;
use model::{Loaded, Weights};
use narrowed::{Beyond, Narrowed};
pub use plan::{DevicePlan, Plan, StagePlan, plan};
pub use save_strategy::{Saved, StrategyFiles, strategy_files};
use values::Values;

/// What to compile, and how.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// The model.
    pub model: ModelSource,
    /// The type weights get; as stored when nothing is said.
    pub dtype: Option<WeightType>,
    /// Weights of products in 8 bits, with a factor for each column, on devices that have that.
    pub int8: bool,
    /// What to make code for; see [`Target::default_here`].
    pub targets: Vec<Target>,
    /// The arithmetic of products.
    pub compute: Compute,
    /// The type of cached keys and values: f32 or f16; as exact as the weights when nothing is said.
    pub kv_dtype: Option<WeightType>,
    /// Tokens a sequence may have, prompt and answer together.
    pub max_context: u64,
    /// Tokens that run at once, at most.
    pub chunk: u64,
    /// How ranks share the model.
    pub strategy: Strategy,
    /// How ranks share the checkpoint that it comes from, if that is a folder with `rank_N/*.ckpt`: a strategy file, or a
    /// folder of them; looked for when nothing is said.
    pub source_strategy: Option<PathBuf>,
    /// What opens an encrypted checkpoint of MindSpore's.
    pub key: Option<Key>,
    /// A folder for one file after each pass.
    pub dump_ir: Option<PathBuf>,
}

impl CompileOptions {
    /// The usual options for a model.
    pub fn new(model: ModelSource) -> CompileOptions {
        CompileOptions {
            model,
            dtype: None,
            int8: false,
            targets: vec![Target::default_here()],
            compute: Compute::F32,
            kv_dtype: None,
            max_context: 2048,
            chunk: 512,
            strategy: Strategy::default(),
            source_strategy: None,
            key: None,
            dump_ir: None,
        }
    }
}

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum ModelSource {
    /// A Hugging Face folder, or the name of a model that has one on this machine: `config.json`, safetensors or torch's
    /// `.bin` files, perhaps `tokenizer.json` and `generation_config.json`. Or MindSpore's: a `.ckpt` with a `config.json`
    /// beside it, or a folder with one of each, or with `rank_N/*.ckpt` of ranks that share it.
    Folder(PathBuf),
    /// A published size whose weights are random: for benchmarks.
    Random {
        /// Its name, such as `560m`.
        size: String,
        /// Equal seeds give equal weights.
        seed: u64,
    },
    /// What a YAML configuration says.
    Configured(Box<Configured>),
}

/// The arithmetic of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute {
    /// As exact as f32.
    F32,
    /// Activations rounded to bf16, weights of bf16, sums of f32.
    Bf16,
}

impl Compute {
    /// Its name on the command line and in artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Compute::F32 => "f32",
            Compute::Bf16 => "bf16",
        }
    }
}

/// What to print instead of compiling to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// The graphs as the model's description writes them, before any pass.
    Ir,
    /// The program after all passes.
    Program,
    /// The C of all kernels, for one class.
    C,
    /// The plan of calls for a device.
    Plan,
    /// The same calls as one file of C++.
    Cpp,
    /// What a pass made, by [`emit`]'s `stop_after`.
    Stage,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The artifact's size.
    pub bytes: u64,
    /// Bytes of packed weights in it.
    pub weights_bytes: u64,
    /// Classes of processors it has code for, or the chips it is for; none means the interpreter.
    pub classes: Vec<String>,
}

/// The longest context, in tokens.
pub const CONTEXT_MAX: u64 = 1 << 20;
/// The most tokens that run at once.
pub const CHUNK_MAX: u64 = 1 << 14;
/// Pages of all sequences of a session, at most.
const POOL: u64 = 65_536;
/// Sequences that a device's cache has room for, a longest context each.
const SEQUENCES: u64 = 8;

/// Compiles a model into an artifact at `output`, which appears there only when it is complete.
/// It replaces an older file there, but none that the model is read from.
///
/// # Errors
/// Everything that can be wrong with the model, the options, the C compiler or the file system.
pub fn compile(options: &CompileOptions, output: &Path, progress: &mut dyn Progress) -> Result<Compiled, Error> {
    check(options)?;
    output::check(output)?;
    let loaded = load(options, progress)?;
    loaded.check_apart(output)?;
    let wanted = AtomicBool::new(true);
    std::thread::scope(|scope| {
        // Hashing reads the inputs once more; beside the compiler's work it costs no time of its own.
        let hashes = scope.spawn(|| loaded.hashes(&wanted));
        let compiled = write(options, output, &loaded, || hashes.join().expect("hashing does not panic"), progress);
        // The scope waits for hashes that nobody wants any more.
        wanted.store(false, Ordering::Relaxed);
        compiled
    })
}

fn write(
    options: &CompileOptions,
    output: &Path,
    loaded: &Loaded,
    hashes: impl FnOnce() -> Vec<Source>,
    progress: &mut dyn Progress,
) -> Result<Compiled, Error> {
    let description = describe(loaded, options)?;
    let program = lower(loaded, &description, &Values::of(loaded), options, progress)?;
    let certificate = strategy::proven(&options.strategy, &loaded.config, progress)?;
    // The file comes before the code: where it cannot be written, nobody waits for the compiler.
    let mut writer = ArtifactWriter::create(output)?;
    let images = code::images(&program, &options.targets, progress)?;
    writer.program(&program)?;
    writer.graph(&bloomery_ir::print::print(&description.module))?;
    if let Some(tokenizer) = &loaded.tokenizer {
        writer.tokenizer(tokenizer.bytes())?;
    }
    images.iter().try_for_each(|made| writer.code(&made.image))?;
    if let Some(plan) = call_plan(&program, options, progress)? {
        writer.plan(&plan)?;
    }
    let beyond = if targets::chip(&options.targets)?.is_some() { Beyond::Largest } else { Beyond::Refused };
    let (weights_bytes, narrowed) = pack(&mut writer, &program, loaded, beyond, progress)?;
    let lost = narrowed.note();
    lost.iter().for_each(|note| progress.note(note));
    progress.go_on()?;
    let mut meta = meta(loaded, options, hashes(), &images);
    meta.notes.extend(lost);
    writer.meta(&Meta { certificate, ..meta })?;
    progress.go_on()?;
    loaded.unchanged()?;
    let bytes = writer.finish()?;
    let device = options.targets.iter().filter(|target| matches!(target, Target::Ascend(_))).map(ToString::to_string);
    let classes = images.into_iter().map(|made| made.image.class).chain(device).collect();
    Ok(Compiled { bytes, weights_bytes, classes })
}

/// Returns what was asked for as text, and makes no artifact. `stop_after` names the last pass to run: it decides what
/// [`Emit::Stage`] shows, and lets [`Emit::Ir`] show a later stage than the first.
///
/// # Errors
/// As [`compile`]; C for several classes at once.
pub fn emit(
    options: &CompileOptions,
    what: Emit,
    stop_after: Option<&str>,
    progress: &mut dyn Progress,
) -> Result<String, Error> {
    check(options)?;
    let loaded = load(options, progress)?;
    let description = describe(&loaded, options)?;
    let values = Values::of(&loaded);
    match (what, stop_after) {
        (Emit::Ir, None) => Ok(bloomery_ir::print::print(&description.module)),
        (Emit::Ir | Emit::Stage, last) => Ok(through(&loaded, &description, &values, options, last, progress)?.print()),
        (Emit::Program, None) => Ok(lower(&loaded, &description, &values, options, progress)?.print()),
        (Emit::C, None) if targets::chip(&options.targets)?.is_some() => {
            Err(Error::Refused("--emit c is of processors: say --emit cpp for the calls of a device".to_owned()))
        }
        (Emit::C, None) => code::source(&lower(&loaded, &description, &values, options, progress)?, &options.targets),
        (Emit::Plan | Emit::Cpp, None) => {
            let program = lower(&loaded, &description, &values, options, progress)?;
            let plan = call_plan(&program, options, progress)?.ok_or_else(|| {
                Error::Refused("--emit plan and cpp are of devices: say --target ascend:910a or ascend:910b".to_owned())
            })?;
            Ok(if what == Emit::Cpp { ascend::cpp::source(&plan) } else { bloomery_artifact::plan::text::print(&plan) })
        }
        (Emit::Program | Emit::C | Emit::Plan | Emit::Cpp, Some(pass)) => Err(Error::Refused(format!(
            "--stop-after {pass} stops before there is what --emit asks for: leave one of both out"
        ))),
    }
}

fn check(options: &CompileOptions) -> Result<(), Error> {
    let bounds = |name: &str, value: u64, most: u64| match value {
        0 => Err(Error::Refused(format!("{name} is 0, it must be 1 to {most}"))),
        value if value > most => Err(Error::Refused(format!("{name} is {value}, it must be 1 to {most}"))),
        _ => Ok(()),
    };
    bounds("--max-context", options.max_context, CONTEXT_MAX)?;
    bounds("--chunk", options.chunk, CHUNK_MAX)?;
    match targets::chip(&options.targets)? {
        Some(chip) => check_device(chip, options)?,
        None if options.int8 => {
            return Err(Error::Refused(
                "--int8 is for --target ascend:910b; processors take weights of f32, f16 or bf16".to_owned(),
            ));
        }
        None => {}
    }
    match options.kv_dtype {
        Some(WeightType::Bf16) => Err(Error::Refused("--kv-dtype is bf16, it must be f32 or f16".to_owned())),
        _ => Ok(()),
    }
}

/// What a device does not have.
fn check_device(chip: Chip, options: &CompileOptions) -> Result<(), Error> {
    let lacks = |what: &str, way_out: &str| Err(Error::Refused(format!("the {chip} {what}: {way_out}")));
    match (options.dtype, options.kv_dtype, options.compute) {
        _ if options.int8 && chip == Chip::A910 => lacks("multiplies no weights of 8 bits", "leave --int8 out"),
        (Some(WeightType::F32), ..) => lacks("multiplies weights of 16 bits", "leave --dtype f32 out, or say f16"),
        (Some(WeightType::Bf16), ..) if chip == Chip::A910 => {
            lacks("has no bf16", "leave --dtype bf16 out, or say f16")
        }
        (_, Some(WeightType::F32), _) => lacks("keeps keys and values in 16 bits", "leave --kv-dtype f32 out"),
        (.., Compute::Bf16) => lacks("computes as its units do", "leave --compute bf16 out"),
        _ => Ok(()),
    }
}

fn load(options: &CompileOptions, progress: &mut dyn Progress) -> Result<Loaded, Error> {
    progress.begin("read the model", 0);
    opened(Loaded::open(options, progress)?, options, progress)
}

/// Says what was opened, with what there is to say of the strategy.
fn opened(mut loaded: Loaded, options: &CompileOptions, progress: &mut dyn Progress) -> Result<Loaded, Error> {
    loaded.notes.extend(strategy::shared(&options.strategy, &loaded.config)?.1);
    let config = &loaded.config;
    progress.end(&format!(
        "{} layers, {} hidden, {} heads, vocabulary {}, {} parameters",
        config.layers,
        config.hidden,
        config.heads,
        config.vocab,
        config.parameters()
    ));
    loaded.notes.iter().for_each(|note| progress.note(note));
    Ok(loaded)
}

/// The model's graphs, and what callers enter.
struct Description {
    module: Module,
    interfaces: Vec<bloomery_ir::Interface>,
}

fn describe(loaded: &Loaded, options: &CompileOptions) -> Result<Description, Error> {
    let chip = targets::chip(&options.targets)?;
    let target = targets::passes_target(chip, options.max_context);
    let page_tokens = target.page_tokens();
    let asked = |name: &str| options.dtype.unwrap_or_else(|| loaded.dtype(name));
    let dtype = |name: &str| DType::from(chip.map_or_else(|| asked(name), |chip| on_device(chip, name, asked(name))));
    let usual = BloomOptions::default();
    let (sequences, pool) = if chip.is_some() { (SEQUENCES, SEQUENCES) } else { (usual.sequences, POOL) };
    let bloom_options = BloomOptions {
        activation: target.activation(),
        weights: &dtype,
        left: (options.compute == Compute::Bf16).then_some(DType::BF16),
        kv_dtype: kv_dtype(loaded, options).into(),
        page_tokens,
        chunk: options.chunk,
        pages: options.max_context.div_ceil(page_tokens),
        sequences,
        pool,
        ..usual
    };
    let model = bloom(&loaded.config, &bloom_options);
    if options.compute == Compute::Bf16 {
        check_bf16(&model.module)?;
    }
    Ok(Description { module: model.module, interfaces: model.interfaces })
}

/// The type of a weight on a device: products take 16 bits, f16 where bf16 is not there; what is added and scaled with is
/// f32, as the values it meets.
fn on_device(chip: Chip, name: &str, asked: WeightType) -> WeightType {
    let is_matrix = name.ends_with("weight") && !name.contains("layernorm") && !name.starts_with("ln_f");
    match (chip, asked) {
        _ if !is_matrix => WeightType::F32,
        (Chip::B910, WeightType::Bf16) => WeightType::Bf16,
        _ => WeightType::F16,
    }
}

/// That the right operands of all products are of bf16.
fn check_bf16(module: &Module) -> Result<(), Error> {
    for graph in &module.graphs {
        let products = graph.nodes.iter().filter(|node| matches!(node.op, Op::MatMul(_)));
        for weight in products.filter_map(|product| graph.inputs.get(product.operands[1].index())) {
            if weight.ty.dtype != DType::BF16 {
                return Err(Error::Refused(format!(
                    "--compute bf16 multiplies with weights of bf16, and {} is of {}: say --dtype bf16, or --compute f32",
                    weight.name, weight.ty.dtype
                )));
            }
        }
    }
    Ok(())
}

/// Of cached keys and values: as exact as the weights that make them, where nothing is said.
fn kv_dtype(loaded: &Loaded, options: &CompileOptions) -> WeightType {
    let weights = options.dtype.unwrap_or_else(|| loaded.dtype("h.attention.key.weight"));
    let follows = match targets::chip(&options.targets) {
        Ok(Some(chip)) => on_device(chip, "h.attention.key.weight", weights),
        _ if weights == WeightType::F32 => WeightType::F32,
        _ => WeightType::F16,
    };
    options.kv_dtype.unwrap_or(follows)
}

fn lower(
    loaded: &Loaded,
    description: &Description,
    values: &dyn passes::Weights,
    options: &CompileOptions,
    progress: &mut dyn Progress,
) -> Result<Program, Error> {
    match through(loaded, description, values, options, None, progress)? {
        Stage::Program(program) => Ok(strategy::replicated(*program, &options.strategy)),
        _ => unreachable!("the last pass makes a program"),
    }
}

/// The calls of a program for a device, checked; none for processors.
fn call_plan(
    program: &Program,
    options: &CompileOptions,
    progress: &mut dyn Progress,
) -> Result<Option<CallPlan>, Error> {
    let Some(chip) = targets::chip(&options.targets)? else { return Ok(None) };
    progress.begin("plan the calls", 0);
    let plan = ascend::plan(program, chip, options.int8)
        .map_err(|refusal| Error::Refused(format!("ascend:{chip}: {refusal}")))?;
    bloomery_artifact::plan::check::check(&plan).map_err(|error| Error::Refused(format!("ascend:{chip}: {error}")))?;
    let entries: usize = plan.parts.iter().map(|part| part.entries.len()).sum();
    progress.end(&format!("{entries} entries for {} ranks, {} symbols", program.ranks(), plan.symbols.len()));
    Ok(Some(plan))
}

/// Runs the passes, and writes down what each makes if that is asked for.
fn through(
    loaded: &Loaded,
    description: &Description,
    values: &dyn passes::Weights,
    options: &CompileOptions,
    last: Option<&str>,
    progress: &mut dyn Progress,
) -> Result<Stage, Error> {
    if let Some(folder) = &options.dump_ir {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    progress.begin("run the passes", 0);
    let (shared, _) = strategy::shared(&options.strategy, &loaded.config)?;
    let (entries, strategy) = (&description.interfaces, shared.as_ref());
    let target = targets::passes_target(targets::chip(&options.targets)?, options.max_context);
    let cx = Context { target: &*target, entries, strategy, inference: Some(values) };
    let (mut names, mut failed) = (Vec::new(), None);
    let stage = pipeline::run(description.module.clone(), &cx, last, &mut |name, stage| {
        names.push(name.to_owned());
        if let Some(folder) = &options.dump_ir {
            let kind = if matches!(stage, Stage::Module(_)) { "bir" } else { "program" };
            let path = folder.join(format!("{:02}-{name}.{kind}", names.len()));
            failed = failed.take().or(output::write_text(&path, &stage.print(), &*progress).err());
        }
    })?;
    failed.map_or(Ok(()), Err)?;
    progress.go_on()?;
    progress.end(&names.join(", "));
    Ok(stage)
}

fn pack(
    writer: &mut ArtifactWriter,
    program: &Program,
    loaded: &Loaded,
    beyond: Beyond,
    progress: &mut dyn Progress,
) -> Result<(u64, Narrowed), Error> {
    let plan = plan_weights(program).map_err(|error| Error::Refused(error.to_string()))?;
    progress.begin("pack the weights", plan.bytes);
    let mut narrowed = Narrowed::default();
    writer.weights(&plan, |sink| {
        narrowed = weights::write(sink, &plan, program, &Values::of(loaded), beyond, progress)?;
        Ok::<(), Error>(())
    })?;
    progress.end(&format!("{} parameters, {} bytes", program.parameters.len(), plan.bytes));
    Ok((plan.bytes, narrowed))
}

fn meta(loaded: &Loaded, options: &CompileOptions, inputs: Vec<Source>, images: &[Made]) -> Meta {
    let config = &loaded.config;
    let named = [
        ("int8", options.int8.to_string()),
        ("dtype", options.dtype.map_or(loaded.types.map_or("keep", |_| "configured"), WeightType::name).to_owned()),
        ("compute", options.compute.name().to_owned()),
        ("kv-dtype", kv_dtype(loaded, options).name().to_owned()),
        ("max-context", options.max_context.to_string()),
        ("chunk", options.chunk.to_string()),
        ("strategy", options.strategy.to_string()),
    ];
    let mut all: BTreeMap<String, String> = named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if options.compute == Compute::Bf16 {
        all.insert("compute-error".to_owned(), format!("{:.1e}", compute_error::of_bf16(config.hidden)));
    }
    if let ModelSource::Random { size, .. } = &options.model {
        all.insert("size".to_owned(), size.clone());
    }
    if let Weights::Random(seed) = &loaded.weights {
        all.insert("random-weights".to_owned(), seed.to_string());
    }
    if let ModelSource::Configured(configured) = &options.model {
        all.extend(configured.set().map(|set| ("set".to_owned(), set)));
    }
    let mut provenance = Provenance { inputs, version: env!("CARGO_PKG_VERSION").to_owned(), ..Provenance::default() };
    code::describe(images, &mut all, &mut provenance);
    if let [target @ Target::Ascend(_)] = options.targets[..] {
        all.insert("target".to_owned(), target.name());
    }
    Meta {
        config: serde_json::to_string(config).expect("settings are plain data"),
        vocabulary: config.vocab as u32,
        generation: serde_json::to_string(&loaded.generation).expect("settings are plain data"),
        bos: Some(config.special.bos),
        pad: Some(config.special.pad),
        trained_length: Some(config.trained_length as u32),
        max_context: options.max_context as u32,
        options: all,
        provenance,
        certificate: String::new(),
        notes: loaded.notes.clone(),
    }
}
