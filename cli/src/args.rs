//! How the command line is written: clap's view of it, and from there to the library's plain options.

use std::path::PathBuf;
use std::str::FromStr;

use bloomery::ir_file::IrOptions;
use bloomery::tokenize::{Text, TokenizeOptions};
use clap::{Args, Parser, Subcommand};

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
    /// Turn text into token ids
    Tokenize(Tokenize),
    /// Print, verify, transform, interpret or compare a .bir file
    Ir(Ir),
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
