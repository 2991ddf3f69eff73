//! `tokenize`: text to ids, as the model's own tokenizer does it.

use std::path::{Path, PathBuf};

use bloomery_artifact::{Artifact, Check};
use bloomery_models::tokenizer::Tokenizer;
use serde::Serialize;

use crate::input::read_text;
use crate::inspect::is_artifact;
use crate::{Error, find};

/// What to tokenize, and by which tokenizer.
#[derive(Clone, Debug)]
pub struct TokenizeOptions {
    /// A model's folder (`tokenizer.json` alone will do) or name, that file itself, or an artifact.
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
    let tokenizer = tokenizer_of(&find::local(&options.tokenizer)?)?;
    let text = match &options.text {
        Text::Given(text) => text.clone(),
        Text::File(path) => read_text(path)?,
    };
    let ids = tokenizer.encode(&text)?;
    let pieces = tokenizer.pieces(&ids);
    Ok(Tokens { ids, pieces })
}

/// The tokenizer of a folder, of a file, or of an artifact.
pub(crate) fn tokenizer_of(path: &Path) -> Result<Tokenizer, Error> {
    let lacks = |way_out: &str| Error::Refused(format!("{} holds no tokenizer.json: {way_out}", path.display()));
    if !is_artifact(path) {
        return Tokenizer::from_folder(path)?.ok_or_else(|| lacks("put the one of the model there"));
    }
    // Weights are not used here, so nobody waits for their hashes.
    let artifact = Artifact::open(path, Check::None)?;
    let bytes = artifact.tokenizer().ok_or_else(|| lacks("compile it again from a folder with one"))?;
    Ok(Tokenizer::from_bytes(bytes.to_vec())?)
}
