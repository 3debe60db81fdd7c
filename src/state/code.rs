//! One-time codes: by one of them a session goes from one host to another.

use super::TokenHash;
use crate::clock::UnixSeconds;

/// The most codes of one session that are kept at a time.
pub const MOST_CODES: usize = 20;

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

/// Hashes and addresses stand in no log.
impl std::fmt::Debug for CodeRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeRow")
            .field("session_id", &self.session_id)
            .field("host", &self.host)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
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
