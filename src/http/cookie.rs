//! The `Cookie` header: values found, pairs cut out, lines joined.
//!
//! Input: a `HeaderMap`. Output: the values of one name, or the map without some names. Invariants: pairs of other names do
//! not change, and no pair of a given name stays.
//!
//! Pairs are read as servers read them rather than as RFC 6265 section 4.2.1 has them written: separated by `;`, with spaces
//! and tabs around names and values ignored, names compared with their case. A value is taken as it is, quotation marks
//! included: browsers know no quoting, so that a `;` ends a pair inside of them too. By hand, because cookie crates keep one
//! value per name, and here a second, different value under the session cookie's name must be seen.

use bytes::Bytes;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// The values of all cookies called `name`, of all `Cookie` lines, in order. A piece without `=` has no name.
pub fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(move |line| values_in(line.as_bytes(), name))
}

/// The same, for a name that does not live as long.
pub fn values_of<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    lines.flat_map(|line| values_in(line.as_bytes(), name)).collect()
}

/// The values of all cookies called `name` in one line.
pub fn values_in<'a, 'n>(line: &'a [u8], name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
    split(line)
        .filter_map(pair)
        .filter_map(move |(found, value)| (found == name.as_bytes()).then_some(value))
}

/// All cookies of all `Cookie` lines, name and value, in order.
pub fn all(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(COOKIE).iter().flat_map(pieces).filter_map(pair)
}

/// Cuts every cookie called one of `names` out. All other bytes stay as they came; a line of which nothing is left goes.
/// Allocates only where there is something to cut out.
pub fn remove(headers: &mut HeaderMap, names: &[impl AsRef<str>]) {
    if !names.is_empty() {
        remove_where(headers, |name| {
            names.iter().any(|wanted| wanted.as_ref().as_bytes() == name)
        });
    }
}

/// The same for every cookie whose name is meant.
pub fn remove_where(headers: &mut HeaderMap, is_meant: impl Fn(&[u8]) -> bool) {
    if !headers
        .get_all(COOKIE)
        .iter()
        .any(|line| pieces(line).any(|piece| is_meant(name_of(piece))))
    {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| without(line, &is_meant))
        .collect();
    headers.remove(COOKIE);
    for line in kept {
        headers.append(COOKIE, line);
    }
}

/// Makes one line of several, as HTTP/2 may send them, with `; ` between (RFC 9113 section 8.2.3).
pub fn join(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE).iter();
    let (Some(first), Some(_)) = (lines.next(), lines.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    let mut sensitive = first.is_sensitive();
    for line in headers.get_all(COOKIE).iter().skip(1) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(line.as_bytes());
        sensitive |= line.is_sensitive();
    }
    headers.remove(COOKIE);
    if let Some(value) = field(joined, sensitive) {
        headers.insert(COOKIE, value);
    }
}

fn pieces(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    split(line.as_bytes())
}

/// As `line.split(';')`, but not byte by byte: a session cookie has hundreds, and is read several times a request.
fn split(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let Some(at) = memchr::memchr(b';', line) else {
            return rest.take();
        };
        rest = Some(&line[at + 1..]);
        Some(&line[..at])
    })
}

fn pair(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = memchr::memchr(b'=', piece)?;
    Some((piece[..equals].trim_ascii(), piece[equals + 1..].trim_ascii()))
}

/// A piece without `=` is cut out as well where the whole of it is such a name: it is nothing that an app needs.
fn name_of(piece: &[u8]) -> &[u8] {
    pair(piece).map_or_else(|| piece.trim_ascii(), |(name, _)| name)
}

fn without(line: &HeaderValue, is_meant: impl Fn(&[u8]) -> bool) -> Option<HeaderValue> {
    if !pieces(line).any(|piece| is_meant(name_of(piece))) {
        return Some(line.clone());
    }
    let mut kept = Vec::with_capacity(line.len());
    for piece in pieces(line).filter(|piece| !is_meant(name_of(piece))) {
        if kept.is_empty() {
            kept.extend_from_slice(piece.trim_ascii_start());
        } else {
            kept.push(b';');
            kept.extend_from_slice(piece);
        }
    }
    if kept.iter().all(|&byte| matches!(byte, b';' | b' ' | b'\t')) {
        return None;
    }
    field(kept, line.is_sensitive())
}

/// The bytes come from field values, so that they always make one; if they did not, the line would be left out.
fn field(bytes: Vec<u8>, sensitive: bool) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(bytes)).ok()?;
    value.set_sensitive(sensitive);
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        headers
            .get_all(COOKIE)
            .iter()
            .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
            .collect()
    }

    fn found(lines: &[&str], name: &str) -> Vec<String> {
        let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        values(&headers(&lines), name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    #[test]
    fn values_are_found_in_every_line_and_spacing() {
        for (sent, wanted) in [
            (&["s=1"][..], &["1"][..]),
            (&["a=0; s=1; b=2"], &["1"]),
            (&["a=0;s=1;b=2"], &["1"]),
            (&["s = 1 "], &["1"]),
            (&["\ts\t=\t1\t;"], &["1"]),
            (&["s=1; s=2"], &["1", "2"]),
            (&["a=0; s=1", "s=2; b=3"], &["1", "2"]),
            (&["s="], &[""]),
            (&["s=a=b=="], &["a=b=="]),
            (&["s=\"1\""], &["\"1\""]),
            (&["a=\"x; s=1\""], &["1\""]),
            (&["s=a,b"], &["a,b"]),
            (&["s=a b"], &["a b"]),
            (&[";;; ;s=1;;"], &["1"]),
            (&["S=1"], &[]),
            (&["s"], &[]),
            (&["xs=1; sx=2; s.=3"], &[]),
            (&["=s=1"], &[]),
            (&["a=0, s=1"], &[]),
            (&["%73=1"], &[]),
            (&["a=s=1"], &[]),
            (&[""], &[]),
            (&[], &[]),
        ] {
            assert_eq!(found(sent, "s"), wanted, "{sent:?}");
        }
    }

    #[test]
    fn a_name_is_cut_out_and_every_other_byte_stays() {
        for (sent, kept) in [
            (&["s=1"][..], &[][..]),
            (&["s=1; a=2"], &["a=2"]),
            (&["a=2; s=1"], &["a=2"]),
            (&["a=2; s=1; b=3"], &["a=2; b=3"]),
            (&["a=2;s=1;b=3"], &["a=2;b=3"]),
            (&["s=1;  a = \"x y\" ;t=9;\tb=%20"], &["a = \"x y\" ;\tb=%20"]),
            (&["s=1; s=2; s=3"], &[]),
            (&["s=1;"], &[]),
            (&[" ; s=1 ;; "], &[]),
            (&["a=\"x; s=1; y\""], &["a=\"x; y\""]),
            (&[" s =1; a=2"], &["a=2"]),
            (&["s; a=2"], &["a=2"]),
            (&["a=2", "s=1", "b=3; t=4"], &["a=2", "b=3"]),
            (&["a=2; b=3"], &["a=2; b=3"]),
            (&[" a=2 ;; b=3; "], &[" a=2 ;; b=3; "]),
            (&["ss=1; S=2"], &["ss=1; S=2"]),
        ] {
            let sent: Vec<_> = sent.iter().map(|line| line.as_bytes()).collect();
            let mut headers = headers(&sent);
            remove(&mut headers, &["s", "t"]);
            assert_eq!(lines(&headers), kept, "{sent:?}");
        }
        let mut latin = headers(&[b"a=\xe9; s=1"]);
        remove(&mut latin, &["s"]);
        assert_eq!(latin[COOKIE].as_bytes(), b"a=\xe9");
    }

    #[test]
    fn a_line_stays_secret_after_a_cut_and_a_join() {
        let mut line = HeaderValue::from_static("s=1; a=2");
        line.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("b=3"));
        headers.append(COOKIE, line);
        remove(&mut headers, &["s"]);
        join(&mut headers);
        assert_eq!(lines(&headers), ["b=3; a=2"]);
        assert!(headers[COOKIE].is_sensitive());
    }

    #[test]
    fn several_lines_become_one() {
        for (sent, joined) in [
            (&["a=1", "b=2", "c=3"][..], &["a=1; b=2; c=3"][..]),
            (&["a=1; b=2"], &["a=1; b=2"]),
            (&[], &[]),
        ] {
            let sent: Vec<_> = sent.iter().map(|line| line.as_bytes()).collect();
            let mut headers = headers(&sent);
            join(&mut headers);
            assert_eq!(lines(&headers), joined);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn after_a_removal_no_value_is_found_and_all_others_are(
            sent in prop::collection::vec("[ast=;, \"\t]{0,16}", 0..4),
        ) {
            let sent: Vec<_> = sent.iter().map(|line| line.trim().as_bytes()).collect();
            let mut headers = headers(&sent);
            let others = |headers: &HeaderMap| {
                ["a", "t", "", "as"].map(|name| values(headers, name).map(<[u8]>::to_vec).collect::<Vec<_>>())
            };
            let before = others(&headers);
            remove(&mut headers, &["s"]);
            prop_assert_eq!(values(&headers, "s").count(), 0);
            prop_assert_eq!(&others(&headers), &before);
            join(&mut headers);
            prop_assert_eq!(&others(&headers), &before);
        }
    }
}
