//! Our own signing keys, and the tokens that are signed with them.
//!
//! Input: key rows of the state and claims. Output: signed tokens (JWS compact serialization, RFC 7515 section 3.1) and
//! the public keys that verify them. Invariants: no log, error or `Debug` output shows a private
//! key; every token has a `typ`, by which `verify` keeps the kinds apart (RFC 8725 section 3.11).

mod assertion;
mod client_key;
mod key_pair;
mod mint;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Map, Value, json};

use crate::clock::UnixSeconds;
use crate::state::{SigningKeyRow, State, StateError};
use crate::values::SigningAlgorithm;

pub(crate) use assertion::Assertions;
pub(crate) use client_key::ClientKey;
pub(crate) use mint::MintRequest;

use key_pair::{SigningKeyPair, header_algorithm, public_jwk};

/// A kind of token of ours. A verifier takes each one only where it expects that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An access token for API clients (RFC 9068).
    Access,
    /// The content of the session cookie.
    Session,
    /// `X-Auth-Assertion`: who the caller is, for one app.
    Assertion,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Access, Self::Session, Self::Assertion];

    /// `typ` in the header of the token.
    #[must_use]
    pub const fn typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Session => "session+jwt",
            Self::Assertion => "assertion+jwt",
        }
    }
}

/// Why keys cannot be had or a token cannot be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// The state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// What is stored is not the key it says it is.
    #[error(
        "the signing key `{key_id}` in the state is damaged ({what}); run `passgate key rotate` to replace it, \
         tokens signed with it are void"
    )]
    Damaged {
        /// Its `kid`.
        key_id: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The system has no random numbers, or the cryptographic library failed.
    #[error("cannot {action}: the cryptographic library or the system's random number generator failed")]
    Cryptography {
        /// What was being done.
        action: &'static str,
    },
}

/// All keys at one moment: the one that signs, and those whose signatures count. Shared by all workers and replaced
/// whole when the state has changed.
pub struct SigningKeys {
    key_pair: SigningKeyPair,
    algorithm: SigningAlgorithm,
    key_id: Arc<str>,
    /// One encoded header with its dot for each [`Kind`].
    heads: [String; Kind::ALL.len()],
    verifying: Vec<VerifyingKey>,
}

/// The public part of a key, and what `key list` says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    /// Its `kid`, the JWK thumbprint (RFC 7638).
    pub key_id: Arc<str>,
    /// The algorithm that it verifies, and no other one.
    pub algorithm: SigningAlgorithm,
    jwk: Jwk,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// When it stopped signing; `None`: it is the active one.
    pub retired_at: Option<UnixSeconds>,
    /// The time from which its signatures no longer count; `None` for the active one.
    pub verify_until: Option<UnixSeconds>,
}

impl VerifyingKey {
    /// Whether signatures by this key count at `now`.
    #[must_use]
    pub fn verifies_at(&self, now: UnixSeconds) -> bool {
        self.verify_until.is_none_or(|end| now < end)
    }

    /// The key as a JWK (RFC 7518 section 6, RFC 8037 section 2).
    #[must_use]
    pub fn jwk(&self) -> Value {
        json!(self.jwk)
    }
}

impl SigningKeys {
    /// The keys in `state`; makes the first one, for `algorithm`, where there is none. A key that is there stays, whatever
    /// its algorithm. Processes that start at once get the same.
    ///
    /// # Errors
    /// The state cannot be used, or a key in it is damaged.
    pub fn load_or_create(
        state: &dyn State,
        algorithm: SigningAlgorithm,
        now: UnixSeconds,
    ) -> Result<Self, SigningError> {
        let mut rows = state.signing_keys()?;
        if !rows.iter().any(|row| row.retired_at.is_none()) {
            rows = state.ensure_signing_key(&generate(algorithm, now)?)?;
        }
        Self::from_rows(&rows)
    }

    /// Makes a new key, for `algorithm`, the active one. What the one before signed counts for `keep_for` seconds more, which should be
    /// no less than the longest lifetime of a token.
    ///
    /// # Errors
    /// The state cannot be used, or another key in it is damaged.
    pub fn rotate(
        state: &dyn State,
        algorithm: SigningAlgorithm,
        now: UnixSeconds,
        keep_for: UnixSeconds,
    ) -> Result<Self, SigningError> {
        let rows = state.rotate_signing_key(
            &generate(algorithm, now)?,
            now,
            now.saturating_add(keep_for.max(0)),
        )?;
        Self::from_rows(&rows)
    }

    fn from_rows(rows: &[SigningKeyRow]) -> Result<Self, SigningError> {
        let active = rows.iter().find(|row| row.retired_at.is_none());
        let row = active.ok_or(SigningError::Cryptography {
            action: "find the active signing key",
        })?;
        let key = verifying_key(row)?;
        let key_id = key.key_id.clone();
        let damaged = |what| SigningError::Damaged {
            key_id: row.key_id.clone(),
            what,
        };
        let private_key = row
            .private_key
            .as_ref()
            .ok_or(damaged("its private part is missing"))?;
        let key_pair = SigningKeyPair::from_pkcs8(row.algorithm, private_key)
            .ok_or(damaged("its private part is not a PKCS#8 key for its algorithm"))?;
        if key_pair.public_key() != row.public_key {
            return Err(damaged("its two parts do not belong together"));
        }
        let mut verifying = vec![key];
        for row in rows.iter().filter(|row| row.retired_at.is_some()) {
            match verifying_key(row) {
                Ok(key) => verifying.push(key),
                // Its signatures do not count, which is all that is lost with it.
                Err(error) => tracing::warn!(%error, "a retired signing key is left out"),
            }
        }
        let heads = Kind::ALL.map(|kind| {
            let mut head = Header::new(header_algorithm(row.algorithm));
            head.typ = Some(kind.typ().to_owned());
            head.kid = Some(key_id.to_string());
            URL_SAFE_NO_PAD.encode(json!(head).to_string()) + "."
        });
        Ok(Self {
            key_pair,
            algorithm: row.algorithm,
            key_id,
            heads,
            verifying,
        })
    }

    /// Signs `claims` as a token of one kind. 15 to 30 µs of computation by EdDSA and ES256, 0.7 ms by RS256, no
    /// waiting.
    ///
    /// # Errors
    /// [`SigningError::Cryptography`] if the library fails.
    pub fn sign(&self, kind: Kind, claims: &Map<String, Value>) -> Result<String, SigningError> {
        let failed = SigningError::Cryptography {
            action: "sign a token",
        };
        let Ok(claims) = serde_json::to_vec(claims) else {
            return Err(failed);
        };
        let head = &self.heads[kind as usize];
        let mut token = String::with_capacity(head.len() + claims.len().div_ceil(3) * 4 + 88);
        token.push_str(head);
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        let Some(signature) = self.key_pair.sign(token.as_bytes()) else {
            return Err(failed);
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The `kid` of the key that signs now.
    #[must_use]
    pub fn key_id(&self) -> &Arc<str> {
        &self.key_id
    }

    /// What is signed with now.
    #[must_use]
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// The algorithms of the keys whose signatures count at `now`, each once, that of the active key first.
    #[must_use]
    pub fn algorithms(&self, now: UnixSeconds) -> Vec<SigningAlgorithm> {
        let mut found = Vec::new();
        for key in self.verifying.iter().filter(|key| key.verifies_at(now)) {
            if !found.contains(&key.algorithm) {
                found.push(key.algorithm);
            }
        }
        found
    }

    /// All keys, the active one first, the retired ones after it. Ask each whether it [`VerifyingKey::verifies_at`].
    #[must_use]
    pub fn verifying_keys(&self) -> &[VerifyingKey] {
        &self.verifying
    }

    /// The JWK set (RFC 7517 section 5) for `/.well-known/jwks.json`: the keys whose signatures count at `now`.
    #[must_use]
    pub fn jwks(&self, now: UnixSeconds) -> Value {
        let keys: Vec<_> = self
            .verifying
            .iter()
            .filter(|key| key.verifies_at(now))
            .map(VerifyingKey::jwk)
            .collect();
        json!({ "keys": keys })
    }
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeys")
            .field("key_id", &self.key_id)
            .field("verifying", &self.verifying)
            .finish_non_exhaustive()
    }
}

fn generate(algorithm: SigningAlgorithm, now: UnixSeconds) -> Result<SigningKeyRow, SigningError> {
    let made = || {
        let pair = SigningKeyPair::generate(algorithm)?;
        let public_key = pair.public_key().to_vec();
        let (key_id, _) = public_jwk(algorithm, &public_key)?;
        Some(SigningKeyRow {
            key_id,
            algorithm,
            private_key: Some(pair.to_pkcs8()?),
            public_key,
            created_at: now,
            retired_at: None,
            verify_until: None,
        })
    };
    made().ok_or(SigningError::Cryptography {
        action: "make a signing key",
    })
}

fn verifying_key(row: &SigningKeyRow) -> Result<VerifyingKey, SigningError> {
    let damaged = |what| SigningError::Damaged {
        key_id: row.key_id.clone(),
        what,
    };
    let (key_id, jwk) = public_jwk(row.algorithm, &row.public_key)
        .ok_or(damaged("its public part is not a key for its algorithm"))?;
    if key_id != row.key_id {
        return Err(damaged("its id is not the thumbprint of its public part"));
    }
    Ok(VerifyingKey {
        key_id: key_id.into(),
        algorithm: row.algorithm,
        jwk,
        created_at: row.created_at,
        retired_at: row.retired_at,
        verify_until: row.verify_until,
    })
}

#[cfg(test)]
mod tests;
