//! Which crate may use which, and what the runtime may know of the IR: the manifests and `use` lines, read and compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each room, its crate, and the crates of ours it may use; `ARCHITECTURE.md` says why.
const ROOMS: &[(&str, &str, &[&str])] = &[
    ("ir", "bloomery-ir", &[]),
    ("configs", "bloomery-configs", &[]),
    ("formats", "bloomery-formats", &[]),
    ("models", "bloomery-models", &["ir", "configs"]),
    ("passes", "bloomery-passes", &["ir", "configs"]),
    ("runtime/artifact", "bloomery-artifact", &["ir"]),
    ("codegen", "bloomery-codegen", &["ir", "artifact"]),
    ("runtime", "bloomery-runtime", &["ir", "artifact"]),
    ("cli", "bloomery", &["ir", "configs", "formats", "models", "passes", "artifact", "codegen", "runtime"]),
    ("tests", "bloomery-tests", &["ir", "configs", "formats", "models", "artifact"]),
];

/// What the runtime may name of the IR: programs, how they are interpreted, what work they are, calls of plans, and what
/// these are made of.
const OF_IR: &[&str] = &[
    "ascend",
    "tensor",
    "program",
    "run_program",
    "work::Span",
    "Program",
    "Mesh",
    "Layout",
    "Tensor",
    "TensorType",
    "DType",
    "Bindings",
    "SymbolBound",
    "graph::SymbolBound",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn crates_use_only_what_their_room_may() {
    for (folder, package, allowed) in ROOMS {
        let manifest = read(&root().join(folder).join("Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{package}\"")), "{folder} is the crate {package}");
        let used = dependencies(&manifest);
        let strangers: Vec<&String> = used.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(strangers.is_empty(), "{folder} may use {allowed:?}, its manifest adds {strangers:?}");
    }
}

/// Our crates in `[dependencies]`, without their prefix; tests' own dependencies do not count.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| Some(line.strip_prefix("bloomery-")?.split(['.', ' ', '=']).next()?.to_owned())).collect()
}

#[test]
fn every_crate_is_a_room() {
    let manifest = read(&root().join("Cargo.toml"));
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    let members: BTreeSet<&str> = members.split(',').map(|name| name.trim().trim_matches('"')).collect();
    assert_eq!(members, ROOMS.iter().map(|(folder, ..)| *folder).collect());
}

#[test]
fn the_runtime_knows_programs_and_no_graphs() {
    for path in sources(&root().join("runtime/src")) {
        // The toy model of the runtime's own tests is written as a graph.
        if path.file_name().is_some_and(|name| name == "fixture.rs") {
            continue;
        }
        for name in names_of_ir(&read(&path)) {
            let known = |allowed: &&str| name == *allowed || name.starts_with(&format!("{allowed}::"));
            assert!(OF_IR.iter().any(known), "{} uses ir::{name}", path.display());
        }
    }
}

/// Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
    all.flat_map(below).filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Every path after `bloomery_ir::`, lists in braces taken apart.
fn names_of_ir(text: &str) -> Vec<String> {
    let path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let mut names = Vec::new();
    for rest in text.split("bloomery_ir::").skip(1) {
        let head: String = rest.chars().take_while(|c| path(*c)).collect();
        match rest[head.len()..].strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                names.extend(list.split(',').map(|name| format!("{head}{}", name.trim())));
            }
            None => names.push(head),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn paths_are_read_out_of_use_lines() {
    let text = "use bloomery_ir::{Program, Layout};\nuse bloomery_ir::program::{Step, View};\nfn f(x: bloomery_ir::graph::Graph)";
    assert_eq!(names_of_ir(text), ["Program", "Layout", "program::Step", "program::View", "graph::Graph"]);
}
