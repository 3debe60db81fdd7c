//! The algorithm of a signing key of our own.
//!
//! Input: a word of the file, of the command line or of the state. Output: the algorithm. Invariant: each is asymmetric, so
//! that an app can verify and not sign.

use std::fmt;
use std::str::FromStr;

/// A JWS signature algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1) that our own tokens are signed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    #[default]
    ES256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, by a key of 2048 bits.
    RS256,
    /// Ed25519.
    EdDSA,
}

impl SigningAlgorithm {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::ES256, Self::RS256, Self::EdDSA];

    /// Their names, as the file, the command line and `alg` write them.
    pub(crate) const NAMES: &[&str] = &["ES256", "RS256", "EdDSA"];

    /// Its name.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::RS256 => "RS256",
            Self::EdDSA => "EdDSA",
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SigningAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| format!("the algorithms are `{}`", Self::NAMES.join("`, `")))
    }
}
