//! Which folder a model's name means.
//!
//! In this order: a path; `bloom/NAME` in MindFormers' folder of downloads; the snapshot in Hugging Face's cache that its
//! `main` points at (huggingface_hub, "Understand caching"). What is in none of them is answered with the command that
//! fetches it; with the feature `hub`, who is about to use the model fetches it right here. `models::published` knows what
//! names mean.

#[cfg(feature = "hub")]
mod hub;

use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bloomery_models::published::{self, Published};

use crate::{Error, Progress};

/// The folder or file that `model` is or names, on this machine.
///
/// # Errors
/// It is a model's name, and no folder of it is here; or neither a path nor a name.
pub(crate) fn local(model: &Path) -> Result<PathBuf, Error> {
    match Places::of_environment().find(model)? {
        Found::Here(path) => Ok(path),
        Found::Nowhere(missing) => Err(missing.error()),
    }
}

/// As [`local`], and says where that is if it is somewhere else; with the feature `hub`, what is nowhere is fetched.
///
/// # Errors
/// As [`local`]; what the hub refuses.
pub(crate) fn noted(model: &Path, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
    let places = Places::of_environment();
    let path = match places.find(model)? {
        Found::Here(path) => path,
        Found::Nowhere(missing) => places.fetch(&missing, progress)?,
    };
    if path != model {
        progress.note(&format!("{} is {}", model.display(), path.display()));
    }
    Ok(path)
}

/// Folders that hold models.
struct Places {
    /// MindFormers'.
    downloads: PathBuf,
    /// The hub's.
    cache: PathBuf,
}

/// The folder a variable of the environment names; an empty one is as good as none.
fn folder(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where programs keep what they can make again (XDG Base Directory Specification).
pub(crate) fn caches() -> Option<PathBuf> {
    // One that is not absolute counts for nothing, says the specification.
    folder("XDG_CACHE_HOME").filter(|folder| folder.is_absolute()).or_else(|| Some(folder("HOME")?.join(".cache")))
}

/// Where this program keeps what it can make again.
pub(crate) fn own_cache() -> Option<PathBuf> {
    Some(caches()?.join("bloomery"))
}

enum Found {
    Here(PathBuf),
    Nowhere(Missing),
}

/// A model that is not here.
struct Missing {
    name: String,
    repository: Option<String>,
    looked: Vec<PathBuf>,
}

impl Places {
    /// As huggingface_hub and MindFormers read the environment; empty variables are as good as none.
    fn of_environment() -> Places {
        let home = || folder("HF_HOME").unwrap_or_else(|| caches().unwrap_or_default().join("huggingface"));
        let cache = folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE"));
        Places {
            downloads: folder("CHECKPOINT_DOWNLOAD_FOLDER").unwrap_or_else(|| "checkpoint_download".into()),
            cache: cache.unwrap_or_else(|| home().join("hub")),
        }
    }

    fn find(&self, model: &Path) -> Result<Found, Error> {
        // What cannot be looked at is there, for its reader to refuse.
        let is_there = !matches!(model.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound);
        if is_there {
            return Ok(Found::Here(model.to_path_buf()));
        }
        let named = model.to_str().filter(|_| !is_file_name(model));
        let published = named.and_then(|name| Some((name, published::by_name(name)?)));
        match published {
            Some((name, published)) => Ok(self.find_named(name, published)),
            None => Err(Error::Nothing { path: model.to_path_buf() }),
        }
    }

    fn find_named(&self, name: &str, Published { repository }: Published) -> Found {
        let downloaded = self.downloads.join("bloom").join(name.rsplit('/').next().unwrap_or(name));
        let cached = repository.as_ref().map(|repository| repository_folder(&self.cache, repository));
        if is_model(&downloaded) {
            return Found::Here(downloaded);
        }
        if let Some(snapshot) = cached.as_deref().and_then(snapshot) {
            return Found::Here(snapshot);
        }
        let looked = [downloaded].into_iter().chain(cached).collect();
        Found::Nowhere(Missing { name: name.to_owned(), repository, looked })
    }
}

/// Whether nobody would call a model that.
fn is_file_name(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["bloom", "ckpt", "safetensors", "bin", "json", "yaml"].iter().any(|known| extension == *known)
}

/// A repository's folder in the cache.
fn repository_folder(cache: &Path, repository: &str) -> PathBuf {
    cache.join(format!("models--{}", repository.replace('/', "--")))
}

/// The files of the newest version that was downloaded.
fn snapshot(folder: &Path) -> Option<PathBuf> {
    let main = std::fs::read_to_string(folder.join("refs/main")).ok()?;
    let commit = Some(main.trim()).filter(|main| main.chars().all(|c| c.is_ascii_alphanumeric()) && !main.is_empty());
    Some(folder.join("snapshots").join(commit?)).filter(|snapshot| is_model(snapshot))
}

/// Whether a download of a folder has begun: a model is found, and its reader says what is missing.
fn is_model(folder: &Path) -> bool {
    ["config.json", "tokenizer.json"].iter().any(|name| folder.join(name).exists())
}

impl Places {
    #[cfg(feature = "hub")]
    fn fetch(&self, missing: &Missing, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
        let repository = missing.repository.as_ref().ok_or_else(|| missing.error())?;
        hub::fetch(repository, &self.cache, progress)
    }

    #[cfg(not(feature = "hub"))]
    fn fetch(&self, missing: &Missing, _: &mut dyn Progress) -> Result<PathBuf, Error> {
        Err(missing.error())
    }
}

impl Missing {
    fn error(&self) -> Error {
        let looked: Vec<String> = self.looked.iter().map(|path| path.display().to_string()).collect();
        let way_out = match &self.repository {
            Some(repository) => format!("`hf download {repository}` fetches it"),
            None => "nobody published its weights".to_owned(),
        };
        // What MindFormers itself put there.
        let ckpt = self.looked.iter().map(|path| path.with_file_name(format!("{}.ckpt", self.name)));
        let ckpt = ckpt.filter(|path| path.exists()).map(|path| {
            format!(" ({} is MindSpore's: say that file, with the model's config.json beside it)", path.display())
        });
        let ckpt: String = ckpt.collect();
        Error::NoModel { name: self.name.clone(), looked: looked.join(" nor "), way_out: way_out + &ckpt }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> (tempfile::TempDir, Places) {
        let folder = tempfile::tempdir().unwrap();
        let places = Places { downloads: folder.path().join("downloads"), cache: folder.path().join("hub") };
        (folder, places)
    }

    fn here(places: &Places, model: &str) -> PathBuf {
        match places.find(Path::new(model)).unwrap() {
            Found::Here(path) => path,
            Found::Nowhere(missing) => panic!("{}", missing.error()),
        }
    }

    fn message(places: &Places, model: &str) -> String {
        match places.find(Path::new(model)) {
            Ok(Found::Here(path)) => panic!("{}", path.display()),
            Ok(Found::Nowhere(missing)) => missing.error().to_string(),
            Err(error) => error.to_string(),
        }
    }

    fn cache(places: &Places, repository: &str) -> PathBuf {
        let folder = repository_folder(&places.cache, repository);
        let snapshot = folder.join("snapshots/0a1b");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(folder.join("refs")).unwrap();
        std::fs::write(folder.join("refs/main"), "0a1b\n").unwrap();
        snapshot
    }

    #[test]
    fn paths_are_taken_as_they_are() {
        let (folder, places) = places();
        let path = folder.path().to_str().unwrap();
        assert_eq!(here(&places, path), folder.path());
        for nothing in ["no/such/folder", "bloom_9b", "nonsense", "./bloom"] {
            let text = message(&places, nothing);
            assert!(text.contains(&format!("no file or folder {nothing}")) && text.contains("bloom_560m"), "{text}");
        }
    }

    #[test]
    fn names_are_looked_up_in_order() {
        let (_folder, places) = places();
        let snapshot = cache(&places, "bigscience/bloomz-560m");
        assert!(
            message(&places, "bloom_560m").contains("`hf download bigscience/bloomz-560m`"),
            "it has no config.json"
        );
        std::fs::write(snapshot.join("config.json"), "{}").unwrap();
        for name in ["bloom_560m", "bloomz-560m", "bigscience/bloomz-560m"] {
            assert_eq!(here(&places, name), snapshot, "{name}");
        }
        let downloaded = places.downloads.join("bloom/bloom_560m");
        std::fs::create_dir_all(&downloaded).unwrap();
        assert_eq!(here(&places, "bloom_560m"), snapshot, "an empty folder hides nothing");
        std::fs::write(downloaded.join("config.json"), "{}").unwrap();
        assert_eq!(here(&places, "bloom_560m"), downloaded);
    }

    #[test]
    fn what_is_nowhere_is_said_with_the_places_and_the_way_out() {
        let (_folder, places) = places();
        let text = message(&places, "BelleGroup/BELLE-7B-2M");
        for part in
            ["downloads/bloom/BELLE-7B-2M nor", "hub/models--BelleGroup--BELLE-7B-2M", "`hf download BelleGroup/"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(message(&places, "bloom_65b").ends_with("nobody published its weights"));
        std::fs::create_dir_all(places.downloads.join("bloom")).unwrap();
        std::fs::write(places.downloads.join("bloom/bloom_7.1b.ckpt"), "").unwrap();
        assert!(message(&places, "bloom_7.1b").contains("bloom_7.1b.ckpt is MindSpore's"));
    }

    #[test]
    fn a_pointer_that_leads_out_of_the_cache_is_none() {
        let (_folder, places) = places();
        std::fs::write(cache(&places, "bigscience/bloom").join("config.json"), "{}").unwrap();
        std::fs::write(repository_folder(&places.cache, "bigscience/bloom").join("refs/main"), "../snapshots/0a1b")
            .unwrap();
        assert!(message(&places, "bloom").contains("hf download"));
    }
}
