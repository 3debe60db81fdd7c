//! The private key by which the gateway authenticates as a client of a provider (RFC 7523 section 2.2).
//!
//! Input: a PEM file, and claims. Output: a signed JWT. Invariants: the algorithm is that of the key; no log, error or
//! `Debug` output shows the key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::key_pair::{SigningKeyPair, header_algorithm};
use crate::values::SigningAlgorithm;

/// A key, and the id that the provider knows it by.
pub(crate) struct ClientKey {
    pair: SigningKeyPair,
    algorithm: SigningAlgorithm,
    key_id: Option<String>,
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientKey")
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl ClientKey {
    /// Reads a `PRIVATE KEY` section (PKCS#8, RFC 5958).
    ///
    /// # Errors
    /// What is wrong with it, to stand after "cannot be used: ".
    pub(crate) fn from_pem(text: &[u8], key_id: Option<String>) -> Result<Self, String> {
        let document = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| {
            "it has no `PRIVATE KEY` section; `openssl pkcs8 -topk8 -nocrypt` converts other forms".to_owned()
        })?;
        let found = SigningAlgorithm::ALL.into_iter().find_map(|algorithm| {
            let pair = SigningKeyPair::from_pkcs8(algorithm, document.secret_pkcs8_der())?;
            Some((algorithm, pair))
        });
        let (algorithm, pair) =
            found.ok_or("its key is not on P-256, not RSA of 2048 bits and more, and not Ed25519")?;
        Ok(Self {
            pair,
            algorithm,
            key_id,
        })
    }

    pub(crate) fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// A JWT of `claims`. `None`: the cryptographic library failed.
    pub(crate) fn sign(&self, claims: &Value) -> Option<String> {
        let mut head = Header::new(header_algorithm(self.algorithm));
        head.kid.clone_from(&self.key_id);
        let head = URL_SAFE_NO_PAD.encode(json!(head).to_string());
        let mut token = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn pem(pair: &SigningKeyPair) -> String {
        let body = STANDARD.encode(&*pair.to_pkcs8().unwrap());
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    }

    #[test]
    fn algorithm_is_that_of_the_key_and_the_head_has_its_id() {
        for algorithm in SigningAlgorithm::ALL {
            let pair = SigningKeyPair::generate(algorithm).unwrap();
            let key = ClientKey::from_pem(pem(&pair).as_bytes(), Some("k".to_owned())).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            let token = key.sign(&json!({ "iss": "a" })).unwrap();
            let parts: Vec<&str> = token.split('.').collect();
            let decode = |part: &str| -> Value {
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
            };
            assert_eq!(parts.len(), 3);
            assert_eq!(
                decode(parts[0]),
                json!({ "typ": "JWT", "alg": algorithm.as_str(), "kid": "k" })
            );
            assert_eq!(decode(parts[1]), json!({ "iss": "a" }));
            assert!(!format!("{key:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn what_is_no_private_key_is_refused() {
        for text in [
            "",
            "secret",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(ClientKey::from_pem(text.as_bytes(), None).is_err(), "{text}");
        }
    }
}
