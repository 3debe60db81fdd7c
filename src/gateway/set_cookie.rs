//! `Set-Cookie` fields of the gateway in answers of apps.
//!
//! Input: the fields of an answer. Output: the same without cookies of the gateway's names, or with one of them. Invariant: no
//! cache may keep an answer with a cookie of the gateway for others.

use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// Removes each `Set-Cookie` of a cookie whose name is meant. Returns how many there were.
pub(super) fn strip(headers: &mut HeaderMap, is_meant: impl Fn(&[u8]) -> bool) -> usize {
    let is_meant = |field: &&HeaderValue| is_meant(name_of(field));
    let meant = headers.get_all(SET_COOKIE).iter().filter(is_meant).count();
    if meant == 0 {
        return 0;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter(|field| !is_meant(field))
        .cloned()
        .collect();
    headers.remove(SET_COOKIE);
    for field in kept {
        headers.append(SET_COOKIE, field);
    }
    meant
}

/// Adds `set_cookie` to an answer.
pub(super) fn add(headers: &mut HeaderMap, set_cookie: HeaderValue) {
    headers.append(SET_COOKIE, set_cookie);
    let is_kept_private = |field: &HeaderValue| {
        field.to_str().is_ok_and(|text| {
            text.split(',').any(|part| {
                let part = part.trim();
                part.eq_ignore_ascii_case("private") || part.eq_ignore_ascii_case("no-store")
            })
        })
    };
    // What is said to one kind of cache alone counts more there (RFC 9213 section 2.2).
    let is_targeted = |name: &str| name.ends_with("cdn-cache-control") || name == "surrogate-control";
    let targeted: Vec<_> = headers
        .keys()
        .filter(|name| is_targeted(name.as_str()))
        .cloned()
        .collect();
    for name in targeted {
        headers.remove(name);
    }
    if !headers.get_all(CACHE_CONTROL).iter().any(is_kept_private) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
}

/// The name of the cookie that a `Set-Cookie` sets. Of one without a name it is what comes back as the name: browsers keep
/// `=session=x` as the value `session=x` of no name, and send just that (RFC 6265bis sections 5.6 and 5.8.3).
pub(super) fn name_of(field: &HeaderValue) -> &[u8] {
    let pair = field
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    let is_before_name = |byte: &u8| *byte == b'=' || byte.is_ascii_whitespace();
    let start = pair
        .iter()
        .position(|byte| !is_before_name(byte))
        .unwrap_or(pair.len());
    pair[start..]
        .split(|byte| *byte == b'=')
        .next()
        .unwrap_or_default()
        .trim_ascii()
}
