//! Texts that people give in files.

use std::path::Path;

use bloomery_formats::map;

use crate::Error;

/// All of a file, which must be UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    String::from_utf8(map::read(path)?).map_err(|error| {
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let byte = bytes[at];
        Error::Refused(format!(
            "{} is not UTF-8 text: byte {byte:#04x} at offset {at} of {} bytes starts no character",
            path.display(),
            bytes.len()
        ))
    })
}
