//! Tokens into callers: is it signed by a key of the issuer that it names, for us, now, and not revoked.
//!
//! Input: the text of a token. Output: a [`Verified`] caller or a [`Refusal`]. Invariants: the token chooses no algorithm, key
//! or issuer, it can only name one that the configuration knows; no error, log line or `Debug` shows a token or a secret.
//!
//! Keys, JWKs and signing are types of the `jsonwebtoken` crate, signatures are verified by `aws-lc-rs`. Every other check is
//! ours: `jsonwebtoken::Validation` reads the system clock, allows a minute of leeway, accepts tokens that lack `iss` or `aud`,
//! and does not look at `crit`, `typ`, duplicate names or what a JWK says about its use.

mod algorithm;
mod cache;
mod claims;
mod config;
mod issuer;
mod issuer_keys;
mod json;
mod jwks;
mod jws;
mod key_source;
mod keys;
mod pem;
mod prepared;
pub(crate) mod refresh;
pub(crate) mod revocation;
mod tenant;
#[cfg(test)]
mod tests;
mod trace;
mod typ;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub use algorithm::{Algorithm, Family};
pub use cache::LocalCache;
pub(crate) use cache::{CacheCounters, Verified};
pub(crate) use claims::roles_of;
pub(crate) use config::revocation_expiry;
pub(crate) use issuer::Issuer;
pub use issuer::Issuers;
pub(crate) use json::parse_object;
pub use jwks::Origin;
pub use jws::{read_unverified, verify_signature};
pub use keys::{KeySet, MAX_KEYS};
pub(crate) use prepared::PROVIDER;
pub(crate) use refresh::{KeyStore, keep_fresh};
pub use revocation::Revocations;
pub(crate) use revocation::{Change, REVISION_CLAIM};
pub(crate) use tenant::Tenants;
pub(crate) use trace::Step;

use crate::clock::UnixSeconds;
use crate::identity::{Caller, Identity};
use crate::refusal::Refusal;
use cache::SharedCache;
use jws::Jws;
use trace::Steps;

/// The longest token that is read unless the configuration says otherwise, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// One for each verifier that was ever made, so that no table answers for another's issuers.
static TABLES: AtomicU64 = AtomicU64::new(1);

/// Verifies tokens of the issuers of one configuration. A clone has the same issuers and the same cache.
#[derive(Clone)]
pub struct Verifier {
    issuers: Issuers,
    revocations: Arc<Revocations>,
    shared: SharedCache,
    table: u64,
    /// The longest token that is read, in bytes.
    most: usize,
}

impl Verifier {
    /// A verifier with an empty cache. The revocations are those of the process, and outlive a reload.
    #[must_use]
    pub fn new(issuers: Issuers, revocations: Arc<Revocations>) -> Self {
        let table = TABLES.fetch_add(1, Ordering::Relaxed);
        Self {
            issuers,
            revocations,
            shared: SharedCache::new(),
            table,
            most: MAX_TOKEN_BYTES,
        }
    }

    /// The same for tokens of `most` bytes at most.
    #[must_use]
    pub fn with_max_token_bytes(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// The issuers.
    #[must_use]
    pub fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// The revocations.
    #[must_use]
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Tokens in the shared table. Not for the request path.
    #[must_use]
    pub fn cached(&self) -> u64 {
        self.shared.len()
    }

    /// The caller that `token` names. Time, keys and revocation are looked at on every call; the rest only for a token
    /// that neither `local` nor the shared table knows.
    ///
    /// # Errors
    /// The refusal of the first check that failed.
    pub fn verify(
        &self,
        local: &mut LocalCache,
        token: &str,
        now: UnixSeconds,
    ) -> Result<Arc<Verified>, Refusal> {
        Ok(self.try_verify(local, token, now, || Ok(()))?)
    }

    /// The same. A token that neither table knows is verified only where `gate` allows it.
    ///
    /// # Errors
    /// The refusal of the first check that failed, with the key that may help against it; that of `gate`.
    pub fn try_verify(
        &self,
        local: &mut LocalCache,
        token: &str,
        now: UnixSeconds,
        gate: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<Arc<Verified>, Refused> {
        if token.len() > self.most {
            return Err(Refusal::TokenTooLarge.into());
        }
        local.enter(self.table);
        if let Some(verified) = local.find(token).filter(|verified| verified.holds(now)).cloned() {
            local.counters().count_local();
            self.check_revocation(&verified.issuer, &verified.caller.identity)?;
            return Ok(verified);
        }
        let digest = *blake3::hash(token.as_bytes()).as_bytes();
        if let Some(verified) = self.shared.find(&digest).filter(|verified| verified.holds(now)) {
            local.counters().count_shared();
            self.check_revocation(&verified.issuer, &verified.caller.identity)?;
            return Ok(own_copy(local, token, &verified));
        }
        gate()?;
        local.counters().count_miss();
        let verified = Arc::new(self.check(token, now, Tense::Present, &mut Steps::silent())?);
        if verified.holds(now) {
            self.shared.keep(digest, verified.clone());
            return Ok(own_copy(local, token, &verified));
        }
        Ok(verified)
    }

    /// The same verdict without any cache, each step of it told to `observer`.
    ///
    /// # Errors
    /// The refusal of the first check that failed.
    pub fn examine(
        &self,
        token: &str,
        now: UnixSeconds,
        observer: &mut dyn FnMut(Step),
    ) -> Result<Arc<Verified>, Refusal> {
        let verified = self.check(token, now, Tense::Present, &mut Steps::heard_by(observer))?;
        Ok(Arc::new(verified))
    }

    /// The same for a token that was good until its `exp`, or until what it says was changed: what it said then, without
    /// any cache. Signature, keys and revocation are those of now.
    ///
    /// # Errors
    /// The refusal of the first check that failed, or would have then.
    pub fn verify_expired(&self, token: &str, now: UnixSeconds) -> Result<Arc<Verified>, Refusal> {
        let verified = self.check(token, now, Tense::Past, &mut Steps::silent())?;
        Ok(Arc::new(verified))
    }

    fn check_revocation(&self, issuer: &Issuer, identity: &Identity) -> Result<(), Refusal> {
        self.revocations
            .check(issuer.revocation_key(), identity, Instant::now())
    }

    /// Every check, in order.
    fn check(
        &self,
        token: &str,
        now: UnixSeconds,
        tense: Tense,
        steps: &mut Steps<'_>,
    ) -> Result<Verified, Refused> {
        let jws = steps.must("form", Jws::parse(token, self.most), || {
            let (bytes, parts) = (token.len(), token.split('.').count());
            format!(
                "{bytes} bytes in {parts} parts, `max_token_bytes` is {}",
                self.most
            )
        })?;
        steps.must("header", jws.extensions(), || {
            jws.header
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        })?;
        let shown = |name: &str| {
            jws.header
                .get(name)
                .map_or_else(|| "missing".to_owned(), ToString::to_string)
        };
        let algorithm = steps.must("algorithm", jws.algorithm(), || {
            format!("`alg` is {}", shown("alg"))
        })?;
        let kid = steps.must("key-id", jws.kid(), || format!("`kid` is {}", shown("kid")))?;
        let claims = steps.must("payload", jws.claims(), || format!("{} bytes", jws.payload.len()))?;
        let now = match tense {
            Tense::Present => now,
            Tense::Past => {
                let exp = claims.get("exp").and_then(serde_json::Value::as_i64);
                exp.ok_or(Refusal::TimeMalformed)?.saturating_sub(1).min(now)
            }
        };
        let iss = steps.must("issuer", claims::issuer(&claims, &self.issuers), || {
            format!(
                "`iss` is {}",
                claims
                    .get("iss")
                    .map_or_else(|| "missing".to_owned(), ToString::to_string)
            )
        })?;
        let issuer = steps.must(
            "issuer-known",
            self.issuers.of(iss).ok_or(Refusal::IssuerUnknown),
            || match self.issuers.of(iss).map(AsRef::as_ref) {
                Some(Issuer {
                    name,
                    place: Some(place),
                    ..
                }) if iss.is_none() => {
                    format!("it is `{name}` ({place}), whose tokens may lack `iss`")
                }
                Some(Issuer {
                    name,
                    place: Some(place),
                    ..
                }) => format!("it is `{name}` ({place})"),
                Some(issuer) => format!("it is `{}`, the gateway itself", issuer.name),
                None => {
                    format!(
                        "known are {:?}",
                        self.issuers.iter().map(|known| &known.issuer).collect::<Vec<_>>()
                    )
                }
            },
        )?;
        if let Some(tenants) = &issuer.tenants {
            steps.must("tenant", claims::tenant(&claims, iss, issuer, tenants), || {
                let tid = claims
                    .get("tid")
                    .map_or_else(|| "missing".to_owned(), ToString::to_string);
                let among = match tenants {
                    Tenants::Any => "any".to_owned(),
                    Tenants::Listed(tenants) => tenants.join(", "),
                };
                format!("`tid` is {tid}, of {among}")
            })?;
        }
        let is_listed = if issuer.algorithms.contains(&algorithm) {
            Ok(())
        } else {
            Err(Refusal::AlgorithmRefused)
        };
        steps.must("algorithm-listed", is_listed, || {
            let listed: Vec<_> = issuer.algorithms.iter().map(|listed| listed.as_str()).collect();
            format!("`{algorithm}`, of {}", listed.join(", "))
        })?;
        steps.must("type", issuer.typ.check(&jws.header), || {
            format!("`typ` is {}", shown("typ"))
        })?;

        // One load: the generation is that of the keys that verify.
        let keys = issuer.keys.now();
        let refused = |refusal| Refused::by_keys(refusal, issuer, kid, algorithm);
        let is_there = steps.must(
            "keys",
            keys.set.as_ref().ok_or(Refusal::KeysUnavailable),
            || match &keys.set {
                Some(set) => format!("{} of `{}`", set.len(), issuer.name),
                None => format!("none of `{}` have been had yet", issuer.name),
            },
        );
        let set = is_there.map_err(refused)?;
        let is_signed = steps.must(
            "signature",
            set.verify(iss, kid, algorithm, jws.signing_input, &jws.signature),
            || {
                let known: Vec<_> = set
                    .keys()
                    .iter()
                    .map(|key| key.kid().unwrap_or("(no name)"))
                    .collect();
                format!("`{algorithm}`, `kid` is {}, known are {known:?}", shown("kid"))
            },
        );
        is_signed.map_err(refused)?;

        let (issuer, key_generation) = (issuer.clone(), keys.generation);
        // The fields of the identity and the headers made of it later are parts of the claims once more.
        let weight = 1024 + token.len() + claims.values().map(cache::weigh).sum::<usize>() * 2;
        let (identity, good_until) = claims::check(claims, &issuer, now, steps)?;
        let standing = match (self.check_revocation(&issuer, &identity), tense) {
            (Err(Refusal::Stale), Tense::Past) => Ok(()),
            (standing, _) => standing,
        };
        steps.must("revocation", standing, || {
            format!("{} in force", self.revocations.len())
        })?;
        Ok(Verified {
            caller: Arc::new(Caller::new(identity)),
            issuer,
            key_generation,
            good_until,
            verified_at: now,
            weight,
        })
    }
}

/// Why a token is refused, and the key that may come.
#[derive(Debug)]
pub struct Refused {
    refusal: Refusal,
    /// The issuer, `kid` and `alg` of a token without a key.
    missing: Option<(Arc<Issuer>, Option<String>, Algorithm)>,
}

impl Refused {
    fn by_keys(refusal: Refusal, issuer: &Arc<Issuer>, kid: Option<&str>, algorithm: Algorithm) -> Self {
        let missing = matches!(refusal, Refusal::KeyUnknown | Refusal::KeysUnavailable)
            .then(|| (Arc::clone(issuer), kid.map(str::to_owned), algorithm));
        Self { refusal, missing }
    }

    /// Whether the signature is not by a key of the issuer.
    #[must_use]
    pub(crate) fn is_badly_signed(&self) -> bool {
        self.refusal == Refusal::SignatureInvalid
    }

    /// Waits, two seconds at most, for keys of the token's issuer that may help. True where it is worth to verify once
    /// more; false at once where the refusal is not about keys, where the issuer's keys are not fetched, and where they
    /// were fetched for such a token a short time ago.
    pub async fn refetch(&self) -> bool {
        if let Some((issuer, kid, algorithm)) = &self.missing
            && let Some(source) = &issuer.source
        {
            return source.await_key(&issuer.keys, kid.as_deref(), *algorithm).await;
        }
        false
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            missing: None,
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        refused.refusal
    }
}

/// Whether a token is to say what is so, or may say what was so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tense {
    Present,
    Past,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("issuers", &self.issuers)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// Keeps a copy of the worker's own, whose reference count no other worker writes.
fn own_copy(local: &mut LocalCache, token: &str, verified: &Arc<Verified>) -> Arc<Verified> {
    let own = Arc::new(Verified::clone(verified));
    local.keep(token, own.clone());
    own
}
