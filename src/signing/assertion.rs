//! `X-Auth-Assertion`: who the caller is, signed for one app, so that an app can know that the request came through us.
//!
//! Enters: a caller and the name of an upstream. Leaves: a header value, signed once and then reused by every request of
//! that caller to that upstream until near its end. Never here: a signature per request, or an assertion that outlives
//! the token it speaks of by more than the leeway with which that token was taken.

use std::sync::{Arc, PoisonError};

use http::HeaderValue;
use serde_json::Map;

use super::{Kind, SigningKeys};
use crate::clock::UnixSeconds;
use crate::identity::{Assertion, Caller, Identity};
use crate::refusal::Refusal;

/// Seconds from `iat` to `exp`.
const LIFETIME: UnixSeconds = 60;
/// An assertion is not sent any more when it has fewer seconds than this left, so that it does not expire on its way.
const RENEW_BEFORE: UnixSeconds = 15;
/// Seconds to `exp` when the caller's own token is past its end and was taken within its issuer's leeway.
const LIFETIME_IN_LEEWAY: UnixSeconds = 5;
/// Assertions kept for a caller; more upstreams than this take turns.
const KEPT: usize = 32;

/// Makes assertions in the name of one public URL.
#[derive(Clone, Debug)]
pub struct Assertions {
    public_url: Arc<str>,
    unverified_email: bool,
}

impl Assertions {
    /// `public_url` becomes `iss`.
    #[must_use]
    pub fn new(public_url: impl Into<Arc<str>>) -> Self {
        Self {
            public_url: public_url.into(),
            unverified_email: false,
        }
    }

    /// These, which say an unverified `email` as well where `on`, with `email_verified: false`.
    #[must_use]
    pub fn with_unverified_email(mut self, on: bool) -> Self {
        self.unverified_email = on;
        self
    }

    /// The assertion about `caller` for `upstream`: the one at hand, or a new one that is then kept.
    ///
    /// # Errors
    /// [`Refusal::Internal`] if signing fails.
    pub fn assertion(
        &self,
        caller: &Caller,
        upstream: &Arc<str>,
        keys: &SigningKeys,
        now: UnixSeconds,
    ) -> Result<HeaderValue, Refusal> {
        // Held while signing (some 20 µs), so that workers that meet the same caller do not all sign.
        let mut kept = caller.assertions.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|known| known.upstream == *upstream);
        if let Some(known) = place.map(|place| &kept[place])
            && *known.key_id == **keys.key_id()
            && now < known.renew_at
            // The clock has not been put back since.
            && known.renew_at - LIFETIME <= now
        {
            return Ok(known.value.clone());
        }
        let expires_at = match caller.identity.expires_at {
            end if end > now => end.min(now.saturating_add(LIFETIME)),
            _ => now.saturating_add(LIFETIME_IN_LEEWAY),
        };
        // One that ends with the caller's token is the last one and used to its end.
        let renew_at = if expires_at == now.saturating_add(LIFETIME) {
            expires_at - RENEW_BEFORE
        } else {
            expires_at
        };
        let value = self.sign(&caller.identity, upstream, keys, now, expires_at)?;
        let new = Assertion {
            upstream: upstream.clone(),
            renew_at,
            key_id: keys.key_id().clone(),
            value: value.clone(),
        };
        match place {
            Some(place) => kept[place] = new,
            None if kept.len() < KEPT => kept.push(new),
            None => {
                let oldest = kept
                    .iter_mut()
                    .min_by_key(|known| known.renew_at)
                    .expect("32 are kept");
                *oldest = new;
            }
        }
        Ok(value)
    }

    fn sign(
        &self,
        identity: &Identity,
        upstream: &str,
        keys: &SigningKeys,
        now: UnixSeconds,
        expires_at: UnixSeconds,
    ) -> Result<HeaderValue, Refusal> {
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), (*self.public_url).into());
        claims.insert("aud".to_owned(), upstream.into());
        claims.insert("sub".to_owned(), identity.subject.as_str().into());
        if let Some(email) = identity.told_email(self.unverified_email) {
            claims.insert("email".to_owned(), email.into());
            if !identity.is_email_verified() {
                claims.insert("email_verified".to_owned(), false.into());
            }
        }
        if let Some(name) = &identity.name {
            claims.insert("name".to_owned(), name.as_str().into());
        }
        claims.insert("roles".to_owned(), identity.roles.clone().into());
        claims.insert("idp".to_owned(), (*identity.issuer).into());
        claims.insert("iat".to_owned(), now.into());
        claims.insert("exp".to_owned(), expires_at.into());
        let token = keys.sign(Kind::Assertion, &claims).map_err(|error| {
            tracing::error!(%error, "an assertion was not signed");
            Refusal::Internal
        })?;
        Ok(HeaderValue::try_from(token).expect("base64url and dots are a header value"))
    }
}
