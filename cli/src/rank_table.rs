//! `ranktable`: files that say which device of which server is which rank, made, merged and checked.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bloomery_formats::FormatError;
use bloomery_formats::rank_table::{self, DEVICES, Problem, RankTable};
use serde::Serialize;

use crate::input::read_text;
use crate::{Error, output};

/// Where an Ascend machine keeps its devices' addresses.
pub const HCCN: &str = "/etc/hccn.conf";

/// The table of one server.
#[derive(Clone, Debug)]
pub struct MakeOptions {
    /// Which of its devices.
    pub devices: Devices,
    /// Its address.
    pub server: IpAddr,
    /// The file with its devices' addresses, such as [`HCCN`].
    pub addresses: PathBuf,
    /// Where to; [`RankTable::file_name`] in this folder where nothing is said.
    pub output: Option<PathBuf>,
    /// Whether a file of that name is replaced.
    pub force: bool,
}

/// Some devices of a server: `8` for the first eight, `0,1,4`, or as MindFormers' tool writes it, `[0,8)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices(Vec<u32>);

impl FromStr for Devices {
    type Err = String;

    fn from_str(text: &str) -> Result<Devices, String> {
        let wrong = || format!("`{text}` says no devices: write 8 for the first eight, 0,1,2,3, or [0,8)");
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
        let ids: Vec<u32> = if let Some(range) = text.strip_prefix('[').and_then(|text| text.strip_suffix(')')) {
            let (from, to) = range.split_once(',').ok_or_else(wrong)?;
            (number(from)?..number(to)?.min(DEVICES + 1)).collect()
        } else if text.contains(',') {
            text.split(',').map(number).collect::<Result<_, _>>()?
        } else {
            (0..number(text)?.min(DEVICES + 1)).collect()
        };
        if let Some(id) = ids.iter().find(|id| **id >= DEVICES) {
            return Err(format!("a server has {DEVICES} devices, 0 to {}: there is no {id}", DEVICES - 1));
        }
        let mut seen = BTreeSet::new();
        if let Some(id) = ids.iter().find(|id| !seen.insert(**id)) {
            return Err(format!("device {id} is doubled in `{text}`: name each device once"));
        }
        if ids.is_empty() {
            return Err(wrong());
        }
        Ok(Devices(ids))
    }
}

/// A table that was written.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// The file.
    pub output: PathBuf,
    /// How many servers it has.
    pub servers: usize,
    /// How many ranks.
    pub ranks: usize,
    /// What would be better otherwise.
    pub notes: Vec<String>,
    /// What it says.
    pub table: RankTable,
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Whether nothing is wrong.
    pub sound: bool,
    /// How many servers there are.
    pub servers: usize,
    /// How many ranks.
    pub ranks: usize,
    /// What is wrong, and what to do.
    pub problems: Vec<Problem>,
    /// What would be better otherwise.
    pub notes: Vec<String>,
}

/// Makes the table of one server.
///
/// # Errors
/// Addresses that are missing or wrong, devices that 910A does not take together, a file of that name.
pub fn make(options: &MakeOptions) -> Result<Written, Error> {
    let MakeOptions { addresses: path, output, .. } = options;
    let problem = |problem| Error::Refused(format!("{}: {problem}", path.display()));
    let addresses = rank_table::addresses(&read_text(path)?).map_err(problem)?;
    let table = RankTable::of_server(options.server, &options.devices.0, &addresses).map_err(problem)?;
    written(table, output.as_deref(), options.force)
}

/// Merges the tables of several servers; see [`rank_table::merge`].
///
/// # Errors
/// Files that are no tables of single servers, or do not fit together; a file of that name.
pub fn merge(inputs: &[PathBuf], output: Option<&Path>, force: bool) -> Result<Written, Error> {
    let open = |path: &PathBuf| Ok((path.clone(), RankTable::open(path)?));
    let tables = inputs.iter().map(open).collect::<Result<Vec<_>, FormatError>>()?;
    let merged = rank_table::merge(tables).map_err(|problem| Error::Refused(problem.to_string()))?;
    written(merged, output, force)
}

/// Compares a table with what Ascend 910A asks for.
///
/// # Errors
/// The file is no rank table at all.
pub fn check(path: &Path) -> Result<Checked, Error> {
    let table = RankTable::open(path)?;
    let problems = table.problems();
    Ok(Checked {
        sound: problems.is_empty(),
        servers: table.server_list.len(),
        ranks: table.ranks(),
        problems,
        notes: table.notes(),
    })
}

fn written(table: RankTable, path: Option<&Path>, force: bool) -> Result<Written, Error> {
    let problems = table.problems();
    if let Some(Problem { place, problem, fix }) = problems.first() {
        let more = if problems.len() > 1 { format!(" (and {} more)", problems.len() - 1) } else { String::new() };
        return Err(Error::Refused(format!("Ascend 910A takes no such table: {place}: {problem}; {fix}{more}")));
    }
    let path = path.map_or_else(|| PathBuf::from(table.file_name()), Path::to_path_buf);
    output::new(&path, force)?;
    table.write(&path)?;
    Ok(Written { output: path, servers: table.server_list.len(), ranks: table.ranks(), notes: table.notes(), table })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_a_count_a_list_or_a_range() {
        let ids = |text: &str| text.parse::<Devices>().map(|devices| devices.0);
        assert_eq!(ids("4"), Ok(vec![0, 1, 2, 3]));
        assert_eq!(ids("4,5"), Ok(vec![4, 5]));
        assert_eq!(ids("[0,8)"), Ok((0..8).collect()));
        assert_eq!(ids("[3,4)"), Ok(vec![3]));
        for (text, part) in [
            ("9", "no 8"),
            ("[0,99999999)", "no 8"),
            ("7,8", "no 8"),
            ("0", "says no devices"),
            ("1,1", "device 1 is doubled"),
            ("0,0", "device 0 is doubled"),
            ("[4,4)", "says no"),
            ("a", "says no"),
        ] {
            assert!(ids(text).is_err_and(|error| error.contains(part)), "{text}");
        }
    }
}
