//! Forward-auth: another proxy asks whether a request may pass that it describes, and serves the request itself.
//!
//! Input: a request to `/auth/verify` of a peer in `trusted_proxies`, whose credentials are those of the client. Output: the
//! decision about the described request, with the identity headers for the app, or a [`Rejection`]. Invariants: the decision
//! is that of [`decide`], by the same routes and rules as when the gateway forwards; a description that is not complete, or
//! has two meanings, is refused; the gateway never decides about a question; bodies are not read.

mod answer;
mod conditions;
mod question;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::header::UPGRADE;

use super::WorkerContext;
use super::access_record::AccessRecord;
use super::decide::{Allowed, Decision, Policy, decide};
use super::head::{RequestHead, Sender};
use super::rejection::{Matched, Rejection};
use super::trace::Silent;
use crate::authorize::Auth;
use crate::clock::UnixSeconds;
use crate::http::origin;
use crate::identity_headers::Peer;
use crate::refusal::Refusal;
use crate::values::{Alias, Aliases};

pub(super) use answer::refuse;
pub(super) use question::Question;

use conditions::Conditions;

/// Seconds between two warnings of one kind: every client can bring them about.
const WARN_EVERY: UnixSeconds = 60;

/// `[forward_auth]`, ready to use.
#[derive(Debug)]
pub(crate) struct ForwardAuth {
    /// How long a proxy may keep an answer.
    cache: UnixSeconds,
    aliases: Aliases,
    /// When the log was last told of a peer that is not trusted.
    warned_of_peer: AtomicI64,
    /// When it was last told of a condition that is not known.
    warned_of_condition: AtomicI64,
}

/// Whether a warning is due that was last given at `last`, which is then now.
fn is_due(last: &AtomicI64, now: UnixSeconds) -> bool {
    let before = last.load(Ordering::Relaxed);
    before.saturating_add(WARN_EVERY) <= now
        && last
            .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
}

impl ForwardAuth {
    /// Answers that a proxy may keep for `cache`, also at the addresses of other products.
    pub(crate) fn new(cache: Duration, aliases: Aliases) -> Self {
        Self {
            cache: UnixSeconds::try_from(cache.as_secs()).unwrap_or(0),
            aliases,
            warned_of_peer: AtomicI64::new(UnixSeconds::MIN),
            warned_of_condition: AtomicI64::new(UnixSeconds::MIN),
        }
    }

    /// Other products at whose addresses the gateway answers.
    pub(super) fn aliases(&self) -> Aliases {
        self.aliases
    }

    /// Warns that a proxy asked for a condition that is not known here.
    fn warn_of_condition(&self, name: &str, now: UnixSeconds) {
        if is_due(&self.warned_of_condition, now) {
            let name: String = name.chars().take(64).collect();
            tracing::warn!(
                parameter = name,
                "a proxy asked about a request (forward-auth) with a parameter that is not known, which could be a condition: the \
                 request is refused. hint: remove it from the address that the proxy asks"
            );
        }
    }

    /// Warns that a peer asked which may not.
    pub(super) fn warn_of_peer(&self, peer: &Peer, now: UnixSeconds) {
        if is_due(&self.warned_of_peer, now) {
            tracing::warn!(
                peer = %peer.ip,
                "a peer that is not in `trusted_proxies` asked about a request of another client (forward-auth) and was refused; if \
                 it is a proxy of yours, list it in `[server] trusted_proxies` (\"unix\" for a unix socket)"
            );
        }
    }
}

/// Decides about the request of `question`, whose credentials and origin are those of `head`.
///
/// # Errors
/// As [`decide`], in the form that the proxy takes.
pub(super) async fn answer<'g>(
    lane: &'g WorkerContext,
    head: RequestHead<'_>,
    mut question: Question,
    record: &mut AccessRecord,
) -> Result<Response<Bytes>, Box<Rejection<'g>>> {
    let (asked, asking) = (question.asked, question.asking);
    let conditions = std::mem::take(&mut question.conditions);
    record.asked_about(
        question.method.clone(),
        question.host.clone(),
        question.target.clone(),
    );
    let decided = async {
        let head = described(head, question)?;
        record.path = Some(head.target.path_and_query());
        let allowed = verdict(lane, &head, &conditions, record).await?;
        record.permitted(&allowed.route.label, &allowed.permit);
        let may_change = origin::may_change(&head.parts.method, &head.parts.headers);
        allow(lane, allowed, may_change, asking.alias(), record).await
    };
    decided.await.map_err(|mut rejection| {
        rejection.asked = Some(asked);
        rejection
    })
}

/// The head of the request that is asked about.
fn described<'c>(head: RequestHead<'c>, question: Question) -> Result<RequestHead<'c>, Refusal> {
    let mut parts = head.parts;
    (parts.method, parts.uri) = (question.method, question.target.into());
    // A proxy leaves `Upgrade` out of its question, because it is about a connection alone. With a cookie, a handshake is
    // held to the rules for requests that change something.
    if parts.headers.contains_key("sec-websocket-key") || parts.headers.contains_key("sec-websocket-version")
    {
        parts
            .headers
            .insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    let sender = Sender {
        peer: head.peer,
        client_ip: head.client_ip,
        server_name: None,
    };
    RequestHead::parse(parts, Ok(question.host), sender, &mut Silent)
}

async fn verdict<'g>(
    lane: &'g WorkerContext,
    head: &RequestHead<'_>,
    conditions: &Conditions,
    record: &mut AccessRecord,
) -> Result<Allowed<'g>, Box<Rejection<'g>>> {
    let refused = |refusal| {
        Err(Box::new(Rejection {
            matched: Matched::Builtin,
            ..Rejection::new(refusal)
        }))
    };
    let policy = Policy {
        rate_limits: Some(&lane.gateway.rate_limits),
        ..lane.gateway.policy()
    };
    let decided = decide(policy, head, &lane.credentials(), &mut record.attempts).await;
    record.decided(&decided);
    lane.gateway.note_use(head, &decided);
    match decided? {
        Decision::Forward(allowed) => hold(conditions, allowed),
        // No app answers below the address where people sign in: the proxy sends that to the gateway.
        Decision::Builtin(..) => refused(Refusal::RouteMissing),
        Decision::ForwardAuth(_) => refused(Refusal::LoopDetected),
        // It has no credential, and the proxy would hand it on to the app.
        Decision::Preflight(_) => refused(Refusal::CredentialMissing),
    }
}

/// `allowed` where the further conditions of the question hold.
fn hold<'g>(conditions: &Conditions, allowed: Allowed<'g>) -> Result<Allowed<'g>, Box<Rejection<'g>>> {
    let caller = allowed.permit.caller();
    let refusal = match caller {
        _ if conditions.is_none() => return Ok(allowed),
        Some(caller) if conditions.hold_for(caller) => return Ok(allowed),
        // A sign-in can help where the route reads a credential.
        None if allowed.route.rules.auth() != Auth::None => Refusal::CredentialMissing,
        _ => Refusal::ConditionRefused,
    };
    Err(Box::new(Rejection {
        matched: Matched::Route(allowed.route),
        caller: caller.cloned(),
        set_cookie: allowed.set_cookie,
        ..Rejection::new(refusal)
    }))
}

/// The answer for a request that may pass.
async fn allow<'g>(
    lane: &'g WorkerContext,
    mut allowed: Allowed<'g>,
    may_change: bool,
    alias: Option<Alias>,
    record: &AccessRecord,
) -> Result<Response<Bytes>, Box<Rejection<'g>>> {
    let gateway = &*lane.gateway;
    if allowed.route.upstream.is_served_elsewhere() {
        allowed.provider_token = gateway.provider_token(&allowed).await;
    }
    match answer::allow(gateway, &allowed, may_change, alias, record) {
        Ok(mut response) => {
            gateway.set_session_cookie(response.headers_mut(), allowed.set_cookie);
            Ok(response)
        }
        Err(refusal) => Err(Box::new(Rejection {
            matched: Matched::Route(allowed.route),
            caller: allowed.permit.caller().cloned(),
            set_cookie: allowed.set_cookie,
            ..Rejection::new(refusal)
        })),
    }
}
