//! Rows of text in columns.

use crate::values::text::is_unprintable;

/// `header` and `rows`, each column as wide as its widest cell; nothing is cut off.
pub(super) fn render<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    body(std::iter::once(header.map(str::to_owned)).chain(rows))
}

/// The same, and no line is longer than `widest` characters as long as cells of the `flexible` columns can be cut.
pub(super) fn fitted<const N: usize, const F: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    flexible: [usize; F],
    widest: usize,
) -> String {
    let mut rows: Vec<[String; N]> = std::iter::once(header.map(str::to_owned))
        .chain(rows)
        .map(|row| row.map(visible))
        .collect();
    let width = |rows: &[[String; N]], column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let all: usize = (0..N).map(|column| width(&rows, column)).sum::<usize>() + 2 * (N - 1);
    let mut excess = all.saturating_sub(widest);
    let mut widths = flexible.map(|column| width(&rows, column));
    // The widest of them gives way first.
    while excess > 0
        && let Some(wider) = widths.iter_mut().filter(|width| **width > SHORTEST).max()
    {
        *wider -= 1;
        excess -= 1;
    }
    for (column, width) in flexible.into_iter().zip(widths) {
        for row in rows.iter_mut().filter(|row| row[column].chars().count() > width) {
            row[column] = row[column].chars().take(width - 1).chain(['…']).collect();
        }
    }
    body(rows.into_iter())
}

/// A cell is never cut to less than this.
const SHORTEST: usize = 8;

/// The same without a header.
pub(super) fn body<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.map(|row| row.map(visible)).collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    });
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

/// Escapes foreign text (a `User-Agent`): it must not move the cursor, colour the terminal or change its direction.
fn visible(cell: String) -> String {
    if !cell.contains(is_unprintable) {
        return cell;
    }
    cell.chars()
        .map(|letter| {
            if is_unprintable(letter) {
                letter.escape_unicode().to_string()
            } else {
                letter.into()
            }
        })
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
    fn a_table_that_is_too_wide_loses_the_ends_of_its_widest_flexible_cells() {
        let row = |email: &str, device: &str| {
            [
                "i".repeat(36),
                email.to_owned(),
                "2026-11-28 00:25".to_owned(),
                device.to_owned(),
            ]
        };
        let rows = [
            row(&"a".repeat(254), "Internet Explorer on Windows"),
            row("b@example.com", &"d".repeat(90)),
        ];
        let text = super::fitted(
            ["ID", "EMAIL", "LAST SEEN", "DEVICE"],
            rows.into_iter(),
            [1, 3],
            100,
        );
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(
            text.contains("b@example.com  ") && text.contains(&"i".repeat(36)) && text.contains('…'),
            "{text}"
        );
        let short = super::fitted(
            ["X", "Y"],
            [["a".to_owned(), "b".to_owned()]].into_iter(),
            [0, 1],
            100,
        );
        assert_eq!(short, "X  Y\na  b\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["a".to_owned(), "é1".to_owned()],
            ["long".to_owned(), String::new()],
        ];
        assert_eq!(
            super::render(["X", "Y"], rows.into_iter()),
            "X     Y\na     é1\nlong\n"
        );
    }
}
