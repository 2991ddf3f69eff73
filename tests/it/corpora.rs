//! What fuzzing kept, replayed: readers of foreign bytes refuse it or use it, and do not fall over.

use std::fs;
use std::path::{Path, PathBuf};

use bloomery::Quiet;
use bloomery::compile::{CompileOptions, Configured, compile};
use bloomery::targets::Target;
use bloomery_artifact::{Artifact, ArtifactWriter, Check, WriteError};
use bloomery_configs::{Config, Options};
use bloomery_ir::ascend::Chip;
use bloomery_ir::{Program, ValueId};
use bloomery_tests::foreign::READERS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

#[test]
fn kept_inputs_are_read_or_refused() {
    let corpus = corpus();
    for (name, read) in READERS {
        let folder = tempfile::tempdir().unwrap();
        let entries = fs::read_dir(corpus.join(name)).unwrap();
        let outcomes: Vec<Result<(), String>> =
            entries.map(|entry| read(&fs::read(entry.unwrap().path()).unwrap(), folder.path())).collect();
        let refusals: Vec<&String> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(refusals.iter().all(|message| !message.is_empty()), "{name}: {refusals:?}");
        assert!(refusals.len() < outcomes.len(), "{name}: nothing is read: {refusals:?}");
        assert!(refusals.len() > 1, "{name}: of {} inputs {} are refused", outcomes.len(), refusals.len());
    }
}

/// The artifacts among them, made anew: what to run after the format has changed.
/// `cargo test -p bloomery-tests --test it -- --ignored artifacts_of_the_corpus`
#[test]
#[ignore = "writes into fuzz/corpus"]
fn artifacts_of_the_corpus() {
    let folder = corpus().join("artifact");
    let keep = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    let one = small("mp=1", Target::Interpreter);
    let bytes = one.as_slice();
    keep("interpreter", bytes);
    keep("cut", &bytes[..5000]);
    keep("none", &bytes[..8]);
    keep("version", &[&bytes[..8], &99_u32.to_le_bytes(), &bytes[12..PROGRAM]].concat());
    keep("ranks", &small("mp=2", Target::Interpreter));
    keep("stages", &small("dp=2,mp=2,pp=2", Target::Interpreter));
    keep("device-a", &small("mp=2,pp=2", Target::Ascend(Chip::A910)));
    keep("device-b", &small("mp=2", Target::Ascend(Chip::B910)));
    // The length of the program's name, as a number of eight bytes.
    keep("length-without-end", &[&bytes[..PROGRAM], &[0xFD], &[0xFF; 8], &bytes[PROGRAM + 9..]].concat());
    let out_of_order = changed(bytes, |program| {
        let nodes = program.kernels.iter_mut().flat_map(|kernel| &mut kernel.graph.nodes);
        nodes.for_each(|node| node.results.iter_mut().for_each(|result| *result = ValueId(result.0 + 9)));
    });
    keep("results-out-of-order", &out_of_order);
}

/// An artifact of random weights that is as small as one can be, so that a fuzzer reaches all of it.
fn small(strategy: &str, target: Target) -> Vec<u8> {
    const TEXT: &str = "model:\n  model_config: {hidden_size: 4, num_layers: 2, num_heads: 2, vocab_size: 10}\n";
    let config = Config::from_text(TEXT, Path::new("small.yaml"), &Options::default()).unwrap();
    let configured = Configured { config, random: Some(1), keep: false };
    let targets = vec![target];
    let options = CompileOptions {
        targets,
        max_context: 32,
        strategy: strategy.parse().unwrap(),
        ..CompileOptions::from(configured)
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.bloom");
    compile(&options, &path, &mut Quiet).unwrap();
    fs::read(&path).unwrap()
}

/// Where an artifact's program begins: behind a page for its header.
const PROGRAM: usize = 4096;

/// An artifact's bytes with another program.
fn changed(bytes: &[u8], change: impl FnOnce(&mut Program)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let [given, path] = ["given.bloom", "changed.bloom"].map(|name| folder.path().join(name));
    fs::write(&given, bytes).unwrap();
    let artifact = Artifact::open(&given, Check::Full).unwrap();
    let mut program = artifact.program().clone();
    change(&mut program);
    let mut writer = ArtifactWriter::create(&path).unwrap();
    writer.program(&program).unwrap();
    let table = artifact.weight_table();
    let written = writer.weights(table, |sink| {
        for slot in table.slots() {
            let place = &table.placements[slot.parameter];
            let range = place.range(slot.layer, slot.part);
            sink.record(slot, &artifact.weights()[range.start as usize..range.end as usize])?;
        }
        Ok::<(), WriteError>(())
    });
    written.unwrap();
    writer.meta(artifact.meta()).unwrap();
    writer.finish().unwrap();
    fs::read(&path).unwrap()
}
