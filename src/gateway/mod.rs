//! The way of one request, from its head to the answer.
//!
//! Input: a request as the HTTP library parsed it, and the client's connection. Output: the app's answer or the gateway's
//! own, and one log line. Invariants: `handle` is a straight line, and each step's output is the next one's input;
//! [`WorkerContext::serve`] is the only place where a rejection becomes a response; nothing blocks, and no lock is held
//! over an await.

mod access_record;
mod authenticate;
mod builtin_endpoints;
mod connection;
mod cors;
mod cross_origin;
mod decide;
mod exchange;
mod forward_auth;
mod head;
mod locate;
mod loops;
mod maintenance;
mod refuse;
mod rejection;
mod response;
mod response_rewrite;
mod revocation_watch;
mod rewrite;
mod route;
mod security_headers;
mod session_cookie;
mod session_use;
mod set_cookie;
mod sticky;
mod tokens;
mod trace;

use std::borrow::Cow;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;

use crate::clock::Clock;
use crate::credential::Sources;
use crate::forward::{BodyRules, Pool, RequestBody, forward};
use crate::http::client::Exit;
use crate::http::headers::request_host;
use crate::http::incoming::ClientBody;
use crate::http::location::Origin;
use crate::http::origin::{self, ListedOrigins};
use crate::identity::SESSION_ISSUER;
use crate::identity_headers::forwarded::is_unlisted_proxy;
use crate::identity_headers::scheme::Scheme;
use crate::identity_headers::{IdentityHeaders, Peer, PeerAddress, TrustedProxies};
use crate::login::provider::grants::Grants;
use crate::login::{Asking, Endpoints};
use crate::observe::WorkerTelemetry;
use crate::pages::Pages;
use crate::rate_limit::RateLimits;
use crate::refusal::Refusal;
use crate::route::Table;
use crate::signing::{Assertions, SigningKeys};
use crate::verify::{LocalCache, Verifier};

pub(crate) use authenticate::Credentials;
pub(crate) use connection::{Activity, ConnectionInfo, StreamLimit, StreamSlot};
pub(crate) use cors::Cors;
pub(crate) use decide::{Allowed, Policy, decide, is_sent_to_sign_in};
pub use decide::{Decision, decide_at_once};
pub(crate) use forward_auth::ForwardAuth;
pub use head::{RequestHead, Sender};
pub(crate) use loops::LoopMark;
pub(crate) use maintenance::Maintenance;
use rejection::Form;
pub(crate) use rejection::{Matched, Rejection};
pub(crate) use response::{Answer, Content};
pub(crate) use rewrite::{Rewritten, rewrite};
pub(crate) use route::{Label, Prefix, Route};
pub(crate) use session_cookie::Renewal;
pub use session_cookie::SignIn;
pub use trace::Silent;
pub(crate) use trace::Trace;

use authenticate::Sent;
use cross_origin::CrossOrigin;
use exchange::Exchange;
use forward_auth::{Question, grpc};
use refuse::{Asker, refuse};
use response::respond;
use revocation_watch::RevocationWatch;
use security_headers::NO_SNIFFING;
use tokens::Tokens;

/// Everything that one version of the configuration says about requests. Shared by all workers, never changed.
#[derive(Debug)]
pub struct Gateway {
    /// The routes.
    pub routes: Table<Route>,
    /// Where a credential may be.
    pub sources: Sources,
    /// Verifies tokens of the issuers.
    pub verifier: Verifier,
    /// The identity headers for apps.
    pub naming: IdentityHeaders,
    /// Signed assertions, where they are switched on.
    pub assertions: Option<Assertions>,
    /// The keys that sign them.
    pub signing: Arc<ArcSwap<SigningKeys>>,
    /// The gateway's own endpoints.
    pub endpoints: Endpoints,
    /// The session cookie, where there is a way to sign in.
    pub sign_in: Option<SignIn>,
    /// The pages.
    pub pages: Arc<Pages>,
    /// The name of the gateway's own endpoints in log and metrics.
    pub own_label: Label,
    /// `realm` of challenges.
    pub realm: String,
    /// Whether browsers see the site by HTTPS; `None` where the file has no `public_url`.
    pub public_https: Option<bool>,
    /// The origins whose pages may use some of the gateway's own endpoints.
    pub origins: ListedOrigins,
    /// The host that browsers are told to reach by HTTPS alone.
    pub https_only_host: Option<String>,
    /// The limits of request bodies.
    pub bodies: Arc<BodyRules>,
    /// The host of `public_url`, by which an app may name itself.
    pub public_origin: Option<Origin>,
    /// `Vary` of answers on routes with `auth = "optional"`.
    pub vary: HeaderValue,
    /// The mark of requests that the gateway forwarded, for loops.
    pub loop_mark: LoopMark,
    /// Whose `X-Forwarded-*` are believed.
    pub trusted_proxies: TrustedProxies,
    /// Whether the log has the warning about a proxy that `trusted_proxies` forgets.
    pub warned_of_proxy: AtomicBool,
    /// How other proxies are answered.
    pub(crate) forward_auth: ForwardAuth,
    /// Whether a route has `cors`.
    pub has_cors: bool,
    /// Whether an app has `sticky = "cookie"`.
    pub has_sticky_cookies: bool,
    /// The counters of rate limits.
    pub rate_limits: Arc<RateLimits>,
    /// What providers granted for sessions, where it is kept.
    pub(crate) grants: Option<Arc<Grants>>,
    /// The time.
    pub clock: Clock,
}

/// What one worker alone uses with one version of the configuration, so that no request waits for another core.
#[derive(Debug)]
pub struct WorkerContext {
    /// What all workers share.
    pub gateway: Arc<Gateway>,
    /// This worker's connections to the apps.
    pub pool: Pool,
    /// This worker's table in front of the shared token cache.
    pub cache: Arc<Mutex<LocalCache>>,
    /// The same for session cookies.
    pub session_cache: Arc<Mutex<LocalCache>>,
    /// This worker's request ids, access log and metrics.
    pub desk: Arc<WorkerTelemetry>,
}

impl Gateway {
    /// What decisions depend on. A request that is decided about by this is not counted under any limit.
    #[must_use]
    pub fn policy(&self) -> Policy<'_> {
        Policy {
            routes: &self.routes,
            own_prefix: self.endpoints.prefix(),
            aliases: self.forward_auth.aliases(),
            has_sign_in: self.sign_in.is_some(),
            public_https: self.public_https,
            origins: &self.origins,
            forwards: false,
            proxies: &self.trusted_proxies,
            now: self.clock.now(),
            rate_limits: None,
            ignores_maintenance: false,
        }
    }

    /// A connection from `address`.
    #[must_use]
    pub fn peer(&self, address: impl Into<PeerAddress>, tls: bool) -> Peer {
        Peer::new(address, tls, &self.trusted_proxies)
    }

    /// The scheme by which the client came, as its browser sees it.
    fn scheme(&self, headers: &HeaderMap, peer: &Peer) -> Scheme {
        let sign_in = self.sign_in.as_ref();
        Scheme::of(
            headers,
            peer,
            sign_in.is_some_and(|sign_in| sign_in.sites.is_https()),
        )
    }

    /// Warns once, at the first request that shows it, that a proxy in front is not listed.
    fn warn_of_unlisted_proxy(&self, headers: &HeaderMap, peer: &Peer) {
        if is_unlisted_proxy(headers, peer) && !self.warned_of_proxy.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                peer = %peer.ip,
                "`X-Forwarded-For` from a peer that is not in `trusted_proxies` is ignored; if it is a proxy of yours, list \
                 it in `[server] trusted_proxies` (\"unix\" for a unix socket): until then all its clients count as one address"
            );
        }
    }

    /// The access token of the provider that the caller signed in with, on a route whose app is to get it.
    async fn provider_token(&self, allowed: &Allowed<'_>) -> Option<HeaderValue> {
        let grants = self
            .grants
            .as_ref()
            .filter(|_| allowed.route.forward_provider_token)?;
        let identity = &allowed.permit.caller()?.identity;
        let session = identity.session_id.as_deref();
        let session = session.filter(|_| &*identity.issuer == SESSION_ISSUER)?;
        grants.access_token(session).await
    }

    fn set_session_cookie(&self, headers: &mut HeaderMap, set_cookie: Option<HeaderValue>) {
        if let (Some(sign_in), Some(set_cookie)) = (&self.sign_in, set_cookie) {
            sign_in.set_cookie(headers, set_cookie);
        }
    }
}

impl WorkerContext {
    /// What verifies the credentials of requests.
    fn sent(&self) -> Sent<'_> {
        Sent {
            gateway: &self.gateway,
            tokens: Tokens::Cached(&self.cache),
            session_tokens: Tokens::Cached(&self.session_cache),
        }
    }

    /// The credentials of requests, as this worker verifies them.
    #[must_use]
    pub fn credentials(&self) -> Credentials<'_> {
        Credentials::Sent(self.sent())
    }

    /// Serves one request. Never fails: an error is an answer too. `exit` ends this request alone, where the connection has
    /// others.
    pub async fn serve(
        self: Arc<Self>,
        client: Arc<ConnectionInfo>,
        exit: Arc<Exit>,
        request: Request<ClientBody>,
    ) -> Response<Answer> {
        let gateway = &*self.gateway;
        let peer = client.peer.under(&gateway.trusted_proxies);
        gateway.warn_of_unlisted_proxy(request.headers(), &peer);
        let asker = Asker::of(gateway, &peer, &request);
        let mut exchange = Exchange::start(&self, &client, exit, &peer, &request);
        let (is_http1, is_https) = (asker.is_http1, asker.is_https);
        let cross_origin = CrossOrigin::of(gateway, &request);

        let (mut response, must_close) = match handle(&self, &client, peer, request, &mut exchange).await {
            Ok(response) => (response, exchange.is_much_pending()),
            Err(mut rejection) => {
                exchange.refused(&rejection);
                if rejection.refusal == Refusal::PeerUntrusted {
                    gateway
                        .forward_auth
                        .warn_of_peer(&client.peer, gateway.clock.now());
                }
                // A session that ended while the request was under way: its renewed cookie must not take the place of the
                // one that the browser may have got since.
                let set_cookie = rejection.set_cookie.take();
                let set_cookie = set_cookie.filter(|_| rejection.refusal != Refusal::Revoked);
                let form = rejection.asked.map_or(Form::Http, |asked| asked.form);
                let is_browser = match form {
                    Form::Grpc { is_browser } => is_browser,
                    Form::Http | Form::GrpcFault(_) => asker.is_browser,
                };
                let mut response = match rejection.asked {
                    Some(asked) => {
                        forward_auth::refuse(gateway, &rejection, asked, is_browser, &exchange.record)
                    }
                    None => refuse(gateway, rejection, asker, &exchange.record),
                };
                gateway.set_session_cookie(response.headers_mut(), set_cookie);
                let response = match form {
                    Form::Http => response.map(Content::Own),
                    Form::Grpc { .. } => grpc::denied(response),
                    Form::GrpcFault(fault) => grpc::faulty(fault),
                };
                // What is left of the body is not read, and must not be taken for the next request.
                (response, exchange.is_body_pending())
            }
        };
        if is_http1 && must_close {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if matches!(response.body(), Content::Own(_)) {
            let headers = response.headers_mut();
            headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(NO_SNIFFING);
        }
        if let Some(cross_origin) = cross_origin {
            cross_origin.apply(response.headers_mut());
        }
        if is_https {
            refuse::keep_to_https(gateway, &exchange.record, response.headers_mut());
        }
        respond(exchange, response)
    }
}

/// The steps of a request, in their order. They return what they find out; only this function and [`send`] note it in the
/// exchange.
async fn handle<'g>(
    lane: &'g Arc<WorkerContext>,
    client: &ConnectionInfo,
    peer: Cow<'_, Peer>,
    request: Request<ClientBody>,
    exchange: &mut Exchange,
) -> Result<Response<Content>, Box<Rejection<'g>>> {
    let gateway = &*lane.gateway;
    let revocations = gateway.verifier.revocations().generation();
    let (parts, mut body) = request.into_parts();

    // The request, read once.
    let host = request_host(&parts);
    exchange.record.host = host.as_ref().ok().cloned();
    let sender = Sender {
        peer,
        client_ip: exchange.record.client_ip,
        server_name: client.server_name.as_deref(),
    };
    let head = RequestHead::parse(parts, host, sender, &mut Silent)?;
    exchange.record.path = Some(head.target.path_and_query());

    // The decision.
    let policy = Policy {
        forwards: true,
        rate_limits: Some(&gateway.rate_limits),
        ..gateway.policy()
    };
    let decided = decide(policy, &head, &lane.credentials(), &mut exchange.record.attempts).await;
    exchange.record.decided(&decided);
    gateway.note_use(&head, &decided);
    let mut allowed = match decided? {
        Decision::Forward(allowed) => allowed,
        Decision::ForwardAuth(endpoint) if endpoint.asking() == Some(Asking::Grpc) => {
            exchange.record.builtin(None);
            let call = grpc::Call::read(&head, &mut body).await;
            if body.is_end_stream() {
                exchange.body_was_read();
            }
            let (question, head) = call?.question(gateway, head)?;
            exchange.record.client_ip = head.client_ip;
            let answer = forward_auth::answer(lane, head, question, &mut exchange.record);
            let (answered, changes) = Box::pin(answer).await?;
            return Ok(grpc::allowed(&answered, changes));
        }
        Decision::ForwardAuth(endpoint) => {
            exchange.record.builtin(None);
            let question = Question::read(gateway, &endpoint, &head)?;
            let answer = forward_auth::answer(lane, head, question, &mut exchange.record);
            return Ok(Box::pin(answer).await?.0.map(Content::Own));
        }
        Decision::Preflight(route) => {
            exchange.record.preflight(&route.label);
            let mut answer = Response::new(Content::Own(Bytes::new()));
            *answer.status_mut() = StatusCode::NO_CONTENT;
            if let Some(cors) = &route.cors {
                let headers = &head.parts.headers;
                *answer.headers_mut() = cors.preflight(origin::only(headers), headers);
            }
            let id = exchange.record.request_id_value();
            answer.headers_mut().insert("x-request-id", id);
            return Ok(answer);
        }
        Decision::Builtin(endpoint, found, unforged) => {
            exchange.record.builtin(None);
            let id = exchange.record.request_id();
            let answer = builtin_endpoints::answer(lane, &endpoint, found, unforged, &head, &mut body, id);
            let answered = Box::pin(answer).await;
            if body.is_end_stream() {
                exchange.body_was_read();
            }
            let mut answered = answered?;
            exchange.record.builtin(answered.caller);
            gateway.set_session_cookie(answered.response.headers_mut(), answered.set_cookie);
            return Ok(answered.response.map(Content::Own));
        }
    };
    let set_cookie = allowed.set_cookie.take();
    exchange.record.permitted(&allowed.route.label, &allowed.permit);
    if let Some(authenticated) = &allowed.authenticated {
        exchange.watch(RevocationWatch::new(authenticated.grant.clone(), revocations));
    }

    // The app, and its answer.
    allowed.provider_token = gateway.provider_token(&allowed).await;
    match send(lane, client, head, body, &allowed, exchange).await {
        Ok(mut response) => {
            gateway.set_session_cookie(response.headers_mut(), set_cookie);
            Ok(response)
        }
        Err(refusal) => Err(Box::new(Rejection {
            matched: Matched::Route(allowed.route),
            caller: allowed.permit.caller().cloned(),
            set_cookie,
            retry_after: (refusal == Refusal::UpstreamFull).then_some(1),
            ..Rejection::new(refusal)
        })),
    }
}

/// Sends a request to the upstream of its route, and returns the app's answer as the client is to get it.
async fn send(
    lane: &WorkerContext,
    client: &ConnectionInfo,
    head: RequestHead<'_>,
    body: ClientBody,
    allowed: &Allowed<'_>,
    exchange: &mut Exchange,
) -> Result<Response<Content>, Refusal> {
    let (gateway, route) = (&*lane.gateway, allowed.route);
    let body = RequestBody::new(body, &head.parts.headers, &gateway.bodies)?;
    exchange.upload(body.progress());
    let request_id = exchange.record.request_id_value();
    let holder = exchange.holder();
    let affinity = sticky::affinity(allowed, &head.parts.headers, holder.key);
    let is_secure = sticky::is_secure(gateway, &head.parts.headers, &head.peer);
    let Rewritten {
        outgoing,
        upgrade,
        response: response_rewrite,
    } = rewrite(gateway, head, allowed, body, &request_id)?;

    exchange.record.upstream = Some(Arc::clone(&route.upstream.name));
    let sent = Instant::now();
    let forwarded = exchange
        .while_in_force(pin!(forward(
            &allowed.permit,
            &route.upstream,
            &lane.pool,
            &holder,
            affinity,
            &route.label.origin.text,
            outgoing,
        )))
        .await;
    exchange.record.upstream_time = Some(sent.elapsed());
    let mut forwarded = forwarded?;
    exchange.record.upstream = Some(forwarded.server);

    response_rewrite.apply(gateway, forwarded.response.headers_mut());
    // `why` finds the decision by it. An app that has ids of its own goes on showing them.
    let fields = forwarded.response.headers_mut();
    fields.entry("x-request-id").or_insert(request_id);
    if let Some(server) = &forwarded.server_cookie {
        sticky::keep(
            &route.upstream,
            server,
            is_secure,
            forwarded.response.headers_mut(),
        );
    }
    Ok(match (upgrade, forwarded.upgrade) {
        (Some(upgrade), Some(app)) => {
            client.activity.switch();
            if let Some(protocol) = upgrade.protocol {
                // A browser takes no answer that chooses none (WHATWG WebSockets, "establish a WebSocket connection").
                forwarded
                    .response
                    .headers_mut()
                    .entry(SEC_WEBSOCKET_PROTOCOL)
                    .or_insert(protocol);
            }
            forwarded.response.map(|_| Content::Switched {
                client: upgrade.connection,
                app,
            })
        }
        _ => forwarded.response.map(Content::App),
    })
}
