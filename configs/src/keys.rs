//! Every key there is: where it stands, what its value may be, what counts where it is not said, what becomes of it.
//!
//! The one list: what is not here is refused, with the nearest of what is. Keys are those of MindFormers' files for BLOOM
//! and of the code that read them; callbacks, which a file lists by `type`, stand here as sections by that name.
//! `settings` has a field for each key that means something, and a test that holds both together.

use serde_yaml::Value;

use crate::strategy::{MICRO_BATCHES_MAX, RANKS_MAX, Stages};

/// A key.
#[derive(Debug)]
pub struct Key {
    /// Its dotted path.
    pub path: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What counts where it is not said, as YAML.
    pub default: Unsaid,
    /// What becomes of it.
    pub role: Role,
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number, with bounds.
    Whole(i64, i64),
    /// Any number, with bounds.
    Real(f64, f64),
    /// `True` or `False`.
    Flag,
    /// Text.
    Text,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// How layers are dealt out to stages.
    Stages,
    /// Whatever it is.
    Any,
}

/// What counts where nothing is said, as YAML; `null` stands for nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsaid {
    /// What MindFormers' code takes.
    Code(&'static str),
    /// What all four of MindFormers' files for BLOOM say.
    Files(&'static str),
    /// A key of ours.
    Ours(&'static str),
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is a setting.
    Used,
    /// It changes nothing, which may surprise: the reason.
    Ignored(&'static str),
    /// It speaks to MindSpore and its machines alone.
    Foreign,
}

use Kind::{Any, Flag, Real, Stages as Dealt, Text, Texts, Whole, Word};
use Role::{Foreign, Ignored, Used};
use Unsaid::{Code, Files, Ours};

const fn key(path: &'static str, kind: Kind, default: Unsaid, role: Role) -> Key {
    Key { path, kind, default, role }
}

/// A count of something that there is.
const fn count(most: u64) -> Kind {
    Whole(1, most as i64)
}

const MANY: i64 = 1 << 48;
const SOME: Kind = Whole(0, MANY);
const PART: Kind = Real(0.0, 1.0);
const POSITIVE: Kind = Real(0.0, 1e30);
/// Ids are 32 bits wide.
const ID: Kind = Whole(0, u32::MAX as i64);
const FLOATS: Kind = Word(&["float16", "float32"]);

const SEARCH: &str = "MindFormers read it under parallel_mode 2 alone";
const NO_EXPERTS: &str = "MindFormers did not pass it on to BLOOM, which has no experts";
const RECOMPUTE: &str = "MindFormers' BLOOM ignored it";
const CACHE: &str = "keys and values are always kept, whatever the batch";

/// The list, in the order in which settings are shown.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("seed", Whole(0, u32::MAX as i64), Files("0"), Used),
    key("run_mode", Word(&["train", "finetune", "eval", "predict"]), Files("train"), Used),
    key("output_dir", Text, Files("./output"), Used),
    key("load_checkpoint", Text, Files("''"), Used),
    key("src_strategy_path_or_dir", Text, Files("''"), Used),
    key("auto_trans_ckpt", Flag, Files("False"), Used),
    key("only_save_strategy", Flag, Files("False"), Used),
    key("resume_training", Flag, Files("False"), Used),
    key("do_eval", Flag, Code("False"), Used),
    key("use_parallel", Flag, Code("False"), Used),
    key("micro_batch_interleave_num", count(MICRO_BATCHES_MAX), Files("1"), Used),
    key("lr_scale", Flag, Code("False"), Used),
    key("lr_scale_factor", count(1 << 32), Code("256"), Used),

    key("model.model_config.type", Word(&["BloomConfig"]), Files("BloomConfig"), Used),
    key("model.model_config.checkpoint_name_or_path", Text, Code("''"), Used),
    key("model.model_config.hidden_size", count(65_536), Code("64"), Used),
    key("model.model_config.num_layers", count(1_024), Code("2"), Used),
    key("model.model_config.num_heads", count(65_536), Code("8"), Used),
    key("model.model_config.vocab_size", count(4 << 20), Code("250880"), Used),
    key("model.model_config.expand_ratio", count(64), Code("4"), Used),
    key("model.model_config.seq_length", count(1 << 20), Code("1024"), Used),
    key("model.model_config.hidden_act", Word(&["gelu", "fast_gelu"]), Code("gelu"), Used),
    key("model.model_config.hidden_dropout_rate", PART, Code("0.1"), Used),
    key("model.model_config.attention_dropout_rate", PART, Code("0.1"), Used),
    key("model.model_config.param_init_type", FLOATS, Code("float32"), Used),
    key("model.model_config.embedding_init_type", FLOATS, Code("float32"), Used),
    key("model.model_config.layernorm_compute_type", FLOATS, Code("float32"), Used),
    key("model.model_config.softmax_compute_type", FLOATS, Code("float32"), Used),
    key("model.model_config.use_seq_parallel", Flag, Code("False"), Used),
    key("model.model_config.use_select_recompute", Flag, Code("False"), Used),
    key("model.model_config.unk_token_id", ID, Code("0"), Used),
    key("model.model_config.bos_token_id", ID, Code("1"), Used),
    key("model.model_config.eos_token_id", ID, Code("2"), Used),
    key("model.model_config.pad_token_id", ID, Code("3"), Used),
    key("model.model_config.do_sample", Flag, Code("True"), Used),
    key("model.model_config.top_k", SOME, Code("5"), Used),
    key("model.model_config.top_p", PART, Code("1"), Used),
    key("model.model_config.repetition_penalty", Real(1e-6, 1e6), Code("1"), Used),
    key("model.model_config.max_decode_length", count(1 << 20), Code("1024"), Used),
    key("model.model_config.compute_dtype", Word(&["float16", "float32", "bfloat16"]), Code("float16"), Ignored("MindFormers ignored it and always multiplied in float16; here --compute decides")),
    key("model.model_config.initializer_range", POSITIVE, Code("0.02"), Ignored("MindFormers ignored it and drew weights with a deviation of 0.01")),
    key("model.model_config.embedding_dropout_prob", PART, Code("0.1"), Ignored("MindFormers' BLOOM ignored it and dropped nothing out of embeddings")),
    key("model.model_config.batch_size", SOME, Code("null"), Ignored(CACHE)),
    key("model.model_config.use_past", Flag, Code("False"), Ignored(CACHE)),
    key("model.model_config.is_sample_acceleration", Flag, Code("False"), Ignored(CACHE)),
    key("model.arch.type", Word(&["BloomLMHeadModel"]), Files("BloomLMHeadModel"), Used),

    key("parallel.parallel_mode", Whole(0, 3), Files("1"), Used),
    key("parallel.full_batch", Flag, Files("True"), Used),
    key("parallel.gradients_mean", Flag, Files("False"), Used),
    key("parallel.loss_repeated_mean", Flag, Files("True"), Used),
    key("parallel.enable_parallel_optimizer", Flag, Code("False"), Used),
    key("parallel.parallel_optimizer_config.gradient_accumulation_shard", Flag, Files("False"), Used),
    key("parallel.search_mode", Text, Files("sharding_propagation"), Ignored(SEARCH)),
    key("parallel.enable_alltoall", Flag, Code("False"), Ignored(NO_EXPERTS)),
    key("parallel.strategy_ckpt_save_file", Text, Files("./ckpt_strategy.ckpt"), Foreign),

    key("parallel_config.data_parallel", count(RANKS_MAX), Code("1"), Used),
    key("parallel_config.model_parallel", count(RANKS_MAX), Code("1"), Used),
    key("parallel_config.pipeline_stage", count(RANKS_MAX), Code("1"), Used),
    key("parallel_config.stages", Dealt, Ours("balanced"), Used),
    key("parallel_config.micro_batch_num", count(MICRO_BATCHES_MAX), Code("1"), Used),
    key("parallel_config.vocab_emb_dp", Flag, Files("True"), Used),
    key("parallel_config.optimizer_shard", Flag, Code("null"), Used),
    key("parallel_config.gradient_aggregation_group", count(1 << 16), Files("4"), Used),

    key("recompute_config.recompute", Flag, Files("True"), Used),
    key("recompute_config.recompute_slice_activation", Flag, Files("True"), Used),
    key("recompute_config.parallel_optimizer_comm_recompute", Flag, Files("False"), Ignored(RECOMPUTE)),
    key("recompute_config.mp_comm_recompute", Flag, Files("True"), Ignored(RECOMPUTE)),

    key("moe_config.expert_num", Whole(1, 1), Files("1"), Ignored(NO_EXPERTS)),
    key("moe_config.capacity_factor", POSITIVE, Files("1.05"), Ignored(NO_EXPERTS)),
    key("moe_config.aux_loss_factor", POSITIVE, Files("0.05"), Ignored(NO_EXPERTS)),
    key("moe_config.num_experts_chosen", SOME, Files("1"), Ignored(NO_EXPERTS)),

    key("runner_config.epochs", count(1 << 32), Files("10"), Used),
    key("runner_config.batch_size", count(1 << 20), Files("1"), Used),
    key("runner_config.sink_mode", Flag, Files("True"), Used),
    key("runner_config.sink_size", count(1 << 32), Files("8"), Used),
    key("runner_config.per_epoch_size", Whole(-1, MANY), Files("8"), Ignored("MindFormers' run script did not read it")),

    key("runner_wrapper.type", Word(&["MFTrainOneStepCell"]), Files("MFTrainOneStepCell"), Used),
    key("runner_wrapper.scale_sense.type", Word(&["DynamicLossScaleUpdateCell"]), Files("DynamicLossScaleUpdateCell"), Used),
    key("runner_wrapper.scale_sense.loss_scale_value", Real(1.0, 1e30), Files("4294967296"), Used),
    key("runner_wrapper.scale_sense.scale_factor", Real(1.0, 1e6), Files("2"), Used),
    key("runner_wrapper.scale_sense.scale_window", count(1 << 32), Files("1000"), Used),
    key("runner_wrapper.use_clip_grad", Flag, Files("True"), Used),
    key("runner_wrapper.max_grad_norm", Real(1e-30, 1e30), Code("1.0"), Used),

    key("optimizer.type", Word(&["FP32StateAdamWeightDecay"]), Files("FP32StateAdamWeightDecay"), Used),
    key("optimizer.beta1", PART, Files("0.9"), Used),
    key("optimizer.beta2", PART, Files("0.95"), Used),
    key("optimizer.eps", POSITIVE, Files("0.00000001"), Used),
    key("optimizer.weight_decay", POSITIVE, Files("0.1"), Used),

    key("lr_schedule.type", Word(&["constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"]), Files("cosine"), Used),
    key("lr_schedule.learning_rate", POSITIVE, Files("0.000001"), Used),
    key("lr_schedule.lr_end", POSITIVE, Files("0.0000001"), Used),
    key("lr_schedule.warmup_lr_init", POSITIVE, Code("0.0"), Used),
    key("lr_schedule.warmup_steps", SOME, Files("1000"), Used),
    key("lr_schedule.warmup_ratio", PART, Code("null"), Used),
    key("lr_schedule.warmup_epochs", SOME, Code("null"), Used),
    key("lr_schedule.total_steps", Whole(-1, MANY), Files("4000"), Used),
    key("lr_schedule.num_cycles", POSITIVE, Code("0.5"), Used),
    key("lr_schedule.power", POSITIVE, Code("1.0"), Used),

    key("train_dataset.data_loader.type", Word(&["MindDataset"]), Files("MindDataset"), Used),
    key("train_dataset.data_loader.dataset_dir", Text, Files("''"), Used),
    key("train_dataset.data_loader.shuffle", Flag, Files("True"), Used),
    key("train_dataset.input_columns", Texts, Files("[input_ids]"), Used),
    key("train_dataset.drop_remainder", Flag, Files("True"), Used),
    key("train_dataset.repeat", count(1 << 32), Files("1"), Used),
    key("train_dataset.batch_size", SOME, Files("8"), Ignored("runner_config.batch_size and the strategy decide, as in MindFormers, which overwrote it")),
    key("train_dataset.num_parallel_workers", SOME, Files("8"), Foreign),
    key("train_dataset.python_multiprocessing", Flag, Files("False"), Foreign),
    key("train_dataset.numa_enable", Flag, Files("False"), Foreign),
    key("train_dataset.prefetch_size", SOME, Files("1"), Foreign),
    key("train_dataset_task.type", Word(&["CausalLanguageModelDataset"]), Files("CausalLanguageModelDataset"), Used),
    key("train_dataset_task.dataset_config", Any, Files("null"), Foreign),

    key("eval_dataset.data_loader.type", Word(&["MindDataset"]), Files("MindDataset"), Used),
    key("eval_dataset.data_loader.dataset_dir", Text, Files("''"), Used),
    key("eval_dataset.data_loader.shuffle", Flag, Files("False"), Used),
    key("eval_dataset.input_columns", Texts, Files("[input_ids]"), Used),
    key("eval_dataset.drop_remainder", Flag, Files("False"), Used),
    key("eval_dataset.batch_size", count(1 << 20), Files("1"), Used),
    key("eval_dataset.repeat", count(1 << 32), Files("1"), Used),
    key("eval_dataset.num_parallel_workers", SOME, Files("8"), Foreign),
    key("eval_dataset.python_multiprocessing", Flag, Files("False"), Foreign),
    key("eval_dataset.numa_enable", Flag, Files("False"), Foreign),
    key("eval_dataset.prefetch_size", SOME, Files("1"), Foreign),
    key("eval_dataset_task.type", Word(&["CausalLanguageModelDataset"]), Files("CausalLanguageModelDataset"), Used),
    key("eval_dataset_task.dataset_config", Any, Files("null"), Foreign),
    key("metric.type", Text, Code("null"), Used),

    key("processor.type", Word(&["BloomProcessor"]), Files("BloomProcessor"), Used),
    key("processor.tokenizer.type", Word(&["BloomTokenizer"]), Files("BloomTokenizer"), Used),
    key("processor.return_tensors", Text, Files("ms"), Foreign),

    key("callbacks.MFLossMonitor.type", Text, Code("null"), Used),
    key("callbacks.CheckpointMointor.type", Text, Code("null"), Used),
    key("callbacks.CheckpointMointor.prefix", Text, Files("mindformers"), Used),
    key("callbacks.CheckpointMointor.save_checkpoint_steps", count(1 << 48), Files("1000"), Used),
    key("callbacks.CheckpointMointor.keep_checkpoint_max", count(1 << 32), Code("5"), Used),
    key("callbacks.CheckpointMointor.integrated_save", Flag, Files("False"), Used),
    key("callbacks.CheckpointMointor.async_save", Flag, Files("False"), Used),
    key("callbacks.SummaryMonitor.type", Text, Code("null"), Ignored("MindFormers removed it at the start")),
    key("callbacks.SummaryMonitor.keep_default_action", Flag, Code("True"), Foreign),
    key("callbacks.ObsMonitor.type", Text, Code("null"), Foreign),

    key("trainer.type", Word(&["CausalLanguageModelingTrainer"]), Files("CausalLanguageModelingTrainer"), Used),
    key("trainer.model_name", Text, Code("null"), Used),

    key("context.mode", Whole(0, 1), Files("0"), Foreign),
    key("context.device_id", SOME, Files("0"), Foreign),
    key("context.device_target", Text, Files("Ascend"), Foreign),
    key("context.enable_graph_kernel", Flag, Code("False"), Foreign),
    key("context.graph_kernel_flags", Text, Files("''"), Foreign),
    key("context.max_call_depth", SOME, Code("1000"), Foreign),
    key("context.max_device_memory", Text, Files("31GB"), Foreign),
    key("context.save_graphs", Any, Files("False"), Foreign),
    key("context.save_graphs_path", Text, Code("null"), Foreign),
    key("auto_tune", Flag, Files("True"), Foreign),
    key("filepath_prefix", Text, Files("./autotune"), Foreign),
    key("autotune_per_step", SOME, Files("8"), Foreign),
    key("profile", Flag, Files("False"), Foreign),
    key("profile_start_step", SOME, Files("10"), Foreign),
    key("profile_stop_step", SOME, Files("20"), Foreign),
    key("profile_memory", Flag, Files("True"), Foreign),
    key("profile_communication", Flag, Code("False"), Foreign),
    key("init_start_profile", Flag, Code("False"), Foreign),
    key("remote_save_url", Text, Code("null"), Foreign),
];

/// The key of a dotted path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether keys stand below this path.
pub(crate) fn is_section(path: &str) -> bool {
    path.is_empty() || KEYS.iter().any(|key| below(key.path, path).is_some())
}

/// The section that is a list of items, each a section by its `type`.
pub(crate) const LISTED: &str = "callbacks";

fn below<'a>(path: &'a str, section: &str) -> Option<&'a str> {
    path.strip_prefix(section)?.strip_prefix('.')
}

/// A path's section and the last word of it.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// A path's end below a section.
pub(crate) fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// Longer names are like nothing.
const NAME_MAX: usize = 64;

/// The key or section that was most likely meant: of the same section with few letters changed, or of the same name
/// elsewhere.
pub(crate) fn nearest(path: &str) -> Option<&'static str> {
    let (section, name) = split(path);
    let far = |known: &str| {
        let (known_section, known_name) = split(known);
        let letters = strsim::osa_distance(&name.to_lowercase(), &known_name.to_lowercase());
        let close = letters <= (name.len() / 3).clamp(1, 4);
        close.then_some(2 * letters + if known_section == section { 0 } else { 3 })
    };
    let known = KEYS.iter().flat_map(|key| prefixes(key.path));
    let ranked = known.filter_map(|known| Some((far(known)?, known)));
    Some(ranked.filter(|_| path.len() <= 3 * NAME_MAX && name.len() <= NAME_MAX).min_by_key(|(far, _)| *far)?.1)
}

/// `a`, `a.b` and `a.b.c` of `a.b.c`.
fn prefixes(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.match_indices('.').map(|(dot, _)| &path[..dot]).chain([path])
}

/// Keys and sections right below a section.
pub(crate) fn names(section: &str) -> Vec<&'static str> {
    let below =
        KEYS.iter().filter_map(|key| if section.is_empty() { Some(key.path) } else { below(key.path, section) });
    let mut names: Vec<&str> = below.map(|rest| rest.split('.').next().unwrap_or(rest)).collect();
    names.dedup();
    names
}

impl Unsaid {
    /// As YAML.
    pub fn text(self) -> &'static str {
        let (Code(text) | Files(text) | Ours(text)) = self;
        text
    }

    pub(crate) fn value(self) -> Value {
        serde_yaml::from_str(self.text()).expect("defaults in the list are YAML")
    }
}

/// Why a value is none of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// It is something else.
    Type,
    /// It is too large or too small, or no word of those known.
    Range,
}

impl Kind {
    /// Whether a value is of the kind.
    pub(crate) fn check(self, value: &Value) -> Result<(), Misfit> {
        let typed = |is: bool| if is { Ok(()) } else { Err(Misfit::Type) };
        let within = |is: Option<bool>| match is {
            None => Err(Misfit::Type),
            Some(false) => Err(Misfit::Range),
            Some(true) => Ok(()),
        };
        match self {
            // What is beyond an i64 is beyond every bound.
            Whole(least, most) if value.is_u64() || value.is_i64() => {
                within(Some(value.as_i64().is_some_and(|number| (least..=most).contains(&number))))
            }
            Whole(..) => Err(Misfit::Type),
            Real(least, most) => within(value.as_f64().map(|number| (least..=most).contains(&number))),
            Flag => typed(value.is_bool()),
            Text => typed(value.is_string()),
            Word(words) => within(value.as_str().map(|word| words.contains(&word))),
            Texts => typed(value.as_sequence().is_some_and(|list| list.iter().all(Value::is_string))),
            Dealt => typed(serde_yaml::from_value::<Stages>(value.clone()).is_ok()),
            Any => Ok(()),
        }
    }

    /// What belongs there, for a message.
    pub(crate) fn expected(self) -> String {
        match self {
            Whole(least, MANY) => format!("a whole number of at least {least}"),
            Whole(least, most) => format!("a whole number from {least} to {most}"),
            Real(least, most) => format!("a number from {least} to {most}"),
            Flag => "True or False".to_owned(),
            Text => "text".to_owned(),
            Word(words) => words.join(" or "),
            Texts => "a list of texts".to_owned(),
            Dealt => "balanced, mindformers, or a list with the layers of each stage".to_owned(),
            Any => "anything".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_listed_once_and_no_key_is_a_section() {
        let paths: BTreeSet<&str> = KEYS.iter().map(|key| key.path).collect();
        assert_eq!(paths.len(), KEYS.len());
        assert!(KEYS.iter().all(|key| !is_section(key.path)));
    }

    #[test]
    fn defaults_are_of_their_kinds() {
        for key in KEYS {
            let value = key.default.value();
            assert!(value.is_null() || key.kind.check(&value).is_ok(), "{}: {value:?}", key.path);
        }
    }

    #[test]
    fn the_nearest_key_is_found() {
        for (written, meant) in [
            ("paralel_config", Some("parallel_config")),
            ("parallel_config.model_paralell", Some("parallel_config.model_parallel")),
            ("parallel_config.micro_batch_nums", Some("parallel_config.micro_batch_num")),
            ("parallel_config.batch_size", Some("runner_config.batch_size")),
            ("model.model_config.n_layers", Some("model.model_config.num_layers")),
            ("model.hidden_size", Some("model.model_config.hidden_size")),
            ("Seed", Some("seed")),
            ("callbacks.CheckpointMonitor", Some("callbacks.CheckpointMointor")),
            ("optimizer.beta3", Some("optimizer.beta1")),
            ("x", None),
            ("nothing_like_it", None),
            (&"seed".repeat(100), None),
        ] {
            let found = nearest(written);
            if written == "parallel_config.batch_size" {
                // Three sections have one; any of them is a hint.
                assert!(found.is_some_and(|found| found.ends_with(".batch_size")), "{found:?}");
            } else {
                assert_eq!(found, meant, "{written}");
            }
        }
    }

    #[test]
    fn kinds_take_what_they_say() {
        let check = |kind: Kind, text: &str| kind.check(&serde_yaml::from_str(text).unwrap());
        for (kind, text) in [
            (Whole(1, 8), "8"),
            (Real(0.0, 1.0), "1e-6"),
            (Real(0.0, 1.0), "1"),
            (Flag, "True"),
            (Flag, "false"),
            (Text, "'3'"),
            (Texts, "[a, b]"),
            (Dealt, "[15, 15]"),
            (Dealt, "mindformers"),
        ] {
            assert_eq!(check(kind, text), Ok(()), "{kind:?} {text}");
        }
        for (kind, text, misfit) in [
            (Whole(1, 8), "9", Misfit::Range),
            (Whole(1, 8), "18446744073709551615", Misfit::Range),
            (Whole(1, 8), "8.0", Misfit::Type),
            (Whole(1, 8), "'8'", Misfit::Type),
            (Real(0.0, 1.0), ".nan", Misfit::Range),
            (Real(0.0, 1.0), "-0.1", Misfit::Range),
            (Flag, "yes", Misfit::Type),
            (Flag, "1", Misfit::Type),
            (Text, "3", Misfit::Type),
            (Texts, "[a, 1]", Misfit::Type),
            (Word(&["a"]), "b", Misfit::Range),
            (Dealt, "[1, -1]", Misfit::Type),
            (Dealt, "even", Misfit::Type),
        ] {
            assert_eq!(check(kind, text), Err(misfit), "{kind:?} {text}");
        }
    }
}
