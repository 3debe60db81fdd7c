//! Request targets: whatever passes has one meaning, in which no two servers could differ.
//!
//! Input: a request target, and behind a space, if there is one, a `strip_prefix`.
#![no_main]

use http::Uri;
use libfuzzer_sys::fuzz_target;
use passgate::internals::http::target::{
    PathLeniency, QueryEdit, Target, canonical_pattern_segment, canonical_prefix,
};
use passgate::internals::refusal::Refusal;

fuzz_target!(|input: &[u8]| {
    let cut = input.iter().position(|&byte| byte == b' ').unwrap_or(input.len());
    let prefix = input
        .get(cut + 1..)
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    if let Some(pattern) = prefix {
        patterns(pattern);
    }
    let Ok(uri) = Uri::try_from(&input[..cut]) else {
        return;
    };
    let Ok(target) = Target::parse(&uri) else { return };

    let path = target.path();
    is_unambiguous(path, target.oddities());
    is_unambiguous(target.matching(), target.oddities());
    for segment in target.matching().split('/') {
        assert!(
            !segment.contains(';'),
            "a parameter takes part in the match: {}",
            target.matching()
        );
    }
    assert!(
        !target.matching().contains("//"),
        "an empty segment takes part in the match: {}",
        target.matching()
    );
    assert_eq!(target.query(), uri.query(), "the query was changed");
    assert_eq!(
        decoded(path),
        decoded(uri.path()),
        "the path means something else"
    );

    // Canonical means: the same again.
    let forwarded = target.path_and_query();
    let again = parse(forwarded.as_str());
    assert_eq!(again.path_and_query().as_str(), forwarded.as_str());
    assert_eq!(again.matching(), target.matching());
    assert_eq!(again.oddities(), target.oddities());

    for reading in target.other_readings().flatten() {
        assert!(
            reading.starts_with('/') && !reading.contains("//"),
            "{path} read as {reading}"
        );
    }
    if std::str::from_utf8(&decoded(path)).is_err() {
        assert!(
            target.oddities().not_utf8,
            "{path} is not UTF-8, and nothing says so"
        );
    }

    // Escaping what need not be escaped changes nothing.
    let mut respelled = String::new();
    for byte in forwarded.path().bytes() {
        if byte.is_ascii_alphanumeric() && !is_escaped(&respelled) {
            respelled.push_str(&format!("%{byte:02x}"));
        } else {
            respelled.push(char::from(byte));
        }
    }
    if respelled.len() < 8000 {
        let respelled = parse(&respelled);
        assert_eq!(respelled.path(), path);
        assert_eq!(respelled.matching(), target.matching());
    }

    let Some(prefix) = prefix.and_then(|prefix| canonical_prefix(prefix).ok()) else {
        return;
    };
    let rewritten = match target.rewritten(Some(&prefix), "", QueryEdit::Keep) {
        Ok(rewritten) => rewritten,
        // What is left begins with an empty segment in another spelling than `//`.
        Err(refusal) => {
            return assert!(refusal == Refusal::PathEmptySegment && target.oddities().empty_segment);
        }
    };
    assert_eq!(rewritten.query(), uri.query());
    let rewritten = parse(rewritten.as_str());
    is_unambiguous(rewritten.path(), target.oddities());
    if rewritten.path() != path {
        assert!(!rewritten.path().starts_with("//"));
        let rest = target
            .matching()
            .strip_prefix(prefix.as_str())
            .expect("only its own prefix is cut off");
        assert!(
            rest.is_empty() || rest.starts_with('/'),
            "cut inside of a segment"
        );
    }
});

fn parse(text: &str) -> Target {
    Target::parse(&text.parse().expect("a target")).expect("a canonical target")
}

/// Whether the two characters at the end are a `%` and its first digit, or a `%` alone: the next one belongs to it.
fn is_escaped(text: &str) -> bool {
    let bytes = text.as_bytes();
    // Only escapes of the canonical path are upper case or are none at all; ours are whole when this is asked.
    bytes.last() == Some(&b'%') || bytes.len() >= 2 && bytes[bytes.len() - 2] == b'%'
}

/// What apps disagree about, looked for in another way than the parser does it: in the fully decoded path.
fn is_unambiguous(path: &str, oddities: PathLeniency) {
    assert!(path.starts_with('/'), "{path}");
    for byte in path.bytes() {
        assert!(
            byte.is_ascii_graphic() && !br##""#<>?[\]^`{|}"##.contains(&byte),
            "raw {byte:#04x} in {path}"
        );
    }
    for (at, _) in path.match_indices('%') {
        let digits = &path[at + 1..at + 3];
        assert!(
            digits
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F')),
            "{path}"
        );
        let byte = u8::from_str_radix(digits, 16).expect("two digits");
        assert!(!byte.is_ascii_control() && byte != b'\\', "%{digits} in {path}");
        assert!(
            !byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte),
            "needlessly %{digits} in {path}"
        );
        assert!(
            byte != b'/' || oddities.encoded_slash,
            "%2F in {path}, and nobody says so"
        );
    }
    let decoded = decoded(path);
    let mut empty = false;
    for segment in decoded[1..].split(|&byte| byte == b'/') {
        let name = segment
            .split(|byte| b";?#".contains(byte))
            .next()
            .unwrap_or_default();
        assert!(name != b"." && name != b"..", "a dot segment in {path}");
        empty |= segment.is_empty();
    }
    let ends_in_slash = decoded.last() == Some(&b'/');
    if empty && !ends_in_slash {
        assert!(
            oddities.empty_segment,
            "an empty segment in {path}, and nobody says so"
        );
    }
    if path.contains(';') {
        assert!(
            oddities.path_parameter,
            "a parameter in {path}, and nobody says so"
        );
    }
}

/// Every escape decoded, once.
fn decoded(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = path.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// A pattern's segment matches the path that is spelled like it.
fn patterns(segment: &str) {
    let Ok(canonical) = canonical_pattern_segment(segment) else {
        return;
    };
    assert_eq!(
        canonical_pattern_segment(&canonical).as_deref(),
        Ok(&*canonical),
        "canonical is canonical"
    );
    let Ok(uri) = Uri::try_from(format!("/{canonical}")) else {
        panic!("no path could match {canonical}")
    };
    if canonical.len() < 8000 {
        let target = Target::parse(&uri).expect("no path could match it");
        assert_eq!(target.matching(), format!("/{canonical}"));
    }
}
