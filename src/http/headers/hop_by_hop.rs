//! Fields that are about one connection and not about the message (RFC 9110 section 7.6.1).

use http::header::{CONNECTION, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What the dropped fields said of the connection that the message came on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopByHop {
    /// `TE: trailers`: the sender reads trailers (RFC 9110 section 10.1.4).
    pub te_trailers: bool,
    /// `Upgrade: websocket` in one line, listed in `Connection` too (section 7.8). With several `Upgrade` lines it is
    /// `false`, and nothing is upgraded. No other protocol is upgraded to: `h2c` would let the client talk past the
    /// gateway.
    pub websocket: bool,
}

/// Removes the fields that `Connection` lists, in however many lines, and then those that are always about one
/// connection: `Connection`, `Keep-Alive`, `Proxy-Connection`, `Transfer-Encoding`, `TE`, `Trailer`, `Upgrade`,
/// `HTTP2-Settings` (RFC 7540 section 3.2.1), and `Proxy-Authenticate`, `Proxy-Authentication-Info` and
/// `Proxy-Authorization` (RFC 9110 section 11.7: for the next proxy, which we are not a tunnel to).
///
/// Some fields stay, whatever `Connection` lists: those in `kept`, and `Host`, `Content-Length`, `Authorization`,
/// `Cookie`, `X-Forwarded-*`, `Forwarded`, `X-Real-IP` and `X-Request-Id`. Section 7.6.1 forbids to list fields that are
/// meant for all recipients. Who lists them wants two servers to disagree, or to delete what a proxy in front said: many
/// proxies pass the client's `Connection` on.
///
/// Goes for requests and answers, and has to come before our own fields are set. Allocates only for a second
/// `Connection` line.
pub fn drop_hop_by_hop(headers: &mut HeaderMap, kept: &[HeaderName]) -> HopByHop {
    let present = headers.keys().fold(0, |present, name| present | bit(name));
    let mut found = HopByHop::default();
    if present == 0 {
        return found;
    }
    if present & bit(&TE) != 0 {
        found.te_trailers = headers.get_all(TE).iter().flat_map(tokens).any(|token| {
            let coding = token.split(|&byte| byte == b';').next().unwrap_or_default();
            coding.trim_ascii().eq_ignore_ascii_case(b"trailers")
        });
    }
    let mut names_websocket = false;
    if present & bit(&UPGRADE) != 0 {
        let mut lines = headers.get_all(UPGRADE).iter();
        let line = lines.next().filter(|_| lines.next().is_none());
        names_websocket = line.is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"websocket"));
    }
    if present & bit(&CONNECTION) != 0 {
        let further: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().skip(1).cloned().collect();
        let first = headers.remove(CONNECTION);
        for token in first.iter().chain(&further).flat_map(tokens) {
            if token.eq_ignore_ascii_case(b"upgrade") {
                found.websocket = names_websocket;
            } else {
                drop_listed(headers, token, kept);
            }
        }
    }
    for (index, name) in NAMES.iter().enumerate() {
        if present & 1 << index != 0 {
            headers.remove(*name);
        }
    }
    found
}

/// In lower case; each one's place is its bit.
const NAMES: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
];

/// Whether [`drop_hop_by_hop`] removes this field wherever it is.
#[must_use]
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    bit(name) != 0
}

fn bit(name: &HeaderName) -> u32 {
    match name.as_str() {
        "connection" => 1,
        "keep-alive" => 1 << 1,
        "proxy-connection" => 1 << 2,
        "transfer-encoding" => 1 << 3,
        "te" => 1 << 4,
        "trailer" => 1 << 5,
        "upgrade" => 1 << 6,
        "http2-settings" => 1 << 7,
        "proxy-authenticate" => 1 << 8,
        "proxy-authentication-info" => 1 << 9,
        "proxy-authorization" => 1 << 10,
        _ => 0,
    }
}

/// The members of a comma-separated list (RFC 9110 section 5.6.1); empty ones are left out.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// In lower case.
const NEVER_LISTED: [&str; 9] = [
    "close",
    "keep-alive",
    "host",
    "content-length",
    "authorization",
    "cookie",
    "forwarded",
    "x-real-ip",
    "x-request-id",
];
const NEVER_LISTED_PREFIX: &str = "x-forwarded-";

fn drop_listed(headers: &mut HeaderMap, token: &[u8], kept: &[HeaderName]) {
    let Ok(token) = std::str::from_utf8(token) else {
        return;
    };
    let is_kept = |name: &str| token.eq_ignore_ascii_case(name);
    let begins_kept = token
        .get(..NEVER_LISTED_PREFIX.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(NEVER_LISTED_PREFIX));
    if begins_kept || NEVER_LISTED.into_iter().any(is_kept) || kept.iter().any(|name| is_kept(name.as_str()))
    {
        return;
    }
    headers.remove(token);
}

/// Whether a value begins or ends with a space or a tab, which HTTP/2 forbids (RFC 9113 section 8.2.1): an app to which it
/// goes on by HTTP/1 reads it without.
#[must_use]
pub(crate) fn has_padded_value(fields: &HeaderMap) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    fields
        .values()
        .map(HeaderValue::as_bytes)
        .any(|value| is_space(value.first()) || is_space(value.last()))
}

/// Whether a field may not stand in trailers, because it says how to read the message, whom it is for, who sent it, or
/// what to do with it, and comes too late for that (RFC 9110 section 6.5.1). Such a trailer is dropped.
#[must_use]
pub fn is_forbidden_trailer(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        // Framing and routing.
        "content-length" | "host" | "transfer-encoding" | "connection" | "keep-alive" | "proxy-connection" | "upgrade"
        | "te" | "trailer" | "http2-settings" | "forwarded" | "via" | "cdn-loop"
        // Request modifiers and conditions.
        | "cache-control" | "expect" | "max-forwards" | "pragma" | "range" | "if-match" | "if-none-match"
        | "if-modified-since" | "if-unmodified-since" | "if-range"
        // Who is asking, and the state between the two sides.
        | "authorization" | "proxy-authorization" | "www-authenticate" | "proxy-authenticate" | "authentication-info"
        | "proxy-authentication-info" | "cookie" | "set-cookie" | "set-cookie2" | "origin" | "referer"
        | "x-real-ip" | "x-request-id"
        // What the answer is, and where else to go.
        | "age" | "date" | "expires" | "location" | "retry-after" | "vary" | "warning" | "allow" | "accept-ranges"
        | "strict-transport-security" | "content-security-policy"
        // How to read the content.
        | "content-encoding" | "content-type" | "content-range" | "content-language" | "content-location"
        | "content-disposition"
    ) || name.starts_with("access-control-")
        || name.starts_with("sec-")
        || name.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    fn left(lines: &[(&str, &str)]) -> Vec<String> {
        let mut headers = headers(lines);
        drop_hop_by_hop(&mut headers, &[HeaderName::from_static("x-kept")]);
        let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn fields_of_the_connection_go_and_others_stay() {
        assert_eq!(
            left(&[
                ("host", "a"),
                ("connection", "keep-alive"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("transfer-encoding", "chunked"),
                ("te", "trailers"),
                ("trailer", "x-sum"),
                ("upgrade", "websocket"),
                ("http2-settings", "AAMAAABk"),
                ("proxy-authenticate", "Basic"),
                ("proxy-authentication-info", "x"),
                ("proxy-authorization", "Basic eA=="),
                ("accept", "*/*"),
                ("authorization", "Bearer x"),
            ]),
            ["accept", "authorization", "host"]
        );
    }

    #[test]
    fn listed_fields_go_from_every_line_in_every_case() {
        assert_eq!(
            left(&[
                ("connection", "close, X-One ,,\tx-two"),
                ("connection", "X-THREE"),
                ("connection", "é, not a token, x-four;q=1, , x-five"),
                ("x-one", "1"),
                ("x-one", "1"),
                ("x-two", "2"),
                ("x-three", "3"),
                ("x-four", "4"),
                ("x-five", "5"),
                ("x-six", "6"),
            ]),
            ["x-four", "x-six"]
        );
    }

    #[test]
    fn a_client_cannot_have_what_is_for_all_recipients_deleted() {
        let kept = [
            "authorization",
            "content-length",
            "cookie",
            "forwarded",
            "host",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-x",
            "x-kept",
            "x-real-ip",
            "x-request-id",
        ];
        let upper = kept.map(str::to_ascii_uppercase).join(", ");
        for listed in [kept.join(","), upper] {
            let lines = [
                ("connection", listed.as_str()),
                ("connection", "X-Other, x-forwarded, x-real-ip2"),
                ("x-other", "1"),
                ("x-forwarded", "1"),
            ];
            assert_eq!(left(&[&lines[..], &kept.map(|name| (name, "1"))].concat()), kept);
        }
    }

    #[test]
    fn what_the_connection_needs_is_told() {
        let mut map = headers(&[
            ("connection", "Upgrade, TE"),
            ("upgrade", "websocket"),
            ("te", "gzip;q=0.5, Trailers"),
            ("trailer", "x-a"),
            ("trailer", "x-b"),
        ]);
        let found = drop_hop_by_hop(&mut map, &[]);
        assert!(map.is_empty() && found.te_trailers && found.websocket);
    }

    #[test]
    fn an_upgrade_needs_its_connection_option_and_one_line() {
        for lines in [
            &[("upgrade", "websocket")][..],
            &[("upgrade", "websocket"), ("connection", "keep-alive")],
            &[
                ("upgrade", "websocket"),
                ("upgrade", "h2c"),
                ("connection", "upgrade"),
            ],
            &[("connection", "upgrade")],
            &[("upgrade", "h2c"), ("connection", "upgrade")],
        ] {
            assert!(!drop_hop_by_hop(&mut headers(lines), &[]).websocket, "{lines:?}");
        }
        for lines in [
            &[
                ("upgrade", "websocket"),
                ("connection", "keep-alive"),
                ("connection", "uPgrade"),
            ][..],
            &[("upgrade", "websocket"), ("connection", "upgrade, upgrade")],
        ] {
            assert!(drop_hop_by_hop(&mut headers(lines), &[]).websocket, "{lines:?}");
        }
        assert!(!drop_hop_by_hop(&mut headers(&[("te", "gzip")]), &[]).te_trailers);
    }

    #[test]
    fn each_name_has_its_own_bit() {
        for (index, name) in NAMES.iter().enumerate() {
            assert_eq!(bit(&HeaderName::from_static(name)), 1 << index, "{name}");
        }
        assert_eq!(bit(&HeaderName::from_static("connections")), 0);
    }

    #[test]
    fn trailers_that_come_too_late_are_forbidden() {
        for name in [
            "host",
            "content-length",
            "authorization",
            "cookie",
            "set-cookie",
            "te",
            "x-forwarded-for",
            "sec-x",
            "cdn-loop",
        ] {
            assert!(is_forbidden_trailer(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "grpc-status",
            "grpc-message",
            "x-checksum",
            "etag",
            "server-timing",
            "content-digest",
        ] {
            assert!(!is_forbidden_trailer(&HeaderName::from_static(name)), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_of_the_connection_survives(lines in prop::collection::vec(
            (
                prop::sample::select(vec!["connection", "te", "upgrade", "x-a", "host", "trailer", "keep-alive"]),
                "[a-zA-Z ,;-]{0,20}",
            ),
            0..8,
        )) {
            let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut map = headers(&lines);
            drop_hop_by_hop(&mut map, &[]);
            for name in map.keys() {
                prop_assert_eq!(bit(name), 0);
            }
            prop_assert_eq!(map.contains_key("host"), lines.iter().any(|(name, _)| *name == "host"));
        }
    }
}
