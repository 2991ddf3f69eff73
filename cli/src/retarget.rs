//! `retarget`: code for more classes of processors in an artifact, from the program it holds, without the checkpoint.
//!
//! Weights are copied as they are, checked on the way. What comes out is what `compile` would have written, had it been
//! asked for all these targets at once by the same compilers: byte for byte.

use std::path::Path;

use bloomery_artifact::{Artifact, ArtifactWriter, Check, WeightSink};

use crate::code::{self, Made};
use crate::execution::on;
use crate::targets::Target;
use crate::{Error, Progress, output};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retargeted {
    /// The artifact's size.
    pub bytes: u64,
    /// Classes of processors it has code for now.
    pub classes: Vec<String>,
}

/// Bytes of weights copied between two questions whether to go on.
const PIECE: usize = 16 << 20;

/// Writes the artifact at `input` to `output` with images for `targets` added, or made anew. Both may be one file, which
/// is replaced when the new one is complete.
///
/// # Errors
/// A damaged artifact; targets that name no code; the C compiler's and the file system's.
pub fn retarget(
    input: &Path,
    output: &Path,
    targets: &[Target],
    progress: &mut dyn Progress,
) -> Result<Retargeted, Error> {
    output::check(output)?;
    if targets.iter().all(|target| target.choices().is_empty()) {
        let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
        return Err(Error::Refused(format!(
            "retarget adds code, and --target {} names none: say --target cpu:CLASS (the interpreter runs every artifact)",
            names.join(",")
        )));
    }
    // Weights are checked when they are copied.
    let artifact = Artifact::open(input, Check::Lazy)?;
    of_processors(&artifact)?;
    let mut writer = ArtifactWriter::create(output)?;
    let images = code::merged(code::held(&artifact), code::images(artifact.program(), targets, progress)?);
    on(&artifact, || write(&mut writer, &artifact, &images, progress))?;
    let bytes = writer.finish()?;
    Ok(Retargeted { bytes, classes: images.into_iter().map(|made| made.image.class).collect() })
}

/// Refuses artifacts for devices, whose weights lie as these want them.
///
/// # Errors
/// So it is.
pub(crate) fn of_processors(artifact: &Artifact) -> Result<(), Error> {
    let Some(plan) = artifact.plan() else { return Ok(()) };
    Err(Error::Refused(format!(
        "{} is for ascend:{}, its weights lie as these chips want them: compile the model again",
        artifact.path().display(),
        plan.chip
    )))
}

/// The sections in `compile`'s order.
fn write(
    writer: &mut ArtifactWriter,
    artifact: &Artifact,
    images: &[Made],
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    writer.program(artifact.program())?;
    if let Some(graph) = artifact.graph() {
        writer.graph(graph)?;
    }
    if let Some(tokenizer) = artifact.tokenizer() {
        writer.tokenizer(tokenizer)?;
    }
    images.iter().try_for_each(|made| writer.code(&made.image))?;
    let table = artifact.weight_table();
    progress.begin("copy the weights", table.bytes);
    writer.weights(table, |sink| copy(sink, artifact, progress))?;
    progress.end(&format!("{} bytes", table.bytes));
    let mut meta = artifact.meta().clone();
    code::describe(images, &mut meta.options, &mut meta.provenance);
    writer.meta(&meta)?;
    progress.go_on()
}

fn copy(sink: &mut WeightSink<'_>, artifact: &Artifact, progress: &mut dyn Progress) -> Result<(), Error> {
    for slot in artifact.weight_table().slots() {
        artifact.unchecked(slot.parameter, slot.layer).try_for_each(|piece| artifact.check_piece(piece))?;
        sink.begin(slot)?;
        let bytes = &artifact.weights()[slot.offset as usize..][..slot.bytes as usize];
        for piece in bytes.chunks(PIECE) {
            progress.go_on()?;
            sink.put(piece)?;
            progress.advance(piece.len() as u64);
        }
    }
    Ok(())
}
