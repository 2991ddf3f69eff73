//! What a reader might expect otherwise: keys that change nothing, and settings that others set aside.

use super::{Config, Given, is_alone};
use crate::keys::Role;

impl Given {
    fn placed(&self) -> String {
        format!("{} ({})", self.key.path, self.origin)
    }
}

/// Keys that change nothing; those of one reason together, and last those that others than we listen to.
pub(super) fn ignored(given: &[Given]) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for said in given {
        let Role::Ignored(reason) = said.key.role else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, keys)) => keys.push(said.placed()),
            None => reasons.push((reason, vec![said.placed()])),
        }
    }
    let sentence = |(reason, keys): (&str, Vec<String>)| {
        let verb = if keys.len() == 1 { "changes" } else { "change" };
        format!("{} {verb} nothing: {reason}", keys.join(", "))
    };
    let mut sentences: Vec<String> = reasons.into_iter().map(sentence).collect();
    let foreign = given.iter().filter(|said| said.key.role == Role::Foreign);
    let foreign: Vec<String> = foreign.map(Given::placed).collect();
    if !foreign.is_empty() {
        sentences.push(format!("for MindSpore and its machines alone, without effect here: {}", foreign.join(", ")));
    }
    sentences
}

/// What others set aside, as sentences.
pub(super) fn notes(config: &Config) -> Vec<String> {
    [alone(config), stages(config), micro_batches(config), shard(config), search(config), weights(config), gate(config)]
        .into_iter()
        .chain(sizes(config))
        .flatten()
        .collect()
}

fn alone(config: &Config) -> Option<String> {
    let asked = &config.settings.parallel_config;
    let [dp, mp, pp] = [asked.data_parallel, asked.model_parallel, asked.pipeline_stage];
    let (path, value) =
        if config.settings.use_parallel { ("parallel.parallel_mode", "0") } else { ("use_parallel", "False") };
    let is_set_aside = is_alone(&config.settings) && [dp, mp, pp] != [1; 3];
    is_set_aside.then(|| {
        format!(
            "{path} ({}) is {value}, so data_parallel {dp}, model_parallel {mp} and pipeline_stage {pp} count as 1",
            config.origin(path)
        )
    })
}

fn stages(config: &Config) -> Option<String> {
    let asked = &config.settings.parallel_config;
    let is_set_aside = asked.vocab_emb_dp && !config.strategy.vocab_emb_dp;
    is_set_aside.then(|| {
        format!(
            "vocab_emb_dp ({}) counts as False, since there are {} stages, as in MindFormers",
            config.origin("parallel_config.vocab_emb_dp"),
            config.strategy.pp
        )
    })
}

fn micro_batches(config: &Config) -> Option<String> {
    let asked = config.settings.parallel_config.micro_batch_num;
    let is_set_aside = asked > 1 && config.strategy.micro_batches == 1;
    is_set_aside.then(|| {
        format!(
            "micro_batch_num {asked} ({}) counts as 1, since there is one stage, as in MindFormers",
            config.origin("parallel_config.micro_batch_num")
        )
    })
}

fn shard(config: &Config) -> Option<String> {
    let enable = config.settings.parallel.enable_parallel_optimizer;
    let counts = config.settings.parallel_config.optimizer_shard?;
    (enable != counts).then(|| {
        format!(
            "parallel.enable_parallel_optimizer ({}) is set aside by parallel_config.optimizer_shard ({}), as in MindFormers",
            config.origin("parallel.enable_parallel_optimizer"),
            config.origin("parallel_config.optimizer_shard")
        )
    })
}

fn search(config: &Config) -> Option<String> {
    let asks = config.settings.use_parallel && config.settings.parallel.parallel_mode == 2;
    asks.then(|| {
        format!(
            "parallel_mode 2 ({}) lets MindSpore look for a strategy; here parallel_config says it",
            config.origin("parallel.parallel_mode")
        )
    })
}

fn weights(config: &Config) -> Option<String> {
    let (load, named) = (&config.settings.load_checkpoint, &config.settings.model.model_config.checkpoint_name_or_path);
    let differ = !load.is_empty() && !named.is_empty() && load != named;
    differ.then(|| {
        format!(
            "load_checkpoint ({}) counts, not checkpoint_name_or_path ({}), as in MindFormers",
            config.origin("load_checkpoint"),
            config.origin("model.model_config.checkpoint_name_or_path")
        )
    })
}

fn gate(config: &Config) -> Option<String> {
    let is_fast = config.settings.model.model_config.hidden_act == "fast_gelu";
    is_fast.then(|| {
        format!(
            "hidden_act fast_gelu ({}) is a coarser curve than BLOOM was trained with: it counts for weights in MindSpore's \
             files, others get gelu, as MindFormers' own files say since October 2023",
            config.origin("model.model_config.hidden_act")
        )
    })
}

/// Sizes that nobody said: MindFormers' defaults for them are those of a toy.
fn sizes(config: &Config) -> impl Iterator<Item = Option<String>> + use<'_> {
    let sizes = [
        ("model.model_config.hidden_size", config.model.hidden),
        ("model.model_config.num_layers", config.model.layers),
        ("model.model_config.num_heads", config.model.heads),
    ];
    sizes.into_iter().map(|(path, size)| {
        (!config.origin(path).is_said()).then(|| format!("{path} is not said: it is {size}, as in MindFormers"))
    })
}
