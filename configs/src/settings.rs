//! Settings as types: a field for each key that means something, in sections as in the file.
//!
//! They are filled with what the file says, what `--set` says, and the defaults of [`keys`](crate::keys): nothing is
//! missing any more. What follows from several of them together is said in [`Config`](crate::Config).

use serde::{Deserialize, Serialize};

use crate::strategy::Stages;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunMode {
    /// Training.
    Train,
    /// Training that begins with given weights.
    Finetune,
    /// Measuring.
    Eval,
    /// Generating.
    Predict,
}

impl RunMode {
    /// Whether weights change.
    pub fn trains(self) -> bool {
        matches!(self, RunMode::Train | RunMode::Finetune)
    }
}

/// All settings, by the names and in the sections of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Of shuffling and of drawing new weights.
    pub seed: u64,
    /// What the file is for.
    pub run_mode: RunMode,
    /// Where logs, strategies and checkpoints go.
    pub output_dir: String,
    /// Weights to begin with: a folder, a file, a model's name; empty for none.
    pub load_checkpoint: String,
    /// The strategy that a checkpoint in parts was saved by.
    pub src_strategy_path_or_dir: String,
    /// Whether a checkpoint in parts is brought into this strategy's parts.
    pub auto_trans_ckpt: bool,
    /// Whether to write the strategy's files and stop.
    pub only_save_strategy: bool,
    /// Whether the checkpoint's training goes on.
    pub resume_training: bool,
    /// Whether training evaluates now and then.
    pub do_eval: bool,
    /// Whether `parallel_config` counts.
    pub use_parallel: bool,
    /// Parts of a micro-batch whose communication hides behind each other's work.
    pub micro_batch_interleave_num: u32,
    /// Whether the learning rate grows with the devices.
    pub lr_scale: bool,
    /// Sequences that the rate is meant for, if it grows.
    pub lr_scale_factor: u64,
    /// The network.
    pub model: ModelSection,
    /// How MindSpore goes about it.
    pub parallel: ParallelSection,
    /// The strategy.
    pub parallel_config: ParallelConfig,
    /// What is computed again instead of kept.
    pub recompute_config: RecomputeConfig,
    /// How much is run.
    pub runner_config: RunnerConfig,
    /// A training step.
    pub runner_wrapper: RunnerWrapper,
    /// What turns gradients into steps.
    pub optimizer: Optimizer,
    /// The learning rate over time.
    pub lr_schedule: LrSchedule,
    /// What is learned.
    pub train_dataset: TrainDataset,
    /// What kind of data that is.
    pub train_dataset_task: DatasetTask,
    /// What is foreseen to see how much was learned.
    pub eval_dataset: EvalDataset,
    /// What kind of data that is.
    pub eval_dataset_task: DatasetTask,
    /// What evaluation measures.
    pub metric: Metric,
    /// What turns text into ids.
    pub processor: Processor,
    /// What happens beside the steps.
    pub callbacks: Callbacks,
    /// What runs it all.
    pub trainer: Trainer,
}

/// `model`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Its sizes, types and ways of generation.
    pub model_config: ModelConfig,
    /// Its class.
    pub arch: Arch,
}

/// `model.model_config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// `BloomConfig`.
    pub r#type: String,
    /// Whose weights they are: a model's name, a folder, a file; empty for none.
    pub checkpoint_name_or_path: String,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// Layers.
    pub num_layers: u64,
    /// Attention heads of a layer.
    pub num_heads: u64,
    /// Rows of the embedding table.
    pub vocab_size: u64,
    /// The MLP is this times as wide as the residual stream.
    pub expand_ratio: u64,
    /// Tokens of a sequence.
    pub seq_length: u64,
    /// The gate of the MLP: `gelu` or `fast_gelu`.
    pub hidden_act: String,
    /// Of what a layer adds to the stream.
    pub hidden_dropout_rate: f64,
    /// Of what attention looks at.
    pub attention_dropout_rate: f64,
    /// The type of matrices and biases.
    pub param_init_type: String,
    /// The type of the embedding table.
    pub embedding_init_type: String,
    /// The type norms are computed in.
    pub layernorm_compute_type: String,
    /// The type softmax is computed in.
    pub softmax_compute_type: String,
    /// Whether norms and residuals are split by tokens.
    pub use_seq_parallel: bool,
    /// Whether of a layer only the scores of attention are computed again.
    pub use_select_recompute: bool,
    /// Stands for what the vocabulary lacks.
    pub unk_token_id: u32,
    /// Begins a text.
    pub bos_token_id: u32,
    /// Ends a text.
    pub eos_token_id: u32,
    /// Fills a batch.
    pub pad_token_id: u32,
    /// Whether ids are drawn instead of the likeliest taken.
    pub do_sample: bool,
    /// Keeps the likeliest so many; 0 keeps all.
    pub top_k: u64,
    /// Keeps the likeliest whose probabilities sum to this.
    pub top_p: f64,
    /// Divides the logits of ids seen before.
    pub repetition_penalty: f64,
    /// Ids of prompt and answer together, at most.
    pub max_decode_length: u64,
}

/// `model.arch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arch {
    /// `BloomLMHeadModel`.
    pub r#type: String,
}

/// `parallel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParallelSection {
    /// 0 data, 1 semi-automatic, 2 automatic.
    pub parallel_mode: u32,
    /// Whether every rank reads the same batch and takes its part of it.
    pub full_batch: bool,
    /// Whether gradients of `dp` ranks are averaged instead of summed.
    pub gradients_mean: bool,
    /// Whether a loss that several ranks compute counts once.
    pub loss_repeated_mean: bool,
    /// As `optimizer_shard`, which counts if it is said.
    pub enable_parallel_optimizer: bool,
    /// More of that.
    pub parallel_optimizer_config: ParallelOptimizerConfig,
}

/// `parallel.parallel_optimizer_config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParallelOptimizerConfig {
    /// Whether gradients that add up are shared between `dp` ranks too.
    pub gradient_accumulation_shard: bool,
}

/// `parallel_config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParallelConfig {
    /// Copies of the model, each with a part of the batch.
    pub data_parallel: u32,
    /// Ranks that share every layer.
    pub model_parallel: u32,
    /// Stages that share the layers.
    pub pipeline_stage: u32,
    /// Which stage has how many layers; a key of ours.
    pub stages: Stages,
    /// Micro-batches of a step.
    pub micro_batch_num: u32,
    /// Whether every rank has the whole embedding table.
    pub vocab_emb_dp: bool,
    /// Whether `dp` ranks share weights and the optimizer's states.
    pub optimizer_shard: Option<bool>,
    /// Groups in which gradients are sent.
    pub gradient_aggregation_group: u32,
}

/// `recompute_config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecomputeConfig {
    /// Whether a layer's inside is computed again.
    pub recompute: bool,
    /// Whether what is kept of a layer is split among `mp` ranks.
    pub recompute_slice_activation: bool,
}

/// `runner_config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerConfig {
    /// Passes over the data.
    pub epochs: u64,
    /// Sequences of a micro-batch on each `dp` rank.
    pub batch_size: u64,
    /// Whether several steps are run at one call.
    pub sink_mode: bool,
    /// How many.
    pub sink_size: u64,
}

/// `runner_wrapper`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerWrapper {
    /// `MFTrainOneStepCell`.
    pub r#type: String,
    /// What losses are multiplied by.
    pub scale_sense: ScaleSense,
    /// Whether gradients are clipped.
    pub use_clip_grad: bool,
    /// To which norm.
    pub max_grad_norm: f64,
}

/// `runner_wrapper.scale_sense`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleSense {
    /// `DynamicLossScaleUpdateCell`.
    pub r#type: String,
    /// At first.
    pub loss_scale_value: f64,
    /// What it is divided by when gradients overflow, and multiplied by later.
    pub scale_factor: f64,
    /// Steps without that before it grows.
    pub scale_window: u64,
}

/// `optimizer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// `FP32StateAdamWeightDecay`.
    pub r#type: String,
    /// Of the mean of gradients.
    pub beta1: f64,
    /// Of the mean of their squares.
    pub beta2: f64,
    /// Added to the divisor.
    pub eps: f64,
    /// Of matrices.
    pub weight_decay: f64,
}

/// `lr_schedule`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrSchedule {
    /// Its shape.
    pub r#type: String,
    /// The highest.
    pub learning_rate: f64,
    /// The last.
    pub lr_end: f64,
    /// The first.
    pub warmup_lr_init: f64,
    /// Steps from the first to the highest.
    pub warmup_steps: u64,
    /// In place of these: a part of all steps.
    pub warmup_ratio: Option<f64>,
    /// In place of these: passes over the data.
    pub warmup_epochs: Option<u64>,
    /// Steps to the last; -1 for all there are.
    pub total_steps: i64,
    /// Waves of a cosine.
    pub num_cycles: f64,
    /// Of a polynomial.
    pub power: f64,
}

/// `train_dataset`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainDataset {
    /// Where it is.
    pub data_loader: DataLoader,
    /// Columns that are read.
    pub input_columns: Vec<String>,
    /// Whether a last batch that is not full is left out.
    pub drop_remainder: bool,
    /// How often it is gone through.
    pub repeat: u64,
}

/// `eval_dataset`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalDataset {
    /// Where it is.
    pub data_loader: DataLoader,
    /// Columns that are read.
    pub input_columns: Vec<String>,
    /// Whether a last batch that is not full is left out.
    pub drop_remainder: bool,
    /// Sequences of a batch.
    pub batch_size: u64,
    /// How often it is gone through.
    pub repeat: u64,
}

/// `data_loader` of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataLoader {
    /// `MindDataset`.
    pub r#type: String,
    /// The folder or file; empty for none.
    pub dataset_dir: String,
    /// Whether rows are shuffled.
    pub shuffle: bool,
}

/// `train_dataset_task` and `eval_dataset_task`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetTask {
    /// `CausalLanguageModelDataset`.
    pub r#type: String,
}

/// `metric`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Such as `PerplexityMetric`.
    pub r#type: Option<String>,
}

/// `processor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// `BloomProcessor`.
    pub r#type: String,
    /// What it is made of.
    pub tokenizer: TokenizerSection,
}

/// `processor.tokenizer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSection {
    /// `BloomTokenizer`.
    pub r#type: String,
}

/// `callbacks`; those without a `type` are not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Callbacks {
    /// Shows the loss.
    #[serde(rename = "MFLossMonitor")]
    pub loss_monitor: LossMonitor,
    /// Saves checkpoints.
    #[serde(rename = "CheckpointMointor")]
    pub checkpoint_monitor: CheckpointMonitor,
}

/// `callbacks.MFLossMonitor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossMonitor {
    /// Whether it is there.
    pub r#type: Option<String>,
}

/// `callbacks.CheckpointMointor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointMonitor {
    /// Whether it is there.
    pub r#type: Option<String>,
    /// What names of files begin with.
    pub prefix: String,
    /// Steps from one to the next.
    pub save_checkpoint_steps: u64,
    /// How many are kept.
    pub keep_checkpoint_max: u64,
    /// Whether parts are put together first.
    pub integrated_save: bool,
    /// Whether training goes on meanwhile.
    pub async_save: bool,
}

/// `trainer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trainer {
    /// `CausalLanguageModelingTrainer`.
    pub r#type: String,
    /// What the model is called in logs.
    pub model_name: Option<String>,
}
