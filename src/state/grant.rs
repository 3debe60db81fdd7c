//! What a provider granted for a session: its tokens, sealed by the caller.

use std::fmt::Debug;

use super::StateError;
use crate::clock::UnixSeconds;

/// The grant of a session. It goes with the session.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// [`SessionRow::id`](super::SessionRow::id).
    pub session_id: String,
    /// [`SessionRow::account_id`](super::SessionRow::account_id); not kept here.
    pub account_id: String,
    /// The name of the provider in the TOML.
    pub provider: String,
    /// The subject at the provider.
    pub subject: String,
    /// The tokens, encrypted.
    pub sealed: Vec<u8>,
    /// Whether there is a refresh token among them.
    pub refreshes: bool,
    /// When the provider was last asked who the user is.
    pub read_at: UnixSeconds,
}

/// No log has tokens, encrypted or not.
impl Debug for GrantRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrantRow")
            .field("session_id", &self.session_id)
            .field("provider", &self.provider)
            .field("refreshes", &self.refreshes)
            .field("read_at", &self.read_at)
            .finish_non_exhaustive()
    }
}

/// A time during which one process alone exchanges the refresh token of a grant.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// When it begins.
    pub now: UnixSeconds,
    /// When others may try.
    pub until: UnixSeconds,
}

/// Grants.
pub trait GrantStore: Debug + Send + Sync {
    /// Adds the grant of a session, if the session is there. Returns whether it was added.
    fn add_grant(&self, grant: &GrantRow) -> Result<bool, StateError>;

    /// The grant of a session.
    fn grant(&self, session_id: &str) -> Result<Option<GrantRow>, StateError>;

    /// Leases grants with a refresh token that were read at `read_before` or earlier, whose session was seen since, the
    /// longest unread first, at most `most`. One that is leased is left out.
    fn lease_due_grants(
        &self,
        read_before: UnixSeconds,
        lease: Lease,
        most: usize,
    ) -> Result<Vec<GrantRow>, StateError>;

    /// Leases the grant of a session, if it has a refresh token and is not leased.
    fn lease_grant(&self, session_id: &str, lease: Lease) -> Result<Option<GrantRow>, StateError>;

    /// Keeps other tokens of a grant, and lets its lease end at `leased_until`. Returns whether the grant is there.
    fn save_grant(&self, grant: &GrantRow, leased_until: UnixSeconds) -> Result<bool, StateError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_grant_holds_no_token() {
        let row = GrantRow {
            session_id: "s1".to_owned(),
            account_id: "a".to_owned(),
            provider: "corp".to_owned(),
            subject: "ann".to_owned(),
            sealed: b"SEALED".to_vec(),
            refreshes: true,
            read_at: 7,
        };
        let text = format!("{row:?}");
        assert!(
            text.contains("s1") && !text.contains("83") && !text.contains("ann"),
            "{text}"
        );
    }
}
