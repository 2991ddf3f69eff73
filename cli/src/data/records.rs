//! Records of an instruction set, one by one: a JSON array as Alpaca has it, or a document a line as BELLE has it, either
//! perhaps gzipped. A file may be larger than memory.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bloomery_formats::map;
use flate2::bufread::MultiGzDecoder;
use serde::Deserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde_json::Value;

use crate::Error;

/// What one record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// An instruction, perhaps with an input, and the answer to it.
    Instruction {
        /// What to do.
        instruction: String,
        /// With what; none where the record does not have it at all.
        input: Option<String>,
        /// What was answered.
        output: String,
    },
    /// Questions and their answers, at least one.
    Conversation(Vec<(String, String)>),
}

/// A record, or what is wrong with it, and where it stands.
pub(super) struct Numbered {
    /// From 1: among the array's, or the line.
    pub(super) number: usize,
    pub(super) record: Result<Record, String>,
}

/// Whether to go on.
pub(super) type GoOn = bool;

/// Reads a file and calls back with each record; `read` counts bytes of the file.
///
/// # Errors
/// It cannot be read, or is no JSON of these forms.
pub(super) fn each(path: &Path, read: &AtomicU64, found: &mut dyn FnMut(Numbered) -> GoOn) -> Result<(), Error> {
    let file = BufReader::with_capacity(1 << 18, Counted { file: map::open(path)?, read });
    let text = unzipped(file).map_err(Error::io("read", path))?;
    let mut text = BufReader::with_capacity(1 << 18, text);
    let failed = |what: &dyn fmt::Display| Error::Refused(format!("{} {what}", path.display()));
    match begin(&mut text).map_err(|error| cut(path, error))? {
        Some(b'[') => {
            let mut json = serde_json::Deserializer::from_reader(text);
            match json.deserialize_seq(Each { found }).and_then(|goes_on| if goes_on { json.end() } else { Ok(()) }) {
                Err(error) if error.is_io() => Err(cut(path, error.into())),
                // Whoever asked to stop needs no whole file.
                Err(error) if error.to_string().starts_with(STOPPED) => Ok(()),
                Err(error) => Err(failed(&format_args!("is no sound JSON array: {error}"))),
                Ok(()) => Ok(()),
            }
        }
        Some(b'{') if !begins_with_record(&mut text).map_err(|error| cut(path, error))? => {
            Err(failed(&"begins with an object over several lines: give a JSON array of records, or a record a line"))
        }
        Some(b'{') => lines(text, found).map_err(|error| cut(path, error)),
        Some(_) => Err(failed(&"begins neither with [ nor with {: give a JSON array of records, or a record a line")),
        None => Err(failed(&"is empty: give a JSON array of records, or a record a line")),
    }
}

fn cut(path: &Path, error: io::Error) -> Error {
    let damaged =
        matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
    if damaged {
        return Error::Refused(format!("{} is damaged or cut short: {error}; fetch it again", path.display()));
    }
    Error::io("read", path)(error)
}

/// A file that is being read, and how far.
struct Counted<'a> {
    file: File,
    read: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Told by what it begins with, whatever its name.
fn unzipped<'a>(mut file: BufReader<Counted<'a>>) -> io::Result<Box<dyn Read + 'a>> {
    let zipped = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// The first byte that is no space, left there; a byte order mark is none.
fn begin(text: &mut impl BufRead) -> io::Result<Option<u8>> {
    if text.fill_buf()?.starts_with("\u{feff}".as_bytes()) {
        text.consume(3);
    }
    loop {
        let bytes = text.fill_buf()?;
        match bytes.iter().position(|byte| !byte.is_ascii_whitespace()) {
            Some(at) => {
                let first = bytes[at];
                // Lines before it count.
                return Ok(Some(first));
            }
            None if bytes.is_empty() => return Ok(None),
            None => {
                let count = bytes.len();
                text.consume(count);
            }
        }
    }
}

/// Whether the first line that is not empty has more than a brace: one document over many lines is no records.
fn begins_with_record(text: &mut impl BufRead) -> io::Result<bool> {
    let rest = text.fill_buf()?.trim_ascii_start();
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(line.trim_ascii() != b"{")
}

/// A line that is no JSON is one bad record.
fn lines(mut text: impl BufRead, found: &mut dyn FnMut(Numbered) -> GoOn) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if text.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let bytes = line.trim_ascii();
        if bytes.is_empty() {
            continue;
        }
        let json = serde_json::from_slice(bytes).map_err(|error: serde_json::Error| match error.is_eof() {
            true => format!("is no JSON: {error}; a record is one line, or the file an array of records"),
            false => format!("is no JSON: {error}"),
        });
        if !found(Numbered { number, record: json.and_then(record) }) {
            break;
        }
    }
    Ok(())
}

/// What is said of an array that nobody wants to the end.
const STOPPED: &str = "enough";

/// Goes through an array without holding it.
struct Each<'a> {
    found: &'a mut dyn FnMut(Numbered) -> GoOn,
}

impl<'de> Visitor<'de> for Each<'_> {
    type Value = GoOn;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<GoOn, A::Error> {
        for number in 1.. {
            let Some(json) = array.next_element::<Value>()? else { break };
            if !(self.found)(Numbered { number, record: record(json) }) {
                return Err(de::Error::custom(STOPPED));
            }
        }
        Ok(true)
    }
}

/// The record that a document is.
fn record(json: Value) -> Result<Record, String> {
    let Value::Object(mut fields) = json else { return Err("is no object with fields".to_owned()) };
    match fields.remove("conversations") {
        Some(Value::Array(turns)) => return conversation(turns).map(Record::Conversation),
        Some(_) => return Err("has `conversations` that are no array".to_owned()),
        None => {}
    }
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Ok(Some(text)),
        None | Some(Value::Null) => Ok(None),
        Some(other) => Err(format!("has a field `{name}` that is no text but {}", kind(&other))),
    };
    let (instruction, input, output) = (text("instruction")?, text("input")?, text("output")?);
    let lacks = |name: &str| format!("has no field `{name}`");
    Ok(Record::Instruction {
        instruction: instruction.ok_or_else(|| lacks("instruction"))?,
        input,
        output: output.ok_or_else(|| lacks("output"))?,
    })
}

fn kind(json: &Value) -> &'static str {
    match json {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Turns of a person and an assistant, one after the other; a last question without an answer is left out.
fn conversation(turns: Vec<Value>) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut question = None;
    for (number, mut turn) in (1..).zip(turns) {
        let mut text = |name: &str| match turn.get_mut(name).map(Value::take) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(format!("has turn {number} without a text `{name}`")),
        };
        let (from, value) = (text("from")?, text("value")?);
        match (&*from, question.take()) {
            ("human" | "user", None) => question = Some(value),
            ("assistant" | "gpt" | "bot", Some(asked)) => found.push((asked, value)),
            (who, _) => return Err(format!("has turn {number} by {who:?}, where people and assistants take turns")),
        }
    }
    if found.is_empty() { Err("has a conversation without an answer".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// What is found in a file of these bytes: `number: instruction|input|output`, or what is wrong.
    fn found(bytes: &[u8], most: usize) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let (read, mut all) = (AtomicU64::new(0), Vec::new());
        let mut take = |Numbered { number, record }: Numbered| {
            all.push(match record {
                Ok(Record::Instruction { instruction, input, output }) => {
                    format!("{number}: {instruction}|{}|{output}", input.unwrap_or("-".to_owned()))
                }
                Ok(Record::Conversation(turns)) => format!("{number}: {turns:?}"),
                Err(what) => format!("{number} {what}"),
            });
            all.len() < most
        };
        each(file.path(), &read, &mut take).map_err(|error| error.to_string())?;
        Ok(all)
    }

    const ARRAY: &str =
        r#" [{"instruction": "a", "input": "", "output": "b"}, {"output": "d", "instruction": "c", "more": 1}]"#;
    const LINES: &str = "\n{\"instruction\": \"a\", \"input\": \"\", \"output\": \"b\"}\r\n\n{\"instruction\": \"c\", \"output\": \"d\"}";

    fn zipped(text: &str) -> Vec<u8> {
        let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
        zip.write_all(text.as_bytes()).unwrap();
        zip.finish().unwrap()
    }

    #[test]
    fn arrays_and_lines_are_told_apart_gzipped_too() {
        assert_eq!(found(ARRAY.as_bytes(), 9).unwrap(), ["1: a||b", "2: c|-|d"]);
        assert_eq!(found(LINES.as_bytes(), 9).unwrap(), ["2: a||b", "4: c|-|d"]);
        assert_eq!(found(&zipped(ARRAY), 9).unwrap(), ["1: a||b", "2: c|-|d"]);
        assert_eq!(found(&[zipped(LINES), zipped(LINES)].concat(), 9).unwrap().len(), 3 + 1);
        assert_eq!(found(format!("\u{feff}{ARRAY}").as_bytes(), 9).unwrap().len(), 2);
        assert_eq!(found(ARRAY.as_bytes(), 1).unwrap(), ["1: a||b"]);
        assert_eq!(found(LINES.as_bytes(), 1).unwrap(), ["2: a||b"]);
        assert_eq!(found(b"[]", 9).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn conversations_are_pairs() {
        let text = r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "assistant", "value": "b"}, {"from": "human", "value": "c"}]}"#;
        assert_eq!(found(text.as_bytes(), 9).unwrap(), [r#"1: [("a", "b")]"#]);
        let twice = text.replacen("assistant", "human", 1);
        assert!(found(twice.as_bytes(), 9).unwrap()[0].contains("1 has turn 2 by \"human\""));
        let alone = r#"{"conversations": [{"from": "human", "value": "a"}]}"#;
        assert!(found(alone.as_bytes(), 9).unwrap()[0].contains("without an answer"));
        assert!(
            found(br#"{"conversations": [{"from": "human"}]}"#, 9).unwrap()[0]
                .contains("turn 1 without a text `value`")
        );
        assert!(found(br#"{"conversations": 1}"#, 9).unwrap()[0].contains("no array"));
    }

    #[test]
    fn bad_records_are_numbered() {
        let bad = r#"[{"instruction": "a", "output": "b"}, {"instruction": "a"}, {"output": "a"}, {"instruction": 5, "output": ""}, 7]"#;
        let expected = [
            "1: a|-|b",
            "2 has no field `output`",
            "3 has no field `instruction`",
            "4 has a field `instruction` that is no text but a number",
            "5 is no object with fields",
        ];
        assert_eq!(found(bad.as_bytes(), 9).unwrap(), expected);
        let lines = "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \n{}\n";
        let all = found(lines.as_bytes(), 9).unwrap();
        assert!(all[1].starts_with("2 is no JSON: EOF") && all[2] == "3 has no field `instruction`", "{all:?}");
    }

    #[test]
    fn damaged_files_have_one_clear_error() {
        let check = |bytes: &[u8], part: &str| {
            let error = found(bytes, 9).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check(b"", "is empty");
        check(b" \n ", "is empty");
        check(b"instruction,output", "begins neither");
        check(&ARRAY.as_bytes()[..60], "no sound JSON array: EOF while parsing");
        check(
            b" \n{\n  \"instruction\": \"a\",\n  \"output\": \"b\"\n}\n",
            "over several lines: give a JSON array of records",
        );
        check(&[ARRAY, "x"].concat().into_bytes(), "trailing characters");
        let zip = zipped(ARRAY);
        check(&zip[..zip.len() - 12], "is damaged or cut short");
        let mut changed = zip.clone();
        changed[14] ^= 0x55;
        assert!(found(&changed, 9).is_err());
    }
}
