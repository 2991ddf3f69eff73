//! Encrypted checkpoints. The message is cut into blocks of at most 64 MiB, and each becomes one record of its own:
//! a magic number, with AES-GCM a tag of 16 bytes, a length, and within that length an initial vector and the cipher's bytes,
//! each behind its own length; numbers are u32, little endian. With GCM the first 12 bytes of the vector are the nonce and
//! nothing else is authenticated; with CBC the plain bytes are padded as PKCS#7 says. SM4-CBC is laid out as AES-CBC is.

use std::ops::Range;

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::consts::U12;
use aes::cipher::{BlockDecryptMut, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{AesGcm, Nonce, Tag};
use sm4::Sm4;

use super::MindsporeProblem as Problem;

/// What opens an encrypted file: bytes that are used as they are.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Key {
        Key(bytes.into())
    }
}

/// A key is nobody's business.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key of {} bytes", self.0.len())
    }
}

/// How a file is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    AesGcm,
    AesCbc,
    Sm4Cbc,
}

impl Mode {
    const ALL: [(Mode, [u8; 4], &'static str); 3] = [
        (Mode::AesGcm, [0xd8, 0x5e, 0x3a, 0x7f], "AES-GCM"),
        (Mode::AesCbc, [0xd9, 0x5e, 0x3a, 0x7f], "AES-CBC"),
        (Mode::Sm4Cbc, [0xda, 0x5e, 0x3a, 0x7f], "SM4-CBC"),
    ];

    /// That of a file that begins so, if it is encrypted.
    pub(super) fn of(bytes: &[u8]) -> Option<Mode> {
        Mode::ALL.iter().find(|(_, magic, _)| bytes.starts_with(magic)).map(|(mode, ..)| *mode)
    }

    pub(super) fn name(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> &'static (Mode, [u8; 4], &'static str) {
        Mode::ALL.iter().find(|(mode, ..)| *mode == self).expect("all are there")
    }

    /// Bytes between the magic number and the length of what follows.
    fn tag(self) -> usize {
        if self == Mode::AesGcm { TAG } else { 0 }
    }
}

/// Bytes of a tag, of an initial vector, and of a block of either cipher.
const TAG: usize = 16;
/// The most plain bytes of a block that are believed: MindSpore cuts at 64 MiB.
const BLOCK_MAX: usize = 1 << 30;

/// A record of the file.
#[derive(Debug, PartialEq)]
pub(super) struct Block {
    /// Where it begins in the file.
    pub(super) start: usize,
    /// Its tag, if it has one.
    tag: Range<usize>,
    /// Its initial vector.
    vector: Range<usize>,
    /// What is encrypted.
    pub(super) cipher: Range<usize>,
    /// Where what that says is in the message.
    pub(super) plain: Range<usize>,
}

/// All records of a file. How long what they say is follows with CBC from each one's last bytes.
pub(super) fn blocks(mode: Mode, cipher: &Cipher, bytes: &[u8]) -> Result<Vec<Block>, Problem> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut at, mut plain) = (0, 0);
    while at < bytes.len() {
        let index = blocks.len();
        let (found, end) = block(mode, bytes, at, plain).map_err(|why| Problem::Block { block: index + 1, at, why })?;
        let length = match mode {
            Mode::AesGcm => found.cipher.len(),
            _ => found.cipher.len() - cipher.padding(&found, index, bytes)?,
        };
        plain += length;
        blocks.push(Block { plain: found.plain.start..plain, ..found });
        at = end;
    }
    Ok(blocks)
}

/// The record at a byte of the file, and where it ends.
fn block(mode: Mode, bytes: &[u8], start: usize, plain: usize) -> Result<(Block, usize), String> {
    let mut at = start;
    let mut take = |length: usize, what: &str| {
        let end = at.checked_add(length).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(|| format!("{what} takes {length} bytes and {} are left", bytes.len() - at))?;
        Ok::<_, String>(std::mem::replace(&mut at, end)..end)
    };
    let number = |range: Range<usize>| u32::from_le_bytes(bytes[range].try_into().expect("four bytes")) as usize;
    let magic = take(4, "the number that it begins with")?;
    if bytes[magic.clone()] != mode.row().1 {
        return Err(format!("it begins with {:02x?} and the first one with {:02x?}", &bytes[magic], mode.row().1));
    }
    let tag = take(mode.tag(), "its tag")?;
    let length = number(take(4, "its length")?);
    let vector_length = number(take(4, "the length of its vector")?);
    if vector_length != TAG {
        return Err(format!("its initial vector has {vector_length} bytes, and 16 are expected"));
    }
    let vector = take(TAG, "its initial vector")?;
    let cipher_length = number(take(4, "the length of what is encrypted")?);
    if length != 8 + TAG + cipher_length {
        return Err(format!(
            "it has a length of {length}, and {cipher_length} encrypted bytes make one of {}",
            24 + cipher_length
        ));
    }
    if cipher_length > BLOCK_MAX || mode != Mode::AesGcm && (cipher_length == 0 || cipher_length % TAG != 0) {
        return Err(format!("it has {cipher_length} encrypted bytes, which no block of {} has", mode.name()));
    }
    let cipher = take(cipher_length, "what is encrypted")?;
    Ok((Block { start, tag, vector, cipher, plain: plain..plain }, at))
}

/// A cipher with its key.
#[derive(Debug)]
pub(super) struct Cipher {
    mode: Mode,
    key: Key,
}

impl Cipher {
    pub(super) fn new(mode: Mode, key: &Key) -> Result<Cipher, Problem> {
        let bytes = key.0.len();
        let takes = match mode {
            Mode::Sm4Cbc if bytes != 16 => "16",
            Mode::AesGcm | Mode::AesCbc if !matches!(bytes, 16 | 24 | 32) => "16, 24 or 32",
            _ => return Ok(Cipher { mode, key: key.clone() }),
        };
        Err(Problem::KeyLength { bytes, mode: mode.name(), takes })
    }

    /// What a block says.
    pub(super) fn decipher(&self, block: &Block, index: usize, bytes: &[u8]) -> Result<Vec<u8>, Problem> {
        let mut plain = bytes[block.cipher.clone()].to_vec();
        let vector = &bytes[block.vector.clone()];
        let length = match self.mode {
            Mode::AesGcm => self.gcm(vector, &bytes[block.tag.clone()], &mut plain),
            _ => self.cbc(vector, &mut plain),
        };
        plain.truncate(length.ok_or(Problem::Key { block: index + 1, at: block.start })?);
        Ok(plain)
    }

    /// How many of a block's plain bytes are padding.
    fn padding(&self, block: &Block, index: usize, bytes: &[u8]) -> Result<usize, Problem> {
        // The last bytes are deciphered with those before them as the vector.
        let last = block.cipher.end - TAG..block.cipher.end;
        let before = if block.cipher.len() == TAG { block.vector.clone() } else { last.start - TAG..last.start };
        let mut plain = bytes[last].to_vec();
        let length = self.cbc(&bytes[before], &mut plain);
        length.map(|length| TAG - length).ok_or(Problem::Key { block: index + 1, at: block.start })
    }

    /// Deciphers in place and returns how many bytes are left, if the tag is right.
    fn gcm(&self, vector: &[u8], tag: &[u8], bytes: &mut [u8]) -> Option<usize> {
        fn open<C: KeyInit + AeadInPlace<NonceSize = U12, TagSize = aes::cipher::consts::U16>>(
            key: &[u8],
            vector: &[u8],
            tag: &[u8],
            bytes: &mut [u8],
        ) -> Option<usize> {
            let (nonce, tag) = (Nonce::from_slice(&vector[..12]), Tag::from_slice(tag));
            C::new_from_slice(key).ok()?.decrypt_in_place_detached(nonce, &[], bytes, tag).ok()?;
            Some(bytes.len())
        }
        let key = &self.key.0;
        match key.len() {
            16 => open::<AesGcm<Aes128, U12>>(key, vector, tag, bytes),
            24 => open::<AesGcm<Aes192, U12>>(key, vector, tag, bytes),
            _ => open::<AesGcm<Aes256, U12>>(key, vector, tag, bytes),
        }
    }

    /// The same, if the padding is one.
    fn cbc(&self, vector: &[u8], bytes: &mut [u8]) -> Option<usize> {
        fn open<C: KeyIvInit + BlockDecryptMut>(key: &[u8], vector: &[u8], bytes: &mut [u8]) -> Option<usize> {
            let cipher = C::new_from_slices(key, vector).ok()?;
            Some(cipher.decrypt_padded_mut::<Pkcs7>(bytes).ok()?.len())
        }
        let key = &self.key.0;
        match (self.mode, key.len()) {
            (Mode::Sm4Cbc, _) => open::<cbc::Decryptor<Sm4>>(key, vector, bytes),
            (_, 16) => open::<cbc::Decryptor<Aes128>>(key, vector, bytes),
            (_, 24) => open::<cbc::Decryptor<Aes192>>(key, vector, bytes),
            _ => open::<cbc::Decryptor<Aes256>>(key, vector, bytes),
        }
    }
}
