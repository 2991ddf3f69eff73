//! `verify`: every byte of an artifact against its hashes, and the proof that ranks compute what one does, once more.

use std::path::Path;

use bloomery_artifact::{Artifact, Check, note};
use bloomery_codegen::ascend;
use bloomery_configs::Strategy;
use bloomery_ir::Mesh;

use crate::Error;
use crate::compile::strategy::{Certified, certified, shared};
use crate::execution::notes;

/// What was compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// Sections of the file.
    pub sections: usize,
    /// Bytes of packed weights.
    pub weights_bytes: u64,
    /// That the ranks compute what one computes, if there are several.
    pub certificate: Option<Certified>,
}

/// Opens an artifact and compares all of it: header, sections, program, weights. Plans its calls and
/// proves its strategy again.
///
/// # Errors
/// What is foreign, cut off or damaged, and where; a strategy that is none of the model's, or no longer proven.
pub fn verify(path: &Path) -> Result<Verified, Error> {
    let artifact = Artifact::open(path, Check::Full).inspect_err(|_| {
        if let Some(notes) = notes() {
            note::forget(path, &notes);
        }
    })?;
    same_plan(&artifact)?;
    let certificate = if artifact.program().ranks() > 1 { prove(&artifact)? } else { None };
    Ok(Verified { sections: artifact.sections().len(), weights_bytes: artifact.weight_table().bytes, certificate })
}

/// That a plan of calls is the one that this version makes of the program.
fn same_plan(artifact: &Artifact) -> Result<(), Error> {
    let Some(plan) = artifact.plan() else { return Ok(()) };
    let int8 = artifact.meta().options.get("int8").is_some_and(|said| said == "true");
    let made =
        ascend::plan(artifact.program(), plan.chip, int8).map_err(|refusal| Error::Refused(refusal.to_string()))?;
    if made == *plan {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{} holds other calls than this version of bloomery makes of its program: compile the model again",
        artifact.path().display()
    )))
}

fn prove(artifact: &Artifact) -> Result<Option<Certified>, Error> {
    let meta = artifact.meta();
    let strategy = meta.options.get("strategy").and_then(|strategy| strategy.parse::<Strategy>().ok());
    let said = strategy.zip(serde_json::from_str(&meta.config).ok());
    let (strategy, config) = said.ok_or_else(|| {
        Error::Refused(format!(
            "{} is for several ranks and does not say which: compile it again",
            artifact.path().display()
        ))
    })?;
    let mesh = shared(&strategy, &config)?.0.map_or_else(Mesh::default, |shared| shared.mesh);
    let program = artifact.program();
    if program.mesh != mesh || program.replicas != u64::from(strategy.dp) {
        return Err(Error::Refused(format!(
            "{} says that it is for {strategy}, and its program is for {} ranks of another arrangement: compile it again",
            artifact.path().display(),
            program.ranks()
        )));
    }
    certified(&strategy, &config)
}
