//! Where a request came from: `X-Forwarded-For/Proto/Host/Port` and `X-Request-Id`.
//!
//! None of them is believed from a peer that is no trusted proxy. Of a trusted proxy these five are read; well-formed values
//! are kept, and the address of the proxy is added. Its other forwarding fields pass only if `server.trusted_headers` names
//! them.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::{LazyLock, OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{PeerAddress, TrustedProxies};
use crate::http::headers::{Entry, FoldedNames};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static HTTP: HeaderValue = HeaderValue::from_static("http");
static HTTPS: HeaderValue = HeaderValue::from_static("https");
static PORT_80: HeaderValue = HeaderValue::from_static("80");
static PORT_443: HeaderValue = HeaderValue::from_static("443");

/// Every name that says where a request came from, as [`Entry::pattern`] reads them.
pub(super) const NAMES: [&str; 4] = ["Forwarded", "X-Forwarded-*", "X-Real-IP", "X-Request-Id"];

/// The same.
pub(super) static FORWARDING: LazyLock<FoldedNames> =
    LazyLock::new(|| FoldedNames::of(NAMES.map(Entry::pattern)));

/// Those that [`set_forwarded`] sets, and the prefix that was cut off.
static SET: LazyLock<FoldedNames> = LazyLock::new(|| {
    FoldedNames::new([
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Request-Id",
    ])
});

/// The longest request id taken from a trusted proxy.
const MAX_REQUEST_ID: usize = 128;
/// The longest host name with port (RFC 1035 section 2.3.4, and `:65535`).
const MAX_HOST: usize = 255 + 6;

/// The peer of a connection; made once when it is accepted, and checked again with each configuration.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address, an IPv4 one also where the socket is of IPv6. A peer on a unix socket counts as `127.0.0.1`.
    pub ip: IpAddr,
    /// Whether the client's scheme is https, as far as the connection tells: it came by TLS, or from this machine without
    /// being listed where `public_url` is `https://`.
    pub https: bool,
    /// Whether it is in `server.trusted_proxies`.
    pub trusted: bool,
    address: PeerAddress,
    tls: bool,
    ip_value: HeaderValue,
    /// The port that its first request named, where that is neither 80 nor 443: most others name the same.
    port: OnceLock<(u16, HeaderValue)>,
}

impl Peer {
    /// Looks the peer up among the trusted proxies. `tls`: whether the connection is encrypted.
    #[must_use]
    pub fn new(address: impl Into<PeerAddress>, tls: bool, proxies: &TrustedProxies) -> Self {
        let address = address.into();
        let ip = address.ip();
        let ip_value = HeaderValue::try_from(ip.to_string()).expect("an address is a header value");
        let (trusted, https) = (proxies.trusts(address), proxies.is_https(address, tls));
        Self {
            ip,
            https,
            trusted,
            address,
            tls,
            ip_value,
            port: OnceLock::new(),
        }
    }

    /// The same peer under `proxies`, which may have changed since the connection was accepted.
    #[must_use]
    pub fn under(&self, proxies: &TrustedProxies) -> Cow<'_, Self> {
        let (trusted, https) = (
            proxies.trusts(self.address),
            proxies.is_https(self.address, self.tls),
        );
        if (trusted, https) == (self.trusted, self.https) {
            Cow::Borrowed(self)
        } else {
            Cow::Owned(Self {
                trusted,
                https,
                ..self.clone()
            })
        }
    }

    fn port_value(&self, port: u16) -> HeaderValue {
        match port {
            80 => PORT_80.clone(),
            443 => PORT_443.clone(),
            _ => {
                let (known, value) = self.port.get_or_init(|| (port, HeaderValue::from(port)));
                if *known == port {
                    value.clone()
                } else {
                    HeaderValue::from(port)
                }
            }
        }
    }

    /// Whether it may be a reverse proxy that `server.trusted_proxies` forgets: it is on this machine or in a private
    /// network, and not listed.
    #[must_use]
    pub fn may_be_proxy(&self) -> bool {
        !self.trusted && self.address.is_local()
    }
}

/// Whether a peer that is not trusted says where the request came from, which a proxy does that `server.trusted_proxies`
/// forgets (and any client can).
#[must_use]
pub(crate) fn is_unlisted_proxy(headers: &HeaderMap, peer: &Peer) -> bool {
    !peer.trusted && !peer.address.is_announced() && headers.contains_key(&X_FORWARDED_FOR)
}

/// Sets the forwarding headers for the app, after [`super::IdentityHeaders::strip`].
///
/// `host` is the Host of the request, `request_id` the id in our log (see [`incoming_request_id`]). Of a list that a
/// trusted proxy gave as scheme, host or port (`https, http`) the first element counts: each proxy adds its own at the end.
pub(crate) fn set_forwarded(
    headers: &mut HeaderMap,
    peer: &Peer,
    host: &HeaderValue,
    request_id: &HeaderValue,
) {
    let said = if peer.trusted {
        Said::read(headers)
    } else {
        Said::default()
    };
    let path = if peer.trusted {
        extended_path(headers, peer)
    } else {
        None
    };
    let https = said.https.unwrap_or(peer.https);
    let host = said.host.unwrap_or_else(|| host.clone());
    let port = said
        .port
        .or_else(|| port_of(host.as_bytes()))
        .unwrap_or(if https { 443 } else { 80 });
    headers.insert(
        X_FORWARDED_FOR.clone(),
        path.unwrap_or_else(|| peer.ip_value.clone()),
    );
    headers.insert(
        X_FORWARDED_PROTO.clone(),
        if https { HTTPS.clone() } else { HTTP.clone() },
    );
    headers.insert(X_FORWARDED_PORT.clone(), peer.port_value(port));
    headers.insert(X_FORWARDED_HOST.clone(), host);
    headers.insert(X_REQUEST_ID.clone(), request_id.clone());
}

/// What a trusted proxy said well.
#[derive(Debug, Default)]
struct Said {
    https: Option<bool>,
    host: Option<HeaderValue>,
    port: Option<u16>,
}

impl Said {
    fn read(headers: &HeaderMap) -> Self {
        let (host, list) = first(headers, &X_FORWARDED_HOST);
        Self {
            https: is_https(first(headers, &X_FORWARDED_PROTO).0),
            host: if is_host(host) { as_value(host, list) } else { None },
            port: port(first(headers, &X_FORWARDED_PORT).0),
        }
    }
}

/// The first element of the list in the first line of a field, and that line; nothing where there is none.
fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> (&'a [u8], Option<&'a HeaderValue>) {
    let line = headers.get(name);
    let element = line.and_then(|line| line.as_bytes().split(|byte| *byte == b',').next());
    (element.unwrap_or_default().trim_ascii(), line)
}

/// `text`, a part of `line`, as a value of its own; without copying if it is the whole line.
fn as_value(text: &[u8], line: Option<&HeaderValue>) -> Option<HeaderValue> {
    line.filter(|line| line.as_bytes() == text)
        .cloned()
        .or_else(|| HeaderValue::from_bytes(text).ok())
}

/// Says what was cut off the front of the path, as apps know it from other proxies.
pub(crate) fn set_forwarded_prefix(headers: &mut HeaderMap, prefix: &HeaderValue) {
    headers.insert(X_FORWARDED_PREFIX.clone(), prefix.clone());
}

/// The host that the app was told of.
#[must_use]
pub(crate) fn forwarded_host(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(&X_FORWARDED_HOST)
}

/// The request id that a trusted proxy gave, where it is one line of 1 to 128 letters, digits and `-._~:=+/@`. To be
/// used in our log and for the app instead of one of our own.
#[must_use]
pub(crate) fn incoming_request_id(headers: &HeaderMap, peer: &Peer) -> Option<HeaderValue> {
    if !peer.trusted {
        return None;
    }
    single(headers, &X_REQUEST_ID)
        .filter(|value| is_request_id(value))
        .cloned()
}

/// Whether a request came by HTTPS: on this connection or, as a trusted proxy says, to that proxy. A yes or no for every
/// request; [`Scheme`](super::scheme::Scheme) is for the pages, and also detects a proxy that says nothing.
#[must_use]
pub(crate) fn came_by_https(headers: &HeaderMap, peer: &Peer) -> bool {
    let said = if peer.trusted {
        headers.get(&X_FORWARDED_PROTO)
    } else {
        None
    };
    match said {
        // Of several proxies the one that the client talks to comes first.
        Some(said) => said
            .as_bytes()
            .split(|byte| *byte == b',')
            .next()
            .is_some_and(|first| first.trim_ascii().eq_ignore_ascii_case(b"https")),
        None => peer.https,
    }
}

/// The address of the client: that of the peer, or, behind trusted proxies, the last one in `X-Forwarded-For` that is
/// not a trusted proxy itself. Entries to its left were written by the client and mean nothing.
#[must_use]
pub(crate) fn client_ip(headers: &HeaderMap, peer: &Peer, proxies: &TrustedProxies) -> IpAddr {
    let mut client = peer.ip;
    if !peer.trusted {
        return client;
    }
    for (ip, _) in path_so_far(headers) {
        client = ip;
        if !proxies.contains(ip) {
            return client;
        }
    }
    client
}

/// The same address for a decision about the client; `None`: it is not known. A peer on a unix socket has no address, and a
/// trusted proxy that names no client says nothing about it.
#[must_use]
pub(crate) fn known_client_ip(headers: &HeaderMap, peer: &Peer, proxies: &TrustedProxies) -> Option<IpAddr> {
    let is_known = if peer.trusted {
        path_so_far(headers).next().is_some()
    } else {
        peer.address.is_known()
    };
    is_known
        .then(|| client_ip(headers, peer, proxies))
        .filter(|ip| !ip.is_unspecified())
}

/// Whether a trusted proxy's field of this name is read, and so stays. It is spelled in the one plain way.
pub(super) fn is_read(name: &HeaderName) -> bool {
    [
        &X_FORWARDED_FOR,
        &X_FORWARDED_PROTO,
        &X_FORWARDED_HOST,
        &X_FORWARDED_PORT,
        &X_REQUEST_ID,
    ]
    .contains(&name)
}

/// Whether a name as configured, in any spelling, is one that passgate sets to say where a request came from.
pub(super) fn is_set(name: &str) -> bool {
    SET.matches_text(name)
}

/// The entries of `X-Forwarded-For` from the right, as addresses and as written, up to one that is no address: past that,
/// nothing is known.
fn path_so_far(headers: &HeaderMap) -> impl Iterator<Item = (IpAddr, &[u8])> {
    let lines = headers.get_all(&X_FORWARDED_FOR).into_iter().rev();
    lines
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .map_while(|entry| {
            let entry = entry.trim_ascii();
            Some((parse_address(entry)?, entry))
        })
}

/// What a trusted proxy knew of the path so far, and the proxy itself.
fn extended_path(headers: &HeaderMap, peer: &Peer) -> Option<HeaderValue> {
    let entries: Vec<&[u8]> = path_so_far(headers).map(|(_, entry)| entry).collect();
    if entries.is_empty() {
        return None;
    }
    let mut path = Vec::with_capacity(entries.iter().map(|entry| entry.len() + 2).sum::<usize>() + 48);
    for entry in entries.into_iter().rev() {
        path.extend_from_slice(entry);
        path.extend_from_slice(b", ");
    }
    path.extend_from_slice(peer.ip_value.as_bytes());
    HeaderValue::try_from(path).ok()
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).into_iter();
    lines.next().filter(|_| lines.next().is_none())
}

/// `None` where it is no scheme of a site. Some proxies name that of a WebSocket.
fn is_https(scheme: &[u8]) -> Option<bool> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name.as_bytes());
    if is("https") || is("wss") {
        return Some(true);
    }
    (is("http") || is("ws")).then_some(false)
}

/// RFC 9110 section 7.2, without the characters of reg-name that no host has.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let (host, rest) = match text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((inner, rest)) => {
            return inner.parse::<std::net::Ipv6Addr>().is_ok() && (rest.is_empty() || is_port(rest));
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_name = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    text.len() <= MAX_HOST && !host.is_empty() && is_name && (rest.is_empty() || is_port(rest))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|digits| port(digits.as_bytes()).is_some())
}

/// The port behind a host.
fn port_of(host: &[u8]) -> Option<u16> {
    let colon = host
        .iter()
        .rposition(|byte| *byte == b':')
        .filter(|_| host.last() != Some(&b']'))?;
    port(&host[colon + 1..])
}

/// 1 to 65535, in digits alone.
fn port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .filter(|port| *port != 0)
}

fn is_request_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=MAX_REQUEST_ID).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~:=+/@".contains(byte))
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

#[cfg(test)]
mod tests;
