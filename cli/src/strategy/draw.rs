//! The picture: a row for each weight, cut where ranks cut it, each piece in the colour of the rank that has it.

use std::fmt::Write;

use super::{Exchange, Share, Shares, Slice};

/// Pixels: of a row, of the names' column, of a weight as a whole, around all of it.
const ROW: u64 = 22;
const NAMES: u64 = 310;
const WHOLE: u64 = 480;
const MARGIN: u64 = 16;
/// Of pieces that are wide enough for a number.
const NUMBERED: u64 = 20;

/// The least height of a piece that is seen; below that, those who have the same are drawn as one.
const SEEN: u64 = 3;

/// Colours of ranks, again and again; and of what all of them have.
const COLOURS: [&str; 8] = ["#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#e15759", "#9c755f", "#edc948"];
const ALL: &str = "#d8d8d8";

/// The shares of an artifact as SVG.
pub fn draw(shares: &Shares) -> String {
    let (width, height) =
        (NAMES + WHOLE + 2 * MARGIN, ROW * (shares.weights.len() + shares.collectives.len() + 2) as u64 + 2 * MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let title = title(shares);
    let _ = writeln!(text, "<text x=\"{MARGIN}\" y=\"{}\" font-weight=\"bold\">{title}</text>", MARGIN + 12);
    for (row, share) in shares.weights.iter().enumerate() {
        let y = MARGIN + ROW * (row as u64 + 1) + 4;
        let name = escaped(&share.name);
        let _ = writeln!(text, "<text x=\"{MARGIN}\" y=\"{}\">{name}</text>", y + 13);
        text += &pieces(share, y);
    }
    for (row, exchange) in shares.collectives.iter().enumerate() {
        let y = MARGIN + ROW * (shares.weights.len() + row + 2) as u64 + 17;
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
        ranks => format!("{ranks} ranks ({}): who has what of each weight; grey is with all", axes.join(", ")),
    };
    if shares.replicas > 1 { format!("{} replicas of {one}", shares.replicas) } else { one }
}

/// The pieces of a weight: along the first dimension that is cut, in each of these along the next, .. Of a piece that some
/// ranks have, but not all, each is drawn in a part of the row's height.
fn pieces(share: &Share, y: u64) -> String {
    if share.slices.iter().all(|slice| slice.as_ref().is_some_and(Slice::is_empty)) {
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
            text += &number(y, (x + end) / 2, &format!("{first}..{last}"));
            continue;
        }
        for (i, rank) in (0..).zip(&ranks) {
            let colour = COLOURS[rank % COLOURS.len()];
            text += &piece(y + i * height, height, (x, end), colour, &format!("rank {rank}: {what}"));
            if end - x >= NUMBERED && ranks.len() == 1 {
                text += &number(y, (x + end) / 2, &rank.to_string());
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

fn number(y: u64, x: u64, rank: &str) -> String {
    let (x, y) = (MARGIN + NAMES + x, y + 13);
    format!("<text x=\"{x}\" y=\"{y}\" fill=\"white\" text-anchor=\"middle\">{rank}</text>\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
