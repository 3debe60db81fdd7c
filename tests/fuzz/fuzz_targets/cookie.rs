//! Cookies: one that is taken out is out in every spelling, and the others stay as they were.
//!
//! Input: lines; the first is a name, each other one a `Cookie` field.
#![no_main]

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use passgate::internals::http::cookie;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|&byte| byte == b'\n');
    let Some(name) = lines.next().and_then(|name| std::str::from_utf8(name).ok()) else {
        return;
    };
    // The name of a cookie is a token (RFC 6265 section 4.1.1), and the configuration is held to that.
    if name.is_empty()
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"=;,\"\\".contains(&byte))
    {
        return;
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(COOKIE, value);
        }
    }
    let before = headers.clone();
    let values: Vec<Vec<u8>> = cookie::values(&headers, name).map(<[u8]>::to_vec).collect();
    let others = pieces(&before, name);

    // Joining lines changes what they are, not what they say.
    let mut joined = headers.clone();
    cookie::join(&mut joined);
    assert!(joined.get_all(COOKIE).iter().count() <= 1);
    assert_eq!(cookie::values(&joined, name).collect::<Vec<_>>(), values);
    assert_eq!(pieces(&joined, name), others);

    cookie::remove(&mut headers, &[name]);
    assert_eq!(
        cookie::values(&headers, name).count(),
        0,
        "the cookie is still there"
    );
    assert_eq!(pieces(&headers, name), others, "another cookie changed");
    for line in headers.get_all(COOKIE) {
        assert!(
            !occurs(line.as_bytes(), name.as_bytes()),
            "{line:?} still says {name}"
        );
    }
    if values.is_empty()
        && !before
            .get_all(COOKIE)
            .iter()
            .any(|line| occurs(line.as_bytes(), name.as_bytes()))
    {
        assert_eq!(headers, before, "changed for nothing");
    }
    let once = headers.clone();
    cookie::remove(&mut headers, &[name]);
    assert_eq!(headers, once);
});

/// Every piece that is not called `name` and not empty, in order, without the white space around it.
fn pieces(headers: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    let lines = headers.get_all(COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|piece| !piece.is_empty() && !is_called(piece, name.as_bytes()))
        .map(<[u8]>::to_vec)
        .collect()
}

fn is_called(piece: &[u8], name: &[u8]) -> bool {
    piece
        .strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.trim_ascii_start().starts_with(b"="))
}

/// Whether some server would find a cookie `name` in `line`: the name at the start of a piece, and then `=`.
fn occurs(line: &[u8], name: &[u8]) -> bool {
    line.split(|&byte| byte == b';')
        .any(|piece| is_called(piece.trim_ascii(), name))
}
