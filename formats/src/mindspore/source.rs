//! Where the message's bytes come from: the mapped file itself, or blocks of it that are deciphered when asked for.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::MindsporeProblem as Problem;
use super::cipher::{self, Block, Key, Mode};
use crate::FormatError;
use crate::map::Mapping;

/// A message.
#[derive(Debug)]
pub(super) enum Source {
    /// As it lies in the file.
    Plain(Mapping),
    /// In encrypted blocks.
    Encrypted {
        mapping: Mapping,
        cipher: cipher::Cipher,
        blocks: Vec<Block>,
        /// The block that was deciphered last: what is asked for next is mostly in it too.
        last: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
    },
}

impl Source {
    pub(super) fn open(path: &Path, key: Option<&Key>) -> Result<Source, FormatError> {
        let refused = |problem| FormatError::Mindspore { path: path.to_path_buf(), problem: Box::new(problem) };
        let mapping = Mapping::open(path)?;
        match (Mode::of(mapping.bytes()), key) {
            (None, None) => Ok(Source::Plain(mapping)),
            (None, Some(_)) => Err(refused(Problem::NotEncrypted)),
            (Some(mode), None) => Err(refused(Problem::Encrypted { mode: mode.name() })),
            (Some(mode), Some(key)) => {
                let cipher = cipher::Cipher::new(mode, key).map_err(refused)?;
                let blocks = cipher::blocks(mode, &cipher, mapping.bytes()).map_err(refused)?;
                Ok(Source::Encrypted { mapping, cipher, blocks, last: Mutex::new(None) })
            }
        }
    }

    pub(super) fn mapping(&self) -> &Mapping {
        match self {
            Source::Plain(mapping) | Source::Encrypted { mapping, .. } => mapping,
        }
    }

    /// Bytes of the message.
    pub(super) fn len(&self) -> usize {
        match self {
            Source::Plain(mapping) => mapping.bytes().len(),
            Source::Encrypted { blocks, .. } => blocks.last().map_or(0, |block| block.plain.end),
        }
    }

    /// Bytes `range` of the message, which are in it.
    pub(super) fn bytes(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, Problem> {
        if let Source::Plain(mapping) = self {
            return Ok(Cow::Borrowed(&mapping.bytes()[range]));
        }
        let mut bytes = Vec::with_capacity(range.len());
        self.append(range, &mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    /// The same, put behind others.
    pub(super) fn append(&self, range: Range<usize>, to: &mut Vec<u8>) -> Result<(), Problem> {
        let Source::Encrypted { blocks, .. } = self else {
            to.extend_from_slice(&self.mapping().bytes()[range]);
            return Ok(());
        };
        let mut at = range.start;
        while at < range.end {
            let index = blocks.partition_point(|block| block.plain.end <= at);
            let plain = &blocks[index].plain;
            let end = plain.end.min(range.end);
            to.extend_from_slice(&self.deciphered(index)?[at - plain.start..end - plain.start]);
            at = end;
        }
        Ok(())
    }

    /// A block's plain bytes.
    fn deciphered(&self, index: usize) -> Result<Arc<Vec<u8>>, Problem> {
        let Source::Encrypted { mapping, cipher, blocks, last } = self else {
            unreachable!("only encrypted files have blocks");
        };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plain)) = last.as_ref().filter(|(known, _)| *known == index) {
            return Ok(Arc::clone(plain));
        }
        // The one before goes first, so that there are never two.
        *last = None;
        let block = &blocks[index];
        let plain = Arc::new(cipher.decipher(block, index, mapping.bytes())?);
        mapping.done_with(block.start..block.cipher.end);
        *last = Some((index, Arc::clone(&plain)));
        Ok(plain)
    }

    /// Lets go of the pages that a part of the message lies in.
    pub(super) fn done_with(&self, range: Range<usize>) {
        if let Source::Plain(mapping) = self {
            mapping.done_with(range);
        }
    }
}
