//! A request for one of our own endpoints: who asks is found out as the endpoint needs it, and `login` answers.
//!
//! Enters: the request, and which endpoint it is for. Leaves: the answer; or a refusal, with a page in the record where it
//! is a form that is shown again.

use std::sync::Arc;

use http::Response;
use http::request::Parts;

use super::access_record::AccessRecord;
use super::authenticate::{identify, identify_by_source};
use super::{Content, SessionCredential, WorkerContext};
use crate::credential::Source;
use crate::http::headers::Host;
use crate::http::incoming::ClientBody;
use crate::http::reply;
use crate::http::target::Target;
use crate::identity_headers::Peer;
use crate::login::{Access, Endpoint, EndpointRequest};
use crate::refusal::Refusal;
use crate::verify::Verified;

/// Answers a request for one of our own endpoints.
#[allow(clippy::too_many_arguments)] // all that there is to a request
pub(super) async fn answer(
    lane: &WorkerContext,
    endpoint: &Endpoint,
    parts: &Parts,
    host: &Host,
    peer: &Peer,
    target: &Target,
    mut body: ClientBody,
    record: &mut AccessRecord,
) -> Result<Response<Content>, Refusal> {
    let gateway = &*lane.gateway;
    let leaving = || {
        gateway
            .sign_in
            .as_ref()?
            .recognize(&parts.headers, host.name(), gateway.clock.now())
    };
    let mut bad = None;
    let found = match endpoint.access() {
        Access::Public => None,
        Access::ShowsSession => signed_in(lane, parts, host, record).await,
        Access::ReplacesSession => leaving().map(|verified| (verified, None)),
        // Signing out must not fail because a credential has expired.
        Access::EndsSession => match identify_by_source(lane, parts, target).await {
            Ok(Some(found)) if found.0.caller.identity.session_id.is_some() => Some(found),
            // Another issuer's token has no session here, and beside it there may be one.
            Ok(other) => leaving().map(|verified| (verified, None)).or(other),
            Err(refusal) => {
                bad = Some(refusal);
                leaving().map(|verified| (verified, None))
            }
        },
        Access::Caller => identify(lane, parts, host, target, record).await?,
    };
    let (verified, source) = found.unzip();
    let caller = verified.map(|verified| Arc::clone(&verified.caller));
    record.caller.clone_from(&caller);
    let asked = EndpointRequest {
        method: &parts.method,
        query: target.query(),
        headers: &parts.headers,
        host,
        scheme: gateway.scheme(&parts.headers, peer),
        https: gateway.public_https,
        client: record.client_ip,
        may_be_proxy: peer.may_be_proxy(),
        browser: reply::wants_page(&parts.headers),
        request_id: record.request_id(),
        by_cookie: caller.is_some() && source.flatten().is_none(),
        caller,
    };
    let answered = gateway.endpoints.answer(endpoint, asked, &mut body).await;
    if http_body::Body::is_end_stream(&body) {
        record.has_been_read();
    }
    match answered {
        Ok(answered) => {
            if answered.caller.is_some() {
                record.caller = answered.caller;
            }
            Ok(answered.response.map(Content::Own))
        }
        Err(failure) => {
            record.page = failure.page;
            record.retry_after = failure.retry_after;
            record.detail = failure.detail;
            // What was sent and is no good is told from nothing at all.
            Err(bad
                .filter(|_| failure.refusal == Refusal::CredentialMissing)
                .unwrap_or(failure.refusal))
        }
    }
}

/// Who the session cookie names now, renewed where its token has expired. A page is shown also where that cannot be found
/// out.
async fn signed_in<'l>(
    lane: &'l WorkerContext,
    parts: &Parts,
    host: &Host,
    record: &mut AccessRecord,
) -> Option<(Arc<Verified>, Option<&'l Source>)> {
    let sign_in = lane.gateway.sign_in.as_ref()?;
    let clock = &lane.gateway.clock;
    let presented = sign_in
        .present(
            &lane.session_cache,
            &parts.headers,
            host.name(),
            clock,
            record.client_ip,
        )
        .await;
    let Ok(SessionCredential::Good(verified, set_cookie)) = presented else {
        return None;
    };
    record.set_cookie = set_cookie;
    Some((verified, None))
}
