//! Keys that can verify, each of one kind, and the sets that they come in.
//!
//! Enters: raw key material, already taken out of a JWK or a PEM file. Leaves: a [`Key`] that is strong enough, or the
//! reason why it is not one. A key verifies only with algorithms of its own kind: a public key is never a shared
//! secret. Neither errors nor `Debug` show material.

use jsonwebtoken::DecodingKey;
use jsonwebtoken::signature::Verifier as _;

use super::algorithm::{Algorithm, Family};
use super::prepared::{self, PreparedKey, Unusable, other};
use super::tenant::IssuerName;
use crate::refusal::Refusal;

/// The most keys a set may have; no issuer in the field publishes more than a dozen.
pub const MAX_KEYS: usize = 100;

/// The most keys that one signature is tried with, where the token does not name one.
const MAX_TRIED: usize = 16;

/// A key that verifies signatures.
pub struct Key {
    pub(super) kid: Option<String>,
    /// Whose tokens it serves alone, where its JWK says so.
    pub(super) issuer: Option<IssuerName>,
    family: Family,
    /// One for each algorithm that it may be used with.
    prepared: Vec<PreparedKey>,
    /// Digest of kind and material, without `kid` and algorithms.
    material: [u8; 32],
}

impl Key {
    /// A public key for `only`, which its JWK names, or else for every algorithm of its kind.
    pub(super) fn public(
        family: Family,
        material: &DecodingKey,
        only: Option<Algorithm>,
    ) -> Result<Self, Unusable> {
        match only {
            Some(algorithm) if algorithm.family() != family => Err(other(format!(
                "`alg` is `{algorithm}`, and the key is {}",
                family.as_str()
            ))),
            Some(algorithm) => Self::new(family, material, &[algorithm]),
            None => {
                let of_family = |algorithm: &Algorithm| algorithm.family() == family;
                let algorithms: Vec<_> = Algorithm::ALL.iter().copied().filter(of_family).collect();
                Self::new(family, material, &algorithms)
            }
        }
    }

    /// A shared secret; it must be as long as the hash of each algorithm that is asked for.
    pub(super) fn secret(secret: &[u8], algorithms: &[Algorithm]) -> Result<Self, Unusable> {
        Self::new(Family::Hmac, &DecodingKey::from_secret(secret), algorithms)
    }

    fn new(family: Family, material: &DecodingKey, algorithms: &[Algorithm]) -> Result<Self, Unusable> {
        prepared::check_material(material)?;
        let prepare = |algorithm: &Algorithm| PreparedKey::new(*algorithm, material);
        Ok(Self {
            kid: None,
            issuer: None,
            family,
            prepared: algorithms.iter().map(prepare).collect::<Result<_, _>>()?,
            material: prepared::digest_material(material),
        })
    }

    /// The name that its set gives it.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its kind.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The algorithms it may be used with.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.prepared.iter().map(|key| key.algorithm)
    }

    fn prepared(&self, algorithm: Algorithm) -> Option<&PreparedKey> {
        self.prepared.iter().find(|key| key.algorithm == algorithm)
    }

    /// Whether one token could mean both.
    fn shares_a_token(&self, other: &Self) -> bool {
        let share_an_issuer = self.issuer.is_none() || other.issuer.is_none() || self.issuer == other.issuer;
        share_an_issuer
            && self
                .algorithms()
                .any(|algorithm| other.prepared(algorithm).is_some())
    }

    /// Whether it may verify a token with this `iss`.
    fn serves(&self, iss: Option<&str>) -> bool {
        self.issuer
            .as_ref()
            .is_none_or(|issuer| iss.is_some_and(|iss| issuer.covers(iss)))
    }

    fn fingerprint(&self) -> [u8; 32] {
        let mut digest = blake3::Hasher::new();
        digest.update(&self.material);
        for algorithm in self.algorithms() {
            digest.update(algorithm.as_str().as_bytes());
        }
        digest.update(if self.kid.is_some() { b"\x01" } else { b"\x00" });
        digest.update(self.kid.as_deref().unwrap_or_default().as_bytes());
        if let Some(issuer) = &self.issuer {
            digest.update(b"\x02").update(issuer.as_str().as_bytes());
        }
        *digest.finalize().as_bytes()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("family", &self.family)
            .field("algorithms", &self.algorithms().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The keys of one issuer at one time.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Whether the keys have names at all: those of a JWK set may, a PEM file and a secret have none.
    named: bool,
    fingerprint: [u8; 32],
}

impl KeySet {
    /// A set of keys that a token cannot name.
    pub(super) fn unnamed(keys: Vec<Key>) -> Self {
        Self::new(keys, false)
    }

    /// A set out of a JWK set. Says which keys it left out, and why: two different keys of one name that one token could
    /// both mean are ambiguous.
    ///
    /// # Errors
    /// Shared secrets and public keys in one set, the ground of the algorithm confusion attack (RFC 8725 section 2.1).
    pub(super) fn named(keys: Vec<Key>) -> Result<(Self, Vec<String>), String> {
        if keys.iter().any(|key| key.family == Family::Hmac)
            && keys.iter().any(|key| key.family != Family::Hmac)
        {
            return Err("shared secrets and public keys cannot stand in one set".to_owned());
        }
        let clash = |one: &Key, two: &Key| one.kid.is_some() && one.kid == two.kid && one.shares_a_token(two);
        let mut skipped = Vec::new();
        let mut ambiguous = vec![false; keys.len()];
        let mut repeated = vec![false; keys.len()];
        for (index, key) in keys.iter().enumerate() {
            for (earlier, before) in keys[..index].iter().enumerate() {
                if !clash(before, key) {
                    continue;
                }
                if before.material == key.material {
                    repeated[index] |= before.fingerprint() == key.fingerprint();
                } else {
                    ambiguous[earlier] = true;
                    ambiguous[index] = true;
                }
            }
        }
        let mut kept = Vec::with_capacity(keys.len());
        for (index, key) in keys.into_iter().enumerate() {
            if ambiguous[index] {
                skipped.push(format!(
                    "{}: two different keys have this name",
                    key_name(key.kid())
                ));
            } else if !repeated[index] {
                kept.push(key);
            }
        }
        Ok((Self::new(kept, true), skipped))
    }

    /// The set of one shared secret, for these algorithms.
    ///
    /// # Errors
    /// A secret shorter than the hash of one of them (RFC 7518 section 3.2), or an algorithm that needs a public key.
    pub fn from_secret(secret: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        let key = Key::secret(secret, algorithms).map_err(|reason| reason.to_string())?;
        Ok(Self::unnamed(vec![key]))
    }

    fn new(keys: Vec<Key>, named: bool) -> Self {
        // The order of a JWK set means nothing, so it is no change.
        let mut fingerprints: Vec<_> = keys.iter().map(Key::fingerprint).collect();
        fingerprints.sort_unstable();
        let mut digest = blake3::Hasher::new();
        for fingerprint in &fingerprints {
            digest.update(fingerprint);
        }
        Self {
            keys,
            named,
            fingerprint: *digest.finalize().as_bytes(),
        }
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether both hold the same keys under the same names for the same algorithms.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// Whether there is a key that a token with this `kid` and `alg` means.
    #[must_use]
    pub fn has(&self, kid: Option<&str>, algorithm: Algorithm) -> bool {
        self.keys
            .iter()
            .any(|key| (kid.is_none() || key.kid() == kid) && key.prepared(algorithm).is_some())
    }

    /// The key that made `signature` over `message`.
    ///
    /// With a `kid`, the keys of that name are tried, or, where none has it, those without a name; without a `kid`, the
    /// first 16 of the algorithm's kind. Keys of another issuer than `iss` are not among them.
    ///
    /// # Errors
    /// [`Refusal::KeyUnknown`] where the set has no key for it, [`Refusal::SignatureInvalid`] otherwise.
    pub(super) fn verify(
        &self,
        iss: Option<&str>,
        kid: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> Result<&Key, Refusal> {
        let is_known = kid.is_none_or(|kid| self.keys.iter().any(|key| key.kid() == Some(kid)));
        let wanted = if is_known { kid } else { None };
        let candidates = self
            .keys
            .iter()
            .filter(|key| {
                if is_known {
                    wanted.is_none() || key.kid() == wanted
                } else {
                    key.kid.is_none()
                }
            })
            .filter_map(|key| Some((key, key.prepared(algorithm)?)))
            .filter(|(key, _)| key.serves(iss))
            .take(MAX_TRIED);
        let mut tried = false;
        for (key, prepared) in candidates {
            tried = true;
            if prepared.verify(message, signature).is_ok() {
                return Ok(key);
            }
        }
        // In a set with names, a name that it lacks is a reason to ask the issuer again.
        if tried && (is_known || !self.named) {
            Err(Refusal::SignatureInvalid)
        } else {
            Err(Refusal::KeyUnknown)
        }
    }
}

/// A key as messages name it.
pub(super) fn key_name(kid: Option<&str>) -> String {
    kid.map_or_else(
        || "key without `kid`".to_owned(),
        |kid| format!("key `{}`", kid.escape_default()),
    )
}
