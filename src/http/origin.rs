//! Whether a request came from a page of another origin.
//!
//! Input: header fields as the client sent them, the request's host, and the origins that the configuration lists. Browsers
//! attach cookies automatically, so a request with a cookie that changes something must have been made by a page of this
//! very origin, or of a listed one where that counts.

use std::net::IpAddr;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, UPGRADE};
use http::{HeaderMap, HeaderValue, Method};

use super::url::{self, Url};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Other origins whose pages may use some of the gateway's own endpoints (`session.origins`) or a route (`cors`), each as
/// browsers write it.
#[derive(Clone, Debug, Default)]
pub struct ListedOrigins(Box<[HeaderValue]>);

impl ListedOrigins {
    /// The origins of `urls`, which have neither path nor user.
    #[must_use]
    pub fn new<'a>(urls: impl Iterator<Item = &'a Url>) -> Self {
        // A URL is visible ASCII, so that each one is a value.
        Self(
            urls.filter_map(|url| HeaderValue::from_str(url.as_str()).ok())
                .collect(),
        )
    }

    /// The `Origin` of a request, where it is the only one and is listed. Compared byte by byte: a browser writes an origin
    /// in one way (RFC 6454 section 6.2).
    #[must_use]
    pub fn find(&self, headers: &HeaderMap) -> Option<&HeaderValue> {
        if self.0.is_empty() {
            return None;
        }
        let origin = only(headers)?;
        self.0.iter().find(|listed| *listed == origin)
    }

    /// Whether an `Origin` is listed, compared in the same way.
    #[must_use]
    pub(crate) fn contains(&self, origin: &HeaderValue) -> bool {
        self.0.contains(origin)
    }

    /// Whether a request is the preflight of a page of a listed origin (Fetch standard, "CORS-preflight request").
    #[must_use]
    pub fn is_preflight(&self, method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
            && self.find(headers).is_some()
    }
}

/// The `Origin` of a request, where it is the only one.
#[must_use]
pub(crate) fn only(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(ORIGIN).iter();
    values.next().filter(|_| values.next().is_none())
}

/// A field that has one value at most.
enum Field<'a> {
    Absent,
    One(&'a [u8]),
    Several,
}

impl<'a> Field<'a> {
    fn of(headers: &'a HeaderMap, name: &str) -> Self {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::One(value.as_bytes()),
            (Some(_), Some(_)) => Self::Several,
        }
    }

    fn is(&self, wanted: &[u8]) -> bool {
        matches!(self, Self::One(value) if *value == wanted)
    }
}

/// The proof that no page of another origin made the browser send a request, or that the request changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unforged(());

impl Unforged {
    /// The proof, where there is one; the rest is as of [`is_cross_origin`]. A WebSocket handshake is a GET that opens a
    /// channel in both directions, so it counts as unsafe. A page of a `listed` origin counts as one of this origin; where
    /// none may, `listed` is `None`.
    #[must_use]
    pub fn check(
        method: &Method,
        headers: &HeaderMap,
        host: &str,
        https: Option<bool>,
        listed: Option<&ListedOrigins>,
    ) -> Option<Self> {
        let may_change = may_change(method, headers);
        let is_listed = || listed.is_some_and(|listed| listed.find(headers).is_some());
        (!may_change || !is_cross_origin(headers, host, https) || is_listed()).then_some(Self(()))
    }
}

impl Unforged {
    /// For an endpoint that takes requests from pages of other sites, because it asks for a proof of its own: the return of
    /// a provider by a form, which has `state` and the cookie of its attempt (RFC 6749 section 10.12).
    #[must_use]
    pub(crate) fn by_own_proof() -> Self {
        Self(())
    }
}

/// Whether a request may change something. A WebSocket handshake is a GET that opens a channel in both directions.
#[must_use]
pub(crate) fn may_change(method: &Method, headers: &HeaderMap) -> bool {
    is_unsafe(method) || headers.contains_key(UPGRADE)
}

/// Whether `method` may change something (RFC 9110 section 9.2.1 names the safe ones).
fn is_unsafe(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

/// Whether the browser says that another origin made this request: by `Sec-Fetch-Site` (Fetch Metadata), else by
/// `Origin` (RFC 6454) against `host`. A client that sends neither is not a current browser, and no page made the request.
///
/// `host` is the Host header as sent, port included. The scheme that the browser saw is that of `public_url`, whatever
/// ends TLS in front of us; `https` is `None` where the file does not name it, and then only host and port are compared.
#[must_use]
pub(crate) fn is_cross_origin(headers: &HeaderMap, host: &str, https: Option<bool>) -> bool {
    match Field::of(headers, SEC_FETCH_SITE) {
        Field::One(site) => !matches!(site, b"same-origin" | b"none"),
        Field::Several => true,
        Field::Absent => is_of_another_origin(headers, host, https),
    }
}

/// Whether `Origin` is there and names another origin than `host`.
fn is_of_another_origin(headers: &HeaderMap, host: &str, https: Option<bool>) -> bool {
    match Field::of(headers, ORIGIN.as_str()) {
        Field::Absent => false,
        Field::One(origin) => !is_text_origin_of(origin, host, https),
        Field::Several => true,
    }
}

/// Whether a request has one `Origin`, which is that of `host` or a listed one.
#[must_use]
pub(crate) fn is_of_known_origin(
    headers: &HeaderMap,
    host: &str,
    https: Option<bool>,
    listed: &ListedOrigins,
) -> bool {
    match Field::of(headers, ORIGIN.as_str()) {
        Field::One(origin) => is_text_origin_of(origin, host, https) || listed.find(headers).is_some(),
        Field::Absent | Field::Several => false,
    }
}

/// Whether a browser leaves cookies with `SameSite=Lax` out of a request like this: a page of another site made it, and it is
/// no top-level navigation by GET (RFC 6265bis section 5.6.7.1). For cookies with `SameSite=None`, which it does not leave out.
#[must_use]
pub(crate) fn is_without_lax_cookies(
    method: &Method,
    headers: &HeaderMap,
    host: &str,
    https: Option<bool>,
) -> bool {
    let is_cross_site = match Field::of(headers, SEC_FETCH_SITE) {
        Field::One(site) => !matches!(site, b"same-origin" | b"same-site" | b"none"),
        Field::Several => true,
        Field::Absent => is_of_another_origin(headers, host, https),
    };
    let is_navigation = || {
        method == Method::GET
            && Field::of(headers, "sec-fetch-mode").is(b"navigate")
            && Field::of(headers, "sec-fetch-dest").is(b"document")
    };
    is_cross_site && !is_navigation()
}

/// Whether two origins are of one site, as far as can be told without a list of public suffixes: the scheme is the same, and
/// so are the last two labels of the host. An IP address and a name of one label are a site of their own. Ports are no part
/// of a site (HTML standard, "same site").
#[must_use]
pub(crate) fn is_same_site(one: &Url, other: &Url) -> bool {
    let site = |url: &Url| {
        let host = url.host().trim_end_matches('.').to_ascii_lowercase();
        if host.parse::<IpAddr>().is_ok() {
            return host;
        }
        let mut labels = host.rsplitn(3, '.');
        let last = labels.next().unwrap_or_default().to_owned();
        match labels.next() {
            Some(label) => format!("{label}.{last}"),
            None => last,
        }
    };
    one.scheme() == other.scheme() && site(one) == site(other)
}

/// The path and query of a `Referer` that names a page of `host` (RFC 9110 section 10.1.3); `None` for another site's.
#[must_use]
pub(crate) fn own_referer<'a>(referer: &'a str, host: &str) -> Option<&'a str> {
    let (_, _, path) = url::split(referer)?;
    let origin = &referer[..referer.len() - path.len()];
    (path.starts_with('/') && is_origin_of(origin, host, None)).then_some(path)
}

fn is_text_origin_of(origin: &[u8], host: &str, https: Option<bool>) -> bool {
    std::str::from_utf8(origin).is_ok_and(|origin| is_origin_of(origin, host, https))
}

fn is_origin_of(origin: &str, host: &str, https: Option<bool>) -> bool {
    let (is_https, default_port, authority) = match url::split(origin) {
        Some(("https", authority, "")) => (true, ":443", authority),
        Some(("http", authority, "")) => (false, ":80", authority),
        _ => return false, // `null`, or the scheme of an extension
    };
    if https.is_some_and(|https| https != is_https) {
        return false;
    }
    let without_default = |authority: &'_ str| {
        authority
            .strip_suffix(default_port)
            .unwrap_or(authority)
            .to_owned()
    };
    without_default(authority).eq_ignore_ascii_case(&without_default(host))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cross(pairs: &[(&'static str, &str)], host: &str) -> bool {
        cross_on(None, pairs, host)
    }

    fn cross_on(https: Option<bool>, pairs: &[(&'static str, &str)], host: &str) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        is_cross_origin(&headers, host, https)
    }

    #[test]
    fn fetch_metadata_decides_where_it_is_sent() {
        assert!(!cross(
            &[
                ("sec-fetch-site", "same-origin"),
                ("origin", "https://evil.example")
            ],
            "a.example"
        ));
        assert!(!cross(&[("sec-fetch-site", "none")], "a.example"));
        assert!(cross(&[("sec-fetch-site", "same-site")], "a.example"));
        assert!(cross(
            &[("sec-fetch-site", "cross-site"), ("origin", "https://a.example")],
            "a.example"
        ));
        assert!(cross(
            &[
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", "cross-site")
            ],
            "a.example"
        ));
        assert!(cross(&[("sec-fetch-site", "")], "a.example"));
    }

    #[test]
    fn the_origin_is_held_against_the_host_without_fetch_metadata() {
        assert!(!cross(&[], "a.example"));
        assert!(!cross(&[("origin", "https://a.example")], "a.example"));
        assert!(!cross(&[("origin", "https://A.example")], "a.example:443"));
        assert!(!cross(&[("origin", "http://a.example:8080")], "a.example:8080"));
        assert!(cross(&[("origin", "http://a.example:8080")], "a.example"));
        assert!(cross(&[("origin", "null")], "a.example"));
        assert!(cross(
            &[("origin", "https://a.example.evil.example")],
            "a.example"
        ));
        assert!(cross(
            &[("origin", "https://a.example"), ("origin", "https://a.example")],
            "a.example"
        ));
        assert!(cross(&[("origin", "file://a.example")], "a.example"));
    }

    #[test]
    fn the_scheme_is_that_of_the_site_where_it_is_known() {
        for (https, origin, is_cross) in [
            (Some(true), "https://a.example", false),
            (Some(true), "http://a.example", true),
            (Some(true), "http://a.example:443", true),
            (Some(true), "https://a.example:443", false),
            (Some(false), "http://a.example", false),
            (Some(false), "https://a.example", true),
            (None, "http://a.example", false),
            (None, "https://a.example", false),
        ] {
            assert_eq!(
                cross_on(https, &[("origin", origin)], "a.example"),
                is_cross,
                "{https:?} {origin}"
            );
        }
        let by_metadata = [("sec-fetch-site", "same-origin"), ("origin", "http://a.example")];
        assert!(!cross_on(Some(true), &by_metadata, "a.example"));
    }

    #[test]
    fn site_is_scheme_and_last_two_labels() {
        for (one, other, is_same) in [
            ("https://spa.example.com", "https://app.example.com", true),
            ("https://example.com", "https://a.b.example.com:8443", true),
            ("https://spa.example.com", "http://app.example.com", false),
            ("https://example.org", "https://example.com", false),
            ("https://example.com.evil.example", "https://example.com", false),
            ("http://localhost:5173", "http://localhost:8080", true),
            ("http://localhost", "http://127.0.0.1", false),
            ("https://192.0.2.1", "https://198.51.2.1", false),
            ("https://192.0.2.1:1", "https://192.0.2.1:2", true),
            ("https://[2001:db8::1]", "https://[2001:db8::1]:8443", true),
            ("https://[2001:db8::1]", "https://[2001:db8::2]", false),
        ] {
            let [one, other]: [Url; 2] = [one, other].map(|text| text.parse().unwrap());
            assert_eq!(is_same_site(&one, &other), is_same, "{one} {other}");
            assert_eq!(is_same_site(&other, &one), is_same, "{other} {one}");
        }
    }

    #[test]
    fn a_referer_of_this_host_gives_its_path() {
        for (referer, path) in [
            ("https://a.example/notes/7?edit=1", Some("/notes/7?edit=1")),
            ("https://A.example:443/", Some("/")),
            ("http://a.example/x", Some("/x")),
            ("https://a.example", None),
            ("https://a.example:8443/x", None),
            ("https://b.example/x", None),
            ("https://a.example.evil.example/x", None),
            ("https://a.example@evil.example/x", None),
            ("//a.example/x", None),
            ("/x", None),
            ("", None),
        ] {
            assert_eq!(own_referer(referer, "a.example"), path, "{referer}");
        }
        assert_eq!(
            own_referer("http://a.example:8080/x", "a.example:8080"),
            Some("/x")
        );
    }
}
