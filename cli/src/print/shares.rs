//! `strategy show` for people: tables of at most 80 columns.

use std::fmt::Write;
use std::ops::Range;

use bloomery::strategy::{Exchange, Share, Shares};

use super::{counted, harmless, size};

/// Who has what, and who tells whom.
pub(crate) fn shares(shares: &Shares) -> String {
    let axes: Vec<String> = shares.mesh.iter().map(|(axis, size)| format!("{axis}={size}")).collect();
    let axes = if axes.is_empty() { String::new() } else { format!(" ({})", axes.join(",")) };
    let replicas = if shares.replicas > 1 { format!("{} replicas of ", shares.replicas) } else { String::new() };
    let mut text = format!("{replicas}{}{axes}\n\n", counted(shares.ranks as usize, "rank"));
    let _ = writeln!(text, "{:<38}{:<26}{:>15}", "weight", "a rank has", "bytes of a rank");
    for share in &shares.weights {
        let most = share.rank_bytes.iter().copied().max().unwrap_or(0);
        let _ = writeln!(text, "{:<38}{:<26}{:>15}", share.name, held(share), size(most));
    }
    for (ranks, total) in totals(shares) {
        let everybody = ranks == (0..shares.ranks);
        let of = if everybody { "all".to_owned() } else { format!("all, ranks {}..{}", ranks.start, ranks.end) };
        let _ = writeln!(text, "{of:<38}{:<26}{:>15}", "", size(total));
    }
    text += &exchanges(&shares.collectives);
    harmless(&text)
}

/// Who tells whom, under a line of its own.
pub(super) fn exchanges(collectives: &[Exchange]) -> String {
    let mut text = String::new();
    if !collectives.is_empty() {
        text += "\nin a step of one token, and for its scores\n";
    }
    for exchange in collectives {
        let what = format!("{} over {}", exchange.op, exchange.over);
        let _ = writeln!(
            text,
            "  {:<12}{what:<24}{:<18}{:>5} times{:>13}",
            exchange.entry,
            exchange.ty,
            exchange.times,
            size(exchange.bytes)
        );
    }
    text
}

/// What ranks have of all weights, neighbours with equally much together.
fn totals(shares: &Shares) -> Vec<(Range<u64>, u64)> {
    let mut totals: Vec<(Range<u64>, u64)> = Vec::new();
    for rank in 0..shares.ranks {
        let total = shares.weights.iter().map(|share| share.rank_bytes[rank as usize]).sum();
        match totals.last_mut() {
            Some((ranks, known)) if *known == total => ranks.end = rank + 1,
            _ => totals.push((rank..rank + 1, total)),
        }
    }
    totals
}

/// `1/4 of dim 2 (1024)`, as the first rank that has any of it does.
fn held(share: &Share) -> String {
    let Some(first) = share.slices.iter().flatten().next().filter(|slice| !slice.is_empty()) else {
        return "all".to_owned();
    };
    let of = |(dim, range): (&usize, &std::ops::Range<u64>)| {
        let whole = share.shape[*dim];
        format!("1/{} of dim {dim} ({whole})", whole / (range.end - range.start).max(1))
    };
    first.iter().map(of).collect::<Vec<_>>().join(", ")
}
