//! Who asks: the sources of the configuration in their order, then the session cookie.
//!
//! Enters: the head of a request. Leaves: who was verified, and where it said so; nobody; or a refusal. What must never
//! happen here: a bad credential in a header counts as none, or a cookie proves that somebody meant to send it.

use std::sync::{Arc, PoisonError};

use http::header::UPGRADE;
use http::request::Parts;

use super::access_record::AccessRecord;
use super::{SessionCredential, WorkerContext};
use crate::credential::{Kind, Source};
use crate::http::headers::Host;
use crate::http::origin;
use crate::http::target::Target;
use crate::refusal::Refusal;
use crate::verify::Verified;

/// Who asks, and where it says so: the first credential that is there and good, or nobody. A bad one in a header or the
/// query ends the walk; a bad one in a cookie is as good as none, because the browser sends it whether it wants or not. The
/// session cookie comes last.
pub(super) async fn identify<'l>(
    lane: &'l WorkerContext,
    parts: &Parts,
    host: &Host,
    target: &Target,
    record: &mut AccessRecord,
) -> Result<Option<(Arc<Verified>, Option<&'l Source>)>, Refusal> {
    let mut after = None;
    while let Some(credential) = lane
        .gateway
        .sources
        .find_after(after, &parts.headers, target.query())?
    {
        match verify(lane, &credential.token).await {
            Ok(verified) => {
                if credential.kind == Kind::Cookie && may_be_forged(lane, parts, host) {
                    return Err(Refusal::CrossSite);
                }
                return Ok(Some((verified, Some(credential.source))));
            }
            Err(refusal) if credential.kind == Kind::Cookie && refusal.is_invalid_token() => {
                after = Some(credential.source);
            }
            Err(refusal) => return Err(refusal),
        }
    }
    let Some(sign_in) = &lane.gateway.sign_in else {
        return Ok(None);
    };
    match sign_in
        .present(
            &lane.session_cache,
            &parts.headers,
            host.name(),
            &lane.gateway.clock,
            record.client_ip,
        )
        .await?
    {
        SessionCredential::Nothing => Ok(None),
        SessionCredential::Bad(refusal) => {
            record.set_cookie = sign_in.clear(refusal);
            Ok(None)
        }
        SessionCredential::Good(..) if may_be_forged(lane, parts, host) => Err(Refusal::CrossSite),
        SessionCredential::Good(verified, set_cookie) => {
            record.set_cookie = set_cookie;
            Ok(Some((verified, None)))
        }
    }
}

/// Who a header, a query parameter or a cookie of the configuration names.
///
/// # Errors
/// What is wrong with it.
pub(super) async fn identify_by_source<'l>(
    lane: &'l WorkerContext,
    parts: &Parts,
    target: &Target,
) -> Result<Option<(Arc<Verified>, Option<&'l Source>)>, Refusal> {
    let Some(credential) = lane.gateway.sources.find(&parts.headers, target.query())? else {
        return Ok(None);
    };
    let verified = match verify(lane, &credential.token).await {
        // Of whatever roles, it is the caller's.
        Err(Refusal::Stale) => lane
            .gateway
            .verifier
            .verify_expired(&credential.token, lane.gateway.clock.now())?,
        verified => verified?,
    };
    Ok(Some((verified, Some(credential.source))))
}

/// Whether a page of another origin may have made the browser send this. A WebSocket handshake is a GET that opens a
/// channel in both directions, so it counts as unsafe.
fn may_be_forged(lane: &WorkerContext, parts: &Parts, host: &Host) -> bool {
    (origin::is_unsafe(&parts.method) || parts.headers.contains_key(UPGRADE))
        && origin::is_cross_origin(&parts.headers, host.as_sent(), lane.gateway.public_https)
}

async fn verify(lane: &WorkerContext, token: &str) -> Result<Arc<Verified>, Refusal> {
    let gateway = &*lane.gateway;
    let verify = || {
        let mut cache = lane.cache.lock().unwrap_or_else(PoisonError::into_inner);
        gateway.verifier.verify(&mut cache, token, gateway.clock.now())
    };
    let verified = verify();
    match verified {
        // The issuer may have a new key that we have not heard of; it is asked at most once a cooldown.
        Err(refusal) if gateway.verifier.refetch(token, refusal).await => verify(),
        verified => verified,
    }
}
