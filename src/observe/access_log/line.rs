//! One log line: JSON (RFC 8259) or text, written by hand, because a serializer costs more than the rest of the line.
//!
//! A line is one line and says nothing to a terminal, whatever is in its texts: control characters (those of Unicode's
//! second set and its line separators too) are escaped.

use std::io::Write;
use std::net::IpAddr;

use super::{Entry, Form};

// The most of each text that is kept, in bytes. What is longer ends with `…`.
const MAX_PATH: usize = 2048;
const MAX_TEXT: usize = 512;
const MAX_WORD: usize = 128;

/// The time of day as text, remembered for as long as the second lasts.
#[derive(Debug, Default)]
pub(super) struct TimeText {
    second: Option<u64>,
    /// `2026-11-21T22:10:55`
    text: [u8; 19],
}

/// Appends one line.
pub(super) fn append(out: &mut Vec<u8>, time: &mut TimeText, entry: &Entry<'_>, form: Form) {
    if form.json {
        append_json(out, time, entry, form)
    } else {
        append_text(out, time, entry, form)
    }
}

fn append_json(out: &mut Vec<u8>, time: &mut TimeText, entry: &Entry<'_>, form: Form) {
    out.extend_from_slice(b"{\"time\":\"");
    time.append(out, entry.time);
    out.extend_from_slice(b"\",\"request_id\":");
    text(out, entry.request_id, MAX_WORD);
    out.extend_from_slice(b",\"client\":\"");
    address(out, entry.client);
    out.extend_from_slice(b"\",\"method\":");
    text(out, entry.method, MAX_WORD);
    out.extend_from_slice(b",\"host\":");
    text(out, entry.host, MAX_TEXT);
    out.extend_from_slice(b",\"path\":");
    text(out, without_query(entry.path), MAX_PATH);
    if entry.forward_auth {
        out.extend_from_slice(b",\"forward_auth\":true");
    }
    out.extend_from_slice(b",\"route\":");
    optional(out, entry.route, MAX_TEXT);
    out.extend_from_slice(b",\"subject\":");
    optional(out, entry.subject, MAX_TEXT);
    if form.email {
        out.extend_from_slice(b",\"email\":");
        optional(out, entry.email, MAX_TEXT);
    }
    out.extend_from_slice(b",\"issuer\":");
    optional(out, entry.issuer, MAX_WORD);
    out.extend_from_slice(b",\"decision\":\"");
    out.extend_from_slice(entry.decision.as_str().as_bytes());
    out.extend_from_slice(b"\",\"reason\":");
    optional(out, entry.reason, MAX_WORD);
    out.extend_from_slice(b",\"rule\":");
    optional(out, entry.rule, MAX_TEXT);
    if entry.is_only_logged {
        out.extend_from_slice(b",\"shadow\":\"refuse\"");
    }
    out.extend_from_slice(b",\"status\":");
    number(out, entry.status.into());
    out.extend_from_slice(b",\"bytes\":");
    number(out, entry.bytes);
    out.extend_from_slice(b",\"upstream\":");
    optional(out, entry.upstream, MAX_TEXT);
    out.extend_from_slice(b",\"duration_us\":");
    number(out, entry.duration_us);
    out.extend_from_slice(b",\"upstream_us\":");
    match entry.upstream_us {
        Some(microseconds) => number(out, microseconds),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b"}\n");
}

/// `TIME CLIENT METHOD HOST PATH STATUS DECISION name=value …`: what is absent is left out, and a value that could be read
/// as something else is in quotes, with the escapes of JSON.
fn append_text(out: &mut Vec<u8>, time: &mut TimeText, entry: &Entry<'_>, form: Form) {
    time.append(out, entry.time);
    out.push(b' ');
    address(out, entry.client);
    let path = without_query(entry.path);
    for (value, limit) in [(entry.method, MAX_WORD), (entry.host, MAX_TEXT), (path, MAX_PATH)] {
        out.push(b' ');
        word(out, value, limit);
    }
    out.push(b' ');
    number(out, entry.status.into());
    out.push(b' ');
    out.extend_from_slice(entry.decision.as_str().as_bytes());
    if entry.forward_auth {
        named(out, "forward_auth");
        word(out, "true", MAX_WORD);
    }
    let texts = [
        ("reason", entry.reason, MAX_WORD),
        ("rule", entry.rule, MAX_TEXT),
        ("shadow", entry.is_only_logged.then_some("refuse"), MAX_WORD),
        ("subject", entry.subject, MAX_TEXT),
        ("email", entry.email.filter(|_| form.email), MAX_TEXT),
        ("issuer", entry.issuer, MAX_WORD),
        ("route", entry.route, MAX_TEXT),
        ("upstream", entry.upstream, MAX_TEXT),
    ];
    for (name, value, limit) in texts {
        if let Some(value) = value {
            named(out, name);
            word(out, value, limit);
        }
    }
    let numbers = [
        ("bytes", Some(entry.bytes)),
        ("duration_us", Some(entry.duration_us)),
        ("upstream_us", entry.upstream_us),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            named(out, name);
            number(out, value);
        }
    }
    named(out, "request_id");
    word(out, entry.request_id, MAX_WORD);
    out.push(b'\n');
}

fn named(out: &mut Vec<u8>, name: &str) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
}

/// A value: unchanged if it is one plain word, else in quotes.
fn word(out: &mut Vec<u8>, value: &str, limit: usize) {
    let is_plain = !value.is_empty()
        && value
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'='));
    if is_plain && value.len() <= limit {
        out.extend_from_slice(value.as_bytes());
    } else {
        text(out, value, limit);
    }
}

impl TimeText {
    /// RFC 3339 in UTC, with milliseconds.
    fn append(&mut self, out: &mut Vec<u8>, milliseconds: u64) {
        let second = milliseconds / 1000;
        if self.second != Some(second) {
            // A time past the year 9999 is a broken clock's; it is shown as 1970.
            let time = i64::try_from(second)
                .ok()
                .and_then(|second| jiff::Timestamp::from_second(second).ok());
            let mut text = [0; 19];
            if write!(
                &mut text[..],
                "{:.0}",
                time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S")
            )
            .is_ok()
            {
                (self.second, self.text) = (Some(second), text);
            }
        }
        out.extend_from_slice(&self.text);
        let rest = milliseconds % 1000;
        out.extend_from_slice(&[
            b'.',
            digit(rest / 100),
            digit(rest / 10 % 10),
            digit(rest % 10),
            b'Z',
        ]);
    }
}

/// A path holds no `?`; should one ever come with its query, the query may hold a token.
fn without_query(path: &str) -> &str {
    path.split_once(['?', '#']).map_or(path, |(path, _)| path)
}

fn optional(out: &mut Vec<u8>, value: Option<&str>, limit: usize) {
    match value {
        Some(value) => text(out, value, limit),
        None => out.extend_from_slice(b"null"),
    }
}

/// A JSON string of at most `limit` bytes of `value`.
fn text(out: &mut Vec<u8>, value: &str, limit: usize) {
    let kept = cut(value, limit);
    out.push(b'"');
    let mut copied = 0;
    let bytes = kept.as_bytes();
    for (place, &byte) in bytes.iter().enumerate() {
        if !MAY_NEED_ESCAPE[usize::from(byte)] {
            continue;
        }
        let (escape, length): (&[u8], usize) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            // U+0080 to U+009F
            0xc2 if bytes[place + 1] < 0xa0 => (&unicode(0, bytes[place + 1]), 2),
            // U+2028 and U+2029
            0xe2 if bytes[place + 1] == 0x80 && matches!(bytes[place + 2], 0xa8 | 0xa9) => {
                (&unicode(0x20, bytes[place + 2] - 0x80), 3)
            }
            0xc2 | 0xe2 => continue,
            control => (&unicode(0, control), 1),
        };
        out.extend_from_slice(&bytes[copied..place]);
        out.extend_from_slice(escape);
        copied = place + length;
    }
    out.extend_from_slice(&bytes[copied..]);
    if kept.len() < value.len() {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

/// The longest beginning of at most `limit` bytes that is whole characters.
fn cut(value: &str, limit: usize) -> &str {
    let mut end = limit.min(value.len());
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// Bytes that are escaped, and those that a sequence to be escaped may start with.
const MAY_NEED_ESCAPE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0x7f] = true;
    table[0xc2] = true;
    table[0xe2] = true;
    table
};

fn unicode(high: u8, low: u8) -> [u8; 6] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let hex = |nibble: u8| HEX[usize::from(nibble & 0xf)];
    [b'\\', b'u', hex(high >> 4), hex(high), hex(low >> 4), hex(low)]
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = digit(value % 10);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (place, octet) in v4.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                number(out, octet.into());
            }
        }
        IpAddr::V6(v6) => write!(out, "{v6}").expect("a vector takes any bytes"),
    }
}

/// The last digit of a number below ten.
fn digit(value: u64) -> u8 {
    b"0123456789"[usize::try_from(value % 10).unwrap_or(0)]
}
