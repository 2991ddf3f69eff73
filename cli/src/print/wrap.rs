//! Lines of at most 80 columns.

/// Columns of a table.
pub(super) const WIDTH: usize = 80;

/// A space that no line is broken at; it is shown as any other.
pub(super) const HELD: char = '\u{a0}';

/// A line, broken at spaces where it is too long, and its end.
pub(super) fn wrapped(line: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in line.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if column > 0 && column + length > WIDTH {
            text.truncate(text.trim_end().len());
            text += "\n    ";
            column = 4;
        }
        text += word;
        column += word.chars().count();
    }
    text.replace(HELD, " ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_at_spaces() {
        assert_eq!(wrapped("  a  b"), "  a  b\n");
        let long = format!("{} {}", "x".repeat(70), "y".repeat(12));
        assert_eq!(wrapped(&long), format!("{}\n    {}\n", "x".repeat(70), "y".repeat(12)));
        let held = format!("{} 3{HELD}row", "x".repeat(77));
        assert_eq!(wrapped(&held), format!("{}\n    3 row\n", "x".repeat(77)));
    }
}
