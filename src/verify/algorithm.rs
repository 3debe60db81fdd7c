//! The signature algorithms that can be configured, and the kind of key that each one needs.
//!
//! Input: the text of `alg`, from a token, a JWK or the TOML. Output: an [`Algorithm`]. Invariant: `none` is not one of them.
//!
//! `jsonwebtoken::Algorithm` is not used in its place: it has no ES512 and no second name of `EdDSA`, and its one family for
//! all curves cannot say that a key on P-256 is not for ES384.

use crate::values::SigningAlgorithm;

/// A JWS signature algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1, RFC 9864 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256 and a salt of 32 bytes.
    PS256,
    /// RSASSA-PSS with SHA-384 and a salt of 48 bytes.
    PS384,
    /// RSASSA-PSS with SHA-512 and a salt of 64 bytes.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519, also by the name `Ed25519` (RFC 9864 section 2.2): no key of ours is of the other curve of `EdDSA`.
    EdDSA,
}

/// The kind of a key. A key is of one kind for ever; a token cannot choose another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// A shared secret.
    Hmac,
    /// An RSA public key.
    Rsa,
    /// A point on P-256.
    P256,
    /// A point on P-384.
    P384,
    /// A point on P-521.
    P521,
    /// An Ed25519 public key.
    Ed25519,
}

impl Algorithm {
    /// All of them, in the order in which messages list them.
    pub const ALL: &'static [Self] = &[
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
        Self::HS256,
        Self::HS384,
        Self::HS512,
    ];

    /// The algorithm of this exact name; names are case-sensitive (RFC 7515 section 4.1.1).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDSA);
        }
        Self::ALL
            .iter()
            .copied()
            .find(|algorithm| algorithm.as_str() == name)
    }

    /// The algorithm that the `jsonwebtoken` crate means.
    pub(super) fn from_jwt(algorithm: jsonwebtoken::Algorithm) -> Option<Self> {
        let names_it = |known: &Self| known.as_str().parse() == Ok(algorithm);
        Self::ALL.iter().copied().find(names_it)
    }

    /// Its name in `alg`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The kind of key it needs.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::HS256 | Self::HS384 | Self::HS512 => Family::Hmac,
            Self::RS256 | Self::RS384 | Self::RS512 | Self::PS256 | Self::PS384 | Self::PS512 => Family::Rsa,
            Self::ES256 => Family::P256,
            Self::ES384 => Family::P384,
            Self::ES512 => Family::P521,
            Self::EdDSA => Family::Ed25519,
        }
    }

    /// The bytes that a shared secret needs at least: those of the hash (RFC 7518 section 3.2). 0 for public keys.
    #[must_use]
    pub const fn secret_bytes(self) -> usize {
        match self {
            Self::HS256 => 32,
            Self::HS384 => 48,
            Self::HS512 => 64,
            _ => 0,
        }
    }
}

impl From<SigningAlgorithm> for Algorithm {
    fn from(algorithm: SigningAlgorithm) -> Self {
        match algorithm {
            SigningAlgorithm::ES256 => Self::ES256,
            SigningAlgorithm::RS256 => Self::RS256,
            SigningAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

impl Family {
    /// The name that messages give it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hmac => "shared secret",
            Self::Rsa => "RSA",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
            Self::Ed25519 => "Ed25519",
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
