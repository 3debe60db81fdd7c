//! What an answer of the gateway's own endpoints says to a page of another origin (CORS, Fetch standard).
//!
//! Input: the head of a request. Output: the fields that let the page read the answer, on every answer to it, whatever its
//! status. Invariants: only a listed origin gets any of them, and only for endpoints that are for listed origins.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ORIGIN,
};
use http::{HeaderMap, HeaderValue, Request};

use super::Gateway;
use super::cors;
use crate::http::headers::add_vary;
use crate::http::target::Target;
use crate::login;

/// Seconds for which a browser keeps the answer to a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const ALLOWED: HeaderValue = HeaderValue::from_static("content-type, authorization");
const EXPOSED: HeaderValue = HeaderValue::from_static("X-Request-Id, Retry-After");

/// The page of a listed origin that asks one of the endpoints for it.
#[derive(Debug)]
pub(super) struct CrossOrigin {
    origin: HeaderValue,
    /// For a preflight: the methods of the path.
    methods: Option<HeaderValue>,
}

impl CrossOrigin {
    /// The page that sent `request`; `None` for every other sender and every other path.
    pub(super) fn of<B>(gateway: &Gateway, request: &Request<B>) -> Option<Self> {
        let origin = gateway.origins.find(request.headers())?;
        gateway.sign_in.as_ref()?;
        let target = Target::parse(request.uri()).ok()?;
        let methods = login::methods_for_listed(&target, gateway.endpoints.prefix())?;
        let is_preflight = gateway.origins.is_preflight(request.method(), request.headers());
        let methods = is_preflight.then(|| HeaderValue::try_from(methods).ok());
        Some(Self {
            origin: origin.clone(),
            methods: methods.flatten(),
        })
    }

    /// Adds the fields to the answer.
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        cors::allow(headers, self.origin, true);
        add_vary(headers, &HeaderValue::from(ORIGIN));
        match self.methods {
            Some(methods) => {
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
                headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
            }
            None => {
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            }
        }
    }
}
