//! The picture: a row for each weight, cut where ranks cut it, each piece in the colour of the rank that has it, and beside
//! it in words which dimension is cut. [`table`] says the same as numbers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Exchange, Share, Shares, Slice};
use crate::{Error, Progress, output, write_text};

/// Pixels: of a row, of the names' column, of a weight as a whole, of the words beside it, around all of it.
const ROW: u64 = 22;
const NAMES: u64 = 360;
const WHOLE: u64 = 480;
const WORDS: u64 = 400;
const MARGIN: u64 = 16;
/// Of pieces that are wide enough for a number.
const NUMBERED: u64 = 20;
/// Of a rank in the legend.
const KEY: u64 = 62;

/// The least height of a piece that is seen; below that, those who have the same are drawn as one.
const SEEN: u64 = 3;

/// Colours of ranks, again and again; and of what several of them have, who are named there.
const COLOURS: [&str; 8] = ["#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#e15759", "#9c755f", "#edc948"];
const ALL: &str = "#d8d8d8";

/// Which rank has which slice of each weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drawn {
    /// The picture, if one was written.
    pub output: Option<PathBuf>,
    /// How many ranks there are, in one replica.
    pub ranks: u64,
    /// By name.
    pub parameters: BTreeMap<String, Held>,
}

/// Who has what of a weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    /// What it is as a whole: its type or extents, or how many pieces where no file says the extents.
    pub whole: String,
    /// By rank, for each dimension where the rank's slice begins and ends; ranks without any of it are not there.
    pub ranks: BTreeMap<usize, Vec<[u64; 2]>>,
}

/// The shares of an artifact, or of a strategy's files, as numbers.
pub fn table(shares: &Shares, output: Option<&Path>) -> Drawn {
    let slice = |share: &Share, slice: &Slice| -> Vec<[u64; 2]> {
        let of = |(dim, extent): (usize, &u64)| slice.get(&dim).map_or([0, *extent], |range| [range.start, range.end]);
        share.shape.iter().enumerate().map(of).collect()
    };
    let held = |share: &Share| {
        let ranks = share.slices.iter().enumerate();
        let ranks = ranks.filter_map(|(rank, held)| Some((rank, slice(share, held.as_ref()?)))).collect();
        (share.name.clone(), Held { whole: share.whole.clone(), ranks })
    };
    let parameters = shares.weights.iter().map(held).collect();
    Drawn { output: output.map(Path::to_path_buf), ranks: shares.ranks, parameters }
}

/// Writes the picture.
///
/// # Errors
/// A file of that name, unless it is to be replaced; the file system's refusal.
pub fn write(shares: &Shares, path: &Path, force: bool, progress: &dyn Progress) -> Result<(), Error> {
    output::new(path, force)?;
    write_text(path, &draw(shares), progress)
}

/// The shares of an artifact, or of a strategy's files, as SVG.
pub fn draw(shares: &Shares) -> String {
    let (width, height) = (
        NAMES + WHOLE + WORDS + 2 * MARGIN,
        ROW * (shares.weights.len() + shares.collectives.len() + 4) as u64 + 2 * MARGIN,
    );
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let title = title(shares);
    let _ = writeln!(text, "<text x=\"{MARGIN}\" y=\"{}\" font-weight=\"bold\">{title}</text>", MARGIN + 12);
    let mut rows = String::new();
    for (row, share) in shares.weights.iter().enumerate() {
        let y = MARGIN + ROW * (row as u64 + 3) + 4;
        let (name, words) = (escaped(&share.name), escaped(&words(share)));
        let _ = writeln!(rows, "<text x=\"{MARGIN}\" y=\"{}\">{name}</text>", y + 13);
        let x = MARGIN + NAMES + WHOLE + 10;
        let _ = writeln!(rows, "<text x=\"{x}\" y=\"{}\">{words}</text>", y + 13);
        rows += &pieces(share, y);
    }
    text += &legend(shares, rows.contains(ALL));
    text += &rows;
    for (row, exchange) in shares.collectives.iter().enumerate() {
        let y = MARGIN + ROW * (shares.weights.len() + row + 4) as u64 + 17;
        let Exchange { entry, op, over, ty, times, bytes } = exchange;
        let told = escaped(&format!("{entry}: {op} over {over} of {ty}, {times} times, {bytes} bytes"));
        let _ = writeln!(text, "<text x=\"{MARGIN}\" y=\"{y}\">{told}</text>");
    }
    text + "</svg>\n"
}

fn title(shares: &Shares) -> String {
    let axes: Vec<String> = shares.mesh.iter().map(|(axis, size)| format!("{axis} {size}")).collect();
    let one = match shares.ranks {
        1 => "one rank has every weight".to_owned(),
        ranks => format!("{ranks} ranks ({}): who has what of each weight", axes.join(", ")),
    };
    if shares.replicas > 1 { format!("{} replicas of {one}", shares.replicas) } else { one }
}

/// What colours and stripes mean.
fn legend(shares: &Shares, grey: bool) -> String {
    if shares.ranks == 1 {
        return String::new();
    }
    let mut text = String::new();
    let mut x = MARGIN;
    let y = MARGIN + ROW + 2;
    let mut key = |colour: &str, what: &str, width: u64| {
        let _ = writeln!(text, "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        let _ = writeln!(text, "<text x=\"{}\" y=\"{}\">{what}</text>", x + 16, y + 11);
        x += width;
    };
    let colours = COLOURS.len() as u64;
    for (rank, colour) in (0..shares.ranks).zip(COLOURS) {
        key(colour, &format!("rank {rank}"), KEY);
    }
    if grey {
        key(ALL, "all ranks that are named there", 200);
    }
    let again = if shares.ranks > colours { "ranks from 8 on have the colours again; " } else { "" };
    let told = format!("{again}a piece that several ranks have is striped in their colours; its words say what is cut");
    let _ = writeln!(text, "<text x=\"{MARGIN}\" y=\"{}\">{told}</text>", MARGIN + 2 * ROW + 13);
    text
}

/// `dim 0 in 4 parts, each on 2 ranks, ranks 0 to 7`: what is cut, and who has it.
fn words(share: &Share) -> String {
    let some: Vec<(usize, &Slice)> =
        share.slices.iter().enumerate().filter_map(|(rank, slice)| Some((rank, slice.as_ref()?))).collect();
    let Some((_, first)) = some.first() else { return "no rank has it".to_owned() };
    let ranks: Vec<usize> = some.iter().map(|(rank, _)| *rank).collect();
    let everybody = ranks.len() == share.slices.len();
    if first.is_empty() {
        return if everybody { "whole on every rank".to_owned() } else { format!("whole on {}", listed(&ranks)) };
    }
    let cut = |(dim, range): (&usize, &std::ops::Range<u64>)| match (share.staged, *dim) {
        (true, 0) => "layers by stage".to_owned(),
        _ => format!("dim {dim} in {} parts", share.shape[*dim] / (range.end - range.start).max(1)),
    };
    let mut words: Vec<String> = first.iter().map(cut).collect();
    let same = some.iter().filter(|(_, slice)| slice == first).count();
    words.extend((same > 1).then(|| format!("each on {same} ranks")));
    words.extend((!everybody).then(|| format!("on {}", listed(&ranks))));
    words.join(", ")
}

/// `ranks 0 to 3, 8`.
fn listed(ranks: &[usize]) -> String {
    let runs = ranks.chunk_by(|one, next| one + 1 == *next).map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{} to {}", run[0], run[run.len() - 1]),
    });
    format!("rank{} {}", if ranks.len() == 1 { "" } else { "s" }, runs.collect::<Vec<_>>().join(", "))
}

/// The pieces of a weight: along the first dimension that is cut, in each of these along the next, .. Of a piece that some
/// ranks have, but not all, each is drawn in a part of the row's height.
fn pieces(share: &Share, y: u64) -> String {
    if share.slices.iter().flatten().all(Slice::is_empty) {
        return piece(y, ROW - 4, (0, WHOLE), ALL, &share.whole);
    }
    let mut holders: Vec<(&Slice, Vec<usize>)> = vec![];
    for (rank, slice) in share.slices.iter().enumerate().filter_map(|(rank, slice)| Some((rank, slice.as_ref()?))) {
        match holders.iter_mut().find(|(known, _)| *known == slice) {
            Some((_, ranks)) => ranks.push(rank),
            None => holders.push((slice, vec![rank])),
        }
    }
    let mut text = String::new();
    for (slice, ranks) in holders {
        let (x, end) = place(share, slice);
        let cut = slice.iter().map(|(dim, range)| format!("{}..{} of dimension {dim}", range.start, range.end));
        let what = format!("{} of {}", cut.collect::<Vec<_>>().join(", "), share.whole);
        let height = (ROW - 4) / ranks.len() as u64;
        if height < SEEN {
            let (first, last) = (ranks[0], ranks[ranks.len() - 1]);
            let who = format!("{} ranks, {first} to {last}: {what}", ranks.len());
            text += &piece(y, ROW - 4, (x, end), ALL, &who);
            text += &number(y, (x + end) / 2, &format!("{first}..{last}"), "black");
            continue;
        }
        for (i, rank) in (0..).zip(&ranks) {
            let colour = COLOURS[rank % COLOURS.len()];
            text += &piece(y + i * height, height, (x, end), colour, &format!("rank {rank}: {what}"));
            if end - x >= NUMBERED && ranks.len() == 1 {
                text += &number(y, (x + end) / 2, &rank.to_string(), "white");
            }
        }
    }
    text
}

/// Where a slice begins and ends, in pixels of the whole.
fn place(share: &Share, slice: &Slice) -> (u64, u64) {
    let (mut start, mut width) = (0.0, 1.0);
    for (dim, range) in slice {
        let extent = share.shape[*dim].max(1) as f64;
        start += width * range.start as f64 / extent;
        width *= (range.end - range.start) as f64 / extent;
    }
    let pixels = |part: f64| (part * WHOLE as f64).round() as u64;
    (pixels(start), pixels(start + width))
}

fn piece(y: u64, height: u64, (x, end): (u64, u64), colour: &str, what: &str) -> String {
    let (x, width, what) = (MARGIN + NAMES + x, end - x, escaped(what));
    format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{colour}\" stroke=\"white\">\
         <title>{what}</title></rect>\n"
    )
}

fn number(y: u64, x: u64, rank: &str, colour: &str) -> String {
    let (x, y) = (MARGIN + NAMES + x, y + 13);
    format!("<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\" text-anchor=\"middle\">{rank}</text>\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
