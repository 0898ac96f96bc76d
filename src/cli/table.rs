//! Rows in columns, for people. Pure.

use super::terminal::printable;

/// Lines of a table: a title, then rows, each column as wide as its widest cell but the last.
pub(crate) fn lines(title: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    // A row is a line, whatever somebody wrote as its message.
    let one_line = |cell: &String| printable(cell).replace('\n', "\\n");
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(one_line).collect()).collect();
    let mut widths: Vec<usize> = title.iter().map(|cell| width(cell)).collect();
    for row in &rows {
        for (i, cell) in row.iter().enumerate() {
            match widths.get_mut(i) {
                Some(known) => *known = width(cell).max(*known),
                None => widths.push(width(cell)),
            }
        }
    }
    let title = title.iter().map(|cell| (*cell).to_owned()).collect();
    let rows = std::iter::once(&title).chain(&rows);
    rows.map(|row: &Vec<String>| line(row, &widths)).collect()
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (i, cell) in row.iter().enumerate() {
        line.push_str(cell);
        if i + 1 < row.len() {
            let fill = widths.get(i).copied().unwrap_or_default().saturating_sub(width(cell));
            line.push_str(&" ".repeat(fill + 2));
        }
    }
    line.trim_end().to_owned()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            super::lines(&["KEY", "VALUE"], &[row(&["größer", "1"]), row(&["a", ""])]),
            ["KEY     VALUE", "größer  1", "a"]
        );
        assert_eq!(super::lines(&["A"], &[row(&["x\ny\u{1b}"])]), ["A", "x\\ny\\u{1b}"]);
    }
}
