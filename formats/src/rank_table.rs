//! Rank tables of Ascend machines: which device of which server is which rank, and at what address.
//!
//! The file is JSON of version 1.0, all of whose values are strings. [`RankTable`] is what it says, [`RankTable::of_server`]
//! makes one for a server, [`merge`] joins those of several servers, and [`RankTable::problems`] compares one with what the
//! Ascend 910A asks for, each with its way out. Who runs on those ranks is not known here.

mod check;
mod merge;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{FormatError, Partial, map};

pub use check::Problem;
pub use merge::merge;

/// Devices a server has, numbered from 0.
pub const DEVICES: u32 = 8;

/// The version that is written, and the only one that 910A has.
const VERSION: &str = "1.0";

/// The status of a table that may be used.
const COMPLETED: &str = "completed";

/// What a file says; keys of other writers are kept as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankTable {
    /// `1.0`.
    #[serde(default)]
    pub version: String,
    /// How many servers follow.
    #[serde(default)]
    pub server_count: String,
    /// The servers, in the order of their ranks.
    pub server_list: Vec<Server>,
    /// `completed`, or what still happens to it.
    #[serde(default)]
    pub status: String,
    /// What else stands there.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name, mostly its address.
    pub server_id: String,
    /// Its devices that take part.
    pub device: Vec<Device>,
    /// What else stands there, such as `host_nic_ip`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its number in its server.
    pub device_id: String,
    /// The address of its own network card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_ip: Option<String>,
    /// Its number among all.
    pub rank_id: String,
    /// What else stands there.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl RankTable {
    /// The table of one server: its devices become ranks in the order they are given.
    ///
    /// # Errors
    /// A device without an address.
    pub fn of_server(
        server: IpAddr,
        devices: &[u32],
        addresses: &BTreeMap<u32, IpAddr>,
    ) -> Result<RankTable, RankTableProblem> {
        let device = |(rank, id): (usize, &u32)| {
            let has = || addresses.keys().map(u32::to_string).collect::<Vec<_>>().join(", ");
            let ip = addresses.get(id).ok_or_else(|| RankTableProblem::NoAddress { device: *id, has: has() })?;
            Ok(Device {
                device_id: id.to_string(),
                device_ip: Some(ip.to_string()),
                rank_id: rank.to_string(),
                more: Map::new(),
            })
        };
        let device = devices.iter().enumerate().map(device).collect::<Result<_, _>>()?;
        // The key is asked for by some versions, which then do nothing with it.
        let more = Map::from_iter([("host_nic_ip".to_owned(), Value::from("reserve"))]);
        Ok(RankTable::of_servers(vec![Server { server_id: server.to_string(), device, more }]))
    }

    /// A complete table.
    fn of_servers(server_list: Vec<Server>) -> RankTable {
        RankTable {
            version: VERSION.to_owned(),
            server_count: server_list.len().to_string(),
            server_list,
            status: COMPLETED.to_owned(),
            more: Map::new(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no rank table.
    pub fn open(path: &Path) -> Result<RankTable, FormatError> {
        RankTable::parse(&map::read(path)?)
            .map_err(|problem| FormatError::RankTable { path: path.to_path_buf(), problem })
    }

    /// Reads a text.
    ///
    /// # Errors
    /// It is no rank table.
    pub fn parse(bytes: &[u8]) -> Result<RankTable, RankTableProblem> {
        serde_json::from_slice(bytes).map_err(|error| {
            let numbers = error.to_string().contains("expected a string");
            let way_out = if numbers { "; all values are strings there, write \"0\" and not 0" } else { "" };
            RankTableProblem::Json(format!("{error}{way_out}"))
        })
    }

    /// Whether a JSON document is meant as a rank table.
    pub fn is_one(json: &Value) -> bool {
        json.get("server_list").is_some()
    }

    /// Writes a file, which is there when it is complete.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn write(&self, path: &Path) -> Result<(), FormatError> {
        let failed = |source| FormatError::Io { action: "write", path: path.to_path_buf(), source };
        let mut partial = Partial::begin(path).map_err(failed)?;
        partial.write_all(self.text().as_bytes()).map_err(failed)?;
        partial.complete().map_err(failed)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("tables are plain data") + "\n"
    }

    /// How many ranks there are.
    pub fn ranks(&self) -> usize {
        self.server_list.iter().map(|server| server.device.len()).sum()
    }

    /// The name that MindFormers' tools give to such a file: `hccl_8p_01234567_192.168.0.1.json`, merged `hccl_2s_16p.json`.
    pub fn file_name(&self) -> String {
        match &self.server_list[..] {
            [one] => {
                let ids: String = one.device.iter().map(|device| &*device.device_id).collect();
                format!("hccl_{}p_{ids}_{}.json", one.device.len(), one.server_id)
            }
            several => format!("hccl_{}s_{}p.json", several.len(), self.ranks()),
        }
    }

    /// What keeps the table from being used on Ascend 910A.
    pub fn problems(&self) -> Vec<Problem> {
        check::problems(self)
    }

    /// What would be better otherwise, and works.
    pub fn notes(&self) -> Vec<String> {
        check::notes(self)
    }
}

/// The addresses of devices in a text: lines of `/etc/hccn.conf` (`address_0=192.168.100.101`), a number and an address
/// (`0 192.168.100.101`, with `:`, `=` or `,` between them as well), or addresses alone, which are those of devices 0, 1, and so on.
///
/// # Errors
/// A line that is neither, or a device that has two addresses.
pub fn addresses(text: &str) -> Result<BTreeMap<u32, IpAddr>, RankTableProblem> {
    let mut found = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let other_key = line.split('=').next().is_some_and(|key| {
            let key = key.trim();
            key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.contains('_') && !key.starts_with("address_")
        });
        if line.is_empty() || other_key {
            continue;
        }
        let wrong = || RankTableProblem::Address { line: number + 1, text: line.to_owned() };
        let (device, ip) = match line.parse::<IpAddr>() {
            Ok(ip) => (found.len() as u32, ip),
            Err(_) => {
                let line = line.strip_prefix("address_").unwrap_or(line);
                let (device, ip) = line.split_once([' ', '\t', '=', ':', ',']).ok_or_else(wrong)?;
                let ip = ip.trim_matches([' ', '\t', '=', ':', ',']);
                (device.parse().map_err(|_| wrong())?, ip.parse().map_err(|_| wrong())?)
            }
        };
        if let Some(first) = found.insert(device, ip) {
            return Err(RankTableProblem::AddressTwice { device, first, second: ip });
        }
    }
    Ok(found)
}

/// Why something is no rank table, or none can be made.
#[derive(Debug, thiserror::Error)]
pub enum RankTableProblem {
    /// Text of something else.
    #[error("{0}")]
    Json(String),
    /// A line that says no address.
    #[error("line {line}, {text:?}, says no device's address: write `address_0=192.168.100.101`, or the address alone")]
    Address {
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// Two lines about one device.
    #[error("device {device} has two addresses, {first} and {second}: leave one of them")]
    AddressTwice {
        /// The device.
        device: u32,
        /// The one before.
        first: IpAddr,
        /// The one after.
        second: IpAddr,
    },
    /// A device that nothing is said of.
    #[error(
        "device {device} has no address: add the line `address_{device}=..` (the file has those of {has}), as \
         `hccn_tool -i {device} -ip -g` shows it"
    )]
    NoAddress {
        /// The device.
        device: u32,
        /// Those that have one.
        has: String,
    },
    /// A table of several servers where one server's belongs.
    #[error("{} has {servers} servers, so it was merged already: give the tables of single servers, and leave it out", path.display())]
    Merged {
        /// The file.
        path: PathBuf,
        /// How many.
        servers: usize,
    },
    /// Nothing to merge.
    #[error("there is no table to merge: give those of single servers")]
    Nothing,
    /// One server in two files.
    #[error("server {server} is in {} and in {}: leave one of them out", first.display(), second.display())]
    ServerTwice {
        /// The server.
        server: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A rank that is no number, so that its place is not known.
    #[error("{}: device {device} has rank_id {rank:?}, which is no number: `bloomery ranktable check` shows all that is wrong", path.display())]
    Rank {
        /// The file.
        path: PathBuf,
        /// The device.
        device: String,
        /// What stands there.
        rank: String,
    },
    /// A table without servers.
    #[error("{} has no server: make it again with `bloomery ranktable make`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests;
