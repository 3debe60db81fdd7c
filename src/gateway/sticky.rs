//! Requests that keep to one server of an app, by a cookie or by the caller.
//!
//! Input: a request that may pass, and the answer of its server. Output: what `forward` needs to choose the server, and the
//! cookie in the answer. Invariants: no app sees or sets a cookie of this kind, and it has no say in who the caller is.

use http::{HeaderMap, HeaderValue};

use super::decide::Allowed;
use super::{Gateway, set_cookie};
use crate::forward::{Affinity, COOKIE_PREFIX, Upstream, client_hash, subject_hash};
use crate::http::client::ClientKey;
use crate::http::cookie;
use crate::identity_headers::Peer;
use crate::identity_headers::forwarded::came_by_https;

/// Whether a cookie of this name keeps clients to a server.
pub(super) fn is_our_name(name: &[u8]) -> bool {
    name.starts_with(COOKIE_PREFIX.as_bytes())
}

/// The server that a request is kept to.
pub(super) fn affinity(allowed: &Allowed<'_>, headers: &HeaderMap, client: ClientKey) -> Affinity {
    allowed.route.upstream.affinity(
        |name| cookie::values_of(headers, name),
        || match allowed.permit.caller() {
            Some(caller) => subject_hash(&caller.identity.issuer, &caller.identity.subject),
            None => client_hash(client),
        },
    )
}

/// Whether the cookie is one for HTTPS alone: where the browser comes by it, as far as is known.
pub(super) fn is_secure(gateway: &Gateway, headers: &HeaderMap, peer: &Peer) -> bool {
    gateway.public_https == Some(true) || came_by_https(headers, peer)
}

/// Sets the cookie in an answer.
pub(super) fn keep(upstream: &Upstream, server: &str, is_secure: bool, headers: &mut HeaderMap) {
    let secure = if is_secure { "; Secure" } else { "" };
    let name = upstream.cookie_name();
    let cookie = format!("{name}={server}; Path=/; HttpOnly; SameSite=Lax{secure}");
    // A name of an upstream and a hash: characters of a field.
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        set_cookie::add(headers, cookie);
    }
}
