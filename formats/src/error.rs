//! What can be wrong with a foreign file. Each message says what, where and, where there is one, the way out.

use std::io;
use std::path::PathBuf;

/// A file that could not be read or written as what it should be.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The system refused an operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "map", "write".
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, pipe or device where a file belongs.
    #[error("{} is not a regular file: name one, or put one there", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// Bytes are no longer those that were read.
    #[error("{} was written into while it was read ({before} bytes before, {now} now): do it again when nobody writes there", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its size when reading began.
        before: u64,
        /// And at the end.
        now: u64,
    },
    /// Nothing to read in the model's folder.
    #[error("{} holds neither model.safetensors nor pytorch_model.bin, nor the index of either's shards{hint}", folder.display())]
    NoWeights {
        /// The model's folder.
        folder: PathBuf,
        /// What was found instead and what to do, or empty.
        hint: String,
    },
    /// A safetensors file that cannot be one.
    #[error("{} is not a sound safetensors file: {problem}; download it again or save it anew", path.display())]
    Safetensors {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong inside.
        problem: SafetensorsProblem,
    },
    /// A torch file that cannot be read, or should not be.
    #[error("{} cannot be read as a torch file: {problem}", path.display())]
    Torch {
        /// The file.
        path: PathBuf,
        /// What is wrong inside.
        problem: crate::torch::TorchProblem,
    },
    /// A file that is no checkpoint of MindSpore's, or no sound one.
    #[error("{} cannot be read as a checkpoint of MindSpore's: {problem}", path.display())]
    Mindspore {
        /// The file.
        path: PathBuf,
        /// What is wrong inside.
        problem: Box<crate::mindspore::MindsporeProblem>,
    },
    /// A tensor to be written that MindSpore's checkpoints cannot hold.
    #[error("tensor {tensor} of type {dtype} and shape {shape:?} cannot be in a checkpoint of MindSpore's: {why}")]
    NotForMindspore {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: crate::Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// What stands against it.
        why: &'static str,
    },
    /// A file that is no parallel strategy of MindSpore's, or no sound one.
    #[error("{} cannot be read as a strategy file of MindSpore's: {problem}", path.display())]
    Strategy {
        /// The file.
        path: PathBuf,
        /// What is wrong inside.
        problem: crate::strategy::StrategyProblem,
    },
    /// A data file or its index that cannot be one.
    #[error("{} is not a sound part of a MindRecord data set: {problem}", path.display())]
    MindRecord {
        /// The file.
        path: PathBuf,
        /// What is wrong inside.
        problem: crate::mindrecord::MindRecordProblem,
    },
    /// A file that is no rank table.
    #[error("{} is not a rank table: {problem}", path.display())]
    RankTable {
        /// The file.
        path: PathBuf,
        /// What is wrong inside.
        problem: crate::rank_table::RankTableProblem,
    },
    /// What Git leaves in place of a large file.
    #[error("{} is a pointer that Git LFS left for the file itself: `git lfs pull` there, or `hf download`, fetches it", path.display())]
    LfsPointer {
        /// The pointer.
        path: PathBuf,
    },
    /// The index of a sharded checkpoint does not parse.
    #[error("{} is not a checkpoint index: {source}; download it again", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// The index names a file outside its own folder.
    #[error("{} puts tensor {tensor} into {shard:?}: a shard must be a plain file name in the same folder", path.display())]
    ShardOutside {
        /// The index.
        path: PathBuf,
        /// A tensor that the index puts there.
        tensor: String,
        /// The name that leads out.
        shard: String,
    },
    /// A shard of the index is not there.
    #[error("{} needs {shard} ({tensors} tensors, such as {tensor}), which is not in the folder{way_out}", path.display())]
    ShardMissing {
        /// The index.
        path: PathBuf,
        /// The missing file.
        shard: String,
        /// How many tensors it should hold.
        tensors: usize,
        /// What fetches it.
        way_out: String,
        /// One of them.
        tensor: String,
    },
    /// Two shards hold the same name.
    #[error("tensor {tensor} is in two shards, {} and {}: one of them must go", first.display(), second.display())]
    TensorTwice {
        /// The name held twice.
        tensor: String,
        /// Where it was seen first.
        first: PathBuf,
        /// Where it was seen again.
        second: PathBuf,
    },
    /// The index and the shard disagree.
    #[error("{} puts tensor {tensor} into {shard}, which does not hold it{found}: one of both is another model's", path.display())]
    TensorNotInShard {
        /// The index.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file that the index names.
        shard: String,
        /// Where it is instead, or empty.
        found: String,
    },
    /// Whoever wanted a file written wants it no more.
    #[error("{} was not written: it was given up", path.display())]
    Stopped {
        /// The file that there is not.
        path: PathBuf,
    },
    /// A tensor to be written whose bytes are not its shape's.
    #[error("tensor {tensor} of type {dtype} and shape {shape:?} was given {bytes} bytes")]
    BytesForShape {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: crate::Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// The bytes given.
        bytes: usize,
    },
    /// Two tensors to be written with one name.
    #[error("tensor {tensor} is to be written twice into {}", path.display())]
    NameTwice {
        /// The name.
        tensor: String,
        /// The file.
        path: PathBuf,
    },
}

/// What can be wrong inside a safetensors file; sizes in bytes.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsProblem {
    /// Too short to be one.
    #[error("it has {size} bytes and the length of the header alone takes 8")]
    TooShort {
        /// The file's size.
        size: usize,
    },
    /// More header than any reader takes: usually the first bytes of another format.
    #[error("its header claims {claimed} bytes, at most {limit} are allowed (is it another format?)")]
    HeaderTooLarge {
        /// The header's claimed length.
        claimed: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// The file ends inside its header.
    #[error("its header claims {claimed} bytes and the file ends after {size}: it is cut short")]
    HeaderCut {
        /// The header's claimed length.
        claimed: u64,
        /// The file's size.
        size: usize,
    },
    /// The header is no JSON, or no description of tensors.
    #[error("its header does not parse: {0}")]
    Header(#[from] serde_json::Error),
    /// The header and the file's size disagree.
    #[error("its header describes {described} bytes and the file has {size}{}", if (*size as u128) < *described { ": it is cut short" } else { "" })]
    Size {
        /// Header and data as described.
        described: u128,
        /// The file's size.
        size: usize,
    },
    /// A name that is there again.
    #[error("tensor {tensor} is there twice")]
    Twice {
        /// The name.
        tensor: String,
    },
    /// What stands behind a name describes no tensor.
    #[error("tensor {tensor} is described wrongly: {what}")]
    Entry {
        /// The tensor.
        tensor: String,
        /// What the parser said.
        what: String,
    },
    /// An element type of a newer format.
    #[error("tensor {tensor} has type {dtype}, which this program does not know (weights are F32, F16 or BF16)")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The type as the format names it.
        dtype: String,
    },
    /// Type and shape do not fill the tensor's range.
    #[error("tensor {tensor} {view}, and its offsets are {} to {}", offsets[0], offsets[1])]
    Bytes {
        /// The tensor.
        tensor: String,
        /// Its type, its shape, and the bytes these take.
        view: String,
        /// Where it begins and ends, from the header's end.
        offsets: [usize; 2],
    },
    /// Two tensors overlap, or there is something between them.
    #[error("tensor {tensor} begins at byte {start} of the data, and what is before it ends at {before}")]
    Apart {
        /// The tensor.
        tensor: String,
        /// Where it begins, from the header's end.
        start: usize,
        /// Where the tensor before it ends.
        before: usize,
    },
}
