//! **The walk**: what happens to one request, in one straight line, and nothing else.
//!
//! Enters: a request as the HTTP library parsed it, and the client's connection. Leaves: the app's answer, or the
//! gateway's own, and one log line. [`walk`] returns a [`Refusal`]; [`Lane::serve`] is the single place where that
//! becomes a response. Nothing here blocks, and no lock is held while something is waited for.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;

use crate::authorize::{Auth, Permit, Rules};
use crate::caller::{Assertions, Forwarded as ForwardedHeaders, Naming, Peer};
use crate::clock::Clock;
use crate::config::Place;
use crate::credential::{Kind, Sources};
use crate::endpoint::Endpoints;
use crate::forward::{self, Pool, RequestBody, ResponseBody, Upstream};
use crate::http::headers::{self, Host};
use crate::http::target::{Oddities, QueryEdit, Target};
use crate::http::{origin, reply};
use crate::identity::Caller;
use crate::observe::Desk;
use crate::refusal::Refusal;
use crate::route::{Lookup, Table};
use crate::verify::{LocalCache, Verifier};

/// Everything that one version of the configuration says about requests. Shared by all workers, never changed.
#[derive(Debug)]
pub struct Gateway {
    /// Which route a path belongs to.
    pub routes: Table<Route>,
    /// Where a credential may be.
    pub sources: Sources,
    /// Who may sign.
    pub verifier: Arc<Verifier>,
    /// What the app is told.
    pub naming: Naming,
    /// Signed assertions, where they are switched on.
    pub assertions: Option<Assertions>,
    /// What is answered here.
    pub endpoints: Endpoints,
    /// `realm` of challenges.
    pub realm: String,
    /// The longest body; `None` is unlimited.
    pub max_body_bytes: Option<u64>,
    /// The longest wait for more of a body.
    pub idle_timeout: Duration,
    /// The time.
    pub clock: Clock,
}

/// A route, ready to run.
#[derive(Debug)]
pub struct Route {
    /// Its pattern, as log lines and metrics name it.
    pub label: Arc<str>,
    /// Its `[[routes]]` line.
    pub place: Place,
    /// Who may.
    pub rules: Rules,
    /// Odd paths that it takes.
    pub accept: Oddities,
    /// Where it leads.
    pub upstream: Arc<Upstream>,
    /// Cut off the front of the path.
    pub strip_prefix: Option<String>,
    /// Set on the request to the app.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether the app gets the credential as well.
    pub forward_credential: bool,
}

/// One worker's lane through one version of the gateway: what it alone uses, so that no request waits for another core.
#[derive(Debug)]
pub struct Lane {
    /// What all workers share.
    pub gateway: Arc<Gateway>,
    /// This worker's connections to the apps.
    pub pool: Pool,
    /// This worker's table in front of the shared token cache.
    pub cache: Mutex<LocalCache>,
    /// Where this worker writes down what happened.
    pub desk: Arc<Desk>,
}

/// The connection that a request came on.
#[derive(Debug)]
pub struct Client {
    /// Address, scheme, and whether it is a trusted proxy.
    pub peer: Peer,
    /// The name that the client asked for in TLS.
    pub server_name: Option<String>,
    /// Held as long as something of the connection is alive: the limit on connections, and the wait at shutdown.
    pub hold: Box<dyn std::any::Any + Send + Sync>,
}

impl Lane {
    /// Serves one request. Never fails: what goes wrong is an answer too.
    pub async fn serve(self: Arc<Self>, client: Arc<Client>, request: Request<Incoming>) -> Response<Answer> {
        let mut record = Record::open(&self, &client, &request);
        let browser = reply::wants_page(request.headers());
        let http1 = request.version() < Version::HTTP_2;
        match walk(&self, &client, request, &mut record).await {
            Ok(response) => record.answered(response),
            Err(refusal) => {
                record.refused(refusal);
                let about = reply::Circumstances {
                    request_id: record.request_id(),
                    browser,
                    allow: record.allow.as_ref(),
                    // What is left of the body is not read, and must not be taken for the next request.
                    close: http1 && record.body_pending,
                    realm: &self.gateway.realm,
                };
                let response = reply::refuse(refusal, about);
                record.answered(response.map(Content::Own))
            }
        }
    }

    /// Writes the line for a connection that was given up before it became a request, and returns the answer for it.
    pub fn refuse_connection(self: &Arc<Self>, client: &Arc<Client>, refusal: Refusal) -> Response<Bytes> {
        let mut record = Record::open_without_request(self, client);
        record.refused(refusal);
        let about = reply::Circumstances {
            request_id: record.request_id(),
            browser: false,
            allow: None,
            close: true,
            realm: &self.gateway.realm,
        };
        let response = reply::refuse(refusal, about);
        record.bytes = response.body().len() as u64;
        response
    }
}

/// The walk itself.
async fn walk(
    lane: &Arc<Lane>,
    client: &Arc<Client>,
    request: Request<Incoming>,
    record: &mut Record,
) -> Result<Response<Content>, Refusal> {
    let gateway = &*lane.gateway;
    let (mut parts, body) = request.into_parts();

    // Who is meant, and what is asked for.
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::MethodUnsupported);
    }
    let host = headers::request_host(&parts)?;
    record.host = Some(host.value().clone());
    if client.server_name.as_ref().is_some_and(|name| !name.eq_ignore_ascii_case(host.name())) {
        return Err(Refusal::Misdirected);
    }
    let target = Target::parse(&parts.uri)?;
    record.path = Some(target.path_and_query());

    // Ours, or whose?
    if let Some(answer) = gateway.endpoints.answer(&parts.method, &target) {
        record.route = Some(gateway.endpoints.label());
        return answer.map(|response| response.map(Content::Own));
    }
    let route = match gateway.routes.find(host.name(), target.matching(), &parts.method) {
        Lookup::Found(route) => route,
        Lookup::MethodRefused { allow, some } => {
            record.route = Some(some.label.clone());
            record.allow = Some(allow.clone());
            return Err(target.oddities().refusal_unless(some.accept).unwrap_or(Refusal::MethodRefused));
        }
        Lookup::Missing => return Err(target.oddities().refusal_unless(Oddities::default()).unwrap_or(Refusal::RouteMissing)),
    };
    record.route = Some(route.label.clone());
    if let Some(refusal) = target.oddities().refusal_unless(route.accept) {
        return Err(refusal);
    }

    // Who asks, and may they?
    let upgrade = wanted_upgrade(&mut parts, &body)?;
    let caller = identify(lane, route, &parts, &host, &target, upgrade.is_some(), record).await?;
    let permit = route.rules.decide(caller).map_err(|denial| {
        record.rule = denial.rule;
        denial.refusal
    })?;
    let length = body.size_hint().lower();
    if gateway.max_body_bytes.is_some_and(|most| length > most) {
        return Err(Refusal::BodyTooLarge);
    }

    // What the app is told: hop-by-hop fields go first, so that `Connection` cannot name one of ours.
    rewrite(gateway, client, route, &permit, &target, host, record, &mut parts)?;

    // And on.
    let protected = gateway.naming.protected();
    let body = RequestBody::new(body, gateway.max_body_bytes, gateway.idle_timeout, protected);
    let asked = Instant::now();
    record.upstream = Some(route.upstream.name.clone());
    let request = Request::from_parts(parts, body);
    let forwarded = forward::forward(&permit, &route.upstream, &lane.pool, request, upgrade.is_some()).await;
    record.upstream_time = Some(asked.elapsed());
    record.body_pending = record.body_pending && forwarded.as_ref().map_or(true, |answer| !answer.request_complete());
    let mut forwarded = forwarded?;
    record.server = forwarded.server.take();
    if let (Some(client_side), Some(app_side)) = (upgrade, forwarded.upgrade.take()) {
        record.keep_open(client_side, app_side, client);
    }
    Ok(forwarded.response.map(Content::App))
}
