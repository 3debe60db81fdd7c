//! Key material, checked and parsed once: what verifies a signature.
//!
//! Input: a [`DecodingKey`] of the `jsonwebtoken` crate, read from a JWK, a PEM file or a secret. Output: a [`PreparedKey`] for
//! one algorithm, which holds the parsed key of aws-lc, or the reason why the material is not used. Invariants: weak
//! material never verifies; neither errors nor `Debug` show material.
//!
//! The verifiers of the crate itself parse the key for each signature; with RSA of 2048 bits that takes 25 µs instead of
//! 17 µs. [`PROVIDER`] gives the crate's own functions the same checks.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils, aws_lc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature::{Error as SignatureError, Verifier};
use jsonwebtoken::{AlgorithmFamily, DecodingKey, DecodingKeyKind};

use super::algorithm::Algorithm;

/// Bits of the smallest RSA modulus (RFC 7518 section 3.3) and of the largest (the time of one verification).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a key cannot be used. The text never holds material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It could be used, and would not protect anything.
    Weak(String),
    /// It is not for verifying signatures, or of an unknown kind, or broken.
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

/// The cryptography of the `jsonwebtoken` crate in this process: aws-lc, with the checks of this file for each key.
pub(crate) static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: aws_lc::DEFAULT_PROVIDER.signer_factory,
    verifier_factory: |algorithm, material| {
        let refused = |reason: Unusable| ErrorKind::Provider(reason.to_string());
        check_material(material).map_err(refused)?;
        let known = Algorithm::from_jwt(*algorithm).ok_or(ErrorKind::UnsupportedAlgorithm)?;
        let key = PreparedKey::new(known, material).map_err(refused)?;
        Ok(Box::new(ProviderKey(key, *algorithm)))
    },
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: aws_lc::DEFAULT_PROVIDER
            .key_utils
            .rsa_pub_components_from_private_key,
        rsa_pub_components_from_public_key: aws_lc::DEFAULT_PROVIDER
            .key_utils
            .rsa_pub_components_from_public_key,
        ec_pub_components_from_private_key: aws_lc::DEFAULT_PROVIDER
            .key_utils
            .ec_pub_components_from_private_key,
        ed_pub_components_from_private_key: aws_lc::DEFAULT_PROVIDER
            .key_utils
            .ed_pub_components_from_private_key,
        compute_digest: aws_lc::DEFAULT_PROVIDER.key_utils.compute_digest,
    },
};

/// A key for one algorithm.
pub(super) struct PreparedKey {
    pub(super) algorithm: Algorithm,
    parsed: Parsed,
}

enum Parsed {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

impl PreparedKey {
    /// Parses `material`, which passed [`check_material`]. The kind of the material must be that of the algorithm: a public
    /// key is never a shared secret. That a point is on its curve is checked here.
    pub(super) fn new(algorithm: Algorithm, material: &DecodingKey) -> Result<Self, Unusable> {
        let is_secret = material.family() == AlgorithmFamily::Hmac;
        let invalid = || other(format!("not a valid {} key", algorithm.family().as_str()));
        let parsed = match (Scheme::of(algorithm), material.kind()) {
            (Scheme::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let components = RsaPublicKeyComponents {
                    n: trim(n),
                    e: trim(e),
                };
                let parsed = components.to_parsed_public_key(parameters);
                Parsed::Public(parsed.map_err(|_| other("not an RSA key"))?)
            }
            (Scheme::Curve(parameters), DecodingKeyKind::SecretOrDer(bytes)) if !is_secret => {
                Parsed::Public(ParsedPublicKey::new(parameters, bytes).map_err(|_| invalid())?)
            }
            (Scheme::Secret(hash), DecodingKeyKind::SecretOrDer(secret)) if is_secret => {
                let (bytes, least) = (secret.len(), algorithm.secret_bytes());
                if bytes < least {
                    return Err(weak(format!(
                        "a secret of {bytes} bytes, and `{algorithm}` needs at least {least}"
                    )));
                }
                Parsed::Secret(Box::new(hmac::Key::new(hash, secret)))
            }
            _ if is_secret => {
                return Err(other(format!(
                    "a shared secret, and `{algorithm}` needs a public key"
                )));
            }
            _ => return Err(invalid()),
        };
        Ok(Self { algorithm, parsed })
    }
}

impl Verifier<Vec<u8>> for PreparedKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        let outcome = match &self.parsed {
            Parsed::Public(key) => key.verify_sig(message, signature),
            // The tag is compared whole and in constant time; a shortened one is another tag.
            Parsed::Secret(key) => hmac::verify(key, message, signature),
        };
        outcome.map_err(|_| SignatureError::new())
    }
}

/// A key as the crate's functions take it, with the name that the crate has for its algorithm.
struct ProviderKey(PreparedKey, jsonwebtoken::Algorithm);

impl Verifier<Vec<u8>> for ProviderKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        self.0.verify(message, signature)
    }
}

impl JwtVerifier for ProviderKey {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        self.1
    }
}

/// What aws-lc calls an algorithm.
enum Scheme {
    Rsa(&'static RsaParameters),
    Curve(&'static dyn VerificationAlgorithm),
    Secret(hmac::Algorithm),
}

impl Scheme {
    fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::RS256 => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => Self::Curve(&signature::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Self::Curve(&signature::ECDSA_P384_SHA384_FIXED),
            Algorithm::ES512 => Self::Curve(&signature::ECDSA_P521_SHA512_FIXED),
            Algorithm::EdDSA => Self::Curve(&signature::ED25519),
            Algorithm::HS256 => Self::Secret(hmac::HMAC_SHA256),
            Algorithm::HS384 => Self::Secret(hmac::HMAC_SHA384),
            Algorithm::HS512 => Self::Secret(hmac::HMAC_SHA512),
        }
    }
}

/// Refuses RSA keys that do not protect anything or take too long. Keys on a curve have no such choices, and the length of
/// a secret depends on the algorithm.
pub(super) fn check_material(material: &DecodingKey) -> Result<(), Unusable> {
    let DecodingKeyKind::RsaModulusExponent { n, e } = material.kind() else {
        return Ok(());
    };
    let (n, e) = (trim(n), trim(e));
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
    Ok(())
}

/// Digest of kind and material: the same for every spelling of one key.
pub(super) fn digest_material(material: &DecodingKey) -> [u8; 32] {
    let parts = match material.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => [trim(n), trim(e)],
        DecodingKeyKind::SecretOrDer(bytes) => [bytes.as_slice(), &[]],
    };
    let mut digest = blake3::Hasher::new();
    digest.update(&[material.family() as u8]);
    for part in parts {
        digest.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    *digest.finalize().as_bytes()
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
