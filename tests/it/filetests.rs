//! The cases in `filetests/<pass>/<case>.bir`, each with its snapshot `<case>.snap` beside it.
//!
//! The folder names what is done to a case: `parse` only reads and prints it, `run` interprets its first graph, any other
//! folder is the pass of that name. A case whose name ends in `-refused` must fail, and its error is the snapshot.
//! `INSTA_UPDATE=always` writes snapshots anew.
//!
//! Inputs of a `run` case are random, small, and the same each time. Comments can say otherwise: `// bind N = 4` gives a
//! name its value (else 3, or what its bounds allow), `// input %rows = [0, 2, 0]` an input its elements, row major, and
//! `// input %kv = 0` all of them the same; `// strategy mesh = mp=2` and `// strategy axes = heads=mp, ffn=mp` how ranks
//! share, and `// strategy padded = ffn` what may get longer for that. On a mesh inputs are made whole, and every rank gets
//! its slice.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bloomery_codegen::cpu::Cpu;
use bloomery_ir::interpret::shard;
use bloomery_ir::print::print;
use bloomery_ir::{Bindings, Graph, Input, Interpreter, Mesh, Module, Precision, Tensor, parse};
use bloomery_passes::{Context, Stages, Strategy, Unseen, pipeline};

use crate::random::Random;

#[test]
fn every_case_is_its_snapshot() {
    let folders = entries(&root(), |path| path.is_dir());
    let cases = folders.iter().flat_map(|folder| entries(folder, |path| path.extension().is_some_and(|e| e == "bir")));
    let failed: Vec<PathBuf> = cases.filter(|case| catch_unwind(AssertUnwindSafe(|| check(case))).is_err()).collect();
    assert!(failed.is_empty(), "cases that differ from their snapshots: {failed:#?}");
}

#[test]
fn every_snapshot_has_its_case() {
    for folder in entries(&root(), |path| path.is_dir()) {
        let lonely = entries(&folder, |path| !path.with_extension("bir").exists());
        assert!(lonely.is_empty(), "snapshots without a case: {lonely:#?}");
    }
}

#[test]
fn every_pass_has_cases() {
    let cases = |pass: &str| entries(&root().join(pass), |path| path.extension().is_some_and(|e| e == "bir"));
    for pass in pipeline::names() {
        assert!(root().join(pass).is_dir() && !cases(pass).is_empty(), "filetests/{pass} holds no case");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests")
}

/// The case of this folder and name, parsed.
pub(crate) fn case(folder: &str, name: &str) -> Module {
    parse(&std::fs::read_to_string(root().join(folder).join(name).with_extension("bir")).unwrap()).unwrap()
}

/// What lies in a folder, by name.
fn entries(folder: &Path, keep: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut kept: Vec<PathBuf> = all.filter(|path| keep(path)).collect();
    kept.sort();
    kept
}

fn check(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.starts_with("// "), "{}: a case opens with a comment that says what to see", path.display());
    let (folder, name) = (path.parent().unwrap(), path.file_stem().unwrap().to_str().unwrap());
    let result = apply(folder.file_name().unwrap().to_str().unwrap(), &text);
    let shown = match (result, name.ends_with("-refused")) {
        (Ok(text), false) | (Err(text), true) => text,
        (Ok(text), true) => panic!("{} should be refused, it gives\n{text}", path.display()),
        (Err(text), false) => panic!("{}: {text}", path.display()),
    };
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, shown));
}

/// What a folder does to a case.
fn apply(folder: &str, text: &str) -> Result<String, String> {
    let module = parse(text).map_err(|error| error.to_string())?;
    match folder {
        "parse" => {
            let printed = print(&module);
            assert!(parse(&printed).as_ref() == Ok(&module), "it parses as it prints:\n{printed}");
            Ok(printed)
        }
        "run" => run(&module, text),
        pass => apply_pass(pass, &module, text),
    }
}

/// What the pass of this name makes of the module, for the CPU. Cases of passes over programs are graphs still, which
/// `group` and the passes between turn into what the pass takes.
fn apply_pass(name: &str, module: &Module, text: &str) -> Result<String, String> {
    let names = pipeline::names();
    let place = |name: &str| names.iter().position(|known| *known == name);
    let last =
        place(name).unwrap_or_else(|| panic!("no pass is called `{name}`, which a folder of cases is named after"));
    let group = place("group").expect("there is a pass that makes kernels");
    let entries = if last > group { pipeline::interfaces(module) } else { vec![] };
    let strategy = strategy(text);
    let cx = Context { target: &Cpu, entries: &entries, strategy: strategy.as_ref(), inference: Some(&Unseen) };
    // What ranks hold follows from how they share.
    let shares = ["cut", "partition"].contains(&name);
    let first = if shares { place("pad").expect("there is a pass before ranks share") } else { last.min(group) };
    let passes = &names[first..=last];
    let stage = pipeline::run_named(module.clone(), &cx, passes, &mut |_, _| {});
    stage.map(|stage| stage.print()).map_err(|error| error.to_string())
}

/// `// strategy mesh = mp=2`, `// strategy axes = heads=mp, ffn=mp`, `// strategy stages = 3:1`
pub(crate) fn strategy(text: &str) -> Option<Strategy> {
    let pairs = |name| {
        let list = directive(text, "strategy", name)?;
        Some(list.split(", ").map(|pair| pair.split_once('=').expect("a name and what it is")).collect::<Vec<_>>())
    };
    let size = |(axis, size): (&str, &str)| (axis.to_owned(), number(size) as u64);
    let mesh = Mesh { axes: pairs("mesh")?.into_iter().map(size).collect() };
    let axes = pairs("axes").unwrap_or_default().into_iter();
    let axes = axes.map(|(logical, axis)| (logical.to_owned(), axis.to_owned())).collect();
    let padded = directive(text, "strategy", "padded").map_or(vec![], |names| names.split(", ").collect());
    let padded = padded.into_iter().map(str::to_owned).collect();
    let stages = match directive(text, "strategy", "stages") {
        None => Stages::One,
        Some("balanced") => Stages::Balanced,
        Some(layers) => Stages::Layers(layers.split(':').map(|layers| number(layers) as u64).collect()),
    };
    Some(Strategy { mesh, axes, padded, stages })
}

/// Outputs of the first graph on every rank.
fn run(module: &Module, text: &str) -> Result<String, String> {
    let graph = &module.graphs[0];
    let inputs = by_rank(module, graph, text)?;
    let outputs = Interpreter::new(module, Precision::Typed).run_ranks(&graph.name, inputs);
    let by_rank = outputs.map_err(|error| error.to_string())?;
    let mut shown = String::new();
    for (rank, outputs) in by_rank.iter().enumerate() {
        if by_rank.len() > 1 {
            writeln!(shown, "rank {rank}").unwrap();
        }
        outputs.iter().for_each(|tensor| shown.push_str(&show(tensor)));
    }
    Ok(shown)
}

fn by_rank(module: &Module, graph: &Graph, text: &str) -> Result<Vec<Vec<Tensor>>, String> {
    let names = bindings(graph, text);
    let with = |size: fn(u64) -> u64| {
        let axes = module.mesh.axes.iter().map(|(axis, ranks)| (axis.clone(), size(*ranks)));
        names.iter().map(|(name, value)| (name.clone(), *value)).chain(axes).collect::<Bindings>()
    };
    let (local, whole) = (with(|ranks| ranks), with(|_| 1));
    for input in &graph.inputs {
        input.ty.shape(&local).map_err(|error| format!("input %{}: {error}", input.name))?;
    }
    let mut random = Random::new(1);
    let inputs: Vec<Tensor> = graph.inputs.iter().map(|input| make(input, &whole, text, &mut random)).collect();
    let piece = |rank| {
        let cut = |(input, tensor): (&Input, &Tensor)| shard(tensor, &input.ty, &module.mesh, rank);
        graph.inputs.iter().zip(&inputs).map(cut).collect()
    };
    Ok((0..module.mesh.ranks()).map(piece).collect())
}

/// An input as its directive says, or random.
fn make(input: &Input, names: &Bindings, text: &str, random: &mut Random) -> Tensor {
    let Some(value) = directive(text, "input", &format!("%{}", input.name)) else {
        return random.tensor(&input.ty, names, (-1.0, 1.0), (0, 1));
    };
    let shape = input.ty.shape(names).unwrap();
    let elements = match value.strip_prefix('[') {
        Some(list) => list.trim_end_matches(']').split(',').map(number).collect(),
        None => vec![number(value); shape.iter().product()],
    };
    Tensor::new(input.ty.dtype, &shape, elements)
}

fn bindings(graph: &Graph, text: &str) -> Bindings {
    let value = |name: &str| directive(text, "bind", name).map(|value| number(value) as u64);
    let symbols = graph.symbols.iter();
    symbols.map(|s| (s.name.clone(), value(&s.name).unwrap_or(3.clamp(s.least, s.most)))).collect()
}

/// The right side of the comment `// <what> <name> = ...`.
fn directive<'a>(text: &'a str, what: &str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| {
        let (left, right) = line.strip_prefix("// ")?.split_once(" = ")?;
        (left.split_once(' ') == Some((what, name))).then_some(right)
    };
    text.lines().find_map(value)
}

fn number(text: &str) -> f64 {
    text.trim().parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

/// `f32[2, 3]` and the rows, with few digits.
fn show(tensor: &Tensor) -> String {
    let extents: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
    let mut text = format!("{}[{}]\n", tensor.dtype, extents.join(", "));
    let digits = if tensor.dtype.is_float() { 4 } else { 0 };
    for row in tensor.data.chunks(tensor.shape.last().copied().unwrap_or(1).max(1)) {
        // Adding zero turns a rounded -0 into 0.
        let row: Vec<String> = row.iter().map(|x| format!("{:.digits$}", (x * 1e4).round() / 1e4 + 0.0)).collect();
        writeln!(text, "  {}", row.join(" ")).unwrap();
    }
    text
}
