//! `bench --limits`: what this machine can do at most, whatever the model.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bloomery_formats::map;
use bloomery_runtime::executor::default_threads;
use bloomery_runtime::limits::{Limit, LimitOptions, measure};
use serde::Serialize;

use crate::execution::check_threads;
use crate::{Error, Progress};

/// What to measure.
#[derive(Clone, Debug)]
pub struct LimitsOptions {
    /// Most threads, one per processor by default; one is always measured too.
    pub threads: Option<usize>,
    /// A file to be mapped and read; without one a temporary file is written for it.
    pub file: Option<PathBuf>,
    /// How often to measure each limit.
    pub repeats: usize,
}

/// What this machine can do at most.
#[derive(Clone, Debug, Serialize)]
pub struct MachineLimits {
    /// Each for one thread, and for all.
    pub limits: Vec<MachineLimit>,
    /// The share of memory that the kernel put on huge pages when asked, 0 to 1.
    pub huge_pages_share: f64,
    /// What a reader must know of the figures.
    pub notes: Vec<String>,
}

/// One limit.
#[derive(Clone, Debug, Serialize)]
pub struct MachineLimit {
    /// What was measured.
    pub name: &'static str,
    /// How many threads did it together.
    pub threads: usize,
    /// The best of the repeats.
    pub best: f64,
    /// The median of the repeats.
    pub median: f64,
    /// GB/s, GFLOP/s, or GOP/s of integers; all threads together.
    pub unit: &'static str,
}

/// Bytes to read: several times any cache that one core may fill alone.
const BYTES: usize = 512 << 20;
/// About how long one repeat of a loop takes.
const REPEAT: Duration = Duration::from_millis(50);

/// Measures.
///
/// # Errors
/// No memory, a file that cannot be mapped.
pub fn limits(options: &LimitsOptions, progress: &mut dyn Progress) -> Result<MachineLimits, Error> {
    check_threads(options.threads)?;
    let mut notes = Vec::new();
    let file = match &options.file {
        Some(path) => Some(map::open(path)?),
        None => temporary(&mut notes),
    };
    let threads = options.threads.unwrap_or_else(default_threads);
    let what = LimitOptions { threads, bytes: BYTES, repeats: options.repeats, repeat: REPEAT };
    progress.begin("limits", 0);
    let place = options.file.as_deref().unwrap_or(Path::new("memory"));
    let measured = measure(&what, file.as_ref(), &mut |_| progress.advance(0)).map_err(Error::io("map", place))?;
    progress.end(&format!("{} figures, {} repeats each", measured.limits.len(), options.repeats));
    if measured.huge_share < 0.9 {
        let percent = measured.huge_share * 100.0;
        notes.push(format!(
            "read_huge_pages: the kernel put only {percent:.0} % of the memory on huge pages (see /sys/kernel/mm/transparent_hugepage/enabled)"
        ));
    }
    if !measured.tiles {
        notes.push("no tiles: the processor has no AMX, or the kernel does not grant it".to_owned());
    }
    let limits = measured.limits.into_iter().map(machine_limit).collect();
    Ok(MachineLimits { limits, huge_pages_share: measured.huge_share, notes })
}

fn machine_limit(limit: Limit) -> MachineLimit {
    let Limit { name, threads, unit, best, median } = limit;
    MachineLimit { name, threads, best, median, unit }
}

/// A file without a name, full of bytes; where there is no room, what to do about it.
fn temporary(notes: &mut Vec<String>) -> Option<File> {
    let write = || {
        let mut file = tempfile::tempfile()?;
        let block = vec![1; 1 << 20];
        (0..BYTES / block.len()).try_for_each(|_| file.write_all(&block))?;
        Ok::<File, std::io::Error>(file)
    };
    let folder = std::env::temp_dir();
    match write() {
        Ok(file) => {
            notes.push(format!("read_mapped_file: a temporary file in {}; name a FILE to read that", folder.display()));
            Some(file)
        }
        Err(error) => {
            notes.push(format!(
                "read_mapped_file is left out, {} takes no file of {BYTES} bytes: {error}; name a FILE",
                folder.display()
            ));
            None
        }
    }
}
