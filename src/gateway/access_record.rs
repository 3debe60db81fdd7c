//! The line of one request in the access log, and its part of the metrics.
//!
//! Input: what the steps of a request found out. Output: one line, written when the record is dropped, however the request
//! ends. Invariant: nothing here decides or answers anything.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, StatusCode};

use super::WorkerContext;
use super::connection::ConnectionInfo;
use super::decide;
use super::rejection::{Matched, Rejection};
use super::route::Label;
use crate::authorize::{Permit, RuleName};
use crate::http::client::Exit;
use crate::http::headers::Host;
use crate::http::incoming::ClientBody;
use crate::identity::Caller;
use crate::identity_headers::Peer;
use crate::identity_headers::forwarded::{client_ip, incoming_request_id, known_client_ip};
use crate::observe::{
    Attempts, Deciding, Decision, Entry, Finding, Observation, Remembered, RequestId, RouteLabel,
};
use crate::refusal::Refusal;

/// The status in log and metrics of a request whose client went away before it was answered, as other proxies have it.
const CLIENT_GONE: u16 = 499;

/// The reason in the log where the gateway ended an answer that its client took too slowly.
const TOO_SLOW: &str = "client-too-slow";

/// The reason where a request was ended to make room for those of other clients.
const GAVE_WAY: &str = "gave-way";

/// One request. Dropping it writes its line.
#[derive(Debug)]
pub(super) struct AccessRecord {
    pub(super) lane: Arc<WorkerContext>,
    pub(super) client: Arc<ConnectionInfo>,
    /// Ends this request from elsewhere.
    pub(super) exit: Arc<Exit>,
    opened: Instant,
    /// Milliseconds since 1970.
    opened_at: u64,
    request_id: RequestId,
    /// The id that a trusted proxy gave, which counts instead.
    given_id: Option<HeaderValue>,
    method: Method,
    /// The method of the request that another proxy asks about; `host` and `path` are then those of that request too.
    original_method: Option<Method>,
    refusal: Option<Refusal>,
    status: u16,
    /// From the beginning to the head of the answer.
    answered_after: Option<Duration>,
    /// Whether the app's answer ended before its end.
    pub(super) is_broken: bool,
    /// Whether the gateway ended the answer, because its caller was signed out or revoked.
    pub(super) is_ended: bool,
    /// Whether the gateway ended the answer, because its client took it too slowly.
    pub(super) is_too_slow: bool,
    /// Bytes of the answer's body that were handed to the connection.
    pub(super) bytes: u64,
    /// The address of the client, as a trusted proxy may have named it.
    pub(super) client_ip: IpAddr,
    /// The host that the request is for.
    pub(super) host: Option<Host>,
    /// The canonical target, or the one that was sent where there is none; only its path is told.
    pub(super) path: Option<PathAndQuery>,
    route: Option<Label>,
    caller: Option<Arc<Caller>>,
    rule: Option<Arc<RuleName>>,
    /// Whether the rule would refuse the request, and is only logged.
    is_only_logged: bool,
    /// Whether the request may be forwarded.
    is_permitted: bool,
    /// The upstream's name, then the address of the server that answered.
    pub(super) upstream: Option<Arc<str>>,
    /// From the request to the app to the head of its answer.
    pub(super) upstream_time: Option<Duration>,
    /// Whether rules on networks can go by `client_ip`.
    is_client_known: bool,
    is_peer_trusted: bool,
    /// The credentials that the decision looked at.
    pub(super) attempts: Attempts,
    deciding: Deciding,
}

impl AccessRecord {
    pub(super) fn start(
        lane: &Arc<WorkerContext>,
        client: &Arc<ConnectionInfo>,
        exit: Arc<Exit>,
        peer: &Peer,
        request: &Request<ClientBody>,
    ) -> Self {
        let headers = request.headers();
        let mut record = Self::new(lane, client, exit, request.method().clone());
        record.path = request.uri().path_and_query().cloned();
        record.given_id = incoming_request_id(headers, peer);
        let proxies = &lane.gateway.trusted_proxies;
        let known = known_client_ip(headers, peer, proxies);
        record.client_ip = known.unwrap_or_else(|| client_ip(headers, peer, proxies));
        (record.is_client_known, record.is_peer_trusted) = (known.is_some(), peer.trusted);
        record
    }

    /// For a connection that ended before there was a request.
    pub(super) fn without_request(lane: &Arc<WorkerContext>, client: &Arc<ConnectionInfo>) -> Self {
        Self::new(lane, client, Arc::clone(&client.exit), Method::default())
    }

    fn new(lane: &Arc<WorkerContext>, client: &Arc<ConnectionInfo>, exit: Arc<Exit>, method: Method) -> Self {
        client.activity.begin();
        let (opened_at, request_id) = lane.desk.open();
        Self {
            lane: Arc::clone(lane),
            client: Arc::clone(client),
            exit,
            opened: Instant::now(),
            opened_at,
            request_id,
            given_id: None,
            method,
            original_method: None,
            refusal: None,
            status: CLIENT_GONE,
            answered_after: None,
            is_broken: false,
            is_ended: false,
            is_too_slow: false,
            bytes: 0,
            client_ip: client.peer.ip,
            host: None,
            path: None,
            route: None,
            caller: None,
            rule: None,
            is_only_logged: false,
            is_permitted: false,
            upstream: None,
            upstream_time: None,
            is_client_known: false,
            is_peer_trusted: client.peer.trusted,
            attempts: Attempts::default(),
            deciding: Deciding::NotBegun,
        }
    }

    /// The method of the request on this connection.
    pub(super) fn sent_method(&self) -> &Method {
        &self.method
    }

    /// The method of the request that the decision is about.
    pub(super) fn method(&self) -> &Method {
        self.original_method.as_ref().unwrap_or(&self.method)
    }

    /// The decision is about a request that another proxy describes.
    pub(super) fn asked_about(&mut self, method: Method, host: Host, target: PathAndQuery) {
        self.original_method = Some(method);
        self.host = Some(host);
        self.path = Some(target);
    }

    /// The id of this request in log, answer and `X-Request-Id`.
    pub(super) fn request_id(&self) -> &str {
        self.given_id
            .as_ref()
            .and_then(|id| id.to_str().ok())
            .unwrap_or_else(|| self.request_id.as_str())
    }

    /// The same as the value of `X-Request-Id`.
    pub(super) fn request_id_value(&self) -> HeaderValue {
        self.given_id
            .clone()
            .unwrap_or_else(|| self.request_id.to_header_value())
    }

    /// What the decision came to.
    pub(super) fn decided(&mut self, decided: &Result<decide::Decision<'_>, Box<Rejection<'_>>>) {
        self.deciding = match decided {
            Ok(decide::Decision::Forward(_)) => Deciding::Allowed,
            Ok(decide::Decision::Builtin(..) | decide::Decision::ForwardAuth(_)) => Deciding::Own,
            Ok(decide::Decision::Preflight(_)) => Deciding::Preflight,
            Err(_) => Deciding::Refused,
        };
    }

    /// The request goes to an upstream.
    pub(super) fn permitted(&mut self, route: &Label, permit: &Permit) {
        self.route = Some(route.clone());
        self.caller = permit.caller().cloned();
        self.rule = permit.only_logged().cloned();
        self.is_only_logged = self.rule.is_some();
        self.is_permitted = true;
    }

    /// The gateway answers the preflight of a page for a route.
    pub(super) fn preflight(&mut self, route: &Label) {
        self.route = Some(route.clone());
        self.is_permitted = true;
    }

    /// The gateway answers at an endpoint of its own.
    pub(super) fn builtin(&mut self, caller: Option<Arc<Caller>>) {
        self.route = Some(self.lane.gateway.own_label.clone());
        self.caller = caller.or(self.caller.take());
    }

    /// The gateway answers instead of the app.
    pub(super) fn refused(&mut self, rejection: &Rejection<'_>) {
        self.refusal = Some(rejection.refusal);
        self.status = rejection.refusal.status().as_u16();
        self.rule.clone_from(&rejection.rule);
        self.is_only_logged = false;
        match rejection.matched {
            Matched::Nothing => {}
            Matched::Builtin => self.route = Some(self.lane.gateway.own_label.clone()),
            Matched::Route(route) => self.route = Some(route.label.clone()),
        }
        if rejection.caller.is_some() {
            self.caller.clone_from(&rejection.caller);
        }
    }

    /// The request was sent on to `public_url`.
    pub(super) fn redirected(&mut self, method: Method, target: PathAndQuery, label: Label) {
        self.method = method;
        self.path = Some(target);
        self.route = Some(label);
        self.answered(StatusCode::PERMANENT_REDIRECT);
    }

    /// The head of the answer is ready.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.answered_after = Some(self.opened.elapsed());
    }

    fn reason(&self) -> Option<&'static str> {
        match self.refusal {
            Some(refusal) => Some(refusal.reason()),
            None if self.is_ended => Some(Refusal::Revoked.reason()),
            None if self.is_too_slow || self.client.activity.is_too_slow() => Some(TOO_SLOW),
            None if self.exit.is_used() => Some(GAVE_WAY),
            None if self.status == CLIENT_GONE && self.answered_after.is_none() => Some("client-gone"),
            None if self.is_broken => Some("upstream-broke-off"),
            None => None,
        }
    }

    fn decision(&self) -> Decision {
        match self.refusal {
            Some(refusal) if refusal.is_failure() => Decision::Error,
            Some(_) => Decision::Refuse,
            // The app failed after the head of its answer.
            None if self.is_broken && !self.is_ended => Decision::Error,
            None if self.is_permitted || self.answered_after.is_some() => Decision::Allow,
            // The client went away before there was a decision.
            None => Decision::Error,
        }
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let now = Instant::now();
        self.client.activity.end(now);
        let duration = now.saturating_duration_since(self.opened);
        let reason = self.reason();
        let identity = self.caller.as_ref().map(|caller| &caller.identity);
        let rule = self.rule.as_ref().map(ToString::to_string);
        let entry = Entry {
            time: self.opened_at,
            request_id: self.request_id(),
            client: self.client_ip,
            method: self.method().as_str(),
            forward_auth: self.original_method.is_some(),
            host: self.host.as_ref().map_or("", Host::as_sent),
            path: self.path.as_ref().map_or("", PathAndQuery::path),
            route: self.route.as_ref().map(|route| &*route.origin.text),
            subject: identity.map(|identity| identity.subject.as_str()),
            email: identity.and_then(|identity| identity.email.as_deref()),
            issuer: identity.map(|identity| &*identity.issuer),
            decision: self.decision(),
            reason,
            rule: rule.as_deref(),
            is_only_logged: self.is_only_logged,
            status: self.status,
            bytes: self.bytes,
            upstream: self.upstream.as_deref(),
            duration_us: microseconds(duration),
            upstream_us: self.upstream_time.map(microseconds),
        };
        let head_after = self.answered_after.unwrap_or(duration);
        self.lane.desk.close(
            &entry,
            &Observation {
                route: self.route.as_ref().map_or(RouteLabel::NONE, |route| route.series),
                method: self.method(),
                status: self.status,
                is_only_logged: self.is_only_logged,
                refusal: self.refusal.or(self.is_ended.then_some(Refusal::Revoked)),
                upstream: self.upstream_time,
                gateway: head_after.saturating_sub(self.upstream_time.unwrap_or_default()),
            },
        );
        let (route, caller, rule) = (self.route.take(), self.caller.take(), self.rule.take());
        let kept = Remembered::new(Finding {
            time: self.opened_at,
            request_id: self.request_id(),
            method: self.method().as_str(),
            host: self.host.as_ref().map_or("", Host::as_sent),
            path: self.path.as_ref().map_or("", PathAndQuery::path),
            client: self.client_ip,
            is_client_known: self.is_client_known,
            is_peer_trusted: self.is_peer_trusted,
            is_forward_auth: self.original_method.is_some(),
            route: route.map(|route| route.origin),
            caller,
            rule,
            is_only_logged: self.is_only_logged,
            deciding: self.deciding,
            attempts: self.attempts,
            decision: self.decision(),
            reason,
            refusal: self.refusal,
            status: self.status,
        });
        self.lane.desk.remember(kept);
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
