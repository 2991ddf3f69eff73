//! What MindSpore wrote, read and written again; and what is damaged.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore/ckpt").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

fn key_of(name: &str) -> Option<Key> {
    let encrypted = name.starts_with("aes") || name.starts_with("sm4");
    encrypted.then(|| Key::new("0123456789ABCDEF"))
}

fn open(path: &Path) -> Result<MindsporeCheckpoint, String> {
    let name = path.file_name().unwrap().to_str().unwrap();
    MindsporeCheckpoint::open(path, key_of(name).as_ref()).map_err(|error| error.to_string())
}

/// Name, type, shape and bytes of an entry.
type Held = (String, String, Vec<usize>, Vec<u8>);

/// What a file of these bytes is read as.
fn read(bytes: &[u8]) -> Result<Vec<Held>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ckpt");
    std::fs::write(&path, bytes).unwrap();
    Ok(held(&open(&path)?))
}

fn held(checkpoint: &MindsporeCheckpoint) -> Vec<Held> {
    let entry = |entry: &Entry| {
        let bytes = checkpoint.bytes(entry).unwrap().into_owned();
        (entry.name.clone(), entry.kind.name().to_owned(), entry.shape.clone(), bytes)
    };
    checkpoint.entries().iter().map(entry).collect()
}

/// Names in order, types, shapes, sizes and pieces; the hashes are compared by the tests of the binary.
#[test]
fn golden_files_are_read_as_mindspore_wrote_them() {
    let expected = json("expected.json");
    for (file, entries) in expected.as_object().unwrap() {
        if !file.ends_with(".ckpt") {
            continue;
        }
        let checkpoint = open(&fixture(file)).unwrap();
        let names: Vec<&str> = checkpoint.entries().iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, entries.as_object().unwrap().keys().collect::<Vec<_>>(), "{file}");
        for (name, said) in entries.as_object().unwrap() {
            let entry = checkpoint.entry(name).unwrap();
            let dims: Vec<usize> =
                said[0].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap() as usize).collect();
            let dims = if dims == [0] { vec![] } else { dims };
            assert_eq!((entry.kind.name(), &entry.shape), (said[1].as_str().unwrap(), &dims), "{file} {name}");
            assert_eq!(
                (entry.bytes as u64, entry.pieces.len() as u64),
                (said[2].as_u64().unwrap(), said[3].as_u64().unwrap())
            );
        }
    }
    let dtypes = open(&fixture("dtypes.ckpt")).unwrap();
    assert_eq!(dtypes.text(dtypes.entry("note").unwrap()).unwrap().unwrap().chars().count(), 9);
    assert_eq!(&*dtypes.bytes(dtypes.entry("step_num").unwrap()).unwrap().len().to_string(), "8");
}

#[test]
fn both_versions_pieces_and_all_ciphers_say_the_same() {
    let [old, new] = ["slices-2.0.0.ckpt", "slices.ckpt"].map(|name| held(&open(&fixture(name)).unwrap()));
    assert_eq!(old, new);
    let [cbc, gcm, sm4] =
        ["aes-cbc.ckpt", "aes-gcm.ckpt", "sm4-cbc.ckpt"].map(|name| held(&open(&fixture(name)).unwrap()));
    assert_eq!(cbc, gcm);
    let floats: Vec<u8> = (0..8).flat_map(|i| (i as f32).to_le_bytes()).collect();
    assert_eq!(sm4, [("a".to_owned(), "Float32".to_owned(), vec![4, 2], floats)]);
}

#[test]
fn parts_are_read_across_pieces() {
    let checkpoint = open(&fixture("slices.ckpt")).unwrap();
    let entry = checkpoint.entry("w").unwrap();
    let whole = checkpoint.bytes(entry).unwrap();
    for range in [0..0, 0..4000, 1000..1030, 1023..3100, 3999..4000, 1024..2048] {
        assert_eq!(*checkpoint.read(entry, range.clone()).unwrap(), whole[range]);
    }
    let within = checkpoint.read(entry, 1024..2048).unwrap();
    assert!(matches!(within, Cow::Borrowed(_)));
    let mut streamed = Vec::new();
    let mut take = |bytes: &[u8]| {
        streamed.extend_from_slice(bytes);
        Ok::<_, FormatError>(())
    };
    checkpoint.stream(entry, &mut take).unwrap();
    assert_eq!(streamed, *whole);
}

#[test]
fn odd_files_are_read_or_refused_as_mindspore_does() {
    let expected = json("odd/expected.json");
    for (file, said) in expected["2.0.0"].as_object().unwrap() {
        let found = open(&fixture("odd").join(file));
        assert_eq!(found.is_ok(), said.get("loads").is_some(), "{file}: {found:?}");
        let Ok(checkpoint) = found else { continue };
        // 2.10 reads flags as scalars; what 2.0.0 makes of them is a mistake of its own.
        let loads = &expected["2.10.0"][file]["loads"];
        for (name, said) in loads.as_object().unwrap() {
            let entry = checkpoint.entry(name).unwrap();
            if let Some(text) = said.as_str() {
                assert_eq!(checkpoint.text(entry).unwrap().unwrap(), text);
                continue;
            }
            assert_eq!(entry.kind.name(), said[0].as_str().unwrap());
            assert_eq!(serde_json::to_value(&entry.shape).unwrap(), said[1], "{file} {name}");
            let bytes = checkpoint.bytes(entry).unwrap();
            let values: Value = match entry.dtype().unwrap() {
                Dtype::F32 => bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
                Dtype::I32 => bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect(),
                _ => bytes.iter().map(|b| *b != 0).collect(),
            };
            assert_eq!(values, said[2], "{file} {name}");
        }
    }
}

#[test]
fn refusals_say_what_where_and_both_numbers() {
    let check = |file: &str, parts: &[&str]| {
        let message = open(&fixture(file)).unwrap_err();
        parts.iter().for_each(|part| assert!(message.contains(part), "{message:?} lacks {part:?}"));
        assert!(message.contains(file), "{message}");
    };
    check("odd/empty-file.ckpt", &["it is empty"]);
    check("odd/lower-case-type.ckpt", &["p (value 1, at byte 0) has the type \"float32\"", "known are Float16"]);
    check("odd/too-few-bytes.ckpt", &["p (value 1, at byte 0) has 16 bytes", "[5] of Float32 take 20"]);
    check("odd/too-many-bytes.ckpt", &["has 16 bytes", "of Float32 take 12"]);
    check(
        "odd/truncated.ckpt",
        &["value 1, which begins at byte 0, needs bytes up to", "there are 33", "copy it again"],
    );
    let encrypted = |file: &str, key: Option<&str>, part: &str| {
        let message = MindsporeCheckpoint::open(&fixture(file), key.map(Key::new).as_ref()).unwrap_err().to_string();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    };
    encrypted("aes-gcm.ckpt", None, "it is encrypted (AES-GCM): give its key with --key");
    encrypted("aes-gcm.ckpt", Some("short"), "the key has 5 bytes, and AES-GCM takes 16, 24 or 32");
    encrypted("aes-gcm.ckpt", Some("0123456789ABCDEG"), "does not open encrypted block 1, at byte 0");
    encrypted("sm4-cbc.ckpt", Some("0123456789ABCDEF01234567"), "the key has 24 bytes, and SM4-CBC takes 16");
    encrypted("bf16.ckpt", Some("0123456789ABCDEF"), "it is not encrypted");
    assert_eq!(format!("{:?}", Key::new("secret")), "Key of 6 bytes");
}

/// Where a value ends, a shorter file is whole; nowhere else is it.
#[test]
fn a_file_cut_between_values_is_shorter_and_cut_elsewhere_refused() {
    for file in ["dtypes.ckpt", "dtypes-2.0.0.ckpt", "bf16.ckpt", "slices.ckpt"] {
        let bytes = std::fs::read(fixture(file)).unwrap();
        let whole = read(&bytes).unwrap();
        let mut read_lengths = BTreeMap::new();
        for length in (1..bytes.len()).rev().step_by(if bytes.len() > 2000 { 13 } else { 1 }) {
            if let Ok(shorter) = read(&bytes[..length]) {
                assert_eq!(shorter, whole[..shorter.len()], "{file} cut at {length}");
                assert!(read_lengths.insert(shorter.len(), length).is_none(), "{file} cut at {length}");
            }
        }
        assert!(file == "slices.ckpt" || read_lengths.len() == whole.len() - 1, "{file}: {read_lengths:?}");
    }
}

/// Whatever a byte becomes, reading ends with an answer; ciphers with a tag and files with a sum notice all.
#[test]
fn damaged_files_end_in_an_answer() {
    for file in ["dtypes.ckpt", "crc.ckpt", "aes-gcm.ckpt", "aes-cbc.ckpt", "sm4-cbc.ckpt"] {
        let bytes = std::fs::read(fixture(file)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        for at in 0..bytes.len() {
            for bit in [1, 16, 128] {
                let mut damaged = bytes.clone();
                damaged[at] ^= bit;
                std::fs::write(&path, &damaged).unwrap();
                let found = open(&path).map(|checkpoint| held_whatever(&checkpoint));
                // Bytes of a vector that GCM does not use are nobody's.
                let unused = file == "aes-gcm.ckpt" && (40..44).contains(&at);
                let noticed = (file == "crc.ckpt" || file == "aes-gcm.ckpt") && !unused;
                assert!(!noticed || !matches!(found, Ok(Ok(()))), "{file}: byte {at}");
            }
        }
    }
}

fn held_whatever(checkpoint: &MindsporeCheckpoint) -> Result<(), FormatError> {
    checkpoint.entries().iter().try_for_each(|entry| checkpoint.stream(entry, |_| Ok(())))
}

#[test]
fn what_is_written_is_what_mindspore_writes() {
    for file in ["bf16.ckpt", "dtypes.ckpt", "train-state.ckpt", "empty-tensor.ckpt", "slices.ckpt"] {
        let checkpoint = open(&fixture(file)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.ckpt");
        let mut writer = MindsporeWriter::cut_at(&path, 1024).unwrap();
        for entry in checkpoint.entries() {
            writer.entry_like(entry).unwrap();
            checkpoint.stream(entry, |bytes| writer.write(bytes)).unwrap();
        }
        assert!(!path.exists());
        writer.complete().unwrap();
        // train-state has tensors of more than a kilobyte in one piece.
        if file == "train-state.ckpt" {
            assert_eq!(held(&open(&path).unwrap()), held(&checkpoint));
        } else {
            assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(fixture(file)).unwrap(), "{file}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn what_cannot_be_written_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.ckpt");
    let mut writer = MindsporeWriter::begin(&path).unwrap();
    let empty = writer.tensor("none", Dtype::F32, &[0, 3]).unwrap_err().to_string();
    assert!(empty.contains("tensor none of type f32 and shape [0, 3]") && empty.contains("no elements"), "{empty}");
    let complex = writer.tensor("c", Dtype::C64, &[3]).unwrap_err().to_string();
    assert!(complex.contains("no such type"), "{complex}");
    writer.text("note", "héllo").unwrap();
    let twice = writer.tensor("note", Dtype::F32, &[1]).unwrap_err().to_string();
    assert!(twice.contains("written twice"), "{twice}");
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(MindsporeWriter::begin(&folder.path().join("no/such")).is_err());
}

#[test]
fn checkpoints_are_told_by_how_they_begin() {
    let begins = |path: PathBuf| MindsporeCheckpoint::begins(&std::fs::read(path).unwrap());
    for name in [
        "bf16.ckpt",
        "dtypes-2.0.0.ckpt",
        "aes-gcm.ckpt",
        "aes-cbc.ckpt",
        "sm4-cbc.ckpt",
        "crc.ckpt",
        "odd/truncated.ckpt",
    ] {
        assert!(begins(fixture(name)), "{name}");
    }
    let strategy = "../mindformers/mp4-pp2/ckpt_strategy_rank_0.ckpt";
    for other in ["bf16.safetensors", "expected.json", "README.md", strategy] {
        assert!(!begins(fixture(other)), "{other}");
    }
    assert!(!MindsporeCheckpoint::begins(b"") && !MindsporeCheckpoint::begins(&[0x0a, 5, 0x0a]));
}
