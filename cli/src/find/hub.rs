//! Downloads of models from the Hugging Face hub into its cache, where huggingface_hub finds them too.
//!
//! The crate `hf-hub` speaks with the hub (`HF_ENDPOINT`; the token that `hf auth login` left, or `HF_TOKEN`) and goes on
//! with what an interrupted download left, a `.part` file that nobody takes for a whole one. Here is which files a model
//! needs, what their sizes must be, and how far they are. `config.json` comes last: without it a snapshot is no model, so a
//! half-fetched one is fetched on instead of being used.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo};

use crate::{Error, Progress};

/// How often to ask whether to give up.
const PATIENCE: Duration = Duration::from_millis(100);
/// Besides weights, the files that are read where there are any; the last one is.
const OTHERS: [&str; 3] = ["tokenizer.json", "generation_config.json", "config.json"];

/// Fetches a repository's model; its snapshot.
///
/// # Errors
/// The hub does not answer, has no such model, or sends files of other sizes than it says.
pub(super) fn fetch(repository: &str, cache: &Path, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
    let hub = Hub { repository: repository.to_owned(), endpoint };
    let kept = Cache::new(cache.to_path_buf());
    let token = variable("HF_TOKEN").or_else(|| kept.token());
    let builder = ApiBuilder::from_cache(kept).with_endpoint(hub.endpoint.clone()).with_token(token);
    let api = builder.build().map_err(|error| hub.error(&error, ""))?;
    progress.note(&format!("{repository} is fetched from {}", hub.endpoint));
    let info = api.model(repository.to_owned()).info().map_err(|error| hub.error(&error, ""))?;
    let names: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
    let snapshot = super::repository_folder(cache, repository).join("snapshots").join(&info.sha);
    for name in hub.needed(&names)? {
        if !snapshot.join(name).exists() {
            hub.file(api.repo(Repo::model(repository.to_owned())), name, progress)?;
        }
    }
    Ok(snapshot)
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whom to blame.
struct Hub {
    repository: String,
    endpoint: String,
}

/// What a download says while it goes on.
enum Event {
    /// A file of so many bytes.
    Begins(u64),
    /// So many more of them.
    Goes(u64),
    Ends(Result<PathBuf, ApiError>),
}

impl Hub {
    /// The files to fetch, in order: weights (safetensors where there are both kinds) with their index, the others.
    fn needed<'a>(&self, names: &'a [String]) -> Result<Vec<&'a str>, Error> {
        let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| !name.contains('/')).collect();
        let of = |begin: &str, end: &str| -> Vec<&'a str> {
            names.iter().copied().filter(|name| name.starts_with(begin) && name.ends_with(end)).collect()
        };
        let (safetensors, torch) = (of("model", ".safetensors"), of("pytorch_model", ".bin"));
        let (weights, index) = match safetensors.is_empty() {
            false => (safetensors, "model.safetensors.index.json"),
            true => (torch, "pytorch_model.bin.index.json"),
        };
        let lacks = |what: &str| {
            Error::Refused(format!(
                "{} at {} has no {what}, so it is no model that could be compiled: name another",
                self.repository, self.endpoint
            ))
        };
        if weights.is_empty() {
            return Err(lacks("weights (model*.safetensors or pytorch_model*.bin)"));
        }
        if !names.contains(&"config.json") {
            return Err(lacks("config.json"));
        }
        let others = [index].into_iter().chain(OTHERS).filter(|name| names.contains(name));
        Ok(weights.into_iter().chain(others).collect())
    }

    /// Fetches a file. A thread waits for the network, so that a person need not.
    fn file(&self, repo: ApiRepo, name: &str, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
        let (send, events) = mpsc::channel();
        let (file, heard) = (name.to_owned(), Heard { send: send.clone(), begun: false });
        thread::spawn(move || {
            // Nobody hears the end of a download that was given up.
            let _ = send.send(Event::Ends(repo.download_with_progress(&file, heard)));
        });
        let mut size = None;
        loop {
            match events.recv_timeout(PATIENCE) {
                Ok(Event::Begins(bytes)) => {
                    size = Some(bytes);
                    progress.begin(name, bytes);
                }
                Ok(Event::Goes(bytes)) => progress.advance(bytes),
                Ok(Event::Ends(ended)) => {
                    let path = ended.map_err(|error| self.error(&error, name))?;
                    self.check(&path, name, size)?;
                    progress.end(&path.display().to_string());
                    return Ok(path);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the thread says how it ends"),
            }
            if let Err(interrupted) = progress.go_on() {
                progress.note(&format!("of {name} stays what was fetched, in the cache: the next time goes on there"));
                return Err(interrupted);
            }
        }
    }

    /// That a file is as long as the hub said; otherwise it is removed.
    fn check(&self, path: &Path, name: &str, size: Option<u64>) -> Result<(), Error> {
        let found = path.metadata().map_err(Error::io("read", path))?.len();
        match size.filter(|size| *size != found) {
            Some(size) => {
                if let Ok(blob) = path.canonicalize() {
                    let _ = fs::remove_file(blob);
                }
                let _ = fs::remove_file(path);
                Err(Error::Refused(format!(
                    "{name} of {} came with {found} bytes, {} said {size}: it is removed; try again",
                    self.repository, self.endpoint
                )))
            }
            None => Ok(()),
        }
    }

    fn error(&self, error: &ApiError, file: &str) -> Error {
        let Hub { repository, endpoint } = self;
        let what = if file.is_empty() { repository.clone() } else { format!("{file} of {repository}") };
        let said = error.to_string();
        let way_out = match error {
            _ if said.contains("404") => "look at its name",
            _ if said.contains("401") || said.contains("403") => {
                "it may be private or not exist: look at its name, or set HF_TOKEN to a token that may read it"
            }
            ApiError::InvalidResume => "remove the .part file in the cache",
            ApiError::LockAcquisition(_) => "another process fetches it: wait for that",
            _ => "try again, which goes on where this ended, or set HF_ENDPOINT to another address",
        };
        Error::Refused(format!("cannot fetch {what} from {endpoint}: {said}: {way_out}"))
    }
}

/// Passes on how far a download is.
struct Heard {
    send: Sender<Event>,
    begun: bool,
}

impl hf_hub::api::Progress for Heard {
    fn init(&mut self, size: usize, _: &str) {
        // It is said twice.
        if !std::mem::replace(&mut self.begun, true) {
            let _ = self.send.send(Event::Begins(size as u64));
        }
    }

    fn update(&mut self, size: usize) {
        let _ = self.send.send(Event::Goes(size as u64));
    }

    fn finish(&mut self) {}
}
