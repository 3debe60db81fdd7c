//! Key pairs of our own: made, read, and asked for a signature.
//!
//! Input: an algorithm, and the PKCS#8 document and public key of a row of the state. Output: signatures, and the public key
//! as a JWK. Invariant: a key is used with the one algorithm that it was made for.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey};
use zeroize::Zeroizing;

use crate::values::SigningAlgorithm;

/// The bytes of an uncompressed point on P-256 (SEC 1 section 2.3.3).
const POINT_BYTES: usize = 65;

/// A parsed private key. `jsonwebtoken::encode` parses it for each token, which takes as long as the signature itself.
pub(super) enum SigningKeyPair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl SigningKeyPair {
    /// A new key; RSA of 2048 bits, which takes tenths of a second. `None`: the library failed.
    pub(super) fn generate(algorithm: SigningAlgorithm) -> Option<Self> {
        match algorithm {
            SigningAlgorithm::ES256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .ok()
                .map(Self::Es256),
            SigningAlgorithm::RS256 => RsaKeyPair::generate(KeySize::Rsa2048).ok().map(Self::Rs256),
            SigningAlgorithm::EdDSA => Ed25519KeyPair::generate().ok().map(Self::EdDsa),
        }
    }

    /// Reads a PKCS#8 document; `None` where it holds no key for `algorithm`.
    pub(super) fn from_pkcs8(algorithm: SigningAlgorithm, document: &[u8]) -> Option<Self> {
        match algorithm {
            SigningAlgorithm::ES256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document)
                .ok()
                .map(Self::Es256),
            SigningAlgorithm::RS256 => RsaKeyPair::from_pkcs8(document).ok().map(Self::Rs256),
            SigningAlgorithm::EdDSA => Ed25519KeyPair::from_pkcs8(document).ok().map(Self::EdDsa),
        }
    }

    /// The PKCS#8 document.
    pub(super) fn to_pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        let document = match self {
            Self::Es256(pair) => pair.to_pkcs8v1().ok()?.as_ref().to_vec(),
            Self::Rs256(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair).ok()?.as_ref().to_vec(),
            Self::EdDsa(pair) => pair.to_pkcs8().ok()?.as_ref().to_vec(),
        };
        Some(Zeroizing::new(document))
    }

    /// The public key, in the form of [`SigningKeyRow`](crate::state::SigningKeyRow).
    pub(super) fn public_key(&self) -> &[u8] {
        match self {
            Self::Es256(pair) => pair.public_key().as_ref(),
            Self::Rs256(pair) => pair.public_key().as_ref(),
            Self::EdDsa(pair) => pair.public_key().as_ref(),
        }
    }

    /// A signature in the form of JWS (RFC 7518 sections 3.3 and 3.4, RFC 8037 section 3.1). `None`: the library failed.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Es256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).ok()?;
                Some(signature.as_ref().to_vec())
            }
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .ok()?;
                Some(signature)
            }
            Self::EdDsa(pair) => Some(pair.try_sign(message).ok()?.as_ref().to_vec()),
        }
    }
}

/// `alg` as the `jsonwebtoken` crate has it.
pub(super) fn header_algorithm(algorithm: SigningAlgorithm) -> Algorithm {
    match algorithm {
        SigningAlgorithm::ES256 => Algorithm::ES256,
        SigningAlgorithm::RS256 => Algorithm::RS256,
        SigningAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// The JWK of a public key, and its thumbprint (RFC 7638 section 3, RFC 8037 section 2), which is its `kid`. `None` where
/// the bytes are no key for `algorithm`.
pub(super) fn public_jwk(algorithm: SigningAlgorithm, public_key: &[u8]) -> Option<(String, Jwk)> {
    let key = match algorithm {
        SigningAlgorithm::ES256 if public_key.len() == POINT_BYTES => DecodingKey::from_ec_der(public_key),
        SigningAlgorithm::ES256 => return None,
        SigningAlgorithm::RS256 => DecodingKey::from_rsa_der(public_key),
        SigningAlgorithm::EdDSA => DecodingKey::from_ed_der(public_key),
    };
    let mut jwk = Jwk::from_decoding_key(&key, Some(header_algorithm(algorithm))).ok()?;
    let key_id = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
    jwk.common.key_id = Some(key_id.clone());
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    Some((key_id, jwk))
}
