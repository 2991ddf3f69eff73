//! `demo`: the small trained model that the project ships, from its folder to text.

use std::path::{Path, PathBuf};

use bloomery_codegen::cpu::image::ImageError;

use crate::compile::{CompileOptions, ModelSource, compile};
use crate::generation::Generation;
use crate::run::{Prompts, Record, RunOptions, run};
use crate::targets::Target;
use crate::{Error, Execution, Progress};

/// How the texts begin; `<s>` began every text of the training.
const PROMPTS: [&str; 3] = ["<s>In the beginning", "<s>The king said to", "<s>Blessed are"];
/// New tokens of each.
const NEW_TOKENS: usize = 40;

/// Compiles the model into a temporary folder and generates from it; `hear` gets the texts piece by piece.
///
/// # Errors
/// The model is not where the project keeps it; whatever compiling and running refuse.
pub fn demo(progress: &mut dyn Progress, hear: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let folder = model()?;
    let scratch = tempfile::tempdir().map_err(Error::io("create a folder in", &std::env::temp_dir()))?;
    let artifact = scratch.path().join("demo.bloom");
    compile_anyhow(&folder, &artifact, progress)?;
    for prompt in PROMPTS {
        progress.begin("run", 0);
        let mut new = Vec::new();
        let completed = run(&options(&artifact, prompt), &mut |token| new.push(token.text.to_owned()))?;
        let timing = &completed.timing;
        progress.end(&format!(
            "opened in {:.0} ms, first token after {:.1} ms, then {:.0} tokens a second ({}, {} threads)",
            timing.load_ms, timing.first_token_ms, timing.decode_tokens_per_s, timing.class, timing.threads
        ));
        hear(prompt.trim_start_matches("<s>"));
        new.iter().for_each(|piece| hear(piece));
        hear("\n");
    }
    Ok(())
}

/// Where the project keeps the model.
fn model() -> Result<PathBuf, Error> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hf/trained-web/model");
    let missing = || {
        Error::Refused(
            "the demonstration's model is part of the project's sources, which are not where this program was built: \
             run `cargo run --release -- demo` in a clone"
                .to_owned(),
        )
    };
    folder.canonicalize().map_err(|_| missing())
}

/// With code, or without when there is no C compiler that works.
fn compile_anyhow(folder: &Path, artifact: &Path, progress: &mut dyn Progress) -> Result<(), Error> {
    let mut options = CompileOptions {
        targets: vec![Target::Native],
        ..CompileOptions::new(ModelSource::Folder(folder.to_path_buf()))
    };
    let compiled = match compile(&options, artifact, progress) {
        Err(Error::Code(ImageError::Compiler(error))) => {
            progress.end("not possible");
            progress.note(&format!("{error}; the interpreter runs the model now"));
            options.targets = vec![Target::Interpreter];
            compile(&options, artifact, progress)?
        }
        other => other?,
    };
    progress.note(&format!("one file holds the model now: {} bytes", compiled.bytes));
    Ok(())
}

fn options(artifact: &Path, prompt: &str) -> RunOptions {
    RunOptions {
        artifact: artifact.to_path_buf(),
        prompts: Prompts::Texts(vec![prompt.to_owned()]),
        generation: Generation { new_tokens: Some(NEW_TOKENS), ..Generation::default() },
        record: Record::default(),
        execution: Execution::default(),
    }
}
