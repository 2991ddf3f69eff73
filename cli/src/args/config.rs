//! Arguments about YAML configurations: `config show`, and `compile` of one.

use std::path::{Path, PathBuf};

use bloomery::Error;
use bloomery::compile::{CompileOptions, Configured, ModelSource};
use bloomery::config::ShowOptions;
use bloomery_configs::Options;
use bloomery_configs::strategy::RANKS_MAX;
use clap::error::ErrorKind;
use clap::{Args, Subcommand, value_parser};

use super::{Cli, Compile, Dtype};

/// `config`
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Examples:\n  bloomery config show configs/bloom/run_bloom_7.1b.yaml\n  bloomery config show run.yaml --set parallel_config.model_parallel=8 --devices 16"
)]
pub(crate) struct Config {
    /// What to do with it.
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

/// What is done with configurations.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every setting, its value, where that comes from, and what all of them mean together
    Show(Show),
}

/// `config show`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  bloomery config show run.yaml --set use_parallel=True --set parallel_config.model_parallel=8 --devices 16"
)]
pub(crate) struct Show {
    /// A YAML file with MindFormers' keys
    #[arg(value_name = "FILE.yaml")]
    file: PathBuf,
    /// A setting in place of the file's, e.g. parallel_config.model_parallel=8; can be repeated
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    /// Devices there are: refuses a strategy for more or fewer
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=RANKS_MAX))]
    devices: Option<u64>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

impl Show {
    /// The library's options.
    pub(crate) fn options(&self) -> ShowOptions {
        ShowOptions { file: self.file.clone(), said: Options { set: self.set.clone(), devices: self.devices } }
    }
}

impl Compile {
    /// The model, and the options that follow from it where nothing is said.
    pub(super) fn usual(&self) -> Result<CompileOptions, Error> {
        let seed = self.random_weights;
        match (&self.model, &self.size) {
            (Some(file), _) if is_config(file) => self.configured(file),
            (Some(folder), _) => Ok(CompileOptions::new(ModelSource::Folder(folder.clone()))),
            (None, Some(size)) => {
                let (size, seed) = (size.clone(), seed.unwrap_or_default());
                Ok(CompileOptions::new(ModelSource::Random { size, seed }))
            }
            (None, None) => unreachable!("clap asks for one of both"),
        }
    }

    fn configured(&self, file: &Path) -> Result<CompileOptions, Error> {
        let config = bloomery_configs::Config::read(file, &Options { set: self.set.clone(), devices: None })?;
        let keep = matches!(self.dtype, Some(Dtype::Keep));
        Ok(Configured { config, random: self.random_weights, keep }.into())
    }

    /// An option for configurations, beside a model that is none; or an artifact of a size, without weights.
    pub(super) fn misplaced(&self) -> Option<clap::Error> {
        if self.size.is_some() && self.output.is_some() && self.random_weights.is_none() {
            let message = "weights of a size are random: say --random-weights SEED, or leave -o out";
            return Some(Cli::error("compile", ErrorKind::MissingRequiredArgument, message));
        }
        let model = self.model.as_ref().filter(|model| !is_config(model))?;
        let (option, also) = match (self.random_weights, self.set.is_empty()) {
            (Some(_), _) => ("--random-weights", " or with --size"),
            (None, false) => ("--set", ""),
            (None, true) => return None,
        };
        let model = model.display();
        let message = format!("{option} goes with a configuration (FILE.yaml){also}, and {model} is none");
        Some(Cli::error("compile", ErrorKind::ArgumentConflict, &message))
    }
}

/// Whether a model is a YAML file, by its name.
fn is_config(model: &Path) -> bool {
    model.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") && !model.is_dir()
}
