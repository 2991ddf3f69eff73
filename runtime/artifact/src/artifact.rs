//! An artifact, opened: mapped, hashed, checked, handed out in slices.

use crate::check::{CheckError, check_code, check_program, check_weights};
use crate::code::KernelCode;
use crate::format::{HEADER_START, Header, MAGIC, PAGE, Section, SectionKind, VERSION, decode, sha256};
use crate::meta::Meta;
use crate::note::Note;
use crate::plan::{CallPlan, check};
use crate::weights::{PIECE, WeightTable};
use bloomery_ir::Program;
use memmap2::Mmap;
use serde::de::DeserializeOwned;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

/// Weights up to this many bytes are checked when the file is opened.
pub const CHECKED_AT_OPEN: u64 = 256 << 20;

/// When weights are compared with their hashes; everything else always is, at opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Small artifacts at opening, pieces of large ones before their first use.
    #[default]
    Lazy,
    /// As lazy, but a large artifact once all of whose pieces were checked is noted in this folder, and not checked again
    /// until its file changes. Where no note can be written it is checked again; that is no error.
    Once(PathBuf),
    /// All at opening.
    Full,
    /// Never.
    None,
}

/// Why a file cannot be used as an artifact.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something else than an artifact.
    #[error("{path} is no bloomery artifact: it does not begin with `BLOOMERY`; make one with `bloomery compile`")]
    Foreign {
        /// The file.
        path: String,
    },
    /// An artifact of another time.
    #[error("{path} has format version {found}, this bloomery reads version {expected}; compile the model again")]
    Version {
        /// The file.
        path: String,
        /// Its version.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// The file ends too early.
    #[error("{path} is cut off: {expected} bytes expected, {found} there; copy or compile it again")]
    Truncated {
        /// The file.
        path: String,
        /// What it should have.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// Bytes that are not those written.
    #[error("{path} is damaged: {section} at byte {offset}: {reason}; copy or compile it again")]
    Damaged {
        /// The file.
        path: String,
        /// Which section.
        section: String,
        /// Where it starts in the file, or the piece of it that is damaged.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// Bytes are no longer those that were checked.
    #[error(
        "{path} was written into while it was used ({before} bytes before, {now} now): what came of it counts for nothing; do it again when nobody \
         writes there"
    )]
    Changed {
        /// The file.
        path: String,
        /// Its size when it was opened.
        before: u64,
        /// And now.
        now: u64,
    },
    /// Whole, and yet nothing to trust.
    #[error("{path} holds a program that cannot be run: {error}")]
    Program {
        /// The file.
        path: String,
        /// What is wrong.
        error: CheckError,
    },
    /// Whole, and its plan is nothing to trust.
    #[error("{path} holds a plan that no device can be told: {error}")]
    Plan {
        /// The file.
        path: String,
        /// What is wrong.
        error: check::PlanError,
    },
}

/// Machine code of one class.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The class, e.g. `x86-64-v3`.
    pub class: &'a str,
    /// The code.
    pub bytes: &'a [u8],
    /// Where it starts in the file, a multiple of a page.
    pub offset: u64,
    /// One for each kernel of the program.
    pub kernels: &'a [KernelCode],
}

/// A class's kernels and the section of its code.
struct Code {
    section: usize,
    kernels: Vec<KernelCode>,
}

/// An open artifact.
pub struct Artifact {
    path: PathBuf,
    file: File,
    /// When it was opened.
    before: Metadata,
    map: Mmap,
    sections: Vec<Section>,
    program: Program,
    meta: Meta,
    codes: Vec<Code>,
    plan: Option<CallPlan>,
    table: WeightTable,
    /// Where the weights lie in the file.
    weights: Range<usize>,
    /// Pieces of the weights that need no check any more.
    checked: Vec<AtomicBool>,
    /// How many do.
    left: AtomicUsize,
    /// To be written when none does.
    note: Option<Note>,
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artifact").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Artifact {
    /// Maps a file and checks it.
    ///
    /// # Errors
    /// A file that is foreign, of another version, cut off or damaged.
    pub fn open(path: &Path, check: Check) -> Result<Artifact, OpenError> {
        let mut artifact = Artifact::open_unchecked(path)?;
        artifact.begin_check(check, CHECKED_AT_OPEN, SystemTime::now())?;
        Ok(artifact)
    }

    /// Checks everything but the weights.
    fn open_unchecked(path: &Path) -> Result<Artifact, OpenError> {
        let raw = RawFile::open(path)?;
        let header = raw.header()?;
        for section in &header.sections {
            raw.check_section(section)?;
        }
        let program: Program = raw.decode(raw.find(&header, SectionKind::Program)?)?;
        let meta: Meta = raw.decode(raw.find(&header, SectionKind::Meta)?)?;
        let table: WeightTable = raw.decode(raw.find(&header, SectionKind::WeightTable)?)?;
        let weights = raw.range(raw.find(&header, SectionKind::Weights)?)?;
        let refuse = |error| OpenError::Program { path: raw.name(), error };
        check_program(&program).map_err(refuse)?;
        check_weights(&program, &table, weights.len() as u64).map_err(refuse)?;
        let codes = raw.codes(&header, &program)?;
        let plan = raw.plan(&header)?;
        let (sections, RawFile { path, file, before, map }) = (header.sections, raw);
        let checked = (0..table.pieces()).map(|_| AtomicBool::new(false)).collect();
        let (left, note) = (AtomicUsize::new(table.pieces()), None);
        Ok(Artifact {
            path,
            file,
            before,
            map,
            sections,
            program,
            meta,
            codes,
            plan,
            table,
            weights,
            checked,
            left,
            note,
        })
    }

    /// Checks weights that are checked at opening, which are all or up to `at_open` bytes, and trusts those that `check`
    /// or a note says to trust.
    fn begin_check(&mut self, check: Check, at_open: u64, now: SystemTime) -> Result<(), OpenError> {
        let small = self.table.bytes <= at_open;
        match check {
            Check::None => self.trust(),
            Check::Full => self.verify()?,
            Check::Lazy | Check::Once(_) if small => self.verify()?,
            Check::Lazy => {}
            Check::Once(folder) => match Note::of(&self.path, &self.before, &folder, now) {
                Some(note) if note.is_there() => self.trust(),
                note => self.note = note,
            },
        }
        Ok(())
    }

    /// No piece needs a check.
    fn trust(&mut self) {
        self.checked.iter_mut().for_each(|checked| *checked.get_mut() = true);
        *self.left.get_mut() = 0;
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the bytes are still those that were checked, as far as the file's size and time of change tell. A file that
    /// was replaced is no matter: the old one stays mapped.
    ///
    /// # Errors
    /// Somebody wrote into the file.
    pub fn unchanged(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io { path: self.path.display().to_string(), source };
        let now = self.file.metadata().map_err(failed)?;
        let (before, same_time) = (self.before.len(), self.before.modified().ok() == now.modified().ok());
        if before == now.len() && same_time {
            return Ok(());
        }
        Err(OpenError::Changed { path: self.path.display().to_string(), before, now: now.len() })
    }

    /// The open file, for mapping code from it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What it says about itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The table of sections.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Where weights lie.
    pub fn weight_table(&self) -> &WeightTable {
        &self.table
    }

    /// All weights, packed.
    pub fn weights(&self) -> &[u8] {
        &self.map[self.weights.clone()]
    }

    /// Packed bytes of a parameter, or of one layer of it, as a rank has it; unchecked as yet if the check is lazy.
    ///
    /// # Panics
    /// When there is no such parameter, layer or rank.
    pub fn parameter(&self, parameter: usize, layer: u64, rank: u64) -> &[u8] {
        let placement = &self.table.placements[parameter];
        assert!(layer < placement.layers, "layer {layer} of {}", placement.layers);
        let part = self.program.parameters[parameter].part(&self.program.mesh, rank);
        let range = placement.range(layer, part);
        &self.weights()[range.start as usize..range.end as usize]
    }

    /// `tokenizer.json`, if there is one.
    pub fn tokenizer(&self) -> Option<&[u8]> {
        self.bytes(SectionKind::Tokenizer)
    }

    /// The text of the graph the program was made from, if it was kept.
    pub fn graph(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes(SectionKind::Graph)?).ok()
    }

    /// Classes of processors there is code for, in order of the file.
    pub fn classes(&self) -> Vec<&str> {
        self.codes.iter().map(|code| self.sections[code.section].name.as_str()).collect()
    }

    /// Code for a class.
    pub fn image(&self, class: &str) -> Option<Image<'_>> {
        let code = self.codes.iter().find(|code| self.sections[code.section].name == class)?;
        let section = &self.sections[code.section];
        let bytes = &self.map[section.offset as usize..][..section.length as usize];
        Some(Image { class: &section.name, bytes, offset: section.offset, kernels: &code.kernels })
    }

    /// What a device is told to do, if it is for one; checked.
    pub fn plan(&self) -> Option<&CallPlan> {
        self.plan.as_ref()
    }

    /// Compares all weights with their hashes; everything else was compared at opening.
    ///
    /// # Errors
    /// The first damaged piece.
    pub fn verify(&self) -> Result<(), OpenError> {
        (0..self.table.pieces()).try_for_each(|piece| self.check_piece(piece))
    }

    /// Pieces of the weights that a layer of a parameter touches and that were not checked yet.
    pub fn unchecked(&self, parameter: usize, layer: u64) -> impl Iterator<Item = usize> + '_ {
        let placement = &self.table.placements[parameter];
        let [first, last] = [0, placement.parts - 1].map(|part| placement.range(layer, part));
        let pieces = first.start / PIECE..last.end.div_ceil(PIECE);
        let pieces = pieces.start as usize..(pieces.end as usize).min(self.checked.len());
        pieces.filter(|&piece| !self.checked[piece].load(Ordering::Relaxed))
    }

    /// Compares a piece of the weights with its hash, if that was not done before and the check is not off.
    ///
    /// # Errors
    /// When they differ.
    pub fn check_piece_once(&self, piece: usize) -> Result<(), OpenError> {
        if self.checked[piece].load(Ordering::Relaxed) { Ok(()) } else { self.check_piece(piece) }
    }

    /// This process will hardly read a range of the weights again: their pages need not count as its memory. They
    /// come back from the file when they are read nevertheless.
    #[allow(unsafe_code, reason = "gives pages of the map back")]
    pub fn give_back(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            let offset = self.weights.start + range.start;
            // SAFETY: the map is of a file and never written, so pages that are dropped read the same when they come
            // back. A system that refuses keeps them.
            let _ = unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, range.len()) };
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Compares a piece of the weights with its hash.
    ///
    /// # Errors
    /// When they differ.
    pub fn check_piece(&self, piece: usize) -> Result<(), OpenError> {
        if !self.table.piece_is_whole(piece, self.weights()) {
            return Err(OpenError::Damaged {
                path: self.path.display().to_string(),
                section: "weights:shared".to_owned(),
                offset: self.weights.start as u64 + piece as u64 * PIECE,
                reason: "its hash differs".to_owned(),
            });
        }
        let first = !self.checked[piece].swap(true, Ordering::Relaxed);
        let last = first && self.left.fetch_sub(1, Ordering::Relaxed) == 1;
        if let Some(note) = self.note.as_ref().filter(|_| last) {
            // Whoever wrote into the file since it was opened gave it another time than the note says. Who has no place
            // for notes has the weights checked each time, and nothing else to bear.
            let _ = note.write();
        }
        Ok(())
    }

    fn bytes(&self, kind: SectionKind) -> Option<&[u8]> {
        let section = self.sections.iter().find(|section| section.kind == kind)?;
        Some(&self.map[section.offset as usize..][..section.length as usize])
    }
}

/// A mapped file of which nothing is known yet.
struct RawFile {
    path: PathBuf,
    file: File,
    before: Metadata,
    map: Mmap,
}

impl RawFile {
    fn open(path: &Path) -> Result<RawFile, OpenError> {
        let failed = |source| OpenError::Io { path: path.display().to_string(), source };
        // Asked before opening, which would wait for the other end of a pipe.
        if !path.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
        }
        let file = File::open(path).map_err(failed)?;
        let before = file.metadata().map_err(failed)?;
        if before.len() < MAGIC.len() as u64 {
            return Err(OpenError::Foreign { path: path.display().to_string() });
        }
        let map = map_file(&file).map_err(failed)?;
        Ok(RawFile { path: path.to_owned(), file, before, map })
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn truncated(&self, expected: u64) -> OpenError {
        OpenError::Truncated { path: self.name(), expected, found: self.map.len() as u64 }
    }

    fn damaged(&self, section: &str, offset: u64, reason: impl Into<String>) -> OpenError {
        OpenError::Damaged { path: self.name(), section: section.to_owned(), offset, reason: reason.into() }
    }

    fn header(&self) -> Result<Header, OpenError> {
        if !self.map.starts_with(&MAGIC) {
            return Err(OpenError::Foreign { path: self.name() });
        }
        if (self.map.len() as u64) < PAGE {
            return Err(self.truncated(PAGE));
        }
        let number =
            |at: usize| u32::from_le_bytes([self.map[at], self.map[at + 1], self.map[at + 2], self.map[at + 3]]);
        if number(8) != VERSION {
            return Err(OpenError::Version { path: self.name(), found: number(8), expected: VERSION });
        }
        let length = number(12) as usize;
        let bytes = self.map[..PAGE as usize].get(HEADER_START..HEADER_START.saturating_add(length));
        let bytes = bytes.filter(|bytes| sha256(bytes) == self.map[16..HEADER_START]);
        let bytes = bytes.ok_or_else(|| self.damaged("header", 0, "its hash differs"))?;
        let header: Header = decode(bytes).map_err(|reason| self.damaged("header", HEADER_START as u64, reason))?;
        if (self.map.len() as u64) < header.length {
            return Err(self.truncated(header.length));
        }
        if self.map.len() as u64 > header.length {
            let more = self.map.len() as u64 - header.length;
            return Err(self.damaged("end", header.length, format!("{more} bytes follow that are not the artifact's")));
        }
        Ok(header)
    }

    fn check_section(&self, section: &Section) -> Result<(), OpenError> {
        let range = self.range(section)?;
        let whole = match section.sha256 {
            Some(hash) => sha256(&self.map[range]) == hash,
            None => section.kind == SectionKind::Weights,
        };
        if whole { Ok(()) } else { Err(self.damaged(&section.title(), section.offset, "its hash differs")) }
    }

    /// A section's bytes in the file.
    fn range(&self, section: &Section) -> Result<Range<usize>, OpenError> {
        let end = section.offset.checked_add(section.length).filter(|_| section.offset % PAGE == 0);
        let end = end.filter(|end| *end <= self.map.len() as u64);
        let end = end.ok_or_else(|| self.damaged(&section.title(), section.offset, "it lies outside the file"))?;
        Ok(section.offset as usize..end as usize)
    }

    fn find<'a>(&self, header: &'a Header, kind: SectionKind) -> Result<&'a Section, OpenError> {
        let mut found = header.sections.iter().filter(|section| section.kind == kind);
        match (found.next(), found.next()) {
            (Some(section), None) => Ok(section),
            (first, _) => {
                let reason = if first.is_some() { "it is there twice" } else { "it is missing" };
                Err(self.damaged(kind.name(), 0, reason))
            }
        }
    }

    fn decode<T: DeserializeOwned>(&self, section: &Section) -> Result<T, OpenError> {
        let range = self.range(section)?;
        decode(&self.map[range]).map_err(|reason| self.damaged(&section.title(), section.offset, reason))
    }

    /// The plan with its steps, if there is one.
    fn plan(&self, header: &Header) -> Result<Option<CallPlan>, OpenError> {
        if !header.sections.iter().any(|section| section.kind == SectionKind::Plan) {
            return Ok(None);
        }
        let mut plan: CallPlan = self.decode(self.find(header, SectionKind::Plan)?)?;
        let names = plan.section_names();
        for (entry, name) in plan.parts.iter_mut().flat_map(|part| &mut part.entries).zip(&names) {
            let is_its = |section: &&Section| section.kind == SectionKind::PlanSteps && section.name == *name;
            let section = header.sections.iter().find(is_its);
            let missing = || self.damaged(&format!("{}:{name}", SectionKind::PlanSteps.name()), 0, "it is missing");
            entry.steps = self.decode(section.ok_or_else(missing)?)?;
        }
        match check::check(&plan) {
            Ok(()) => Ok(Some(plan)),
            Err(error) => Err(OpenError::Plan { path: self.name(), error }),
        }
    }

    fn codes(&self, header: &Header, program: &Program) -> Result<Vec<Code>, OpenError> {
        let mut codes = Vec::new();
        for (i, section) in header.sections.iter().enumerate().filter(|(_, s)| s.kind == SectionKind::Code) {
            let is_table = |other: &&Section| other.kind == SectionKind::Kernels && other.name == section.name;
            let table = header.sections.iter().find(is_table);
            let missing = || self.damaged(&section.title(), section.offset, "its table of kernels is missing");
            let kernels: Vec<KernelCode> = self.decode(table.ok_or_else(missing)?)?;
            let check = check_code(program, &kernels, section.length);
            check.map_err(|error| OpenError::Program { path: self.name(), error })?;
            codes.push(Code { section: i, kernels });
        }
        Ok(codes)
    }
}

#[allow(unsafe_code, reason = "weights are mapped, not copied: processes on one file share its pages")]
fn map_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read only and private to this crate, which takes bytes from it and assumes nothing of their
    // values. Whoever writes into the file while it is in use changes results ([`Artifact::unchanged`] tells), and ends
    // the process with a bus error by cutting it off, as with any mapped file; the writer renames whole files.
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::adding_program;
    use crate::code::{CodeImage, Phase, SharedScratch, Tiles};
    use crate::weights::plan_weights;
    use crate::writer::{ArtifactWriter, WriteError};
    use std::fs;
    use std::time::Duration;

    fn image() -> CodeImage {
        let main = Phase { offset: 16, tiles: Tiles::fixed(1) };
        let kernel = KernelCode { prepare: None, main, shared: SharedScratch::NONE, local: 0, tile_pieces: 0 };
        CodeImage { class: "x86-64-v3".into(), bytes: vec![0xc3; 40], kernels: vec![kernel] }
    }

    fn write(path: &Path) {
        let program = adding_program();
        let plan = plan_weights(&program).unwrap();
        let mut writer = ArtifactWriter::create(path).unwrap();
        writer.program(&program).unwrap();
        writer.meta(&Meta { vocabulary: 7, ..Meta::default() }).unwrap();
        writer.tokenizer(b"{}").unwrap();
        writer.graph("graph @body").unwrap();
        let fill = |sink: &mut crate::WeightSink<'_>| {
            let slots = plan.slots();
            sink.record(slots[0], &[1; 16])?;
            sink.begin(slots[1])?;
            (0..slots[1].bytes).try_for_each(|i| sink.put(&[i as u8]))
        };
        writer.weights::<WriteError>(&plan, fill).unwrap();
        writer.code(&image()).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.bloom"), folder.path().join("two.bloom"));
        write(&one);
        write(&two);
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
        let artifact = Artifact::open(&one, Check::Full).unwrap();
        assert_eq!(*artifact.program(), adding_program());
        assert_eq!((artifact.meta().vocabulary, artifact.tokenizer()), (7, Some(&b"{}"[..])));
        assert_eq!((artifact.graph(), artifact.classes()), (Some("graph @body"), vec!["x86-64-v3"]));
        assert_eq!((artifact.parameter(0, 0, 0), artifact.parameter(0, 1, 0)[15]), (&[1; 16][..], 15));
        let read = artifact.image("x86-64-v3").unwrap();
        assert_eq!((read.bytes, read.kernels), (&image().bytes[..], &image().kernels[..]));
        assert_eq!(read.offset % PAGE, 0);
    }

    #[test]
    fn an_abandoned_writer_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ArtifactWriter::create(&folder.path().join("a.bloom")).unwrap();
        writer.graph("graph").unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// Everything the artifact holds, for comparing.
    fn contents(artifact: &Artifact) -> (Program, Meta, Vec<u8>, Vec<u8>, Vec<u8>) {
        let code = artifact.image("x86-64-v3").unwrap().bytes.to_vec();
        let tokenizer = artifact.tokenizer().unwrap().to_vec();
        (artifact.program().clone(), artifact.meta().clone(), artifact.weights().to_vec(), code, tokenizer)
    }

    #[test]
    fn a_flipped_byte_is_an_error_or_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bloom");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        let expect = contents(&Artifact::open(&path, Check::Lazy).unwrap());
        let hurt = folder.path().join("b.bloom");
        let mut errors = 0;
        for position in (0..whole.len()).filter(|i| i % 4096 < 100 || i % 41 == 0) {
            let mut bytes = whole.clone();
            bytes[position] ^= 1 << (position % 8);
            std::fs::write(&hurt, &bytes).unwrap();
            match Artifact::open(&hurt, Check::Lazy) {
                Ok(artifact) => assert_eq!(contents(&artifact), expect, "byte {position}"),
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    errors += 1;
                }
            }
        }
        assert!(errors > 300, "{errors}");
    }

    #[test]
    fn every_cut_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bloom");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        for length in (0..whole.len()).filter(|i| i % 4096 < 60 || i % 501 == 0) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(Artifact::open(&path, Check::Lazy).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bloom");
        let error = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Artifact::open(&path, Check::Lazy).unwrap_err().to_string()
        };
        assert!(error(b"GGUF and more").contains("is no bloomery artifact"));
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        assert!(error(&whole[..whole.len() - 1]).contains(&format!("{} bytes expected", whole.len())));
        let mut other = whole.clone();
        other[8] = 9;
        assert!(error(&other).contains(&format!("format version 9, this bloomery reads version {VERSION}")));
        let mut hurt = whole.clone();
        hurt[4096] ^= 1;
        assert!(error(&hurt).contains("damaged: program at byte 4096"));
    }

    #[test]
    fn damaged_weights_are_found_when_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bloom");
        write(&path);
        let offset = Artifact::open(&path, Check::None).unwrap().weights.start;
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[offset] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let artifact = Artifact::open(&path, Check::None).unwrap();
        assert_eq!(artifact.unchecked(0, 0).count(), 0);
        assert!(artifact.verify().unwrap_err().to_string().contains("damaged: weights:shared"));
        assert!(Artifact::open(&path, Check::Full).is_err());
    }

    /// A folder with an artifact, and where notes of it are to lie.
    fn with_notes() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (path, notes) = (folder.path().join("a.bloom"), folder.path().join("notes/checked"));
        write(&path);
        (folder, path, notes)
    }

    /// Opened as a large artifact that has been there for a while.
    fn open_once(path: &Path, notes: &Path) -> Artifact {
        let mut artifact = Artifact::open_unchecked(path).unwrap();
        artifact.begin_check(Check::Once(notes.to_path_buf()), 0, SystemTime::now() + Duration::from_secs(9)).unwrap();
        artifact
    }

    #[cfg(unix)]
    #[test]
    fn what_was_checked_once_is_not_checked_again() {
        let (_folder, path, notes) = with_notes();
        let first = open_once(&path, &notes);
        assert_eq!((first.unchecked(0, 0).count(), notes.exists()), (1, false));
        first.verify().unwrap();
        assert_eq!(fs::read_dir(&notes).unwrap().count(), 1);
        assert_eq!(open_once(&path, &notes).unchecked(0, 0).count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_changed_is_checked_again() {
        use std::os::unix::fs::MetadataExt;
        let (_folder, path, notes) = with_notes();
        open_once(&path, &notes).verify().unwrap();
        let bytes = fs::read(&path).unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        let changed = || fs::metadata(&path).map(|now| (now.ctime(), now.ctime_nsec())).unwrap();
        let before = changed();
        // The clock of a file system ticks every few milliseconds.
        while changed() == before {
            fs::write(&path, &bytes).unwrap();
            File::options().append(true).open(&path).unwrap().set_modified(written).unwrap();
        }
        assert_eq!(open_once(&path, &notes).unchecked(0, 0).count(), 1);
        open_once(&path, &notes).verify().unwrap();
        assert_eq!(open_once(&path, &notes).unchecked(0, 0).count(), 0);
        assert_eq!(fs::read_dir(&notes).unwrap().count(), 1);
        write(&path);
        assert_eq!(open_once(&path, &notes).unchecked(0, 0).count(), 1);
    }

    #[test]
    fn a_new_file_has_no_note_and_damage_leaves_none() {
        let (_folder, path, notes) = with_notes();
        let mut new = Artifact::open_unchecked(&path).unwrap();
        let now = fs::metadata(&path).unwrap().modified().unwrap() + Duration::from_secs(1);
        new.begin_check(Check::Once(notes.clone()), 0, now).unwrap();
        new.verify().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[new.weights.start] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(open_once(&path, &notes).verify().is_err());
        assert!(!notes.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_note_that_is_forgotten_counts_no_more() {
        let (_folder, path, notes) = with_notes();
        open_once(&path, &notes).verify().unwrap();
        assert_eq!(open_once(&path, &notes).unchecked(0, 0).count(), 0);
        crate::note::forget(&path, &notes);
        assert_eq!(open_once(&path, &notes).unchecked(0, 0).count(), 1);
    }

    #[test]
    fn where_no_note_can_be_written_it_is_checked_each_time() {
        let (_folder, path, _) = with_notes();
        let notes = path.join("no folder");
        open_once(&path, &notes).verify().unwrap();
        assert_eq!(open_once(&path, &notes).unchecked(0, 0).count(), 1);
    }
}
