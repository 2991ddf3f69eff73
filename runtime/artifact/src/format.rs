//! The file's format.
//!
//! ```text
//! 0      magic "BLOOMERY"
//! 8      version, u32 little endian
//! 12     length of the header, u32 little endian
//! 16     SHA-256 of the header
//! 48     header: bincode of the table of sections and the file's length
//! 4096   sections, each at a multiple of 4096, zeros between them
//! ```

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The first bytes of every artifact.
pub const MAGIC: [u8; 8] = *b"BLOOMERY";

/// The version of the format that this crate writes and reads.
pub const VERSION: u32 = 7;

/// Sections start at multiples of this: machine code and weights are mapped from the file.
pub const PAGE: u64 = 4096;

/// Where the header starts.
pub(crate) const HEADER_START: usize = 48;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SectionKind {
    /// The program, bincode.
    Program,
    /// The graph it was made from, text.
    Graph,
    /// [`crate::Meta`], bincode.
    Meta,
    /// `tokenizer.json`, as it was.
    Tokenizer,
    /// Machine code of the class that is the section's name.
    Code,
    /// The table of kernels of that class, bincode.
    Kernels,
    /// Packed weights; the name is the group.
    Weights,
    /// Where each weight lies, and hashes of them, bincode.
    WeightTable,
    /// A plan of calls for a device, but for its steps, bincode.
    Plan,
    /// Steps of a plan, bincode; the name is the part's first stage and the entry.
    PlanSteps,
}

impl SectionKind {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            SectionKind::Program => "program",
            SectionKind::Graph => "graph",
            SectionKind::Meta => "meta",
            SectionKind::Tokenizer => "tokenizer",
            SectionKind::Code => "code",
            SectionKind::Kernels => "kernels",
            SectionKind::Weights => "weights",
            SectionKind::WeightTable => "weight table",
            SectionKind::Plan => "plan",
            SectionKind::PlanSteps => "plan steps",
        }
    }
}

/// One line of the table of sections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// A class or a group, else empty.
    pub name: String,
    /// Bytes from the file's start.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Of its bytes; weights have none, their table holds hashes of pieces.
    pub sha256: Option<[u8; 32]>,
}

impl Section {
    /// Kind and name, e.g. `code:x86-64-v3`.
    pub fn title(&self) -> String {
        if self.name.is_empty() { self.kind.name().to_owned() } else { format!("{}:{}", self.kind.name(), self.name) }
    }
}

/// The header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) sections: Vec<Section>,
    pub(crate) length: u64,
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Bytes of plain data.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).expect("plain data is always encoded")
}

/// Memory that plain data may ask for: a number in damaged bytes must not. The tables of the largest model want some megabytes.
const MEMORY_MOST: usize = 64 << 20;

/// Plain data from its bytes, all of them.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let limited = bincode::config::standard().with_limit::<MEMORY_MOST>();
    let decoded = bincode::serde::decode_from_slice(bytes, limited);
    let (value, used) = decoded.map_err(|error| error.to_string())?;
    if used == bytes.len() { Ok(value) } else { Err(format!("{used} of {} bytes are used", bytes.len())) }
}
