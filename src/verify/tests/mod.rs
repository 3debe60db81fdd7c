//! Behaviour of the whole room, with tokens that are really signed.

#![allow(clippy::unwrap_used, clippy::panic)]

mod compiling;
mod fetching;
mod homemade;
mod keys;
mod remembering;
mod subjects;
mod tokens;

use std::sync::{Arc, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use aws_lc_rs::{encoding::AsDer as _, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::*;
use crate::clock::UnixSeconds;

/// The moment at which all tests take place.
pub(super) const NOW: UnixSeconds = 1_800_000_000;
pub(super) const ISS: &str = "https://id.example.com/";

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair of some kind.
pub(super) enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>),
}

impl Signer {
    pub(super) fn rsa() -> &'static Self {
        static KEY: OnceLock<Signer> = OnceLock::new();
        KEY.get_or_init(|| Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub(super) fn p256() -> Self {
        Self::Ec(
            EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            "P-256",
        )
    }

    pub(super) fn p384() -> Self {
        Self::Ec(
            EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            "P-384",
        )
    }

    pub(super) fn p521() -> Self {
        Self::Ec(
            EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).unwrap(),
            "P-521",
        )
    }

    pub(super) fn ed25519() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    pub(super) fn secret() -> Self {
        Self::Secret((0..64).collect())
    }

    /// The public JWK; of a secret, the secret.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(pair) => json!({"kty": "RSA", "kid": kid,
                "n": encode(pair.public_key().modulus().big_endian_without_leading_zero()),
                "e": encode(pair.public_key().exponent().big_endian_without_leading_zero())}),
            Self::Ec(pair, crv) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "kid": kid, "crv": crv, "x": encode(x), "y": encode(y)})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": encode(pair.public_key())})
            }
            Self::Secret(secret) => json!({"kty": "oct", "kid": kid, "k": encode(secret)}),
        }
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Ec(pair, _) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Secret(_) => panic!("a secret has no public half"),
        }
    }

    /// The signature that `alg` asks for.
    pub(super) fn signature(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let encoding: &'static dyn signature::RsaEncoding = match alg {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => panic!("{alg} is not RSA"),
                };
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut bytes).unwrap();
                bytes
            }
            Self::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Secret(secret) => {
                let algorithm = match alg {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    _ => hmac::HMAC_SHA512,
                };
                hmac::sign(&hmac::Key::new(algorithm, secret), message)
                    .as_ref()
                    .to_vec()
            }
        }
    }

    /// A token of exactly these texts.
    pub(super) fn sign_text(&self, alg: &str, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", encode(header), encode(payload));
        format!("{input}.{}", encode(self.signature(alg, input.as_bytes())))
    }

    /// A token of these members.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(
            header["alg"].as_str().unwrap_or("ES256"),
            &header.to_string(),
            &claims.to_string(),
        )
    }
}

/// Claims that are good at [`NOW`].
pub(super) fn good_claims() -> Value {
    json!({"iss": ISS, "aud": "api", "sub": "ann", "iat": NOW - 60, "exp": NOW + 600, "jti": "t1",
        "email": "ann@example.com", "name": "Ann", "roles": ["user", "admin", "user"], "scope": "a:read  b:write"})
}

/// `good_claims` with some replaced; `null` removes one.
pub(super) fn claims_with(changes: &Value) -> Value {
    let mut claims = good_claims();
    let members: &mut Map<String, Value> = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    claims
}

pub(super) fn key_set(jwks: &[Value]) -> KeySet {
    KeySet::from_jwks(json!({"keys": jwks}).to_string().as_bytes(), Origin::File)
        .unwrap()
        .0
}

/// An issuer named `corp` with these keys, for the audience `api`.
pub(super) fn corp(keys: KeySet) -> Issuer {
    let mut issuer = Issuer::new("corp", ISS.to_owned(), Some(keys));
    issuer.audiences = vec!["api".to_owned()];
    issuer.algorithms = Algorithm::ALL.to_vec();
    issuer
}

pub(super) fn verifier(issuers: Vec<Issuer>) -> Verifier {
    let mut all = Issuers::default();
    for issuer in issuers {
        all.add(issuer).unwrap();
    }
    Verifier::new(all, Arc::new(Revocations::new()))
}

/// A signer with a P-256 key named `k`, and a verifier that knows it.
pub(super) struct Corp {
    pub(super) signer: Signer,
    pub(super) verifier: Verifier,
}

impl Corp {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Issuer)) -> Self {
        let signer = Signer::p256();
        let mut issuer = corp(key_set(&[signer.jwk("k")]));
        change(&mut issuer);
        Self {
            verifier: verifier(vec![issuer]),
            signer,
        }
    }

    pub(super) fn token(&self, changes: &Value) -> String {
        self.signer
            .sign(&json!({"alg": "ES256", "kid": "k"}), &claims_with(changes))
    }

    pub(super) fn verify(&self, token: &str) -> Result<Arc<Verified>, Refusal> {
        self.verifier.verify(&mut LocalCache::new(), token, NOW)
    }

    /// The verdict about a token of these claims.
    pub(super) fn judge(&self, changes: &Value) -> Result<(), Refusal> {
        self.verify(&self.token(changes)).map(|_| ())
    }

    /// The verdict about a token of this header and good claims.
    pub(super) fn judge_header(&self, header: &Value) -> Result<(), Refusal> {
        self.verify(&self.signer.sign(header, &good_claims())).map(|_| ())
    }
}
