//! `strategy show` for people: tables of at most 80 columns.

use std::fmt::Write;

use bloomery::strategy::{Share, Shares};

use super::{counted, harmless, size};

/// Who has what, and who tells whom.
pub(crate) fn shares(shares: &Shares) -> String {
    let axes: Vec<String> = shares.mesh.iter().map(|(axis, size)| format!("{axis}={size}")).collect();
    let axes = if axes.is_empty() { String::new() } else { format!(" ({})", axes.join(",")) };
    let mut text = format!("{}{axes}\n\n", counted(shares.ranks as usize, "rank"));
    let _ = writeln!(text, "{:<38}{:<26}{:>15}", "weight", "a rank has", "bytes of a rank");
    for share in &shares.weights {
        let _ = writeln!(text, "{:<38}{:<26}{:>15}", share.name, held(share), size(share.rank_bytes));
    }
    let total = shares.weights.iter().map(|share| share.rank_bytes).sum();
    let _ = writeln!(text, "{:<38}{:<26}{:>15}", "all", "", size(total));
    if !shares.collectives.is_empty() {
        text += "\nin a step of one token, and for its scores\n";
    }
    for exchange in &shares.collectives {
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
    harmless(&text)
}

/// `1/4 of dimension 2 (1024)`
fn held(share: &Share) -> String {
    let Some(first) = share.slices.first().filter(|slice| !slice.is_empty()) else { return "all".to_owned() };
    let of = |(dim, range): (&usize, &std::ops::Range<u64>)| {
        let whole = share.shape[*dim];
        format!("1/{} of dim {dim} ({whole})", whole / (range.end - range.start).max(1))
    };
    first.iter().map(of).collect::<Vec<_>>().join(", ")
}
