//! The picture: a row for each weight, cut where ranks cut it, each piece in the colour of the rank that has it.

use std::fmt::Write;

use super::{Share, Shares};

/// Pixels: of a row, of the names' column, of a weight as a whole, around all of it.
const ROW: u64 = 22;
const NAMES: u64 = 310;
const WHOLE: u64 = 480;
const MARGIN: u64 = 16;
/// Of pieces that are wide enough for a number.
const NUMBERED: u64 = 20;

/// Colours of ranks, again and again; and of what all of them have.
const COLOURS: [&str; 8] = ["#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#e15759", "#9c755f", "#edc948"];
const ALL: &str = "#d8d8d8";

/// The shares of an artifact as SVG.
pub fn draw(shares: &Shares) -> String {
    let (width, height) = (NAMES + WHOLE + 2 * MARGIN, ROW * (shares.weights.len() as u64 + 2) + 2 * MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let axes: Vec<String> = shares.mesh.iter().map(|(axis, size)| format!("{axis} {size}")).collect();
    let title = match shares.ranks {
        1 => "one rank has every weight".to_owned(),
        ranks => format!("{ranks} ranks ({}): who has what of each weight; grey is with all", axes.join(", ")),
    };
    let _ = writeln!(text, "<text x=\"{MARGIN}\" y=\"{}\" font-weight=\"bold\">{title}</text>", MARGIN + 12);
    for (row, share) in shares.weights.iter().enumerate() {
        let y = MARGIN + ROW * (row as u64 + 1) + 4;
        let name = escaped(&share.name);
        let _ = writeln!(text, "<text x=\"{MARGIN}\" y=\"{}\">{name}</text>", y + 13);
        text += &pieces(share, y);
    }
    text + "</svg>\n"
}

/// The pieces of a weight along its first dimension that is cut.
fn pieces(share: &Share, y: u64) -> String {
    let cut = share.slices.first().and_then(|slice| slice.keys().next().copied());
    let Some(dim) = cut else { return piece(y, 0, WHOLE, ALL, &share.whole) };
    let extent = share.shape[dim].max(1);
    let mut text = String::new();
    for (rank, slice) in share.slices.iter().enumerate() {
        let range = &slice[&dim];
        let (x, end) = (range.start * WHOLE / extent, range.end * WHOLE / extent);
        let what = format!("rank {rank}: {}..{} of dimension {dim} of {}", range.start, range.end, share.whole);
        text += &piece(y, x, end - x, COLOURS[rank % COLOURS.len()], &what);
        if end - x >= NUMBERED {
            text += &number(y, (x + end) / 2, rank);
        }
    }
    text
}

fn piece(y: u64, x: u64, width: u64, colour: &str, what: &str) -> String {
    let (x, height, what) = (MARGIN + NAMES + x, ROW - 4, escaped(what));
    format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{colour}\" stroke=\"white\">\
         <title>{what}</title></rect>\n"
    )
}

fn number(y: u64, x: u64, rank: usize) -> String {
    let (x, y) = (MARGIN + NAMES + x, y + 13);
    format!("<text x=\"{x}\" y=\"{y}\" fill=\"white\" text-anchor=\"middle\">{rank}</text>\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
