//! A revocation: what the state keeps, the verifier looks up, and the command line writes.

use crate::clock::UnixSeconds;

/// A revocation: of one token, of everything issued to a subject until then, of a session; or that tokens are stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The `iss` of the tokens; [`SESSION_ISSUER`](crate::identity::SESSION_ISSUER) for the gateway's own.
    pub issuer: String,
    /// What is revoked.
    pub target: Target,
    /// When. Of a subject, tokens issued up to and including this second are revoked.
    pub revoked_at: UnixSeconds,
    /// The time from which no such token would be accepted anyway, the issuer's leeway included; `None`: kept for ever.
    pub expires_at: Option<UnixSeconds>,
}

/// What a revocation is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The token with this `jti`.
    Token(String),
    /// All tokens of this `sub` that were issued up to the moment of the revocation.
    Subject(String),
    /// All tokens of this `sid`; only of our own.
    Session(String),
    /// Nothing ends, but the claims of our own tokens of this `sub` that were made of an earlier revision of its account
    /// are out of date.
    Stale {
        /// The account's id.
        subject: String,
        /// The revision that is up to date; 0 takes an earlier row back.
        revision: i64,
    },
}
