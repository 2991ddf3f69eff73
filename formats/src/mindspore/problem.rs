//! What can be wrong inside a checkpoint of MindSpore's. Bytes are counted from the file's beginning, or from that of the
//! deciphered message.

/// Why a file is no sound checkpoint of MindSpore's. Values are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum MindsporeProblem {
    /// Nothing in it.
    #[error("it is empty: save it anew")]
    Empty,
    /// What began does not end.
    #[error(
        "value {value}, which begins at byte {start}, needs bytes up to {needed} and there are {size}: the file is cut short; copy it again"
    )]
    Cut {
        /// Which value.
        value: usize,
        /// Where it begins.
        start: usize,
        /// Where what it says it holds would end.
        needed: u128,
        /// Bytes there are.
        size: usize,
    },
    /// What one field holds ends after what holds the field.
    #[error(
        "a field at byte {at}, in value {value}, ends at byte {needed} and the {inside} around it at byte {end}: the file is damaged; copy it again"
    )]
    Overlong {
        /// Which value.
        value: usize,
        /// Where the field begins.
        at: usize,
        /// Where it would end.
        needed: u128,
        /// What it is in.
        inside: &'static str,
        /// Where that ends.
        end: usize,
    },
    /// No field of a protobuf.
    #[error(
        "byte {at}, in value {value}, begins no field of a protobuf: is it another format, or an encrypted file? If neither, copy it again"
    )]
    NoField {
        /// Which value.
        value: usize,
        /// Where.
        at: usize,
    },
    /// A field that is there, of another kind than it has to be.
    #[error("value {value}, at byte {start}, is none of a checkpoint: {why}; is it another format?")]
    Value {
        /// Which value.
        value: usize,
        /// Where it begins.
        start: usize,
        /// What is wrong.
        why: String,
    },
    /// A kind of value that models have none of.
    #[error(
        "{name} (value {value}, at byte {start}) is a parameter of a hash table, which no BLOOM has: save the model without it"
    )]
    MapTensor {
        /// The name.
        name: String,
        /// Which value.
        value: usize,
        /// Where it begins.
        start: usize,
    },
    /// An element type that is not known.
    #[error(
        "{name} (value {value}, at byte {start}) has the type {ty:?}, and known are {}: save it as one of them",
        KNOWN
    )]
    Type {
        /// The name.
        name: String,
        /// Which value.
        value: usize,
        /// Where it begins.
        start: usize,
        /// The type as the file spells it.
        ty: String,
    },
    /// Extents that no tensor has.
    #[error(
        "{name} (value {value}, at byte {start}) has the dims {dims:?}, which no tensor has: the file is damaged; copy it again"
    )]
    Dims {
        /// The name.
        name: String,
        /// Which value.
        value: usize,
        /// Where it begins.
        start: usize,
        /// The dims as the file has them.
        dims: Vec<i64>,
    },
    /// Bytes that are not the shape's.
    #[error(
        "{name} (value {value}, at byte {start}) has {bytes} bytes{}, and {said} take {expected}: the file is damaged or was cut between two pieces; copy it again",
        if *pieces > 1 { format!(" in {pieces} pieces") } else { String::new() }
    )]
    Bytes {
        /// The name.
        name: String,
        /// Which value is its first.
        value: usize,
        /// Where that begins.
        start: usize,
        /// Its bytes.
        bytes: usize,
        /// In so many values.
        pieces: usize,
        /// Its dims and type.
        said: String,
        /// What dims and type take.
        expected: usize,
    },
    /// Pieces of a tensor that say different things of it.
    #[error(
        "{name} is in pieces that disagree: {first} before byte {start}, {second} from there (value {value}): the file is damaged; copy it again"
    )]
    Pieces {
        /// The name.
        name: String,
        /// Which value is the other one.
        value: usize,
        /// Where it begins.
        start: usize,
        /// Type and dims that were said first.
        first: String,
        /// And then.
        second: String,
    },
    /// The sum at the end.
    #[error(
        "its last 17 bytes say that the CRC-32 of the others is {said}, and it is {found}: the file is damaged; copy it again"
    )]
    Sum {
        /// By the file's end.
        said: String,
        /// Of its bytes.
        found: u32,
    },
    /// An encrypted file, and no key.
    #[error("it is encrypted ({mode}): give its key with --key")]
    Encrypted {
        /// How.
        mode: &'static str,
    },
    /// A key, and a file that is not encrypted.
    #[error("a key was given and it is not encrypted: leave the key out")]
    NotEncrypted,
    /// A key of a length that no cipher takes.
    #[error("the key has {bytes} bytes, and {mode} takes {takes}")]
    KeyLength {
        /// The key's.
        bytes: usize,
        /// The file's cipher.
        mode: &'static str,
        /// Lengths that there are.
        takes: &'static str,
    },
    /// A block that does not follow from the one before.
    #[error("encrypted block {block}, at byte {at}: {why}: the file is damaged or cut short; copy it again")]
    Block {
        /// Which, from 1.
        block: usize,
        /// Where it begins in the file.
        at: usize,
        /// What is wrong.
        why: String,
    },
    /// A block that the key does not open.
    #[error(
        "the key does not open encrypted block {block}, at byte {at}: it is another one's key, or the file is damaged"
    )]
    Key {
        /// Which, from 1.
        block: usize,
        /// Where it begins in the file.
        at: usize,
    },
}

/// The types that tensors may have.
const KNOWN: &str =
    "Float16, Float32, Float64, BFloat16, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Bool and str";
