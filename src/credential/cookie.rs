//! A credential in a cookie.
//!
//! A browser may hold several cookies of one name (by path, by domain, planted by a neighbouring host) and does not say
//! which is which: different values count as none. So does a value that is no token, because browsers send cookies by
//! themselves.

use http::HeaderMap;

use super::{Found, token_of};
use crate::config::raw::RawSource;
use crate::http::cookie;

/// A cookie by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    name: Box<str>,
}

impl std::fmt::Display for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cookie `{}`", self.name)
    }
}

impl Cookie {
    pub(super) fn compile(raw: &RawSource) -> Option<Self> {
        let RawSource::Cookie(name) = raw else {
            return None;
        };
        Some(Self {
            name: (**name).into(),
        })
    }

    pub(super) fn read<'a>(&self, headers: &'a HeaderMap, _query: Option<&'a str>) -> Found<'a> {
        let mut token: Option<&'a [u8]> = None;
        for line in headers.get_all(http::header::COOKIE) {
            for value in cookie::values_in(line.as_bytes(), &self.name) {
                if token.is_some_and(|token| token != value) {
                    return Found::Absent("there are several cookies of this name with different values");
                }
                token = Some(value);
            }
        }
        match token {
            None => Found::Absent("there is no such cookie"),
            Some(value) => match token_of(value) {
                Some(token) => Found::Token(token.into()),
                None => Found::Absent("the cookie is empty or not text"),
            },
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        cookie::remove(headers, &[&self.name]);
    }

    #[expect(clippy::unused_self, reason = "every kind answers this")]
    pub(super) fn query_name(&self) -> Option<&str> {
        None
    }

    #[expect(clippy::unused_self, reason = "every kind answers this")]
    pub(super) fn header_name(&self) -> Option<&http::HeaderName> {
        None
    }
}
