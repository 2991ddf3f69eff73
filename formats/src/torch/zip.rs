//! The zip archive around a torch checkpoint: record names to ranges of the file.
//!
//! From the end, as the format wants it (PKWARE's APPNOTE.TXT, sections 4.3 and 4.4): the end record names the central
//! directory, which names every record's size and local header, after which its bytes begin. torch stores records
//! uncompressed at aligned places, and uses the 64-bit forms of numbers where files are large.
//!
//! Checksums of records are not compared: torch does not either, and can be told to write none.
//!
//! The `zip` crate would do, but it wants a reader where there is a mapping, brings decompressors for what is refused here,
//! and its errors name no record; ranges are all that is needed.

use std::collections::BTreeMap;
use std::ops::Range;

use super::TorchProblem as Problem;

/// How an archive begins: with a record's local header.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";
const ENTRY: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";

/// Sizes of the parts that do not vary.
const LOCAL_SIZE: usize = 30;
const ENTRY_SIZE: usize = 46;
const END_SIZE: usize = 22;
const END_64_SIZE: usize = 56;
const LOCATOR_SIZE: usize = 20;

/// Numbers that stand for "see the 64-bit field".
const WIDE: u64 = u32::MAX as u64;

/// Every record's bytes; they lie in the file, and apart from each other.
pub(super) fn records(bytes: &[u8]) -> Result<BTreeMap<&str, Range<usize>>, Problem> {
    let (mut at, count) = directory(bytes)?;
    let mut records = BTreeMap::new();
    for _ in 0..count {
        let entry = Entry::read(bytes, &mut at)?;
        if records.insert(entry.name, entry.range(bytes)?).is_some() {
            return Err(Problem::Twice { what: "record", name: entry.name.to_owned() });
        }
    }
    check_apart(&records)?;
    Ok(records)
}

/// Where the directory's entries begin, and how many there are.
fn directory(bytes: &[u8]) -> Result<(u64, u64), Problem> {
    let none = || Problem::NoDirectory { size: bytes.len() };
    let last = bytes.len().checked_sub(END_SIZE).ok_or_else(none)?;
    // A comment of up to 65535 bytes may follow.
    let is_end = |at: &usize| {
        let end = &bytes[*at..];
        end.starts_with(END) && usize::from(u16_at(end, 20)) == end.len() - END_SIZE
    };
    let at = (last.saturating_sub(usize::from(u16::MAX))..=last).rev().find(is_end).ok_or_else(none)?;
    let (count, offset) = (u64::from(u16_at(bytes, at + 10)), u64::from(u32_at(bytes, at + 16)));
    if count != u64::from(u16::MAX) && offset != WIDE {
        return Ok((offset, count));
    }
    let Some(locator) = at.checked_sub(LOCATOR_SIZE).filter(|&at| bytes[at..].starts_with(LOCATOR_64)) else {
        return Ok((offset, count));
    };
    let end = part(bytes, u64_at(bytes, locator + 8), END_64_SIZE, END_64, "the directory's end record")?;
    Ok((u64_at(end, 48), u64_at(end, 32)))
}

/// A record as the directory describes it.
struct Entry<'a> {
    name: &'a str,
    method: u16,
    encrypted: bool,
    stored: u64,
    local: u64,
}

impl<'a> Entry<'a> {
    /// The entry at `at`, which moves on to the next.
    fn read(bytes: &'a [u8], at: &mut u64) -> Result<Entry<'a>, Problem> {
        let what = "an entry of the archive's directory";
        let fixed = part(bytes, *at, ENTRY_SIZE, ENTRY, what)?;
        let [name, extra, comment] = [28, 30, 32].map(|field| usize::from(u16_at(fixed, field)));
        let whole = part(bytes, *at, ENTRY_SIZE + name + extra + comment, ENTRY, what)?;
        let (name, rest) = whole[ENTRY_SIZE..].split_at(name);
        let Ok(name) = std::str::from_utf8(name) else {
            return Err(Problem::Record { name: format!("{name:?}"), what: "has a name that is not UTF-8" });
        };
        let sizes = [24, 20, 42].map(|field| u64::from(u32_at(fixed, field)));
        let [_, stored, local] = widened(sizes, &rest[..extra])
            .ok_or(Problem::Record { name: name.to_owned(), what: "lacks its 64-bit sizes" })?;
        *at += whole.len() as u64;
        Ok(Entry { name, method: u16_at(fixed, 10), encrypted: u16_at(fixed, 8) & 1 == 1, stored, local })
    }

    fn range(&self, bytes: &[u8]) -> Result<Range<usize>, Problem> {
        let wrong = |what| Err(Problem::Record { name: self.name.to_owned(), what });
        if self.encrypted {
            return wrong("is encrypted");
        }
        if self.method != 0 {
            return wrong("is compressed, as torch never does: the file was packed again by another program");
        }
        let what = format!("record {}", self.name);
        let header = part(bytes, self.local, LOCAL_SIZE, MAGIC, &what)?;
        let skip = LOCAL_SIZE + usize::from(u16_at(header, 26)) + usize::from(u16_at(header, 28));
        let start = self.local as usize + skip;
        let end = start as u128 + u128::from(self.stored);
        if end > bytes.len() as u128 {
            return Err(Problem::Outside { what, end, size: bytes.len() });
        }
        Ok(start..end as usize)
    }
}

/// Sizes of 32 bits, or where they do not suffice, those of the extra field 1, which holds only these and in this order.
fn widened<const N: usize>(mut sizes: [u64; N], mut extra: &[u8]) -> Option<[u64; N]> {
    let mut wide: &[u8] = &[];
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let field = extra.get(4..4 + length)?;
        if id == 1 {
            wide = field;
        }
        extra = &extra[4 + length..];
    }
    for size in sizes.iter_mut().filter(|size| **size == WIDE) {
        let (first, rest) = wide.split_first_chunk()?;
        (*size, wide) = (u64::from_le_bytes(*first), rest);
    }
    Some(sizes)
}

fn check_apart(records: &BTreeMap<&str, Range<usize>>) -> Result<(), Problem> {
    let mut sorted: Vec<(&str, &Range<usize>)> = records.iter().map(|(name, range)| (*name, range)).collect();
    sorted.retain(|(_, range)| !range.is_empty());
    sorted.sort_by_key(|(_, range)| range.start);
    match sorted.windows(2).find(|pair| pair[0].1.end > pair[1].1.start) {
        Some(pair) => Err(Problem::Overlap { first: pair[0].0.to_owned(), second: pair[1].0.to_owned() }),
        None => Ok(()),
    }
}

/// A part of the file, if it is there and begins as it should.
fn part<'a>(bytes: &'a [u8], at: u64, length: usize, magic: &[u8], what: &str) -> Result<&'a [u8], Problem> {
    let end = u128::from(at) + length as u128;
    if end > bytes.len() as u128 {
        return Err(Problem::Outside { what: what.to_owned(), end, size: bytes.len() });
    }
    let part = &bytes[at as usize..end as usize];
    if part.starts_with(magic) {
        return Ok(part);
    }
    Err(Problem::Record { name: format!("at byte {at}"), what: "does not begin as the archive's directory says" })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
