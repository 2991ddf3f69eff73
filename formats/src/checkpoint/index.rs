//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::FormatError;

/// The index as stored; its `metadata` is not needed.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    /// Tensor name to the shard's file name.
    #[serde(deserialize_with = "each_once")]
    pub(super) weight_map: BTreeMap<String, String>,
}

/// Reads a map whose keys must not come again with another value: which of both is meant, nobody could say.
fn each_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct EachOnce;
    impl<'de> Visitor<'de> for EachOnce {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map from tensors to shards")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((tensor, shard)) = entries.next_entry::<String, String>()? {
                let before = map.insert(tensor.clone(), shard.clone());
                if let Some(before) = before.filter(|before| *before != shard) {
                    return Err(A::Error::custom(format!("tensor {tensor} is put into both {before} and {shard}")));
                }
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(EachOnce)
}

impl Index {
    /// The shards in the order of their names, each with its tensors, at least one.
    pub(super) fn by_shard(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (tensor, shard) in &self.weight_map {
            shards.entry(shard).or_default().push(tensor);
        }
        shards
    }
}

/// Reads an index and makes sure that it names files of its own folder only.
pub(super) fn read(path: &Path) -> Result<Index, FormatError> {
    let index: Index = serde_json::from_slice(&crate::map::read(path)?)
        .map_err(|source| FormatError::Index { path: path.to_path_buf(), source })?;
    for (tensor, shard) in &index.weight_map {
        if !is_plain(shard) {
            let (tensor, shard) = (tensor.clone(), shard.clone());
            return Err(FormatError::ShardOutside { path: path.to_path_buf(), tensor, shard });
        }
    }
    Ok(index)
}

/// Whether `name` is a file's name and nothing that leads elsewhere, on any system.
fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_stay_in_the_folder() {
        assert!(is_plain("model-00001-of-00003.safetensors"));
        for name in ["", ".", "..", "../a", "/etc/passwd", "a/b", "..\\a", "C:a", "a\0b"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
