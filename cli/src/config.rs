//! `config show`: what a YAML configuration means after defaults, as plain data.

use std::path::PathBuf;

use bloomery_configs::{Config, Options, Setting, Shape, Strategy};
use serde::Serialize;

use crate::Error;

/// What to show.
#[derive(Clone, Debug)]
pub struct ShowOptions {
    /// The YAML file.
    pub file: PathBuf,
    /// What is said beside it.
    pub said: Options,
}

/// What a configuration means.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The model.
    pub model: ModelView,
    /// How ranks share it.
    pub strategy: StrategyView,
    /// What a training step takes.
    pub batch: BatchView,
    /// The weights it names.
    pub weights: Option<WeightsView>,
    /// Every setting, its value and where that comes from.
    pub settings: Vec<Setting>,
    /// What may surprise.
    pub notes: Vec<String>,
    /// Keys without effect.
    pub ignored: Vec<String>,
}

/// The model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelView {
    /// Its sizes.
    #[serde(flatten)]
    pub shape: Shape,
    /// Width of one head.
    pub head_dim: u64,
    /// Width of the MLP.
    pub ffn: u64,
    /// How many numbers the weights are.
    pub parameters: u64,
}

/// A strategy.
#[derive(Clone, Debug, Serialize)]
pub struct StrategyView {
    /// Its settings, of which only those count that are not set aside.
    #[serde(flatten)]
    pub strategy: Strategy,
    /// Ranks of all stages.
    pub ranks: u64,
    /// Layers of each stage, unless they are to be balanced.
    pub layers: Option<Vec<u32>>,
}

/// A training step.
#[derive(Clone, Debug, Serialize)]
pub struct BatchView {
    /// Sequences of all ranks and micro-batches.
    pub sequences: u64,
    /// Tokens of a sequence.
    pub length: u64,
    /// Their product.
    pub tokens: u64,
}

/// Weights by name.
#[derive(Clone, Debug, Serialize)]
pub struct WeightsView {
    /// The folder or the model's name.
    pub name: String,
    /// The key that says so.
    pub key: &'static str,
}

/// Reads a configuration and says what it means.
///
/// # Errors
/// It cannot be read, says what is no key or no value of one, or contradicts itself.
pub fn show(options: &ShowOptions) -> Result<Shown, Error> {
    let config = Config::read(&options.file, &options.said)?;
    let (shape, strategy, batch) = (config.model, config.strategy.clone(), config.batch);
    let weights = config.weights().map(|(key, name)| WeightsView { name: name.to_owned(), key });
    Ok(Shown {
        model: ModelView { shape, head_dim: shape.head_dim(), ffn: shape.ffn(), parameters: shape.parameters() },
        strategy: StrategyView { ranks: strategy.ranks(), layers: strategy.layers(shape.layers as u32), strategy },
        batch: BatchView {
            sequences: batch.sequences,
            length: batch.length,
            tokens: batch.sequences.saturating_mul(batch.length),
        },
        weights,
        file: config.file,
        settings: config.said,
        notes: config.notes,
        ignored: config.ignored,
    })
}
