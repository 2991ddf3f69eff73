//! Writes artifacts: sections as they come, the header last, the final name at the very end.

use crate::code::CodeImage;
use crate::format::{HEADER_START, Header, MAGIC, PAGE, Section, SectionKind, VERSION, encode, sha256};
use crate::meta::Meta;
use crate::plan::CallPlan;
use crate::weights::{PieceHasher, Slot, WeightTable};
use bloomery_ir::Program;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::TempPath;

/// Why an artifact could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The artifact's final name.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The table of sections does not fit its page.
    #[error("the table of {sections} sections takes {bytes} bytes, there is room for {room}; name fewer targets")]
    TooManySections {
        /// How many sections.
        sections: usize,
        /// What they take.
        bytes: usize,
        /// What there is.
        room: usize,
    },
}

/// An artifact being written. Dropped before [`ArtifactWriter::finish`], it leaves nothing behind.
pub struct ArtifactWriter {
    // Apart from its name, which the errors of both together would show.
    file: BufWriter<File>,
    temporary: TempPath,
    path: PathBuf,
    position: u64,
    sections: Vec<Section>,
}

impl ArtifactWriter {
    /// Starts one, at a temporary name beside its final one.
    ///
    /// # Errors
    /// A folder that is missing or not writable.
    pub fn create(path: &Path) -> Result<ArtifactWriter, WriteError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            let missing = io::Error::new(io::ErrorKind::NotFound, format!("there is no folder {}", folder.display()));
            return Err(failed(path, missing));
        }
        let (file, temporary) = temporary(folder).map_err(|source| failed(path, source))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        let mut writer = ArtifactWriter { file, temporary, path: path.to_owned(), position: 0, sections: Vec::new() };
        writer.zeros(PAGE)?;
        Ok(writer)
    }

    /// Writes the program.
    ///
    /// # Errors
    /// The file system's; so for all that follow.
    pub fn program(&mut self, program: &Program) -> Result<(), WriteError> {
        self.section(SectionKind::Program, "", &encode(program))
    }

    /// Writes the text of the graph that the program was made from.
    ///
    /// # Errors
    /// The file system's.
    pub fn graph(&mut self, text: &str) -> Result<(), WriteError> {
        self.section(SectionKind::Graph, "", text.as_bytes())
    }

    /// Writes what the artifact says about itself.
    ///
    /// # Errors
    /// The file system's.
    pub fn meta(&mut self, meta: &Meta) -> Result<(), WriteError> {
        self.section(SectionKind::Meta, "", &encode(meta))
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// The file system's.
    pub fn tokenizer(&mut self, json: &[u8]) -> Result<(), WriteError> {
        self.section(SectionKind::Tokenizer, "", json)
    }

    /// Writes machine code of one class.
    ///
    /// # Errors
    /// The file system's.
    pub fn code(&mut self, image: &CodeImage) -> Result<(), WriteError> {
        self.section(SectionKind::Code, &image.class, &image.bytes)?;
        self.section(SectionKind::Kernels, &image.class, &encode(&image.kernels))
    }

    /// Writes a plan: one section of its own for the steps of each entry.
    ///
    /// # Errors
    /// The file system's.
    pub fn plan(&mut self, plan: &CallPlan) -> Result<(), WriteError> {
        let mut plan = plan.clone();
        let names = plan.section_names();
        let entries = plan.parts.iter_mut().flat_map(|part| &mut part.entries);
        let steps: Vec<_> = entries.map(|entry| std::mem::take(&mut entry.steps)).collect();
        self.section(SectionKind::Plan, "", &encode(&plan))?;
        names
            .iter()
            .zip(&steps)
            .try_for_each(|(name, steps)| self.section(SectionKind::PlanSteps, name, &encode(steps)))
    }

    /// Writes weights as `fill` gives them, in the order of [`WeightTable::slots`], and their table.
    ///
    /// # Errors
    /// The file system's, and those of `fill`.
    ///
    /// # Panics
    /// When `fill` does not give every record.
    pub fn weights<E: From<WriteError>>(
        &mut self,
        plan: &WeightTable,
        fill: impl FnOnce(&mut WeightSink<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.align()?;
        let offset = self.position;
        let slots = plan.slots().into_iter();
        let mut sink = WeightSink { writer: self, offset, hasher: PieceHasher::default(), slots, left: 0 };
        fill(&mut sink)?;
        let hashes = sink.finish(plan.bytes)?;
        let (kind, name) = (SectionKind::Weights, "shared".to_owned());
        self.sections.push(Section { kind, name, offset, length: plan.bytes, sha256: None });
        let table = WeightTable { hashes, ..plan.clone() };
        Ok(self.section(SectionKind::WeightTable, "shared", &encode(&table))?)
    }

    /// Writes the header and gives the file its name; returns its size.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(mut self) -> Result<u64, WriteError> {
        let header = self.header()?;
        let ArtifactWriter { mut file, temporary, path, .. } = self;
        let write = || -> io::Result<()> {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)?;
            file.flush()?;
            temporary.persist(&path).map_err(|error| error.error)
        };
        write().map_err(|source| failed(&path, source))?;
        Ok(self.position)
    }

    fn header(&mut self) -> Result<Vec<u8>, WriteError> {
        let header = Header { sections: std::mem::take(&mut self.sections), length: self.position };
        let bytes = encode(&header);
        let room = PAGE as usize - HEADER_START;
        if bytes.len() > room {
            let (sections, bytes) = (header.sections.len(), bytes.len());
            return Err(WriteError::TooManySections { sections, bytes, room });
        }
        let length = (bytes.len() as u32).to_le_bytes();
        Ok([&MAGIC[..], &VERSION.to_le_bytes(), &length, &sha256(&bytes), &bytes].concat())
    }

    fn section(&mut self, kind: SectionKind, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        self.align()?;
        let (offset, length) = (self.position, bytes.len() as u64);
        self.sections.push(Section { kind, name: name.to_owned(), offset, length, sha256: Some(sha256(bytes)) });
        self.put(bytes)
    }

    fn align(&mut self) -> Result<(), WriteError> {
        self.zeros(self.position.next_multiple_of(PAGE) - self.position)
    }

    fn zeros(&mut self, count: u64) -> Result<(), WriteError> {
        self.put(&vec![0; count as usize])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.position += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| failed(&self.path, source))
    }
}

/// Takes weights record by record.
pub struct WeightSink<'a> {
    writer: &'a mut ArtifactWriter,
    /// Where the section starts in the file.
    offset: u64,
    hasher: PieceHasher,
    slots: std::vec::IntoIter<Slot>,
    /// Bytes missing in the current record.
    left: u64,
}

impl WeightSink<'_> {
    /// Begins the next record; its bytes follow by [`WeightSink::put`].
    ///
    /// # Errors
    /// The file system's.
    ///
    /// # Panics
    /// When the last record is not full, or this is not the next one.
    pub fn begin(&mut self, slot: Slot) -> Result<(), WriteError> {
        assert_eq!(self.left, 0, "a record is filled before the next begins");
        let next = self.slots.next().expect("no more records than planned");
        assert_eq!(slot, next, "records come in the order of the plan");
        self.pad(slot.offset)?;
        self.left = slot.bytes;
        Ok(())
    }

    /// Bytes of the current record, all or some.
    ///
    /// # Errors
    /// The file system's.
    ///
    /// # Panics
    /// When the record is full.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.left = self.left.checked_sub(bytes.len() as u64).expect("no more bytes than planned");
        self.pass(bytes)
    }

    /// A whole record.
    ///
    /// # Errors
    /// The file system's.
    ///
    /// # Panics
    /// When it is not the next one, or of another size.
    pub fn record(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), WriteError> {
        self.begin(slot)?;
        assert_eq!(slot.bytes, bytes.len() as u64, "packed bytes are as many as planned");
        self.put(bytes)
    }

    fn finish(mut self, bytes: u64) -> Result<Vec<u64>, WriteError> {
        assert!(self.left == 0 && self.slots.next().is_none(), "every planned record is written");
        self.pad(bytes)?;
        Ok(self.hasher.finish())
    }

    /// Zeros up to an offset of the section.
    fn pad(&mut self, to: u64) -> Result<(), WriteError> {
        let missing = self.offset + to - self.writer.position;
        self.pass(&vec![0; missing as usize])
    }

    fn pass(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.hasher.update(bytes);
        self.writer.put(bytes)
    }
}

/// A file, and its name for now. Made here, and not by `tempfile`, whose files nobody else may read.
fn temporary(folder: &Path) -> io::Result<(File, TempPath)> {
    let make = |path: &Path| File::options().write(true).create_new(true).open(path);
    Ok(tempfile::Builder::new().prefix(".bloom-").make_in(folder, make)?.into_parts())
}

fn failed(path: &Path, source: io::Error) -> WriteError {
    WriteError::Io { path: path.display().to_string(), source }
}
