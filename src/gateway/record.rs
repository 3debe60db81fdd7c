//! What one request did, filled in along the walk and told once: in the log and in the metrics, however it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::{Body, Incoming};

use super::answer::{Answer, Content};
use super::{Client, Lane};
use crate::authorize::RuleName;
use crate::identity::Caller;
use crate::observe::{Entry, RequestId};
use crate::refusal::Refusal;

/// How the request ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Under way; a record that is dropped so belongs to a client that went away.
    Open,
    Allowed,
    Refused(Refusal),
}

/// One request.
#[derive(Debug)]
pub struct Record {
    lane: Arc<Lane>,
    client: Arc<Client>,
    opened: Instant,
    request_id: RequestId,
    method: Method,
    decision: Decision,
    status: u16,
    /// From the beginning to the head of the answer.
    answered_after: Option<Duration>,
    /// Bytes of the answer's body that were handed to the connection.
    pub(super) bytes: u64,
    /// The Host as sent.
    pub(super) host: Option<HeaderValue>,
    /// The canonical target; only its path is told.
    pub(super) path: Option<PathAndQuery>,
    /// The route's label.
    pub(super) route: Option<Arc<str>>,
    /// The methods of the path, where the method was refused.
    pub(super) allow: Option<HeaderValue>,
    /// Who asked, where that was found out.
    pub(super) caller: Option<Arc<Caller>>,
    /// The rule that said no.
    pub(super) rule: Option<RuleName>,
    /// The upstream's name.
    pub(super) upstream: Option<Arc<str>>,
    /// From the request to the app to the head of its answer.
    pub(super) upstream_time: Option<Duration>,
    /// Whether the request has a body that was not read to its end.
    pub(super) body_pending: bool,
    /// What broke after the head of the answer went out.
    pub(super) broken: Option<Refusal>,
    /// The address of the client, if a trusted proxy named another one than its own.
    pub(super) client_ip: std::net::IpAddr,
}

impl Record {
    pub(super) fn open(lane: &Arc<Lane>, client: &Arc<Client>, request: &Request<Incoming>) -> Self {
        let mut record = Self::new(lane, client, request.method().clone());
        record.body_pending = !request.body().is_end_stream();
        record.path = request.uri().path_and_query().cloned();
        record
    }

    /// For a connection that ended before there was a request.
    pub(super) fn open_without_request(lane: &Arc<Lane>, client: &Arc<Client>) -> Self {
        Self::new(lane, client, Method::default())
    }

    fn new(lane: &Arc<Lane>, client: &Arc<Client>, method: Method) -> Self {
        client.activity.begin();
        Self {
            lane: Arc::clone(lane),
            client: Arc::clone(client),
            opened: Instant::now(),
            request_id: lane.desk.request_id(),
            method,
            decision: Decision::Open,
            status: 0,
            answered_after: None,
            bytes: 0,
            host: None,
            path: None,
            route: None,
            allow: None,
            caller: None,
            rule: None,
            upstream: None,
            upstream_time: None,
            body_pending: false,
            broken: None,
            client_ip: client.peer.ip(),
        }
    }

    /// The id of this request in log, answer and `X-Request-Id`.
    pub(super) fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// The gateway answers instead of the app.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        self.decision = Decision::Refused(refusal);
        self.status = refusal.status().as_u16();
    }

    /// The head of the answer is ready.
    pub(super) fn answered(mut self, mut response: Response<Content>, version: Version) -> Response<Answer> {
        if self.decision == Decision::Open {
            self.decision = Decision::Allowed;
        }
        self.status = response.status().as_u16();
        self.answered_after = Some(self.opened.elapsed());
        // The id is the client's way to ask about this request; an app may have put its own there.
        if version == Version::HTTP_10 {
            response.headers_mut().remove(http::header::TRANSFER_ENCODING);
        }
        response.map(|content| Answer::new(content, self))
    }

    fn refusal(&self) -> Option<Refusal> {
        match self.decision {
            Decision::Refused(refusal) => Some(refusal),
            _ => self.broken,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.client.activity.end();
        let duration = self.opened.elapsed();
        let refusal = self.refusal();
        let decision = match self.decision {
            Decision::Allowed => "allow",
            Decision::Refused(_) => "refuse",
            Decision::Open => "aborted",
        };
        let identity = self.caller.as_ref().map(|caller| &caller.identity);
        let rule = self.rule.as_ref().map(ToString::to_string);
        self.lane.desk.write(&Entry {
            request_id: self.request_id.as_str(),
            client: self.client_ip,
            method: self.method.as_str(),
            host: self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default(),
            path: self.path.as_ref().map_or("", PathAndQuery::path),
            route: self.route.as_deref().unwrap_or_default(),
            subject: identity.map(|identity| identity.subject.as_str()),
            issuer: identity.map(|identity| &*identity.issuer),
            decision,
            reason: refusal.map(Refusal::reason),
            rule: rule.as_deref(),
            status: self.status,
            bytes: self.bytes,
            upstream: self.upstream.as_deref(),
            duration,
            upstream_time: self.upstream_time,
        });
        let gateway_time = self.answered_after.map(|all| all.saturating_sub(self.upstream_time.unwrap_or_default()));
        self.lane.desk.count(&self.route, &self.method, self.status, refusal, gateway_time, self.upstream_time);
    }
}
