//! A credential in a query parameter (RFC 6750 section 2.3), for clients that cannot set a header.
//!
//! The parameter would appear in logs and `Referer` headers, so it is removed before either sees it. A client writes a token
//! into a URL on purpose: an empty or broken one is refused like one in a header.

use std::borrow::Cow;

use http::HeaderMap;

use super::{Found, token_of};
use crate::config::raw::RawSource;
use crate::http::percent::escape_at;
use crate::refusal::Refusal;

/// A query parameter by its decoded name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    name: Box<str>,
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "query parameter `{}`", self.name)
    }
}

impl Query {
    pub(super) fn compile(raw: &RawSource) -> Option<Self> {
        let RawSource::Query(name) = raw else {
            return None;
        };
        Some(Self {
            name: (**name).into(),
        })
    }

    pub(super) fn read<'a>(&self, _headers: &'a HeaderMap, query: Option<&'a str>) -> Found<'a> {
        let mut pairs = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| is_named(name_of(pair), &self.name));
        let Some(pair) = pairs.next() else {
            return Found::Absent("there is no such parameter");
        };
        if pairs.next().is_some() {
            return Found::Refused(Refusal::CredentialRepeated);
        }
        let value = pair.split_once('=').map_or("", |(_, value)| value);
        let token = if value.contains('%') {
            decoded(value).map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(value))
        };
        // A `+` stays: a form would read a space there, and neither is in a token.
        match token.filter(|token| token_of(token.as_bytes()).is_some()) {
            Some(token) => Found::Token(token),
            None => Found::Refused(Refusal::CredentialMalformed),
        }
    }

    #[expect(clippy::unused_self, reason = "every kind answers this")]
    pub(super) fn strip(&self, _headers: &mut HeaderMap) {}

    pub(super) fn query_name(&self) -> Option<&str> {
        Some(&self.name)
    }

    #[expect(clippy::unused_self, reason = "every kind answers this")]
    pub(super) fn header_name(&self) -> Option<&http::HeaderName> {
        None
    }
}

/// The name of one `name=value`, encoded as it came.
pub(super) fn name_of(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

/// Whether an encoded name decodes to `wanted`. A `%` without two digits stands for itself, as browsers decode it.
pub(super) fn is_named(encoded: &str, wanted: &str) -> bool {
    if encoded == wanted {
        return true;
    }
    encoded.contains('%')
        && decode(encoded.as_bytes())
            .map(|(byte, _)| byte)
            .eq(wanted.bytes())
}

/// The text that `value` encodes; `None` where a `%` is not followed by two digits or the bytes are not visible ASCII.
fn decoded(value: &str) -> Option<String> {
    let mut text = String::with_capacity(value.len());
    for (byte, whole) in decode(value.as_bytes()) {
        if !whole || !byte.is_ascii_graphic() {
            return None;
        }
        text.push(char::from(byte));
    }
    Some(text)
}

/// The bytes that `encoded` stands for, each with whether it is not the `%` of a broken escape.
fn decode(encoded: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *encoded.get(at)?;
        let escaped = escape_at(encoded, at);
        at += if escaped.is_some() { 3 } else { 1 };
        Some((escaped.unwrap_or(byte), byte != b'%' || escaped.is_some()))
    })
}
