//! What the gateway answers by itself on the public port: its own keys, and the prefix kept for its own pages.
//!
//! Enters: a method and a target. Leaves: an answer, or `None` for everything that belongs to a route. A path that is
//! spelled oddly is never one of ours: it goes on to the routes, which refuse it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};

use crate::clock::UnixSeconds;
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

/// An answer of ours, or a refusal with the methods that the path has.
pub type Answered = Result<Response<Bytes>, (Refusal, Option<HeaderValue>)>;

impl Endpoints {
    /// Endpoints below `prefix` (`/auth`), and the public halves of `keys`.
    #[must_use]
    pub fn new(prefix: &str, keys: Arc<ArcSwap<SigningKeys>>) -> Self {
        Self { prefix: prefix.to_owned(), keys, allow: HeaderValue::from_static("GET, HEAD") }
    }

    /// Whether a path of a route, or of a request, is ours.
    #[must_use]
    pub fn owns(&self, path: &str) -> bool {
        path == JWKS_PATH
            || path.strip_prefix(self.prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The answer for `target`, where it is ours.
    #[must_use]
    pub fn answer(&self, method: &Method, target: &Target, now: UnixSeconds) -> Option<Answered> {
        let path = target.matching();
        if !self.owns(path) || target.oddities() != Oddities::default() {
            return None;
        }
        if path != JWKS_PATH {
            return Some(Err((Refusal::RouteMissing, None)));
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Some(Err((Refusal::MethodRefused, Some(self.allow.clone()))));
        }
        let mut response = Response::new(Bytes::from(self.keys.load().jwks(now).to_string()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        // A new key is published when it starts to sign, so a copy of the set must not live long.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=30"));
        Some(Ok(response))
    }
}
