//! Identities at providers: which account a subject of a provider is, and the attempts to sign in that were completed.

use std::fmt::Debug;

use super::StateError;
use super::account::AccountRow;
use super::ending::EndSessions;
use super::session::TokenHash;
use crate::clock::UnixSeconds;

/// What an account that an identity made has in place of an address that is compared. It begins with a space, which no
/// address does: an address is unique among local accounts alone.
#[must_use]
pub(crate) fn email_key_of(provider: &str, subject: &str) -> String {
    format!(" {provider} {subject}")
}

/// What a provider says about a subject at a sign-in.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityRow {
    /// The name of the provider in the TOML.
    pub provider: String,
    /// The subject, unique at the provider.
    pub subject: String,
    /// The id that the account gets where the subject is new.
    pub account_id: String,
    /// The email address, where the provider names one.
    pub email: Option<String>,
    /// Whether the provider has verified the address.
    pub email_verified: bool,
    /// The display name.
    pub name: Option<String>,
    /// The roles that this sign-in gives, in order, each once.
    pub roles: Vec<String>,
    /// The time of the sign-in.
    pub updated_at: UnixSeconds,
}

impl IdentityRow {
    /// The provider and the subject, which name it.
    #[must_use]
    pub(crate) fn named(&self) -> (&str, &str) {
        (&self.provider, &self.subject)
    }
}

impl Debug for IdentityRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityRow")
            .field("provider", &self.provider)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// The most identities of one account.
pub(crate) const MOST_IDENTITIES: usize = 20;

/// What linking an identity to an account came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linked {
    /// It is one of the account's now, or was before.
    Done(AccountRow),
    /// It belongs to another account.
    OtherAccount,
    /// The account has [`MOST_IDENTITIES`] already.
    TooMany,
    /// The session is over, or the account is disabled.
    NoSession,
}

/// What removing an identity came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// It is gone, and its roles with it.
    Done,
    /// The account has no such identity.
    Missing,
    /// The account could not be signed in to any more.
    Last,
}

/// The ways to sign in that the configuration has.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// Whether accounts with a password can sign in by it.
    pub password: bool,
    /// The names of the providers.
    pub providers: Vec<String>,
}

/// Identities at providers.
pub trait IdentityStore: Debug + Send + Sync {
    /// Notes that an attempt was completed, in one step: of several requests for it one gets `true`. It is forgotten at
    /// `expires_at`; the ones that have expired at `now` are deleted on the way.
    fn spend_attempt(
        &self,
        hash: &TokenHash,
        expires_at: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<bool, StateError>;

    /// Whether something was noted by [`IdentityStore::spend_attempt`] and has not expired.
    fn is_spent(&self, hash: &TokenHash, now: UnixSeconds) -> Result<bool, StateError>;

    /// The identities of one account, or all; in the order of provider and subject.
    fn identities(&self, account_id: Option<&str>) -> Result<Vec<IdentityRow>, StateError>;

    /// The account of an identity.
    fn account_of_identity(&self, provider: &str, subject: &str) -> Result<Option<AccountRow>, StateError>;

    /// Links an identity to the account `identity.account_id`, in one step, if `session_id` is one of its sessions. The
    /// address and the name of the account stay; other roles make tokens stale as by a sign-in.
    fn link_identity(
        &self,
        identity: &IdentityRow,
        session_id: &str,
        end: &EndSessions<'_>,
    ) -> Result<Linked, StateError>;

    /// Links an identity that has no account to the local account with this `email_key`, in one step, if the address of the
    /// account is confirmed and that of the identity but for the case of letters, and the account has no identity at the same provider. Returns whether it did. Also for a disabled
    /// account, so that the user does not get another one.
    fn join_identity(
        &self,
        identity: &IdentityRow,
        email_key: &str,
        end: &EndSessions<'_>,
    ) -> Result<bool, StateError>;

    /// Removes an identity from an account, in one step, unless it is the last of `ways` to sign in to it. Where the account
    /// was made by it, the identity with the latest sign-in takes its place, with address and name. Other roles, or another
    /// address, make tokens stale as by a sign-in.
    fn unlink_identity(
        &self,
        account_id: &str,
        identity: (&str, &str),
        ways: &Ways,
        end: &EndSessions<'_>,
    ) -> Result<Unlinked, StateError>;

    /// The account of an identity as it is after this sign-in, in one step: an unknown identity makes a new account
    /// without a password, a known one takes over the roles, and the identity that the account was made by the address and
    /// the name, too. Where one of them is another than
    /// before, tokens of the account become stale as by
    /// [`AccountStore::change_account`](super::AccountStore::change_account). A disabled account stays as it is.
    fn sign_in_identity(
        &self,
        identity: &IdentityRow,
        end: &EndSessions<'_>,
    ) -> Result<AccountRow, StateError>;

    /// The same for an identity that is known as one of the account `identity.account_id`, between two sign-ins; `None`
    /// where it is not, and nothing is changed then.
    fn update_identity(
        &self,
        identity: &IdentityRow,
        end: &EndSessions<'_>,
    ) -> Result<Option<AccountRow>, StateError>;
}
