//! **The walk**: what happens to one request, in one straight line, and nothing else.
//!
//! Enters: a request as the HTTP library parsed it, and the client's connection. Leaves: the app's answer, or the
//! gateway's own, and one log line. `walk` returns a [`Refusal`]; [`WorkerContext::serve`] is the single place where that
//! becomes a response. Nothing here blocks, and no lock is held while something is waited for.

mod access_record;
mod authenticate;
mod builtin_endpoints;
mod connection;
mod loops;
mod response;
mod response_rewrite;
mod revocation_watch;
mod rewrite;
mod session_cookie;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, LOCATION, REFERER, SEC_WEBSOCKET_PROTOCOL, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};

use crate::authorize::{Auth, Rules};
use crate::clock::Clock;
use crate::config::Place;
use crate::credential::Sources;
use crate::forward::{BodyRules, Outgoing, Pool, RequestBody, Upstream, forward};
use crate::http::client::Exit;
use crate::http::headers::{self, Host};
use crate::http::incoming::ClientBody;
use crate::http::location::Origin;
use crate::http::origin;
use crate::http::reply::{self, Visitor};
use crate::http::target::{PathLeniency, QueryEdit, Target};
use crate::identity_headers::forwarded::{client_ip, is_unlisted_proxy};
use crate::identity_headers::scheme::Scheme;
use crate::identity_headers::{IdentityHeaders, Peer, PeerAddress, TrustedProxies};
use crate::login::{self, Endpoints};
use crate::observe::{RouteLabel, WorkerTelemetry};
use crate::pages::Pages;
use crate::refusal::Refusal;
use crate::route::{Lookup, Table};
use crate::signing::{Assertions, SigningKeys};
use crate::verify::{LocalCache, Verifier};

use access_record::AccessRecord;
use authenticate::identify;
pub use connection::Activity;
pub use loops::LoopMark;
pub use response::{Answer, Content};
use response_rewrite::Asked;
use revocation_watch::RevocationWatch;
pub use rewrite::Rewrite;
use rewrite::rewrite;
pub use session_cookie::{Renewal, SessionCredential, SignIn};

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
    pub naming: IdentityHeaders,
    /// Signed assertions, where they are switched on.
    pub assertions: Option<Assertions>,
    /// The keys that sign them.
    pub signing: Arc<ArcSwap<SigningKeys>>,
    /// What is answered here.
    pub endpoints: Endpoints,
    /// The session cookie, where people can sign in.
    pub sign_in: Option<SignIn>,
    /// What pages look like.
    pub pages: Arc<Pages>,
    /// How log lines and metrics name what is answered here.
    pub own_label: Label,
    /// `realm` of challenges.
    pub realm: String,
    /// Whether browsers see the site by HTTPS; `None` where the file has no `public_url`.
    pub public_https: Option<bool>,
    /// The host that browsers are told to reach by HTTPS alone.
    pub https_only_host: Option<String>,
    /// What request bodies are held to.
    pub bodies: Arc<BodyRules>,
    /// The host of `public_url`, by which an app may know itself.
    pub public_origin: Option<Origin>,
    /// What an answer depends on where a caller may be known or not.
    pub vary: HeaderValue,
    /// How a request is known again that comes back.
    pub loop_mark: LoopMark,
    /// Whose `X-Forwarded-*` are believed.
    pub trusted_proxies: TrustedProxies,
    /// Whether the log has the warning about a proxy that `trusted_proxies` forgets.
    pub warned_of_proxy: AtomicBool,
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
    pub accept: PathLeniency,
    /// Where it leads.
    pub upstream: Arc<Upstream>,
    /// Cut off the front of the path.
    pub strip_prefix: Option<Prefix>,
    /// Whether addresses of the app in its answers become public ones.
    pub rewrite_responses: bool,
    /// Set on the request to the app.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What other products say to apps, and passes from clients on this route.
    pub keep_headers: Vec<HeaderName>,
    /// Whether the app gets the credential as well.
    pub forward_credential: bool,
}

/// What a route cuts off the front of paths.
#[derive(Clone, Debug)]
pub struct Prefix {
    /// As [`crate::http::target::canonical_prefix`] made it.
    pub path: String,
    /// The same for `X-Forwarded-Prefix`.
    pub value: HeaderValue,
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
pub struct WorkerContext {
    /// What all workers share.
    pub gateway: Arc<Gateway>,
    /// This worker's connections to the apps.
    pub pool: Pool,
    /// This worker's table in front of the shared token cache.
    pub cache: Arc<Mutex<LocalCache>>,
    /// The same for what session cookies hold.
    pub session_cache: Arc<Mutex<LocalCache>>,
    /// Where this worker writes down what happened.
    pub desk: Arc<WorkerTelemetry>,
}

/// What there is to know of a browser that may have to sign in, of whose request nothing else is left by then.
struct Journey {
    /// The names of the nonces that it has on this host.
    nonces: Vec<String>,
    /// Whether it would keep a session cookie.
    keeps_cookie: bool,
}

/// The connection that a request came on.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Address, scheme, and whether it is a trusted proxy.
    pub peer: Peer,
    /// The name that the client asked for in TLS.
    pub server_name: Option<String>,
    /// What goes on on it.
    pub activity: Arc<Activity>,
    /// How it is ended from elsewhere.
    pub exit: Arc<Exit>,
    /// Held as long as something of the connection is alive: the limit on connections, and the wait at shutdown.
    _hold: ConnectionGuard,
}

struct ConnectionGuard(#[allow(dead_code)] Box<dyn std::any::Any + Send + Sync>);

impl std::fmt::Debug for ConnectionGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

impl ConnectionInfo {
    /// A connection that has had no request yet.
    #[must_use]
    pub fn new(
        peer: Peer,
        server_name: Option<String>,
        activity: Arc<Activity>,
        exit: Arc<Exit>,
        hold: Box<dyn std::any::Any + Send + Sync>,
    ) -> Self {
        Self {
            peer,
            server_name,
            activity,
            exit,
            _hold: ConnectionGuard(hold),
        }
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
            Some(refusal) => Err(Miss {
                refusal,
                route: Some(route),
                allow: None,
            }),
            // What is left of the path begins with an empty segment, and `rewrite` could not forward it.
            None if !target.oddities().is_none()
                && target
                    .rewritten(
                        route.strip_prefix.as_ref().map(|prefix| &*prefix.path),
                        "",
                        QueryEdit::Keep,
                    )
                    .is_err() =>
            {
                Err(Miss {
                    refusal: Refusal::PathEmptySegment,
                    route: Some(route),
                    allow: None,
                })
            }
            None if hides_another_route(routes, host, target, method, route) => {
                let harmless = PathLeniency {
                    empty_segment: true,
                    path_parameter: true,
                    ..PathLeniency::default()
                };
                let refusal = target
                    .oddities()
                    .refusal_unless(harmless)
                    .unwrap_or(Refusal::PathEncodedSlash);
                Err(Miss {
                    refusal,
                    route: Some(route),
                    allow: None,
                })
            }
            None => Ok(route),
        },
        Lookup::MethodRefused { allow, some } => {
            let refusal = odd(some.accept).unwrap_or(Refusal::MethodRefused);
            Err(Miss {
                refusal,
                route: Some(some),
                allow: Some(allow),
            })
        }
        Lookup::Missing => {
            let refusal = odd(PathLeniency::default()).unwrap_or(Refusal::RouteMissing);
            Err(Miss {
                refusal,
                route: None,
                allow: None,
            })
        }
    }
}

/// Whether an app that reads an odd path in its own way (it decodes `%2f` before it matches, say) would take it for one of
/// another route, which asks for more than this one or does not have the method: what is decided here would then not be
/// decided about what it does.
fn hides_another_route(
    routes: &Table<Route>,
    host: &str,
    target: &Target,
    method: &Method,
    route: &Route,
) -> bool {
    target.other_readings().any(|reading| {
        let Ok(path) = reading else { return true };
        match routes.find(host, &path, method) {
            Lookup::Found(other) => !route.rules.cover(&other.rules),
            Lookup::MethodRefused { .. } => true,
            Lookup::Missing => false,
        }
    })
}

impl Route {
    /// Whether the route's prefix is cut off this path.
    #[must_use]
    pub fn cuts(&self, target: &Target) -> bool {
        self.strip_prefix
            .as_ref()
            .is_some_and(|prefix| target.begins_with(&prefix.path))
    }

    /// Which fields of an answer to a request for `target` are rewritten, and what becomes of them, for people.
    #[must_use]
    pub fn rewritten(&self, target: &Target) -> Vec<(&'static str, String)> {
        if !self.rewrite_responses || self.upstream.is_builtin() {
            return Vec::new();
        }
        let prefix = self
            .strip_prefix
            .as_ref()
            .filter(|_| self.cuts(target))
            .map_or("", |prefix| &prefix.path);
        let path = match (self.upstream.base(), prefix) {
            ("", "") => None,
            ("", prefix) => Some(format!("`/…` becomes `{prefix}/…`")),
            (base, prefix) => Some(format!("`{base}/…` becomes `{prefix}/…`")),
        };
        let place = match &path {
            Some(path) => format!("{path}; the address of a server is taken out"),
            None => "the address of a server is taken out".to_owned(),
        };
        let mut fields: Vec<_> = ["Location", "Content-Location", "Refresh"]
            .map(|name| (name, place.clone()))
            .into();
        fields.extend(path.map(|path| ("Set-Cookie", format!("in `Path`, {path}"))));
        fields
    }
}
/// A year, for this host alone (RFC 6797 section 6.1).
const HTTPS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

impl Gateway {
    /// By which scheme the client came, as it sees it.
    fn scheme(&self, headers: &HeaderMap, peer: &Peer) -> Scheme {
        Scheme::of(
            headers,
            peer,
            self.sign_in
                .as_ref()
                .is_some_and(|sign_in| sign_in.sites.is_https()),
        )
    }

    /// A connection from `address`.
    #[must_use]
    pub fn peer(&self, address: impl Into<PeerAddress>, tls: bool) -> Peer {
        Peer::new(address, tls, &self.trusted_proxies)
    }

    /// Says once, at the first request that shows it, that a proxy in front is not listed.
    fn warn_of_unlisted_proxy(&self, peer: &Peer) {
        if !self.warned_of_proxy.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                peer = %peer.ip,
                "`X-Forwarded-For` from a peer that is not in `trusted_proxies` is ignored; if it is a proxy of yours, list \
                 it in `[server] trusted_proxies` (\"unix\" for a unix socket): until then all its clients count as one address"
            );
        }
    }
}

impl WorkerContext {
    /// Serves one request. Never fails: what goes wrong is an answer too.
    /// `exit` ends this request alone, where the connection has others.
    pub async fn serve(
        self: Arc<Self>,
        client: Arc<ConnectionInfo>,
        exit: Arc<Exit>,
        request: Request<ClientBody>,
    ) -> Response<Answer> {
        let mut record = AccessRecord::open(&self, &client, exit, &request);
        let browser = reply::wants_page(request.headers());
        let journey = browser
            .then(|| self.journey(&client, request.headers()))
            .flatten();
        let http1 = request.version() < Version::HTTP_2;
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let referer = if browser && !is_safe {
            request.headers().get(REFERER).cloned()
        } else {
            None
        };
        let mut response = match walk(&self, &client, request, &mut record).await {
            Ok(mut response) => {
                if http1 && record.is_much_pending() {
                    response
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
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
                    reply::set_error_headers(
                        page.headers_mut(),
                        refusal,
                        record.request_id(),
                        &self.gateway.realm,
                    );
                    page
                } else if refusal == Refusal::CredentialMissing
                    && is_safe
                    && let Some(journey) = journey
                {
                    self.to_sign_in(&record, journey)
                } else {
                    self.refusal(refusal, &record, browser, is_safe, referer.as_ref())
                };
                // What is left of the body is not read, and must not be taken for the next request.
                if http1 && record.is_body_pending() {
                    response
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response.map(Content::Own)
            }
        };
        if let (Some(sign_in), Some(set_cookie)) = (&self.gateway.sign_in, record.set_cookie.take()) {
            sign_in.set_cookie(response.headers_mut(), set_cookie);
        }
        // What the app says of its own host counts more than what we would.
        if record.is_https_only() && !response.headers().contains_key(STRICT_TRANSPORT_SECURITY) {
            response
                .headers_mut()
                .insert(STRICT_TRANSPORT_SECURITY, HTTPS_ONLY);
        }
        record.answered(response)
    }

    /// The answer for a refusal. A person who is known and has no access, and one whose session ended before a form came,
    /// are told so, with a way on.
    fn refusal(
        &self,
        refusal: Refusal,
        record: &AccessRecord,
        browser: bool,
        is_safe: bool,
        referer: Option<&HeaderValue>,
    ) -> Response<Bytes> {
        let gateway = &*self.gateway;
        let way_back = || sign_in_again(gateway, record, is_safe, referer);
        let sign_in = browser.then(way_back).flatten();
        let sign_in = sign_in.as_ref().and_then(|location| location.to_str().ok());
        let visitor = match (refusal.status(), &record.caller) {
            (StatusCode::FORBIDDEN, Some(caller))
                if !matches!(refusal, Refusal::CrossSite | Refusal::SignInElsewhere) =>
            {
                Some(Visitor::NoAccess {
                    account: caller.identity.display_name(),
                    sign_in,
                })
            }
            (StatusCode::UNAUTHORIZED, _)
                if !is_safe && matches!(refusal, Refusal::CredentialMissing | Refusal::Revoked) =>
            {
                sign_in.map(|sign_in| Visitor::SessionEnded { sign_in })
            }
            _ => None,
        };
        reply::refuse(
            refusal,
            reply::ErrorContext {
                request_id: record.request_id(),
                browser,
                pages: Some(&*gateway.pages),
                visitor,
                detail: record.detail.as_deref(),
                allow: record.allow.as_ref(),
                close: false,
                realm: &gateway.realm,
                retry_after: record.retry_after,
            },
        )
    }

    /// What the way to the sign-in page depends on, where people can sign in.
    fn journey(&self, client: &ConnectionInfo, headers: &HeaderMap) -> Option<Journey> {
        let sites = &self.gateway.sign_in.as_ref()?.sites;
        let scheme = self
            .gateway
            .scheme(headers, &client.peer.under(&self.gateway.trusted_proxies));
        Some(Journey {
            nonces: sites.nonce_names(headers),
            keeps_cookie: sites.keeps_cookie(scheme),
        })
    }

    /// The way to the sign-in page and back. It leads to `public_url` from a host that a route names, and else to the page
    /// of the host that was asked, which knows where to sign in.
    fn to_sign_in(&self, record: &AccessRecord, journey: Journey) -> Response<Bytes> {
        let gateway = &*self.gateway;
        let host = record
            .host
            .as_ref()
            .and_then(|host| Host::parse(host.to_str().ok()?).ok());
        let named = gateway.sign_in.as_ref().zip(host).filter(|(sign_in, host)| {
            journey.keeps_cookie && sign_in.sites.place(host.name()) == login::Place::Named
        });
        // It was a target once, and still is.
        let target = record
            .path
            .clone()
            .and_then(|path| Target::parse(&path.into()).ok());
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::FOUND;
        let headers = response.headers_mut();
        let location = match (named, target) {
            (_, None) => HeaderValue::from_static("/"),
            (None, Some(target)) => login::login_location(gateway.endpoints.prefix(), &target),
            (Some((sign_in, host)), Some(target)) => {
                let path = target.path_and_query();
                let prefix = gateway.endpoints.prefix();
                match sign_in
                    .sites
                    .begin(prefix, &host, path.as_str(), journey.nonces, gateway.clock.now())
                {
                    Ok(attempt) => {
                        for set_cookie in attempt.set_cookies {
                            headers.append(SET_COOKIE, set_cookie);
                        }
                        attempt.location
                    }
                    Err(refusal) => return self.refusal(refusal, record, true, true, None),
                }
            }
        };
        headers.insert(LOCATION, location);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(record.request_id()) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        response
    }

    /// Writes the line for a connection that the HTTP library has answered, and given up, before there was a request.
    pub fn note_refused(self: &Arc<Self>, client: &Arc<ConnectionInfo>, refusal: Refusal) {
        AccessRecord::open_without_request(self, client).refused(refusal);
    }

    /// Writes the line for a request that was sent on to `public_url` by HTTPS.
    pub fn note_redirected(
        self: &Arc<Self>,
        client: &Arc<ConnectionInfo>,
        method: Method,
        target: &PathAndQuery,
    ) {
        let mut record = AccessRecord::open_without_request(self, client);
        record.redirected(method, target.clone(), self.gateway.own_label.clone());
    }

    /// Writes the line for a connection that was given up before it became a request, and returns the answer for it.
    /// `method` is HEAD where the request began with it; `browser`: a person is to read the answer.
    pub fn refuse_connection(
        self: &Arc<Self>,
        client: &Arc<ConnectionInfo>,
        refusal: Refusal,
        method: &Method,
        browser: bool,
    ) -> Response<Bytes> {
        let mut record = AccessRecord::open_without_request(self, client);
        record.refused(refusal);
        let response = reply::refuse(
            refusal,
            reply::ErrorContext {
                request_id: record.request_id(),
                browser,
                pages: None,
                visitor: None,
                detail: None,
                allow: None,
                close: true,
                realm: &self.gateway.realm,
                retry_after: None,
            },
        );
        let (mut head, body) = response.into_parts();
        let body = reply::finish(method, &mut head, body);
        record.bytes = body.len() as u64;
        Response::from_parts(head, body)
    }
}

/// The sign-in page, where people can sign in, and after it the page that was asked for; after a form the page that the form
/// stood on, which the `Referer` of this host names.
fn sign_in_again(
    gateway: &Gateway,
    record: &AccessRecord,
    is_safe: bool,
    referer: Option<&HeaderValue>,
) -> Option<HeaderValue> {
    gateway.sign_in.as_ref()?;
    let prefix = gateway.endpoints.prefix();
    let path = record.path.as_ref().map_or("/", PathAndQuery::as_str);
    let page = if is_safe {
        path
    } else if login::is_own(path, prefix) {
        // Our own pages send no path in a `Referer`.
        return Some(login::login_then(prefix, &format!("{prefix}/sessions")));
    } else {
        let host = record.host.as_ref().and_then(|host| host.to_str().ok())?;
        referer
            .and_then(|referer| origin::own_referer(referer.to_str().ok()?, host))
            .unwrap_or("/")
    };
    Some(login::login_then(prefix, page))
}

/// The walk itself.
async fn walk(
    lane: &Arc<WorkerContext>,
    client: &ConnectionInfo,
    request: Request<ClientBody>,
    record: &mut AccessRecord,
) -> Result<Response<Content>, Refusal> {
    let gateway = &*lane.gateway;
    let revocations = gateway.verifier.revocations().generation();
    let (mut parts, body) = request.into_parts();

    // What is asked for, and of whom.
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::MethodUnsupported);
    }
    let peer = client.peer.under(&gateway.trusted_proxies);
    if is_unlisted_proxy(&parts.headers, &peer) {
        gateway.warn_of_unlisted_proxy(&peer);
    }
    record.client_ip = client_ip(&parts.headers, &peer, &gateway.trusted_proxies);
    let host = headers::request_host(&parts)?;
    record.host = Some(host.as_value());
    if client
        .server_name
        .as_ref()
        .is_some_and(|name| name != host.name())
    {
        return Err(Refusal::Misdirected);
    }
    let target = Target::parse(&parts.uri)?;
    record.path = Some(target.path_and_query());

    // Ours, or whose?
    if let Some(found) = login::find(
        &parts.method,
        &target,
        gateway.endpoints.prefix(),
        gateway.sign_in.is_some(),
    ) {
        record.route = Some(gateway.own_label.clone());
        let endpoint = found.map_err(|(refusal, allow)| {
            record.allow = allow;
            refusal
        })?;
        return Box::pin(builtin_endpoints::answer(
            lane, &endpoint, &parts, &host, &peer, &target, body, record,
        ))
        .await;
    }
    let route = locate(&gateway.routes, host.name(), &target, &parts.method).map_err(|miss| {
        record.route = miss.route.map(|route| route.label.clone());
        record.allow = miss.allow.cloned();
        miss.refusal
    })?;
    record.route = Some(route.label.clone());

    // Who asks, and may they?
    let found =
        match route.rules.auth() {
            Auth::None => None,
            Auth::Optional | Auth::Required => identify(lane, &parts, &host, &target, record)
                .await
                .inspect_err(|_| {
                    record.rule = Some(Arc::clone(route.rules.name()));
                })?,
        };
    let (verified, source) = found.unzip();
    let source = source.flatten();
    let caller = verified.as_ref().map(|verified| Arc::clone(&verified.caller));
    record.caller.clone_from(&caller);
    record.vigil = verified.map(|verified| RevocationWatch::new(verified, revocations));
    let permit = route.rules.decide(caller).map_err(|denial| {
        record.rule = Some(denial.rule);
        denial.refusal
    })?;
    record.is_permitted = true;

    // What the app is told.
    let body = RequestBody::new(body, &parts.headers, &gateway.bodies)?;
    record.body = body.progress();
    let source = source.filter(|_| route.forward_credential);
    let protocol = match route.rules.auth() {
        Auth::None => None,
        Auth::Optional | Auth::Required => gateway.sources.websocket_protocol(&parts.headers),
    };
    let (hop, upgrade) = rewrite(
        gateway, &peer, route, &permit, source, &target, &host, record, &mut parts,
    )?;
    let asked = Asked::of(route, &permit, &target, &host, &parts.headers);

    // And on.
    record.upstream = Some(Arc::clone(&route.upstream.name));
    let sent = Instant::now();
    let holder = record.holder();
    let mut forwarding = std::pin::pin!(forward(
        &permit,
        &route.upstream,
        &lane.pool,
        &holder,
        &route.label.text,
        Outgoing {
            request: Request::from_parts(parts, body),
            host: host.as_value(),
            hop,
        },
    ));
    let forwarded = std::future::poll_fn(|cx| {
        if record.is_caller_gone() {
            return Poll::Ready(Err(Refusal::Revoked));
        }
        match forwarding.as_mut().poll(cx) {
            // An answer that is waited for is refused when it comes; an upload must not go on until then.
            Poll::Pending if record.is_uploading() => {
                record.poll_caller_gone(cx).map(|()| Err(Refusal::Revoked))
            }
            polled => polled,
        }
    })
    .await;
    record.upstream_time = Some(sent.elapsed());
    let mut forwarded = forwarded?;
    asked.answer(gateway, forwarded.response.headers_mut());
    record.upstream = Some(forwarded.server);
    Ok(match (upgrade, forwarded.upgrade) {
        (Some(client_side), Some(app)) => {
            client.activity.switch();
            if let Some(protocol) = protocol {
                // A browser takes no answer that chooses none (WHATWG WebSockets, "establish a WebSocket connection").
                forwarded
                    .response
                    .headers_mut()
                    .entry(SEC_WEBSOCKET_PROTOCOL)
                    .or_insert(protocol);
            }
            forwarded.response.map(|_| Content::Switched {
                client: client_side,
                app,
            })
        }
        _ => forwarded.response.map(Content::App),
    })
}
