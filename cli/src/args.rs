//! How the command line is written: clap's view of it, and from there to the library's plain options.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bloomery::compile::{CompileOptions, Compute, Emit, ModelSource};
use bloomery::ir_file::IrOptions;
use bloomery::targets::Target;
use bloomery::tokenize::{Text, TokenizeOptions};
use bloomery_models::config::WeightType;
use clap::{Args, Parser, Subcommand, ValueEnum};

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

/// The workflows.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compile a model into one file
    Compile(Compile),
    /// Turn text into token ids
    Tokenize(Tokenize),
    /// Print, verify, transform, interpret or compare a .bir file
    Ir(Ir),
}

/// `compile`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bloomery compile MODEL_DIR -o model.bloom\n  bloomery compile --size 560m --random-weights 1 -o random.bloom"
)]
pub(crate) struct Compile {
    /// A Hugging Face folder: config.json, safetensors, perhaps tokenizer.json
    #[arg(value_name = "MODEL_DIR", required_unless_present = "size", conflicts_with = "size")]
    model: Option<PathBuf>,
    /// A published size instead of a folder, e.g. 560m
    #[arg(long, value_name = "NAME", requires = "random_weights")]
    size: Option<String>,
    /// Random weights from this seed, for benchmarks
    #[arg(long, value_name = "SEED", requires = "size")]
    random_weights: Option<u64>,
    /// The artifact, or the text that --emit prints
    #[arg(short, long, value_name = "FILE.bloom", required_unless_present_any = ["emit", "stop_after"])]
    output: Option<PathBuf>,
    /// The type of weights
    #[arg(long, value_enum, default_value_t = Dtype::Keep)]
    dtype: Dtype,
    /// What to make code for, comma-separated: cpu:all-x86, cpu:x86-64-v3, interpreter
    #[arg(long, value_name = "TARGET,..", value_delimiter = ',', default_values_t = [Target::default_here()])]
    target: Vec<Target>,
    /// The arithmetic of products
    #[arg(long, value_enum, default_value_t = Arithmetic::F32)]
    compute: Arithmetic,
    /// The type of cached keys and values [default: f32 under --dtype f32, else f16]
    #[arg(long, value_enum)]
    kv_dtype: Option<KvDtype>,
    /// Tokens a sequence may have, prompt and answer together
    #[arg(long, value_name = "N", default_value_t = 2048)]
    max_context: u64,
    /// Tokens that run at once, at most
    #[arg(long, value_name = "N", default_value_t = 512)]
    chunk: u64,
    /// Print this instead, and stop there
    #[arg(long, value_enum)]
    emit: Option<EmitWhat>,
    /// Write the IR after each pass into this folder
    #[arg(long, value_name = "DIR")]
    dump_ir: Option<PathBuf>,
    /// Print what this pass makes, and stop there
    #[arg(long, value_name = "PASS")]
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
    F32,
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
}

impl Compile {
    /// The library's options.
    pub(crate) fn options(&self) -> CompileOptions {
        let model = match (&self.model, &self.size) {
            (Some(folder), _) => ModelSource::Folder(folder.clone()),
            (None, Some(size)) => {
                ModelSource::Random { size: size.clone(), seed: self.random_weights.unwrap_or_default() }
            }
            (None, None) => unreachable!("clap asks for one of both"),
        };
        let dtype = match self.dtype {
            Dtype::Keep => None,
            Dtype::F32 => Some(WeightType::F32),
            Dtype::F16 => Some(WeightType::F16),
            Dtype::Bf16 => Some(WeightType::Bf16),
        };
        let kv_dtype = self.kv_dtype.map(|kv_dtype| match kv_dtype {
            KvDtype::F32 => WeightType::F32,
            KvDtype::F16 => WeightType::F16,
        });
        let compute = match self.compute {
            Arithmetic::F32 => Compute::F32,
            Arithmetic::Bf16 => Compute::Bf16,
        };
        CompileOptions {
            dtype,
            targets: self.target.clone(),
            compute,
            kv_dtype,
            max_context: self.max_context,
            chunk: self.chunk,
            dump_ir: self.dump_ir.clone(),
            ..CompileOptions::new(model)
        }
    }

    /// What to print instead of compiling to the end, and the last pass for that.
    pub(crate) fn emit(&self) -> Option<(Emit, Option<&str>)> {
        let what = match self.emit {
            Some(EmitWhat::Ir) => Emit::Ir,
            Some(EmitWhat::Program) => Emit::Program,
            Some(EmitWhat::C) => Emit::C,
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

/// `tokenize`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bloomery tokenize MODEL_DIR --text \"Hello, world\" --json")]
pub(crate) struct Tokenize {
    /// A model's folder (tokenizer.json alone will do) or an artifact
    #[arg(value_name = "MODEL_DIR|FILE.bloom")]
    tokenizer: PathBuf,
    /// The text
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "file",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    text: Option<String>,
    /// A file whose every byte is the text
    #[arg(long, value_name = "F")]
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
    after_help = "Example:\n  bloomery ir block.bir --pass clean --pass simplify\n  bloomery ir block.bir --run inputs.safetensors"
)]
pub(crate) struct Ir {
    /// The text form of a module
    #[arg(value_name = "FILE.bir")]
    file: PathBuf,
    /// Passes to run, in the order given
    #[arg(long = "pass", value_name = "NAME")]
    passes: Vec<String>,
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
        let Ir { file, passes, run, check } = self;
        IrOptions { file: file.clone(), passes: passes.clone(), run: run.clone(), check: check.clone() }
    }
}

/// `5,6,7`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ids(pub(crate) Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Ids, String> {
        let id = |part: &str| part.trim().parse().map_err(|_| format!("`{part}` is no token id (0 to {})", u32::MAX));
        text.split(',').map(id).collect::<Result<_, _>>().map(Ids)
    }
}
