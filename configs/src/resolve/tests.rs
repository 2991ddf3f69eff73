//! Files as they are shipped, what is set over them, where values come from, and what is refused.

use super::*;
use crate::settings::RunMode;
use crate::{Stages, keys};

const FILE: &str = "bloom.yaml";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bloom");
const SIZES: [&str; 4] = ["560m", "7.1b", "65b", "176b"];

/// A shipped file, with settings over it.
fn shipped(size: &str, set: &[&str]) -> Result<Config, SettingsError> {
    let options = Options { set: set.iter().map(|set| (*set).to_owned()).collect(), devices: None };
    Config::read(&Path::new(FOLDER).join(format!("run_bloom_{size}.yaml")), &options)
}

fn read(text: &str) -> Result<Config, SettingsError> {
    Config::from_text(text, Path::new(FILE), &Options::default())
}

/// The message must have all these parts.
fn refused(result: Result<Config, SettingsError>, parts: &[&str]) {
    let message = result.expect_err("should be refused").to_string();
    for part in parts {
        assert!(message.contains(part), "{message}\nlacks {part:?}");
    }
    assert_eq!(message.matches("\n  help: ").count(), 1, "{message}");
}

/// A file's text is refused at a place of it.
fn refused_at(text: &str, place: &str, parts: &[&str]) {
    refused(read(text), &[&[&*format!("\n  --> {FILE}:{place}")], parts].concat());
}

fn notes(config: &Config) -> String {
    [&config.notes[..], &config.ignored[..]].concat().join("\n")
}

/// A small file that says every size.
const TINY: &str = "\
use_parallel: True
model:
  model_config:
    hidden_size: 64
    num_layers: 4
    num_heads: 8
parallel_config:
  data_parallel: 2
  model_parallel: 4
  pipeline_stage: 2
  micro_batch_num: 2
";

fn tiny(from: &str, to: &str) -> String {
    assert!(TINY.contains(from), "{from}");
    TINY.replace(from, to)
}

#[test]
fn the_four_files_are_the_models_they_say() {
    let found = SIZES.map(|size| {
        let config = shipped(size, &[]).unwrap();
        let Config { model, strategy, batch, .. } = &config;
        let (dp, mp, pp) = (strategy.dp, strategy.mp, strategy.pp);
        (model.parameters(), model.head_dim(), [dp, mp, pp], strategy.ranks(), strategy.micro_batches, batch.sequences)
    });
    let expect = [
        (559_214_592, 64, [1, 1, 1], 1, 1, 1),
        (7_069_016_064, 128, [1, 4, 2], 8, 2, 8),
        (66_488_270_848, 128, [2, 4, 12], 96, 48, 96),
        (176_247_271_424, 128, [1, 8, 16], 128, 48, 48),
    ];
    assert_eq!(found, expect);
}

#[test]
fn the_four_files_say_every_key_that_mindformers_files_say() {
    // What all files say is their default; what differs is checked above.
    for size in SIZES {
        let config = shipped(size, &[]).unwrap();
        let differing = |setting: &&Setting| match keys::find(setting.path).unwrap().default {
            files @ keys::Unsaid::Files(_) => setting.value != files.value() || !setting.origin.is_said(),
            _ => false,
        };
        let found: Vec<&str> = config.said.iter().filter(differing).map(|setting| setting.path).collect();
        let expect: &[&str] = if size == "7.1b" { &["runner_config.batch_size"] } else { &[] };
        assert_eq!(found, expect, "{size}");
    }
}

/// Every key of the tables in which MindFormers' files were written down, in their words.
#[test]
fn every_key_of_the_tables_is_known() {
    let sections = [
        (
            "",
            "seed run_mode output_dir load_checkpoint src_strategy_path_or_dir auto_trans_ckpt only_save_strategy resume_training micro_batch_interleave_num auto_tune filepath_prefix autotune_per_step profile profile_start_step profile_stop_step profile_memory remote_save_url use_parallel",
        ),
        (
            "model.model_config",
            "type seq_length vocab_size hidden_size num_layers num_heads checkpoint_name_or_path expand_ratio hidden_act hidden_dropout_rate attention_dropout_rate initializer_range param_init_type embedding_init_type layernorm_compute_type softmax_compute_type compute_dtype use_seq_parallel use_select_recompute eos_token_id bos_token_id unk_token_id pad_token_id repetition_penalty max_decode_length top_k top_p batch_size use_past do_sample is_sample_acceleration embedding_dropout_prob",
        ),
        ("model.arch", "type"),
        (
            "train_dataset",
            "input_columns num_parallel_workers python_multiprocessing drop_remainder batch_size repeat numa_enable prefetch_size",
        ),
        ("train_dataset.data_loader", "type dataset_dir shuffle"),
        ("train_dataset_task", "type dataset_config"),
        (
            "eval_dataset",
            "input_columns num_parallel_workers python_multiprocessing drop_remainder batch_size repeat numa_enable prefetch_size",
        ),
        ("eval_dataset.data_loader", "type dataset_dir shuffle"),
        ("eval_dataset_task", "type dataset_config"),
        ("processor", "type return_tensors"),
        ("processor.tokenizer", "type"),
        ("context", "mode device_id device_target graph_kernel_flags max_device_memory save_graphs"),
        ("moe_config", "expert_num capacity_factor aux_loss_factor num_experts_chosen"),
        (
            "parallel",
            "parallel_mode gradients_mean loss_repeated_mean full_batch search_mode strategy_ckpt_save_file enable_parallel_optimizer",
        ),
        ("parallel.parallel_optimizer_config", "gradient_accumulation_shard"),
        (
            "parallel_config",
            "data_parallel model_parallel pipeline_stage micro_batch_num optimizer_shard vocab_emb_dp gradient_aggregation_group",
        ),
        (
            "recompute_config",
            "recompute parallel_optimizer_comm_recompute mp_comm_recompute recompute_slice_activation",
        ),
        ("runner_config", "epochs batch_size sink_mode sink_size per_epoch_size"),
        ("runner_wrapper", "type use_clip_grad max_grad_norm"),
        ("runner_wrapper.scale_sense", "type loss_scale_value scale_factor scale_window"),
        ("optimizer", "type beta1 beta2 eps weight_decay"),
        ("lr_schedule", "type learning_rate lr_end warmup_steps total_steps warmup_ratio warmup_epochs warmup_lr_init"),
        (
            "callbacks.CheckpointMointor",
            "type prefix save_checkpoint_steps integrated_save async_save keep_checkpoint_max",
        ),
        ("callbacks.MFLossMonitor", "type"),
        ("callbacks.SummaryMonitor", "type"),
        ("callbacks.ObsMonitor", "type"),
        ("metric", "type"),
        ("trainer", "type model_name"),
    ];
    for (section, names) in sections {
        for name in names.split(' ') {
            let path = keys::join(section, name);
            assert!(keys::find(&path).is_some(), "{path} is not known");
        }
    }
}

/// Each key is accepted in a file, is there as a setting or is named in a note, and is no other key's.
#[test]
fn every_key_is_a_setting_or_is_in_the_notes() {
    for key in KEYS.iter().filter(|key| !key.path.starts_with("callbacks.")) {
        let value = match key.default.text() {
            "null" => "x",
            text => text,
        };
        let value = if matches!(key.kind, keys::Kind::Text | keys::Kind::Any) { "x" } else { value };
        let value = match key.kind {
            keys::Kind::Flag if value == "x" => "True",
            keys::Kind::Whole(..) | keys::Kind::Real(..) if value == "x" => "1",
            _ => value,
        };
        let (mut text, mut indent) = (String::new(), String::new());
        for name in key.path.split('.') {
            text += &format!("{indent}{name}:\n");
            indent += "  ";
        }
        let text = format!("{} {value}\n", text.trim_end());
        let config = read(&text).unwrap_or_else(|error| panic!("{text}{error}"));
        let line = key.path.split('.').count();
        match key.role {
            Role::Used => assert!(matches!(config.origin(key.path), Origin::File(at) if at.line == line), "{text}"),
            _ => assert!(notes(&config).contains(&format!("{} (line {line})", key.path)), "{}", notes(&config)),
        }
    }
}

#[test]
fn values_know_where_they_come_from() {
    let config = shipped("7.1b", &["parallel_config.data_parallel=2", "runner_config.batch_size=3"]).unwrap();
    let origin = |path| config.origin(path).to_string();
    assert_eq!(origin("parallel_config.data_parallel"), "--set");
    assert_eq!(origin("model.model_config.do_sample"), "default of MindFormers");
    assert_eq!(origin("parallel_config.stages"), "default");
    let text = std::fs::read_to_string(&config.file).unwrap();
    for setting in &config.said {
        let Origin::File(Position { line, column }) = setting.origin else { continue };
        let (_, name) = keys::split(setting.path);
        let there = &text.lines().nth(line - 1).unwrap()[column - 1..];
        assert!(there.starts_with(&format!("{name}:")), "{}: {there}", setting.path);
    }
    let empty = read("seed: 7").unwrap();
    assert_eq!(empty.origin("seed"), &Origin::File(Position { line: 1, column: 1 }));
    assert_eq!(empty.origin("optimizer.beta2").to_string(), "default, as in its files");
    assert_eq!((empty.settings.seed, empty.settings.optimizer.beta2), (7, 0.95));
}

#[test]
fn what_is_set_counts_and_the_last_of_one_key() {
    let set = ["parallel_config.data_parallel=2", "parallel_config.data_parallel = 4", "load_checkpoint=./my model"];
    let config = shipped("7.1b", &set).unwrap();
    assert_eq!((config.strategy.dp, config.strategy.ranks(), config.batch.sequences), (4, 32, 32));
    assert_eq!(config.weights(), Some(("load_checkpoint", "./my model")));
    // Nothing stands for what is not said.
    let config = shipped("7.1b", &["model.model_config.checkpoint_name_or_path="]).unwrap();
    assert_eq!(config.weights(), None);
    let config = shipped("7.1b", &["parallel_config.stages=[10, 20]", "parallel_config.stages=[20, 10]"]).unwrap();
    assert_eq!(config.strategy.stages, Stages::Layers(vec![20, 10]));
    let set = "callbacks.CheckpointMointor.save_checkpoint_steps=50";
    assert_eq!(shipped("7.1b", &[set]).unwrap().settings.callbacks.checkpoint_monitor.save_checkpoint_steps, 50);
}

#[test]
fn what_cannot_be_set() {
    let refused = |set: &str, parts: &[&str]| {
        refused(shipped("7.1b", &[set]), &[&[&*format!("\n  --> --set {set}")], parts].concat());
    };
    refused("parallel_config.model_parallel", &["sets nothing", "--set key=value"]);
    refused("parallel_config.model_paralell=2", &["there is no key", "did you mean parallel_config.model_parallel?"]);
    refused("parallel_config={data_parallel: 2}", &["is a section", "in parallel_config there are data_parallel,"]);
    refused(
        "parallel_config.model_parallel=two",
        &["is \"two\", expected a whole number from 1 to 65536", "without quotes"],
    );
    refused("parallel_config.model_parallel=0", &["is 0, expected a whole number from 1"]);
    refused("parallel_config.model_parallel=[", &["not valid YAML"]);
    refused(
        "parallel_config.model_parallel=3",
        &["32 heads cannot be split evenly among 3", "can be 1, 2, 4, 8, 16 or 32"],
    );
    refused("=2", &["there is no key", "at the top there are seed, run_mode"]);
}

#[test]
fn settings_that_set_others_aside_are_noted() {
    let config = shipped("7.1b", &[]).unwrap();
    assert!(!config.strategy.vocab_emb_dp && config.strategy.optimizer_shard);
    assert!(notes(&config).contains("vocab_emb_dp (line ") && notes(&config).contains("since there are 2 stages"));
    let config = shipped("7.1b", &["use_parallel=False"]).unwrap();
    assert_eq!(config.strategy, Strategy { vocab_emb_dp: true, ..Strategy::default() });
    assert!(notes(&config).contains("use_parallel (--set) is False, so data_parallel 1, model_parallel 4"));
    let config = shipped("7.1b", &["parallel.parallel_mode=0"]).unwrap();
    assert_eq!(config.strategy.ranks(), 1);
    assert!(notes(&config).contains("parallel.parallel_mode (--set) is 0"));
    let config = shipped("7.1b", &["parallel_config.pipeline_stage=1"]).unwrap();
    assert!(config.strategy.vocab_emb_dp && config.strategy.micro_batches == 1);
    assert!(notes(&config).contains("micro_batch_num 2 (line "), "{}", notes(&config));
    let config = shipped("7.1b", &["parallel_config.optimizer_shard="]).unwrap();
    assert!(config.strategy.optimizer_shard, "enable_parallel_optimizer counts then");
    let config = shipped("7.1b", &["parallel_config.optimizer_shard=False"]).unwrap();
    assert!(
        !config.strategy.optimizer_shard && notes(&config).contains("is set aside by parallel_config.optimizer_shard")
    );
    let config = shipped("7.1b", &["parallel.parallel_mode=2"]).unwrap();
    assert!(config.strategy.ranks() == 8 && notes(&config).contains("lets MindSpore look for a strategy"));
    let config = shipped("7.1b", &["load_checkpoint=folder"]).unwrap();
    assert!(notes(&config).contains("load_checkpoint (--set) counts"));
    let config = shipped("560m", &["model.model_config.hidden_act=gelu"]).unwrap();
    assert!(!notes(&config).contains("gelu"));
    assert!(notes(&shipped("560m", &[]).unwrap()).contains("hidden_act fast_gelu (line 36) is a coarser curve"));
}

#[test]
fn ignored_keys_are_accepted_and_noted() {
    let text = notes(&shipped("560m", &[]).unwrap());
    for part in [
        "compute_dtype (line 44) changes nothing: MindFormers ignored it",
        "initializer_range (line 39) changes nothing: MindFormers ignored it",
        "moe_config.num_experts_chosen (line 111) change nothing: MindFormers did not pass it on",
        "mp_comm_recompute (line 137) change nothing: MindFormers' BLOOM ignored it",
        "callbacks.SummaryMonitor.type (line 171) changes nothing: MindFormers removed it",
        "alone, without effect here: auto_tune (line 15),",
    ] {
        assert!(text.contains(part), "{text}\nlacks {part:?}");
    }
}

#[test]
fn strategies_and_sizes_follow() {
    let config = read(TINY).unwrap();
    assert_eq!(config.strategy.to_string(), "dp=2,mp=4,pp=2,micro_batches=2");
    assert_eq!(config.model, Shape { hidden: 64, layers: 4, heads: 8, vocab: 250_880, expand_ratio: 4 });
    assert_eq!(config.model.parameters(), 4 * (12 * 64 * 64 + 13 * 64) + 250_880 * 64 + 4 * 64);
    assert_eq!(config.settings.run_mode, RunMode::Train);
    let stages = read(&tiny("  pipeline_stage: 2\n", "  pipeline_stage: 2\n  stages: mindformers\n")).unwrap();
    assert_eq!(stages.strategy.layers(4), Some(vec![2, 2]));
}

#[test]
fn sizes_that_are_not_said_are_noted() {
    let config = read("seed: 1").unwrap();
    assert_eq!(config.model, Shape { hidden: 64, layers: 2, heads: 8, vocab: 250_880, expand_ratio: 4 });
    assert!(notes(&config).contains("model.model_config.hidden_size is not said: it is 64, as in MindFormers"));
    assert!(!notes(&shipped("560m", &[]).unwrap()).contains("is not said"));
}

#[test]
fn contradictions_are_said_with_both_sides_and_the_line() {
    for (from, to, place, parts) in [
        ("model_parallel: 4", "model_parallel: 3", "9:3", ["8 heads cannot be split evenly among 3", "1, 2, 4 or 8"]),
        ("pipeline_stage: 2", "pipeline_stage: 5", "10:3", ["5 pipeline stages for 4 layers", "at most 4"]),
        ("micro_batch_num: 2", "micro_batch_num: 1", "11:3", ["1 micro-batches for 2 pipeline stages", "at least 2"]),
        ("num_heads: 8", "num_heads: 7", "6:5", ["hidden_size 64 cannot be divided into 7 heads", "a divisor"]),
        ("  data_parallel: 2", "  stages: [1, 2]", "8:3", ["given for each stage are 3 in all", "sum is 4"]),
        ("  data_parallel: 2", "  stages: [1, 1, 2]", "8:3", ["for 3 stages, and pipeline_stage is 2", "2 numbers"]),
        ("use_parallel: True", "use_parallel: True\nparallel: {parallel_mode: 3}", "2:12", ["parallel_mode 3", "to 1"]),
        (
            "use_parallel: True",
            "run_mode: finetune",
            "1:1",
            ["load_checkpoint names no weights", "set load_checkpoint"],
        ),
        ("use_parallel: True", "resume_training: True", "1:1", ["no training to go on with", "set load_checkpoint"]),
        (
            "use_parallel: True",
            "lr_schedule: {warmup_steps: 9, total_steps: 8}",
            "1:15",
            ["warmup_steps is 9, and total_steps only 8", "at most 8"],
        ),
        (
            "use_parallel: True",
            "lr_schedule: {type: polynomial, learning_rate: 1.0e-7, lr_end: 1.0e-7}",
            "1:56",
            ["falls from learning_rate 0.0000001 to lr_end 0.0000001", "below 0.0000001"],
        ),
    ] {
        refused_at(&tiny(from, to), place, &parts);
    }
    let large = tiny("data_parallel: 2", "data_parallel: 65536");
    refused_at(&large, "8:3  parallel_config.data_parallel", &["a strategy of 524288 ranks", "at most 65536"]);
    let eval = tiny("micro_batch_num: 2", "micro_batch_num: 1") + "run_mode: eval\n";
    assert!(read(&eval).is_ok(), "stages need micro-batches in training alone");
    refused(
        shipped("560m", &["callbacks.CheckpointMointor.type=", "callbacks.CheckpointMointor.prefix=x"]),
        &["no CheckpointMointor is among the callbacks", "--set callbacks.CheckpointMointor.type=CheckpointMointor"],
    );
}

#[test]
fn a_checkpoint_with_a_name_has_its_sizes() {
    for (size, name, set, parts) in [
        (
            "560m",
            "bloom_7.1b",
            "checkpoint_name_or_path",
            ["hidden_size is 1024, and 4096 in bloom_7.1b", "560m.yaml:32:5"],
        ),
        ("7.1b", "bloom_7.1b", "num_layers=24", ["num_layers is 24, and 30 in bloom_7.1b", "--> --set "]),
    ] {
        let set = if set.contains('=') { set.to_owned() } else { format!("{set}={name}") };
        refused(shipped(size, &[&format!("model.model_config.{set}")]), &parts);
    }
    refused(
        shipped("176b", &["load_checkpoint=bloom_65b"]),
        &["hidden_size is 14336, and 8192 in bloom_65b, which load_checkpoint names"],
    );
    assert!(shipped("176b", &["load_checkpoint=bloom_176b"]).is_ok());
    // The default is at fault here, and has no line.
    let message = "--> bloom.yaml, which leaves it at its default  model.model_config.hidden_size";
    refused(read("load_checkpoint: bloom_560m"), &["hidden_size is 64, and 1024 in bloom_560m", message]);
}

#[test]
fn strategies_must_be_for_the_devices_there_are() {
    let devices = |devices, set: &[&str]| {
        let set = set.iter().map(|set| (*set).to_owned()).collect();
        Config::from_text(TINY, Path::new(FILE), &Options { set, devices: Some(devices) })
    };
    assert!(devices(16, &[]).is_ok());
    let product = "data_parallel 2 x model_parallel 4 x pipeline_stage 2 = 16 ranks for 32 devices";
    refused(devices(32, &[]), &[product, "--> bloom.yaml:8:3", "set data_parallel to 4"]);
    refused(devices(12, &[]), &["16 ranks for 12 devices", "8 x data_parallel must be 12"]);
    refused(devices(16, &["use_parallel=False"]), &["one rank for 16 devices", "set use_parallel to True"]);
    assert!(devices(1, &["use_parallel=False"]).is_ok());
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    for (text, place, parts) in [
        (
            "parallel_config:\n  model_paralel: 2",
            "2:3  parallel_config.model_paralel",
            "parallel_config.model_parallel?",
        ),
        ("paralel_config:\n  model_parallel: 2", "1:1  paralel_config", "did you mean parallel_config?"),
        ("sed: 1", "1:1  sed", "did you mean seed?"),
        ("model:\n  hidden_size: 1", "2:3  model.hidden_size", "did you mean model.model_config.hidden_size?"),
        ("model:\n  model_config: {zzz: 1}", "2:18  model.model_config.zzz", "in model.model_config there are type,"),
        ("zzz: 1", "1:1  zzz", "at the top there are seed, run_mode,"),
        ("callbacks:\n  - type: CheckpointMonitor", "2:11  callbacks[0].type", "callbacks.CheckpointMointor?"),
        (
            "callbacks:\n  - type: MFLossMonitor\n    prefx: 1",
            "3:5  callbacks.MFLossMonitor.prefx",
            "did you mean callbacks.CheckpointMointor.prefix?",
        ),
        ("\"a\\nb\": 1", "1:1  a\\nb", "at the top there are"),
        ("<<: {a: 1}", "1:1  <<", "there is no key <<"),
        ("ключ: 1", "1:1  ключ", "there is no key ключ"),
    ] {
        refused_at(text, place, &["there is no key", parts]);
    }
}

#[test]
fn wrong_values_are_refused_at_the_value() {
    for (text, place, parts) in [
        ("seed: a", "1:7  seed", ["seed is \"a\", expected a whole number from 0 to 4294967295", "without quotes"]),
        ("seed: -1", "1:7", ["seed is -1, expected a whole number", "set seed to"]),
        ("seed: 1.5", "1:7", ["seed is 1.5, expected a whole number", "set seed to"]),
        ("seed: {a: 1}", "1:7", ["seed is a section of keys, expected a whole number", "set seed to"]),
        ("use_parallel: yes", "1:15", ["use_parallel is \"yes\", expected True or False", "without quotes"]),
        ("output_dir: 3", "1:13", ["output_dir is 3, expected text", "put it into quotes"]),
        ("run_mode: trian", "1:11", ["is \"trian\", expected train or finetune or eval or predict", "set run_mode to"]),
        ("parallel_config: 3", "1:18", ["parallel_config is 3, expected a section of keys", "set parallel_config to"]),
        (
            "parallel_config: [1]",
            "1:18",
            ["parallel_config is a list, expected a section of keys", "set parallel_config"],
        ),
        ("callbacks: 3", "1:12", ["callbacks is 3, expected a list of sections", "set callbacks to"]),
        ("callbacks: [3]", "1:13", ["item 0 of callbacks has no type", "MFLossMonitor, CheckpointMointor"]),
        ("callbacks: [{type: ObsMonitor}, {type: ObsMonitor}]", "1:40", ["ObsMonitor is listed twice", "leave one"]),
        (
            "model: {model_config: {type: LlamaConfig}}",
            "1:30",
            ["is \"LlamaConfig\", expected BloomConfig", "set model"],
        ),
        ("model: {model_config: {hidden_act: relu}}", "1:36", ["expected gelu or fast_gelu", "set model"]),
        ("optimizer: {beta1: 1.5}", "1:20", ["beta1 is 1.5, expected a number from 0 to 1", "set optimizer.beta1"]),
        ("3", "1:1", ["the file is 3, expected a section of keys", "set the file to"]),
        ("[1]", "1:1", ["the file is a list, expected a section of keys", "set the file to"]),
    ] {
        refused_at(text, place, &parts);
    }
}

#[test]
fn texts_that_are_no_such_yaml_are_refused() {
    refused_at("seed: 1\nrun_mode: eval\nseed: 2", "3:1  seed", &["seed is said twice, in line 1 and here"]);
    refused_at("model:\n  arch: {}\n  arch: {}", "3:3  model.arch", &["model.arch is said twice, in line 2"]);
    refused_at("seed: 1\n seed: 2", "2:6", &["not valid YAML", "mapping values are not allowed in this context"]);
    refused_at("seed: [1", "2:1", &["not valid YAML"]);
    refused_at("? [a]\n: 1", "1:3", &["a key is no word"]);
    refused_at("seed: *nothing", "1:7", &["not valid YAML"]);
    refused_at("seed: 1\n---\nseed: 2", "2:1", &["a second document begins", "keep one"]);
    for nothing in ["", "# a remark\n", "---\n"] {
        refused(read(nothing), &["says nothing at all", "configs/bloom"]);
    }
    let folder = std::env::temp_dir();
    let message = Config::read(&folder, &Options::default()).unwrap_err().to_string();
    assert!(message.starts_with("cannot read ") && message.contains("no regular file"), "{message}");
    let message = Config::read(Path::new("no/such.yaml"), &Options::default()).unwrap_err().to_string();
    assert!(message.starts_with("cannot read no/such.yaml: "), "{message}");
}

#[test]
fn sections_without_keys_anchors_and_marks_of_byte_order_are_read() {
    let config = read("\u{feff}seed: 3\nmodel:\nparallel: ~\n").unwrap();
    assert_eq!((config.settings.seed, config.origin("seed")), (3, &Origin::File(Position { line: 1, column: 1 })));
    let config = read("train_dataset: &data\n  repeat: 2\neval_dataset: *data\n").unwrap();
    assert_eq!((config.settings.train_dataset.repeat, config.settings.eval_dataset.repeat), (2, 2));
    assert_eq!(config.origin("eval_dataset.repeat"), &Origin::File(Position { line: 2, column: 3 }));
    let config = read("run_mode: &mode eval\ntrainer: {model_name: *mode}\n").unwrap();
    assert_eq!(config.settings.trainer.model_name.as_deref(), Some("eval"));
    refused(read(&format!("{}1", "a: &a [".repeat(500))), &["not valid YAML"]);
}

#[test]
fn bytes_that_are_no_text_and_files_that_are_too_large_are_refused() {
    let folder = std::env::temp_dir().join(format!("bloomery-configs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let check = |bytes: &[u8], part: &str| {
        let file = folder.join("bad.yaml");
        std::fs::write(&file, bytes).unwrap();
        refused(Config::read(&file, &Options::default()), &[part, "bad.yaml"]);
    };
    check(b"seed: \xff", "no UTF-8 text from byte 6 on");
    check(&vec![b'#'; 1 + BYTES_MAX as usize], "it has 1048577 bytes, and no configuration has more than 1048576");
    std::fs::remove_dir_all(&folder).unwrap();
}
