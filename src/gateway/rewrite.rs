//! The client's request becomes the gateway's.
//!
//! Input: a request that may pass, and the proof of it. Output: the same request as the app gets it. Invariants: no name
//! that the gateway speaks for keeps the client's value, and no credential goes on that the app is not to have.

use http::header::EXPECT;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use http_body::Body;
use hyper::upgrade::OnUpgrade;

use super::decide::Allowed;
use super::head::RequestHead;
use super::response_rewrite::ResponseRewrite;
use super::{Gateway, loops, sticky};
use crate::authorize::Auth;
use crate::credential::Source;
use crate::forward::{Outgoing, RequestBody};
use crate::http::cookie;
use crate::http::headers::{HopByHop, drop_hop_by_hop};
use crate::http::target::{QueryEdit, Target};
use crate::identity_headers::forwarded::{came_by_https, set_forwarded, set_forwarded_prefix};
use crate::identity_headers::{Passing, Peer};
use crate::refusal::Refusal;

/// The access token of the caller's provider.
pub(super) const PROVIDER_TOKEN: HeaderName = HeaderName::from_static("x-auth-access-token");

/// A request as the app gets it, and what is done with the answer.
#[derive(Debug)]
pub(crate) struct Rewritten<'g> {
    /// For `forward`.
    pub outgoing: Outgoing,
    /// The client's side of an upgrade.
    pub(super) upgrade: Option<ClientUpgrade>,
    /// For the app's answer.
    pub(super) response: ResponseRewrite<'g>,
}

/// The client's side of a connection that is to become a WebSocket.
#[derive(Debug)]
pub(super) struct ClientUpgrade {
    pub(super) connection: OnUpgrade,
    /// The protocol under which the handshake brought a credential.
    pub(super) protocol: Option<HeaderValue>,
}

/// Turns the client's request into the gateway's: hop-by-hop fields go first, so that `Connection` cannot name a field
/// of the gateway's; then every name that the gateway speaks for, and every credential that is not to be forwarded; then
/// the gateway's fields are set.
///
/// # Errors
/// 400 for an upgrade with a body or another method than GET, 431 where the identity is too large for headers, 508 where
/// the request has been here before.
pub(crate) fn rewrite<'g>(
    gateway: &Gateway,
    head: RequestHead<'_>,
    allowed: &Allowed<'g>,
    body: RequestBody,
    request_id: &HeaderValue,
) -> Result<Rewritten<'g>, Refusal> {
    let client = match allowed.route.upstream.announces_clients() {
        true => head.known_client(&gateway.trusted_proxies),
        false => None,
    };
    let RequestHead {
        mut parts,
        host,
        target,
        peer,
        ..
    } = head;
    let mut hop = drop_hop_by_hop(&mut parts.headers, gateway.naming.trusted_headers());
    hop.websocket &= parts.version == Version::HTTP_11;
    // A server that reads a body here, and one that does not, would disagree about where the new protocol begins.
    if hop.websocket && (parts.method != Method::GET || !body.is_end_stream()) {
        return Err(Refusal::UpgradeInvalid);
    }
    let upgrade = upgrade(hop, gateway, allowed, &mut parts);
    hop.websocket = upgrade.is_some();
    let is_https = allowed.route.security_headers
        && is_without_port(host.as_sent())
        && came_by_https(&parts.headers, &peer);
    let host = host.as_value();
    let ours = Ours {
        gateway,
        allowed,
        peer: &peer,
        host: &host,
        request_id,
    };
    parts.uri = ours.set(&target, &mut parts.headers)?.into();
    let response = ResponseRewrite::of(allowed, &target, &host, &parts.headers, is_https);
    Ok(Rewritten {
        outgoing: Outgoing {
            request: Request::from_parts(parts, body),
            host,
            hop,
            client,
        },
        upgrade,
        response,
    })
}

/// Whether a host, as the client wrote it, is one of the default port. The other ports of a host are not the gateway's,
/// and Strict-Transport-Security holds for all of them (RFC 6797 section 8.3).
fn is_without_port(host: &str) -> bool {
    let host = host.strip_suffix(":443").unwrap_or(host);
    !host.rsplit(']').next().unwrap_or_default().contains(':')
}

fn upgrade(
    hop: HopByHop,
    gateway: &Gateway,
    allowed: &Allowed<'_>,
    parts: &mut http::request::Parts,
) -> Option<ClientUpgrade> {
    let connection = hop.websocket.then(|| parts.extensions.remove::<OnUpgrade>());
    let reads_credentials = allowed.route.rules.auth() != Auth::None;
    Some(ClientUpgrade {
        connection: connection.flatten()?,
        protocol: reads_credentials
            .then(|| gateway.sources.websocket_protocol(&parts.headers))
            .flatten(),
    })
}

/// What the gateway says of a request.
struct Ours<'a, 'g> {
    gateway: &'a Gateway,
    allowed: &'a Allowed<'g>,
    peer: &'a Peer,
    host: &'a HeaderValue,
    request_id: &'a HeaderValue,
}

impl Ours<'_, '_> {
    /// Turns the client's fields, without those that are about its connection alone, into the app's, and returns the
    /// target for the app.
    fn set(&self, target: &Target, fields: &mut HeaderMap) -> Result<PathAndQuery, Refusal> {
        let Self { gateway, allowed, .. } = *self;
        let route = allowed.route;
        let source = allowed.authenticated.as_ref().and_then(|found| found.source);
        let kept = source.filter(|_| route.forward_credential);
        gateway.naming.strip(
            fields,
            Passing {
                peer_is_trusted: self.peer.trusted,
                kept: &route.keep_headers,
                credential: kept.and_then(Source::header_name),
            },
        );
        let mut query = QueryEdit::Keep;
        let stripped;
        // Where no credential was read, what looks like one is for the app.
        if route.rules.auth() != Auth::None {
            gateway.sources.strip_lookalikes(fields);
            gateway.sources.strip(fields, kept);
            stripped = gateway.sources.strip_query(target.query(), kept);
            if let Some(stripped) = &stripped {
                query = QueryEdit::Replace(stripped.as_deref());
            }
        }
        // The session cookie is never forwarded, whatever the route.
        if let Some(sign_in) = &gateway.sign_in {
            cookie::remove_where(fields, |name| sign_in.is_our_name(name));
        }
        if gateway.has_sticky_cookies {
            cookie::remove_where(fields, sticky::is_our_name);
        }
        cookie::join(fields);
        // 100 (Continue) is between the client and the gateway: it is sent when the app's side takes bytes.
        fields.remove(EXPECT);

        set_forwarded(fields, self.peer, self.host, self.request_id);
        let prefix = route.strip_prefix.as_ref().filter(|_| route.cuts(target));
        if let Some(prefix) = prefix {
            set_forwarded_prefix(fields, &prefix.value);
        }
        if route.upstream.is_builtin() {
            // It shows what it gets, and sends nothing on.
            loops::check(&gateway.loop_mark, fields)?;
        } else {
            loops::mark(&gateway.loop_mark, fields)?;
        }
        for (name, value) in &route.headers {
            fields.insert(name, value.clone());
        }
        set_identity(gateway, allowed, fields)?;
        target.rewritten(
            prefix.map(|prefix| prefix.path.as_str()),
            route.upstream.base(),
            query,
        )
    }
}

/// Sets what the app is told about the caller.
///
/// # Errors
/// 431 where the identity is too large for headers; the assertion cannot be signed.
pub(super) fn set_identity(
    gateway: &Gateway,
    allowed: &Allowed<'_>,
    fields: &mut HeaderMap,
) -> Result<(), Refusal> {
    let caller = allowed.permit.caller();
    gateway.naming.set(fields, caller.map(|caller| &**caller))?;
    if let (Some(assertions), Some(name), Some(caller)) =
        (&gateway.assertions, gateway.naming.assertion_header(), caller)
    {
        let (audience, now) = (&allowed.route.upstream.name, gateway.clock.now());
        let assertion = assertions.assertion(caller, audience, &gateway.signing.load(), now)?;
        fields.insert(name, assertion);
    }
    // What a client sent by this name is gone: it is among those of other products.
    if let Some(token) = &allowed.provider_token {
        fields.insert(PROVIDER_TOKEN, token.clone());
    }
    Ok(())
}
