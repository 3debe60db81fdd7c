//! Which requests the admin port answers, and which clients see decisions.
//!
//! Input: the fields of a request, and how its client is connected. Output: a refusal, or none. Invariants: a TCP port answers
//! only requests for an address or for a name that the operator gave it; any other name may be one that a page in an operator's
//! browser resolved to this address (DNS rebinding) to read the answer. Decisions are for a unix socket, whose file only its
//! owner may open, and for this machine; for others only with the token. A request that a proxy has forwarded comes from
//! elsewhere, wherever the proxy is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};

use super::{Report, plain};
use crate::http::headers::Host;

/// The least length of a token, in bytes: shorter ones can be guessed.
const LEAST_TOKEN: usize = 16;

/// The token of `[admin] token`, as its hash.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AdminToken(blake3::Hash);

impl AdminToken {
    /// # Errors
    /// It is too short, or cannot be sent in a header field.
    pub(crate) fn new(token: &[u8]) -> Result<Self, String> {
        if token.len() < LEAST_TOKEN {
            return Err(format!(
                "it has {} bytes, and needs at least {LEAST_TOKEN}",
                token.len()
            ));
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err("it holds white space or a character outside ASCII".to_owned());
        }
        Ok(Self(blake3::hash(token)))
    }

    /// Whether it is this one; takes as long for each other one.
    #[must_use]
    pub(crate) fn is(&self, token: &[u8]) -> bool {
        self.0 == blake3::hash(token)
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// No token is configured.
    NoneConfigured,
    Right,
    Wrong,
    /// There were too many wrong ones of this client; this one is not looked at.
    TooMany,
}

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// By TCP, as every program can that reaches the port, browsers among them.
    Network(IpAddr),
    /// By a unix socket, as programs can that may open its file; no browser does.
    File,
}

/// Why a client does not see decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    CrossSite,
    TokenMissing,
    TokenWrong,
    TooManyTokens,
    Elsewhere,
}

/// Whether a client sees decisions.
///
/// # Errors
/// The reason why not.
pub(super) fn may_see_decisions(
    report: &dyn Report,
    client: Client,
    headers: &HeaderMap,
) -> Result<(), Denied> {
    let from_page = |site: &HeaderValue| !matches!(site.as_bytes(), b"none" | b"same-origin");
    if headers.contains_key(ORIGIN) || headers.get_all("sec-fetch-site").iter().any(from_page) {
        return Err(Denied::CrossSite);
    }
    let peer = match client {
        Client::Network(peer) => peer.to_canonical(),
        Client::File => Ipv6Addr::UNSPECIFIED.into(),
    };
    let tried = match bearer(headers) {
        Some(token) => report.try_token(peer, token),
        None => Tried::NoneConfigured,
    };
    match tried {
        Tried::Right => return Ok(()),
        Tried::Wrong => return Err(Denied::TokenWrong),
        Tried::TooMany => return Err(Denied::TooManyTokens),
        Tried::NoneConfigured => {}
    }
    let is_here = client == Client::File || peer.is_loopback();
    if is_here && !headers.keys().any(is_of_proxy) {
        return Ok(());
    }
    Err(if report.has_token() {
        Denied::TokenMissing
    } else {
        Denied::Elsewhere
    })
}

/// Whether a field is one by which proxies say where a request came from.
fn is_of_proxy(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "forwarded"
            | "via"
            | "x-real-ip"
            | "x-client-ip"
            | "true-client-ip"
            | "cf-connecting-ip"
            | "x-envoy-external-address"
    ) || name.starts_with("x-forwarded-")
        || name.starts_with("x-original-")
}

/// The token of the only `Authorization`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (field, None) = (fields.next()?, fields.next()) else {
        return Some(b"");
    };
    let (scheme, token) = field.as_bytes().split_at_checked(b"Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// The answer to a request that is not for this port.
pub(super) fn refuse_host(report: &dyn Report, client: Client, request: &Parts) -> Option<Response<Bytes>> {
    if client == Client::File {
        return None;
    }
    let fields: Vec<&HeaderValue> = request.headers.get_all(HOST).iter().collect();
    let named = request.uri.authority().map(|authority| authority.as_str());
    match (fields.as_slice(), named) {
        // Simple probes speak HTTP/1.0; a browser always names a host.
        ([], None) if request.version == Version::HTTP_10 => return None,
        ([_], _) => {}
        _ => {
            return Some(plain(
                StatusCode::BAD_REQUEST,
                "one `Host` is needed\n".to_owned(),
            ));
        }
    }
    let is_ours = |host: &str| {
        Host::parse(host).is_ok_and(|host| {
            let name = host.name();
            let address = name
                .strip_prefix('[')
                .and_then(|name| name.strip_suffix(']'))
                .unwrap_or(name);
            address.parse::<std::net::IpAddr>().is_ok() || name == "localhost" || report.is_named(name)
        })
    };
    let field = fields
        .first()
        .and_then(|field| field.to_str().ok())
        .unwrap_or_default();
    if is_ours(field) && named.is_none_or(is_ours) {
        return None;
    }
    let reason = "this port answers to an IP address, to `localhost`, to the host of `public_url`, and to the names in \
                  `hosts` of `[admin]`\n";
    Some(plain(StatusCode::MISDIRECTED_REQUEST, reason.to_owned()))
}
