//! A request for one of the gateway's own endpoints: the caller is found out as the endpoint needs it, and `login` answers.
//!
//! Input: the request, its endpoint, and the caller where the decision needed one. Output: the answer, or a rejection, which
//! has a page where a form is shown again.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response};

use super::authenticate::{Found, find_session, find_token_to_sign_out};
use super::head::RequestHead;
use super::rejection::{Matched, Rejection};
use super::trace::Silent;
use super::{Gateway, WorkerContext};
use crate::authorize::StepUp;
use crate::http::incoming::ClientBody;
use crate::http::origin::{self, Unforged};
use crate::http::reply;
use crate::http::target::Target;
use crate::identity::Caller;
use crate::login::{Access, Endpoint, EndpointRequest, SignInRules};
use crate::refusal::Refusal;
use crate::route::Lookup;

impl SignInRules for Gateway {
    fn step_up(&self, host: &str, path: &str) -> Option<&StepUp> {
        let target = Target::parse(&path.parse().ok()?).ok()?;
        match self.routes.find(host, target.matching(), &Method::GET) {
            Lookup::Found(route) => route.rules.step_up(),
            Lookup::MethodRefused { .. } | Lookup::Missing => None,
        }
    }
}

/// An answer of an endpoint.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response<Bytes>,
    /// The caller, or the account that has just signed in.
    pub(super) caller: Option<Arc<Caller>>,
    /// A renewed session cookie.
    pub(super) set_cookie: Option<HeaderValue>,
}

/// Answers a request for one of the gateway's own endpoints. `found` is the caller of one that needs a caller.
pub(super) async fn answer<'g>(
    lane: &'g WorkerContext,
    endpoint: &Endpoint,
    found: Found<'g>,
    unforged: Unforged,
    head: &RequestHead<'_>,
    body: &mut ClientBody,
    request_id: &str,
) -> Result<Answered, Box<Rejection<'g>>> {
    let gateway = &*lane.gateway;
    let headers = &head.parts.headers;
    let mut bad = None;
    let found = match endpoint.access() {
        Access::Caller | Access::Session => found,
        access => caller_of(lane, access, head, &mut bad).await,
    };
    let caller = found.caller().cloned();
    let by_cookie = found
        .authenticated
        .as_ref()
        .is_some_and(|found| found.source.is_none());
    if by_cookie
        && matches!(
            endpoint.access(),
            Access::Caller | Access::Session | Access::EndsSession
        )
        && let Some(sign_in) = &gateway.sign_in
        && let Some(session) = caller
            .as_ref()
            .and_then(|caller| caller.identity.session_id.as_ref())
    {
        sign_in.bounces.note_session(session);
    }
    let asked = EndpointRequest {
        method: &head.parts.method,
        query: head.target.query(),
        headers,
        unforged,
        is_of_known_origin: origin::is_of_known_origin(
            headers,
            head.host.as_sent(),
            gateway.public_https,
            &gateway.origins,
        ),
        host: &head.host,
        scheme: gateway.scheme(headers, &head.peer),
        https: gateway.public_https,
        client: head.client_ip,
        may_be_proxy: head.peer.may_be_proxy(),
        browser: reply::wants_page(headers),
        request_id,
        by_cookie,
        caller: caller.clone(),
        rules: gateway,
    };
    let set_cookie = found.set_cookie;
    match gateway.endpoints.answer(endpoint, asked, body).await {
        Ok(answered) => Ok(Answered {
            response: answered.response,
            caller: answered.caller.or(caller),
            set_cookie,
        }),
        Err(failure) => Err(Box::new(Rejection {
            matched: Matched::Builtin,
            caller,
            set_cookie: failure.set_cookie.or(set_cookie),
            page: failure.page,
            retry_after: failure.retry_after,
            detail: failure.detail,
            sign_in: failure.sign_in,
            // An invalid credential is told from none.
            ..Rejection::new(match bad {
                Some(bad) if failure.refusal == Refusal::CredentialMissing => bad,
                _ => failure.refusal,
            })
        })),
    }
}

/// The caller of an endpoint that answers without one too. `bad` is what is wrong with a credential that does not count.
async fn caller_of<'g>(
    lane: &'g WorkerContext,
    access: Access,
    head: &RequestHead<'_>,
    bad: &mut Option<Refusal>,
) -> Found<'g> {
    let sent = lane.sent();
    // Of an expired cookie too.
    let of_cookie = || {
        let sign_in = lane.gateway.sign_in.as_ref()?;
        if lane.gateway.ignores_session_cookie(head, None) {
            return None;
        }
        let (headers, host) = (&head.parts.headers, head.host.name());
        let verified = sign_in.recognize(headers, host, lane.gateway.clock.now())?;
        Some(Found::by_session(verified, None))
    };
    match access {
        // The page is shown also where the session cannot be found out.
        Access::ShowsSession => match find_session(head, &sent, None, &mut Silent).await {
            Ok(found) if found.authenticated.is_some() => found,
            _ => Found::default(),
        },
        Access::ReplacesSession => of_cookie().unwrap_or_default(),
        // Signing out must not fail because a credential has expired.
        Access::EndsSession => match find_token_to_sign_out(head, &sent).await {
            Ok(found)
                if found
                    .caller()
                    .is_some_and(|caller| caller.identity.session_id.is_some()) =>
            {
                found
            }
            // A token of another issuer has no session here, and beside it there may be one.
            Ok(other) => of_cookie().unwrap_or(other),
            Err(refusal) => {
                *bad = Some(refusal);
                of_cookie().unwrap_or_default()
            }
        },
        Access::Public | Access::CrossSite | Access::Proxy | Access::Caller | Access::Session => {
            Found::default()
        }
    }
}
