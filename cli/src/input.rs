//! Texts that people give in files, or by a pipe.

use std::io::{self, Read};
use std::path::Path;

use bloomery_formats::map;

use crate::Error;

/// All of a file, or of standard input where it is called `-`; it must be UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    let bytes = if path == Path::new("-") { read_input()? } else { map::read(path)? };
    String::from_utf8(bytes).map_err(|error| {
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let byte = bytes[at];
        let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        Error::Refused(format!(
            "{name} is not UTF-8 text: byte {byte:#04x} at offset {at} of {} bytes belongs to no character; save it as UTF-8",
            bytes.len()
        ))
    })
}

fn read_input() -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|error| Error::Refused(format!("cannot read standard input: {error}")))?;
    Ok(bytes)
}
