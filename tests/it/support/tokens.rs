//! Tokens of every algorithm, right and wrong, from header and payload text that a test may write as it likes.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The `iss` of the issuer `corp` of most tests.
pub const CORP: &str = "https://id.example.com";

/// The HMAC secret of the issuer `corp`: as long as HS512 asks for.
pub const CORP_SECRET: &str =
    "a-secret-for-tests-only-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Every algorithm of a key pair that the gateway takes.
pub const ASYMMETRIC: [&str; 11] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
];

/// Every algorithm of a shared secret that the gateway takes.
pub const SYMMETRIC: [&str; 3] = ["HS256", "HS384", "HS512"];

/// Seconds since 1970.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Base64url without padding (RFC 7515 section 2).
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes that base64url without padding stands for.
#[track_caller]
pub fn unbase64url(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

enum Private {
    Rsa(&'static RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>),
}

/// A signing key for one algorithm.
pub struct Key {
    pub algorithm: &'static str,
    pub kid: String,
    private: Private,
}

/// Making an RSA key is slow, so that a process makes one.
fn rsa_pair() -> &'static RsaKeyPair {
    static PAIR: OnceLock<RsaKeyPair> = OnceLock::new();
    PAIR.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
}

impl Key {
    /// A new key pair; RSA keys of one process are all the same one.
    #[track_caller]
    pub fn new(algorithm: &'static str, kid: &str) -> Self {
        let private = match algorithm {
            "ES256" => {
                Private::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
            }
            "ES384" => {
                Private::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
            }
            "ES512" => {
                Private::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).unwrap())
            }
            "EdDSA" | "Ed25519" => Private::Ed(Ed25519KeyPair::generate().unwrap()),
            _ if algorithm.starts_with("RS") || algorithm.starts_with("PS") => Private::Rsa(rsa_pair()),
            _ => panic!("{algorithm}"),
        };
        Self {
            algorithm,
            kid: kid.to_owned(),
            private,
        }
    }

    /// A shared secret.
    pub fn secret(algorithm: &'static str, secret: impl Into<Vec<u8>>) -> Self {
        Self {
            algorithm,
            kid: String::new(),
            private: Private::Secret(secret.into()),
        }
    }

    /// The secret of the issuer `corp`.
    pub fn corp() -> Self {
        Self::secret("HS256", CORP_SECRET)
    }

    /// The public key as a member of a JWK set (RFC 7517).
    #[track_caller]
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.private {
            Private::Rsa(pair) => json!({
                "kty": "RSA",
                "n": base64url(pair.public_key().modulus().big_endian_without_leading_zero()),
                "e": base64url(pair.public_key().exponent().big_endian_without_leading_zero()),
            }),
            Private::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
            }
            Private::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref()) })
            }
            Private::Secret(secret) => json!({ "kty": "oct", "k": base64url(secret) }),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The private key as PEM (PKCS#8).
    #[track_caller]
    pub fn private_pem(&self) -> String {
        let der = match &self.private {
            Private::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(*pair).unwrap().as_ref().to_vec(),
            Private::Ec(pair) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Private::Ed(pair) => pair.to_pkcs8().unwrap().as_ref().to_vec(),
            Private::Secret(_) => panic!("a secret has no PEM"),
        };
        let body = STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    }

    /// The public key as PEM (`SubjectPublicKeyInfo`).
    #[track_caller]
    pub fn public_pem(&self) -> String {
        let der = match &self.private {
            Private::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Private::Ec(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Private::Ed(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Private::Secret(_) => panic!("a secret has no public key"),
        };
        let text = STANDARD.encode(der);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        )
    }

    /// The header of an ordinary token of this key.
    pub fn header(&self) -> Value {
        let mut header = json!({ "alg": self.algorithm, "typ": "JWT" });
        if !self.kid.is_empty() {
            header["kid"] = json!(self.kid);
        }
        header
    }

    /// An ordinary token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// A token with exactly this header and payload.
    pub fn sign(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", base64url(header), base64url(payload));
        let signature = self.signature(input.as_bytes());
        format!("{input}.{}", base64url(signature))
    }

    /// The bare signature of `message`.
    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.private {
            Private::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match self.algorithm {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    _ => &signature::RSA_PSS_SHA512,
                };
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut bytes).unwrap();
                bytes
            }
            Private::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Private::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Private::Secret(secret) => {
                let algorithm = match self.algorithm {
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
}

/// A JWK set of these keys.
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    let keys: Vec<Value> = keys.into_iter().map(Key::jwk).collect();
    json!({ "keys": keys }).to_string()
}

/// Claims of an ordinary token of the issuer `corp`: good for ten minutes, for the audience `api`.
pub fn corp_claims(subject: &str) -> Value {
    let now = now();
    json!({ "iss": CORP, "aud": "api", "sub": subject, "iat": now, "exp": now + 600 })
}

/// A token of the issuer `corp` for `subject` with these roles.
pub fn corp_token(subject: &str, roles: &[&str]) -> String {
    let mut claims = corp_claims(subject);
    claims["roles"] = json!(roles);
    corp_token_of(&claims)
}

/// A token of the issuer `corp` with these claims.
pub fn corp_token_of(claims: &Value) -> String {
    Key::corp().token(claims)
}

/// The claims of a token, unverified.
#[track_caller]
pub fn payload(token: &str) -> Value {
    serde_json::from_slice(&unbase64url(token.split('.').nth(1).unwrap())).unwrap()
}

/// The header of a token, unverified.
#[track_caller]
pub fn header(token: &str) -> Value {
    serde_json::from_slice(&unbase64url(token.split('.').next().unwrap())).unwrap()
}

/// Whether the signature of `token` is by the key of this set that its header names.
#[track_caller]
pub fn is_signed_by(token: &str, jwks: &Value) -> bool {
    let header = header(token);
    let jwk = jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["kid"] == header["kid"]);
    let Some(jwk) = jwk else { return false };
    let member = |name: &str| unbase64url(jwk[name].as_str().unwrap());
    let (input, signature) = token.rsplit_once('.').unwrap();
    let (input, signature) = (input.as_bytes(), unbase64url(signature));
    let point = || [&[4][..], &member("x"), &member("y")].concat();
    let by = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
        signature::UnparsedPublicKey::new(algorithm, key)
            .verify(input, &signature)
            .is_ok()
    };
    match header["alg"].as_str().unwrap() {
        "ES256" => by(&signature::ECDSA_P256_SHA256_FIXED, &point()),
        "ES384" => by(&signature::ECDSA_P384_SHA384_FIXED, &point()),
        "EdDSA" | "Ed25519" => by(&signature::ED25519, &member("x")),
        "RS256" => {
            let key = rsa::PublicKeyComponents {
                n: member("n"),
                e: member("e"),
            };
            key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, input, &signature)
                .is_ok()
        }
        other => panic!("assertions signed with {other}?"),
    }
}
