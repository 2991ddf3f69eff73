//! Data sets in brief.

use std::fmt::Write;

use bloomery::data::show::Shown;

use super::{counted, size};

/// How much there is of what.
pub(crate) fn data_set(shown: &Shown) -> String {
    let (rows, files) = (counted(shown.rows_total, "row"), counted(shown.shards, "file"));
    let mut text = format!("MindRecord data set, {rows} in {files}, {}\n", size(shown.row_bytes.total));
    if !shown.description.is_empty() {
        let _ = writeln!(text, "says      {}", shown.description);
    }
    for (name, field) in shown.schema.as_object().into_iter().flatten() {
        let kind = field["type"].as_str().unwrap_or_default();
        let shape = field.get("shape").map_or(String::new(), |shape| shape.to_string());
        let _ = writeln!(text, "column    {name}: {kind}{shape}");
    }
    if shown.rows_total > 0 {
        let [least, most] = [shown.row_bytes.least, shown.row_bytes.most].map(size);
        let _ = writeln!(text, "row size  {least} to {most}");
    }
    for (file, rows) in shown.files.iter().filter(|_| shown.shards > 1) {
        let _ = writeln!(text, "  {:<50}{:>12}", file.display(), counted(*rows, "row"));
    }
    text
}
