//! `--save-strategy`: how ranks share a model, as strategy files of MindSpore's, one for each rank.
//!
//! Nothing is compiled and no weight is opened for them: sizes and the strategy say it all. MindSpore's transformation of checkpoints takes the files, and so does MindFormers. They are about MindFormers'
//! Bloom, so they say what it does where a strategy leaves something open, with a note.

use std::path::{Path, PathBuf};

use bloomery_configs::{Stages, Strategy};
use bloomery_formats::strategy::{Layout, Operator, OptimizerShard, Parameter, StrategyFile};
use bloomery_models::config::{BloomConfig, WeightType};
use bloomery_models::{mindspore_strategy as mindspore, sizes};

use super::{CompileOptions, ModelSource, configured, model, strategy};
use crate::{Error, Progress, find, output};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The strategy.
    pub strategy: Strategy,
    /// Files: one for each rank.
    pub files: u64,
    /// Layers of each stage.
    pub layers: Vec<u32>,
}

/// Files that are ready to be written.
pub struct StrategyFiles {
    folder: PathBuf,
    strategy: Strategy,
    layers: Vec<u32>,
    /// By stage.
    files: Vec<StrategyFile>,
}

/// Makes `ckpt_strategy_rank_N.ckpt` for every rank, to be written into a folder.
///
/// # Errors
/// A strategy that does not fit the model, a model that MindFormers has not, a folder with files of other ranks.
pub fn strategy_files(
    options: &CompileOptions,
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<StrategyFiles, Error> {
    let (config, stored) = described(&options.model, progress)?;
    let asked = &options.strategy;
    strategy::check_fits(asked, &config)?;
    if !config.tied_head {
        return Err(Error::Refused(
            "this model has a head of its own, and MindFormers' Bloom, whose parameters strategy files are about, has none"
                .to_owned(),
        ));
    }
    notes(asked, &config).iter().for_each(|note| progress.note(note));
    if folder.is_dir() {
        check_folder(folder, asked.ranks())?;
    } else if folder.exists() {
        let folder = folder.display();
        return Err(Error::Refused(format!("cannot create the folder {folder}: there is a file of that name")));
    }
    let element = if options.dtype.unwrap_or(stored) == WeightType::F32 { 4 } else { 2 };
    let stages = mindspore::stages(&config, asked, element, mindspore::SHARED_FROM);
    let files = (0..).zip(&stages).map(|(number, stage)| file(stage, number)).collect();
    let layers = mindspore::dealt(&config, asked);
    Ok(StrategyFiles { folder: folder.to_owned(), strategy: asked.clone(), layers, files })
}

impl StrategyFiles {
    /// Writes them; the folder is made if there is none.
    ///
    /// # Errors
    /// The file system's refusal, an interruption.
    pub fn write(self, progress: &mut dyn Progress) -> Result<Saved, Error> {
        let StrategyFiles { folder, strategy, layers, files } = self;
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let path = |rank: u64| folder.join(format!("{BEGINNING}{rank}{END}"));
        (0..strategy.ranks()).try_for_each(|rank| output::check(&path(rank)))?;
        for rank in 0..strategy.ranks() {
            progress.go_on()?;
            files[strategy.place(rank).stage as usize].write(&path(rank))?;
        }
        Ok(Saved { files: strategy.ranks(), strategy, layers })
    }
}

/// A file's name, around its rank.
const BEGINNING: &str = "ckpt_strategy_rank_";
const END: &str = ".ckpt";

/// A model's sizes, and the type MindFormers would give its matrices.
fn described(source: &ModelSource, progress: &mut dyn Progress) -> Result<(BloomConfig, WeightType), Error> {
    match source {
        ModelSource::Folder(folder) => Ok((model::described(&find::noted(folder, progress)?)?, WeightType::F16)),
        ModelSource::Random { size, .. } => Ok((sizes::by_name(size)?, WeightType::F16)),
        ModelSource::Configured(configured) => configured::sizes(configured),
    }
}

/// Where MindFormers does otherwise than is said, or than artifacts are shared.
fn notes(asked: &Strategy, config: &BloomConfig) -> Vec<String> {
    let (mp, vocab) = (asked.mp, config.vocab);
    let mut notes = vec![];
    if vocab % mp as usize != 0 && !asked.vocab_emb_dp {
        notes.push(format!(
            "{mp} ranks cannot share {vocab} rows of the vocabulary evenly: in the files each has all of them, as in MindFormers"
        ));
    }
    if asked.pp > 1 && asked.stages == Stages::Balanced {
        let layers: Vec<String> = mindspore::dealt(config, asked).iter().map(u32::to_string).collect();
        notes.push(format!(
            "in the files stages get layers as MindFormers deals them out, {}: say stages= in the strategy for others",
            layers.join(":")
        ));
    }
    if asked.pp > 1 && asked.vocab_emb_dp && vocab % mp as usize == 0 {
        notes.push("vocab_emb_dp is false in the files: MindFormers cuts the table where there are stages".to_owned());
    }
    notes
}

/// Refuses a folder with files of more ranks: whoever merges all that is there would take them too.
fn check_folder(folder: &Path, ranks: u64) -> Result<(), Error> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    for entry in entries {
        let name = entry.map_err(Error::io("read", folder))?.file_name();
        let rank = name.to_str().and_then(|name| name.strip_prefix(BEGINNING)?.strip_suffix(END)?.parse::<u64>().ok());
        if rank.is_some_and(|rank| rank >= ranks) {
            return Err(Error::Refused(format!(
                "{} holds {}, which is of another strategy than this of {ranks} ranks: remove it, or name another folder",
                folder.display(),
                name.to_string_lossy()
            )));
        }
    }
    Ok(())
}

fn file(stage: &mindspore::Stage, number: u32) -> StrategyFile {
    let operator = |mindspore::Operator { name, inputs }: &mindspore::Operator| Operator {
        name: name.clone(),
        stage: number,
        inputs: inputs.clone(),
    };
    let operators = stage.operators.iter().map(operator).collect();
    // What MindSpore 2.0 says, whatever the stage.
    let parameters = stage.parameters.iter().map(parameter).collect();
    StrategyFile { current_stage: 1, operators, parameters, ..StrategyFile::default() }
}

fn parameter(said: &mindspore::Parameter) -> Parameter {
    let cuts = said.cuts.iter().map(|cut| cut.iter().copied().collect()).collect();
    let shard = said.optimizer_step.map(|step| OptimizerShard { step, size: None });
    Parameter { name: said.name.clone(), layout: Layout::new(said.devices.clone(), cuts, shard) }
}
