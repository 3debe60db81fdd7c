//! Whether a request came from a page of another origin.
//!
//! Input: header fields as the client sent them, and the request's host. Browsers attach cookies automatically, so a request
//! with a cookie that changes something must have been made by a page of this very origin.

use http::header::UPGRADE;
use http::{HeaderMap, Method};

use super::url;

/// The proof that no page of another origin made the browser send a request, or that the request changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unforged(());

impl Unforged {
    /// The proof, where there is one; the rest is as of [`is_cross_origin`]. A WebSocket handshake is a GET that opens a
    /// channel in both directions, so it counts as unsafe.
    #[must_use]
    pub fn check(method: &Method, headers: &HeaderMap, host: &str, https: Option<bool>) -> Option<Self> {
        let may_change = is_unsafe(method) || headers.contains_key(UPGRADE);
        (!may_change || !is_cross_origin(headers, host, https)).then_some(Self(()))
    }
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
    let mut sites = headers.get_all("sec-fetch-site").iter();
    match (sites.next(), sites.next()) {
        (Some(site), None) => return !matches!(site.as_bytes(), b"same-origin" | b"none"),
        (Some(_), Some(_)) => return true,
        (None, _) => {}
    }
    let mut origins = headers.get_all(http::header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => false,
        (Some(origin), None) => !origin
            .to_str()
            .is_ok_and(|origin| is_origin_of(origin, host, https)),
        (Some(_), Some(_)) => true,
    }
}

/// The path and query of a `Referer` that names a page of `host` (RFC 9110 section 10.1.3); `None` for another site's.
#[must_use]
pub(crate) fn own_referer<'a>(referer: &'a str, host: &str) -> Option<&'a str> {
    let (_, _, path) = url::split(referer)?;
    let origin = &referer[..referer.len() - path.len()];
    (path.starts_with('/') && is_origin_of(origin, host, None)).then_some(path)
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
