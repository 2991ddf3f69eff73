//! Artifacts with code for many classes of processors: compiled at once, or added later, they are the same bytes.

use std::path::{Path, PathBuf};

use bloomery::compile::{CompileOptions, ModelSource, compile};
use bloomery::retarget::retarget;
use bloomery::targets::Target;
use bloomery::{Error, Progress, Quiet};
use bloomery_artifact::{Artifact, Check};
use bloomery_codegen::cpu::cc::Compiler;
use bloomery_codegen::cpu::{CLASSES, Class};
use bloomery_runtime::{RunError, Session, SessionOptions, best_class, runs_here};
use tempfile::TempDir;

use crate::fixture::folder;

/// Every class that a compiler on this machine makes code for.
fn compilable() -> Vec<Class> {
    CLASSES.iter().copied().filter(|class| Compiler::for_class(*class).version().is_ok()).collect()
}

/// The tiny model for these targets.
fn compiled(folder_of: &TempDir, name: &str, targets: &[Target]) -> PathBuf {
    let mut options = CompileOptions::new(ModelSource::Folder(folder("tiny").join("model")));
    options.targets = targets.to_vec();
    let path = folder_of.path().join(name);
    compile(&options, &path, &mut Quiet).unwrap();
    path
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn code_added_later_is_the_code_compiled_at_once() {
    let folder = tempfile::tempdir().unwrap();
    // The first two: every one more is two more calls of the compiler.
    let mut classes = compilable();
    assert!(!classes.is_empty());
    classes.truncate(2);
    let targets = |classes: &[Class]| classes.iter().map(|class| Target::Cpu(*class)).collect::<Vec<_>>();
    let whole = compiled(&folder, "whole.bloom", &targets(&classes));
    let names: Vec<&str> = classes.iter().map(|class| class.name()).collect();
    assert_eq!(Artifact::open(&whole, Check::Full).unwrap().classes(), names);

    // One by one from the worst end, each into the file it came from.
    let grown = compiled(&folder, "grown.bloom", &[Target::Interpreter]);
    classes.reverse();
    for class in &classes {
        let retargeted = retarget(&grown, &grown, &targets(&[*class]), &mut Quiet).unwrap();
        assert_eq!(retargeted.bytes, bytes(&grown).len() as u64);
        assert!(retargeted.classes.contains(&class.name().to_owned()));
    }
    assert!(bytes(&grown) == bytes(&whole), "the same artifact");

    // What is there already is made anew and changes nothing, in another file.
    let again = folder.path().join("again.bloom");
    retarget(&whole, &again, &targets(&classes[..1]), &mut Quiet).unwrap();
    assert!(bytes(&again) == bytes(&whole), "the same artifact");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing else is left");
}

#[test]
fn the_best_class_that_runs_here_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let classes = compilable();
    let targets: Vec<Target> = classes.iter().map(|class| Target::Cpu(*class)).collect();
    let artifact = std::sync::Arc::new(Artifact::open(&compiled(&folder, "all.bloom", &targets), Check::Full).unwrap());
    let best = classes.iter().rev().find(|class| runs_here(class.name()));
    assert_eq!(best_class(&artifact), best.map(|class| class.name()));
    for class in classes {
        let options = SessionOptions { class: Some(class.name().to_owned()), pages: 1, ..SessionOptions::default() };
        match Session::new(artifact.clone(), &options) {
            Ok(_) => assert!(runs_here(class.name()), "{} is not for this processor", class.name()),
            Err(error) => {
                let (runs, message) = (runs_here(class.name()), error.to_string());
                assert!(!runs && matches!(error, RunError::Processor { .. }), "{message}");
                assert!(message.contains("--cpu ") && message.contains("interpreter would work"), "{message}");
            }
        }
    }
}

/// Gives up at the first question.
struct Impatient;

impl Progress for Impatient {
    fn begin(&mut self, _: &str, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn end(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}
    fn interrupted(&self) -> bool {
        true
    }
}

#[test]
fn what_fails_leaves_the_artifact_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = compiled(&folder, "model.bloom", &[Target::Interpreter]);
    let before = bytes(&path);
    let error = retarget(&path, &path, &[Target::Interpreter], &mut Quiet).unwrap_err().to_string();
    assert!(error.contains("names none: say --target cpu:CLASS"), "{error}");
    let error = retarget(&path, &path, &[Target::Native], &mut Impatient).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    let mut damaged = before.clone();
    let weights =
        Artifact::open(&path, Check::None).unwrap().sections().iter().find(|s| s.sha256.is_none()).unwrap().offset;
    damaged[weights as usize] ^= 1;
    let hurt = folder.path().join("hurt.bloom");
    std::fs::write(&hurt, &damaged).unwrap();
    let error = retarget(&hurt, &path, &[Target::Native], &mut Quiet).unwrap_err().to_string();
    assert!(error.contains("damaged: weights:shared"), "{error}");
    assert!(bytes(&path) == before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}
