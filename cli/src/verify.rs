//! `verify`: every byte of an artifact against its hashes.

use std::path::Path;

use bloomery_artifact::{Artifact, Check};

use crate::Error;

/// What was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Sections of the file.
    pub sections: usize,
    /// Bytes of packed weights.
    pub weights_bytes: u64,
}

/// Opens an artifact and compares all of it: header, sections, program, weights.
///
/// # Errors
/// What is foreign, cut off or damaged, and where.
pub fn verify(path: &Path) -> Result<Verified, Error> {
    let artifact = Artifact::open(path, Check::Full)?;
    Ok(Verified { sections: artifact.sections().len(), weights_bytes: artifact.weight_table().bytes })
}
