//! Rows of text in columns.

/// `header` and `rows`, each column as wide as its widest cell; nothing is cut off.
pub(super) fn render<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    body(std::iter::once(header.map(str::to_owned)).chain(rows))
}

/// The same without a header.
pub(super) fn body<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.map(|row| row.map(visible)).collect();
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Some cells come from strangers (a `User-Agent`): none may move the cursor, colour the terminal or turn a line around.
fn visible(cell: String) -> String {
    let is_unfit = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !cell.contains(is_unfit) {
        return cell;
    }
    cell.chars()
        .map(|letter| if is_unfit(letter) { letter.escape_unicode().to_string() } else { letter.into() })
        .collect()
}

/// `1 route`, `2 routes`.
pub(super) fn count(number: usize, name: &str) -> String {
    format!("{number} {name}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_cell_commands_the_terminal() {
        let rows = [["a\u{1b}[2Jb\u{202e}c\nd".to_owned()]];
        assert_eq!(super::body(rows.into_iter()), "a\\u{1b}[2Jb\\u{202e}c\\u{a}d\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "é1".to_owned()], ["long".to_owned(), String::new()]];
        assert_eq!(super::render(["X", "Y"], rows.into_iter()), "X     Y\na     é1\nlong\n");
    }
}
