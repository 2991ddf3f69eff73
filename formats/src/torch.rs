//! torch: what `torch.save(model.state_dict(), "pytorch_model.bin")` writes, read without Python.
//!
//! The format is defined by its writer, torch/serialization.py and torch/_utils.py of PyTorch: a *pickle* builds a dict
//! from names to tensors, and a tensor is a storage's key with an offset, a size and strides. Since 1.6 (2020) the pickle
//! and the storages are records of a zip archive that are stored, not compressed (`zip`); before, they followed one
//! another in the file (`legacy`).
//!
//! A pickle is a program. Python runs it and calls whatever functions it names, which is why such files are dangerous;
//! `unpickle` has no functions to call: it knows the few names that state dicts need (`globals`) and refuses all others.
//! `tensors` turns what was built into checked ranges of the file, so nothing is read but the pickle.

mod globals;
mod legacy;
mod problem;
mod tensors;
mod unpickle;
mod zip;

pub use problem::TorchProblem;

use crate::checkpoint::Described;

/// The tensors that a whole file's `bytes` hold, in the order they were saved in.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<(String, Described)>, TorchProblem> {
    if bytes.starts_with(zip::MAGIC) {
        from_archive(bytes)
    } else if legacy::begins(bytes) {
        legacy::read(bytes)
    } else {
        Err(TorchProblem::Foreign)
    }
}

/// Whether a file begins as torch's do.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(zip::MAGIC) || legacy::begins(bytes)
}

/// The pickle of an archive; beside it are `data/KEY`, a storage each, and `byteorder`.
const PICKLE: &str = "data.pkl";

fn from_archive(bytes: &[u8]) -> Result<Vec<(String, Described)>, TorchProblem> {
    let records = zip::records(bytes)?;
    // Everything lies in one folder, called after the file that was first written.
    let pickle = records.iter().find_map(|(name, range)| Some((name.strip_suffix(PICKLE)?, range)));
    let Some((folder, pickle)) = pickle.filter(|(folder, _)| folder.ends_with('/')) else {
        return Err(TorchProblem::Record { name: PICKLE.to_owned(), what: "is not in the archive" });
    };
    let record = |name: &str| records.get(&*format!("{folder}{name}")).cloned();
    if record("byteorder").is_some_and(|range| &bytes[range] != b"little") {
        return Err(TorchProblem::BigEndian);
    }
    let (state, _) = unpickle::unpickle(&bytes[pickle.clone()])?;
    tensors::of(&state, |storage| record(&format!("data/{}", storage.key)))
}

#[cfg(test)]
mod tests;
