//! What a file is, told by what it begins with: whatever its name says, and the one place that tells.
//!
//! [`Kind::of`] looks at a file, [`Kind::begins`] at its first bytes. A name's end counts where the beginning says nothing,
//! as it does of damaged files ([`Kind::named`]): their readers know best what is wrong with them.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use crate::map;
use crate::mindrecord::MindRecord;
use crate::mindspore::MindsporeCheckpoint;
use crate::rank_table::RankTable;
use crate::{FormatError, safetensors, strategy, torch};

/// Formats that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tensors of safetensors.
    Safetensors,
    /// Tensors of torch, in an archive or a pickle.
    Torch,
    /// A checkpoint of MindSpore's, perhaps encrypted.
    Mindspore,
    /// A strategy of MindSpore's, as protobuf or JSON.
    Strategy,
    /// A data file of MindRecord.
    MindRecord,
    /// A database of SQLite, which the index of a data file is.
    Database,
    /// A rank table.
    RankTable,
    /// Another document of JSON, such as `config.json`.
    Json,
    /// What git puts in place of a large file.
    LfsPointer,
}

/// Longer documents are not read to learn what they are.
const JSON_MAX: u64 = 16 << 20;

impl Kind {
    /// What a file is: by its content, else by its name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(path: &Path) -> Result<Option<Kind>, FormatError> {
        let mut first = Vec::new();
        let read = map::open(path)?.take(256).read_to_end(&mut first);
        read.map_err(|source| FormatError::Io { action: "read", path: path.to_path_buf(), source })?;
        // Its header is JSON after a length, as that of safetensors is.
        if MindRecord::is_one(path) {
            return Ok(Some(Kind::MindRecord));
        }
        let known = match Kind::begins(&first) {
            Some(Kind::Json) if path.metadata().is_ok_and(|metadata| metadata.len() < JSON_MAX) => {
                Some(document(&map::read(path)?))
            }
            known => known,
        };
        Ok(known.or_else(|| Kind::named(path)))
    }

    /// What begins with these bytes; of documents and data files [`Kind::of`] knows more.
    pub fn begins(bytes: &[u8]) -> Option<Kind> {
        // Of messages that begin with any length, those of safetensors say most.
        match () {
            () if safetensors::begins(bytes) => Some(Kind::Safetensors),
            () if torch::begins(bytes) => Some(Kind::Torch),
            () if MindsporeCheckpoint::begins(bytes) => Some(Kind::Mindspore),
            () if strategy::begins(&bytes[..bytes.len().min(256)]) => Some(Kind::Strategy),
            () if bytes.starts_with(b"SQLite format 3\0") => Some(Kind::Database),
            () if bytes.starts_with(b"version https://git-lfs") => Some(Kind::LfsPointer),
            () if bytes.trim_ascii_start().starts_with(b"{") => Some(Kind::Json),
            () => None,
        }
    }

    /// What the end of a name says.
    pub fn named(path: &Path) -> Option<Kind> {
        match path.extension()?.to_str()? {
            "safetensors" => Some(Kind::Safetensors),
            "bin" | "pt" | "pth" => Some(Kind::Torch),
            "ckpt" => Some(Kind::Mindspore),
            "json" => Some(Kind::Json),
            _ => None,
        }
    }
}

/// What a document of JSON is, by its keys.
fn document(bytes: &[u8]) -> Kind {
    let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
    match () {
        () if RankTable::is_one(&json) => Kind::RankTable,
        () if strategy::KEYS.iter().any(|key| json.get(key).is_some()) => Kind::Strategy,
        () => Kind::Json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");

    #[test]
    fn a_file_is_what_it_begins_with_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for (file, kind) in [
            ("hf/tiny/model/model.safetensors", Kind::Safetensors),
            ("hf/tiny-bin/model/pytorch_model.bin", Kind::Torch),
            ("hf/tiny/model/config.json", Kind::Json),
            ("mindspore/ckpt/dtypes.ckpt", Kind::Mindspore),
            ("mindspore/ckpt/aes-gcm.ckpt", Kind::Mindspore),
            ("mindspore/ckpt/bf16.safetensors", Kind::Safetensors),
            ("mindspore/transform/strategies/mp2-pp2.ckpt", Kind::Strategy),
            ("mindspore/compiler/mp2-pp2-json/merged.json", Kind::Strategy),
            ("mindspore/mindrecord/one-int32/dataset.mindrecord", Kind::MindRecord),
            ("mindspore/mindrecord/one-int32/dataset.mindrecord.db", Kind::Database),
        ] {
            for name in ["a", "a.ckpt", "a.bin", "a.safetensors", "a.json", "a.x"] {
                let path = folder.path().join(name);
                std::fs::copy(Path::new(FIXTURES).join(file), &path).unwrap();
                assert_eq!(Kind::of(&path).unwrap(), Some(kind), "{file} as {name}");
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    #[test]
    fn a_name_counts_where_the_beginning_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, text: &str, expected: Option<Kind>| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(Kind::of(&path).unwrap(), expected, "{name} of {text:?}");
        };
        check("a.safetensors", "", Some(Kind::Safetensors));
        check("a.pt", "PK", Some(Kind::Torch));
        check("a.ckpt", "\n", Some(Kind::Mindspore));
        check("a", "words", None);
        check("a.bin", " {\"server_list\": []}", Some(Kind::RankTable));
        check("a.ckpt", "{\"version\": \"1.0\"", Some(Kind::Json));
        check("a", "{\"x\": 1, \"parallel_layout_item\": {}}", Some(Kind::Strategy));
    }
}
