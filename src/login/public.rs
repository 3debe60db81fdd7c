//! The responses that need no sign-in: the key set, how to verify with it, and the pictures of the pages.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::pages::Pages;
use crate::refusal::Refusal;
use crate::signing::SigningKeys;

/// A new key is published when it starts to sign, so a copy of the set must not live long.
const KEYS_CACHED: HeaderValue = HeaderValue::from_static("public, max-age=30");

/// Where verifiers of our own tokens find what they need.
#[derive(Debug)]
pub struct IssuerAddress {
    /// `iss` of our own tokens.
    pub issuer: String,
    /// The URL of the key set.
    pub jwks_uri: String,
}

#[derive(Debug)]
pub(super) struct PublicFiles {
    pub(super) issuer: IssuerAddress,
    pub(super) keys: Arc<ArcSwap<SigningKeys>>,
    pub(super) pages: Arc<Pages>,
    pub(super) clock: Clock,
}

impl PublicFiles {
    pub(super) fn jwks(&self) -> Result<Response<Bytes>, Refusal> {
        let keys = self.keys.load().jwks(self.clock.now());
        Ok(document(&keys, "application/jwk-set+json"))
    }

    /// OpenID Connect Discovery 1.0 section 3, without the endpoints, which do not exist: enough to verify a token.
    pub(super) fn discovery(&self) -> Result<Response<Bytes>, Refusal> {
        let algorithms = self.keys.load().algorithms(self.clock.now());
        let names: Vec<&str> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
        let described = json!({
            "issuer": self.issuer.issuer,
            "jwks_uri": self.issuer.jwks_uri,
            "id_token_signing_alg_values_supported": names,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
        });
        Ok(document(&described, "application/json"))
    }

    pub(super) fn logo(&self) -> Result<Response<Bytes>, Refusal> {
        self.pages.logo().ok_or(Refusal::RouteMissing)
    }

    pub(super) fn icon(&self) -> Result<Response<Bytes>, Refusal> {
        Ok(self.pages.icon())
    }
}

fn document(content: &Value, media_type: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(content.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, KEYS_CACHED);
    response
}
