//! Columns.

use std::fmt::Write;

use super::Paint;

/// Rows below their headings, each column as wide as its widest cell, two spaces between.
pub(crate) fn table<const N: usize>(paint: Paint, head: [&str; N], rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    });
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        line.trim_end().to_owned()
    };
    let mut text = paint.dim(&line(head));
    for row in rows {
        text.push('\n');
        text.push_str(&line(std::array::from_fn(|column| row[column].as_str())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "long cell".to_owned()], ["wider".to_owned(), String::new()]];
        assert_eq!(
            table(Paint::new(false), ["X", "Y"], &rows),
            "X      Y\na      long cell\nwider"
        );
    }
}
