//! The answer to a proxy that asked about a request.
//!
//! Input: what [`decide`](super::super::decide::decide) found. Output: 200 with the identity headers, or a refusal in a form
//! that the proxy takes. Invariants: an answer that is kept is one that lets a request through, and that nothing but the
//! credential, method, host and URI of the request can change; an identity header that the caller has no value for is empty,
//! so that a proxy that copies it takes the place of the client's own.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, LOCATION, VARY};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

use super::super::Gateway;
use super::super::access_record::AccessRecord;
use super::super::authenticate::Authenticated;
use super::super::decide::{Allowed, is_sent_to_sign_in, needs_sign_in};
use super::super::refuse::say;
use super::super::rejection::{Asked, Rejection};
use super::super::rewrite::{PROVIDER_TOKEN, set_identity};
use crate::clock::UnixSeconds;
use crate::refusal::Refusal;
use crate::values::Alias;

/// The status that the client of the other proxy is to get.
pub(super) const X_AUTH_STATUS: HeaderName = HeaderName::from_static("x-auth-status");

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// As every preset calls it.
const ASSERTION: HeaderName = HeaderName::from_static("x-auth-assertion");

/// The same as `max-age` for nginx, which keeps nothing that is `private`.
pub(super) const X_ACCEL_EXPIRES: HeaderName = HeaderName::from_static("x-accel-expires");

/// A WebSocket handshake is a GET that another site must not make a browser send.
const BY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin, Sec-Fetch-Site, Sec-WebSocket-Version");

const EMPTY: HeaderValue = HeaderValue::from_static("");

/// The answer for a request that may pass.
///
/// # Errors
/// As the identity is too large for headers, or cannot be signed.
pub(super) fn allow(
    gateway: &Gateway,
    allowed: &Allowed<'_>,
    may_change: bool,
    alias: Option<Alias>,
    record: &AccessRecord,
) -> Result<Response<Bytes>, Refusal> {
    let mut response = Response::new(Bytes::new());
    if alias == Some(Alias::OAuth2Proxy) {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    let headers = response.headers_mut();
    for name in gateway.naming.names(alias).chain([&ASSERTION, &PROVIDER_TOKEN]) {
        headers.insert(name, EMPTY);
    }
    let caller = allowed.permit.caller();
    if allowed.route.upstream.is_served_elsewhere() {
        set_identity(gateway, allowed, headers)?;
    } else {
        // A client of a proxy in front can ask as well: what only the app is to have is for the app alone.
        gateway.naming.set(headers, caller.map(|caller| &**caller))?;
    }
    if let (Some(alias), Some(caller)) = (alias, caller) {
        gateway.naming.set_as(alias, headers, caller)?;
    }
    headers.insert(X_REQUEST_ID, record.request_id_value());
    match lifetime(gateway, allowed, may_change) {
        Some(seconds) => {
            headers.insert(X_ACCEL_EXPIRES, HeaderValue::from(seconds));
            let text = format!("private, max-age={seconds}");
            headers.insert(
                CACHE_CONTROL,
                HeaderValue::try_from(text).map_err(|_| Refusal::Internal)?,
            );
            headers.insert(VARY, gateway.vary.clone());
            headers.append(VARY, BY_ORIGIN);
        }
        None => {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
    Ok(response)
}

/// Seconds for which the proxy may keep the answer; `None`: it is asked for each request. `may_change`: a page of another site
/// must not make a browser send the request.
fn lifetime(gateway: &Gateway, allowed: &Allowed<'_>, may_change: bool) -> Option<UnixSeconds> {
    let route = allowed.route;
    let depends_on_time = route.rules.step_up().is_some() || route.rate_limit.is_some();
    let depends_on_address = route.rules.read_address();
    let by_cookie = allowed
        .authenticated
        .as_ref()
        .is_some_and(Authenticated::is_by_cookie);
    let is_lax = gateway
        .sign_in
        .as_ref()
        .is_none_or(|sign_in| !sign_in.same_site_none);
    let depends_on_origin = by_cookie && (may_change || !is_lax);
    if depends_on_time
        || depends_on_address
        || depends_on_origin
        || allowed.set_cookie.is_some()
        || allowed.provider_token.is_some()
    {
        return None;
    }
    let rest = allowed.permit.caller().map_or(UnixSeconds::MAX, |caller| {
        caller.identity.expires_at.saturating_sub(gateway.clock.now())
    });
    Some(gateway.forward_auth.cache.min(rest)).filter(|seconds| *seconds > 0)
}

/// The answer for a request that may not: for a proxy that understands 401 and 403 alone, one of these.
pub(in crate::gateway) fn refuse(
    gateway: &Gateway,
    rejection: &Rejection<'_>,
    asked: Asked,
    is_browser: bool,
    record: &AccessRecord,
) -> Response<Bytes> {
    let has_sign_in = gateway.sign_in.is_some();
    let is_page = matches!(*record.method(), Method::GET | Method::HEAD);
    let sign_in = (is_page && needs_sign_in(has_sign_in, rejection)).then(|| sign_in_page(gateway, record));
    let sign_in = sign_in.flatten();
    let is_sent = is_sent_to_sign_in(has_sign_in, record.method(), is_browser, rejection);
    if let Some(location) = sign_in.as_ref().filter(|_| is_sent && asked.redirects) {
        return redirect(location.clone(), record);
    }
    let mut response = say(gateway, rejection, is_browser, is_page, sign_in.as_ref(), record);
    let status = response.status();
    if asked.is_strict && status != StatusCode::UNAUTHORIZED {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    let headers = response.headers_mut();
    // Of a browser the proxy makes a redirect itself.
    let meant = if is_sent { StatusCode::FOUND } else { status };
    headers.insert(X_AUTH_STATUS, HeaderValue::from(meant.as_u16()));
    if let Some(quota) = &rejection.quota {
        quota.apply(headers);
    }
    if let Some(location) = sign_in {
        headers.insert(LOCATION, location);
    }
    response
}

/// The way to the sign-in page, for a proxy that hands it on to the browser.
fn redirect(location: HeaderValue, record: &AccessRecord) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, record.request_id_value());
    response
}

/// The sign-in page, which leads back to the page that was asked for.
fn sign_in_page(gateway: &Gateway, record: &AccessRecord) -> Option<HeaderValue> {
    let sites = &gateway.sign_in.as_ref()?.sites;
    let path = record.path.as_ref().map_or("/", PathAndQuery::as_str);
    Some(sites.sign_in_page(gateway.endpoints.prefix(), record.host.as_ref()?, path))
}
