//! The client's request becomes the gateway's.
//!
//! Enters: a request that may pass, and the proof of it. Leaves: the same request as the app gets it. What must never
//! happen here: a name that the gateway speaks for keeps the client's value, or a credential goes on that is not to.

use http::header::EXPECT;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Version};
use hyper::upgrade::OnUpgrade;

use super::access_record::AccessRecord;
use super::{Gateway, Route, loops};
use crate::authorize::{Auth, Permit};
use crate::credential::Source;
use crate::http::cookie;
use crate::http::headers::{self, HopByHop, Host};
use crate::http::target::{QueryEdit, Target};
use crate::identity_headers::forwarded::{set_forwarded, set_forwarded_prefix};
use crate::identity_headers::{Passing, Peer};
use crate::refusal::Refusal;

/// Turns the client's request into the gateway's: hop-by-hop fields go first, so that `Connection` cannot name a field
/// of ours; then every name that the gateway speaks for, and every credential but the one in `kept`; then ours are set.
/// Returns what holds for the client's connection alone, and its side of an upgrade.
#[allow(clippy::too_many_arguments)] // all of the walk comes together here, once
pub(super) fn rewrite(
    gateway: &Gateway,
    peer: &Peer,
    route: &Route,
    permit: &Permit,
    kept: Option<&Source>,
    target: &Target,
    host: &Host,
    record: &AccessRecord,
    parts: &mut Parts,
) -> Result<(HopByHop, Option<OnUpgrade>), Refusal> {
    let mut hop = headers::drop_hop_by_hop(&mut parts.headers, gateway.naming.trusted_headers());
    let upgrade = wanted_upgrade(hop, parts, record)?;
    hop.websocket = upgrade.is_some();
    let host = host.as_value();
    let outgoing = Rewrite {
        gateway,
        peer,
        route,
        permit,
        kept,
        target,
    };
    parts.uri = outgoing
        .rewrite(&host, &record.request_id_value(), &mut parts.headers)?
        .into();
    Ok((hop, upgrade))
}

/// A request that may pass, before its fields are the gateway's.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite<'a> {
    /// The configuration.
    pub gateway: &'a Gateway,
    /// Who is at the other end of the connection.
    pub peer: &'a Peer,
    /// The route.
    pub route: &'a Route,
    /// The proof that the request may pass.
    pub permit: &'a Permit,
    /// The credential that the app is to have.
    pub kept: Option<&'a Source>,
    /// The target.
    pub target: &'a Target,
}

impl Rewrite<'_> {
    /// Turns the client's fields, without those that are about its connection alone, into the app's, and returns the
    /// target for the app.
    ///
    /// # Errors
    /// 431 where the identity is too large for headers, 508 where the request has been here before.
    pub fn rewrite(
        &self,
        host: &HeaderValue,
        request_id: &HeaderValue,
        fields: &mut HeaderMap,
    ) -> Result<PathAndQuery, Refusal> {
        let Self {
            gateway,
            peer,
            route,
            permit,
            kept,
            target,
        } = *self;
        let credential = kept.and_then(Source::header_name);
        gateway.naming.strip(
            fields,
            Passing {
                peer_is_trusted: peer.trusted,
                kept: &route.keep_headers,
                credential,
            },
        );
        let mut query = QueryEdit::Keep;
        let stripped;
        // Where nothing was read, nothing was consumed: what is there is for the app.
        if route.rules.auth() != Auth::None {
            gateway.sources.strip_lookalikes(fields);
            gateway.sources.strip(fields, kept);
            stripped = gateway.sources.strip_query(target.query(), kept);
            if let Some(stripped) = &stripped {
                query = QueryEdit::Replace(stripped.as_deref());
            }
        }
        // Ours is nobody else's, on whatever route.
        if let Some(sign_in) = &gateway.sign_in {
            cookie::remove_where(fields, |name| sign_in.is_our_name(name));
        }
        cookie::join(fields);
        fields.remove(EXPECT); // 100 (Continue) is between the client and us: it goes out when the app's side takes bytes

        set_forwarded(fields, peer, host, request_id);
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
        gateway
            .naming
            .set(fields, permit.caller().map(|caller| &**caller))?;
        if let (Some(assertions), Some(name), Some(caller)) = (
            &gateway.assertions,
            gateway.naming.assertion_header(),
            permit.caller(),
        ) {
            let now = gateway.clock.now();
            let assertion =
                assertions.assertion(caller, &route.upstream.name, &gateway.signing.load(), now)?;
            fields.insert(name, assertion);
        }
        target.rewritten(
            prefix.map(|prefix| prefix.path.as_str()),
            route.upstream.base(),
            query,
        )
    }
}

/// The client's side of the connection, if it asks for a WebSocket (RFC 6455 section 4.1). No other protocol is
/// switched to: `h2c` would let the client talk past us.
fn wanted_upgrade(
    hop: HopByHop,
    parts: &mut Parts,
    record: &AccessRecord,
) -> Result<Option<OnUpgrade>, Refusal> {
    if parts.version != Version::HTTP_11 || !hop.websocket {
        return Ok(None);
    }
    // Whoever reads a body here and whoever does not would disagree about where the new protocol begins.
    if parts.method != Method::GET || record.is_body_pending() {
        return Err(Refusal::UpgradeInvalid);
    }
    Ok(parts.extensions.remove::<OnUpgrade>())
}
