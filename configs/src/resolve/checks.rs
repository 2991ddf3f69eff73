//! Settings that contradict each other: each is said at the line that is most likely wrong, with both sides.

use super::{Config, Options, Shape, is_alone};
use crate::error::{Problem, SettingsError};
use crate::settings::RunMode;
use crate::strategy::StrategyError;

/// MindFormers' names of checkpoints, with hidden width, layers and heads of each.
const CHECKPOINTS: &[(&str, u64, u64, u64)] = &[
    ("bloom_560m", 1_024, 24, 16),
    ("bloom_7.1b", 4_096, 30, 32),
    ("bloom_65b", 8_192, 80, 64),
    ("bloom_176b", 14_336, 70, 112),
];

/// Rows of the embedding table of all of them.
const VOCAB: u64 = 250_880;

/// Where the sizes stand.
const SIZES: [&str; 4] = [
    "model.model_config.hidden_size",
    "model.model_config.num_layers",
    "model.model_config.num_heads",
    "model.model_config.vocab_size",
];

/// That nothing contradicts anything.
pub(super) fn check(config: &Config, options: &Options) -> Result<(), SettingsError> {
    check_heads(config)?;
    check_checkpoint(config)?;
    check_strategy(config, options)?;
    check_training(config)?;
    check_schedule(config)?;
    check_callbacks(config)
}

fn contradiction(config: &Config, path: &'static str, problem: String, way_out: String) -> Result<(), SettingsError> {
    Err(config.contradiction(path, problem, way_out))
}

fn check_heads(config: &Config) -> Result<(), SettingsError> {
    let Shape { hidden, heads, .. } = config.model;
    if hidden % heads == 0 {
        return Ok(());
    }
    let problem = format!("hidden_size {hidden} cannot be divided into {heads} heads of equal width");
    contradiction(
        config,
        "model.model_config.num_heads",
        problem,
        "set num_heads to a divisor of hidden_size".to_owned(),
    )
}

/// That the sizes are those of the checkpoint, where MindFormers had a name for it.
fn check_checkpoint(config: &Config) -> Result<(), SettingsError> {
    let Some((key, name)) = config.weights() else { return Ok(()) };
    let Some(&(_, hidden, layers, heads)) = CHECKPOINTS.iter().find(|(known, ..)| *known == name) else {
        return Ok(());
    };
    check_sizes(config, [hidden, layers, heads, VOCAB], &format!("{name}, which {key} names"))
}

/// That the sizes (hidden width, layers, heads, vocabulary) are those of weights that are described `there`.
pub(super) fn check_sizes(config: &Config, are: [u64; 4], there: &str) -> Result<(), SettingsError> {
    let said = [config.model.hidden, config.model.layers, config.model.heads, config.model.vocab];
    for ((path, said), is) in SIZES.into_iter().zip(said).zip(are) {
        if said != is {
            let key = config.weights().map_or("load_checkpoint", |(key, _)| key);
            let problem = format!("{path} is {said}, and {is} in {there}");
            let way_out = format!("set {path} to {is}, or {key} to weights of such a model");
            return contradiction(config, path, problem, way_out);
        }
    }
    Ok(())
}

fn check_strategy(config: &Config, options: &Options) -> Result<(), SettingsError> {
    let (strategy, mode) = (&config.strategy, config.settings.parallel.parallel_mode);
    let refuse = |error: StrategyError| config.refuse(error.key(), Problem::Strategy(error));
    if mode == 3 && config.settings.use_parallel {
        let problem = "parallel_mode 3 wants communication written by hand, which BLOOM has none of".to_owned();
        return contradiction(config, "parallel.parallel_mode", problem, "set parallel_mode to 1".to_owned());
    }
    strategy.check(&config.model).map_err(refuse)?;
    if config.settings.run_mode.trains() {
        strategy.check_training().map_err(refuse)?;
    }
    match options.devices {
        Some(devices) if is_alone(&config.settings) && devices != 1 => {
            let problem = format!("one rank for {devices} devices, whatever parallel_config says");
            contradiction(config, "use_parallel", problem, "set use_parallel to True and parallel_mode to 1".to_owned())
        }
        Some(devices) => strategy.check_devices(devices).map_err(refuse),
        None => Ok(()),
    }
}

/// That training has weights to begin with where it says so.
fn check_training(config: &Config) -> Result<(), SettingsError> {
    let settings = &config.settings;
    if !settings.load_checkpoint.is_empty() {
        return Ok(());
    }
    let way_out = "set load_checkpoint to a folder with weights, or the name of a model".to_owned();
    if settings.resume_training {
        let problem = "resume_training is True, and load_checkpoint names no training to go on with".to_owned();
        return contradiction(config, "resume_training", problem, way_out);
    }
    if settings.run_mode == RunMode::Finetune {
        let problem = "run_mode is finetune, and load_checkpoint names no weights to begin with".to_owned();
        return contradiction(config, "run_mode", problem, way_out);
    }
    Ok(())
}

fn check_schedule(config: &Config) -> Result<(), SettingsError> {
    let rate = &config.settings.lr_schedule;
    let (warmup, total) = (rate.warmup_steps, rate.total_steps);
    let by_steps = rate.warmup_ratio.is_none() && rate.warmup_epochs.is_none();
    if by_steps && total >= 0 && i128::from(warmup) > i128::from(total) {
        let problem = format!("warmup_steps is {warmup}, and total_steps only {total}");
        return contradiction(
            config,
            "lr_schedule.warmup_steps",
            problem,
            format!("warm up for at most {total} steps"),
        );
    }
    let (first, last) = (rate.learning_rate, rate.lr_end);
    if rate.r#type == "polynomial" && first <= last {
        let problem = format!("a polynomial falls from learning_rate {first} to lr_end {last}, which is not below it");
        return contradiction(config, "lr_schedule.lr_end", problem, format!("set lr_end below {first}"));
    }
    Ok(())
}

/// That what is set of a callback is of one that is there.
fn check_callbacks(config: &Config) -> Result<(), SettingsError> {
    let path = "callbacks.CheckpointMointor.type";
    if config.origin(path).is_said() {
        return Ok(());
    }
    let of_none = |path: &str| path.starts_with("callbacks.CheckpointMointor.");
    match config.said.iter().find(|setting| of_none(setting.path) && setting.origin.is_said()) {
        Some(setting) => {
            let problem = format!("{} is set, and no CheckpointMointor is among the callbacks", setting.path);
            contradiction(config, setting.path, problem, format!("add --set {path}=CheckpointMointor"))
        }
        None => Ok(()),
    }
}
