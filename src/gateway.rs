//! **The walk**: what happens to one request, in one straight line, and nothing else.
//!
//! Enters: a request as the HTTP library parsed it, and the client's connection. Leaves: the app's answer, or the
//! gateway's own, and one log line. `walk` returns a [`Refusal`]; [`Lane::serve`] is the single place where that
//! becomes a response. Nothing here blocks, and no lock is held while something is waited for.

mod activity;
mod answer;
mod record;
mod sign_in;
mod vigil;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, EXPECT, LOCATION, UPGRADE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use ipnet::IpNet;

use crate::authorize::{Auth, Permit, Rules};
use crate::caller::forwarded::{client_ip, set_forwarded};
use crate::caller::{Naming, Peer};
use crate::clock::Clock;
use crate::config::Place;
use crate::credential::{Kind, Source, Sources};
use crate::forward::{BodyRules, Hop, Pool, RequestBody, Upstream, forward};
use crate::http::headers::{self, Host};
use crate::http::target::{Oddities, QueryEdit, Target};
use crate::http::{cookie, origin, reply};
use crate::login::{self, Asked, Endpoint, Endpoints};
use crate::observe::{Desk, RouteLabel};
use crate::pages::Pages;
use crate::refusal::Refusal;
use crate::route::{Lookup, Table};
use crate::signing::{Assertions, SigningKeys};
use crate::verify::{LocalCache, Verified, Verifier};

pub use activity::Activity;
pub use answer::{Answer, Content};
use record::Record;
pub use sign_in::{Presented, Renewal, SignIn};
use vigil::Vigil;

/// Everything that one version of the configuration says about requests. Shared by all workers, never changed.
#[derive(Debug)]
pub struct Gateway {
    /// Which route a path belongs to.
    pub routes: Table<Route>,
    /// Where a credential may be.
    pub sources: Sources,
    /// Who may sign.
    pub verifier: Verifier,
    /// What the app is told.
    pub naming: Naming,
    /// Signed assertions, where they are switched on.
    pub assertions: Option<Assertions>,
    /// The keys that sign them.
    pub signing: Arc<ArcSwap<SigningKeys>>,
    /// What is answered here.
    pub endpoints: Endpoints,
    /// The session cookie, where people can sign in.
    pub sign_in: Option<SignIn>,
    /// What pages look like, where people can sign in.
    pub pages: Option<Arc<Pages>>,
    /// How log lines and metrics name what is answered here.
    pub own_label: Label,
    /// `realm` of challenges.
    pub realm: String,
    /// What request bodies are held to.
    pub bodies: Arc<BodyRules>,
    /// Whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The time.
    pub clock: Clock,
}

/// A route, ready to run.
#[derive(Debug)]
pub struct Route {
    /// Its pattern, as log lines and metrics name it.
    pub label: Label,
    /// Its `[[routes]]` line.
    pub place: Place,
    /// Host, path and methods as written, for `check`.
    pub pattern: (Option<String>, String, Option<String>),
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

/// How log lines and metrics name a route.
#[derive(Clone, Debug)]
pub struct Label {
    /// Methods, host and path as written.
    pub text: Arc<str>,
    /// The series that its requests are counted in.
    pub series: RouteLabel,
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// One worker's lane through one version of the gateway: what it alone uses, so that no request waits for another core.
#[derive(Debug)]
pub struct Lane {
    /// What all workers share.
    pub gateway: Arc<Gateway>,
    /// This worker's connections to the apps.
    pub pool: Pool,
    /// This worker's table in front of the shared token cache.
    pub cache: Arc<Mutex<LocalCache>>,
    /// The same for what session cookies hold.
    pub session_cache: Arc<Mutex<LocalCache>>,
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
    /// Its requests.
    pub activity: Activity,
    /// Whether it has been handed over to a WebSocket.
    switched: Arc<AtomicBool>,
    /// Held as long as something of the connection is alive: the limit on connections, and the wait at shutdown.
    _hold: Hold,
}

struct Hold(#[allow(dead_code)] Box<dyn std::any::Any + Send + Sync>);

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

impl Client {
    /// A connection that has had no request yet.
    #[must_use]
    pub fn new(peer: Peer, server_name: Option<String>, hold: Box<dyn std::any::Any + Send + Sync>) -> Self {
        Self { peer, server_name, activity: Activity::default(), switched: Arc::default(), _hold: Hold(hold) }
    }

    /// Becomes true when the bytes of the connection are not HTTP any more.
    #[must_use]
    pub fn switched(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.switched)
    }
}

/// Why no route takes a request.
#[derive(Debug)]
pub struct Miss<'a> {
    /// The answer.
    pub refusal: Refusal,
    /// A route of the same path, where there is one.
    pub route: Option<&'a Route>,
    /// The methods that the path has.
    pub allow: Option<&'a HeaderValue>,
}

/// The route for a target, if it accepts the way in which the path is spelled.
///
/// # Errors
/// 400 for an odd path that is not accepted, 404, 405.
pub fn locate<'a>(
    routes: &'a Table<Route>,
    host: &str,
    target: &Target,
    method: &Method,
) -> Result<&'a Route, Miss<'a>> {
    let odd = |accepted| target.oddities().refusal_unless(accepted);
    match routes.find(host, target.matching(), method) {
        Lookup::Found(route) => match odd(route.accept) {
            Some(refusal) => Err(Miss { refusal, route: Some(route), allow: None }),
            None if hides_another_route(routes, host, target, method, route) => {
                Err(Miss { refusal: Refusal::PathEncodedSlash, route: Some(route), allow: None })
            }
            None => Ok(route),
        },
        Lookup::MethodRefused { allow, some } => {
            let refusal = odd(some.accept).unwrap_or(Refusal::MethodRefused);
            Err(Miss { refusal, route: Some(some), allow: Some(allow) })
        }
        Lookup::Missing => {
            let refusal = odd(Oddities::default()).unwrap_or(Refusal::RouteMissing);
            Err(Miss { refusal, route: None, allow: None })
        }
    }
}

/// Whether an app that decodes `%2f` before it matches would take the path for one of another route, which asks for more
/// than this one or does not have the method: what is decided here would then not be decided about what it does.
fn hides_another_route(routes: &Table<Route>, host: &str, target: &Target, method: &Method, route: &Route) -> bool {
    let Some(decoded) = target.matching_with_slashes() else { return false };
    match routes.find(host, &decoded, method) {
        Lookup::Found(other) => !route.rules.cover(&other.rules),
        Lookup::MethodRefused { .. } => true,
        Lookup::Missing => false,
    }
}

impl Gateway {
    /// A connection from `address`.
    #[must_use]
    pub fn peer(&self, address: IpAddr, https: bool) -> Peer {
        Peer::new(address, https, &self.trusted_proxies)
    }
}

impl Lane {
    /// Serves one request. Never fails: what goes wrong is an answer too.
    pub async fn serve(self: Arc<Self>, client: Arc<Client>, request: Request<Incoming>) -> Response<Answer> {
        let mut record = Record::open(&self, &client, &request);
        let browser = reply::wants_page(request.headers());
        let http1 = request.version() < Version::HTTP_2;
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let mut response = match walk(&self, &client, request, &mut record).await {
            Ok(mut response) => {
                if http1 && record.is_much_pending() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
            Err(refusal) => {
                record.refused(refusal);
                if refusal == Refusal::Revoked {
                    // The session ended while this was under way. Its renewed cookie must not take the place of the one
                    // that the browser may have got since.
                    record.set_cookie = None;
                }
                let mut response = if let Some(mut page) = record.page.take() {
                    reply::mark(page.headers_mut(), refusal, record.request_id(), &self.gateway.realm);
                    page
                } else if refusal == Refusal::CredentialMissing && browser && is_safe && self.gateway.sign_in.is_some()
                {
                    self.to_sign_in(&record)
                } else {
                    self.refusal(refusal, &record, browser)
                };
                // What is left of the body is not read, and must not be taken for the next request.
                if http1 && record.is_body_pending() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response.map(Content::Own)
            }
        };
        if let (Some(sign_in), Some(set_cookie)) = (&self.gateway.sign_in, record.set_cookie.take()) {
            sign_in.set_cookie(response.headers_mut(), set_cookie);
        }
        record.answered(response)
    }

    /// The answer for a refusal.
    fn refusal(&self, refusal: Refusal, record: &Record, browser: bool) -> Response<Bytes> {
        let pages = self.gateway.pages.as_deref().map(|pages| pages as &dyn reply::ErrorPages);
        reply::refuse(
            refusal,
            reply::Circumstances {
                request_id: record.request_id(),
                browser,
                pages,
                allow: record.allow.as_ref(),
                close: false,
                realm: &self.gateway.realm,
                retry_after: record.retry_after,
            },
        )
    }

    /// The way to the sign-in page and back.
    fn to_sign_in(&self, record: &Record) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::FOUND;
        // It was a target once, and still is.
        let target = record.path.clone().and_then(|path| Target::parse(&path.into()).ok());
        let headers = response.headers_mut();
        let location = target.map(|target| login::login_location(self.gateway.endpoints.prefix(), &target));
        headers.insert(LOCATION, location.unwrap_or(HeaderValue::from_static("/")));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(record.request_id()) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        response
    }

    /// Writes the line for a connection that the HTTP library has answered, and given up, before there was a request.
    pub fn note_refused(self: &Arc<Self>, client: &Arc<Client>, refusal: Refusal) {
        Record::open_without_request(self, client).refused(refusal);
    }

    /// Writes the line for a connection that was given up before it became a request, and returns the answer for it.
    pub fn refuse_connection(self: &Arc<Self>, client: &Arc<Client>, refusal: Refusal) -> Response<Bytes> {
        let mut record = Record::open_without_request(self, client);
        record.refused(refusal);
        let response = reply::refuse(
            refusal,
            reply::Circumstances {
                request_id: record.request_id(),
                browser: false,
                pages: None,
                allow: None,
                close: true,
                realm: &self.gateway.realm,
                retry_after: None,
            },
        );
        record.bytes = response.body().len() as u64;
        response
    }
}

/// The walk itself.
async fn walk(
    lane: &Arc<Lane>,
    client: &Client,
    request: Request<Incoming>,
    record: &mut Record,
) -> Result<Response<Content>, Refusal> {
    let gateway = &*lane.gateway;
    let revocations = gateway.verifier.revocations().generation();
    let (mut parts, body) = request.into_parts();

    // What is asked for, and of whom.
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::MethodUnsupported);
    }
    let peer = client.peer.under(&gateway.trusted_proxies);
    record.client_ip = client_ip(&parts.headers, &peer, &gateway.trusted_proxies);
    let host = headers::request_host(&parts)?;
    record.host = Some(host.as_value());
    if client.server_name.as_ref().is_some_and(|name| name != host.name()) {
        return Err(Refusal::Misdirected);
    }
    let target = Target::parse(&parts.uri)?;
    record.path = Some(target.path_and_query());

    // Ours, or whose?
    if let Some(found) = login::find(&parts.method, &target, gateway.endpoints.prefix(), gateway.sign_in.is_some()) {
        record.route = Some(gateway.own_label.clone());
        let endpoint = found.map_err(|(refusal, allow)| {
            record.allow = allow;
            refusal
        })?;
        return Box::pin(answer(lane, &endpoint, &parts, &host, &target, body, record)).await;
    }
    let route = locate(&gateway.routes, host.name(), &target, &parts.method).map_err(|miss| {
        record.route = miss.route.map(|route| route.label.clone());
        record.allow = miss.allow.cloned();
        miss.refusal
    })?;
    record.route = Some(route.label.clone());

    // Who asks, and may they?
    let found = match route.rules.auth() {
        Auth::None => None,
        Auth::Optional | Auth::Required => identify(lane, &parts, &host, &target, record).await.inspect_err(|_| {
            record.rule = Some(Arc::clone(route.rules.name()));
        })?,
    };
    let (verified, source) = found.unzip();
    let source = source.flatten();
    let caller = verified.as_ref().map(|verified| Arc::clone(&verified.caller));
    record.caller.clone_from(&caller);
    record.vigil = verified.map(|verified| Vigil::new(verified, revocations));
    let permit = route.rules.decide(caller).map_err(|denial| {
        record.rule = Some(denial.rule);
        denial.refusal
    })?;
    record.is_permitted = true;

    // What the app is told.
    let body = RequestBody::new(body, &gateway.bodies)?;
    record.body = body.progress();
    let source = source.filter(|_| route.forward_credential);
    let (hop, upgrade) = rewrite(gateway, &peer, route, &permit, source, &target, host, record, &mut parts)?;

    // And on.
    record.upstream = Some(Arc::clone(&route.upstream.name));
    let asked = Instant::now();
    let mut forwarding =
        std::pin::pin!(forward(&permit, &route.upstream, &lane.pool, Request::from_parts(parts, body), hop));
    let forwarded = std::future::poll_fn(|cx| {
        if record.is_caller_gone() {
            return Poll::Ready(Err(Refusal::Revoked));
        }
        match forwarding.as_mut().poll(cx) {
            // An answer that is waited for is refused when it comes; an upload must not go on until then.
            Poll::Pending if record.is_uploading() => record.poll_caller_gone(cx).map(|()| Err(Refusal::Revoked)),
            polled => polled,
        }
    })
    .await;
    record.upstream_time = Some(asked.elapsed());
    let mut forwarded = forwarded?;
    if let Some(sign_in) = &gateway.sign_in {
        sign_in.strip_set_cookie(forwarded.response.headers_mut());
    }
    record.upstream = Some(forwarded.server);
    Ok(match (upgrade, forwarded.upgrade) {
        (Some(client_side), Some(app)) => {
            client.switched.store(true, Ordering::Relaxed);
            forwarded.response.map(|_| Content::Switched { client: client_side, app })
        }
        _ => forwarded.response.map(Content::App),
    })
}

/// Who asks, and where it says so: the first credential that is there and good, or nobody. A bad one in a header or the query ends the walk;
/// a bad one in a cookie is as good as none, because the browser sends it whether it wants or not. The session cookie comes last.
async fn identify<'l>(
    lane: &'l Lane,
    parts: &Parts,
    host: &Host,
    target: &Target,
    record: &mut Record,
) -> Result<Option<(Arc<Verified>, Option<&'l Source>)>, Refusal> {
    let mut after = None;
    while let Some(credential) = lane.gateway.sources.find_after(after, &parts.headers, target.query())? {
        match verify(lane, &credential.token).await {
            Ok(verified) => {
                if credential.kind == Kind::Cookie && may_be_forged(parts, host) {
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
    let Some(sign_in) = &lane.gateway.sign_in else { return Ok(None) };
    match sign_in.present(&lane.session_cache, &parts.headers, &lane.gateway.clock, record.client_ip).await? {
        Presented::Nothing => Ok(None),
        Presented::Bad(refusal) => {
            record.set_cookie = sign_in.clear(refusal);
            Ok(None)
        }
        Presented::Good(..) if may_be_forged(parts, host) => Err(Refusal::CrossSite),
        Presented::Good(verified, set_cookie) => {
            record.set_cookie = set_cookie;
            Ok(Some((verified, None)))
        }
    }
}

/// Answers a request for one of our own endpoints.
async fn answer(
    lane: &Lane,
    endpoint: &Endpoint,
    parts: &Parts,
    host: &Host,
    target: &Target,
    mut body: Incoming,
    record: &mut Record,
) -> Result<Response<Content>, Refusal> {
    let gateway = &*lane.gateway;
    let leaving = || gateway.sign_in.as_ref()?.recognize(&parts.headers, gateway.clock.now());
    let mut bad = None;
    let found = match endpoint {
        Endpoint::Jwks | Endpoint::Logo | Endpoint::Refresh => None,
        // Who is signed in already signs in anew: the session of before ends.
        Endpoint::Login | Endpoint::Register => leaving().map(|verified| (verified, None)),
        // Nothing may keep anybody from leaving, least of all that a credential has expired.
        Endpoint::Logout => match identify_by_source(lane, parts, target).await {
            Ok(Some(found)) if found.0.caller.identity.session_id.is_some() => Some(found),
            // Another issuer's token has no session here, and beside it there may be one.
            Ok(other) => leaving().map(|verified| (verified, None)).or(other),
            Err(refusal) => {
                bad = Some(refusal);
                leaving().map(|verified| (verified, None))
            }
        },
        Endpoint::Me | Endpoint::Password | Endpoint::Sessions | Endpoint::Session(_) | Endpoint::EndSession(_) => {
            identify(lane, parts, host, target, record).await?
        }
    };
    let (verified, source) = found.unzip();
    let caller = verified.map(|verified| Arc::clone(&verified.caller));
    record.caller.clone_from(&caller);
    let asked = Asked {
        endpoint,
        method: &parts.method,
        query: target.query(),
        headers: &parts.headers,
        host: host.as_sent(),
        client: record.client_ip,
        browser: reply::wants_page(&parts.headers),
        request_id: record.request_id(),
        by_cookie: caller.is_some() && source.flatten().is_none(),
        caller,
    };
    let answered = gateway.endpoints.answer(asked, &mut body).await;
    if http_body::Body::is_end_stream(&body) {
        record.has_been_read();
    }
    match answered {
        Ok(answered) => {
            if answered.caller.is_some() {
                record.caller = answered.caller;
            }
            if parts.method == Method::POST {
                record.has_been_read();
            }
            Ok(answered.response.map(Content::Own))
        }
        Err(failure) => {
            record.page = failure.page;
            record.retry_after = failure.retry_after;
            // What was sent and is no good is told from nothing at all.
            Err(bad.filter(|_| failure.refusal == Refusal::CredentialMissing).unwrap_or(failure.refusal))
        }
    }
}

/// Who a header, a query parameter or a cookie of the configuration names.
///
/// # Errors
/// What is wrong with it.
async fn identify_by_source<'l>(
    lane: &'l Lane,
    parts: &Parts,
    target: &Target,
) -> Result<Option<(Arc<Verified>, Option<&'l Source>)>, Refusal> {
    let Some(credential) = lane.gateway.sources.find(&parts.headers, target.query())? else { return Ok(None) };
    let verified = match verify(lane, &credential.token).await {
        // Of whatever roles, it is the caller's.
        Err(Refusal::Stale) => lane.gateway.verifier.verify_expired(&credential.token, lane.gateway.clock.now())?,
        verified => verified?,
    };
    Ok(Some((verified, Some(credential.source))))
}

/// Whether a page of another origin may have made the browser send this. A WebSocket handshake is a GET that opens a
/// channel in both directions, so it counts as unsafe.
fn may_be_forged(parts: &Parts, host: &Host) -> bool {
    (origin::is_unsafe(&parts.method) || parts.headers.contains_key(UPGRADE))
        && origin::is_cross_origin(&parts.headers, host.as_sent())
}

async fn verify(lane: &Lane, token: &str) -> Result<Arc<Verified>, Refusal> {
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

/// Turns the client's request into the gateway's: hop-by-hop fields go first, so that `Connection` cannot name a field
/// of ours; then every name that the gateway speaks for, and every credential but the one in `kept`; then ours are set.
/// Returns what holds for the client's connection alone, and its side of an upgrade.
#[allow(clippy::too_many_arguments)] // all of the walk comes together here, once
fn rewrite(
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
    let hop_by_hop = headers::drop_hop_by_hop(&mut parts.headers);
    let upgrade = wanted_upgrade(hop_by_hop.upgrade.as_ref(), parts, record)?;

    let fields = &mut parts.headers;
    gateway.naming.strip(fields, peer.trusted);
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
        cookie::remove(fields, &[&sign_in.cookie]);
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

impl reply::ErrorPages for Pages {
    fn page(&self, status: StatusCode, title: &str, detail: &str, request_id: &str) -> Bytes {
        self.error(status, title, detail, request_id)
    }

    fn policy(&self) -> &HeaderValue {
        Self::policy(self)
    }
}
