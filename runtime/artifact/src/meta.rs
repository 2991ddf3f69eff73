//! What an artifact says about itself: model, generation defaults, options, provenance.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is neither program nor weights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The model's configuration, as JSON text.
    pub config: String,
    /// Ids below this are known.
    pub vocabulary: u32,
    /// What the model's makers say of generation, as JSON text.
    pub generation: String,
    /// The id that begins one.
    pub bos: Option<u32>,
    /// The id that fills up batches elsewhere.
    pub pad: Option<u32>,
    /// Tokens of the sequences it was trained on.
    pub trained_length: Option<u32>,
    /// Tokens a sequence may have here, prompt and answer together.
    pub max_context: u32,
    /// Options of the compilation, by name: `dtype`, `compute`, `kv-dtype`, ..
    pub options: BTreeMap<String, String>,
    /// That ranks together compute what one rank computes, as JSON text; empty where there is one.
    pub certificate: String,
    /// Where it comes from.
    pub provenance: Provenance,
    /// What the compiler wants read.
    pub notes: Vec<String>,
}

/// Where an artifact comes from; no path, time or host, so that equal inputs give equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Files read.
    pub inputs: Vec<Source>,
    /// Bloomery's version that made the program and packed the weights.
    pub version: String,
    /// What made each image of code, by its class.
    pub images: BTreeMap<String, Maker>,
}

/// What made an image of code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// The C compiler's own words.
    pub compiler: String,
    /// Bloomery's version.
    pub version: String,
}

/// A file that was read, or what was read of one, as the name says then: `slices of rank_0/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name, without folders.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
}
