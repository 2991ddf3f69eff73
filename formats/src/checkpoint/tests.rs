//! Folders as they are found: whole, sharded, and broken in the ways that downloads break.

use std::path::Path;

use super::*;
use crate::safetensors::{NewTensor, write};

const SINGLE: &str = WEIGHTS[0][0];
const INDEX: &str = WEIGHTS[0][1];
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/hf");

fn fixture(name: &str) -> Checkpoint {
    Checkpoint::open(&Path::new(FIXTURES).join(name).join("model")).unwrap()
}

/// A folder with one-element `u8` tensors: file name to tensor names, and an index if there is one.
fn folder(files: &[(&str, &[&str])], index: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, names) in files {
        let tensors: Vec<_> =
            names.iter().map(|name| NewTensor { name, dtype: Dtype::U8, shape: &[1], bytes: &[7] }).collect();
        write(&folder.path().join(file), &tensors).unwrap();
    }
    if let Some(index) = index {
        std::fs::write(folder.path().join(INDEX), index).unwrap();
    }
    folder
}

fn refused(files: &[(&str, &[&str])], index: Option<&str>, part: &str) {
    let folder = folder(files, index);
    let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains(part), "{message:?} lacks {part:?}");
}

#[test]
fn opens_a_single_file() {
    let checkpoint = fixture("tiny");
    let table = checkpoint.tensor("transformer.word_embeddings.weight").unwrap();
    assert_eq!((table.dtype, table.shape, table.bytes.len()), (Dtype::F32, &[512, 64][..], 512 * 64 * 4));
    assert!(checkpoint.tensor("word_embeddings.weight").is_none());
    assert_eq!(checkpoint.tensors().len(), 29);
    assert_eq!(checkpoint.files().len(), 1);
}

#[test]
fn opens_shards_as_one_set_in_order() {
    let checkpoint = fixture("tiny-safetensors-sharded");
    let names: Vec<_> = checkpoint.tensors().map(|tensor| tensor.name).collect();
    assert_eq!(names.len(), 29);
    assert!(names.is_sorted());
    assert!(checkpoint.tensors().all(|tensor| tensor.dtype == Dtype::Bf16));
    assert!(checkpoint.files().iter().map(Mapping::path).is_sorted());
    assert_eq!(checkpoint.files().len(), 3);
}

#[test]
fn bytes_stay_readable_after_their_pages_were_dropped() {
    let checkpoint = fixture("trained-web");
    for tensor in checkpoint.tensors() {
        tensor.will_need();
        let before = tensor.bytes.to_vec();
        tensor.done_with();
        assert_eq!(tensor.bytes, before, "{}", tensor.name);
    }
}

#[test]
fn shards_may_hold_more_than_the_index_lists() {
    let folder = folder(&[("x.safetensors", &["a", "b"])], Some(r#"{"weight_map":{"a":"x.safetensors"}}"#));
    assert_eq!(Checkpoint::open(folder.path()).unwrap().tensors().len(), 2);
}

#[test]
fn refuses_folders_without_weights_and_says_what_is_there() {
    refused(&[], None, "holds neither model.safetensors nor pytorch_model.bin, nor the index");
    refused(&[], None, "shards: download the weights into it");
    refused(&[("adapter.bin", &["a"])], None, "rename a single file to pytorch_model.bin");
    refused(&[("adapter.safetensors", &["a"])], None, "rename a single file to model.safetensors");
    let message = Checkpoint::open(Path::new("no/such/folder")).unwrap_err().to_string();
    assert!(message.contains("there is no such folder"), "{message}");
}

#[test]
fn refuses_an_index_that_does_not_fit_its_shards() {
    let x: (&str, &[&str]) = ("x.safetensors", &["a"]);
    let y: (&str, &[&str]) = ("y.safetensors", &["a", "b"]);
    refused(&[x], Some(r#"{"weight_map":{"#), "line 1 column 15");
    refused(&[x], Some(r#"{"weight_map":{"a":3}}"#), "expected a string");
    refused(&[x], Some("{}"), "missing field `weight_map`");
    refused(&[x], Some(r#"{"weight_map":{"a":"../x.safetensors"}}"#), "a plain file name");
    refused(&[x], Some(r#"{"weight_map":{"a":"x.safetensors","b":"z","c":"z"}}"#), "needs z (2 tensors, such as b)");
    refused(&[x], Some(r#"{"weight_map":{"a":"x.safetensors","b":"x.safetensors"}}"#), "tensor b into x.safetensors");
    refused(&[x, y], Some(r#"{"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}"#), "tensor a is in two shards");
    let swapped = r#"{"weight_map":{"b":"x.safetensors","c":"y.safetensors","a":"x.safetensors"}}"#;
    refused(&[x, ("y.safetensors", &["b", "c"])], Some(swapped), "y.safetensors does)");
}

#[test]
fn refuses_damaged_files_by_name() {
    let folder = folder(&[(SINGLE, &["a"])], None);
    let path = folder.path().join(SINGLE);
    let whole = std::fs::read(&path).unwrap();
    for size in 0..whole.len() {
        std::fs::write(&path, &whole[..size]).unwrap();
        let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("model.safetensors is not a sound safetensors file: "), "{message}");
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(Checkpoint::open(folder.path()).unwrap_err().to_string().contains("not a regular file"));
}

/// A copy of a recorded model's weights, to be damaged.
fn copied(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(Path::new(FIXTURES).join(name).join("model")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn torch_shards_of_either_naming_are_one_set() {
    for (name, dtype, files) in [("tiny-sharded", Dtype::F16, 3), ("tiny-sharded-underscore", Dtype::Bf16, 4)] {
        let checkpoint = fixture(name);
        assert!(checkpoint.tensors().all(|tensor| tensor.dtype == dtype && tensor.is_dense()), "{name}");
        assert_eq!((checkpoint.tensors().len(), checkpoint.files().len()), (29, files), "{name}");
    }
    let views = fixture("tiny-bin-lmhead");
    assert_eq!(views.tensors().filter(|tensor| !tensor.is_dense()).count(), 1);
}

#[test]
fn torch_shards_that_do_not_fit_their_index() {
    let broken = |change: &dyn Fn(&Path), part: &str| {
        let folder = copied("tiny-sharded");
        change(folder.path());
        let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    };
    let [second, third] = [2, 3].map(|i| format!("pytorch_model-0000{i}-of-00003.bin"));
    let index = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |folder: &Path| {
            let path = folder.join(WEIGHTS[1][1]);
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace(&from, &to)).unwrap();
        }
    };
    broken(&|folder| std::fs::remove_file(folder.join(&second)).unwrap(), &format!("needs {second} ("));
    broken(&|folder| drop(std::fs::copy(folder.join(&third), folder.join(&second))), "is in two shards");
    broken(&|folder| std::fs::write(folder.join(&third), "PK").unwrap(), &format!("{third} cannot be read as a torch"));
    broken(&|folder| std::fs::write(folder.join(&third), "version https://git-lfs.github.com/spec/v1").unwrap(), "LFS");
    broken(&index(&second, "../x.bin"), "a plain file name in the same folder");
    broken(&index(&second, "/etc/x.bin"), "a plain file name in the same folder");
    broken(&index(&second, &third), &format!("into {third}, which does not hold it"));
}

#[test]
fn safetensors_are_preferred_where_both_are() {
    let folder = copied("tiny-bin");
    let torch = Checkpoint::open(folder.path()).unwrap();
    assert!(torch.files()[0].path().ends_with("pytorch_model.bin"));
    std::fs::copy(Path::new(FIXTURES).join("tiny-fp16/model").join(SINGLE), folder.path().join(SINGLE)).unwrap();
    assert!(Checkpoint::open(folder.path()).unwrap().files()[0].path().ends_with(SINGLE));
}

#[test]
fn a_files_beginning_tells_its_format() {
    let folder = copied("tiny-bin");
    let named = |name: &str| {
        let path = folder.path().join(name);
        std::fs::copy(folder.path().join("pytorch_model.bin"), &path).unwrap();
        Checkpoint::open_file(&path)
    };
    for name in ["a.pt", "a.pth", "a", "a.safetensors"] {
        assert_eq!(named(name).unwrap().tensors().len(), 29, "{name}");
    }
}
