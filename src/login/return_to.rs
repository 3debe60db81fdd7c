//! The page after signing in: always a path of this very site.
//!
//! Input: a path from a link or a form. Output: the same path, or nothing. Invariants: no redirect to another site (`//evil`,
//! `/\evil`, a tab that browsers drop from between two slashes), no line break in a header, no redirect loop.

use http::{HeaderValue, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::http::target::Target;

/// The name of the parameter, in the query and in the form.
pub(super) const PARAMETER: &str = "return_to";

/// The same in the query of the sign-in page, as oauth2-proxy calls it.
pub(super) const OTHER_NAME: &str = "rd";

/// The longest one, in bytes.
const MAX_BYTES: usize = 2048;

/// `text` where one may be sent there.
///
/// Only visible ASCII is taken, as every URL has it on the wire, so that there is nothing for a browser to drop or to
/// correct; and only a path that the gateway would match in one way, so that `/a/../auth/login` is seen for what it is.
pub(super) fn accept<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let bytes = text.as_bytes();
    if bytes.len() > MAX_BYTES || bytes.first() != Some(&b'/') || bytes.get(1) == Some(&b'/') {
        return None;
    }
    if !bytes.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'\\') {
        return None;
    }
    let target = Target::parse(&text.parse::<Uri>().ok()?).ok()?;
    let is_circle = |rest: &str| {
        ["/login", "/logout", "/register", "/continue"]
            .iter()
            .filter_map(|ours| rest.strip_prefix(ours))
            .any(|below| below.is_empty() || below.starts_with('/'))
    };
    (!target.matching().strip_prefix(prefix).is_some_and(is_circle)).then_some(text)
}

/// `Location` of the sign-in page, and of `path` after it; of the sign-in page alone where `path` is not a place to return to.
#[must_use]
pub(crate) fn login_then(prefix: &str, path: &str) -> HeaderValue {
    let mut location = format!("{prefix}/login");
    if let Some(path) = accept(path, prefix).filter(|path| *path != "/") {
        location.push('?');
        location.push_str(PARAMETER);
        location.push('=');
        encode(path, &mut location);
    }
    // The prefix is a canonical path, so that this always is a header value.
    HeaderValue::try_from(location).unwrap_or(HeaderValue::from_static("/"))
}

/// What is encoded in the value of a parameter: all but the unreserved characters (RFC 3986 section 2.3) and `/`.
const IN_PARAMETER: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Writes `text` as the value of a parameter.
pub(super) fn encode(text: &str, into: &mut String) {
    into.extend(utf8_percent_encode(text, &IN_PARAMETER));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::login::form::parameter;

    #[test]
    fn a_path_of_this_site_is_taken_as_it_is() {
        for path in [
            "/",
            "/reports",
            "/reports/2026?year=2026&q=a%20b",
            "/a/b#part",
            "/auth/sessions",
            "/auth/password",
            "/auth/loginx",
            "/a//b",
            "/a;v=1",
            "/@evil.example",
            "/https://evil.example",
            "/%E2%82%AC",
        ] {
            assert_eq!(accept(path, "/auth"), Some(path));
        }
    }

    #[test]
    fn nothing_leads_to_another_site() {
        for path in [
            "",
            "evil.example",
            "https://evil.example/",
            "https:evil.example",
            "javascript:alert(1)",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "/a\\b",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " /x",
            "/ /evil.example",
            "/%09/evil.example",
            "/%5cevil.example",
            "/.//evil.example",
            "/..//evil.example",
            "/a/..//evil.example",
            "/%2e%2e//evil.example",
            "/\u{2044}/evil.example",
            "/\u{0}",
            "/\u{7f}",
            "?x=1",
            "#x",
        ] {
            assert_eq!(accept(path, "/auth"), None, "{path:?}");
        }
    }

    #[test]
    fn no_header_can_be_split() {
        for path in [
            "/x\r\nset-cookie: a=b",
            "/x\nset-cookie: a=b",
            "/x\r",
            "/x?\r\n\r\n<script>",
            "/\u{10a}\u{10d}",
        ] {
            assert_eq!(accept(path, "/auth"), None, "{path:?}");
        }
    }

    #[test]
    fn nobody_is_led_in_a_circle_or_signed_out_again() {
        for path in [
            "/auth/login",
            "/auth/login?return_to=/auth/login",
            "/auth/%6cogin",
            "/auth/login/x",
            "/auth/logout",
            "/auth/continue?code=x",
            "/auth/register?setup=x",
            "/auth;a/login",
            "/auth//login",
        ] {
            assert_eq!(accept(path, "/auth"), None, "{path}");
        }
    }

    #[test]
    fn the_length_is_limited() {
        let longest = format!("/{}", "a".repeat(MAX_BYTES - 1));
        assert_eq!(accept(&longest, "/auth"), Some(longest.as_str()));
        assert_eq!(accept(&format!("{longest}a"), "/auth"), None);
    }

    #[test]
    fn the_way_to_the_sign_in_page_leads_back_to_what_was_asked_for() {
        let location = |path: &str| {
            let target = Target::parse(&path.parse().unwrap()).unwrap();
            login_then("/auth", target.path_and_query().as_str())
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(location("/"), "/auth/login");
        assert_eq!(location("/reports"), "/auth/login?return_to=/reports");
        assert_eq!(
            location("/a?b=c&d=%20#"),
            "/auth/login?return_to=/a%3Fb%3Dc%26d%3D%2520"
        );
        assert_eq!(location("/auth/login?return_to=/x"), "/auth/login");
        assert_eq!(location(&format!("/{}", "a".repeat(MAX_BYTES))), "/auth/login");
        let there = location("/a+b?q=1+2&r=%26");
        let query = there.split_once('?').unwrap().1;
        assert_eq!(
            parameter(Some(query), PARAMETER).as_deref().map(String::as_str),
            Some("/a+b?q=1+2&r=%26")
        );
    }
}
