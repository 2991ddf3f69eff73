//! `tokenize`: text to ids, as the model's own tokenizer does it.

use std::path::{Path, PathBuf};

use bloomery_models::tokenizer::Tokenizer;
use serde::Serialize;

use crate::Error;

/// What to tokenize, and by which tokenizer.
#[derive(Clone, Debug)]
pub struct TokenizeOptions {
    /// A model's folder (`tokenizer.json` alone will do), that file itself, or an artifact.
    pub tokenizer: PathBuf,
    /// The text.
    pub text: Text,
}

/// Where a text comes from.
#[derive(Clone, Debug)]
pub enum Text {
    /// Given as it is.
    Given(String),
    /// Every byte of a file.
    File(PathBuf),
}

/// A text in tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Their ids.
    pub ids: Vec<u32>,
    /// How the vocabulary spells them.
    pub pieces: Vec<String>,
}

/// Turns a text into ids; nothing is added around it.
///
/// # Errors
/// No tokenizer is there, or the text is not UTF-8.
pub fn tokenize(options: &TokenizeOptions) -> Result<Tokens, Error> {
    let tokenizer = open(&options.tokenizer)?;
    let text = match &options.text {
        Text::Given(text) => text.clone(),
        Text::File(path) => read(path)?,
    };
    let ids = tokenizer.encode(&text)?;
    let pieces = tokenizer.pieces(&ids);
    Ok(Tokens { ids, pieces })
}

/// The tokenizer of a folder, of a file, or of an artifact.
fn open(path: &Path) -> Result<Tokenizer, Error> {
    let lacks = || Error::Refused(format!("{} holds no tokenizer.json", path.display()));
    Tokenizer::from_folder(path)?.ok_or_else(lacks)
}

fn read(path: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    String::from_utf8(bytes).map_err(|error| {
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let byte = bytes[at];
        Error::Refused(format!(
            "{} is not UTF-8 text: byte {byte:#04x} at offset {at} of {} bytes starts no character",
            path.display(),
            bytes.len()
        ))
    })
}
