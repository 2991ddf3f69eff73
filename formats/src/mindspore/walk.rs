//! From field to field of a checkpoint's message, without touching the bytes of its tensors.

use std::ops::Range;

use prost::Message;
use prost::encoding::{WireType, decode_varint};

use super::source::Source;
use super::{Entry, Kind, MindsporeProblem as Problem, STRIDE, TEXT};
use crate::Dtype;

/// What was found.
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) notes: Vec<String>,
}

/// What a tensor says of itself beside its bytes. What the format requires is optional here, so that what lacks is told.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(string, optional, tag = "2")]
    pub(super) tensor_type: Option<String>,
}

/// A name of more bytes is none.
const NAME_MAX: usize = 1 << 16;
/// Dims and type of more bytes are none.
const HEAD_MAX: usize = 1 << 16;
/// Around a byte that is read the kernel maps up to 2 MB, which of many values add up to the whole file: after so many bytes
/// they are let go.
const LET_GO: usize = 16 * STRIDE;
/// The state of random generators, which MindSpore 2.0.0 adds; nobody knows its bytes.
const RANDOM: &str = "random_op";

/// Finds all entries, and checks each against its bytes, and the file against its sum.
pub(super) fn walk(source: &Source) -> Result<Found, Problem> {
    let size = source.len();
    if size == 0 {
        return Err(Problem::Empty);
    }
    let mut found = Found { entries: Vec::new(), notes: Vec::new() };
    let mut open: Option<Open> = None;
    let (mut at, mut value, mut mapped) = (0, 0, 0);
    while at < size {
        if check_sum(source, at)? {
            break;
        }
        value += 1;
        let field = field(source, &Around { value, inside: FILE, start: at, end: size }, at)?;
        if (field.number, field.wire) == (1, WireType::LengthDelimited) {
            let read = read_value(source, value, at, field.body)?;
            match &mut open {
                Some(open) if open.name == read.name => open.join(read)?,
                _ => {
                    if let Some(whole) = open.replace(read) {
                        whole.finish(&mut found)?;
                    }
                }
            }
        }
        at = field.next;
        if at - mapped >= LET_GO {
            source.done_with(mapped..at);
            mapped = at;
        }
    }
    source.done_with(mapped..size);
    match open {
        Some(whole) => whole.finish(&mut found)?,
        None => return Err(Problem::Value { value: 1, start: 0, why: "the message has no values".to_owned() }),
    }
    Ok(found)
}

/// Whether a file begins with a value that begins with a name.
pub(super) fn begins(bytes: &[u8]) -> bool {
    let name = |bytes: &[u8]| -> Option<bool> {
        let mut rest = bytes.strip_prefix(&[0x0a])?;
        let value = decode_varint(&mut rest).ok()?;
        let mut rest = rest.strip_prefix(&[0x0a])?;
        let name = decode_varint(&mut rest).ok()?;
        let shown = &rest[..rest.len().min(name.min(64) as usize)];
        Some(name > 0 && name < value && name as usize <= NAME_MAX && !shown.iter().any(u8::is_ascii_control))
    };
    name(&bytes[..bytes.len().min(256)]).unwrap_or(false)
}

/// Bytes of the sum at the end: its name, and ten digits of base 256, the highest first.
const SUM: usize = 17;
const SUM_NAME: &[u8] = b"crc_num";

/// Whether what is left is the sum of all that is before, which then must be right.
fn check_sum(source: &Source, at: usize) -> Result<bool, Problem> {
    if source.len() - at != SUM {
        return Ok(false);
    }
    let last = source.bytes(at..at + SUM)?;
    let Some(said) = last.strip_prefix(SUM_NAME) else { return Ok(false) };
    let mut sum = crc32fast::Hasher::new();
    for start in (0..at).step_by(STRIDE) {
        let range = start..(start + STRIDE).min(at);
        sum.update(&source.bytes(range.clone())?);
        source.done_with(range);
    }
    let found = sum.finalize();
    if said[..6] == [0; 6] && said[6..] == found.to_be_bytes() {
        return Ok(true);
    }
    let said = said.iter().fold(0u128, |sum, &byte| sum << 8 | u128::from(byte)).to_string();
    Err(Problem::Sum { said, found })
}

/// What a field is in.
struct Around {
    value: usize,
    inside: &'static str,
    /// Where the value begins.
    start: usize,
    /// Where what the field is in ends.
    end: usize,
}

const FILE: &str = "file";

/// A field of a message.
struct Field {
    number: u64,
    wire: WireType,
    /// Behind the key and the length.
    body: Range<usize>,
    next: usize,
}

/// The field that begins at a byte.
fn field(source: &Source, around: &Around, at: usize) -> Result<Field, Problem> {
    let Around { value, end, .. } = *around;
    // A key and a length take at most ten bytes each.
    let first = source.bytes(at..end.min(at + 20))?;
    let mut rest = &first[..];
    let no_field = || Problem::NoField { value, at };
    let key = varint(&mut rest, around, at)?;
    let wire = WireType::try_from(key & 7).map_err(|_| no_field())?;
    let (number, before) = (key >> 3, first.len() - rest.len());
    if number == 0 || key > u64::from(u32::MAX) {
        return Err(no_field());
    }
    let length = match wire {
        WireType::ThirtyTwoBit => 4,
        WireType::SixtyFourBit => 8,
        WireType::Varint => {
            let before = rest.len();
            varint(&mut rest, around, at)?;
            (before - rest.len()) as u64
        }
        WireType::LengthDelimited => varint(&mut rest, around, at)?,
        WireType::StartGroup | WireType::EndGroup => return Err(no_field()),
    };
    let head = if wire == WireType::Varint { before } else { first.len() - rest.len() };
    let body = at + head;
    let needed = body as u128 + u128::from(length);
    if needed > end as u128 {
        return Err(around.too_long(at, needed));
    }
    let next = needed as usize;
    Ok(Field { number, wire, body: body..next, next })
}

/// A number of up to ten bytes.
fn varint(rest: &mut &[u8], around: &Around, at: usize) -> Result<u64, Problem> {
    let long = rest.len() >= 10 || rest.iter().any(|byte| byte & 0x80 == 0);
    decode_varint(rest).map_err(|_| match long {
        true => Problem::NoField { value: around.value, at },
        false => around.too_long(at, around.end as u128 + 1),
    })
}

impl Around {
    /// What is said of a field that goes on past the end.
    fn too_long(&self, at: usize, needed: u128) -> Problem {
        let Around { value, inside, start, end } = *self;
        match inside {
            FILE => Problem::Cut { value, start, needed, size: end },
            _ => Problem::Overlong { value, at, needed, inside, end },
        }
    }
}

/// A value, and those that continue it.
struct Open {
    name: String,
    value: usize,
    start: usize,
    dims: Vec<i64>,
    ty: String,
    pieces: Vec<Range<usize>>,
}

fn read_value(source: &Source, value: usize, start: usize, range: Range<usize>) -> Result<Open, Problem> {
    let refuse = |why: String| Problem::Value { value, start, why };
    let around = Around { value, inside: "value", start, end: range.end };
    let (mut name, mut tensor, mut map) = (None, None, false);
    let mut at = range.start;
    while at < range.end {
        let field = field(source, &around, at)?;
        match (field.number, field.wire) {
            (1, WireType::LengthDelimited) if field.body.len() <= NAME_MAX => {
                let bytes = source.bytes(field.body)?.into_owned();
                name = Some(String::from_utf8(bytes).map_err(|_| refuse("its name is no UTF-8".to_owned()))?);
            }
            (1, WireType::LengthDelimited) => {
                return Err(refuse(format!("its name takes {} bytes, more than {NAME_MAX}", field.body.len())));
            }
            (2, WireType::LengthDelimited) if tensor.replace(field.body.clone()).is_some() => {
                return Err(refuse("it has two tensors".to_owned()));
            }
            (3, WireType::LengthDelimited) => map = true,
            (1..=3, wire) if wire != WireType::LengthDelimited => {
                return Err(refuse(format!("its field {} is no message or text", field.number)));
            }
            _ => {}
        }
        at = field.next;
    }
    let name = name.ok_or_else(|| refuse("it has no name".to_owned()))?;
    match tensor {
        Some(tensor) => {
            read_tensor(source, Open { name, value, start, dims: vec![], ty: String::new(), pieces: vec![] }, tensor)
        }
        None if map => Err(Problem::MapTensor { name, value, start }),
        None => Err(refuse(format!("{name} has no tensor"))),
    }
}

/// Dims, type, and where the bytes are.
fn read_tensor(source: &Source, open: Open, range: Range<usize>) -> Result<Open, Problem> {
    let Open { value, start, .. } = open;
    let refuse = |why: String| Problem::Value { value, start, why };
    let around = Around { value, inside: "tensor", start, end: range.end };
    let (mut head, mut content) = (Vec::new(), None);
    let mut at = range.start;
    while at < range.end {
        let field = field(source, &around, at)?;
        match (field.number, field.wire) {
            (3, WireType::LengthDelimited) if content.replace(field.body.clone()).is_some() => {
                return Err(refuse(format!("{} has bytes in two fields", open.name)));
            }
            (3, WireType::LengthDelimited) => {}
            (3, _) => return Err(refuse(format!("the bytes of {} are none", open.name))),
            (1 | 2, _) if head.len() + (field.next - at) <= HEAD_MAX => source.append(at..field.next, &mut head)?,
            (1 | 2, _) => return Err(refuse(format!("{} has more than {HEAD_MAX} bytes of dims and type", open.name))),
            _ => {}
        }
        at = field.next;
    }
    let head = Head::decode(&head[..]).map_err(|error| refuse(format!("dims and type of {}: {error}", open.name)))?;
    let ty = head.tensor_type.ok_or_else(|| refuse(format!("{} has no type", open.name)))?;
    let pieces = vec![content.unwrap_or(range.end..range.end)];
    Ok(Open { dims: head.dims, ty, pieces, ..open })
}

impl Open {
    /// Takes a value on that continues it.
    fn join(&mut self, next: Open) -> Result<(), Problem> {
        if (&self.dims, &self.ty) != (&next.dims, &next.ty) {
            let said = |open: &Open| format!("{} {:?}", open.ty, open.dims);
            let (first, second) = (said(self), said(&next));
            let Open { name, value, start, .. } = next;
            return Err(Problem::Pieces { name, value, start, first, second });
        }
        self.pieces.extend(next.pieces);
        Ok(())
    }

    /// Checks the whole against itself.
    fn finish(self, found: &mut Found) -> Result<(), Problem> {
        let Open { name, value, start, dims, ty, pieces } = self;
        if ty == RANDOM || name == RANDOM {
            found.notes.push(format!("{name} is ignored: it is the state of random generators"));
            return Ok(());
        }
        let bytes = pieces.iter().map(Range::len).sum();
        let (kind, shape, expected) = if ty == TEXT {
            // A character cut in two.
            (Kind::Text, Vec::new(), bytes / 4 * 4)
        } else {
            let Some(dtype) = Dtype::from_mindspore(&ty) else { return Err(Problem::Type { name, value, start, ty }) };
            let shape = shape(&dims).filter(|shape| dtype.bytes(shape).is_some());
            let Some(shape) = shape else { return Err(Problem::Dims { name, value, start, dims }) };
            let expected = dtype.bytes(&shape).expect("it was filtered");
            (Kind::Tensor(dtype), shape, expected)
        };
        if bytes != expected {
            let pieces = pieces.len();
            let said = format!("dims {dims:?} of {ty}");
            return Err(Problem::Bytes { name, value, start, bytes, pieces, said, expected });
        }
        found.entries.push(Entry { name, kind, shape, bytes, pieces });
        Ok(())
    }
}

/// The extents that dims mean; MindSpore 2.0.0 writes those of a scalar as `[0]`.
fn shape(dims: &[i64]) -> Option<Vec<usize>> {
    match dims {
        [0] => Some(Vec::new()),
        dims => dims.iter().map(|&dim| usize::try_from(dim).ok()).collect(),
    }
}
