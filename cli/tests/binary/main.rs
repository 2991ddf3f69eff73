//! The binary as people meet it: arguments in, text and exit codes out.
//!
//! `refused` holds what must be answered with one clear error, `shown` what must be printed as promised, `interrupted` what
//! signals do, `full_disk` what a disk without room does, `configured` both of YAML configurations, `strategies`, `checkpoints`,
//! `transforms` and `shared` both of MindSpore's files, `rank_tables` and `data` both of those. Artifacts are made for the
//! interpreter where nothing is said about machine code: that is quick and runs everywhere.

mod checkpoints;
mod configured;
mod data;
mod full_disk;
mod interrupted;
mod rank_tables;
mod refused;
mod shared;
mod shown;
mod strategies;
mod transforms;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The binary, about to be called.
fn bloomery() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bloomery"))
}

/// The model's folder of a fixture.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hf").join(name)
}

fn model(name: &str) -> PathBuf {
    fixture(name).join("model")
}

/// Arguments of several kinds, in order.
macro_rules! args {
    ($($argument:expr),* $(,)?) => { &[$(std::ffi::OsStr::new($argument)),*][..] };
}
pub(crate) use args;

/// Calls the binary.
fn call(arguments: &[&std::ffi::OsStr]) -> Output {
    bloomery().args(arguments).output().unwrap()
}

/// Calls it and returns what it printed; it must succeed.
fn printed(arguments: &[&std::ffi::OsStr]) -> String {
    let output = call(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Compiles for the interpreter.
fn compile(model: &Path, output: &Path, more: &[&str]) {
    let mut command = bloomery();
    command.arg("compile").arg(model).args(["--target", "interpreter", "-o"]).arg(output).args(more);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

/// One artifact of the trained model, with a tokenizer and a context of 64, for all tests that only read it.
fn trained() -> &'static Path {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trained.bloom");
        compile(&model("trained-web"), &path, &["--max-context", "64"]);
        (folder, path)
    });
    path
}
