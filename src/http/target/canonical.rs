//! The canonical spelling of a path, and every spelling for which a path is refused.
//!
//! Enters: the bytes of a path as they were sent. Leaves: its [`Survey`], and the spellings that it asks for. Nothing is
//! decoded twice here, and no function here resolves a dot segment: a path that has one is refused.
//!
//! There are two spellings of one path:
//!
//! - *canonical*, which is forwarded: escapes of unreserved characters (RFC 3986 section 2.3) are decoded, other escapes
//!   have upper-case digits (section 6.2.2), and the ASCII characters that no path may hold raw (`"<>^{|}[]`, backtick,
//!   space; section 3.3), which `http::Uri` lets through in part, are escaped. Refusing those would shut out browsers,
//!   which send `[`, `]` and `|` raw; forwarding them raw would leave two spellings of one path.
//! - *matching*, which routes see: the canonical one, in which moreover parameters are left out, runs of `/` count as
//!   one, and escapes of the remaining characters that a segment may hold raw (`!$&'()*+,=:@`) are decoded. So each
//!   decoded segment has one spelling, and `/users%3Adelete` cannot slip past a rule on `/users:delete`. They are
//!   forwarded as they came, because RFC 3986 section 2.2 lets an app tell them apart.

use super::PathLeniency;
use crate::http::percent::{digit, escape_at, push_escape};
use crate::refusal::Refusal;

/// What reading a path once found out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survey {
    /// What only some routes accept.
    pub(super) oddities: PathLeniency,
    /// The canonical spelling differs from what was sent.
    pub(super) rewrite: bool,
    /// The matching spelling differs from the canonical one.
    pub(super) unlike_matching: bool,
    /// A `%25` somewhere, so that [`is_double_encoded`] is to be asked.
    pub(super) has_escaped_percent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands for itself in every spelling.
    Plain,
    Dot,
    Slash,
    Percent,
    Semicolon,
    Backslash,
    /// ASCII that a path may hold only escaped.
    Foreign,
    /// Control bytes, bytes outside ASCII, and what ends a path.
    Refused,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Refused; 256];
    let mut byte = 0x20_u8;
    while byte < 0x7f {
        classes[byte as usize] = match byte {
            b'.' => Class::Dot,
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            b';' => Class::Semicolon,
            b'\\' => Class::Backslash,
            b'?' | b'#' => Class::Refused,
            _ if is_unreserved(byte) || is_reserved_but_plain(byte) => Class::Plain,
            _ => Class::Foreign,
        };
        byte += 1;
    }
    classes
};

/// RFC 3986 section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The rest of `pchar` (RFC 3986 section 3.3) without `;`.
const fn is_reserved_but_plain(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
    )
}

/// The part of a path since the last separator, raw or escaped: as much of it as tells whether it is a dot segment.
#[derive(Clone, Copy, Default)]
struct Part {
    dots: u8,
    other: bool,
}

impl Part {
    fn is_empty(self) -> bool {
        self.dots == 0 && !self.other
    }

    fn refuse_dots(self) -> Result<(), Refusal> {
        if !self.other && matches!(self.dots, 1 | 2) {
            Err(Refusal::PathDotSegment)
        } else {
            Ok(())
        }
    }
}

/// Reads `path`, which starts with `/`, and refuses what no route can accept.
///
/// # Errors
/// The refusal for the first offence from the left.
pub(super) fn survey(path: &[u8]) -> Result<Survey, Refusal> {
    if begins_with_empty_segment(path) {
        return Err(Refusal::PathEmptySegment);
    }
    let mut survey = Survey::default();
    let mut part = Part::default();
    let mut in_parameters = false;
    // Where the escapes of the character that was read last end.
    let mut character_end = 0;
    let mut at = 1;
    while let Some(&byte) = path.get(at) {
        at += 1;
        match CLASSES[usize::from(byte)] {
            Class::Plain => part.other = true,
            Class::Dot => part.dots = part.dots.saturating_add(1),
            Class::Foreign => {
                part.other = true;
                survey.rewrite = true;
            }
            Class::Slash => {
                if !in_parameters {
                    part.refuse_dots()?;
                    if part.is_empty() {
                        survey.oddities.empty_segment = true;
                        survey.unlike_matching = true;
                    }
                }
                part = Part::default();
                in_parameters = false;
            }
            Class::Semicolon => {
                if !in_parameters {
                    part.refuse_dots()?;
                    survey.oddities.empty_segment |= part.is_empty();
                }
                survey.oddities.path_parameter = true;
                survey.unlike_matching = true;
                in_parameters = true;
            }
            Class::Backslash => return Err(Refusal::PathBackslash),
            Class::Refused => return Err(Refusal::TargetByte),
            Class::Percent => {
                let value = escape_at(path, at - 1).ok_or(Refusal::PathBadEncoding)?;
                let digits = &path[at..at + 2];
                at += 2;
                match value {
                    0x00..=0x1f | 0x7f => return Err(Refusal::PathEncodedControl),
                    b'\\' => return Err(Refusal::PathBackslash),
                    // Where such a parameter ends depends on whether an app decodes or drops it first.
                    b'/' if in_parameters => return Err(Refusal::PathEncodedSlash),
                    b'/' => {
                        part.refuse_dots()?;
                        survey.oddities.empty_segment |= part.is_empty();
                        survey.oddities.encoded_slash = true;
                        part = Part::default();
                    }
                    // An app that decodes before it cuts parameters or a query off would read `..%3bx` as `..`.
                    b';' | b'?' | b'#' if !in_parameters => {
                        part.refuse_dots()?;
                        part.other = true;
                    }
                    b'.' => part.dots = part.dots.saturating_add(1),
                    _ if is_overlong(value, path, at) => return Err(Refusal::PathBadEncoding),
                    _ => part.other = true,
                }
                survey.has_escaped_percent |= value == b'%';
                if !value.is_ascii() && at > character_end {
                    match character_at(path, at - 3) {
                        Some(end) => character_end = end,
                        None => survey.oddities.not_utf8 = true,
                    }
                }
                if is_unreserved(value) {
                    survey.rewrite = true;
                } else {
                    survey.rewrite |= digits.iter().any(u8::is_ascii_lowercase);
                    survey.unlike_matching |= is_reserved_but_plain(value);
                }
            }
        }
    }
    if !in_parameters {
        part.refuse_dots()?;
    }
    Ok(survey)
}

/// Whether the first segment of `path` is empty and another one follows, in whatever spelling: `//admin`, `/%2Fadmin`,
/// `/;x/admin`. What follows `//` is an authority to a server that reads a path as a reference (RFC 3986 section 4.2), and what
/// is left of it another path.
pub(super) fn begins_with_empty_segment(path: &[u8]) -> bool {
    match path.get(1) {
        Some(b'/') => true,
        Some(b'%') => escape_at(path, 1) == Some(b'/'),
        Some(b';') => path[1..].contains(&b'/'),
        _ => false,
    }
}

/// Whether `canonical`, decoded twice or more often, would hold an unreserved character that it does not hold decoded
/// once: `%2561`, `%252E`, `%252561`.
pub(super) fn is_double_encoded(canonical: &[u8]) -> bool {
    canonical
        .windows(3)
        .enumerate()
        .filter(|(_, escape)| escape == b"%25")
        .any(|(start, _)| {
            let mut at = start + 3;
            while canonical.get(at..at + 2) == Some(b"25") {
                at += 2;
            }
            match canonical.get(at..at + 2) {
                Some(&[high, low]) => digit(high)
                    .zip(digit(low))
                    .is_some_and(|(high, low)| is_unreserved(high << 4 | low)),
                _ => false,
            }
        })
}

/// A canonical path in which every `%25` that hides an escape of an unreserved character is the `%` that it stands for.
pub(super) fn decoded_again(canonical: &str) -> String {
    let mut path = canonical.to_owned();
    while is_double_encoded(path.as_bytes()) {
        // A `%` that hid nothing stays what it was.
        path = self::canonical(&escape_stray_percents(&path.replace("%25", "%")));
    }
    path
}

fn escape_stray_percents(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for (at, character) in path.char_indices() {
        out.push(character);
        if character == '%' && escape_at(path.as_bytes(), at).is_none() {
            out.push_str("25");
        }
    }
    out
}

/// A canonical path without the escapes that are no characters.
pub(super) fn without_foreign_bytes(canonical: &str) -> String {
    let mut out = String::with_capacity(canonical.len());
    let mut at = 0;
    while let Some(rest) = canonical.get(at..) {
        let Some(first) = rest.chars().next() else { break };
        let end = match escape_at(canonical.as_bytes(), at) {
            Some(byte) if !byte.is_ascii() => match character_at(canonical.as_bytes(), at) {
                Some(end) => end,
                None => {
                    at += 3;
                    continue;
                }
            },
            Some(_) => at + 3,
            None => at + first.len_utf8(),
        };
        out.push_str(&canonical[at..end]);
        at = end;
    }
    out
}

/// The end of the escapes that begin at `start` and are one character outside ASCII in UTF-8 (RFC 3629); `None` where
/// they are none.
fn character_at(path: &[u8], start: usize) -> Option<usize> {
    let mut bytes = [0; 4];
    for length in 1..=bytes.len() {
        bytes[length - 1] = escape_at(path, start + 3 * (length - 1))?;
        match std::str::from_utf8(&bytes[..length]) {
            Ok(_) => return Some(start + 3 * length),
            Err(error) if error.error_len().is_some() => return None,
            Err(_) => {}
        }
    }
    None
}

/// Whether `first` and the escape at `next` begin an overlong UTF-8 sequence (RFC 3629 section 3): another spelling of
/// a character, which some decoders take (`%c0%ae` is a dot to them).
fn is_overlong(first: u8, path: &[u8], next: usize) -> bool {
    match first {
        0xc0 | 0xc1 => matches!(escape_at(path, next), Some(0x80..=0xbf)),
        0xe0 => matches!(escape_at(path, next), Some(0x80..=0x9f)),
        0xf0 => matches!(escape_at(path, next), Some(0x80..=0x8f)),
        _ => false,
    }
}

/// The canonical spelling of a path that [`survey`] let pass. Bytes outside ASCII, which only a pattern holds, are
/// escaped.
pub(super) fn canonical(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(bytes.len() + 16);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match escape_at(bytes, at) {
            Some(value) if is_unreserved(value) => out.push(char::from(value)),
            Some(value) => push_escape(&mut out, value),
            None if byte.is_ascii() && CLASSES[usize::from(byte)] != Class::Foreign => {
                out.push(char::from(byte))
            }
            None => push_escape(&mut out, byte),
        }
        at += if byte == b'%' { 3 } else { 1 };
    }
    out
}

/// The matching spelling of a canonical path.
pub(super) fn matching(canonical: &str) -> String {
    let mut out = String::with_capacity(canonical.len());
    for segment in canonical.split('/').skip(1) {
        if !out.ends_with('/') {
            out.push('/');
        }
        push_matching_segment(&mut out, segment);
    }
    out
}

/// Appends the matching spelling of one canonical segment.
pub(super) fn push_matching_segment(out: &mut String, segment: &str) {
    let name = segment.split(';').next().unwrap_or_default();
    let bytes = name.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match escape_at(bytes, at) {
            Some(value) if is_reserved_but_plain(value) => {
                out.push(char::from(value));
                at += 3;
            }
            _ => {
                out.push(char::from(byte));
                at += 1;
            }
        }
    }
}
