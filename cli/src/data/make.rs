//! `data make`: an instruction set becomes a data set.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use bloomery_artifact::{Artifact, Check};
use bloomery_formats::Kind;
use bloomery_formats::mindrecord::{self, Writer};
use bloomery_models::config::BloomConfig;
use bloomery_models::tokenizer::Tokenizer;
use serde::Serialize;

pub use super::rows::Layout;
pub use super::sample::Form;

use super::records::{self, Numbered, Record};
use super::rows::Rows;
use super::sample::{Sample, sample};
use crate::compile::in_order::in_order;
use crate::inspect::is_artifact;
use crate::tokenize::tokenizer_of;
use crate::{Error, Progress, find, output};

/// What becomes of which instruction set.
#[derive(Clone, Debug)]
pub struct DataOptions {
    /// A JSON array of records, or a record a line; perhaps gzipped.
    pub input: PathBuf,
    /// The data set: its file, or the beginning of its files' names.
    pub output: PathBuf,
    /// The model's folder, or anything with its tokenizer.
    pub tokenizer: PathBuf,
    /// What is put around records; by their kind where nothing is said.
    pub form: Option<Form>,
    /// How long sequences are.
    pub seq_length: usize,
    /// How many records, from the first on; all where nothing is said.
    pub records: Option<usize>,
    /// How many files.
    pub shards: usize,
    /// How rows are laid out.
    pub layout: Layout,
    /// Whether bad records are left out.
    pub skip_bad: bool,
    /// Whether files of that name are replaced, and with one all others of its data set.
    pub force: bool,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Made {
    /// The data files.
    pub files: Vec<PathBuf>,
    /// Further data files of the data set that was replaced, which are gone.
    pub removed: Vec<PathBuf>,
    /// Rows in them.
    pub rows: usize,
    /// Ids of a row.
    pub row_length: usize,
    /// Samples in the rows.
    pub samples: usize,
    /// Bad records that were left out.
    pub skipped: usize,
    /// Samples that did not fit into a row with their end, if only that is lost.
    pub cut: usize,
    /// Of these, samples whose answer did not fit at all.
    pub unanswered: usize,
    /// Ids that are no padding.
    pub tokens: u64,
    /// The share of all ids that are padding.
    pub padding: f64,
    /// How many samples are how long before they are cut, without their end.
    pub lengths: Vec<Bin>,
}

/// A range of lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// The shortest.
    pub from: usize,
    /// The longest.
    pub to: usize,
    /// Samples of these lengths.
    pub samples: usize,
}

/// Writes a data set.
///
/// # Errors
/// A file that cannot be read or is no instruction set, a bad record, a tokenizer that is not the model's, a target that
/// is there or cannot be written; an interruption. No file is left then.
pub fn make(options: &DataOptions, progress: &mut dyn Progress) -> Result<Made, Error> {
    for file in mindrecord::names(&options.output, options.shards) {
        output::new(&file, options.force)?;
        if output::is_same(&file, &options.input) {
            return Err(Error::Refused(format!(
                "{} is the instruction set itself: name another output",
                file.display()
            )));
        }
        output::new(&mindrecord::index_of(&file), options.force)?;
    }
    let replaced = replaced(options);
    let total = bloomery_formats::map::open(&options.input)?.metadata().map_or(0, |metadata| metadata.len());
    let (tokenizer, end) = tokenizer(options)?;
    let mut writer = Writer::begin(&options.output, Rows::schema(options.layout), options.shards)?;
    let mut counts = Counts::new(options, end);
    progress.begin("make data", total);
    let (read, mut told) = (AtomicU64::new(0), 0);
    let (sender, receiver) = sync_channel(2);
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_all(options, &read, sender));
        let batches = receiver.into_iter().map(|batch: Batch| (batch, 0));
        let taken = in_order(
            batches,
            |batch| batch.into_iter().map(|one| tokenized(one, options.form, &tokenizer)).collect::<Vec<_>>(),
            |batch| {
                progress.go_on()?;
                let read = read.load(Ordering::Relaxed);
                progress.advance(read - std::mem::replace(&mut told, read));
                batch.into_iter().try_for_each(|one| counts.take(one, &mut writer))
            },
        );
        // An error of what was taken made the reader stop; its own comes after all that it had read.
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        taken.and(read)
    })?;
    let mut made = counts.finish(&mut writer)?;
    if !writer.finish(&|| progress.interrupted())? {
        return Err(Error::Interrupted);
    }
    remove(&replaced)?;
    made.removed = replaced;
    progress.end(&format!("{} rows", made.rows));
    Ok(made)
}

/// Further data files of older data sets of which a file is replaced: without that they are whole no more.
fn replaced(options: &DataOptions) -> Vec<PathBuf> {
    let new = mindrecord::names(&options.output, options.shards);
    let older: BTreeSet<PathBuf> = new.iter().flat_map(|file| mindrecord::set_of(file)).collect();
    older.into_iter().filter(|file| !new.contains(file)).collect()
}

/// Removes data files and their indices.
fn remove(files: &[PathBuf]) -> Result<(), Error> {
    for file in files {
        fs::remove_file(file).map_err(Error::io("remove", file))?;
        let index = mindrecord::index_of(file);
        if Kind::of(&index).is_ok_and(|kind| kind == Some(Kind::Database)) {
            fs::remove_file(&index).map_err(Error::io("remove", &index))?;
        }
    }
    Ok(())
}

/// Records that go to a thread together.
type Batch = Vec<Numbered>;

/// Sizes of a batch: so many records, and so many bytes of text.
const BATCH: (usize, usize) = (256, 1 << 18);

/// Reads records and sends them on, until there are enough or nobody listens any more.
fn read_all(options: &DataOptions, read: &AtomicU64, sender: SyncSender<Batch>) -> Result<(), Error> {
    let (mut batch, mut bytes) = (Batch::new(), 0);
    let mut left = options.records.unwrap_or(usize::MAX);
    if left == 0 {
        return Ok(());
    }
    records::each(&options.input, read, &mut |one| {
        bytes += one.record.as_ref().map_or(0, size);
        // Of bad records there may be any number where they are left out.
        left -= usize::from(one.record.is_ok() || !options.skip_bad);
        batch.push(one);
        let full = batch.len() >= BATCH.0 || bytes >= BATCH.1;
        let sent = !full || sender.send(std::mem::take(&mut batch)).is_ok();
        bytes = if full { 0 } else { bytes };
        sent && left > 0
    })?;
    let _ = sender.send(batch);
    Ok(())
}

fn size(record: &Record) -> usize {
    match record {
        Record::Instruction { instruction, input, output } => {
            instruction.len() + input.as_ref().map_or(0, String::len) + output.len()
        }
        Record::Conversation(turns) => turns.iter().map(|(question, answer)| question.len() + answer.len()).sum(),
    }
}

/// A sample, or what is wrong with its record; and which record that is.
type Tokenized = (usize, Result<Result<Sample, Error>, String>);

fn tokenized(one: Numbered, form: Option<Form>, tokenizer: &Tokenizer) -> Tokenized {
    (one.number, one.record.map(|record| sample(&record, form, tokenizer)))
}

/// What was laid out so far.
struct Counts<'a> {
    options: &'a DataOptions,
    rows: Rows,
    written: usize,
    samples: usize,
    skipped: usize,
    /// The first bad record.
    bad: Option<String>,
    /// Samples by the bits of their length.
    lengths: [usize; 65],
}

impl<'a> Counts<'a> {
    fn new(options: &'a DataOptions, end: u32) -> Counts<'a> {
        let rows = Rows::new(options.layout, options.seq_length, end);
        Counts { options, rows, written: 0, samples: 0, skipped: 0, bad: None, lengths: [0; 65] }
    }

    fn take(&mut self, (number, one): Tokenized, writer: &mut Writer) -> Result<(), Error> {
        let sample = match one {
            Ok(sample) => sample?,
            Err(what) => {
                let message = format!("{}: row {number} {what}", self.options.input.display());
                if !self.options.skip_bad {
                    return Err(Error::Refused(format!("{message}; --skip-bad leaves such rows out, and counts them")));
                }
                self.skipped += 1;
                self.bad.get_or_insert(message);
                return Ok(());
            }
        };
        self.samples += 1;
        self.lengths[(usize::BITS - sample.len().leading_zeros()) as usize] += 1;
        self.write(|rows| rows.push(&sample), writer)
    }

    fn write(
        &mut self,
        row: impl FnOnce(&mut Rows) -> Option<mindrecord::Row>,
        writer: &mut Writer,
    ) -> Result<(), Error> {
        let Some(row) = row(&mut self.rows) else { return Ok(()) };
        self.written += 1;
        Ok(writer.push(&row)?)
    }

    fn finish(mut self, writer: &mut Writer) -> Result<Made, Error> {
        self.write(Rows::finish, writer)?;
        if self.samples == 0 {
            let why = self.bad.map_or(String::new(), |bad| format!(": {bad}, and so on"));
            return Err(Error::Refused(format!("{} gives no sample{why}", self.options.input.display())));
        }
        let all = (self.written * self.rows.length()) as u64;
        let bins = self.lengths.iter().enumerate().filter(|(_, samples)| **samples > 0);
        let bins = bins.map(|(bits, samples)| {
            let (from, to) = if bits == 0 { (0, 0) } else { (1 << (bits - 1), (1 << bits) - 1) };
            Bin { from, to, samples: *samples }
        });
        Ok(Made {
            files: writer.files().to_vec(),
            removed: Vec::new(),
            rows: self.written,
            row_length: self.rows.length(),
            samples: self.samples,
            skipped: self.skipped,
            cut: self.rows.cut,
            unanswered: self.rows.unanswered,
            tokens: self.rows.tokens,
            padding: (all - self.rows.tokens) as f64 / all as f64,
            lengths: bins.collect(),
        })
    }
}

/// The tokenizer, and the id that ends texts.
fn tokenizer(options: &DataOptions) -> Result<(Tokenizer, u32), Error> {
    let path = &*find::local(&options.tokenizer)?;
    let tokenizer = tokenizer_of(path)?;
    let config = config(path)?;
    let ids = tokenizer.end();
    if let Some(config) = config.as_ref().filter(|config| config.vocab < ids) {
        return Err(Error::Refused(format!(
            "the tokenizer of {} has ids up to {}, and the model there a vocabulary of {}: one of them is another model's",
            path.display(),
            ids - 1,
            config.vocab
        )));
    }
    let said = config.and_then(|config| config.special.eos.first().copied());
    let Some(end) = said.or_else(|| tokenizer.id("</s>")) else {
        let what = "has no token </s>, and no config.json beside it says which id ends texts (eos_token_id)";
        return Err(Error::Refused(format!("the tokenizer of {} {what}", path.display())));
    };
    match options.layout {
        Layout::MindFormers => Ok((tokenizer.as_mindformers()?, end)),
        Layout::One | Layout::Packed => Ok((tokenizer, end)),
    }
}

/// The settings of the model whose tokenizer it is, where they are there.
fn config(path: &Path) -> Result<Option<BloomConfig>, Error> {
    if is_artifact(path) {
        let artifact = Artifact::open(path, Check::None)?;
        return Ok(serde_json::from_str(&artifact.meta().config).ok());
    }
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let there = folder.join("config.json").exists();
    Ok(if there { Some(BloomConfig::from_folder(folder)?) } else { None })
}
