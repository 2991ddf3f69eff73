//! The door to the `tokenizers` crate: text to ids and back, from the `tokenizer.json` beside a model.
//!
//! What is fixed here: no special token is ever added around a text (a special token *written in* the text is found),
//! truncation and padding that the file asks for are switched off, and text comes back byte by byte, so that a stream of ids
//! can be printed as it arrives. `stream` does the last.

mod stream;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokenizers::models::bpe::BPE;
use tokenizers::{DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl};

pub use stream::StreamDecoder;

/// The crate's tokenizer, of the one model that BLOOM's have: read so, a vocabulary of 250,680 is there four times sooner than
/// through the crate's choice of models, which first makes a tree of values of it.
type Inner = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// A model's tokenizer, together with the file it came from.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Inner,
    bytes: Vec<u8>,
}

impl Tokenizer {
    /// Reads a folder's `tokenizer.json`, or a file of any name; `None` when a folder has none.
    ///
    /// # Errors
    /// The file cannot be read, or describes no tokenizer of BLOOM's kind.
    pub fn from_folder(path: &Path) -> Result<Option<Tokenizer>, TokenizerError> {
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        let exists = file.try_exists().map_err(|source| TokenizerError::Io { path: file.clone(), source })?;
        if path.is_dir() && !exists {
            return Ok(None);
        }
        let bytes = crate::files::read(&file).map_err(|source| TokenizerError::Io { path: file.clone(), source })?;
        Tokenizer::from_bytes(bytes).map(Some).map_err(|error| error.in_file(&file))
    }

    /// Reads the bytes of a `tokenizer.json` and keeps them.
    ///
    /// # Errors
    /// The bytes describe no tokenizer, or one that does not decode byte by byte.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Tokenizer, TokenizerError> {
        let bad = |reason: String| TokenizerError::Invalid { path: "tokenizer.json".into(), reason };
        check_kind(&bytes).map_err(bad)?;
        let mut inner: Inner = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        inner.with_truncation(None).map_err(|error| bad(error.to_string()))?;
        inner.with_padding(None);
        Ok(Tokenizer { inner, bytes })
    }

    /// The file's bytes, as read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many ids there are, special ones included; a model's table may have more rows.
    pub fn vocab(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// One more than the highest id; more than [`Tokenizer::vocab`] where ids are left out. Looks at every token.
    pub fn end(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// The id of a token, as the vocabulary spells it.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.inner.token_to_id(piece)
    }

    /// The tokenizer that MindFormers made of the same file: it took vocabulary and merges alone, split texts before by
    /// GPT-2's rule instead of the file's own, and did not look for special tokens in them.
    ///
    /// # Errors
    /// The file is no tokenizer without what is left out.
    pub fn as_mindformers(&self) -> Result<Tokenizer, TokenizerError> {
        let bad = |reason: String| TokenizerError::Invalid { path: "tokenizer.json".into(), reason };
        let mut json: serde_json::Value =
            serde_json::from_slice(&self.bytes).map_err(|error| bad(error.to_string()))?;
        json["added_tokens"] = serde_json::json!([]);
        json["normalizer"] = serde_json::Value::Null;
        // The rule is in the crate under this name.
        json["pre_tokenizer"] = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        Tokenizer::from_bytes(serde_json::to_vec(&json).expect("it was JSON"))
    }

    /// The ids of `text`, with nothing added around it. Time grows about as the length does, also for text
    /// without any break: 1.4 to 5 MB a second on files of 1 to 5 MB in four languages and on 4 MB of one character.
    ///
    /// # Errors
    /// The tokenizer's model refuses the text (BLOOM's never does).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding =
            self.inner.encode_fast(text, false).map_err(|error| TokenizerError::Encode(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Each id as the vocabulary spells it (`Ġ` for a space); ids outside the vocabulary are shown as `<id>`.
    pub fn pieces(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|&id| self.inner.id_to_token(id).unwrap_or_else(|| format!("<{id}>"))).collect()
    }

    /// The text of `ids`; bytes that make no UTF-8 become `�`, ids outside the vocabulary nothing. `skip_special` drops
    /// special tokens, as Hugging Face's texts of generated ids do.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = self.stream(skip_special);
        let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// How many bytes of a text each id stands for, special tokens as they are written in it.
    pub fn byte_lengths(&self, ids: &[u32]) -> Vec<usize> {
        ids.iter().map(|&id| self.bytes_of(id, false).len()).collect()
    }

    /// A decoder for ids that arrive one by one; its pieces together are [`Tokenizer::decode`] of all ids.
    pub fn stream(&self, skip_special: bool) -> StreamDecoder<'_> {
        StreamDecoder::new(self, skip_special)
    }

    /// The bytes an id stands for.
    fn bytes_of(&self, id: u32, skip_special: bool) -> Vec<u8> {
        let Some(token) = self.inner.id_to_token(id) else { return Vec::new() };
        if skip_special && self.inner.get_added_vocabulary().is_special_token(&token) {
            return Vec::new();
        }
        stream::bytes_of(&token)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab", &self.vocab()).field("bytes", &self.bytes.len()).finish()
    }
}

/// The parts of a `tokenizer.json` that must be right before the crate may see it.
#[derive(Deserialize)]
struct Parts {
    normalizer: Option<serde_json::Value>,
    decoder: Option<Part>,
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
}

/// Refuses what is no JSON, or no tokenizer of BLOOM's kind. The crate panics on some of these files, and elsewhere would
/// decode by other rules than ours.
fn check_kind(bytes: &[u8]) -> Result<(), String> {
    let parts: Parts = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if parts.normalizer.is_some_and(|normalizer| normalizer.to_string().contains("\"Precompiled\"")) {
        return Err("its normalizer is Precompiled, which no BLOOM tokenizer has".to_owned());
    }
    match parts.decoder {
        Some(decoder) if decoder.r#type == "ByteLevel" => Ok(()),
        Some(decoder) => Err(format!("its decoder is {}, where every BLOOM tokenizer has ByteLevel", decoder.r#type)),
        None => Err("it has no decoder, where every BLOOM tokenizer has ByteLevel".to_owned()),
    }
}

/// A tokenizer that cannot be read or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no tokenizer of BLOOM's kind.
    #[error("{} is not a usable tokenizer: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The text cannot be encoded.
    #[error("the tokenizer refuses the text: {0}")]
    Encode(String),
}

impl TokenizerError {
    /// The same error about the file it was found in.
    fn in_file(self, file: &Path) -> TokenizerError {
        match self {
            TokenizerError::Invalid { reason, .. } => TokenizerError::Invalid { path: file.to_path_buf(), reason },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;
