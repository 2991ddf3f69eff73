//! Arguments of what is about ranks: `strategy`, `reshard`.

use std::path::{Path, PathBuf};

use bloomery_configs::Strategy;
use clap::{Args, Subcommand};

use super::values::strategy;

/// `strategy`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bloomery strategy show model.bloom\n  bloomery strategy draw model.bloom -o model.svg\n  bloomery strategy show STRATEGY_DIR --json\n  bloomery strategy merge STRATEGY_DIR -o merged.ckpt"
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
        /// An artifact, or a strategy of MindSpore's: a file, or a folder of them
        #[arg(value_name = "FILE|DIR")]
        file: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// A picture, as SVG
    #[command(after_help = "Example:\n  bloomery strategy draw model.bloom -o model.svg")]
    Draw {
        /// An artifact, or a strategy of MindSpore's: a file, or a folder of them
        #[arg(value_name = "FILE|DIR")]
        file: PathBuf,
        /// Where to [default: standard output]
        #[arg(short, long, value_name = "FILE.svg")]
        output: Option<PathBuf>,
        /// Replace what is there
        #[arg(long)]
        force: bool,
        /// Print one JSON document instead of the picture: which rank has which slice of each weight
        #[arg(long)]
        json: bool,
    },
    /// Whether a strategy of MindSpore's is whole and sound
    #[command(after_help = "Example:\n  bloomery strategy check STRATEGY_DIR")]
    Check {
        /// A strategy file, or a folder of them
        #[arg(value_name = "F|DIR")]
        file: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// In what two strategies of MindSpore's differ
    #[command(after_help = "Example:\n  bloomery strategy diff STRATEGY_DIR merged.ckpt")]
    Diff {
        /// A strategy file, or a folder of them
        #[arg(value_name = "A")]
        a: PathBuf,
        /// Another
        #[arg(value_name = "B")]
        b: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// The strategy files of all ranks as one, as merge_pipeline_strategys makes it
    #[command(after_help = "Example:\n  bloomery strategy merge STRATEGY_DIR -o merged.ckpt")]
    Merge {
        /// The folder of the files; what was merged before is left out
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The new file; JSON if its name ends in .json
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Replace what is there
        #[arg(long)]
        force: bool,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
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
