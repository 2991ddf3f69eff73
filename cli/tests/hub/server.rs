//! A hub that serves one folder as one repository, as far as downloads ask: the list of files, their commit and tag, ranges
//! of bytes, and for weights a redirection to another place, as the hub does for large files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

/// The newest commit.
pub(crate) const COMMIT: &str = "0a1b2c3d";

/// What the hub does wrong.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Trick {
    None,
    /// The first time weights are asked for as a whole, the connection ends in the middle.
    CutOnce,
    /// Weights are said to be a byte longer than they are.
    OneTooMany,
}

pub(crate) struct Hub {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    repository: String,
    folder: PathBuf,
    trick: Trick,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    requests: usize,
    cut: bool,
    /// Bytes sent of each file.
    sent: BTreeMap<String, u64>,
}

impl Hub {
    pub(crate) fn of(repository: &str, folder: &Path, trick: Trick) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (repository, folder) = (repository.to_owned(), folder.to_path_buf());
        let shared = Arc::new(Shared { repository, folder, trick, told: Mutex::default() });
        let (serving, own) = (Arc::clone(&shared), address.clone());
        // It ends with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (shared, own) = (Arc::clone(&serving), own.clone());
                thread::spawn(move || shared.serve(stream, &own));
            }
        });
        Hub { address, shared }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.told.lock().unwrap().requests
    }

    pub(crate) fn sent(&self, file: &str) -> u64 {
        self.shared.told.lock().unwrap().sent.get(file).copied().unwrap_or(0)
    }
}

impl Shared {
    /// One request, one answer.
    fn serve(&self, mut stream: TcpStream, own: &str) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let range =
            headers.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        self.told.lock().unwrap().requests += 1;
        let path = first.split(' ').nth(1).unwrap_or_default();
        let (list, files) =
            (format!("/api/models/{}/revision/main", self.repository), format!("/{}/resolve/main/", self.repository));
        if path == list {
            self.list(&mut stream);
        } else if let Some(name) = path.strip_prefix(&files).filter(|name| is_weights(name)) {
            let headers = format!("Location: {own}/large/{name}\r\n{}", tags(name));
            answer(&mut stream, "302 Found", &headers, b"");
        } else if let Some(name) = path.strip_prefix(&files).or_else(|| path.strip_prefix("/large/")) {
            self.file(&mut stream, name, range.as_deref());
        } else {
            answer(&mut stream, "404 Not Found", "", b"");
        }
    }

    fn list(&self, stream: &mut TcpStream) {
        let entries = fs::read_dir(&self.folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: Vec<String> = names.map(|name| format!("{{\"rfilename\": {name:?}}}")).collect();
        let body = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", names.join(", "));
        answer(stream, "200 OK", "Content-Type: application/json\r\n", body.as_bytes());
    }

    fn file(&self, stream: &mut TcpStream, name: &str, range: Option<&str>) {
        let Ok(bytes) = fs::read(self.folder.join(name)) else { return answer(stream, "404 Not Found", "", b"") };
        let (from, to) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
        let from: usize = from.parse().unwrap();
        let to = to.parse().unwrap_or(bytes.len() - 1);
        let size = bytes.len() + usize::from(self.trick == Trick::OneTooMany && is_weights(name));
        let headers = format!("Content-Range: bytes {from}-{to}/{size}\r\n{}", tags(name));
        let body = &bytes[from..=to];
        let mut told = self.told.lock().unwrap();
        let cut = self.trick == Trick::CutOnce
            && is_weights(name)
            && body.len() > 1
            && !std::mem::replace(&mut told.cut, true);
        let sent = if cut { body.len() / 2 } else { body.len() };
        *told.sent.entry(name.to_owned()).or_default() += sent as u64;
        drop(told);
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent]));
    }
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// The headers that name the commit and the content.
fn tags(name: &str) -> String {
    let tag: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("X-Repo-Commit: {COMMIT}\r\nETag: \"{tag}\"\r\n")
}

fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    // Whoever asked may have gone.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}
