//! Local accounts as they are kept.

use std::fmt::Debug;

use super::StateError;
use super::ending::EndSessions;
use crate::clock::UnixSeconds;

/// One account.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// What our tokens have as `sub`, and apps as `X-Auth-User`: it never changes, and no account is given one that was
    /// in use before. A UUID of version 7 unless it was imported: an import names ids itself, and by that may also bring a
    /// deleted account back to what the apps know about it.
    pub id: String,
    /// The address as it was typed.
    pub email: String,
    /// The address as it is compared: no two accounts have the same. That of an account of a provider is no address, but
    /// [`email_key_of`](super::identity::email_key_of) the identity that it was made by.
    pub email_key: String,
    /// The display name.
    pub name: Option<String>,
    /// The roles of its own, in order, each once.
    pub roles: Vec<String>,
    /// The roles that its identities at providers had at their last sign-in, in order, each once.
    pub granted_roles: Vec<String>,
    /// The hash of the password, in PHC or modular crypt format; `None`: the account has no password.
    pub password_hash: Option<String>,
    /// Whether sign-in is refused.
    pub disabled: bool,
    /// Whether the address is known to belong to the owner; one that was only typed is not.
    pub confirmed: bool,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// Counts the passwords that it had: a proven one opens a session only while it is the present one.
    pub password_version: i64,
    /// Counts the changes of its name, its roles and what is known of its address: tokens that were made of an earlier one are stale.
    pub revision: i64,
}

impl AccountRow {
    /// All roles, in order, each once: its own, and those of its identities.
    #[must_use]
    pub fn all_roles(&self) -> Vec<String> {
        let mut roles = [&self.roles[..], &self.granted_roles[..]].concat();
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    /// The provider and the subject that the account was made by; `None` for a local account.
    #[must_use]
    pub fn made_by(&self) -> Option<(&str, &str)> {
        self.email_key.strip_prefix(' ')?.split_once(' ')
    }

    /// The address; `None` for an account of a provider that names none.
    #[must_use]
    pub fn known_email(&self) -> Option<&str> {
        Some(&*self.email).filter(|email| !email.is_empty())
    }
}

/// A hash can be guessed at, so no log has it.
impl std::fmt::Debug for AccountRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountRow")
            .field("id", &self.id)
            .field("email", &self.email)
            .field("roles", &self.roles)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

/// What adding an account came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there.
    Done,
    /// Another one has this `email_key`.
    EmailTaken,
    /// Another one has an `email_key` that looks the same, and one of the two is not ASCII.
    Lookalike,
    /// Another one has this id.
    IdTaken,
    /// It was to be the first one with a role, and is not.
    NotFirst,
}

/// What is to be different about an account; `None` leaves it as it is.
#[derive(Clone, Default)]
pub struct AccountChange {
    /// The display name.
    pub name: Option<Option<String>>,
    /// All roles.
    pub roles: Option<Vec<String>>,
    /// Whether sign-in is refused.
    pub disabled: Option<bool>,
    /// Whether the address is known to be its owner's.
    pub confirmed: Option<bool>,
    /// The hash of a new password; raises `password_version`.
    pub password_hash: Option<String>,
    /// Whether its sessions end in the same step.
    pub ends_sessions: bool,
}

/// A change may hold a hash too.
impl std::fmt::Debug for AccountChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountChange")
            .field("name", &self.name)
            .field("roles", &self.roles)
            .field("disabled", &self.disabled)
            .field("confirmed", &self.confirmed)
            .finish_non_exhaustive()
    }
}

impl AccountChange {
    /// The account as it is after the change.
    pub(super) fn apply(&self, account: &mut AccountRow) {
        let is_other_name = self.name.as_ref().is_some_and(|name| *name != account.name);
        let are_other_roles = self.roles.as_ref().is_some_and(|roles| *roles != account.roles);
        let is_other_address = self
            .confirmed
            .is_some_and(|confirmed| confirmed != account.confirmed);
        if is_other_name || are_other_roles || is_other_address {
            account.revision = account.revision.saturating_add(1);
        }
        if let Some(name) = &self.name {
            account.name.clone_from(name);
        }
        if let Some(roles) = &self.roles {
            account.roles.clone_from(roles);
        }
        if let Some(disabled) = self.disabled {
            account.disabled = disabled;
        }
        if let Some(confirmed) = self.confirmed {
            account.confirmed = confirmed;
        }
        if let Some(hash) = &self.password_hash {
            account.password_hash = Some(hash.clone());
            account.password_version += 1;
        }
    }
}

/// Accounts.
pub trait AccountStore: Debug + Send + Sync {
    /// Adds an account. With a role in `first`, only where no enabled account has that role. Of several reasons not to, that
    /// comes first, then the email, then the id.
    fn add_account(&self, account: &AccountRow, first: Option<&str>) -> Result<Added, StateError>;

    /// The account with this id.
    fn account(&self, id: &str) -> Result<Option<AccountRow>, StateError>;

    /// The account with this `email_key`.
    fn account_by_email(&self, email_key: &str) -> Result<Option<AccountRow>, StateError>;

    /// All accounts, in the order of `email_key`.
    fn accounts(&self) -> Result<Vec<AccountRow>, StateError>;

    /// An account whose address looks like `email_key` and is another one, where one of the two is not ASCII. This is one search,
    /// however many accounts there are.
    fn lookalike(&self, email_key: &str) -> Result<Option<AccountRow>, StateError>;

    /// Whether an enabled account has `role`. Reads all accounts where there is none.
    fn has_enabled_account(&self, role: &str) -> Result<bool, StateError>;

    /// Changes an account, in one step, and returns it as it is then; `None` where there is none. With
    /// [`AccountChange::ends_sessions`], its sessions but for `end.keep` end in the same step, as by
    /// [`SessionStore::end_sessions`](super::SessionStore::end_sessions). Where its name, its roles or `confirmed` are others than before, so does a
    /// [`Target::Stale`](crate::revocation::Target::Stale) come to be, with `end`'s times.
    fn change_account(
        &self,
        id: &str,
        change: &AccountChange,
        end: &EndSessions<'_>,
    ) -> Result<Option<AccountRow>, StateError>;

    /// Puts a hash of the same password in place of `from`, if that is still the hash. Returns whether it was.
    fn rehash_account(&self, id: &str, from: &str, to: &str) -> Result<bool, StateError>;

    /// Deletes an account and its [`Target::Stale`](crate::revocation::Target::Stale), so that it does not hold for another one of the same id, and
    /// ends its sessions (there is none to keep), in one step. Returns whether there was one.
    fn delete_account(&self, id: &str, end: &EndSessions<'_>) -> Result<bool, StateError>;

    /// A hash that is not of the kind `like`, of the kind of which most accounts have one; `None` where all are like
    /// that. A kind is all that stands before the salt: algorithm, version, parameters (`$argon2id$v=19$m=19456,t=2,p=1`,
    /// with or without a `$` at the end). Every attempt to sign in spends what this hash costs to verify, so
    /// that the time does not tell whether an account exists; the search itself costs microseconds, however many accounts
    /// there are.
    fn imported_hash(&self, like: &str) -> Result<Option<String>, StateError>;
}

/// What a hash and others of the same algorithm, version and cost have in common: all before its salt, without the `$`
/// between. Salt and hash are two fields in PHC strings and one in bcrypt's. Kept in the state: never change what it
/// says about a hash without a step that brings the rows along.
pub(super) fn hash_kind(hash: &str) -> &str {
    let cut = |text: &'_ str| text.rfind('$').unwrap_or(0);
    let salt_and_hash = cut(hash);
    if hash.starts_with("$2") {
        &hash[..salt_and_hash]
    } else {
        &hash[..cut(&hash[..salt_and_hash])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_of_one_kind_when_they_differ_in_salt_and_hash_only() {
        for (hash, kind) in [
            (
                "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA",
                "$argon2id$v=19$m=19456,t=2,p=1",
            ),
            (
                "$argon2i$m=4096,t=3,p=1$c2FsdHNhbHQ$aGFzaA",
                "$argon2i$m=4096,t=3,p=1",
            ),
            (
                "$2b$12$abcdefghijklmnopqrstuuQhyBhl8ZdqfGpMGhDHnQR9l9nqo4z9W",
                "$2b$12",
            ),
            (
                "$2y$10$abcdefghijklmnopqrstuuQhyBhl8ZdqfGpMGhDHnQR9l9nqo4z9W",
                "$2y$10",
            ),
            ("", ""),
            ("plain", ""),
            ("$", ""),
            ("$$", ""),
        ] {
            assert_eq!(hash_kind(hash), kind, "{hash}");
        }
    }

    #[test]
    fn debug_output_holds_no_hash() {
        let account = AccountRow {
            id: "a1".to_owned(),
            email: "a@example.com".to_owned(),
            email_key: "a@example.com".to_owned(),
            name: None,
            roles: vec![],
            password_hash: Some("$2b$12$SECRET".to_owned()),
            disabled: false,
            confirmed: true,
            created_at: 1,
            granted_roles: Vec::new(),
            password_version: 1,
            revision: 0,
        };
        let change = AccountChange {
            password_hash: account.password_hash.clone(),
            ..AccountChange::default()
        };
        let text = format!("{account:?} {change:?}");
        assert!(text.contains("a1") && !text.contains("SECRET"), "{text}");
    }
}
