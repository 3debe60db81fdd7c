//! The client's request becomes the gateway's.
//!
//! Enters: a request that may pass, and the proof of it. Leaves: the same request as the app gets it. What must never
//! happen here: a name that the gateway speaks for keeps the client's value, or a credential goes on that is not to.

use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderValue, Method, Version};
use hyper::upgrade::OnUpgrade;

use super::record::Record;
use super::{Gateway, Route};
use crate::authorize::{Auth, Permit};
use crate::caller::forwarded::set_forwarded;
use crate::caller::{Passing, Peer};
use crate::credential::Source;
use crate::forward::Hop;
use crate::http::cookie;
use crate::http::headers::{self, Host};
use crate::http::target::{QueryEdit, Target};
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
    host: Host,
    record: &Record,
    parts: &mut Parts,
) -> Result<(Hop, Option<OnUpgrade>), Refusal> {
    let hop_by_hop = headers::drop_hop_by_hop(&mut parts.headers, gateway.naming.trusted_headers());
    let upgrade = wanted_upgrade(hop_by_hop.upgrade.as_ref(), parts, record)?;

    let fields = &mut parts.headers;
    let credential = kept.and_then(Source::header_name);
    gateway.naming.strip(fields, Passing { peer_is_trusted: peer.trusted, kept: &route.keep_headers, credential });
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

    let host = host.as_value();
    set_forwarded(fields, peer, &host, &record.request_id_value());
    for (name, value) in &route.headers {
        fields.insert(name, value.clone());
    }
    gateway.naming.set(fields, permit.caller().map(|caller| &**caller))?;
    if let (Some(assertions), Some(name), Some(caller)) =
        (&gateway.assertions, gateway.naming.assertion_header(), permit.caller())
    {
        let now = gateway.clock.now();
        let assertion = assertions.assertion(caller, &route.upstream.name, &gateway.signing.load(), now)?;
        fields.insert(name, assertion);
    }
    parts.uri = target.rewritten(route.strip_prefix.as_deref(), query)?.into();
    Ok((Hop { host, trailers: hop_by_hop.te_trailers, websocket: upgrade.is_some() }, upgrade))
}

/// The client's side of the connection, if it asks for a WebSocket (RFC 6455 section 4.1). No other protocol is
/// switched to: `h2c` would let the client talk past us.
fn wanted_upgrade(
    protocol: Option<&HeaderValue>,
    parts: &mut Parts,
    record: &Record,
) -> Result<Option<OnUpgrade>, Refusal> {
    if parts.version != Version::HTTP_11
        || !protocol.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
    {
        return Ok(None);
    }
    // Whoever reads a body here and whoever does not would disagree about where the new protocol begins.
    if parts.method != Method::GET || record.is_body_pending() {
        return Err(Refusal::UpgradeInvalid);
    }
    Ok(parts.extensions.remove::<OnUpgrade>())
}
