//! Keys that can verify, each of one kind, and the sets that they come in.
//!
//! Enters: raw key material, already taken out of a JWK or a PEM file. Leaves: a [`Key`] that is strong enough, or the
//! reason why it is not one. A key verifies only with algorithms of its own kind: a public key is never a shared
//! secret. Neither errors nor `Debug` show material.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};

use super::algorithm::{Algorithm, Family};
use super::tenant::IssuerName;
use crate::refusal::Refusal;

/// The most keys a set may have; no issuer in the field publishes more than a dozen.
pub const MAX_KEYS: usize = 100;

/// The most keys that one signature is tried with, where the token does not name one.
const MAX_TRIED: usize = 16;

/// Bits of the smallest RSA modulus (RFC 7518 section 3.3) and of the largest (the time of one verification).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a key cannot be used. The text never holds material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It could be used, and would not protect anything.
    Weak(String),
    /// It is not for verifying signatures, or of a kind that we do not know, or broken.
    Other(String),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Weak(reason) | Self::Other(reason) => f.write_str(reason),
        }
    }
}

pub(super) fn weak(reason: impl Into<String>) -> Unusable {
    Unusable::Weak(reason.into())
}

pub(super) fn other(reason: impl Into<String>) -> Unusable {
    Unusable::Other(reason.into())
}

/// A key that verifies signatures.
pub struct Key {
    pub(super) kid: Option<String>,
    /// Whose tokens it serves alone, where its JWK says so.
    pub(super) issuer: Option<IssuerName>,
    family: Family,
    verifiers: Vec<(Algorithm, Primitive)>,
    /// Digest of kind and material, without `kid` and algorithms.
    material: [u8; 32],
}

enum Primitive {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

impl Primitive {
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Public(key) => key.verify_sig(message, signature).is_ok(),
            // The tag is compared whole and in constant time; a shortened one is another tag.
            Self::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

impl Key {
    /// An RSA key from its modulus and exponent, big-endian (RFC 7518 section 6.3.1).
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8], only: Option<Algorithm>) -> Result<Self, Unusable> {
        let (n, e) = (trim(modulus), trim(exponent));
        let bits = n
            .first()
            .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        if bits < *RSA_BITS.start() {
            return Err(weak(format!(
                "an RSA key of {bits} bits, and fewer than {} are weak",
                RSA_BITS.start()
            )));
        }
        if bits > *RSA_BITS.end() {
            return Err(other(format!(
                "an RSA key of {bits} bits, more than {}",
                RSA_BITS.end()
            )));
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        if !is_odd(n) {
            return Err(weak("an RSA modulus that is even"));
        }
        if e == [1] || !is_odd(e) {
            return Err(weak("an RSA exponent that is 1 or even"));
        }
        if e.len() > 4 {
            return Err(other("an RSA exponent of more than 32 bits"));
        }
        if has_roca_fingerprint(n) {
            return Err(weak(
                "an RSA key made by a chip with the ROCA flaw (CVE-2017-15361)",
            ));
        }
        let components = RsaPublicKeyComponents { n, e };
        let mut key = Self::new(Family::Rsa, &[n, e]);
        for algorithm in algorithms_of(Family::Rsa, only)? {
            let parameters: &'static RsaParameters = match algorithm {
                Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
                Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
                Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
                _ => continue,
            };
            let parsed = components
                .to_parsed_public_key(parameters)
                .map_err(|_| other("not an RSA key"))?;
            key.verifiers.push((algorithm, Primitive::Public(parsed)));
        }
        Ok(key)
    }

    /// A P-256, P-384, P-521 or Ed25519 key: the uncompressed point, the 32 bytes of RFC 8032, or a `SubjectPublicKeyInfo`.
    /// That a point is on its curve is checked here.
    pub(super) fn curve(family: Family, bytes: &[u8], only: Option<Algorithm>) -> Result<Self, Unusable> {
        let parameters: &'static dyn VerificationAlgorithm = match family {
            Family::P256 => &signature::ECDSA_P256_SHA256_FIXED,
            Family::P384 => &signature::ECDSA_P384_SHA384_FIXED,
            Family::P521 => &signature::ECDSA_P521_SHA512_FIXED,
            Family::Ed25519 => &signature::ED25519,
            Family::Rsa | Family::Hmac => return Err(other("not a key on a curve")),
        };
        let mut key = Self::new(family, &[bytes]);
        for algorithm in algorithms_of(family, only)? {
            let parsed = ParsedPublicKey::new(parameters, bytes)
                .map_err(|_| other(format!("not a valid {} key", family.as_str())))?;
            key.verifiers.push((algorithm, Primitive::Public(parsed)));
        }
        Ok(key)
    }

    /// A shared secret; it must be as long as the hash of each algorithm that is asked for.
    pub(super) fn secret(secret: &[u8], algorithms: &[Algorithm]) -> Result<Self, Unusable> {
        let mut key = Self::new(Family::Hmac, &[secret]);
        for &algorithm in algorithms {
            let hash = match algorithm {
                Algorithm::HS256 => hmac::HMAC_SHA256,
                Algorithm::HS384 => hmac::HMAC_SHA384,
                Algorithm::HS512 => hmac::HMAC_SHA512,
                _ => {
                    return Err(other(format!(
                        "a shared secret, and `{algorithm}` needs a public key"
                    )));
                }
            };
            if secret.len() < algorithm.secret_bytes() {
                return Err(weak(format!(
                    "a secret of {} bytes, and `{algorithm}` needs at least {}",
                    secret.len(),
                    algorithm.secret_bytes()
                )));
            }
            key.verifiers.push((
                algorithm,
                Primitive::Secret(Box::new(hmac::Key::new(hash, secret))),
            ));
        }
        Ok(key)
    }

    fn new(family: Family, material: &[&[u8]]) -> Self {
        let mut digest = blake3::Hasher::new();
        digest.update(family.as_str().as_bytes());
        for part in material {
            digest.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        Self {
            kid: None,
            issuer: None,
            family,
            verifiers: Vec::new(),
            material: *digest.finalize().as_bytes(),
        }
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
        self.verifiers.iter().map(|(algorithm, _)| *algorithm)
    }

    fn primitive(&self, algorithm: Algorithm) -> Option<&Primitive> {
        self.verifiers
            .iter()
            .find(|(of, _)| *of == algorithm)
            .map(|(_, primitive)| primitive)
    }

    /// Whether one token could mean both.
    fn shares_a_token(&self, other: &Self) -> bool {
        let share_an_issuer = self.issuer.is_none() || other.issuer.is_none() || self.issuer == other.issuer;
        share_an_issuer
            && self
                .algorithms()
                .any(|algorithm| other.primitive(algorithm).is_some())
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
            .any(|key| (kid.is_none() || key.kid() == kid) && key.primitive(algorithm).is_some())
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
        signature: &[u8],
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
            .filter_map(|key| Some((key, key.primitive(algorithm)?)))
            .filter(|(key, _)| key.serves(iss))
            .take(MAX_TRIED);
        let mut tried = false;
        for (key, primitive) in candidates {
            tried = true;
            if primitive.verifies(message, signature) {
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

/// The algorithms of a kind, or the one that the key itself names.
fn algorithms_of(family: Family, only: Option<Algorithm>) -> Result<Vec<Algorithm>, Unusable> {
    match only {
        Some(algorithm) if algorithm.family() != family => Err(other(format!(
            "`alg` is `{algorithm}`, and the key is {}",
            family.as_str()
        ))),
        Some(algorithm) => Ok(vec![algorithm]),
        None => Ok(Algorithm::ALL
            .iter()
            .copied()
            .filter(|algorithm| algorithm.family() == family)
            .collect()),
    }
}

/// `number` without its leading zero bytes; some issuers write the sign byte of their bignum library.
fn trim(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// Whether `modulus` looks like one from Infineon's RSALib, which can be factored (CVE-2017-15361): modulo each of these
/// primes it is a power of 65537. For a random modulus the chance is below 2^-27.
fn has_roca_fingerprint(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101,
        103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|&prime| {
        let residue = modulus
            .iter()
            .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        for _ in 0..prime {
            if power == residue {
                return true;
            }
            power = power * (65537 % prime) % prime;
        }
        false
    })
}
