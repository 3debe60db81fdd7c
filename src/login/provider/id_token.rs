//! The checks of an ID token (OpenID Connect Core 1.0 section 3.1.3.7).
//!
//! Input: an ID token, the access token that came with it, and the nonce of the sign-in. Output: its claims, or a refusal
//! with a line in the log. Invariants: signature, `iss`, `aud` and times are judged by [`Verifier`], as those of bearer
//! tokens are; nonce, `azp` and `at_hash` are judged here; no log has a token.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use super::config::{OpenId, ProviderPlan};
use super::metadata::{Metadata, Source, shown};
use crate::clock::UnixSeconds;
use crate::refusal::Refusal;
use crate::verify::{Issuer, Verified, Verifier, read_unverified};

/// The longest subject, in bytes (OpenID Connect Core 1.0 section 2).
pub(super) const MAX_SUBJECT: usize = 255;

/// The longest `sid`, in bytes: a session keeps it.
pub(super) const MAX_SID: usize = 512;

/// What judges the ID tokens of a provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdTokenVerifier<'a> {
    pub(super) plan: &'a ProviderPlan,
    pub(super) open_id: &'a OpenId,
    pub(super) source: &'a Source,
    pub(super) issuer: &'a Issuer,
    pub(super) verifier: &'a Verifier,
    pub(super) metadata: &'a Metadata,
    pub(super) now: UnixSeconds,
}

/// The claims of an ID token that passed.
#[derive(Clone, Debug)]
pub(super) struct IdTokenClaims {
    pub(super) subject: String,
    pub(super) claims: Map<String, Value>,
}

impl IdTokenVerifier<'_> {
    /// `nonce` is that of the sign-in; `None` for a token that a refresh grant gave, which has none (section 12.2).
    ///
    /// # Errors
    /// `IdTokenRefused`, `SignInNotAllowed` for a user of another tenant, and `ProviderUnavailable` where the keys cannot be
    /// fetched.
    pub(super) async fn verify(
        &self,
        id_token: &str,
        access_token: Option<&str>,
        nonce: Option<&str>,
    ) -> Result<IdTokenClaims, Refusal> {
        let verified = self.examine(id_token).await?;
        let identity = &verified.caller.identity;
        self.check(&identity.claims, id_token, access_token, nonce)
            .map_err(|reason| self.refuse(reason))?;
        let subject = identity.subject.clone();
        if subject.len() > MAX_SUBJECT || subject.chars().any(char::is_control) {
            return Err(self.refuse("`sub` is longer than 255 bytes or has control characters"));
        }
        let claims = identity.claims.clone();
        let tenant = claims.get("tid").and_then(Value::as_str);
        if !self.open_id.takes(tenant) {
            tracing::warn!(
                provider = self.plan.name,
                tenant = tenant.map(shown),
                "`tenants` of the provider names other tenants"
            );
            return Err(Refusal::SignInNotAllowed);
        }
        Ok(IdTokenClaims { subject, claims })
    }

    fn refuse(&self, reason: &str) -> Refusal {
        tracing::warn!(
            provider = self.plan.name,
            reason,
            "the ID token of a provider is refused"
        );
        Refusal::IdTokenRefused
    }

    /// A key that is not known yet is looked for once.
    async fn examine(&self, id_token: &str) -> Result<Arc<Verified>, Refusal> {
        let (plan, source) = (self.plan, self.source);
        source.freshen_keys(plan, self.metadata, self.issuer).await;
        let examine = || self.verifier.examine(id_token, self.now, &mut |_| {});
        let outcome = match examine() {
            Err(Refusal::KeyUnknown | Refusal::KeysUnavailable) => {
                source.find_key(plan, self.metadata, self.issuer).await;
                examine()
            }
            outcome => outcome,
        };
        outcome.map_err(|refusal| match refusal {
            Refusal::KeysUnavailable => Refusal::ProviderUnavailable,
            Refusal::StateUnavailable | Refusal::Internal => refusal,
            refusal => self.refuse(refusal.reason()),
        })
    }

    /// What an ID token has beside what every token has.
    fn check(
        &self,
        claims: &Map<String, Value>,
        id_token: &str,
        access_token: Option<&str>,
        nonce: Option<&str>,
    ) -> Result<(), &'static str> {
        if let Some(nonce) = nonce {
            let own = claims.get("nonce").and_then(Value::as_str).unwrap_or_default();
            if !bool::from(own.as_bytes().ct_eq(nonce.as_bytes())) {
                return Err("`nonce` is not that of the sign-in");
            }
        }
        if !claims.contains_key("iat") {
            return Err("`iat` is missing");
        }
        let is_for_several = claims
            .get("aud")
            .and_then(Value::as_array)
            .is_some_and(|aud| aud.len() > 1);
        match claims.get("azp") {
            Some(Value::String(azp)) if *azp == self.plan.client_id => {}
            None if !is_for_several => {}
            None => return Err("`aud` has several values and `azp` is missing"),
            Some(_) => return Err("`azp` is another client"),
        }
        match claims.get("sid") {
            None => {}
            Some(Value::String(sid)) if sid.len() <= MAX_SID => {}
            Some(_) => return Err("`sid` is not a string of at most 512 bytes"),
        }
        match (claims.get("at_hash"), access_token) {
            (None, _) => Ok(()),
            (Some(Value::String(hash)), Some(token))
                if at_hash(id_token, token).is_some_and(|expected| expected == *hash) =>
            {
                Ok(())
            }
            (Some(_), _) => Err("`at_hash` is not that of the access token"),
        }
    }
}

/// The left half of the hash of the access token, by the hash of the ID token's algorithm (OpenID Connect Core 1.0
/// section 3.1.3.6).
fn at_hash(id_token: &str, access_token: &str) -> Option<String> {
    let header = read_unverified(id_token).ok()?.header;
    let algorithm = match header.get("alg")?.as_str()? {
        "RS256" | "PS256" | "ES256" => &digest::SHA256,
        "RS384" | "PS384" | "ES384" => &digest::SHA384,
        "RS512" | "PS512" | "ES512" | "EdDSA" | "Ed25519" => &digest::SHA512,
        _ => return None,
    };
    let hash = digest::digest(algorithm, access_token.as_bytes());
    let hash = hash.as_ref();
    Some(URL_SAFE_NO_PAD.encode(&hash[..hash.len() / 2]))
}
