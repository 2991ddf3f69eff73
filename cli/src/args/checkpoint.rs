//! Arguments of what is about checkpoints: `convert`, `checkpoint`.

use std::path::PathBuf;

use bloomery::checkpoint::{CleanOptions, CombineOptions, TransformOptions};
use bloomery::convert::ConvertOptions;
use bloomery::{Error, Key};
use bloomery_models::config::WeightType;
use bloomery_models::names::Names;
use clap::{Args, Subcommand, ValueEnum};

use super::Dtype;
use super::values::{bytes, count, key};

/// `convert`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  bloomery convert MODEL_DIR bloom.ckpt --to mindspore\n  bloomery convert MODEL_DIR OUT_DIR --to mindspore --dtype f16\n  bloomery convert OUT_DIR BACK_DIR --to hf --shard-size 5GB\n  bloomery convert bloom.ckpt HF_DIR --to hf --heads 16"
)]
pub(crate) struct Convert {
    /// A model's folder or name, or a file of weights, with a config.json beside it
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// A folder, which gets config.json and the tokenizer's files as well, and keeps what stood before Hugging Face's names; or,
    /// for MindSpore, a file: FILE.ckpt
    #[arg(value_name = "DST")]
    target: PathBuf,
    /// Whose files to make
    #[arg(long, value_enum)]
    to: To,
    /// The type of the new weights; numbers that it cannot hold are counted
    #[arg(long, value_enum, default_value_t = Dtype::Keep)]
    dtype: Dtype,
    /// The most that a safetensors file holds [default: 5GB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    shard_size: Option<u64>,
    /// How many heads the model has, where no config.json says it
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    heads: Option<std::num::NonZeroUsize>,
    /// What opens an encrypted checkpoint of MindSpore's
    #[arg(long, value_name = "K", value_parser = key)]
    key: Option<Key>,
    #[command(flatten)]
    shared: SharedByRanks,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a folder of ranks' files does not say itself.
#[derive(Debug, Args)]
pub(crate) struct SharedByRanks {
    /// How ranks share a folder with rank_N/*.ckpt: a strategy file, or a folder of them [default: strategy in the folder or
    /// beside it]
    #[arg(long, value_name = "F|DIR")]
    pub(crate) src_strategy: Option<PathBuf>,
}

/// `--to`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// Hugging Face's: safetensors
    Hf,
    /// MindSpore's: one .ckpt
    Mindspore,
}

/// What Hugging Face's own writer took for long.
const SHARD: u64 = 5_000_000_000;

impl Convert {
    /// The library's options.
    pub(crate) fn options(&self) -> Result<ConvertOptions, Error> {
        if self.shard_size.is_some() && self.to == To::Mindspore {
            let refusal = "--shard-size is for --to hf: weights of MindSpore's are one file, leave it out";
            return Err(Error::Refused(refusal.to_owned()));
        }
        Ok(ConvertOptions {
            source: self.source.clone(),
            target: self.target.clone(),
            to: match self.to {
                To::Hf => Names::HuggingFace,
                To::Mindspore => Names::MindSpore,
            },
            dtype: match self.dtype {
                Dtype::Keep => None,
                Dtype::F32 => Some(WeightType::F32),
                Dtype::F16 => Some(WeightType::F16),
                Dtype::Bf16 => Some(WeightType::Bf16),
            },
            shard_bytes: self.shard_size.unwrap_or(SHARD),
            heads: self.heads.map(std::num::NonZeroUsize::get),
            key: self.key.clone(),
            source_strategy: self.shared.src_strategy.clone(),
            force: self.force,
        })
    }
}

/// `checkpoint`
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Examples:\n  bloomery checkpoint show bloom.ckpt --json\n  bloomery checkpoint diff bloom.ckpt other.ckpt\n  bloomery checkpoint clean trained.ckpt bloom.ckpt\n  bloomery checkpoint transform CKPT_DIR NEW_DIR --src-strategy STRATEGY_DIR\n  bloomery checkpoint combine CKPT_DIR bloom.ckpt --strategy STRATEGY_DIR"
)]
pub(crate) struct Checkpoints {
    /// What to do
    #[command(subcommand)]
    pub(crate) what: CheckpointCommand,
}

/// What `checkpoint` does.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Names, shapes, types, sizes and hashes
    #[command(after_help = "Example:\n  bloomery checkpoint show bloom.ckpt --json")]
    Show {
        /// The checkpoint: MindSpore's, safetensors, torch's, or a folder
        #[arg(value_name = "A")]
        file: PathBuf,
        /// What opens an encrypted one
        #[arg(long, value_name = "K", value_parser = key)]
        key: Option<Key>,
        #[command(flatten)]
        shared: SharedByRanks,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// In what two differ: names, types, shapes; of each tensor the first number that is another, and the largest error
    #[command(after_help = "Example:\n  bloomery checkpoint diff bloom.ckpt other.ckpt")]
    Diff {
        /// A checkpoint
        #[arg(value_name = "A")]
        a: PathBuf,
        /// Another one, of any format
        #[arg(value_name = "B")]
        b: PathBuf,
        /// What opens those that are encrypted
        #[arg(long, value_name = "K", value_parser = key)]
        key: Option<Key>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// A copy without states of the optimizer and sums of gradients (names with adam_ or accu_grads)
    #[command(after_help = "Example:\n  bloomery checkpoint clean trained.ckpt bloom.ckpt")]
    Clean(Clean),
    /// The files of ranks that share a checkpoint one way, made of those that share it another
    #[command(
        after_help = "Examples:\n  bloomery checkpoint transform CKPT_DIR NEW_DIR --src-strategy STRATEGY_DIR --dst-strategy new.ckpt\n  bloomery checkpoint transform bloom.ckpt NEW_DIR --dst-strategy STRATEGY_DIR --rank 3"
    )]
    Transform(Transform),
    /// Which ranks' files each rank of a transformation needs
    #[command(
        after_help = "Example:\n  bloomery checkpoint needs --src-strategy STRATEGY_DIR --dst-strategy new.ckpt --rank 3"
    )]
    Needs(Needs),
    /// What many ranks trained, as one file without states of the optimizer and sums of gradients
    #[command(after_help = "Example:\n  bloomery checkpoint combine CKPT_DIR bloom.ckpt --strategy STRATEGY_DIR")]
    Combine(Combine),
}

/// How ranks share a checkpoint before and after.
#[derive(Debug, Args)]
pub(crate) struct Strategies {
    /// How ranks share it now: a strategy file, or a folder of them; without, one has all
    #[arg(long, value_name = "F|DIR")]
    pub(crate) src_strategy: Option<PathBuf>,
    /// How ranks will share it; without, one will have all
    #[arg(long, value_name = "F|DIR")]
    pub(crate) dst_strategy: Option<PathBuf>,
    /// This rank alone
    #[arg(long, value_name = "N")]
    pub(crate) rank: Option<u32>,
}

/// `checkpoint needs`
#[derive(Debug, Args)]
pub(crate) struct Needs {
    #[command(flatten)]
    pub(crate) strategies: Strategies,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `checkpoint transform`
#[derive(Debug, Args)]
pub(crate) struct Transform {
    /// A folder with rank_N/*.ckpt; of one rank, also a file
    #[arg(value_name = "SRC_DIR")]
    source: PathBuf,
    /// The folder that gets rank_N/PREFIXN.ckpt
    #[arg(value_name = "DST_DIR")]
    target: PathBuf,
    #[command(flatten)]
    strategies: Strategies,
    /// What stands before the rank in names of files
    #[arg(long, value_name = "P", default_value = "checkpoint_")]
    prefix: String,
    /// What opens encrypted files; new ones are not encrypted
    #[arg(long, value_name = "K", value_parser = key)]
    key: Option<Key>,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

impl Transform {
    /// The library's options.
    pub(crate) fn options(&self) -> TransformOptions {
        TransformOptions {
            source: self.source.clone(),
            target: self.target.clone(),
            source_strategy: self.strategies.src_strategy.clone(),
            target_strategy: self.strategies.dst_strategy.clone(),
            prefix: self.prefix.clone(),
            rank: self.strategies.rank,
            key: self.key.clone(),
            force: self.force,
        }
    }
}

/// `checkpoint combine`
#[derive(Debug, Args)]
pub(crate) struct Combine {
    /// A folder with rank_N/*.ckpt
    #[arg(value_name = "SRC_DIR")]
    source: PathBuf,
    /// The new file
    #[arg(value_name = "DST.ckpt")]
    target: PathBuf,
    /// How ranks share it: a strategy file, or a folder of them
    #[arg(long, value_name = "F|DIR")]
    strategy: PathBuf,
    /// What opens encrypted files; the new one is not encrypted
    #[arg(long, value_name = "K", value_parser = key)]
    key: Option<Key>,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

impl Combine {
    /// The library's options.
    pub(crate) fn options(&self) -> CombineOptions {
        let Combine { source, target, strategy, key, force, .. } = self;
        CombineOptions {
            source: source.clone(),
            target: target.clone(),
            strategy: strategy.clone(),
            key: key.clone(),
            force: *force,
        }
    }
}

/// `checkpoint clean`
#[derive(Debug, Args)]
pub(crate) struct Clean {
    /// A checkpoint of MindSpore's
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The new one
    #[arg(value_name = "DST")]
    target: PathBuf,
    /// What opens an encrypted one; the new one is not encrypted
    #[arg(long, value_name = "K", value_parser = key)]
    key: Option<Key>,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

impl Clean {
    /// The library's options.
    pub(crate) fn options(&self) -> CleanOptions {
        let Clean { source, target, key, force, .. } = self;
        CleanOptions { source: source.clone(), target: target.clone(), key: key.clone(), force: *force }
    }
}
