//! Characters that do not belong into one line of text.

/// Whether a character breaks a line: control characters, line and paragraph separators, and the characters that change
/// the direction of the text after them.
#[must_use]
pub(crate) fn breaks_line(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character of foreign text is left out of a list or a terminal: those that break a line, and invisible
/// direction marks.
#[must_use]
pub(crate) fn is_unprintable(letter: char) -> bool {
    breaks_line(letter) || matches!(letter, '\u{200e}' | '\u{200f}')
}
