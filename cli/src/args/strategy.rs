//! Arguments of what is about ranks: `strategy`, `reshard`.

use std::path::{Path, PathBuf};

use bloomery_configs::Strategy;
use clap::{Args, Subcommand};

use super::values::strategy;

/// `strategy`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bloomery strategy show model.bloom\n  bloomery strategy draw model.bloom -o model.svg"
)]
pub(crate) struct Strategies {
    /// What to do
    #[command(subcommand)]
    pub(crate) what: StrategyCommand,
}

/// What `strategy` does.
#[derive(Debug, Subcommand)]
pub(crate) enum StrategyCommand {
    /// A table
    #[command(after_help = "Example:\n  bloomery strategy show model.bloom")]
    Show {
        /// The artifact
        #[arg(value_name = "FILE.bloom")]
        file: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// A picture, as SVG
    #[command(after_help = "Example:\n  bloomery strategy draw model.bloom -o model.svg")]
    Draw {
        /// The artifact
        #[arg(value_name = "FILE.bloom")]
        file: PathBuf,
        /// Where to [default: standard output]
        #[arg(short, long, value_name = "FILE.svg")]
        output: Option<PathBuf>,
    },
}

/// `reshard`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bloomery reshard model.bloom --strategy mp=4 -o shared.bloom")]
pub(crate) struct Reshard {
    /// The artifact
    #[arg(value_name = "FILE.bloom")]
    pub(crate) artifact: PathBuf,
    /// How ranks are to share it, e.g. mp=4
    #[arg(long, value_name = "AXIS=RANKS,..", value_parser = strategy)]
    pub(crate) strategy: Strategy,
    /// The new artifact [default: FILE.bloom, replaced when the new one is complete]
    #[arg(short, long, value_name = "OUT.bloom")]
    output: Option<PathBuf>,
}

impl Reshard {
    /// Where the result goes.
    pub(crate) fn output(&self) -> &Path {
        self.output.as_ref().unwrap_or(&self.artifact)
    }
}
