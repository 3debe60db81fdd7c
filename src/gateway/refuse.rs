//! A refusal becomes a response: a problem document, a page, or the way to the sign-in page.
//!
//! Input: a [`Rejection`], and what is kept of the request for it ([`Asker`]). Output: the whole response. Invariant: the
//! client reads no more than the status means; reason and rule are in the log only.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, LOCATION, REFERER, SET_COOKIE, STRICT_TRANSPORT_SECURITY};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};

use super::access_record::AccessRecord;
use super::connection::ConnectionInfo;
use super::decide::is_sent_to_sign_in;
use super::rejection::Rejection;
use super::route::Label;
use super::security_headers::HTTPS_ONLY;
use super::{Gateway, WorkerContext};
use crate::authorize::StepUp;
use crate::http::incoming::ClientBody;
use crate::http::origin;
use crate::http::reply::{self, Visitor};
use crate::identity_headers::Peer;
use crate::identity_headers::forwarded::came_by_https;
use crate::login;
use crate::refusal::Refusal;

/// What is kept of a request for the answer, of which nothing else is left by then.
#[derive(Debug)]
pub(super) struct Asker {
    /// Whether the client wants a page.
    pub(super) is_browser: bool,
    /// Whether the connection can be ended with `Connection: close`.
    pub(super) is_http1: bool,
    /// Whether the request came by HTTPS, and there is a host for which that is remembered.
    pub(super) is_https: bool,
    is_safe: bool,
    journey: Option<Journey>,
    referer: Option<HeaderValue>,
    /// The origin of the page that asks, where a route has `cors`.
    origin: Option<HeaderValue>,
}

/// What the way to the sign-in page depends on.
#[derive(Debug)]
struct Journey {
    /// The names of the nonces that the browser has on this host.
    nonces: Vec<String>,
    /// Whether the browser would keep a session cookie.
    keeps_cookie: bool,
}

impl Asker {
    pub(super) fn of(gateway: &Gateway, peer: &Peer, request: &Request<ClientBody>) -> Self {
        let headers = request.headers();
        let is_browser = reply::wants_page(headers);
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let referer = || headers.get(REFERER).cloned();
        Self {
            is_browser,
            is_http1: request.version() < Version::HTTP_2,
            is_https: gateway.https_only_host.is_some() && came_by_https(headers, peer),
            is_safe,
            journey: is_browser.then(|| Journey::of(gateway, peer, headers)).flatten(),
            referer: (is_browser && !is_safe).then(referer).flatten(),
            origin: gateway.has_cors.then(|| origin::only(headers).cloned()).flatten(),
        }
    }
}

impl Journey {
    fn of(gateway: &Gateway, peer: &Peer, headers: &HeaderMap) -> Option<Self> {
        let sites = &gateway.sign_in.as_ref()?.sites;
        Some(Self {
            nonces: sites.nonce_names(headers),
            keeps_cookie: sites.keeps_cookie(gateway.scheme(headers, peer)),
        })
    }
}

/// The answer to a rejection.
pub(super) fn refuse(
    gateway: &Gateway,
    mut rejection: Box<Rejection<'_>>,
    asker: Asker,
    record: &AccessRecord,
) -> Response<Bytes> {
    let refusal = rejection.refusal;
    if let Some(mut page) = rejection.page.take() {
        reply::set_error_headers(
            page.headers_mut(),
            refusal,
            record.request_id(),
            &gateway.realm,
            None,
        );
        return page;
    }
    let has_sign_in = gateway.sign_in.is_some();
    let (quota, route) = (rejection.quota, rejection.matched.route());
    let (is_browser, origin) = (asker.is_browser, asker.origin.clone());
    let mut response = match asker.journey {
        Some(journey) if is_sent_to_sign_in(has_sign_in, record.method(), asker.is_browser, &rejection) => {
            to_sign_in(gateway, record, journey)
        }
        _ => {
            let sign_in = asker.is_browser.then(|| sign_in_again(gateway, record, &asker));
            say(
                gateway,
                &rejection,
                asker.is_browser,
                asker.is_safe,
                sign_in.flatten().as_ref(),
                record,
            )
        }
    };
    if let Some(quota) = quota {
        quota.apply(response.headers_mut());
    }
    if let Some(route) = route {
        if let Some(maintenance) = &route.maintenance
            && is_browser
            && refusal == Refusal::Maintenance
        {
            maintenance.show(&mut response);
        }
        if let Some(cors) = &route.cors {
            cors.apply(origin.as_ref(), response.headers_mut());
        }
    }
    response
}

/// Whether a 403 says nothing about what the account of the caller may do.
fn is_about_sign_in(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::CrossSite
            | Refusal::SignInElsewhere
            | Refusal::SignInDenied
            | Refusal::SignInNotAllowed
            | Refusal::SignInTooOld
            | Refusal::SignInInsufficient
            | Refusal::AccountDisabled
            | Refusal::PeerUntrusted
            | Refusal::ConditionUnknown
    )
}

/// The answer in words. A caller who is known and has no access, and one whose session ended before a form came, are told
/// so, with a way on.
pub(super) fn say(
    gateway: &Gateway,
    rejection: &Rejection<'_>,
    browser: bool,
    is_safe: bool,
    sign_in: Option<&HeaderValue>,
    record: &AccessRecord,
) -> Response<Bytes> {
    let refusal = rejection.refusal;
    let sign_in = sign_in.and_then(|location| location.to_str().ok());
    let visitor = match (refusal.status(), &rejection.caller) {
        (StatusCode::FORBIDDEN, Some(caller)) if !is_about_sign_in(refusal) => Some(Visitor::NoAccess {
            account: caller.identity.display_name(),
            sign_in,
        }),
        (StatusCode::UNAUTHORIZED, _)
            if !is_safe && matches!(refusal, Refusal::CredentialMissing | Refusal::Revoked) =>
        {
            sign_in.map(|sign_in| Visitor::SessionEnded { sign_in })
        }
        // A proxy that cannot redirect shows the page instead.
        _ if refusal == Refusal::CredentialMissing && rejection.asked.is_some() => {
            sign_in.map(|sign_in| Visitor::NotSignedIn { sign_in })
        }
        _ if refusal == Refusal::AuthenticationInsufficient && rejection.by_session => {
            sign_in.map(|sign_in| Visitor::NotSignedIn { sign_in })
        }
        _ => None,
    };
    let step_up = rejection.step_up.map(StepUp::challenge);
    let failed = rejection.sign_in.as_deref();
    let visitor = failed.map(|sign_in| Visitor::NotSignedIn { sign_in }).or(visitor);
    reply::refuse(
        refusal,
        reply::ErrorContext {
            request_id: record.request_id(),
            browser,
            pages: Some(&*gateway.pages),
            visitor,
            detail: rejection.detail.as_deref(),
            allow: rejection.allow.as_ref(),
            close: false,
            realm: &gateway.realm,
            step_up: step_up.as_deref(),
            retry_after: rejection.retry_after,
        },
    )
}

/// The way to the sign-in page and back. It leads to `public_url` from a host that a route names, and else to the page of
/// the host that was asked, which knows where to sign in.
fn to_sign_in(gateway: &Gateway, record: &AccessRecord, journey: Journey) -> Response<Bytes> {
    let prefix = gateway.endpoints.prefix();
    let path = record.path.as_ref().map_or("/", PathAndQuery::as_str);
    let named = gateway
        .sign_in
        .as_ref()
        .zip(record.host.as_ref())
        .filter(|(sign_in, host)| {
            journey.keeps_cookie && sign_in.sites.place(host.name()) == login::Place::Named
        });
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    let location = match named {
        None => login::login_then(prefix, path),
        Some((sign_in, host)) => {
            let now = gateway.clock.now();
            match sign_in.sites.begin(prefix, host, path, journey.nonces, now) {
                Ok(attempt) => {
                    for set_cookie in attempt.set_cookies {
                        headers.append(SET_COOKIE, set_cookie);
                    }
                    attempt.location
                }
                Err(refusal) => {
                    let back = login::login_then(prefix, path);
                    return say(gateway, &Rejection::new(refusal), true, true, Some(&back), record);
                }
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

/// The sign-in page, where there is one, and after it the page that was asked for; after a form the page with the form,
/// which the `Referer` of this host names.
fn sign_in_again(gateway: &Gateway, record: &AccessRecord, asker: &Asker) -> Option<HeaderValue> {
    gateway.sign_in.as_ref()?;
    let prefix = gateway.endpoints.prefix();
    let path = record.path.as_ref().map_or("/", PathAndQuery::as_str);
    let page = if asker.is_safe {
        path
    } else if login::is_own(path, prefix, gateway.forward_auth.aliases()) {
        // The gateway's own pages send no path in a `Referer`.
        return Some(login::login_then(prefix, &format!("{prefix}/sessions")));
    } else {
        let host = record.host.as_ref()?.as_sent();
        let referer = asker.referer.as_ref();
        referer
            .and_then(|referer| origin::own_referer(referer.to_str().ok()?, host))
            .unwrap_or("/")
    };
    Some(login::login_then(prefix, page))
}

/// Tells the browser to reach the host of `public_url` by HTTPS alone, on a connection that came by HTTPS (RFC 6797 section
/// 7.2). What the app says of its own host counts more.
pub(super) fn keep_to_https(gateway: &Gateway, record: &AccessRecord, headers: &mut HeaderMap) {
    let host = record
        .host
        .as_ref()
        .map_or("", |host| without_443(host.as_sent()));
    let is_host = |only: &String| only.eq_ignore_ascii_case(host);
    if gateway.https_only_host.as_ref().is_some_and(is_host)
        && !headers.contains_key(STRICT_TRANSPORT_SECURITY)
    {
        headers.insert(STRICT_TRANSPORT_SECURITY, HTTPS_ONLY);
    }
}

fn without_443(host: &str) -> &str {
    host.strip_suffix(":443").unwrap_or(host)
}

impl WorkerContext {
    /// Writes the line for a connection that the HTTP library has answered, and given up, before there was a request.
    pub fn note_refused(self: &Arc<Self>, client: &Arc<ConnectionInfo>, refusal: Refusal) {
        AccessRecord::without_request(self, client).refused(&Rejection::new(refusal));
    }

    /// Writes the line for a request that was sent on to `public_url` by HTTPS.
    pub fn note_redirected(
        self: &Arc<Self>,
        client: &Arc<ConnectionInfo>,
        method: Method,
        target: &PathAndQuery,
    ) {
        let label: Label = self.gateway.own_label.clone();
        AccessRecord::without_request(self, client).redirected(method, target.clone(), label);
    }

    /// Writes the line for a connection that was given up before it became a request, and returns the answer for it.
    /// `method` is HEAD where the request began with it; `browser`: the answer is shown to a person.
    pub fn refuse_connection(
        self: &Arc<Self>,
        client: &Arc<ConnectionInfo>,
        refusal: Refusal,
        method: &Method,
        browser: bool,
    ) -> Response<Bytes> {
        let mut record = AccessRecord::without_request(self, client);
        record.refused(&Rejection::new(refusal));
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
                step_up: None,
                retry_after: None,
            },
        );
        let (mut head, body) = response.into_parts();
        let body = reply::finish(method, &mut head, body);
        record.bytes = body.len() as u64;
        Response::from_parts(head, body)
    }
}
