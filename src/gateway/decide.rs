//! The decision about a request: the only place where one is made.
//!
//! Input: the head of a request, and how its credentials are verified. Output: a [`Decision`], with the [`Permit`] that
//! forwarding needs, or a [`Rejection`]. Serving, the `[[tests]]` of a file and `explain` call [`decide`]; they differ in
//! their credentials and in their trace. Invariant: nothing here sends, logs or reads a body.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{HeaderValue, Method};

use super::authenticate::{Authenticated, Credentials, Found, authenticate, unforged};
use super::cors::{Cors, preflight_method};
use super::head::RequestHead;
use super::locate::locate;
use super::rejection::{Matched, Rejection};
use super::route::Route;
use super::trace::{Silent, Trace};
use crate::authorize::{Auth, Permit, RequestFacts};
use crate::clock::UnixSeconds;
use crate::http::origin::{self, ListedOrigins, Unforged};
use crate::http::target::Target;
use crate::identity::{Caller, SESSION_ISSUER};
use crate::identity_headers::TrustedProxies;
use crate::login::{self, Access, Endpoint};
use crate::rate_limit::{Quota, RateLimit, RateLimits};
use crate::refusal::Refusal;
use crate::route::{Lookup, Table};
use crate::values::Aliases;

/// What decisions depend on in one version of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'g> {
    /// The routes.
    pub routes: &'g Table<Route>,
    /// The prefix of the gateway's own endpoints.
    pub own_prefix: &'g str,
    /// Other products at whose addresses the gateway answers.
    pub aliases: Aliases,
    /// Whether there is a way to sign in.
    pub has_sign_in: bool,
    /// Whether `public_url` is `https://`; `None` where the file has none.
    pub public_https: Option<bool>,
    /// The origins whose pages may use some of the gateway's own endpoints.
    pub origins: &'g ListedOrigins,
    /// Whether an allowed request is sent on from here, so that a route that another proxy serves is none.
    pub forwards: bool,
    /// The proxies that name the client.
    pub proxies: &'g TrustedProxies,
    /// The time.
    pub now: UnixSeconds,
    /// What counts requests; `None` where a request is only described.
    pub rate_limits: Option<&'g RateLimits>,
    /// Whether routes under maintenance are decided about as if they were not.
    pub ignores_maintenance: bool,
}

/// What becomes of a request that is not refused.
#[derive(Debug)]
pub enum Decision<'g> {
    /// The gateway answers it.
    Builtin(Endpoint, Found<'g>, Unforged),
    /// Another proxy asks at this endpoint about the request that it describes.
    ForwardAuth(Endpoint),
    /// The gateway answers the preflight of a page, by the `cors` of a route.
    Preflight(&'g Route),
    /// It goes to the upstream of a route.
    Forward(Allowed<'g>),
}

/// A request that may be forwarded.
#[derive(Debug)]
pub struct Allowed<'g> {
    /// The route.
    pub route: &'g Route,
    /// The proof for `forward`.
    pub permit: Permit,
    /// The credential; `None` for an anonymous request.
    pub authenticated: Option<Authenticated<'g>>,
    /// For the session cookie: a new one, or its deletion.
    pub set_cookie: Option<HeaderValue>,
    /// The access token of the caller's provider, once it has been looked for, where the app is to get it.
    pub provider_token: Option<HeaderValue>,
    /// What is left of the route's `rate_limit`.
    pub(crate) quota: Option<Quota<'g>>,
}

/// Decides about a request.
///
/// # Errors
/// 400, 404 and 405 as the path is matched; 401, 403 and 503 as the credentials are verified and the rules are applied.
pub(crate) async fn decide<'g, T: Trace>(
    policy: Policy<'g>,
    head: &RequestHead<'_>,
    credentials: &Credentials<'g>,
    trace: &mut T,
) -> Result<Decision<'g>, Box<Rejection<'g>>> {
    let (method, target) = (&head.parts.method, &head.target);
    // First the gateway's own endpoints: no route takes their paths, but for those that a route names.
    // A preflight has no credential.
    let is_preflight = policy.has_sign_in && policy.origins.is_preflight(method, &head.parts.headers);
    let preflight = is_preflight.then(|| login::preflight(target, policy.own_prefix));
    let found = match preflight.flatten() {
        Some(endpoint) => Some(Ok(endpoint)),
        None if is_named_by_a_route(policy.routes, head.host.name(), target, method) => None,
        None => login::find(
            method,
            target,
            policy.own_prefix,
            policy.aliases,
            policy.has_sign_in,
        ),
    };
    if let Some(found) = found {
        trace.step("route", found.is_ok(), || {
            "the gateway itself answers here; no app gets this request".to_owned()
        });
        let endpoint = found.map_err(|(refusal, allow)| Rejection {
            matched: Matched::Builtin,
            allow,
            ..Rejection::new(refusal)
        })?;
        return decide_builtin(policy, endpoint, head, credentials, trace).await;
    }
    if let Some((route, cors)) = find_preflight(policy, head) {
        return decide_preflight(route, cors, head, trace);
    }
    let route = locate(policy.routes, head.host.name(), target, method, trace)?;
    let matched = Matched::Route(route);
    if policy.forwards && route.upstream.is_served_elsewhere() {
        return Err(Box::new(Rejection {
            matched,
            ..Rejection::new(Refusal::RouteMissing)
        }));
    }
    let facts = RequestFacts {
        client: if route.rules.read_address() {
            head.known_client(policy.proxies)
        } else {
            None
        },
        now: policy.now,
        method: method.as_str(),
        host: head.host.name(),
        path: target.matching(),
    };

    // Signing in changes nothing here, so no credential is read.
    if T::IS_READ {
        for step in route.rules.network_steps(&facts) {
            trace.step("network", step.passed(), || {
                format!("{}: {}", step.rule, step.detail)
            });
        }
    }
    route.rules.admit(&facts).map_err(|denial| Rejection {
        matched,
        rule: Some(denial.rule),
        ..Rejection::new(denial.refusal)
    })?;
    if let Some(maintenance) = route.maintenance.as_ref().filter(|_| !policy.ignores_maintenance) {
        trace.step("route", false, || {
            format!("the route is under maintenance ({})", route.place)
        });
        return Err(Box::new(Rejection {
            matched,
            rule: Some(Arc::clone(&maintenance.rule)),
            detail: maintenance.text.clone(),
            retry_after: Some(maintenance.retry_after),
            ..Rejection::new(Refusal::Maintenance)
        }));
    }
    let limit = route.rate_limit.as_ref();
    let (by_address, by_caller) = match limit {
        Some(limit) if limit.is_by_address() => (Some(limit), None),
        limit => (None, limit),
    };
    let mut quota = count(policy, by_address, matched, None, head, trace)?;

    let found = if route.rules.auth() == Auth::None {
        trace.step("credential", true, || {
            "`auth = \"none\"`: none is looked for".to_owned()
        });
        Found::default()
    } else {
        let listed = route.cors.as_ref().and_then(Cors::with_credentials);
        authenticate(head, credentials, policy.public_https, listed, trace)
            .await
            .map_err(|refusal| Rejection {
                matched,
                rule: Some(Arc::clone(route.rules.name())),
                ..Rejection::new(refusal)
            })?
    };
    let caller = found.caller().cloned();
    let by_session = found
        .authenticated
        .as_ref()
        .is_some_and(|found| found.source.is_none());
    if T::IS_READ {
        for step in route.rules.steps(caller.as_deref(), &facts) {
            trace.step("rules", step.passed(), || {
                format!("{}: {}", step.rule, step.detail)
            });
        }
    }
    match route.rules.decide(caller, &facts) {
        Ok(permit) => {
            // Requests that the app does not get use up nothing of what callers have.
            match count(policy, by_caller, matched, permit.caller(), head, trace) {
                Ok(counted) => quota = counted.or(quota),
                Err(mut rejection) => {
                    rejection.by_session = by_session;
                    rejection.set_cookie = found.set_cookie;
                    return Err(rejection);
                }
            }
            Ok(Decision::Forward(Allowed {
                route,
                permit,
                authenticated: found.authenticated,
                set_cookie: found.set_cookie,
                provider_token: None,
                quota,
            }))
        }
        Err(denial) => Err(Box::new(Rejection {
            matched,
            rule: Some(denial.rule),
            step_up: route.rules.step_up(),
            caller: found.caller().cloned(),
            by_session,
            set_cookie: found.set_cookie,
            ..Rejection::new(denial.refusal)
        })),
    }
}

/// The route with `cors` that the preflight of a page asks about: the one for the method that the page will use.
fn find_preflight<'g>(policy: Policy<'g>, head: &RequestHead<'_>) -> Option<(&'g Route, &'g Cors)> {
    let method = preflight_method(&head.parts.method, &head.parts.headers)?;
    let route = locate(
        policy.routes,
        head.host.name(),
        &head.target,
        &method,
        &mut Silent,
    )
    .ok()?;
    Some((route, route.cors.as_ref()?))
}

/// A preflight has no credential, and reaches no app.
fn decide_preflight<'g, T: Trace>(
    route: &'g Route,
    cors: &Cors,
    head: &RequestHead<'_>,
    trace: &mut T,
) -> Result<Decision<'g>, Box<Rejection<'g>>> {
    let is_allowed = cors.allowed(origin::only(&head.parts.headers)).is_some();
    trace.step("route", is_allowed, || {
        let is_listed = if is_allowed { "lists" } else { "does not list" };
        format!(
            "{} ({}): a preflight, for the page of an origin that `cors` {is_listed}",
            route.label, route.place
        )
    });
    if is_allowed {
        return Ok(Decision::Preflight(route));
    }
    Err(Box::new(Rejection {
        matched: Matched::Route(route),
        ..Rejection::new(Refusal::CrossSite)
    }))
}

/// Counts a request under a route's limit.
///
/// # Errors
/// 429.
fn count<'g, T: Trace>(
    policy: Policy<'g>,
    limit: Option<&'g RateLimit>,
    matched: Matched<'g>,
    caller: Option<&Arc<Caller>>,
    head: &RequestHead<'_>,
    trace: &mut T,
) -> Result<Option<Quota<'g>>, Box<Rejection<'g>>> {
    let Some(limit) = limit else { return Ok(None) };
    let identity = caller.map(|caller| &caller.identity);
    let Some(rate_limits) = policy.rate_limits else {
        trace.step("rules", true, || {
            format!(
                "{}: counts for {}; how many requests a running gateway has counted is not known here",
                limit.rule(),
                limit.counted_for(identity, head.client_ip)
            )
        });
        return Ok(None);
    };
    match rate_limits.take(limit, identity, head.client_ip) {
        Ok(quota) => Ok(Some(quota)),
        Err(over) => Err(Box::new(Rejection {
            matched,
            rule: Some(Arc::clone(limit.rule())),
            caller: caller.cloned(),
            quota: Some(over.quota),
            retry_after: Some(over.retry_after),
            ..Rejection::new(Refusal::RateLimited)
        })),
    }
}

/// Whether a target is one of ours that a route of this host may take, and the most specific route names it exactly.
fn is_named_by_a_route(routes: &Table<Route>, host: &str, target: &Target, method: &Method) -> bool {
    let path = target.matching();
    login::is_well_known(path)
        && match routes.find(host, path, method) {
            Lookup::Found(route) | Lookup::MethodRefused { some: route, .. } => route.pattern.1 == path,
            Lookup::Missing => false,
        }
}

/// What an endpoint of the gateway's own asks for before it reads the body.
async fn decide_builtin<'g, T: Trace>(
    policy: Policy<'g>,
    endpoint: Endpoint,
    head: &RequestHead<'_>,
    credentials: &Credentials<'g>,
    trace: &mut T,
) -> Result<Decision<'g>, Box<Rejection<'g>>> {
    let rejection = |refusal, found: Found<'g>| Rejection {
        matched: Matched::Builtin,
        caller: found.caller().cloned(),
        set_cookie: found.set_cookie,
        ..Rejection::new(refusal)
    };
    if endpoint.access() == Access::Proxy {
        if !endpoint.is_spelled_plainly(head.parts.uri.path(), policy.own_prefix) {
            return Err(Box::new(rejection(Refusal::RouteMissing, Found::default())));
        }
        let is_trusted = head.peer.trusted;
        trace.step("forward-auth", is_trusted, || {
            "only a peer in `trusted_proxies` may ask about requests".to_owned()
        });
        return if is_trusted {
            Ok(Decision::ForwardAuth(endpoint))
        } else {
            Err(Box::new(rejection(Refusal::PeerUntrusted, Found::default())))
        };
    }
    let listed = endpoint.is_for_listed().then_some(policy.origins);
    let found = if endpoint.needs_caller() {
        authenticate(head, credentials, policy.public_https, listed, trace)
            .await
            .map_err(|refusal| rejection(refusal, Found::default()))?
    } else {
        Found::default()
    };
    // Whatever the credential: a page of another site must not sign a user in or out.
    let unforged = if endpoint.access() == Access::CrossSite {
        trace.step("origin", true, || {
            "this endpoint asks for a proof of its own".to_owned()
        });
        Unforged::by_own_proof()
    } else {
        match unforged(head, policy.public_https, listed, trace) {
            Ok(unforged) => unforged,
            Err(refusal) => return Err(Box::new(rejection(refusal, found))),
        }
    };
    let is_let_in = match endpoint.access() {
        Access::Caller => found.caller().is_some(),
        Access::Session => found
            .caller()
            .is_some_and(|caller| has_session(caller, credentials)),
        Access::Public
        | Access::CrossSite
        | Access::Proxy
        | Access::ShowsSession
        | Access::ReplacesSession
        | Access::EndsSession => true,
    };
    if !is_let_in {
        trace.step("credential", false, || {
            "this endpoint is for an account that is signed in".to_owned()
        });
        return Err(Box::new(rejection(Refusal::CredentialMissing, found)));
    }
    Ok(Decision::Builtin(endpoint, found, unforged))
}

/// Whether a caller has a session with the gateway, which a token of another issuer has not. A caller who is given instead
/// of a credential counts as signed in.
fn has_session(caller: &Caller, credentials: &Credentials<'_>) -> bool {
    let identity = &caller.identity;
    matches!(credentials, Credentials::Given(_))
        || (identity.session_id.is_some() && &*identity.issuer == SESSION_ISSUER)
}

/// The same where nothing has to be waited for: a caller who is given, or credentials that are only examined.
///
/// # Errors
/// As [`decide`]; [`Refusal::Internal`] where there is something to wait for.
pub fn decide_at_once<'g, T: Trace>(
    policy: Policy<'g>,
    head: &RequestHead<'_>,
    credentials: &Credentials<'g>,
    trace: &mut T,
) -> Result<Decision<'g>, Box<Rejection<'g>>> {
    let deciding = pin!(decide(policy, head, credentials, trace));
    match deciding.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(decision) => decision,
        Poll::Pending => Err(Refusal::Internal.into()),
    }
}

/// Whether a refusal is answered with 302 to the sign-in page: a browser navigates without a credential, or with a session
/// of a sign-in that is not enough, and there is a way to sign in. `is_browser` is [`wants_page`](crate::http::reply::wants_page).
#[must_use]
pub(crate) fn is_sent_to_sign_in(
    has_sign_in: bool,
    method: &Method,
    is_browser: bool,
    rejection: &Rejection<'_>,
) -> bool {
    needs_sign_in(has_sign_in, rejection) && is_browser && matches!(*method, Method::GET | Method::HEAD)
}

/// Whether signing in, where there is a way to, can help.
#[must_use]
pub(super) fn needs_sign_in(has_sign_in: bool, rejection: &Rejection<'_>) -> bool {
    has_sign_in
        && match rejection.refusal {
            Refusal::CredentialMissing => true,
            Refusal::AuthenticationInsufficient => rejection.by_session,
            _ => false,
        }
}
