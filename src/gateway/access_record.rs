//! What one request did, filled in along the walk and told once: in the log and in the metrics, however it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;

use super::response::{Answer, Content, Ending};
use super::{ConnectionInfo, Label, RevocationWatch, WorkerContext};
use crate::authorize::RuleName;
use crate::forward::{Progress, is_grpc, tunnel};
use crate::http::client::{Exit, Holder};
use crate::http::incoming::ClientBody;
use crate::http::reply;
use crate::identity::Caller;
use crate::identity_headers::forwarded::{came_by_https, incoming_request_id};
use crate::observe::{Decision, Entry, Observation, RequestId, RouteLabel};
use crate::refusal::Refusal;

/// The status in log and metrics of a request whose client went away before it was answered, as other proxies have it.
const CLIENT_GONE: u16 = 499;

/// The reason in the log where the gateway ended an answer that its client did not take, or hardly.
const TOO_SLOW: &str = "client-too-slow";

/// The reason where a request was ended to make room for those of other clients.
const GAVE_WAY: &str = "gave-way";

/// Bytes of a body that are read after the answer for the sake of the connection.
const READ_IN_PASSING: u64 = 64 * 1024;

/// One request. Dropping it writes its line. It is boxed: it goes through many hands, and would be copied in each.
#[derive(Debug)]
pub(super) struct AccessRecord {
    lane: Arc<WorkerContext>,
    client: Arc<ConnectionInfo>,
    /// Ends this request from elsewhere.
    exit: Arc<Exit>,
    opened: Instant,
    /// Milliseconds since 1970.
    opened_at: u64,
    request_id: RequestId,
    /// The id that a trusted proxy gave, which counts instead.
    given_id: Option<HeaderValue>,
    method: Method,
    refusal: Option<Refusal>,
    status: u16,
    /// From the beginning to the head of the answer.
    answered_after: Option<Duration>,
    has_body: bool,
    /// Whether it came by HTTPS, as a trusted proxy may have said.
    is_https: bool,
    /// The length of the body, where it is known.
    body_length: Option<u64>,
    /// Whether the app's answer ended before its end.
    is_broken: bool,
    /// Whether the gateway ended it, because its caller was signed out or revoked.
    is_ended: bool,
    /// Whether the gateway ended it, because its client took the answer too slowly.
    is_too_slow: bool,
    /// Whether the rate at which the client takes the answer is not measured.
    is_unmeasured: bool,
    /// Bytes of the answer's body that were handed to the connection.
    pub(super) bytes: u64,
    /// The address of the client, as a trusted proxy may have named it.
    pub(super) client_ip: IpAddr,
    /// The Host as sent.
    pub(super) host: Option<HeaderValue>,
    /// The canonical target; only its path is told.
    pub(super) path: Option<PathAndQuery>,
    /// The route's label.
    pub(super) route: Option<Label>,
    /// The methods of the path, where the method was refused.
    pub(super) allow: Option<HeaderValue>,
    /// Who asked, where that was found out.
    pub(super) caller: Option<Arc<Caller>>,
    /// Watches over that caller's right to be here.
    pub(super) vigil: Option<RevocationWatch>,
    /// For the session cookie: a new one, or its deletion.
    pub(super) set_cookie: Option<HeaderValue>,
    /// The answer to a refusal, where it is a form that is shown again.
    pub(super) page: Option<Response<Bytes>>,
    /// When it makes sense to ask again, in seconds.
    pub(super) retry_after: Option<u64>,
    /// What is said instead of the words for the refusal.
    pub(super) detail: Option<String>,
    /// The rule that said no.
    pub(super) rule: Option<Arc<RuleName>>,
    /// Whether the request may be forwarded.
    pub(super) is_permitted: bool,
    /// How far the request's body has come, once it is on its way to the app.
    pub(super) body: Option<Arc<Progress>>,
    /// The upstream's name, then the address of the server that answered.
    pub(super) upstream: Option<Arc<str>>,
    /// From the request to the app to the head of its answer.
    pub(super) upstream_time: Option<Duration>,
}

impl AccessRecord {
    pub(super) fn open(
        lane: &Arc<WorkerContext>,
        client: &Arc<ConnectionInfo>,
        exit: Arc<Exit>,
        request: &Request<ClientBody>,
    ) -> Box<Self> {
        let mut record = Box::new(Self::new(lane, client, exit, request.method().clone()));
        record.has_body = !request.body().is_end_stream();
        record.body_length = request.body().size_hint().exact();
        record.path = request.uri().path_and_query().cloned();
        let peer = client.peer.under(&lane.gateway.trusted_proxies);
        record.given_id = incoming_request_id(request.headers(), &peer);
        record.is_https = lane.gateway.https_only_host.is_some() && came_by_https(request.headers(), &peer);
        record
    }

    /// For a connection that ended before there was a request.
    pub(super) fn open_without_request(lane: &Arc<WorkerContext>, client: &Arc<ConnectionInfo>) -> Self {
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
            refusal: None,
            status: CLIENT_GONE,
            answered_after: None,
            has_body: false,
            is_https: false,
            body_length: None,
            is_broken: false,
            is_ended: false,
            is_too_slow: false,
            is_unmeasured: false,
            bytes: 0,
            client_ip: client.peer.ip,
            host: None,
            path: None,
            route: None,
            allow: None,
            caller: None,
            vigil: None,
            set_cookie: None,
            page: None,
            retry_after: None,
            detail: None,
            rule: None,
            is_permitted: false,
            body: None,
            upstream: None,
            upstream_time: None,
        }
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

    /// Whether the answer tells the browser to reach this host by HTTPS alone. Over HTTP it must not (RFC 6797 section 7.2).
    pub(super) fn is_https_only(&self) -> bool {
        let host = self
            .host
            .as_ref()
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        self.is_https
            && self
                .lane
                .gateway
                .https_only_host
                .as_ref()
                .is_some_and(|only| only.eq_ignore_ascii_case(without_443(host)))
    }

    /// The request was sent on to `public_url`.
    pub(super) fn redirected(&mut self, method: Method, target: PathAndQuery, label: Label) {
        self.method = method;
        self.path = Some(target);
        self.route = Some(label);
        self.status = StatusCode::PERMANENT_REDIRECT.as_u16();
        self.answered_after = Some(self.opened.elapsed());
    }

    /// The client, as limits count it that all clients share.
    pub(super) fn holder(&self) -> Holder {
        Holder {
            key: self.client_ip.into(),
            exit: Arc::clone(&self.exit),
        }
    }

    /// Whether something of the request's body has not been read. What the connection does with it is not ours to know:
    /// it must not be used again.
    pub(super) fn is_body_pending(&self) -> bool {
        self.has_body && !self.body.as_ref().is_some_and(|body| body.is_complete())
    }

    /// Whether so much of the body is left, now that the app has begun to answer, that the connection is better not used
    /// again. A little more is read in passing.
    pub(super) fn is_much_pending(&self) -> bool {
        let gone = self.body.as_ref().map_or(0, |body| body.bytes());
        self.is_body_pending()
            && self
                .body_length
                .is_none_or(|length| length.saturating_sub(gone) > READ_IN_PASSING)
    }

    /// The gateway answers instead of the app.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        if let (Refusal::Revoked, Some(body)) = (refusal, &self.body) {
            body.end();
        }
        self.refusal = Some(refusal);
        self.status = refusal.status().as_u16();
    }

    /// The request's body was read to its end, and not for an app.
    pub(super) fn has_been_read(&mut self) {
        self.has_body = false;
    }

    /// Whether the app has not got all of the request yet, which may go on for long.
    pub(super) fn is_uploading(&self) -> bool {
        self.body.as_ref().is_some_and(|body| !body.is_complete())
    }

    /// Whether the caller has been signed out or revoked since; by a look.
    pub(super) fn is_caller_gone(&mut self) -> bool {
        let revocations = self.lane.gateway.verifier.revocations();
        self.vigil
            .as_mut()
            .is_some_and(|vigil| vigil.is_over(revocations))
    }

    /// The same, and who asks is woken when it comes to that.
    pub(super) fn poll_caller_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let revocations = self.lane.gateway.verifier.revocations();
        self.vigil
            .as_mut()
            .map_or(Poll::Pending, |vigil| vigil.poll_over(revocations, cx))
    }

    /// The gateway ends the answer.
    pub(super) fn ended(&mut self) {
        self.is_ended = true;
        if let Some(body) = &self.body {
            body.end();
        }
    }

    /// The gateway ends the answer, because its client takes it too slowly.
    pub(super) fn was_too_slow(&mut self) {
        self.is_too_slow = true;
    }

    /// Whether the rate counts at which its client takes the answer.
    pub(super) fn is_measured(&self) -> bool {
        !self.is_unmeasured
    }

    /// The app's answer ended before its end.
    pub(super) fn broke_off(&mut self) {
        self.is_broken = true;
    }

    /// The head of the answer is ready. The record is closed when its body has ended, and after a switch of protocols
    /// when that connection has.
    pub(super) fn answered(mut self: Box<Self>, response: Response<Content>) -> Response<Answer> {
        self.status = response.status().as_u16();
        self.answered_after = Some(self.opened.elapsed());
        if let Some(body) = &self.body {
            body.answer_began();
        }
        let (mut parts, content) = response.into_parts();
        if matches!(content, Content::App(_)) && is_grpc(&parts.headers) {
            self.is_unmeasured = true;
            self.client.activity.begin_unmeasured();
        }
        let answer = match content {
            Content::Own(bytes) => Answer::own(reply::finish(&self.method, &mut parts, bytes), Some(self)),
            Content::App(body) => Answer::app(body, Ending::of(&parts.headers), self),
            Content::Switched { client, app } => {
                let exit = Arc::clone(&self.exit);
                let task = tokio::spawn(async move {
                    let over = self
                        .vigil
                        .as_ref()
                        .map(|vigil| vigil.over(self.lane.gateway.verifier.revocations()));
                    let mut is_over = false;
                    let close = async {
                        match over {
                            Some(over) => over.await,
                            None => std::future::pending().await,
                        }
                        is_over = true;
                    };
                    let traffic = tunnel(client, app, close).await;
                    self.is_ended = is_over;
                    self.bytes = traffic.received;
                    drop(self);
                });
                exit.leads_to(task.abort_handle());
                Answer::own(Bytes::new(), None)
            }
        };
        Response::from_parts(parts, answer)
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
}

impl AccessRecord {
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
        if self.is_unmeasured {
            self.client.activity.end_unmeasured();
        }
        self.client.activity.end(now);
        let duration = now.saturating_duration_since(self.opened);
        let reason = self.reason();
        let identity = self.caller.as_ref().map(|caller| &caller.identity);
        let rule = self.rule.as_ref().map(ToString::to_string);
        let entry = Entry {
            time: self.opened_at,
            request_id: self.request_id(),
            client: self.client_ip,
            method: self.method.as_str(),
            host: self
                .host
                .as_ref()
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default(),
            path: self.path.as_ref().map_or("", PathAndQuery::path),
            route: self.route.as_ref().map(|route| &*route.text),
            subject: identity.map(|identity| identity.subject.as_str()),
            email: identity.and_then(|identity| identity.email.as_deref()),
            issuer: identity.map(|identity| &*identity.issuer),
            decision: self.decision(),
            reason,
            rule: rule.as_deref(),
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
                method: &self.method,
                status: self.status,
                refusal: self.refusal.or(self.is_ended.then_some(Refusal::Revoked)),
                upstream: self.upstream_time,
                gateway: head_after.saturating_sub(self.upstream_time.unwrap_or_default()),
            },
        );
    }
}

fn without_443(host: &str) -> &str {
    host.strip_suffix(":443").unwrap_or(host)
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
