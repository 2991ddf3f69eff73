//! `logits`: what the model makes of every token of a batch of prompts, as a safetensors file.

use std::path::{Path, PathBuf};

use bloomery_formats::safetensors::{NewTensor, write_while};
use bloomery_formats::{Dtype, FormatError};
use bloomery_runtime::{AllLogits, all_logits};

use crate::execution::on;
use crate::{Error, Execution, Progress, output};

/// Of which tokens, and where to.
#[derive(Clone, Debug)]
pub struct LogitsOptions {
    /// The artifact.
    pub artifact: PathBuf,
    /// The prompts.
    pub prompts: Vec<Vec<u32>>,
    /// The file for [`write()`]; looked at before anything runs.
    pub output: PathBuf,
    /// How to run.
    pub execution: Execution,
}

/// Computes them: f32 [batch, longest prompt, vocabulary]; rows past a prompt's end are zeros.
///
/// # Errors
/// An artifact that cannot be used here, prompts that do not fit it, an output that is no file's name.
pub fn logits(options: &LogitsOptions) -> Result<AllLogits, Error> {
    output::check(&options.output)?;
    let artifact = options.execution.open(&options.artifact)?;
    let mut session = options.execution.session(&artifact, options.prompts.iter().map(Vec::len))?;
    on(&artifact, || Ok(all_logits(&mut session, &options.prompts)?))
}

/// Writes them to a safetensors file, as the tensor `logits`.
///
/// # Errors
/// A file that cannot be written; an interruption, which leaves none.
pub fn write(logits: &AllLogits, output: &Path, progress: &dyn Progress) -> Result<(), Error> {
    let bytes: Vec<u8> = logits.data.iter().flat_map(|logit| logit.to_le_bytes()).collect();
    let tensor = NewTensor { name: "logits", dtype: Dtype::F32, shape: &logits.shape, bytes: &bytes };
    match write_while(output, &[tensor], &mut || !progress.interrupted()) {
        Err(FormatError::Stopped { .. }) => Err(Error::Interrupted),
        other => Ok(other?),
    }
}
