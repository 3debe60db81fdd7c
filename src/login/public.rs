//! The responses that need no sign-in: the key set, and the pictures of the pages.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};

use crate::clock::Clock;
use crate::pages::Pages;
use crate::refusal::Refusal;
use crate::signing::SigningKeys;

#[derive(Debug)]
pub(super) struct PublicFiles {
    pub(super) keys: Arc<ArcSwap<SigningKeys>>,
    pub(super) pages: Arc<Pages>,
    pub(super) clock: Clock,
}

impl PublicFiles {
    pub(super) fn jwks(&self) -> Result<Response<Bytes>, Refusal> {
        let mut response = Response::new(Bytes::from(self.keys.load().jwks(self.clock.now()).to_string()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        // A new key is published when it starts to sign, so a copy of the set must not live long.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=30"));
        Ok(response)
    }

    pub(super) fn logo(&self) -> Result<Response<Bytes>, Refusal> {
        self.pages.logo().ok_or(Refusal::RouteMissing)
    }

    pub(super) fn icon(&self) -> Result<Response<Bytes>, Refusal> {
        Ok(self.pages.icon())
    }
}
