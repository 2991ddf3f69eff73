//! What can be wrong with a data set.

use std::path::PathBuf;

/// Why a file is no sound part of a MindRecord data set, or cannot become one.
#[derive(Debug, thiserror::Error)]
pub enum MindRecordProblem {
    /// Bytes of something else, or a damaged beginning.
    #[error("its header cannot be read: {0}")]
    Header(String),
    /// A version whose rules are not known.
    #[error("it has version {0:?}, where 2.0 and 3.0 are known: write it again with a MindSpore of 2.0 or newer")]
    Version(String),
    /// A column of no known type.
    #[error("its schema cannot be: {0}")]
    Schema(String),
    /// A page that cannot be.
    #[error("page {page} {what}")]
    Page {
        /// Its number.
        page: usize,
        /// What is wrong with it.
        what: String,
    },
    /// An index that SQLite, or this program, refuses.
    #[error("the index cannot be used: {0}")]
    Index(String),
    /// No index.
    #[error("it is missing: every data file needs its index beside it, copy it there too")]
    IndexMissing,
    /// An index of another file.
    #[error(
        "it is the index of {found:?}, and lies beside {expected:?}: files of a data set keep the names they were written with"
    )]
    IndexOf {
        /// The data file it was made for.
        found: String,
        /// The one beside it.
        expected: String,
    },
    /// The index does not fit the data.
    #[error("it has {index} rows, and the data file's pages have {pages}: copy both again")]
    Rows {
        /// Rows of the index.
        index: usize,
        /// Rows of all pages.
        pages: u64,
    },
    /// A file of the set is not there.
    #[error(
        "it belongs to a data set with {shard:?}, which is not beside it: files keep the names they were written with, and move together"
    )]
    ShardMissing {
        /// The missing file.
        shard: String,
    },
    /// A shard with other columns.
    #[error("it has other columns than {}, of the same data set: one of them belongs elsewhere", other.display())]
    Schemas {
        /// The other shard.
        other: PathBuf,
    },
    /// A row that does not decode, counted from 0 in its file.
    #[error("row {row} is damaged: it {what}; copy the file again, or write it anew")]
    Row {
        /// The row.
        row: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A row that cannot be written.
    #[error("row {row} cannot be written: {what}")]
    Unwritable {
        /// The row, from 0.
        row: usize,
        /// What is wrong with it.
        what: String,
    },
    /// More pages than a header can list.
    #[error("{rows} rows are too many for one file: write more shards")]
    TooMany {
        /// How many were to be written.
        rows: usize,
    },
}
