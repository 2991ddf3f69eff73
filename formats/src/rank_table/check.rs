//! What Ascend 910A asks of a rank table, and what to do where that is not so.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::{COMPLETED, DEVICES, Device, RankTable, Server, VERSION};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where, such as `server_list[0].device[3].device_ip`.
    pub place: String,
    /// What.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

/// The length of a server's name at most.
const NAME_MAX: usize = 64;

pub(super) fn problems(table: &RankTable) -> Vec<Problem> {
    let mut found = Found::default();
    head(table, &mut found);
    names(table, &mut found);
    for (i, server) in table.server_list.iter().enumerate() {
        devices(&format!("server_list[{i}]"), server, &mut found);
    }
    counts(table, &mut found);
    addresses(table, &mut found);
    ranks(table, &mut found);
    found.0
}

pub(super) fn notes(table: &RankTable) -> Vec<String> {
    let servers = table.server_list.len();
    let slow = servers > 1 && !servers.is_power_of_two();
    slow.then(|| format!("{servers} servers work, and sums over a power of two of them are faster"))
        .into_iter()
        .collect()
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, place: impl Into<String>, problem: String, fix: impl Into<String>) {
        self.0.push(Problem { place: place.into(), problem, fix: fix.into() });
    }
}

fn head(table: &RankTable, found: &mut Found) {
    let RankTable { version, server_count, status, .. } = table;
    match &**version {
        VERSION => {}
        "" => found.add("version", "there is none".to_owned(), "add \"version\": \"1.0\""),
        "1.2" => {
            let fix = "make a table of version 1.0 with `bloomery ranktable make`";
            found.add("version", "1.2 is that of super-pods, which 910A has not".to_owned(), fix);
        }
        other => found.add("version", format!("{other:?} is not known"), "write \"1.0\""),
    }
    let servers = table.server_list.len();
    if *server_count != servers.to_string() {
        let problem = format!("{server_count:?}, and server_list has {servers}");
        found.add("server_count", problem, format!("write \"{servers}\""));
    }
    if status == "initializing" {
        let fix = "wait until whoever writes it has finished, or write \"completed\"";
        found.add("status", "\"initializing\" says that it is not usable yet".to_owned(), fix);
    } else if status != COMPLETED {
        found.add("status", format!("{status:?} where \"completed\" belongs"), "write \"completed\"");
    }
    if servers == 0 {
        let fix = "make one with `bloomery ranktable make`";
        found.add("server_list", "there is no server".to_owned(), fix);
    }
}

fn names(table: &RankTable, found: &mut Found) {
    let mut seen = BTreeMap::new();
    for (i, server) in table.server_list.iter().enumerate() {
        let (place, name) = (format!("server_list[{i}].server_id"), &server.server_id);
        let length = name.chars().count();
        if length == 0 || length > NAME_MAX {
            let problem = format!("a name of {length} characters");
            found.add(&place, problem, format!("give it one of 1 to {NAME_MAX}, such as the server's address"));
        }
        if let Some(first) = seen.insert(name, i) {
            let problem = format!("{name} is server_list[{first}] already");
            found.add(&place, problem, "give each server a name of its own, or put all its devices into one entry");
        }
    }
}

/// The devices of one server: how many, which, and whether they are on one island.
fn devices(place: &str, server: &Server, found: &mut Found) {
    let count = server.device.len();
    if ![1, 2, 4, 8].contains(&count) {
        let problem = format!("{count} devices on server {}", server.server_id);
        found.add(format!("{place}.device"), problem, "use 1, 2, 4 or 8 of a server");
    }
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    for (j, device) in server.device.iter().enumerate() {
        let at = format!("{place}.device[{j}].device_id");
        match device.device_id.parse::<u32>() {
            Ok(id) if id < DEVICES => {
                if let Some(first) = seen.insert(id, j) {
                    let problem = format!("device {id} is {place}.device[{first}] already");
                    found.add(at, problem, "name each device once");
                }
            }
            _ => {
                let problem = format!("{:?} is no device of a server", device.device_id);
                found.add(at, problem, format!("use 0 to {}", DEVICES - 1));
            }
        }
    }
    let on_first = seen.keys().filter(|id| **id < DEVICES / 2).count();
    if seen.len() == count && [2, 4].contains(&count) && on_first != 0 && on_first != count {
        let ids: Vec<String> = seen.keys().map(u32::to_string).collect();
        let problem = format!("devices {} lie on both islands, 0 to 3 and 4 to 7", ids.join(", "));
        let fix = format!(
            "take {count} of one island, such as {}",
            if on_first * 2 >= count { island(0, count) } else { island(4, count) }
        );
        found.add(format!("{place}.device"), problem, fix);
    }
}

fn island(first: usize, count: usize) -> String {
    (first..first + count).map(|id| id.to_string()).collect::<Vec<_>>().join(", ")
}

fn counts(table: &RankTable, found: &mut Found) {
    let Some(first) = table.server_list.first() else { return };
    for (i, server) in table.server_list.iter().enumerate().skip(1) {
        if server.device.len() != first.device.len() {
            let problem = format!(
                "{} devices on server {}, and {} on server {}",
                server.device.len(),
                server.server_id,
                first.device.len(),
                first.server_id
            );
            found.add(format!("server_list[{i}].device"), problem, "use as many of each server");
        }
    }
}

fn every(table: &RankTable) -> impl Iterator<Item = (String, &Server, &Device)> {
    let servers = table.server_list.iter().enumerate();
    servers.flat_map(|(i, server)| {
        let devices = server.device.iter().enumerate();
        devices.map(move |(j, device)| (format!("server_list[{i}].device[{j}]"), server, device))
    })
}

fn addresses(table: &RankTable, found: &mut Found) {
    let alone = table.ranks() < 2;
    let mut seen: BTreeMap<IpAddr, String> = BTreeMap::new();
    for (place, server, device) in every(table) {
        let at = format!("{place}.device_ip");
        let id = &device.device_id;
        let fix = format!("write what `hccn_tool -i {id} -ip -g` shows on server {}", server.server_id);
        match device.device_ip.as_deref().map(str::parse) {
            None if alone => {}
            None => found.add(at, "there is none".to_owned(), fix),
            Some(Err(_)) => {
                found.add(at, format!("{:?} is no address", device.device_ip.as_deref().unwrap_or_default()), fix);
            }
            Some(Ok(ip)) => {
                if let Some(first) = seen.insert(ip, place.clone()) {
                    found.add(at, format!("{ip} is that of {first} already"), fix);
                }
            }
        }
    }
}

/// Ranks are 0, 1, 2 and so on, each once, those of a server together.
fn ranks(table: &RankTable, found: &mut Found) {
    const FIX: &str = "number the ranks 0, 1, 2, .. in the order of servers; `bloomery ranktable merge` does that";
    let all = table.ranks();
    let mut seen: BTreeMap<usize, String> = BTreeMap::new();
    let mut sound = true;
    for (place, _, device) in every(table) {
        let at = format!("{place}.rank_id");
        let problem = match device.rank_id.parse::<usize>() {
            Ok(rank) if rank < all => match seen.insert(rank, place) {
                Some(first) => format!("rank {rank} is {first} already"),
                None => continue,
            },
            _ => format!("{:?} is no rank of {all}, which are 0 to {}", device.rank_id, all.saturating_sub(1)),
        };
        sound = false;
        found.add(at, problem, FIX);
    }
    if !sound {
        return;
    }
    for (i, server) in table.server_list.iter().enumerate() {
        let ranks = server.device.iter().filter_map(|device| device.rank_id.parse::<usize>().ok());
        let (least, most) = ranks.fold((usize::MAX, 0), |(least, most), rank| (least.min(rank), most.max(rank)));
        if !server.device.is_empty() && most - least + 1 != server.device.len() {
            let problem = format!(
                "{} ranks of server {} lie between {least} and {most}, with other servers' among them",
                server.device.len(),
                server.server_id
            );
            found.add(format!("server_list[{i}].device"), problem, FIX);
        }
    }
}
