//! `checkpoint`: what a checkpoint holds ([`show`]), in what two differ ([`diff`](diff())), one without what training
//! keeps beside the weights ([`clean`]), and one for other ranks ([`transform`](transform()), [`combine`]). Tensors go by
//! some megabytes at a time, so files may be larger than memory.

mod diff;
mod transform;

use std::path::{Path, PathBuf};

use bloomery_formats::mindspore::{Key, MindsporeCheckpoint, MindsporeWriter};
use bloomery_models::names::Names;
use bloomery_models::names::mindspore::is_optimizer;
use half::{bf16, f16};
use serde::ser::{Serialize, SerializeMap, Serializer};
use sha2::{Digest, Sha256};

pub use diff::{Difference, Differences, First, Number, diff};
pub use transform::{CombineOptions, Combined, RankFile, TransformOptions, Transformed, combine, needs, transform};
pub(crate) use transform::{Whole, around, has_ranks, ranks_in, strategy_places};

use crate::stored::{Item, StoredTensors, Told};
use crate::{Error, Progress, find, output};

/// What a checkpoint holds.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Shown {
    /// Each parameter, in the order of the file.
    #[serde(serialize_with = "as_map")]
    pub parameters: Vec<(String, ParameterView)>,
    /// What to know of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One parameter, or something appended.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ParameterView {
    /// Its extents; none for a scalar and a text.
    pub shape: Vec<usize>,
    /// Its type as MindSpore spells it: `Float32`; `str` for a text.
    #[serde(rename = "type")]
    pub ty: &'static str,
    /// Its bytes.
    pub bytes: usize,
    /// Their hash, in hexadecimal.
    pub sha256: String,
    /// What it says, if it is a scalar or a text.
    #[serde(skip)]
    pub value: Option<String>,
}

fn as_map<S: Serializer>(parameters: &[(String, ParameterView)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(parameters.len()))?;
    for (name, parameter) in parameters {
        map.serialize_entry(name, parameter)?;
    }
    map.end()
}

/// Lists a checkpoint with the hashes of its tensors.
///
/// # Errors
/// No checkpoint, a damaged one, an interruption.
pub fn show(
    path: &Path,
    key: Option<&Key>,
    strategy: Option<&Path>,
    progress: &mut dyn Progress,
) -> Result<Shown, Error> {
    let stored = StoredTensors::open(&find::local(path)?, Told { key, strategy }, Names::MindSpore, progress)?;
    let items = stored.items();
    progress.begin("hash", items.iter().map(|item| item.bytes as u64).sum());
    let mut parameters = Vec::with_capacity(items.len());
    for item in items {
        let mut hash = Sha256::new();
        stored.stream(&item, |bytes| {
            progress.go_on()?;
            hash.update(bytes);
            progress.advance(bytes.len() as u64);
            Ok(())
        })?;
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let value = value(&stored, &item)?;
        let Item { name, ty, shape, bytes, .. } = item;
        parameters.push((name, ParameterView { shape, ty, bytes, sha256, value }));
    }
    progress.end("");
    stored.unchanged()?;
    Ok(Shown { parameters, notes: stored.notes() })
}

/// What a scalar or a text says.
fn value(stored: &StoredTensors, item: &Item) -> Result<Option<String>, Error> {
    let dtype = match item.dtype {
        None => return stored.text(&item.name),
        Some(dtype) if item.shape.is_empty() => dtype,
        Some(_) => return Ok(None),
    };
    let bytes = stored.read(&item.name, 0..item.bytes)?;
    Ok(numbers(dtype, &bytes).first().map(Number::to_string))
}

/// The elements of some bytes.
fn numbers(dtype: bloomery_formats::Dtype, bytes: &[u8]) -> Vec<Number> {
    use bloomery_formats::Dtype;
    macro_rules! read {
        ($ty:ty, $size:literal, $of:expr) => {
            bytes.chunks_exact($size).map(|b| $of(<$ty>::from_le_bytes(b.try_into().expect("its size")))).collect()
        };
    }
    match dtype {
        Dtype::Bool | Dtype::U8 => bytes.iter().map(|byte| Number::Whole(i128::from(*byte))).collect(),
        Dtype::I8 => read!(i8, 1, |x| Number::Whole(i128::from(x))),
        Dtype::I16 => read!(i16, 2, |x| Number::Whole(i128::from(x))),
        Dtype::U16 => read!(u16, 2, |x| Number::Whole(i128::from(x))),
        Dtype::I32 => read!(i32, 4, |x| Number::Whole(i128::from(x))),
        Dtype::U32 => read!(u32, 4, |x| Number::Whole(i128::from(x))),
        Dtype::I64 => read!(i64, 8, |x| Number::Whole(i128::from(x))),
        Dtype::U64 => read!(u64, 8, |x| Number::Whole(i128::from(x))),
        Dtype::F16 => read!(f16, 2, |x: f16| Number::Real(f64::from(x))),
        Dtype::Bf16 => read!(bf16, 2, |x: bf16| Number::Real(f64::from(x))),
        Dtype::F32 => read!(f32, 4, |x| Number::Real(f64::from(x))),
        Dtype::F64 => read!(f64, 8, Number::Real),
        // No number that two files could be told apart by; their bytes are compared.
        _ => Vec::new(),
    }
}

/// What to clean, and where to.
#[derive(Clone, Debug)]
pub struct CleanOptions {
    /// The checkpoint.
    pub source: PathBuf,
    /// The new one.
    pub target: PathBuf,
    /// What opens an encrypted one.
    pub key: Option<Key>,
    /// Whether a file that is there already is replaced.
    pub force: bool,
}

/// What was written and what was left out.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Cleaned {
    /// Entries in the new file.
    pub kept: usize,
    /// Entries that are not.
    pub dropped: usize,
    /// Bytes of the new file's tensors.
    pub bytes: u64,
    /// The names of what was left out.
    pub names: Vec<String>,
}

/// Writes a checkpoint of MindSpore's without states of the optimizer and sums of gradients.
///
/// # Errors
/// No such checkpoint, a damaged one, a file that is there already, a refusal of the file system, an interruption.
pub fn clean(options: &CleanOptions, progress: &mut dyn Progress) -> Result<Cleaned, Error> {
    let CleanOptions { source, target, key, force } = options;
    check_ckpt(target)?;
    output::apart(target, source)?;
    output::untaken(target, *force)?;
    let checkpoint = MindsporeCheckpoint::open(source, key.as_ref())?;
    let (dropped, kept): (Vec<_>, Vec<_>) = checkpoint.entries().iter().partition(|entry| is_optimizer(&entry.name));
    if kept.is_empty() {
        let source = source.display();
        return Err(Error::Refused(format!(
            "{source} holds nothing else than states of an optimizer: nothing is left to write"
        )));
    }
    let bytes = kept.iter().map(|entry| entry.bytes as u64).sum();
    progress.begin("clean", bytes);
    let mut writer = MindsporeWriter::begin(target)?;
    for entry in &kept {
        writer.entry_like(entry)?;
        checkpoint.stream(entry, |bytes| {
            progress.go_on()?;
            progress.advance(bytes.len() as u64);
            Ok::<_, Error>(writer.write(bytes)?)
        })?;
    }
    checkpoint.file().unchanged()?;
    progress.go_on()?;
    writer.complete()?;
    progress.end("");
    let names: Vec<String> = dropped.iter().map(|entry| entry.name.clone()).collect();
    Ok(Cleaned { kept: kept.len(), dropped: names.len(), bytes, names })
}

/// Whether it is named as checkpoints of MindSpore's are.
pub(crate) fn is_ckpt(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "ckpt")
}

/// Refuses a name for a new file by which MindSpore would not load it.
fn check_ckpt(path: &Path) -> Result<(), Error> {
    if !is_ckpt(path) {
        let path = path.display();
        return Err(Error::Refused(format!(
            "{path} does not end in .ckpt, and MindSpore loads no other name: say {path}.ckpt"
        )));
    }
    output::check(path)
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Number::Whole(whole) => serializer.serialize_i128(whole),
            // JSON has no such numbers.
            Number::Real(real) if !real.is_finite() => serializer.serialize_str(&self.to_string()),
            Number::Real(real) => serializer.serialize_f64(real),
        }
    }
}
