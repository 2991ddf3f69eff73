//! `logits`: what the model makes of every token of a batch of prompts, as a safetensors file.

use std::path::PathBuf;

use bloomery_formats::Dtype;
use bloomery_formats::safetensors::{NewTensor, write};
use bloomery_runtime::all_logits;

use crate::{Error, Execution, output};

/// Of which tokens, and where to.
#[derive(Clone, Debug)]
pub struct LogitsOptions {
    /// The artifact.
    pub artifact: PathBuf,
    /// The prompts.
    pub prompts: Vec<Vec<u32>>,
    /// The file: tensor `logits`, f32 [batch, longest prompt, vocabulary]; rows past a prompt's end are zeros.
    pub output: PathBuf,
    /// How to run.
    pub execution: Execution,
}

/// Computes and writes them; returns the tensor's shape.
///
/// # Errors
/// An artifact that cannot be used here, prompts that do not fit it, a file that cannot be written.
pub fn logits(options: &LogitsOptions) -> Result<[usize; 3], Error> {
    output::check(&options.output)?;
    let artifact = options.execution.open(&options.artifact)?;
    let mut session = options.execution.session(&artifact, options.prompts.iter().map(Vec::len))?;
    let logits = all_logits(&mut session, &options.prompts)?;
    let bytes: Vec<u8> = logits.data.iter().flat_map(|logit| logit.to_le_bytes()).collect();
    let tensor = NewTensor { name: "logits", dtype: Dtype::F32, shape: &logits.shape, bytes: &bytes };
    write(&options.output, &[tensor])?;
    Ok(logits.shape)
}
