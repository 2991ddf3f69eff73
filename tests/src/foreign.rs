//! What must survive any bytes: every reader of files that come from elsewhere, as a function of bytes.
//!
//! `fuzz/` looks for bytes that they do not survive; what it kept is replayed by `tests/it/corpora.rs`. Each reader says what
//! it refused, or uses what it read as a caller would.

use std::fs;
use std::path::{Path, PathBuf};

use bloomery_artifact::plan;
use bloomery_artifact::{Artifact, Check, Section};
use bloomery_configs::{Config, Options, Strategy};
use bloomery_formats::Checkpoint;
use bloomery_formats::mindrecord::{MindRecord, index_of};
use bloomery_formats::mindspore::{Key, MindsporeCheckpoint, MindsporeWriter};
use bloomery_formats::rank_table::{self, RankTable};
use bloomery_formats::strategy::{Stages, StrategyFile};
use bloomery_models::config::{BloomConfig, GenerationSettings};
use sha2::{Digest, Sha256};

/// Reads bytes, in a folder of its own where it may write; or says why not.
pub type Reader = fn(bytes: &[u8], folder: &Path) -> Result<(), String>;

/// The readers by name; `fuzz/corpus` has a folder for each.
pub const READERS: [(&str, Reader); 11] = [
    ("artifact", artifact),
    ("torch", torch),
    ("safetensors", safetensors),
    ("mindspore", mindspore),
    ("ir", ir),
    ("config", config),
    ("yaml", yaml),
    ("strategy", strategy),
    ("mindrecord", mindrecord),
    ("rank_table", rank_table),
    ("plan", plan),
];

/// A plan of calls as text: what is read prints the same, and the checks say yes or no.
pub fn plan(bytes: &[u8], _: &Path) -> Result<(), String> {
    let read = plan::parse::parse(&String::from_utf8_lossy(bytes)).map_err(said)?;
    assert_eq!(plan::parse::parse(&plan::text::print(&read)).as_ref(), Ok(&read), "a plan reads as it prints");
    plan::check::check(&read).map_err(said)
}

/// An artifact, whose hashes are set right first: they keep accidents out, not whoever means harm.
pub fn artifact(bytes: &[u8], folder: &Path) -> Result<(), String> {
    let path = written(folder, "model", &sealed(bytes).unwrap_or_else(|| bytes.to_vec()));
    let artifact = Artifact::open(&path, Check::Full).map_err(said)?;
    let program = artifact.program();
    for (parameter, buffer) in program.parameters.iter().enumerate() {
        let layers = if buffer.stacked { buffer.ty.dims[0].extent.as_number().unwrap_or(1) } else { 1 };
        for (layer, rank) in
            (0..layers.min(64)).flat_map(|layer| (0..program.mesh.ranks().min(8)).map(move |r| (layer, r)))
        {
            let _ = artifact.parameter(parameter, layer, rank).first();
        }
    }
    let kernels =
        artifact.classes().into_iter().filter_map(|class| artifact.image(class)).map(|image| image.kernels.len());
    let _ = (program.print(), kernels.sum::<usize>(), artifact.graph(), artifact.tokenizer());
    Ok(())
}

/// A file of torch's, of either form.
pub fn torch(bytes: &[u8], folder: &Path) -> Result<(), String> {
    tensors(&Checkpoint::open_file(&written(folder, "pytorch_model.bin", bytes)).map_err(said)?);
    Ok(())
}

/// A folder of safetensors: the first byte says how many of the next 256-byte pieces are an index, the rest is a shard.
pub fn safetensors(bytes: &[u8], folder: &Path) -> Result<(), String> {
    const FILES: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];
    FILES.iter().for_each(|name| drop(fs::remove_file(folder.join(name))));
    let (pieces, rest) = bytes.split_first().ok_or("no bytes")?;
    let (index, shard) = rest.split_at((usize::from(*pieces) * 256).min(rest.len()));
    if index.is_empty() {
        written(folder, FILES[0], shard);
    } else {
        written(folder, FILES[1], index);
        written(folder, "model-00001-of-00001.safetensors", shard);
    }
    tensors(&Checkpoint::open(folder).map_err(said)?);
    Ok(())
}

/// A checkpoint of MindSpore's, encrypted with the fixtures' key or not: what is read is written as what reads the same.
pub fn mindspore(bytes: &[u8], folder: &Path) -> Result<(), String> {
    let path = written(folder, "model.ckpt", bytes);
    let encrypted = bytes.first().is_some_and(|first| (0xd8..=0xda).contains(first));
    let key = encrypted.then(|| Key::new("0123456789ABCDEF"));
    let checkpoint = MindsporeCheckpoint::open(&path, key.as_ref()).map_err(said)?;
    let again = folder.join("again.ckpt");
    let mut writer = MindsporeWriter::begin(&again).expect("the folder is there");
    let mut kept = 0;
    for entry in checkpoint.entries().iter().filter(|entry| entry.bytes > 0) {
        writer.entry_like(entry).expect("it was read");
        checkpoint.stream(entry, |bytes| writer.write(bytes)).map_err(said)?;
        kept += 1;
    }
    writer.complete().expect("nothing is missing");
    if kept > 0 {
        let read = MindsporeCheckpoint::open(&again, None).expect("what was written is sound");
        for entry in read.entries() {
            let before = checkpoint.entry(&entry.name).expect("it was written");
            assert_eq!((before.kind, &before.shape), (entry.kind, &entry.shape), "{}", entry.name);
            assert_eq!(read.bytes(entry).ok(), checkpoint.bytes(before).ok(), "{}", entry.name);
        }
        assert_eq!(read.entries().len(), kept, "what was written reads as something else");
    }
    Ok(())
}

/// The text form of the IR: what is read and verified prints as text that reads as the same.
pub fn ir(bytes: &[u8], _: &Path) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(said)?;
    let module = bloomery_ir::parse(text).map_err(said)?;
    bloomery_ir::verify(&module).map_err(said)?;
    let printed = bloomery_ir::print::print(&module);
    let again = bloomery_ir::parse(&printed).unwrap_or_else(|error| panic!("what was printed is not read: {error}"));
    assert_eq!(bloomery_ir::print::print(&again), printed, "what was printed reads as something else");
    Ok(())
}

/// A `config.json`, and the same bytes as a `generation_config.json`.
pub fn config(bytes: &[u8], _: &Path) -> Result<(), String> {
    if let Ok(said) = GenerationSettings::from_json(bytes, Path::new("generation_config.json")) {
        assert_eq!(said.or(&GenerationSettings::default()), said);
    }
    let config = BloomConfig::from_json(bytes, Path::new("config.json")).map_err(said)?;
    let _ = (config.parameters(), config.head_dim(), config.ffn());
    Ok(())
}

/// A YAML configuration, and the same as a strategy's short form. Lines `#set a.b=c` at its beginning, comments to YAML,
/// are what `--set` says. Everything that was said, set over a file that says nothing, must mean the same.
pub fn yaml(bytes: &[u8], _: &Path) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(said)?;
    if let Ok(strategy) = text.parse::<Strategy>() {
        assert_eq!(strategy.to_string().parse(), Ok(strategy), "what was printed reads as something else");
    }
    let set = text.lines().map_while(|line| line.strip_prefix("#set ")).map(str::to_owned).collect();
    let read = |text: &str, set| Config::from_text(text, Path::new("bloom.yaml"), &Options { set, devices: None });
    let config = read(text, set).map_err(said)?;
    let _ = (config.model.parameters(), config.model.head_dim(), config.weights());
    let layers = config.strategy.layers(config.model.layers as u32);
    assert!(
        layers.is_none_or(|layers| layers.iter().map(|stage| u64::from(*stage)).sum::<u64>() == config.model.layers)
    );
    let said = config.said.iter().filter(|setting| setting.origin.is_said() && !setting.value.is_null());
    let set =
        said.map(|setting| format!("{}={}", setting.path, serde_yaml::to_string(&setting.value).expect("it was YAML")));
    let again = read("seed: 0", set.collect()).unwrap_or_else(|error| panic!("what was read is refused: {error}"));
    assert_eq!(again.settings, config.settings, "what was read reads as something else");
    Ok(())
}

/// A strategy file of MindSpore's, of either form: what is read is written as what reads as the same.
pub fn strategy(bytes: &[u8], _: &Path) -> Result<(), String> {
    if let Ok(file) = StrategyFile::from_json(bytes) {
        let written = file.to_json().expect("what was read is sound");
        assert_eq!(
            StrategyFile::from_json(&written).map_err(said).as_ref(),
            Ok(&file),
            "what was written reads as something else"
        );
        return stages(file);
    }
    let file = StrategyFile::decode(bytes).map_err(said)?;
    let written = file.encode().expect("what was read is sound");
    let again = StrategyFile::decode(&written).map_err(said);
    assert_eq!(again.as_ref(), Ok(&file), "what was written reads as something else");
    stages(file)
}

/// A whole strategy is the same when it was merged, and its ranks hold pieces that there are.
fn stages(file: StrategyFile) -> Result<(), String> {
    let (stages, _) = Stages::of_file(file).map_err(said)?;
    let (again, _) = Stages::of_file(stages.merged()).map_err(said)?;
    assert_eq!(again.merged(), stages.merged(), "what was merged is something else");
    for parameter in stages.stages().iter().flat_map(|stage| &stage.file.parameters) {
        let last = parameter.layout.pieces(stages.devices() - 1);
        assert!(last.iter().all(|piece| piece.index < piece.of), "{parameter:?}: {last:?}");
    }
    Ok(())
}

/// A data set of MindSpore's: the first byte says how many of the next 256-byte pieces are the index, the rest is the data.
pub fn mindrecord(bytes: &[u8], folder: &Path) -> Result<(), String> {
    let (pieces, rest) = bytes.split_first().ok_or("no bytes")?;
    let (index, data) = rest.split_at((usize::from(*pieces) * 256).min(rest.len()));
    let path = written(folder, "data", data);
    fs::write(index_of(&path), index).map_err(said)?;
    let set = MindRecord::open(&path).map_err(said)?;
    assert!(MindRecord::is_one(&path), "what is read is known by its beginning");
    let rows = set.iter().take(1000).collect::<Result<Vec<_>, _>>().map_err(said)?;
    assert!(rows.iter().all(|row| row.len() == set.schema().fields.len()), "rows have all columns");
    let _ = set.sizes();
    Ok(())
}

/// A rank table: what is read is written as what reads as the same, and can be compared with the rules and merged.
pub fn rank_table(bytes: &[u8], _: &Path) -> Result<(), String> {
    if let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| !text.starts_with('{')) {
        return rank_table::addresses(text).map(drop).map_err(said);
    }
    let table = RankTable::parse(bytes).map_err(said)?;
    let again = RankTable::parse(table.text().as_bytes()).map_err(said);
    assert_eq!(again.as_ref(), Ok(&table), "what was written reads as something else");
    let _ = (table.problems(), table.notes(), table.file_name());
    rank_table::merge(vec![("table".into(), table)]).map(drop).map_err(said)
}

fn said(error: impl ToString) -> String {
    error.to_string()
}

fn written(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// Looks at every tensor's ends.
fn tensors(checkpoint: &Checkpoint) {
    for tensor in checkpoint.tensors() {
        let _ = (tensor.name.len(), tensor.is_dense(), tensor.bytes.first(), tensor.bytes.last());
        // Extents of nothing may be of any size: their product is not to be trusted.
        if tensor.shape.contains(&0) {
            continue;
        }
        let last: usize =
            tensor.shape.iter().zip(tensor.strides).map(|(extent, stride)| extent.saturating_sub(1) * stride).sum();
        let size = tensor.dtype.bytes(&[1]).expect("one element is not too large");
        assert!((last + 1) * size <= tensor.bytes.len(), "{} leads out of its bytes", tensor.name);
    }
}

/// An artifact's bytes with the hashes of its sections and its header made anew; none where there is no header to be read.
/// The format is told in `bloomery_artifact::format`.
fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 48;
    let length = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?) as usize;
    let header = bytes.get(HEADER..HEADER.checked_add(length)?)?;
    let plain = bincode::config::standard();
    let ((mut sections, end), _): ((Vec<Section>, u64), usize) =
        bincode::serde::decode_from_slice(header, plain.with_limit::<4096>()).ok()?;
    for section in &mut sections {
        let from = usize::try_from(section.offset).ok()?;
        let range = bytes.get(from..from.checked_add(usize::try_from(section.length).ok()?)?);
        if let (Some(hash), Some(range)) = (&mut section.sha256, range) {
            *hash = Sha256::digest(range).into();
        }
    }
    let header = bincode::serde::encode_to_vec((sections, end), plain).ok()?;
    let mut sealed = bytes.to_vec();
    sealed.get_mut(HEADER..HEADER + header.len())?.copy_from_slice(&header);
    sealed[12..16].copy_from_slice(&u32::try_from(header.len()).ok()?.to_le_bytes());
    sealed[16..HEADER].copy_from_slice(&Sha256::digest(&header));
    Some(sealed)
}
