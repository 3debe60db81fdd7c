//! What the gateway answers by itself on the public port: its own keys, and the prefix kept for its own pages.
//!
//! Enters: a method and a target. Leaves: an answer, or `None` for everything that belongs to a route. A path that is
//! spelled oddly is never one of ours: it goes on to the routes, which refuse it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};

use crate::clock::Clock;
use crate::http::target::{Oddities, Target};
use crate::refusal::Refusal;
use crate::signing::SigningKeys;

/// The public keys of our own tokens (RFC 7517 section 5).
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// Our own endpoints.
#[derive(Debug)]
pub struct Endpoints {
    prefix: String,
    keys: Arc<ArcSwap<SigningKeys>>,
    allow: HeaderValue,
}

/// Whether a path of a route, or of a request, is ours.
#[must_use]
pub fn is_own(path: &str, prefix: &str) -> bool {
    path == JWKS_PATH || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a request is answered here: `None` where it belongs to a route, else what there is to say about it.
#[must_use]
pub fn decide(method: &Method, target: &Target, prefix: &str) -> Option<Result<(), Refusal>> {
    let path = target.matching();
    if !is_own(path, prefix) || target.oddities() != Oddities::default() {
        return None;
    }
    Some(match path {
        JWKS_PATH if matches!(*method, Method::GET | Method::HEAD) => Ok(()),
        JWKS_PATH => Err(Refusal::MethodRefused),
        _ => Err(Refusal::RouteMissing),
    })
}

/// An answer of ours, or a refusal with the methods that the path has.
pub type OldAnswered = Result<Response<Bytes>, (Refusal, Option<HeaderValue>)>;

impl Endpoints {
    /// Endpoints below `prefix` (`/auth`), and the public halves of `keys`.
    #[must_use]
    pub fn new(prefix: &str, keys: Arc<ArcSwap<SigningKeys>>) -> Self {
        Self { prefix: prefix.to_owned(), keys, allow: HeaderValue::from_static("GET, HEAD") }
    }

    /// The answer for `target`, where it is ours.
    #[must_use]
    pub fn answer(&self, method: &Method, target: &Target, clock: &Clock) -> Option<OldAnswered> {
        if let Err(refusal) = decide(method, target, &self.prefix)? {
            return Some(Err((refusal, (refusal == Refusal::MethodRefused).then(|| self.allow.clone()))));
        }
        let mut response = Response::new(Bytes::from(self.keys.load().jwks(clock.now()).to_string()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        // A new key is published when it starts to sign, so a copy of the set must not live long.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=30"));
        Some(Ok(response))
    }
}

// --- what follows replaces the above: the shape that the gateway is written against ---

use std::net::IpAddr;

use http::HeaderMap;

use crate::identity::Caller;

/// What there is under `own_prefix`, and the key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/.well-known/jwks.json`
    Jwks,
    /// `/login`
    Login,
    /// `/register`
    Register,
    /// `/refresh`
    Refresh,
    /// `/logout`
    Logout,
    /// `/me`
    Me,
    /// `/password`
    Password,
    /// `/sessions`
    Sessions,
    /// `/sessions/{id}`, DELETE
    Session(String),
    /// `/sessions/{id}/end`, POST: the same for a form
    EndSession(String),
    /// `/logo`
    Logo,
}

/// A request for one of our own endpoints, as the gateway has understood it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Which one.
    pub endpoint: &'a Endpoint,
    /// One that the endpoint has.
    pub method: &'a Method,
    /// The raw query.
    pub query: Option<&'a str>,
    /// As sent.
    pub headers: &'a HeaderMap,
    /// The Host as sent, for `http::origin`.
    pub host: &'a str,
    /// The client's address, as a trusted proxy may have named it.
    pub client: IpAddr,
    /// Whether the client wants a page (`http::reply::wants_page`).
    pub browser: bool,
    /// The id in the log line.
    pub request_id: &'a str,
    /// Who asks, where that could be found out; for [`Endpoint::Logout`] also by a session cookie that has expired.
    pub caller: Option<Arc<Caller>>,
    /// Whether `caller` is by the session cookie.
    pub by_cookie: bool,
}

/// An answer of ours.
#[derive(Debug)]
pub struct Answered {
    /// The whole of it.
    pub response: Response<Bytes>,
    /// Who has just signed in, for the log line.
    pub caller: Option<Arc<Caller>>,
}

/// Why there is none.
#[derive(Debug)]
pub struct Failure {
    /// The reason, for log and metrics; the answer too where there is no `page`.
    pub refusal: Refusal,
    /// The answer, where it is a form that is shown again. Its status is the refusal's.
    pub page: Option<Response<Bytes>>,
    /// For 429 and 503, in seconds.
    pub retry_after: Option<u64>,
}
