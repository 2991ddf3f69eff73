//! Ids one by one to text in whole characters.
//!
//! Byte-level tokens are bytes, not characters: one emoji may take four ids. The stream holds back the bytes of an
//! unfinished character and nothing else, so what it yields is a prefix of the final text at every moment. (Tried: the
//! crate's own `DecodeStream` decodes a window again for every id, and holds everything back while the text ends in `�`,
//! which a model may well produce.)

use super::Tokenizer;

/// Turns ids into text as they arrive.
#[derive(Clone, Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    /// The beginning of a character, at most three bytes between two calls.
    pending: Vec<u8>,
}

impl<'a> StreamDecoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        StreamDecoder { tokenizer, skip_special, pending: Vec::new() }
    }

    /// The text that `id` completes, often empty within a character of several bytes.
    pub fn push(&mut self, id: u32) -> String {
        self.pending.extend(self.tokenizer.bytes_of(id, self.skip_special));
        take_whole(&mut self.pending)
    }

    /// What is left at the end: nothing, or `�` for a character that never came to its end.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Takes all whole characters off `pending`, with `�` for bytes that can start or continue none (as
/// `String::from_utf8_lossy` has it), and leaves an unfinished one.
fn take_whole(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut taken = 0;
    for chunk in pending.utf8_chunks() {
        let unfinished = taken + chunk.valid().len() + chunk.invalid().len() == pending.len()
            && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
        text.push_str(chunk.valid());
        taken += chunk.valid().len();
        if !chunk.invalid().is_empty() && !unfinished {
            text.push(char::REPLACEMENT_CHARACTER);
            taken += chunk.invalid().len();
        }
    }
    pending.drain(..taken);
    text
}

/// The bytes of a token: each of its characters stands for one, unless it is an added token written out as it is.
pub(super) fn bytes_of(token: &str) -> Vec<u8> {
    token.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.as_bytes().to_vec())
}

/// GPT-2's table: printable Latin-1 characters stand for themselves, the other 68 bytes, in order, for U+0100 onwards.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reaches_every_byte_once() {
        let mut bytes: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!((byte_of('Ġ'), byte_of('Ċ'), byte_of('a')), (Some(b' '), Some(b'\n'), Some(b'a')));
        assert_eq!(bytes_of("a b"), b"a b");
    }

    #[test]
    fn takes_whole_characters_and_leaves_the_unfinished() {
        let take = |bytes: &[u8]| {
            let mut pending = bytes.to_vec();
            (take_whole(&mut pending), pending)
        };
        assert_eq!(take(b"ab\xe4\xbd"), ("ab".to_owned(), b"\xe4\xbd".to_vec()));
        assert_eq!(take(b"\xe4\xbd\xa0"), ("你".to_owned(), vec![]));
        assert_eq!(take(b"\xffab"), ("\u{fffd}ab".to_owned(), vec![]));
        assert_eq!(take(b"\xe4a\xf0\x9f"), ("\u{fffd}a".to_owned(), b"\xf0\x9f".to_vec()));
        assert_eq!(take(b"a\x80"), ("a\u{fffd}".to_owned(), vec![]));
        assert_eq!(take(b""), (String::new(), vec![]));
    }

    #[test]
    fn piece_by_piece_equals_lossy_at_once() {
        let bytes = b"x\xf0\x9f\x98\xf0\x9f\x98\x80\xc3\xc3\xa9\xed\xa0\x80\xe4\xbd\xa0\xf4\x90\x80\x80\xe2\x82";
        let mut pending = Vec::new();
        let mut text = String::new();
        for &byte in bytes {
            pending.push(byte);
            text.push_str(&take_whole(&mut pending));
            assert!(pending.len() < 4);
        }
        text.push_str(&String::from_utf8_lossy(&pending));
        assert_eq!(text, String::from_utf8_lossy(bytes));
    }
}
