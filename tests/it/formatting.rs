//! The sources are formatted, every file opens with its story, and the documents say what the sources say.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn rustfmt_has_nothing_to_change() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let run = |arguments: &[&str]| Command::new(&cargo).args(arguments).current_dir(root()).output();
    if !run(&["fmt", "--version"]).is_ok_and(|output| output.status.success()) {
        eprintln!("rustfmt is not installed: formatting is not compared");
        return;
    }
    let output = run(&["fmt", "--all", "--check"]).unwrap();
    assert!(output.status.success(), "run `cargo fmt`:\n{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn every_module_opens_with_its_story() {
    let rooms = ["ir", "models", "passes", "codegen", "runtime", "formats", "configs", "cli", "tests/src", "tests/it"];
    let files = rooms.iter().flat_map(|room| sources(&root().join(room)));
    let silent: Vec<PathBuf> =
        files.filter(|path| !std::fs::read_to_string(path).unwrap().starts_with("//!")).collect();
    assert!(silent.is_empty(), "these files open without `//!`: {silent:#?}");
}

#[test]
fn the_readme_prints_bloom_as_it_is() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (readme, source) = (read("README.md"), read("models/src/bloom.rs"));
    let blocks = readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next());
    let printed = blocks.filter(|block| block.contains("fn block(")).collect::<Vec<_>>();
    assert_eq!(printed.len(), 1, "README.md prints the block once");
    assert!(source.contains(printed[0]), "README.md prints another block than models/src/bloom.rs has");
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "codegen/src/ascend/README.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("http") && !target.starts_with('#')) {
            let path = root().join(document).with_file_name(target);
            assert!(path.exists(), "{document} links to {target}");
        }
    }
}

/// Rust files below a folder, build products aside.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
    let wanted = all.filter(|path| path.file_name().is_some_and(|name| name != "target" && name != "fixtures"));
    wanted.flat_map(below).filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}
