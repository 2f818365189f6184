//! Tables and paragraphs that fit a terminal of 80 columns.

use std::io::{self, Write};

/// Columns of the narrowest terminal in use.
const WIDTH: usize = 80;
/// Minimum width of the last column, however wide the others are.
const LEAST: usize = 24;

/// A table whose columns are as wide as their widest cell; the last one continues in further lines.
pub(super) fn table<const COLUMNS: usize>(
    out: &mut dyn Write,
    head: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> io::Result<()> {
    let head = head.map(str::to_owned);
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let indent: usize = widths[..COLUMNS - 1].iter().map(|width| width + 2).sum();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row[..COLUMNS - 1].iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        wrapped(out, &line, &row[COLUMNS - 1], indent)?;
    }
    Ok(())
}

/// Text in lines that begin with `indent` spaces.
pub(super) fn paragraph(out: &mut dyn Write, text: &str, indent: usize) -> io::Result<()> {
    wrapped(out, &" ".repeat(indent), text, indent)
}

/// The beginning of a text that has at most `most` characters, with an ellipsis where it is cut.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn wrapped(out: &mut dyn Write, first: &str, text: &str, indent: usize) -> io::Result<()> {
    let room = WIDTH.saturating_sub(indent).max(LEAST);
    let mut begin = first.to_owned();
    for line in lines(text, room) {
        writeln!(out, "{}", format!("{begin}{line}").trim_end())?;
        begin = " ".repeat(indent);
    }
    Ok(())
}

/// Breaks at spaces, and within words that are longer than a line.
fn lines(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        for character in word.chars() {
            if used == room {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(character);
            used += 1;
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_one_is_wrapped() {
        let mut out = Vec::new();
        let rows = [["12345".to_owned(), "word ".repeat(20)]];
        table(&mut out, ["PID", "WORDS"], &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        let line = ["word"; 14].join(" ");
        let rest = ["word"; 6].join(" ");
        assert_eq!(text, format!("PID    WORDS\n12345  {line}\n       {rest}\n"));
    }

    #[test]
    fn nothing_is_wider_than_a_line_and_nothing_is_left_out() {
        let path = format!("a {} b", "/long".repeat(40));
        let lines = lines(&path, 24);
        assert!(lines.iter().all(|line| line.chars().count() <= 24), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), path.replace(' ', ""));
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(
            (cut("abc", 3), cut("abcd", 3)),
            ("abc".to_owned(), "ab…".to_owned())
        );
    }
}
