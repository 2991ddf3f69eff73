//! How the command line is written: clap's view of it, and from there to the library's plain options.

mod checkpoint;
mod config;
mod files;
mod generation;
mod strategy;
mod values;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bloomery::bench::BenchOptions;
use bloomery::compile::{CHUNK_MAX, CONTEXT_MAX, CompileOptions, Compute, Emit};
use bloomery::eval::EvalOptions;
use bloomery::execution::{THREADS_MAX, check_once};
use bloomery::ir_file::IrOptions;
use bloomery::limits::LimitsOptions;
use bloomery::logits::LogitsOptions;
use bloomery::run::{Prompts, Record, RunOptions};
use bloomery::targets::Target;
use bloomery::tokenize::{Text, TokenizeOptions};
use bloomery::{Error, Execution, Key};
use bloomery_artifact::Check;
use bloomery_configs::Strategy as Shared;
use bloomery_ir::Mesh;
use bloomery_models::config::WeightType;
use bloomery_passes::{Stages, Strategy, pipeline};
use bloomery_runtime::Pages;
use checkpoint::SharedByRanks;
pub(crate) use checkpoint::{CheckpointCommand, Checkpoints, Convert};
use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;
pub(crate) use config::{Config, ConfigCommand, Show};
pub(crate) use files::{Data, DataCommand, RankTableCommand, RankTables};
pub(crate) use generation::Chat;
use generation::Generate;
pub(crate) use strategy::{Reshard, Strategies, StrategyCommand};
use values::{Ids, class, count, key, pair, published, ranks, stages, strategy};

/// Compiles BLOOM models into one file, and runs them.
#[derive(Debug, Parser)]
#[command(name = "bloomery", version, about, long_about = None)]
#[command(
    after_help = "First steps:\n  bloomery demo\n  bloomery compile MODEL_DIR -o model.bloom\n  bloomery run model.bloom --prompt \"Once upon a time\""
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the command line; a wrong one ends the program with its usage.
    pub(crate) fn read() -> Cli {
        let cli = Cli::parse();
        let misplaced = match &cli.command {
            Command::Compile(compile) => compile.misplaced(),
            Command::Run(run) => run.generate.misplaced(),
            _ => None,
        };
        match misplaced {
            None => cli,
            Some(error) => error.exit(),
        }
    }

    /// What clap would say of a command of this name.
    fn error(command: &str, kind: ErrorKind, message: &str) -> clap::Error {
        let mut program = Cli::command();
        program.build();
        program.find_subcommand_mut(command).expect("it is one of the commands").error(kind, message)
    }
}

/// The workflows.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compile a model into one file
    Compile(Compile),
    /// Add machine code for more classes of processors to an artifact
    Retarget(Retarget),
    /// Share an artifact among other ranks
    Reshard(Reshard),
    /// Generate text
    Run(Run),
    /// Talk with a model
    Chat(Chat),
    /// Write the logits of every token of some prompts
    Logits(Logits),
    /// Measure how well a model foresees a text: perplexity, bits per byte
    Eval(Eval),
    /// Turn text into token ids
    Tokenize(Tokenize),
    /// Print, verify, transform, interpret or compare a .bir file
    Ir(Ir),
    /// Show what a file is and what it holds
    Inspect(Inspect),
    /// Turn Hugging Face's files of a model into MindSpore's, or back
    Convert(Convert),
    /// Show, compare, clean, transform or combine checkpoints
    Checkpoint(Checkpoints),
    /// Look at a YAML configuration with MindFormers' keys
    Config(Config),
    /// Show, draw, check, compare or merge strategies: which rank has what of each weight
    Strategy(Strategies),
    /// Make MindRecord data sets of instruction sets, and look at them
    Data(Data),
    /// Make, merge and check the files that say which device is which rank
    Ranktable(RankTables),
    /// Compare every byte of an artifact with its hashes, and prove its strategy again
    Verify(Verify),
    /// Measure how fast an artifact runs
    Bench(Bench),
    /// Compile and run the small trained model that the project ships
    #[command(after_help = "Example:\n  cargo run --release -- demo")]
    Demo,
    /// Print the script that makes a shell complete commands and options
    #[command(
        after_help = "Examples:\n  bloomery completions bash > ~/.local/share/bash-completion/completions/bloomery\n  bloomery completions fish > ~/.config/fish/completions/bloomery.fish"
    )]
    Completions {
        /// The shell
        #[arg(value_enum, value_name = "SHELL")]
        shell: Shell,
    },
    /// Write manual pages
    #[command(after_help = "Example:\n  bloomery man ~/.local/share/man/man1")]
    Man {
        /// The folder; it is made if there is none
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// `compile`
#[derive(Debug, Args)]
#[command(
    group = one_of("what"),
    after_help = "Examples:\n  bloomery compile MODEL_DIR -o model.bloom\n  bloomery compile bigscience/bloomz-560m -o model.bloom\n  bloomery compile MODEL_DIR -o model.bloom --target cpu:all-x86,cpu:aarch64\n  bloomery compile CKPT_DIR --src-strategy STRATEGY_DIR --strategy mp=2 -o model.bloom\n  bloomery compile --size 560m --random-weights 1 -o random.bloom\n  bloomery compile configs/bloom/run_bloom_7.1b.yaml --set use_parallel=False -o model.bloom"
)]
pub(crate) struct Compile {
    /// A Hugging Face folder (config.json, safetensors or torch .bin files, perhaps tokenizer.json), or a model's name:
    /// bloom_560m, bigscience/bloomz-560m; looked up in $CHECKPOINT_DOWNLOAD_FOLDER (or checkpoint_download) and in the
    /// cache of Hugging Face; or MindSpore's .ckpt beside a config.json, or a folder with rank_N/*.ckpt of ranks that share
    /// it; or a configuration with MindFormers' keys, FILE.yaml, that says the model's sizes and names its weights
    #[arg(value_name = "MODEL", group = "what")]
    model: Option<PathBuf>,
    /// A setting in place of the configuration's, e.g. model.model_config.seq_length=4096; can be repeated
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true, conflicts_with = "size")]
    set: Vec<String>,
    /// A published size instead of a folder, e.g. 560m
    #[arg(long, value_name = "NAME", group = "what", value_parser = published)]
    size: Option<String>,
    /// Random weights from this seed, for benchmarks: of a size, or of a configuration
    #[arg(long, value_name = "SEED", required_unless_present_any = ["model", "save_strategy", "plan_only"])]
    random_weights: Option<u64>,
    /// The artifact, or the text that --emit prints
    #[arg(short, long, value_name = "FILE.bloom", required_unless_present_any = ["emit", "stop_after", "save_strategy", "plan_only"])]
    output: Option<PathBuf>,
    /// The type of weights [default: keep, or what the configuration says, but none wider than stored]
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Keep weights of products in 8 bits, with a factor for each column (ascend:910b)
    #[arg(long)]
    int8: bool,
    /// What to make code for, comma-separated: cpu:all-x86 (v3, v4 and amx), cpu:native (the best that
    /// runs here), cpu:x86-64-v3, cpu:x86-64-v4, cpu:x86-64-amx, cpu:aarch64, interpreter; or a plan of calls for Ascend
    /// chips: ascend:910a, ascend:910b
    #[arg(long, value_name = "TARGET,..", value_delimiter = ',', default_values_t = [Target::default_here()])]
    target: Vec<Target>,
    /// The arithmetic of products
    #[arg(long, value_enum, default_value_t = Arithmetic::F32)]
    compute: Arithmetic,
    /// The type of cached keys and values [default: f32 for weights of f32, else f16]
    #[arg(long, value_enum)]
    kv_dtype: Option<KvDtype>,
    /// Tokens a sequence may have, prompt and answer together [default: 2048, or the configuration's seq_length]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=CONTEXT_MAX))]
    max_context: Option<u64>,
    /// Tokens that run at once, at most
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = value_parser!(u64).range(1..=CHUNK_MAX))]
    chunk: u64,
    /// How ranks share the model: mp=2 for two that share every layer, pp=2 for two stages of layers (stages=10:14 says how
    /// many each has), dp=2 for two copies; vocab_emb_dp=true leaves each rank of mp the whole embedding,
    /// sequence_parallel=true splits what lies between by tokens [default: one rank, or what the configuration says]
    #[arg(long, value_name = "AXIS=RANKS,..", value_parser = strategy)]
    strategy: Option<Shared>,
    /// How ranks share the checkpoint that is read, if MODEL is a folder with rank_N/*.ckpt: a strategy file of MindSpore's,
    /// or a folder of them [default: strategy in the folder or beside it, or what the configuration says]
    #[arg(long, value_name = "F|DIR", conflicts_with_all = ["size", "random_weights"])]
    src_strategy: Option<PathBuf>,
    /// What opens an encrypted checkpoint of MindSpore's
    #[arg(long, value_name = "K", value_parser = key, conflicts_with_all = ["size", "random_weights"])]
    key: Option<Key>,
    /// Make the programs of all ranks and prove the strategy, without weights and code; print what a rank holds and does
    #[arg(long, conflicts_with_all = ["emit", "stop_after", "output", "random_weights"])]
    pub(crate) plan_only: bool,
    /// Print the plan as one JSON document
    #[arg(long, requires = "plan_only")]
    pub(crate) json: bool,
    /// Write the strategy into this folder as MindSpore's files, ckpt_strategy_rank_N.ckpt for every rank; without -o that
    /// is all
    #[arg(long, value_name = "DIR", conflicts_with_all = ["emit", "stop_after"])]
    pub(crate) save_strategy: Option<PathBuf>,
    /// Print this instead, and stop there
    #[arg(long, value_enum)]
    emit: Option<EmitWhat>,
    /// Write the IR after each pass into this folder
    #[arg(long, value_name = "DIR")]
    dump_ir: Option<PathBuf>,
    /// Print what this pass makes, and stop there
    #[arg(long, value_name = "PASS", value_parser = PossibleValuesParser::new(pipeline::names()))]
    stop_after: Option<String>,
}

/// `--dtype`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dtype {
    /// As stored
    Keep,
    F32,
    F16,
    Bf16,
}

/// `--kv-dtype`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum KvDtype {
    F32,
    F16,
}

/// `--compute`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arithmetic {
    /// As exact as f32
    F32,
    /// Activations rounded to bf16 before each product with a weight; weights must be bf16
    Bf16,
}

/// `--emit`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum EmitWhat {
    /// The graphs before any pass (or after --stop-after)
    Ir,
    /// Kernels, steps, buffers
    Program,
    /// The C of all kernels of one class
    C,
    /// The calls of an Ascend target: buffers, views, steps of every entry
    Plan,
    /// The same calls as one file of C++
    Cpp,
}

impl Compile {
    /// The library's options.
    pub(crate) fn options(&self) -> Result<CompileOptions, Error> {
        let usual = self.usual()?;
        let dtype = match self.dtype {
            None | Some(Dtype::Keep) => None,
            Some(Dtype::F32) => Some(WeightType::F32),
            Some(Dtype::F16) => Some(WeightType::F16),
            Some(Dtype::Bf16) => Some(WeightType::Bf16),
        };
        let kv_dtype = self.kv_dtype.map(|kv_dtype| match kv_dtype {
            KvDtype::F32 => WeightType::F32,
            KvDtype::F16 => WeightType::F16,
        });
        let compute = match self.compute {
            Arithmetic::F32 => Compute::F32,
            Arithmetic::Bf16 => Compute::Bf16,
        };
        Ok(CompileOptions {
            dtype,
            int8: self.int8,
            targets: self.target.clone(),
            compute,
            kv_dtype,
            max_context: self.max_context.unwrap_or(usual.max_context),
            chunk: self.chunk,
            strategy: self.strategy.clone().unwrap_or_else(|| usual.strategy.clone()),
            source_strategy: self.src_strategy.clone(),
            key: self.key.clone(),
            dump_ir: self.dump_ir.clone(),
            ..usual
        })
    }

    /// What to print instead of compiling to the end, and the last pass for that.
    pub(crate) fn emit(&self) -> Option<(Emit, Option<&str>)> {
        let what = match self.emit {
            Some(EmitWhat::Ir) => Emit::Ir,
            Some(EmitWhat::Program) => Emit::Program,
            Some(EmitWhat::C) => Emit::C,
            Some(EmitWhat::Plan) => Emit::Plan,
            Some(EmitWhat::Cpp) => Emit::Cpp,
            None if self.stop_after.is_some() => Emit::Stage,
            None => return None,
        };
        Some((what, self.stop_after.as_deref()))
    }

    /// Where the result goes.
    pub(crate) fn output(&self) -> Option<&Path> {
        self.output.as_deref()
    }
}

/// `retarget`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bloomery retarget model.bloom --target cpu:aarch64\n  bloomery retarget model.bloom -o everywhere.bloom --target cpu:all-x86,cpu:aarch64"
)]
pub(crate) struct Retarget {
    /// The artifact
    #[arg(value_name = "FILE.bloom")]
    artifact: PathBuf,
    /// The new artifact [default: FILE.bloom, replaced when the new one is complete]
    #[arg(short, long, value_name = "OUT.bloom")]
    output: Option<PathBuf>,
    /// What to make code for, comma-separated: cpu:all-x86 (v3, v4 and amx), cpu:native (the best that
    /// runs here), cpu:x86-64-v3, cpu:x86-64-v4, cpu:x86-64-amx, cpu:aarch64
    #[arg(long, value_name = "TARGET,..", value_delimiter = ',', required = true)]
    pub(crate) target: Vec<Target>,
}

impl Retarget {
    /// What is read.
    pub(crate) fn input(&self) -> &Path {
        &self.artifact
    }

    /// Where the result goes.
    pub(crate) fn output(&self) -> &Path {
        self.output.as_ref().unwrap_or(&self.artifact)
    }
}

/// What runs an artifact, and how.
#[derive(Debug, Args)]
struct Running {
    /// How many threads [default: one per processor]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=THREADS_MAX as u64))]
    threads: Option<u64>,
    /// x86-64-v3, x86-64-v4, x86-64-amx, aarch64 or interpreter [default: the best that the artifact and this processor have]
    #[arg(long, value_name = "CLASS", value_parser = class)]
    cpu: Option<String>,
    /// Tokens that run at once [default: what the artifact was compiled for]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    chunk: Option<NonZeroUsize>,
    /// When weights are compared with their hashes
    #[arg(long, value_enum, default_value_t = When::Once)]
    check: When,
    /// On which pages weights are read
    #[arg(long, value_enum, default_value_t = WeightPages::Mapped)]
    weights: WeightPages,
}

/// `--weights`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum WeightPages {
    /// The file's, shared by all processes that run it
    Mapped,
    /// A copy in huge pages, made at the start (about a second per GB)
    Huge,
    /// The file's, in long runs a copy in huge pages made meanwhile
    Auto,
}

/// `--check`
#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    /// As lazy, but large ones not again until their file changes: they are noted in the user's cache
    Once,
    /// Small artifacts at opening, large ones before each part's first use
    Lazy,
    /// All at opening
    Full,
    /// Never
    None,
}

impl Running {
    fn options(&self) -> Execution {
        let check = match self.check {
            When::Once => check_once(),
            When::Lazy => Check::Lazy,
            When::Full => Check::Full,
            When::None => Check::None,
        };
        let weights = match self.weights {
            WeightPages::Mapped => Pages::Mapped,
            WeightPages::Huge => Pages::Huge,
            WeightPages::Auto => Pages::Auto,
        };
        let (threads, chunk) = (self.threads(), self.chunk.map(NonZeroUsize::get));
        Execution { class: self.cpu.clone(), threads, weights, chunk, check }
    }

    fn threads(&self) -> Option<usize> {
        self.threads.map(|threads| threads as usize)
    }
}

/// `run`
#[derive(Debug, Args)]
#[command(
    group = one_of("given"),
    after_help = "Examples:\n  bloomery run model.bloom --prompt \"Once upon a time\" --max-new-tokens 100 --stream\n  bloomery run model.bloom --prompt \"Once upon a time\" --do-sample --top-p 0.9 --seed 7 --num-return-sequences 3\n  bloomery run model.bloom --prompt \"Once upon a time\" --num-beams 4 --stop . --json\n  bloomery run model.bloom --input-ids 5,6,7 --input-ids 8,9 --json\n  bloomery run model.bloom --prompt \"Once upon a time\" --profile --limits --trace trace.json"
)]
pub(crate) struct Run {
    /// The artifact, or a model's folder or name, which is compiled on first use
    #[arg(value_name = "FILE.bloom|MODEL")]
    artifact: PathBuf,
    /// A text to continue; several are run together
    #[arg(long = "prompt", value_name = "TEXT", group = "given", allow_hyphen_values = true)]
    prompts: Vec<String>,
    /// A file whose every byte is a text to continue, - for standard input; several are run together
    #[arg(long = "prompt-file", value_name = "F", group = "given")]
    files: Vec<PathBuf>,
    /// Token ids to continue, e.g. 5,6,7; several lists are run together
    #[arg(long, value_name = "IDS", group = "given")]
    input_ids: Vec<Ids>,
    #[command(flatten)]
    generate: Generate,
    /// Also give the logarithm of each new token's probability
    #[arg(long)]
    pub(crate) logprobs: bool,
    /// Print what each kernel took, computed, touched and skipped: a table on stderr, or `profile` in the JSON document
    #[arg(long)]
    profile: bool,
    /// Measure the machine after the run, and give fractions of what it can do in the profile
    #[arg(long, requires = "profile")]
    limits: bool,
    /// Write who did what when, for chrome://tracing or Perfetto
    #[arg(long, value_name = "FILE.json")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    running: Running,
    /// Print tokens as they come (to stderr, with --json); of several sequences a line each: sequence, id and quoted
    /// text, with tabs between them. A beam search has none before its end
    #[arg(long, conflicts_with = "num_beams")]
    pub(crate) stream: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

impl Run {
    /// The library's options.
    pub(crate) fn options(&self) -> RunOptions {
        let prompts = match (&self.prompts[..], &self.files[..]) {
            ([], []) => Prompts::Ids(self.input_ids.iter().map(|ids| ids.0.clone()).collect()),
            ([], files) => Prompts::Files(files.to_vec()),
            (texts, _) => Prompts::Texts(texts.to_vec()),
        };
        RunOptions {
            artifact: self.artifact.clone(),
            prompts,
            generation: self.generate.options(self.logprobs),
            record: Record { profile: self.profile, limits: self.limits, trace: self.trace.clone() },
            execution: self.running.options(),
        }
    }
}

/// `logits`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  bloomery logits model.bloom --input-ids 5,6,7 --input-ids 8,9 -o logits.safetensors"
)]
pub(crate) struct Logits {
    /// The artifact, or a model's folder or name, which is compiled on first use
    #[arg(value_name = "FILE.bloom|MODEL")]
    artifact: PathBuf,
    /// Token ids, e.g. 5,6,7; several lists are run together
    #[arg(long, value_name = "IDS", required = true)]
    input_ids: Vec<Ids>,
    /// The file: tensor `logits`, f32 [batch, sequence, vocab], zeros past a prompt's end
    #[arg(short, long, value_name = "OUT.safetensors")]
    output: PathBuf,
    #[command(flatten)]
    running: Running,
}

impl Logits {
    /// The library's options.
    pub(crate) fn options(&self) -> LogitsOptions {
        LogitsOptions {
            artifact: self.artifact.clone(),
            prompts: self.input_ids.iter().map(|ids| ids.0.clone()).collect(),
            output: self.output.clone(),
            execution: self.running.options(),
        }
    }
}

/// `eval`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bloomery eval model.bloom --text book.txt\n  bloomery eval model.bloom --text book.txt --window 1024 --stride 512 --json"
)]
pub(crate) struct Eval {
    /// The artifact, or a model's folder or name, which is compiled on first use
    #[arg(value_name = "FILE.bloom|MODEL")]
    artifact: PathBuf,
    /// A file whose every byte is the text, - for standard input; nothing is added around it
    #[arg(long, value_name = "F", visible_alias = "file")]
    text: PathBuf,
    /// Tokens of a window [default: the artifact's context]
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Tokens from one window's beginning to the next one's; those of a window that the one before had are context
    /// [default: half a window]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    #[command(flatten)]
    running: Running,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

impl Eval {
    /// The library's options.
    pub(crate) fn options(&self) -> EvalOptions {
        EvalOptions {
            artifact: self.artifact.clone(),
            text: self.text.clone(),
            window: self.window,
            stride: self.stride,
            execution: self.running.options(),
        }
    }
}

/// `tokenize`
#[derive(Debug, Args)]
#[command(group = one_of("given"), after_help = "Example:\n  bloomery tokenize MODEL_DIR --text \"Hello, world\" --json")]
pub(crate) struct Tokenize {
    /// A model's folder (tokenizer.json alone will do) or name, or an artifact
    #[arg(value_name = "MODEL|FILE.bloom")]
    tokenizer: PathBuf,
    /// The text
    #[arg(long, value_name = "TEXT", group = "given", allow_hyphen_values = true)]
    text: Option<String>,
    /// A file whose every byte is the text, - for standard input
    #[arg(long, value_name = "F", group = "given")]
    file: Option<PathBuf>,
    /// Print {"ids":[..],"pieces":[..]}
    #[arg(long)]
    pub(crate) json: bool,
}

impl Tokenize {
    /// The library's options.
    pub(crate) fn options(&self) -> TokenizeOptions {
        let text = match (&self.text, &self.file) {
            (Some(text), _) => Text::Given(text.clone()),
            (None, Some(file)) => Text::File(file.clone()),
            (None, None) => unreachable!("clap asks for one of both"),
        };
        TokenizeOptions { tokenizer: self.tokenizer.clone(), text }
    }
}

/// `ir`
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("sharing").args(["share", "stages"]).multiple(true),
    after_help = "Examples:\n  bloomery ir block.bir --pass clean --pass simplify\n  bloomery ir block.bir --pass shard --mesh mp=2 --share heads=mp,ffn=mp\n  bloomery ir block.bir --run inputs.safetensors"
)]
pub(crate) struct Ir {
    /// The text form of a module
    #[arg(value_name = "FILE.bir")]
    file: PathBuf,
    /// Passes to run, in the order given
    #[arg(long = "pass", value_name = "NAME", value_parser = PossibleValuesParser::new(pipeline::names()))]
    passes: Vec<String>,
    /// Axes that ranks are arranged along, for `shard` and `cut`, e.g. mp=2 or pp=2,mp=4
    #[arg(long, value_name = "AXIS=RANKS,..", value_delimiter = ',', requires = "sharing", value_parser = ranks)]
    mesh: Vec<(String, u64)>,
    /// Which of them splits a logical axis of inputs, e.g. heads=mp,ffn=mp,vocab=mp
    #[arg(long, value_name = "LOGICAL=AXIS,..", value_delimiter = ',', requires = "mesh", value_parser = pair)]
    share: Vec<(String, String)>,
    /// Which of those get longer, by zeros, where the axis of the mesh does not divide them, e.g. vocab
    #[arg(long, value_name = "LOGICAL,..", value_delimiter = ',', requires = "mesh")]
    pad: Vec<String>,
    /// Layers of each stage, which the first axis of the mesh numbers: balanced, or so many such as 12:12
    #[arg(long, value_name = "LAYERS", requires = "mesh", value_parser = stages)]
    stages: Option<Stages>,
    /// Interpret the first graph on inputs of these names
    #[arg(long, value_name = "INPUTS.safetensors")]
    run: Option<PathBuf>,
    /// Compare the result with a snapshot instead of printing it
    #[arg(long, value_name = "FILE.snap")]
    check: Option<PathBuf>,
}

impl Ir {
    /// The library's options.
    pub(crate) fn options(&self) -> IrOptions {
        let mesh = Mesh { axes: self.mesh.clone() };
        let strategy = (!self.mesh.is_empty()).then(|| Strategy {
            mesh,
            axes: self.share.iter().cloned().collect(),
            padded: self.pad.iter().cloned().collect(),
            stages: self.stages.clone().unwrap_or_default(),
        });
        let Ir { file, passes, run, check, .. } = self;
        IrOptions { file: file.clone(), passes: passes.clone(), strategy, run: run.clone(), check: check.clone() }
    }
}

/// `inspect`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bloomery inspect model.bloom --json")]
pub(crate) struct Inspect {
    /// An artifact, a safetensors, torch or MindSpore file, a config.json, or a model's folder or name
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// What opens an encrypted checkpoint of MindSpore's
    #[arg(long, value_name = "K", value_parser = key)]
    pub(crate) key: Option<Key>,
    #[command(flatten)]
    pub(crate) shared: SharedByRanks,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `verify`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bloomery verify model.bloom")]
pub(crate) struct Verify {
    /// The artifact
    #[arg(value_name = "FILE.bloom")]
    pub(crate) file: PathBuf,
}

/// `bench`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bloomery bench model.bloom --prompt-tokens 16 --new-tokens 32 --json\n  bloomery bench --limits --threads 2"
)]
pub(crate) struct Bench {
    /// The artifact, or a model's folder or name, which is compiled on first use; with --limits any large file to be mapped
    /// and read
    #[arg(value_name = "FILE.bloom|MODEL", required_unless_present = "limits")]
    artifact: Option<PathBuf>,
    /// Measure what this machine can do at most, whatever the model
    #[arg(long, conflicts_with_all = ["prompt_tokens", "new_tokens", "batch", "context", "profile"])]
    limits: bool,
    /// Tokens of a prompt
    #[arg(long, value_name = "P", default_value = "128", value_parser = count, allow_negative_numbers = true)]
    prompt_tokens: NonZeroUsize,
    /// New tokens of a sequence
    #[arg(long, value_name = "N", default_value = "32", value_parser = count, allow_negative_numbers = true)]
    new_tokens: NonZeroUsize,
    /// Sequences that run together
    #[arg(long, value_name = "B", default_value = "1", value_parser = count, allow_negative_numbers = true)]
    batch: NonZeroUsize,
    /// Tokens a sequence has when the new ones begin [default: the prompt's]
    #[arg(long, value_name = "C")]
    context: Option<usize>,
    /// How often to measure
    #[arg(long, value_name = "N", default_value = "5", value_parser = count, allow_negative_numbers = true)]
    repeats: NonZeroUsize,
    /// Also give a profile, of one more repeat
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    running: Running,
    /// Print one JSON document: medians, with _min and _max beside them
    #[arg(long)]
    pub(crate) json: bool,
}

impl Bench {
    /// The library's options, when the machine alone is measured.
    pub(crate) fn limits(&self) -> Option<LimitsOptions> {
        let (threads, repeats) = (self.running.threads(), self.repeats.get());
        self.limits.then(|| LimitsOptions { threads, file: self.artifact.clone(), repeats })
    }

    /// The library's options.
    pub(crate) fn options(&self) -> BenchOptions {
        BenchOptions {
            artifact: self.artifact.clone().expect("clap asks for it"),
            prompt_tokens: self.prompt_tokens.get(),
            new_tokens: self.new_tokens.get(),
            batch: self.batch.get(),
            context: self.context,
            repeats: self.repeats.get(),
            profile: self.profile,
            execution: self.running.options(),
        }
    }
}

/// A group of arguments of which exactly one is given: its usage names them all.
fn one_of(name: &'static str) -> ArgGroup {
    ArgGroup::new(name).required(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_shows_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        for subcommand in command.get_subcommands() {
            let help = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!(" {}", subcommand.get_name())), "{}: {help:?}", subcommand.get_name());
        }
    }
}
