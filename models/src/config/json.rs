//! A JSON object read key by key: a wrong type is an error that names the key and shows the value; `null` is absent.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ConfigError;

/// A parsed file; keys are looked up by type.
pub(super) struct Object<'a> {
    path: &'a Path,
    map: Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn parse(bytes: &[u8], path: &'a Path) -> Result<Object<'a>, ConfigError> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|source| ConfigError::Json { path: path.to_path_buf(), source })?;
        match value {
            Value::Object(map) => Ok(Object { path, map }),
            other => {
                let (path, found) = (path.to_path_buf(), shorten(&other));
                Err(ConfigError::Type { path, key: "the document", found, expected: "an object" })
            }
        }
    }

    /// The path for an error.
    pub(super) fn path(&self) -> PathBuf {
        self.path.to_path_buf()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The value under `key` as `read` sees it; `expected` describes what `read` takes.
    fn read<'s, T>(
        &'s self,
        key: &'static str,
        expected: &'static str,
        read: impl FnOnce(&'s Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let mistyped = || ConfigError::Type { path: self.path(), key, found: shorten(value), expected };
        read(value).map(Some).ok_or_else(mistyped)
    }

    pub(super) fn whole(&self, key: &'static str) -> Result<Option<u64>, ConfigError> {
        self.read(key, "a whole number", Value::as_u64)
    }

    pub(super) fn number(&self, key: &'static str) -> Result<Option<f64>, ConfigError> {
        self.read(key, "a number", Value::as_f64)
    }

    pub(super) fn flag(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        self.read(key, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, key: &'static str) -> Result<Option<&str>, ConfigError> {
        self.read(key, "a string", Value::as_str)
    }

    /// One of a few words, of which `true` and `false` may be written as such.
    pub(super) fn word(
        &self,
        key: &'static str,
        expected: &'static str,
        words: &[&str],
    ) -> Result<Option<String>, ConfigError> {
        let word = |value: &Value| match value {
            Value::Bool(flag) => Some(flag.to_string()),
            other => other.as_str().filter(|word| words.contains(word)).map(str::to_owned),
        };
        self.read(key, expected, word)
    }

    /// A list of strings; absent means empty.
    pub(super) fn texts(&self, key: &'static str) -> Result<Vec<String>, ConfigError> {
        let strings = |value: &Value| {
            let list = value.as_array()?;
            list.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        };
        Ok(self.read(key, "a list of strings", strings)?.unwrap_or_default())
    }

    /// One token id.
    pub(super) fn id(&self, key: &'static str) -> Result<Option<u32>, ConfigError> {
        self.read(key, "a token id", as_id)
    }

    /// A token id or a list of them; a key that is there and `null` says that there are none.
    pub(super) fn ids(&self, key: &'static str) -> Result<Option<Vec<u32>>, ConfigError> {
        if self.map.get(key).is_some_and(Value::is_null) {
            return Ok(Some(Vec::new()));
        }
        self.read(key, "a token id or a list of token ids", |value| match value {
            Value::Array(list) => list.iter().map(as_id).collect(),
            one => as_id(one).map(|id| vec![id]),
        })
    }

    /// A size from 1 to `max` under any of the names in `keys`, which must agree.
    pub(super) fn size(&self, keys: &[&'static str], max: usize) -> Result<usize, ConfigError> {
        self.size_given(keys, max)?.ok_or_else(|| ConfigError::Missing {
            path: self.path(),
            keys: keys.join(" (or ") + &")".repeat(keys.len() - 1),
        })
    }

    /// As `size`, with a value for its absence.
    pub(super) fn size_or(&self, keys: &[&'static str], max: usize, absent: usize) -> Result<usize, ConfigError> {
        Ok(self.size_given(keys, max)?.unwrap_or(absent))
    }

    fn size_given(&self, keys: &[&'static str], max: usize) -> Result<Option<usize>, ConfigError> {
        let mut given = None;
        for &key in keys {
            let Some(value) = self.whole(key)? else { continue };
            if value == 0 || value > max as u64 {
                return Err(ConfigError::Bounds { path: self.path(), key, value, max });
            }
            match given {
                Some((first, first_value)) if first_value != value => {
                    let (path, second, second_value) = (self.path(), key, value);
                    return Err(ConfigError::Contradiction { path, first, first_value, second, second_value });
                }
                _ => given = Some((key, value)),
            }
        }
        Ok(given.map(|(_, value)| value as usize))
    }
}

fn as_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// A value for a message: whole when short, else its beginning.
fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}
