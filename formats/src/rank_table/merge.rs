//! One table of several servers', each of which made its own.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use super::{RankTable, RankTableProblem, Server};

/// Joins the tables of single servers: servers in the order people count in (`192.168.0.2` before `192.168.0.10`), ranks
/// numbered anew, on each server in the order they had.
///
/// # Errors
/// A table that was merged already, such as the result of an earlier call; a server that is in two of them.
pub fn merge(tables: Vec<(PathBuf, RankTable)>) -> Result<RankTable, RankTableProblem> {
    let mut servers = tables.into_iter().map(server).collect::<Result<Vec<_>, _>>()?;
    servers.sort_by(|(_, a), (_, b)| natural(&a.server_id, &b.server_id));
    for pair in servers.windows(2) {
        if let [(first, a), (second, b)] = pair {
            if a.server_id == b.server_id {
                let (server, first, second) = (a.server_id.clone(), first.clone(), second.clone());
                return Err(RankTableProblem::ServerTwice { server, first, second });
            }
        }
    }
    let mut servers: Vec<Server> = servers.into_iter().map(|(_, server)| server).collect();
    if servers.is_empty() {
        return Err(RankTableProblem::Nothing);
    }
    for (rank, device) in servers.iter_mut().flat_map(|server| &mut server.device).enumerate() {
        device.rank_id = rank.to_string();
    }
    Ok(RankTable::of_servers(servers))
}

/// The one server of a table, its devices in the order of their ranks.
fn server((path, table): (PathBuf, RankTable)) -> Result<(PathBuf, Server), RankTableProblem> {
    let servers = table.server_list.len();
    // Counted by both, since a merged table whose list was cut is none of a single server either.
    let counted = table.server_count.parse().unwrap_or(servers);
    if servers.max(counted) > 1 {
        return Err(RankTableProblem::Merged { path, servers: servers.max(counted) });
    }
    let Some(mut server) = table.server_list.into_iter().next() else {
        return Err(RankTableProblem::Empty { path });
    };
    let ranks = server.device.iter().map(|device| rank(&path, &device.device_id, &device.rank_id));
    let ranks = ranks.collect::<Result<Vec<u64>, _>>()?;
    let mut devices: Vec<_> = ranks.into_iter().zip(std::mem::take(&mut server.device)).collect();
    devices.sort_by_key(|(rank, _)| *rank);
    server.device = devices.into_iter().map(|(_, device)| device).collect();
    Ok((path, server))
}

fn rank(path: &Path, device: &str, rank: &str) -> Result<u64, RankTableProblem> {
    rank.parse().map_err(|_| RankTableProblem::Rank {
        path: path.to_path_buf(),
        device: device.to_owned(),
        rank: rank.to_owned(),
    })
}

/// Texts as people sort them: digits by the number they are.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let order = match (left.chars().next(), right.chars().next()) {
            (None, _) | (_, None) => return left.len().cmp(&right.len()).then(a.cmp(b)),
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (x, y) = (digits(&mut left), digits(&mut right));
                x.len().cmp(&y.len()).then(x.cmp(y))
            }
            (Some(x), Some(y)) => {
                (left, right) = (&left[x.len_utf8()..], &right[y.len_utf8()..]);
                x.cmp(&y)
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Takes the digits that a text begins with, without zeros before them.
fn digits<'a>(text: &mut &'a str) -> &'a str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits.trim_start_matches('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_comes_after_two() {
        let mut names = ["node_10", "192.168.1.10", "node_2", "192.168.1.2", "192.168.1.02", "node", "nöde_1"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["192.168.1.02", "192.168.1.2", "192.168.1.10", "node", "node_2", "node_10", "nöde_1"]);
    }
}
