//! Keys and secrets as they are kept: our own signing keys, secrets that tokens are made with, the issuers' key sets.

use std::fmt::Debug;

use zeroize::Zeroizing;

use super::StateError;
use crate::clock::UnixSeconds;
use crate::values::SigningAlgorithm;

/// One of our own signing keys.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKeyRow {
    /// Its `kid`.
    pub key_id: String,
    /// What it signs with, and nothing else.
    pub algorithm: SigningAlgorithm,
    /// The public key: for EdDSA 32 bytes (RFC 8032 section 5.1.5), for ES256 the uncompressed point (SEC 1 section 2.3.3), for
    /// RS256 the DER of an `RSAPublicKey` (RFC 8017 appendix A.1.1).
    pub public_key: Vec<u8>,
    /// PKCS#8 (RFC 5958) of the active key; `None` once it is retired.
    pub private_key: Option<Zeroizing<Vec<u8>>>,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// When it stopped signing.
    pub retired_at: Option<UnixSeconds>,
    /// The time from which its signatures no longer count; set when it is retired.
    pub verify_until: Option<UnixSeconds>,
}

impl Debug for SigningKeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeyRow")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .field("private_key", &self.private_key.as_ref().map(|_| "…"))
            .field("created_at", &self.created_at)
            .field("retired_at", &self.retired_at)
            .field("verify_until", &self.verify_until)
            .finish_non_exhaustive()
    }
}

/// Keys and secrets.
pub trait SigningKeyStore: Debug + Send + Sync {
    /// All signing keys that are kept, the active one first, then the retired ones, last retired first.
    fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StateError>;

    /// Adds `candidate` if no key is active, in one step: of several processes that start at once, one adds its own and
    /// all get the same. Returns all keys, as [`SigningKeyStore::signing_keys`].
    fn ensure_signing_key(&self, candidate: &SigningKeyRow) -> Result<Vec<SigningKeyRow>, StateError>;

    /// Makes `next` the active key, in one step. The one before is retired at `now`, verifies until `verify_until`, and
    /// its private part is deleted; retired keys whose time is over are deleted. Returns all keys that are left.
    fn rotate_signing_key(
        &self,
        next: &SigningKeyRow,
        now: UnixSeconds,
        verify_until: UnixSeconds,
    ) -> Result<Vec<SigningKeyRow>, StateError>;

    /// Says that a token signed by the key `key_id` lives until `expires_at`: a rotation lets the key verify at least that
    /// long, also one that came in between.
    fn note_token(&self, key_id: &str, expires_at: UnixSeconds) -> Result<(), StateError>;

    /// A secret of ours that tokens are made with, under a name: `candidate` if there was none, in one step, as
    /// [`SigningKeyStore::ensure_signing_key`].
    fn ensure_secret(&self, name: &str, candidate: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, StateError>;

    /// The last key set that was saved for an issuer, as it came from `url`, and when. A set from another URL is none.
    fn load_jwks(&self, issuer: &str, url: &str) -> Result<Option<(Vec<u8>, UnixSeconds)>, StateError>;

    /// Keeps a key set in place of the one before.
    fn save_jwks(&self, issuer: &str, url: &str, jwks: &[u8], now: UnixSeconds) -> Result<(), StateError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_key_holds_no_private_part() {
        let row = SigningKeyRow {
            key_id: "k".to_owned(),
            algorithm: SigningAlgorithm::EdDSA,
            public_key: vec![1; 32],
            private_key: Some(Zeroizing::new(b"PRIVATE".to_vec())),
            created_at: 1,
            retired_at: None,
            verify_until: None,
        };
        let text = format!("{row:?}");
        assert!(
            !text.contains("80, 82, 73") && !text.contains("PRIVATE"),
            "{text}"
        );
    }
}
