//! Models fetched from a hub, of which a small one runs here: whole, in two goes, and refused.

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use server::{Hub, Trick};

const MODEL: &str = "someone/tiny-bloom";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hf").join(name).join("model")
}

/// Compiles the model of the hub in a folder of its own, where also the cache is.
fn compile(hub: &Hub, home: &Path, model: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bloomery"));
    command.args(["compile", model, "--target", "interpreter", "-o", "out.bloom"]).current_dir(home);
    command.env("HF_ENDPOINT", hub.address()).env("HF_HOME", home.join("hf"));
    ["HF_TOKEN", "HF_HUB_CACHE", "CHECKPOINT_DOWNLOAD_FOLDER"].iter().for_each(|name| {
        command.env_remove(name);
    });
    command.output().unwrap()
}

fn compiled(output: &Output, home: &Path) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(home.join("out.bloom")).unwrap()
}

fn refused(output: &Output, home: &Path, parts: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    parts.iter().for_each(|part| assert!(message.contains(part), "{part:?} is not in {message}"));
    assert!(!home.join("out.bloom").exists());
}

/// What compiling the fixture itself gives.
fn expected(name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bloomery"));
    command.arg("compile").arg(fixture(name)).args(["--target", "interpreter", "-o", "out.bloom"]);
    compiled(&command.current_dir(&folder).output().unwrap(), folder.path())
}

#[test]
fn a_model_is_fetched_once_in_the_layout_of_hugging_face() {
    for name in ["tiny", "tiny-safetensors-sharded", "tiny-sharded"] {
        let (hub, home) = (Hub::of(MODEL, &fixture(name), Trick::None), tempfile::tempdir().unwrap());
        assert!(compiled(&compile(&hub, home.path(), MODEL), home.path()) == expected(name), "{name}");
        let cache = home.path().join("hf/hub/models--someone--tiny-bloom");
        assert_eq!(fs::read_to_string(cache.join("refs/main")).unwrap(), server::COMMIT);
        let config = cache.join("snapshots").join(server::COMMIT).join("config.json");
        assert!(config.symlink_metadata().unwrap().is_symlink());
        assert!(config.canonicalize().unwrap().starts_with(cache.canonicalize().unwrap().join("blobs")));
        let asked = hub.requests();
        assert!(asked > 0);
        compiled(&compile(&hub, home.path(), MODEL), home.path());
        assert_eq!(hub.requests(), asked, "the second time nobody asks the hub");
    }
}

#[test]
fn an_interrupted_download_goes_on_where_it_ended() {
    let (hub, home) = (Hub::of(MODEL, &fixture("tiny"), Trick::CutOnce), tempfile::tempdir().unwrap());
    refused(&compile(&hub, home.path(), MODEL), home.path(), &["model.safetensors", "try again, which goes on"]);
    let part = hub.sent("model.safetensors");
    assert!(compiled(&compile(&hub, home.path(), MODEL), home.path()) == expected("tiny"));
    let size = fs::metadata(fixture("tiny").join("model.safetensors")).unwrap().len();
    assert!(part > 1 && part < size, "{part} of {size} bytes were sent before the cut");
    // The byte that asks for the size comes each time; of the rest none comes twice.
    assert_eq!(hub.sent("model.safetensors"), size + 2);
}

#[test]
fn a_file_of_another_size_is_refused_and_not_kept() {
    let (hub, home) = (Hub::of(MODEL, &fixture("tiny"), Trick::OneTooMany), tempfile::tempdir().unwrap());
    let size = fs::metadata(fixture("tiny").join("model.safetensors")).unwrap().len();
    let (found, said) = (format!("came with {size} bytes"), format!("said {}", size + 1));
    refused(&compile(&hub, home.path(), MODEL), home.path(), &["model.safetensors", &found, &said, "try again"]);
    let snapshot = home.path().join("hf/hub/models--someone--tiny-bloom/snapshots").join(server::COMMIT);
    assert!(!snapshot.join("model.safetensors").exists(), "it is not taken for a whole one");
}

#[test]
fn what_the_hub_does_not_have_is_said() {
    let (hub, home) = (Hub::of(MODEL, &fixture("tiny"), Trick::None), tempfile::tempdir().unwrap());
    refused(&compile(&hub, home.path(), "someone/other"), home.path(), &["cannot fetch someone/other", "404", "name"]);
    let empty = tempfile::tempdir().unwrap();
    fs::write(empty.path().join("README.md"), "nothing").unwrap();
    let hub = Hub::of(MODEL, empty.path(), Trick::None);
    refused(&compile(&hub, home.path(), MODEL), home.path(), &["has no weights", "pytorch_model"]);
}
