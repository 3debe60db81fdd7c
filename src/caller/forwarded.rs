//! Where a request came from: `X-Forwarded-For/Proto/Host` and `X-Request-Id`.
//!
//! From anybody but a trusted proxy nothing of it is believed; a trusted proxy's word is kept where it is well-formed,
//! and its own address is added.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::http::headers::FoldedNames;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static HTTP: HeaderValue = HeaderValue::from_static("http");
static HTTPS: HeaderValue = HeaderValue::from_static("https");

/// Every name that says where a request came from.
static FORWARDING: LazyLock<FoldedNames> =
    LazyLock::new(|| FoldedNames::new(["forwarded", "x-real-ip", "x-request-id"]).and_prefixes(["x-forwarded-"]));

/// The longest request id taken from a trusted proxy.
const MAX_REQUEST_ID: usize = 128;
/// The longest host name with port (RFC 1035 section 2.3.4, and `:65535`).
const MAX_HOST: usize = 255 + 6;

/// Who is at the other end of a connection; made once when it is accepted, and looked at anew with each configuration.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address, an IPv4 one also where the socket is of IPv6. A peer on a unix socket counts as `127.0.0.1`.
    pub ip: IpAddr,
    /// Whether it came by TLS.
    pub https: bool,
    /// Whether it is in `server.trusted_proxies`.
    pub trusted: bool,
    ip_value: HeaderValue,
}

impl Peer {
    /// Looks the peer up among the trusted proxies.
    #[must_use]
    pub fn new(ip: IpAddr, https: bool, trusted_proxies: &[IpNet]) -> Self {
        let ip = ip.to_canonical();
        let ip_value = HeaderValue::try_from(ip.to_string()).expect("an address is a header value");
        Self { ip, https, trusted: is_in(ip, trusted_proxies), ip_value }
    }

    /// The same peer under `trusted_proxies`, which may have changed since the connection was accepted.
    #[must_use]
    pub fn under(&self, trusted_proxies: &[IpNet]) -> Cow<'_, Self> {
        match is_in(self.ip, trusted_proxies) {
            trusted if trusted == self.trusted => Cow::Borrowed(self),
            trusted => Cow::Owned(Self { trusted, ..self.clone() }),
        }
    }
}

/// Sets the forwarding headers for the app, after [`super::Naming::strip`].
///
/// `host` is the Host of the request, `request_id` the id in our log (see [`incoming_request_id`]).
pub fn set_forwarded(headers: &mut HeaderMap, peer: &Peer, host: &HeaderValue, request_id: &HeaderValue) {
    let path = if peer.trusted { extended_path(headers, peer) } else { None };
    headers.insert(X_FORWARDED_FOR.clone(), path.unwrap_or_else(|| peer.ip_value.clone()));
    if !(peer.trusted && single(headers, &X_FORWARDED_PROTO).is_some_and(is_proto)) {
        headers.insert(X_FORWARDED_PROTO.clone(), if peer.https { HTTPS.clone() } else { HTTP.clone() });
    }
    if !(peer.trusted && single(headers, &X_FORWARDED_HOST).is_some_and(is_host)) {
        headers.insert(X_FORWARDED_HOST.clone(), host.clone());
    }
    headers.insert(X_REQUEST_ID.clone(), request_id.clone());
}

/// The request id that a trusted proxy gave, where it is one line of 1 to 128 letters, digits and `-._~:=+/@`. To be
/// used in our log and for the app instead of one of our own.
#[must_use]
pub fn incoming_request_id(headers: &HeaderMap, peer: &Peer) -> Option<HeaderValue> {
    if !peer.trusted {
        return None;
    }
    single(headers, &X_REQUEST_ID).filter(|value| is_request_id(value)).cloned()
}

/// The address of the client: that of the peer, or, behind trusted proxies, the last one in `X-Forwarded-For` that is
/// not a trusted proxy itself. What stands to its left was written by the client and means nothing.
#[must_use]
pub fn client_ip(headers: &HeaderMap, peer: &Peer, trusted_proxies: &[IpNet]) -> IpAddr {
    let mut client = peer.ip;
    if !peer.trusted {
        return client;
    }
    for line in headers.get_all(&X_FORWARDED_FOR).into_iter().rev() {
        for entry in line.as_bytes().rsplit(|byte| *byte == b',') {
            let Some(ip) = parse_address(entry) else { return client };
            client = ip;
            if !is_in(ip, trusted_proxies) {
                return client;
            }
        }
    }
    client
}

/// Whether a name, in any spelling, says where a request came from.
pub(super) fn is_forwarding(name: &HeaderName) -> bool {
    FORWARDING.matches(name)
}

/// As [`is_forwarding`], for a name as configured.
pub(super) fn is_forwarding_text(name: &str) -> bool {
    FORWARDING.matches_text(name)
}

/// Whether a name is spelt with letters, digits and hyphens alone; a `HeaderName` is in lower case.
pub(super) fn is_plainly_spelt(name: &HeaderName) -> bool {
    name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// What a trusted proxy knew of the path so far, and the proxy itself.
fn extended_path(headers: &HeaderMap, peer: &Peer) -> Option<HeaderValue> {
    let mut path = Vec::new();
    for line in headers.get_all(&X_FORWARDED_FOR).into_iter().filter(|line| !line.is_empty()) {
        path.extend_from_slice(line.as_bytes());
        path.extend_from_slice(b", ");
    }
    if path.is_empty() {
        return None;
    }
    path.extend_from_slice(peer.ip_value.as_bytes());
    HeaderValue::try_from(path).ok()
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).into_iter();
    lines.next().filter(|_| lines.next().is_none())
}

fn is_proto(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"http") || value.as_bytes().eq_ignore_ascii_case(b"https")
}

/// RFC 9110 section 7.2, without the characters of reg-name that no host has.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let (host, rest) = match text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((inner, rest)) => {
            return inner.parse::<std::net::Ipv6Addr>().is_ok() && (rest.is_empty() || is_port(rest));
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    text.len() <= MAX_HOST && !host.is_empty() && is_name && (rest.is_empty() || is_port(rest))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|digits| (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_request_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=MAX_REQUEST_ID).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:=+/@".contains(byte))
}

/// An entry of `X-Forwarded-For`: an address, in brackets if it likes and with a port if it likes.
fn parse_address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let ip = text
        .parse()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(ip.to_canonical())
}

fn is_in(ip: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

#[cfg(test)]
mod tests;
