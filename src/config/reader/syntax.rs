//! Syntax errors in the words of this program, and the lines that are not to be judged further because of them.

use std::borrow::Cow;
use std::ops::Range;

use toml::de::DeTable;

use crate::config::Problems;
use crate::config::values::echo;

/// The most syntax errors that are shown: a file that is no TOML has one a line.
const MAX_SHOWN: usize = 50;

/// One syntax error, with the parser's words for it.
pub(super) struct SyntaxError {
    span: Range<usize>,
    message: String,
}

/// Parses `source` as far as it can be, and returns what can be read of it and all syntax errors in the order of the
/// file. In what is returned, lines that would end the reading early are blank; every other byte stands where it stood.
pub(super) fn find(source: &str) -> (Cow<'_, str>, Vec<SyntaxError>) {
    let mut text = Cow::Borrowed(source);
    let mut found: Vec<SyntaxError> = Vec::new();
    // A line that is blanked may show errors behind it; a few rounds show all that a person would repair at once.
    for _ in 0..8 {
        let (_, errors) = DeTable::parse_recoverable(&text);
        let mut blank = Vec::new();
        for error in errors {
            let span = error.span().unwrap_or(source.len()..source.len());
            if error.message().starts_with("key with no value") {
                blank.push(line_at(&text, span.start));
            } else if error.message().starts_with("unclosed table")
                || error.message().starts_with("unclosed array table")
            {
                blank.push(section_at(&text, span.start));
            }
            found.push(SyntaxError { span, message: error.message().to_owned() });
        }
        if blank.is_empty() {
            break;
        }
        text = Cow::Owned(blanked(&text, &blank));
    }
    found.sort_by_key(|error| error.span.start);
    (text, found)
}

/// The line that `offset` is on, without its line break.
fn line_at(text: &str, offset: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let offset = offset.min(bytes.len());
    let start = memchr::memrchr(b'\n', &bytes[..offset]).map_or(0, |newline| newline + 1);
    let end = memchr::memchr(b'\n', &bytes[offset..]).map_or(bytes.len(), |newline| offset + newline);
    start..end
}

/// The line that `offset` is on and those behind it up to the next header: without their header, nobody can say what
/// they mean.
fn section_at(text: &str, offset: usize) -> Range<usize> {
    let Range { start, mut end } = line_at(text, offset);
    while end < text.len() {
        let next = line_at(text, end + 1);
        if text[next.clone()].trim_start().starts_with('[') {
            break;
        }
        end = next.end;
    }
    start..end
}

/// `text` with spaces in place of `ranges`, line breaks kept.
fn blanked(text: &str, ranges: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for byte in ranges.iter().flat_map(Clone::clone) {
        if !matches!(bytes[byte], b'\n' | b'\r') {
            bytes[byte] = b' ';
        }
    }
    String::from_utf8(bytes).expect("whole lines were replaced by ASCII")
}

/// Reports `errors`, the first of each line, and returns the spans of these lines in their order.
pub(super) fn report(errors: &[SyntaxError], problems: &mut Problems) -> Vec<Range<usize>> {
    let source = problems.source().clone();
    let mut broken: Vec<Range<usize>> = Vec::new();
    let mut unshown = 0;
    for error in errors {
        let line = line_at(&source, error.span.start);
        if broken.last().is_some_and(|last| last.start == line.start) {
            continue;
        }
        broken.push(line.start..line.end.max(error.span.end.min(source.len())));
        if broken.len() > MAX_SHOWN {
            unshown += 1;
        } else {
            one(&source, error, &line, problems);
        }
    }
    if let Some(last) = broken.last().filter(|_| unshown > 0) {
        problems.error(last, format!("{unshown} more lines do not parse")).hint("is this a TOML file?");
    }
    broken
}

fn one(source: &str, error: &SyntaxError, line: &Range<usize>, problems: &mut Problems) {
    let SyntaxError { span, message } = error;
    if message == "duplicate key" {
        let is_header = source[line.clone()].trim_start().starts_with('[');
        let what = if is_header { "table" } else { "key" };
        let name = source.get(span.clone()).unwrap_or_default();
        let first = earlier(source, line, is_header);
        let problem = problems.error(span, format!("{what} `{}` stands here a second time", echo(name)));
        problem.hint(if is_header { "put both into one table" } else { "keep one of them" });
        if let Some(first) = first {
            problem.also(first, "first here");
        }
        return;
    }
    if message.starts_with("string values must be quoted") && span.is_empty() {
        problems.error(span, "the value is missing").hint("write `key = value`, or take the line out");
        return;
    }
    let hint = HINTS.iter().find(|(start, _)| message.starts_with(start)).map_or(
        "every line of TOML is a `[table]`, a `key = value` with its text in quotes, or a `# comment`",
        |(_, hint)| hint,
    );
    problems.error(span, message.clone()).hint(hint);
}

/// What to do, where the parser's words are not enough.
const HINTS: [(&str, &str); 11] = [
    ("string values must be quoted", "text stands in quotes: `key = \"value\"`"),
    ("invalid float", "text stands in quotes: `key = \"value\"`"),
    ("invalid integer", "text stands in quotes: `key = \"value\"`"),
    ("invalid date", "text stands in quotes: `key = \"value\"`"),
    ("key with no value", "write `key = value`"),
    ("missing assignment", "write `key = value`"),
    ("invalid basic string", "a string ends with the quote that it began with, on the same line"),
    ("invalid literal string", "a string ends with the quote that it began with, on the same line"),
    ("unclosed table", "a header is `[table]`; what stands under it was not looked at"),
    ("unclosed array table", "a header is `[[table]]`; what stands under it was not looked at"),
    ("unclosed inline table", "an inline table ends with `}`"),
];

/// The earlier line that says the same as the duplicate on `line`: the same header, or in the same table the same key.
fn earlier(source: &str, line: &Range<usize>, is_header: bool) -> Option<Range<usize>> {
    let name = |line: &str| {
        let end = if is_header { line.rfind(']').map(|at| at + 1) } else { line.find('=') };
        end.map(|end| line[..end].trim().to_owned())
    };
    let wanted = name(&source[line.clone()])?;
    let mut end = line.start;
    while end > 0 {
        let start = source[..end - 1].rfind('\n').map_or(0, |newline| newline + 1);
        let text = &source[start..end - 1];
        if name(text).is_some_and(|name| name == wanted) {
            let indent = text.len() - text.trim_start().len();
            return Some(start + indent..start + indent + wanted.len());
        }
        if !is_header && text.trim_start().starts_with('[') {
            return None;
        }
        end = start;
    }
    None
}
