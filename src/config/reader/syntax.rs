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
            found.push(SyntaxError {
                span,
                message: error.message().to_owned(),
            });
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

/// The line that `offset` is on and those behind it up to the next header: without their header, their table is unknown, and so is what
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

/// Reports that `source`, which is no TOML, is in another format; `false` where it is not.
pub(super) fn report_format(source: &str, problems: &mut Problems) -> bool {
    let Some((span, format)) = other_format(source) else {
        return false;
    };
    problems
        .error(&span, format!("this is {format}, and the configuration is TOML"))
        .hint("`passgate example` prints a file to start from");
    true
}

/// The first significant line of `source`, and the name of the format that it is in, where that is not TOML.
fn other_format(source: &str) -> Option<(Range<usize>, &'static str)> {
    let mut first: Option<Range<usize>> = None;
    let mut lines = 0_i64;
    let mut yaml = 0_i64;
    let mut start = 0;
    for whole in source.split_inclusive('\n') {
        let text = whole.trim_matches(|char: char| char.is_whitespace() || char == '\u{feff}');
        let at = start + whole.find(text).unwrap_or(0);
        start += whole.len();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        lines += 1;
        first.get_or_insert(at..at + text.len());
        // A header or an assignment is no line of YAML; a flow value after a `:` may hold anything.
        let key = text.trim_start_matches("- ");
        let name = key
            .find(':')
            .filter(|end| is_yaml_key(&key[..*end], &key[end + 1..]));
        if name.is_some() || text.starts_with("- ") || text == "---" || text.starts_with("%YAML") {
            yaml += 1;
        } else if text.starts_with('[') || text.contains('=') {
            yaml -= 1;
        }
    }
    let first = first?;
    let text = &source[first.clone()];
    // No key and no header of TOML begins so.
    if text.starts_with('{')
        || text
            .strip_prefix('[')
            .is_some_and(|rest| rest.trim_start().starts_with('{'))
    {
        return Some((first.start..first.start + 1, "JSON"));
    }
    (2 * yaml > lines).then_some((first, "YAML"))
}

/// Whether a line of YAML may begin with `key` and a colon, behind which `rest` stands.
fn is_yaml_key(key: &str, rest: &str) -> bool {
    let key = key.trim_matches(['"', '\'']);
    (rest.is_empty() || rest.starts_with(char::is_whitespace))
        && !key.is_empty()
        && key
            .chars()
            .all(|char| char.is_alphanumeric() || "-_./ ".contains(char))
}

/// Quotes of typography, which word processors put in place of straight ones.
const CURLY: [char; 11] = ['“', '”', '„', '‟', '‘', '’', '‚', '‛', '«', '»', '″'];

/// The first quote of typography on a line that stands where a string could begin or end: not inside of straight
/// quotes, and not in a comment.
fn curly_quote(line: &str) -> Option<(usize, char)> {
    let mut inside = None;
    for (at, char) in line.char_indices() {
        match (inside, char) {
            (None, '#') => return None,
            (None, '"' | '\'') => inside = Some(char),
            (Some(quote), _) if quote == char => inside = None,
            (None, _) if CURLY.contains(&char) => return Some((at, char)),
            _ => {}
        }
    }
    None
}

/// Reports `errors`, the first of each line, and returns the spans of these lines in their order.
pub(super) fn report(errors: &[SyntaxError], problems: &mut Problems) -> Vec<Range<usize>> {
    let source = problems.source().clone();
    let mut broken: Vec<Range<usize>> = Vec::new();
    let mut unshown = 0;
    let mut curly: Vec<(Range<usize>, char)> = Vec::new();
    for error in errors {
        let line = line_at(&source, error.span.start);
        if broken.last().is_some_and(|last| last.start == line.start) {
            continue;
        }
        broken.push(line.start..line.end.max(error.span.end.min(source.len())));
        if let Some((at, quote)) = curly_quote(&source[line.clone()]) {
            curly.push((line.start + at..line.start + at + quote.len_utf8(), quote));
        } else if broken.len() > MAX_SHOWN {
            unshown += 1;
        } else {
            one(&source, error, &line, problems);
        }
    }
    if let Some((span, quote)) = curly.first() {
        let problem = problems
            .error(span, format!("`{quote}` is no quote of TOML"))
            .hint("text stands in straight quotes: `key = \"value\"`");
        match curly.len() - 1 {
            0 => {}
            1 => drop(problem.label("and on one more line")),
            more => drop(problem.label(format!("and on {more} more lines"))),
        }
    }
    if let Some(last) = broken.last().filter(|_| unshown > 0) {
        problems
            .error(last, format!("{unshown} more lines do not parse"))
            .hint("is this a TOML file?");
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
        let problem = problems.error(span, format!("{what} `{}` appears a second time", echo(name)));
        problem.hint(if is_header {
            "put both into one table"
        } else {
            "keep one of them"
        });
        if let Some(first) = first {
            problem.also(first, "first here");
        }
        return;
    }
    if message.starts_with("string values must be quoted") && span.is_empty() {
        problems
            .error(span, "the value is missing")
            .hint("write `key = value`, or take the line out");
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
    (
        "string values must be quoted",
        "text stands in quotes: `key = \"value\"`",
    ),
    ("invalid float", "text stands in quotes: `key = \"value\"`"),
    ("invalid integer", "text stands in quotes: `key = \"value\"`"),
    ("invalid date", "text stands in quotes: `key = \"value\"`"),
    ("key with no value", "write `key = value`"),
    ("missing assignment", "write `key = value`"),
    (
        "invalid basic string",
        "a string ends with the quote that it began with, on the same line",
    ),
    (
        "invalid literal string",
        "a string ends with the quote that it began with, on the same line",
    ),
    (
        "unclosed table",
        "a header is `[table]`; what stands under it was not looked at",
    ),
    (
        "unclosed array table",
        "a header is `[[table]]`; what stands under it was not looked at",
    ),
    ("unclosed inline table", "an inline table ends with `}`"),
];

/// The earlier line that says the same as the duplicate on `line`: the same header, or in the same table the same key.
fn earlier(source: &str, line: &Range<usize>, is_header: bool) -> Option<Range<usize>> {
    let name = |line: &str| {
        let end = if is_header {
            line.rfind(']').map(|at| at + 1)
        } else {
            line.find('=')
        };
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
