//! Request heads: whatever a client sends, no name of ours remains in any spelling, and a host is one host.
//!
//! Input: lines; the first is the target, each other one a field `name:value`.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use libfuzzer_sys::fuzz_target;
use passgate::internals::http::headers::{
    Entry, FoldedNames, Host, drop_hop_by_hop, is_forbidden_trailer, remove_if, request_host,
};

const OURS: [&str; 6] = [
    "X-Auth-User",
    "X-Auth-Roles",
    "X-Auth-Assertion",
    "Forwarded",
    "X-Real-IP",
    "Remote_User",
];
const PREFIX: &str = "X-Forwarded-";
const ONE_CONNECTION: [&str; 6] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "te",
    "upgrade",
];

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|&byte| byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&line[colon + 1..])) {
            if headers.len() < 500 {
                headers.append(name, value);
            }
        }
    }

    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        let Ok(mut request) = Request::builder().version(version).uri(target).body(()) else {
            continue;
        };
        *request.headers_mut() = headers.clone();
        let (parts, ()) = request.into_parts();
        let Ok(host) = request_host(&parts) else { continue };
        is_one_host(&host);
        let sent = parts.headers.get_all("host").iter().count();
        assert!(sent <= 1, "two Host fields");
        if let (Version::HTTP_2, Some(authority), Some(value)) =
            (version, parts.uri.authority(), parts.headers.get("host"))
        {
            assert!(
                authority
                    .as_str()
                    .as_bytes()
                    .eq_ignore_ascii_case(value.as_bytes())
            );
        }
    }

    let ours = FoldedNames::of(OURS.map(Entry::Name).into_iter().chain([Entry::Prefix(PREFIX)]));
    let listed = listed_by_connection(&headers);
    let before = headers.clone();
    drop_hop_by_hop(&mut headers, &[]);
    remove_if(&mut headers, |name| ours.matches(name));
    for name in headers.keys() {
        let name = name.as_str();
        assert!(
            !OURS.iter().any(|ours| folded(ours) == folded(name)),
            "{name} is ours"
        );
        assert!(!folded(name).starts_with(&folded(PREFIX)), "{name} is ours");
        assert!(!ONE_CONNECTION.contains(&name), "{name} is about one connection");
        assert!(
            !listed.iter().any(|listed| listed == name),
            "{name} was listed by Connection"
        );
    }
    // What is neither stays, whole and in order.
    for name in before.keys() {
        let text = name.as_str();
        let is_ours = ours.matches(name);
        assert_eq!(
            is_ours,
            OURS.iter().any(|ours| folded(ours) == folded(text)) || folded(text).starts_with(&folded(PREFIX)),
            "{text}"
        );
        let hop_by_hop = ONE_CONNECTION.contains(&text)
            || text.starts_with("proxy-")
            || matches!(text, "trailer" | "http2-settings")
            || listed.iter().any(|listed| listed == text);
        if !is_ours && !hop_by_hop {
            let (was, is) = (before.get_all(name).iter(), headers.get_all(name).iter());
            assert!(was.eq(is), "{text} changed");
        }
        let _ = is_forbidden_trailer(name);
    }
});

/// What `Connection` asks to drop, but for what is meant for all recipients.
fn listed_by_connection(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all("connection").iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .filter_map(|token| std::str::from_utf8(token.trim_ascii()).ok())
        .map(str::to_ascii_lowercase)
        .filter(|token| !token.starts_with("x-forwarded-"))
        .filter(|token| {
            let kept = [
                "",
                "close",
                "host",
                "content-length",
                "authorization",
                "cookie",
                "forwarded",
                "x-real-ip",
            ];
            !kept.contains(&token.as_str()) && token != "x-request-id" && token != "keep-alive"
        })
        .collect()
}

fn folded(name: &str) -> String {
    let fold = |character: char| {
        if character.is_ascii_alphanumeric() {
            character.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    name.chars().map(fold).collect()
}

fn is_one_host(host: &Host) {
    let name = host.name();
    assert!(!name.is_empty() && name.is_ascii(), "{name:?}");
    assert!(
        !name
            .bytes()
            .any(|byte| byte.is_ascii_uppercase() || b"@/\\?#,;% \t".contains(&byte)),
        "{name:?}"
    );
    assert!(!name.ends_with('.'), "{name:?}");
    assert!(name.starts_with('[') || !name.contains(':'), "{name:?}");
    let again = Host::parse(host.as_sent()).expect("what was sent is a host");
    assert_eq!((again.name(), again.port()), (name, host.port()));
    let canonical = Host::parse(name).expect("its one spelling is a host");
    assert_eq!((canonical.name(), canonical.port()), (name, None));
    assert!(host.as_value().to_str().is_ok());
}
