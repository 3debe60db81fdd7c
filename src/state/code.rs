//! One-time codes: by one of them a session goes from one host to another.

use std::fmt::Debug;

use super::StateError;
use super::session::{Authentication, TokenHash};
use crate::clock::UnixSeconds;

/// The most codes of one session that are kept at a time.
pub(crate) const MOST_CODES: usize = 20;

/// A code that has not been used. It goes with its session.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeRow {
    /// BLAKE3 of the code.
    pub hash: TokenHash,
    /// [`SessionRow::id`](super::SessionRow::id).
    pub session_id: String,
    /// The host that it is for, with its port where that is not the scheme's own.
    pub host: String,
    /// BLAKE3 of the nonce in the browser's cookie on that host.
    pub nonce: TokenHash,
    /// The path on that host that the browser goes to.
    pub return_to: String,
    /// The time from which it is no good.
    pub expires_at: UnixSeconds,
}

/// No log has hashes and addresses.
impl std::fmt::Debug for CodeRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeRow")
            .field("session_id", &self.session_id)
            .field("host", &self.host)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A code of a client without cookies that has not been used. It goes with its account.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCodeRow {
    /// BLAKE3 of the code.
    pub hash: TokenHash,
    /// [`AccountRow::id`](super::AccountRow::id).
    pub account_id: String,
    /// Where the browser is led with it.
    pub redirect_uri: String,
    /// The S256 code challenge (RFC 7636 section 4.2).
    pub challenge: String,
    /// How the user was authenticated.
    pub authentication: Authentication,
    /// The time from which it is no good.
    pub expires_at: UnixSeconds,
}

/// No log has hashes and addresses.
impl std::fmt::Debug for ClientCodeRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCodeRow")
            .field("account_id", &self.account_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// One-time codes.
pub trait CodeStore: Debug + Send + Sync {
    /// Adds a one-time code if its session is there, and deletes on the way the session's codes that have expired at
    /// `now`, and its oldest ones where there would be more than [`MOST_CODES`]. Returns whether it was added.
    fn add_code(&self, code: &CodeRow, now: UnixSeconds) -> Result<bool, StateError>;

    /// Takes a code out, in one step: of several requests for it one gets it. `None` where there is none, or its
    /// session has ended. The caller checks whether it has expired.
    fn take_code(&self, hash: &TokenHash) -> Result<Option<CodeRow>, StateError>;

    /// Adds a code of a client if its account is there and enabled, and deletes on the way those that have expired at `now`, and
    /// the account's oldest ones where there would be more than [`MOST_CODES`]. Returns whether it was added.
    fn add_client_code(&self, code: &ClientCodeRow, now: UnixSeconds) -> Result<bool, StateError>;

    /// Takes a code of a client out, in one step: of several requests for it one gets it. The caller checks whether it has
    /// expired.
    fn take_client_code(&self, hash: &TokenHash) -> Result<Option<ClientCodeRow>, StateError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_code_holds_no_hash_and_no_address() {
        let row = CodeRow {
            hash: [0xab; 32],
            session_id: "s1".to_owned(),
            host: "app.example.com".to_owned(),
            nonce: [0xcd; 32],
            return_to: "/reset?token=secret".to_owned(),
            expires_at: 7,
        };
        let text = format!("{row:?}");
        assert!(
            text.contains("s1") && !text.contains("171") && !text.contains("205"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }
}
