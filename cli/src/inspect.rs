//! `inspect`: what a file is and what it holds: artifacts in full, models' files in brief.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bloomery_artifact::format::MAGIC;
use bloomery_artifact::plan::check::hccl;
use bloomery_artifact::plan::{CallPlan, aclnn};
use bloomery_artifact::{Artifact, Check, Provenance, WeightTable, sizes};
use bloomery_formats::mindspore::Key;
use bloomery_formats::rank_table::{Problem, RankTable};
use bloomery_formats::{FormatError, Kind};
use bloomery_ir::Bindings;
use bloomery_ir::ascend;
use bloomery_ir::print::print_graph;
use bloomery_ir::program::{Buffer, Origin, Parameter, Program, Step};
use bloomery_models::config::{BloomConfig, GenerationSettings};
use bloomery_models::names::Names;
use bloomery_models::tokenizer::Tokenizer;
use serde::Serialize;
use serde_json::Value;

use crate::checkpoint::{Whole, has_ranks};
use crate::compile::strategy::Certified;
use crate::data::show::{Shown, show};
use crate::generation::makers;
use crate::profile::tile_pieces;
use crate::stored::{Item, StoredTensors, Told, folder_of};
use crate::strategy::files::{self, ShownFiles};
use crate::{Error, Quiet, find};

/// What was found.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Inspection {
    /// An artifact.
    Artifact(Box<ArtifactView>),
    /// A model's folder: settings and weights.
    Folder(Box<FolderView>),
    /// A safetensors file.
    Safetensors {
        /// What it holds.
        #[serde(flatten)]
        tensors: Tensors,
    },
    /// A file that torch wrote.
    Torch {
        /// What it holds.
        #[serde(flatten)]
        tensors: Tensors,
    },
    /// A checkpoint of MindSpore's.
    Mindspore {
        /// What it holds.
        #[serde(flatten)]
        tensors: Tensors,
    },
    /// A strategy file of MindSpore's.
    Strategy(ShownFiles),
    /// A MindRecord data set.
    Mindrecord(Box<Shown>),
    /// A rank table.
    RankTable {
        /// What it says.
        table: RankTable,
        /// What keeps it from being used on Ascend 910A.
        problems: Vec<Problem>,
    },
    /// A `config.json`.
    Config {
        /// What it says.
        config: BloomConfig,
    },
}

/// A model's folder.
#[derive(Clone, Debug, Serialize)]
pub struct FolderView {
    /// From `config.json`.
    pub config: BloomConfig,
    /// From `generation_config.json`.
    pub generation: GenerationSettings,
    /// How many ids its tokenizer has, if it has one.
    pub tokenizer: Option<usize>,
    /// Its weights.
    #[serde(flatten)]
    pub tensors: Tensors,
}

/// The tensors of a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Tensors {
    /// How many files.
    pub files: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Of a checkpoint that ranks share, how they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks: Option<RanksView>,
    /// Each tensor.
    pub tensors: Vec<TensorView>,
}

/// Ranks that share a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct RanksView {
    /// How many.
    pub count: u32,
    /// The strategy's file or folder; without, one rank has all.
    pub strategy: Option<PathBuf>,
    /// Those whose files are enough for all.
    pub read: Vec<u32>,
}

/// One tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorView {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// An artifact.
#[derive(Clone, Debug, Serialize)]
pub struct ArtifactView {
    /// The file's size.
    pub bytes: u64,
    /// Its sections.
    pub sections: Vec<SectionView>,
    /// The model's settings.
    pub model: Value,
    /// What its makers say of generation.
    pub generation: GenerationSettings,
    /// Tokens a sequence may have.
    pub max_context: u32,
    /// How many ranks share the model.
    pub ranks: u64,
    /// How they do, in the short form.
    pub strategy: String,
    /// That they compute what one computes.
    pub certificate: Option<Certified>,
    /// Classes of processors there is code for.
    pub classes: Vec<String>,
    /// The one that this processor runs it by; none means the interpreter, or that nothing here runs it.
    pub best_class: Option<String>,
    /// Of each class whose products run on matrix tiles, with bits of their own: those products.
    pub tiles: BTreeMap<String, TilesView>,
    /// Of an artifact for Ascend chips, how each operation is computed there.
    pub device: Option<DeviceView>,
    /// What runs.
    pub plan: Plan,
    /// What running takes.
    pub memory: Memory,
    /// Options of the compilation.
    pub options: BTreeMap<String, String>,
    /// Hashes of inputs, versions.
    pub provenance: Provenance,
    /// What the compiler wanted read.
    pub notes: Vec<String>,
}

/// One section.
#[derive(Clone, Debug, Serialize)]
pub struct SectionView {
    /// What it holds.
    pub name: String,
    /// Bytes from the file's start.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Of its bytes, in hexadecimal; weights have hashes by piece instead.
    pub sha256: Option<String>,
}

/// What a plan of calls is for, and on what evidence.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceView {
    /// The generation.
    pub chip: String,
    /// Names that such chips give themselves.
    pub soc: Vec<String>,
    /// The least version of CANN.
    pub cann: String,
    /// Functions of the libraries that it needs.
    pub symbols: usize,
    /// By operation, each with the calls it became.
    pub lowered: Vec<LoweredView>,
}

/// An operation's calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LoweredView {
    /// The operation.
    pub op: String,
    /// A call it became.
    pub call: String,
    /// How often that stands in the plan.
    pub times: usize,
    /// The headers that its prototype was seen in.
    pub header: String,
    /// Whether the documents say that the chip has it.
    pub documented: bool,
    /// The kernels that CANN 8.1 has for it there, with the types of their first input.
    pub kernel: String,
}

/// Products on matrix tiles, in the code of one class.
#[derive(Clone, Debug, Serialize)]
pub struct TilesView {
    /// How many kernels are such products.
    pub kernels: usize,
    /// Pieces of bf16 that an activation becomes, at most: three are as exact as f32, one is rounded.
    pub pieces: u32,
}

/// The program in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Weights and constants.
    pub parameters: Vec<ParameterView>,
    /// Kernels by kind.
    pub kernels: BTreeMap<String, usize>,
    /// Entry points.
    pub entries: Vec<EntryView>,
}

/// A weight or constant.
#[derive(Clone, Debug, Serialize)]
pub struct ParameterView {
    /// Its name.
    pub name: String,
    /// Its type, layers first if it has them.
    #[serde(rename = "type")]
    pub ty: String,
    /// Bytes it takes, all layers.
    pub bytes: u64,
    /// The checkpoint's weights that it was computed from, if it is none of them itself.
    pub computed_from: Vec<String>,
    /// The graph that computed it, or one layer of it.
    pub computed_by: Option<String>,
}

impl ParameterView {
    /// The type of its elements, such as `f16`.
    pub fn dtype(&self) -> &str {
        self.ty.split('[').next().unwrap_or_default()
    }
}

/// One entry point.
#[derive(Clone, Debug, Serialize)]
pub struct EntryView {
    /// Its name.
    pub name: String,
    /// What its rows are counted by.
    pub rows: String,
    /// Fewest rows.
    pub least: u64,
    /// Most rows.
    pub most: u64,
    /// Steps, those of a loop once.
    pub steps: usize,
    /// Bytes of arena.
    pub arena_bytes: u64,
}

/// Bytes that running takes.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Packed weights: mapped, shared by all processes on the file.
    pub weights_bytes: u64,
    /// The arenas of all ranks: the most any entry point needs.
    pub arena_bytes: u64,
    /// Inputs and outputs of calls, at their largest.
    pub ios: Vec<IoView>,
    /// Their sum.
    pub ios_bytes: u64,
    /// One page of the cache, of all layers, on all ranks of a replica.
    pub cache_page_bytes: u64,
    /// Tokens in a page.
    pub cache_page_tokens: u64,
}

/// An input or output of calls.
#[derive(Clone, Debug, Serialize)]
pub struct IoView {
    /// Its name.
    pub name: String,
    /// Bytes at its largest.
    pub bytes: u64,
}

/// Looks at a file or a model's folder, or at a model by its name.
///
/// # Errors
/// Nothing that is known, or damaged.
pub fn inspect(path: &Path) -> Result<Inspection, Error> {
    inspect_with(path, None, None)
}

/// As [`inspect`], with what opens an encrypted checkpoint, and how ranks share one.
///
/// # Errors
/// As there; a key that does not open it, a strategy that does not fit it.
pub fn inspect_with(path: &Path, key: Option<&Key>, strategy: Option<&Path>) -> Result<Inspection, Error> {
    let path = &*find::local(path)?;
    let stored = |preferred| StoredTensors::open(path, Told { strategy, key }, preferred, &mut Quiet);
    if is_artifact(path) {
        let artifact = Artifact::open(path, Check::None)?;
        return Ok(Inspection::Artifact(Box::new(view(&artifact))));
    }
    if path.is_dir() {
        return match folder_of(path).join("config.json").exists() {
            false if has_ranks(path)? => Ok(Inspection::Mindspore { tensors: tensors(&stored(Names::MindSpore)?) }),
            false if files::are_in(path)? => Ok(Inspection::Strategy(files::show(path)?)),
            _ => Ok(Inspection::Folder(Box::new(folder(&folder_of(path), || stored(Names::HuggingFace))?))),
        };
    }
    match Kind::of(path)? {
        Some(Kind::Safetensors) => Ok(Inspection::Safetensors { tensors: tensors(&stored(Names::HuggingFace)?) }),
        Some(Kind::Torch) => Ok(Inspection::Torch { tensors: tensors(&stored(Names::HuggingFace)?) }),
        Some(Kind::Mindspore) => Ok(Inspection::Mindspore { tensors: tensors(&stored(Names::MindSpore)?) }),
        Some(Kind::Strategy) => Ok(Inspection::Strategy(files::show(path)?)),
        // Of an index this says which file to name.
        Some(Kind::MindRecord | Kind::Database) => Ok(Inspection::Mindrecord(Box::new(show(path, 0, None)?))),
        Some(Kind::RankTable) => {
            let table = RankTable::open(path)?;
            Ok(Inspection::RankTable { problems: table.problems(), table })
        }
        Some(Kind::Json) => Ok(Inspection::Config { config: config(path)? }),
        Some(Kind::LfsPointer) => Err(FormatError::LfsPointer { path: path.to_path_buf() }.into()),
        None => Err(Error::Refused(format!("{} is nothing known: {TAKES}", path.display()))),
    }
}

/// What describes a model comes before its weights: who has neither hears of that first.
fn folder(path: &Path, stored: impl FnOnce() -> Result<StoredTensors, Error>) -> Result<FolderView, Error> {
    let config = BloomConfig::from_folder(path)?;
    Ok(FolderView {
        generation: GenerationSettings::from_folder(path, &config)?,
        tokenizer: Tokenizer::from_folder(path)?.map(|tokenizer| tokenizer.vocab()),
        tensors: tensors(&stored()?),
        config,
    })
}

/// What can be looked at, for those who gave something else.
const TAKES: &str = "give an artifact, a safetensors, torch or MindSpore file, a MindRecord file, a strategy file, a rank table, a config.json, or a \
                     folder with a model or strategies";

/// The settings in a `config.json`; other files of a model are called by what they are.
fn config(path: &Path) -> Result<BloomConfig, Error> {
    let bytes = bloomery_formats::map::read(path)?;
    let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let has = |key: &str| json.get(key).is_some();
    let what = match () {
        () if has("model_type") || has("architectures") || !json.is_object() => None,
        () if has("weight_map") => Some("the index of a checkpoint in shards: give its folder"),
        () if has("decoder") || has("pre_tokenizer") => Some("a tokenizer, which `bloomery tokenize` uses"),
        () => Some("no config.json, it has neither model_type nor architectures"),
    };
    match what {
        Some(what) => Err(Error::Refused(format!("{} is {what}; {TAKES}", path.display()))),
        None => Ok(BloomConfig::from_json(&bytes, path)?),
    }
}

/// Whether a file begins as artifacts do.
pub(crate) fn is_artifact(path: &Path) -> bool {
    let mut first = [0; MAGIC.len()];
    let regular = path.metadata().is_ok_and(|metadata| metadata.is_file());
    regular && File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok_and(|()| first == MAGIC)
}

fn tensors(stored: &StoredTensors) -> Tensors {
    let items = stored.items();
    Tensors {
        files: stored.files().len(),
        bytes: items.iter().map(|item| item.bytes as u64).sum(),
        ranks: if let StoredTensors::Ranks(whole) = stored { Some(shared(whole)) } else { None },
        tensors: items
            .into_iter()
            .map(|Item { name, ty, dtype, shape, .. }| TensorView {
                name,
                dtype: dtype.map_or(ty, |dtype| dtype.name()).to_owned(),
                shape,
            })
            .collect(),
    }
}

fn shared(whole: &Whole) -> RanksView {
    let (count, strategy, read) = whole.shared();
    RanksView { count, strategy: strategy.map(Path::to_path_buf), read }
}

fn view(artifact: &Artifact) -> ArtifactView {
    let meta = artifact.meta();
    let sections = artifact.sections().iter().map(|section| SectionView {
        name: section.title(),
        offset: section.offset,
        bytes: section.length,
        sha256: section.sha256.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect()),
    });
    ArtifactView {
        bytes: artifact.file().metadata().map_or(0, |metadata| metadata.len()),
        sections: sections.collect(),
        model: serde_json::from_str(&meta.config).unwrap_or(Value::Null),
        generation: makers(artifact),
        max_context: meta.max_context,
        ranks: artifact.program().ranks(),
        strategy: meta.options.get("strategy").cloned().unwrap_or_default(),
        certificate: serde_json::from_str(&meta.certificate).ok(),
        classes: artifact.classes().into_iter().map(str::to_owned).collect(),
        best_class: bloomery_runtime::best_class(artifact).map(str::to_owned),
        device: artifact.plan().map(device),
        tiles: artifact
            .classes()
            .into_iter()
            .filter_map(|class| Some((class.to_owned(), tiles(artifact, class)?)))
            .collect(),
        plan: plan(artifact.program(), artifact.weight_table()),
        memory: memory(artifact),
        options: meta.options.clone(),
        provenance: meta.provenance.clone(),
        notes: meta.notes.clone(),
    }
}

/// The products of a class that run on tiles, if it has any.
fn tiles(artifact: &Artifact, class: &str) -> Option<TilesView> {
    let pieces: Vec<u32> = tile_pieces(artifact, class).into_iter().filter(|pieces| *pieces > 0).collect();
    Some(TilesView { kernels: pieces.len(), pieces: pieces.iter().copied().max()? })
}

fn plan(program: &Program, table: &WeightTable) -> Plan {
    let mut kernels = BTreeMap::new();
    for kernel in &program.kernels {
        *kernels.entry(format!("{:?}", kernel.kind).to_lowercase()).or_insert(0) += 1;
    }
    let entries = program.entries.iter().map(|entry| EntryView {
        name: entry.name.clone(),
        rows: entry.rows.clone(),
        least: entry.least,
        most: entry.most,
        steps: count(&entry.steps),
        arena_bytes: entry.arena_bytes,
    });
    let parameters = program.parameters.iter().zip(&table.placements);
    let parameters = parameters.map(|(parameter, place)| parameter_view(parameter, place.all_bytes()));
    Plan { parameters: parameters.collect(), kernels, entries: entries.collect() }
}

fn parameter_view(parameter: &Parameter, bytes: u64) -> ParameterView {
    let graph = if let Origin::Computed(graph) = &parameter.origin { Some(graph) } else { None };
    ParameterView {
        name: parameter.name.clone(),
        ty: parameter.ty.to_string(),
        bytes,
        computed_from: graph.map_or(vec![], |graph| graph.inputs.iter().map(|input| input.name.clone()).collect()),
        computed_by: graph.map(|graph| print_graph(graph)),
    }
}

fn count(steps: &[Step]) -> usize {
    steps.iter().map(|step| 1 + count(step.inside())).sum()
}

fn memory(artifact: &Artifact) -> Memory {
    let program = artifact.program();
    let ranks = program.ranks();
    let layers = |state: &Buffer| state.ty.dims.first().and_then(|dim| dim.extent.as_number()).unwrap_or(1);
    let page = |state: &Buffer| program.staged_layers().unwrap_or(layers(state)) * page_bytes(program, state);
    let largest = sizes::largest(&program.symbols);
    let io = |io: &Buffer| IoView {
        name: io.name.clone(),
        bytes: sizes::bytes_of(&io.ty, &io.layout, &largest).unwrap_or(0),
    };
    let ios: Vec<IoView> = program.ios.iter().map(io).collect();
    Memory {
        weights_bytes: artifact.weight_table().bytes,
        arena_bytes: ranks * program.arena_bytes(),
        ios_bytes: ios.iter().map(|io| io.bytes).sum(),
        ios,
        cache_page_bytes: program.ranks_per_stage() * program.states.iter().map(page).sum::<u64>(),
        cache_page_tokens: page_tokens(program).unwrap_or(0),
    }
}

/// Bytes of a page of one layer, on a rank.
pub(crate) fn page_bytes(program: &Program, state: &Buffer) -> u64 {
    let one: Bindings = program.symbols.iter().map(|symbol| (symbol.name.clone(), 1)).collect();
    sizes::bytes_of(&state.ty.inner(), &state.layout, &one).unwrap_or(0)
}

/// Tokens of a page of the cache, `[layers, pages, 2, heads, tokens, d]`.
pub(crate) fn page_tokens(program: &Program) -> Option<u64> {
    program.states.first().and_then(|state| state.ty.dims.get(4)?.extent.as_number())
}

/// What a plan became, operation by operation, in the order they first appear.
fn device(plan: &CallPlan) -> DeviceView {
    let mut lowered: Vec<LoweredView> = Vec::new();
    let mut count = |op: &str, call: &str| {
        if let Some(known) = lowered.iter_mut().find(|known| known.op == op && known.call == call) {
            known.times += 1;
            return;
        }
        let (op, call) = (op.to_owned(), call.to_owned());
        // The runtime's own calls and HCCL's are in headers and documents of every version, and have no kernel.
        let (header, documented, kernel) = match aclnn::function(&call) {
            Some(function) => {
                let aclnn::Support { documented, kernel } = *function.on(plan.chip);
                (function.seen_in.to_owned(), documented, kernel.to_owned())
            }
            None => ("all".to_owned(), true, String::new()),
        };
        lowered.push(LoweredView { op, call, times: 1, header, documented, kernel });
    };
    let entries = plan.parts.iter().flat_map(|part| &part.entries);
    entries.flat_map(|entry| &entry.steps).for_each(|step| step.visit(&mut |step| calls(step, &mut count)));
    let (chip, soc, cann) = (plan.chip.to_string(), plan.soc.clone(), plan.cann.clone());
    DeviceView { chip, soc, cann, symbols: plan.symbols.len(), lowered }
}

fn calls(step: &ascend::Step, count: &mut dyn FnMut(&str, &str)) {
    match step {
        ascend::Step::Call(call) => count(&call.op, &call.name),
        ascend::Step::Exchange { what, .. } => count("between ranks", hccl(*what)),
        ascend::Step::Copy { .. } => count("copy", "aclrtMemcpyAsync"),
        ascend::Step::FromHost { .. } => count("input", "aclrtMemcpyAsync"),
        ascend::Step::ToHost { .. } => count("output", "aclrtMemcpyAsync"),
        _ => {}
    }
}
