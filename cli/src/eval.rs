//! `eval`: how well a model foresees a text, as perplexity and as bits for each byte.

use std::path::PathBuf;
use std::time::Instant;

use bloomery_runtime::{Window, Windows, perplexity};
use serde::Serialize;

use crate::execution::{on, tokenizer_for_text};
use crate::input::read_text;
use crate::{Error, Execution, Progress};

/// Which text, and how it is cut.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// The artifact.
    pub artifact: PathBuf,
    /// A file whose every byte is the text; nothing is added around it.
    pub text: PathBuf,
    /// Tokens of a window; by default the artifact's context.
    pub window: Option<usize>,
    /// Tokens from one window's beginning to the next one's; by default half a window.
    pub stride: Option<usize>,
    /// How to run.
    pub execution: Execution,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluated {
    /// Tokens of the text.
    pub tokens: usize,
    /// Those that were predicted: all but the first, and but the first of each window that has no context.
    pub scored_tokens: usize,
    /// Bytes of the text that these stand for.
    pub scored_bytes: usize,
    /// Windows.
    pub windows: usize,
    /// Tokens of a window.
    pub window: usize,
    /// Tokens from one to the next.
    pub stride: usize,
    /// The mean negative log-likelihood of a token, in nats.
    pub mean_nll: f64,
    /// Its exponential.
    pub perplexity: f64,
    /// The negative log-likelihood of a byte, in bits: comparable between tokenizers.
    pub bits_per_byte: f64,
    /// Tokens that went through the model, context of windows included.
    pub computed_tokens: u64,
    /// How long that took.
    pub seconds: f64,
    /// How many threads worked.
    pub threads: usize,
    /// What ran: a class of processors or `interpreter`.
    pub class: String,
}

/// Measures a text's perplexity.
///
/// # Errors
/// A file that is no UTF-8 text, an artifact that cannot be used here or has no tokenizer, windows that mean nothing or do
/// not fit, a text of less than two tokens.
pub fn eval(options: &EvalOptions, progress: &mut dyn Progress) -> Result<Evaluated, Error> {
    let text = read_text(&options.text)?;
    let artifact = options.execution.open(&options.artifact)?;
    let tokenizer = tokenizer_for_text(&artifact, &options.artifact)?;
    let ids = tokenizer.encode(&text)?;
    let bytes = tokenizer.byte_lengths(&ids);
    let mut session = options.execution.session(&artifact, [options.window.unwrap_or(usize::MAX).min(ids.len())])?;
    let window = options.window.unwrap_or(session.context());
    let stride = options.stride.unwrap_or((window / 2).max(1));

    progress.begin("read the text", bytes.iter().sum::<usize>() as u64);
    let (begin, mut scored_bytes, mut read) = (Instant::now(), 0, 0);
    let mut done = |done: &Window| {
        scored_bytes += bytes[done.scored.clone()].iter().sum::<usize>();
        progress.advance(bytes[read..done.tokens.end].iter().sum::<usize>() as u64);
        read = done.tokens.end;
    };
    let measured = on(&artifact, || Ok(perplexity(&mut session, &ids, Windows { window, stride }, &mut done)?))?;
    let seconds = begin.elapsed().as_secs_f64();
    progress.end(&format!("{} tokens, {:.0} a second", session.computed(), session.computed() as f64 / seconds));
    Ok(Evaluated {
        tokens: ids.len(),
        scored_tokens: measured.scored,
        scored_bytes,
        windows: measured.windows,
        window,
        stride,
        mean_nll: measured.mean(),
        perplexity: measured.perplexity(),
        bits_per_byte: measured.sum / std::f64::consts::LN_2 / scored_bytes as f64,
        computed_tokens: session.computed(),
        seconds,
        threads: session.executor().threads(),
        class: session.executor().class().to_owned(),
    })
}
