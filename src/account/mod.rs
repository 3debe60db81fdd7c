//! Local accounts: what an address and a password may be, hashing, signing in, and what happens when an account changes.
//!
//! Input: text from a form, from the command line, or from an export of another system. Output: accounts in the state, and a
//! [`PasswordProof`] for the right password. Invariants: an unknown account, a disabled one and a wrong password cannot be
//! told apart; no password is kept in the clear; no log and no error has a hash.

mod email;
mod error;
mod hash;
mod hasher;
pub(crate) mod import;
mod limits;
mod login_attempt;
mod policy;

use std::sync::Arc;

use crate::clock::{Clock, UnixSeconds};
use crate::identity::new_id;
use crate::state::email::normal as normal_email;
pub(crate) use crate::state::email::{key as fold_email, look as look_of_email};
use crate::state::{
    AccountChange, AccountRow, Added, EndCause, EndSessions, IdentityRow, Linked, State, StateError,
    TokenHash, Unlinked, Ways,
};

pub(crate) use email::{is_canonical as is_canonical_email, is_valid as is_email};
pub(crate) use error::AccountError;
pub use hash::hash;
pub(crate) use hasher::{Hasher, HasherError};
pub(crate) use login_attempt::{LoginAttempt, PasswordProof};
pub use policy::Policy;
pub(crate) use policy::{parse_name, tidy_roles};

/// An account to add.
#[derive(Clone)]
pub struct NewAccount {
    /// `None`: a new UUID v7.
    pub id: Option<String>,
    /// As typed; white space around it is dropped.
    pub email: String,
    /// The display name; white space around it is dropped.
    pub name: Option<String>,
    /// In any order.
    pub roles: Vec<String>,
    /// One that [`hash::check_hash`] accepts. `None`: the account has no password.
    pub password_hash: Option<String>,
    /// Whether sign-in is refused.
    pub disabled: bool,
    /// Whether the address is known to belong to the owner; one that was only typed is not.
    pub confirmed: bool,
}

/// A hash can be guessed at, so no log has it.
impl std::fmt::Debug for NewAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewAccount")
            .field("id", &self.id)
            .field("email", &self.email)
            .field("roles", &self.roles)
            .field("disabled", &self.disabled)
            .field("confirmed", &self.confirmed)
            .finish_non_exhaustive()
    }
}

/// The accounts in a state. All methods that return a [`StateError`] block, on the state.
#[derive(Debug)]
pub struct Accounts {
    state: Arc<dyn State>,
    clock: Clock,
    policy: Policy,
}

impl Accounts {
    /// The accounts in `state`, under `policy`.
    #[must_use]
    pub fn new(state: Arc<dyn State>, clock: Clock, policy: Policy) -> Self {
        Self { state, clock, policy }
    }

    /// What the configuration says about accounts.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Checks a registration, without the state and without hashing.
    ///
    /// # Errors
    /// [`AccountError::EmailInvalid`], [`AccountError::NameInvalid`], and those of [`Policy::check_password`].
    pub fn check_new(&self, email: &str, name: Option<&str>, password: &str) -> Result<(), AccountError> {
        if !email::is_valid(email) {
            return Err(AccountError::EmailInvalid);
        }
        policy::parse_name(name.unwrap_or_default())?;
        self.policy.check_password(email, password)
    }

    /// Adds an account; with a role in `first`, only where no enabled account has that role.
    ///
    /// # Errors
    /// What is wrong with `new`, or the state failed.
    pub fn add(&self, new: NewAccount, first: Option<&str>) -> Result<AccountRow, AccountError> {
        let account = prepare(new, self.clock.now())?;
        match self.state.add_account(&account, first)? {
            Added::Done => Ok(account),
            Added::EmailTaken => Err(AccountError::EmailTaken),
            Added::Lookalike => Err(AccountError::EmailLookalike),
            Added::IdTaken => Err(AccountError::IdTaken),
            Added::NotFirst => Err(AccountError::NotFirst),
        }
    }

    /// Changes an account, and returns it as it is then; `None` where there is none. Its sessions, but for `end.keep`, end
    /// where it is disabled or gets another password. With another name or other roles they go on, and their tokens are
    /// renewed.
    ///
    /// # Errors
    /// The roles are not those of an account, or the state failed.
    pub fn change(
        &self,
        id: &str,
        mut change: AccountChange,
        end: &EndSessions<'_>,
    ) -> Result<Option<AccountRow>, AccountError> {
        change.roles = change.roles.map(policy::tidy_roles).transpose()?;
        change.ends_sessions = change.disabled == Some(true) || change.password_hash.is_some();
        Ok(self.state.change_account(id, &change, end)?)
    }

    /// Deletes an account and ends its sessions. Returns whether there was one.
    ///
    /// # Errors
    /// The state failed.
    pub fn delete(&self, id: &str, end: &EndSessions<'_>) -> Result<bool, StateError> {
        self.state.delete_account(id, end)
    }

    /// All accounts, in the order of their addresses.
    ///
    /// # Errors
    /// The state failed.
    pub fn all(&self) -> Result<Vec<AccountRow>, StateError> {
        self.state.accounts()
    }

    /// The account with this id.
    ///
    /// # Errors
    /// The state failed.
    pub fn by_id(&self, id: &str) -> Result<Option<AccountRow>, StateError> {
        self.state.account(id)
    }

    /// The account with this address, however it is typed.
    ///
    /// # Errors
    /// The state failed.
    pub fn by_email(&self, email: &str) -> Result<Option<AccountRow>, StateError> {
        self.state.account_by_email(&fold_email(email))
    }

    /// The account whose address looks like this one and is another, where there is one that keeps it from being taken.
    ///
    /// # Errors
    /// The state failed.
    pub fn lookalike(&self, email: &str) -> Result<Option<AccountRow>, StateError> {
        self.state.lookalike(&fold_email(email))
    }

    /// Whether an enabled account has this role.
    ///
    /// # Errors
    /// The state failed.
    pub fn has_enabled(&self, role: &str) -> Result<bool, StateError> {
        self.state.has_enabled_account(role)
    }

    /// An attempt to sign in with this address. Also where there is no such account, or a disabled one: verifying it then
    /// costs the same and fails.
    ///
    /// # Errors
    /// The state failed.
    pub fn attempt(&self, email: &str) -> Result<LoginAttempt, StateError> {
        // No account has an address this long, and folding it could take a while.
        let account = if email.trim().len() > email::MAX_BYTES {
            None
        } else {
            self.by_email(email)?
        };
        self.attempt_of(account)
    }

    /// As [`Accounts::attempt`], for an account that is signed in and gives the password once more.
    ///
    /// # Errors
    /// The state failed.
    pub fn attempt_by_id(&self, id: &str) -> Result<LoginAttempt, StateError> {
        self.attempt_of(self.state.account(id)?)
    }

    fn attempt_of(&self, account: Option<AccountRow>) -> Result<LoginAttempt, StateError> {
        // Searched for in every case: that takes time, too.
        let imported = self.state.imported_hash(hash::OWN)?;
        Ok(LoginAttempt::new(account, imported.as_deref()))
    }

    /// Notes that an attempt to sign in with a provider was completed: of several requests for it one gets `true`. It is
    /// forgotten after `lifetime` seconds.
    ///
    /// # Errors
    /// The state failed.
    pub fn spend_attempt(&self, hash: &TokenHash, lifetime: UnixSeconds) -> Result<bool, StateError> {
        let now = self.clock.now();
        self.state.spend_attempt(hash, now.saturating_add(lifetime), now)
    }

    /// The account of an identity at a provider, made where the identity is new; with `joins`, a new identity is linked to the
    /// confirmed local account of its address, where there is one; see
    /// [`IdentityStore::sign_in_identity`](crate::state::IdentityStore::sign_in_identity). `identity.account_id` and
    /// `identity.updated_at` are set here. `revoked_until` is that of the sessions.
    ///
    /// # Errors
    /// The system has no random numbers, or the state failed.
    pub fn sign_in_identity(
        &self,
        mut identity: IdentityRow,
        joins: bool,
        revoked_until: UnixSeconds,
    ) -> Result<AccountRow, AccountError> {
        let now = self.clock.now();
        let id = new_id(now).map_err(|_| AccountError::NoRandomNumbers)?;
        (identity.account_id, identity.updated_at) = (id.to_string(), now);
        if let Some(email) = identity.email.as_ref().filter(|_| joins) {
            let key = fold_email(email);
            self.state
                .join_identity(&identity, &key, &self.ending(revoked_until))?;
        }
        Ok(self
            .state
            .sign_in_identity(&identity, &self.ending(revoked_until))?)
    }

    /// The identities of an account.
    ///
    /// # Errors
    /// The state failed.
    pub fn identities(&self, id: &str) -> Result<Vec<IdentityRow>, StateError> {
        self.state.identities(Some(id))
    }

    /// Links an identity at a provider to the account `identity.account_id`, in one of its sessions; see
    /// [`IdentityStore::link_identity`](crate::state::IdentityStore::link_identity). `identity.updated_at` is set here.
    ///
    /// # Errors
    /// The state failed.
    pub fn link_identity(
        &self,
        mut identity: IdentityRow,
        session_id: &str,
        revoked_until: UnixSeconds,
    ) -> Result<Linked, StateError> {
        identity.updated_at = self.clock.now();
        self.state
            .link_identity(&identity, session_id, &self.ending(revoked_until))
    }

    /// Removes an identity at a provider from an account, unless it is the last of `ways` to sign in.
    ///
    /// # Errors
    /// The state failed.
    pub fn unlink_identity(
        &self,
        identity: &IdentityRow,
        ways: &Ways,
        revoked_until: UnixSeconds,
    ) -> Result<Unlinked, StateError> {
        let named = (&*identity.provider, &*identity.subject);
        self.state
            .unlink_identity(&identity.account_id, named, ways, &self.ending(revoked_until))
    }

    /// Ends no session: tokens become stale.
    fn ending(&self, revoked_until: UnixSeconds) -> EndSessions<'static> {
        EndSessions {
            cause: EndCause::LinkRemoved,
            now: self.clock.now(),
            revoked_until,
            keep: None,
        }
    }

    /// The same between two sign-ins, for an identity of the account `identity.account_id`; `None` where it is not one.
    ///
    /// # Errors
    /// The state cannot be used.
    pub(crate) fn update_identity(
        &self,
        mut identity: IdentityRow,
        revoked_until: UnixSeconds,
    ) -> Result<Option<AccountRow>, AccountError> {
        identity.updated_at = self.clock.now();
        let end = EndSessions {
            cause: EndCause::LinkRemoved,
            now: identity.updated_at,
            revoked_until,
            keep: None,
        };
        Ok(self.state.update_identity(&identity, &end)?)
    }

    /// Puts the new hash in place of an imported one. Where the password was changed meanwhile, nothing happens.
    ///
    /// # Errors
    /// The state failed.
    pub fn rehash(&self, proof: &PasswordProof) -> Result<(), StateError> {
        match &proof.rehash {
            Some((from, to)) => self.state.rehash_account(&proof.account.id, from, to).map(|_| ()),
            None => Ok(()),
        }
    }
}

/// The row of a new account, if it may be one.
fn prepare(new: NewAccount, now: UnixSeconds) -> Result<AccountRow, AccountError> {
    if !email::is_valid(&new.email) {
        return Err(AccountError::EmailInvalid);
    }
    if let Some(id) = &new.id {
        policy::check_id(id)?;
    }
    if let Some(hash) = &new.password_hash {
        hash::check_hash(hash)?;
    }
    Ok(AccountRow {
        id: match new.id {
            Some(id) => id,
            None => new_id(now)
                .map_err(|_| AccountError::NoRandomNumbers)?
                .to_string(),
        },
        email_key: fold_email(&new.email),
        email: normal_email(&new.email),
        name: policy::parse_name(new.name.as_deref().unwrap_or_default())?,
        roles: policy::tidy_roles(new.roles)?,
        granted_roles: Vec::new(),
        password_version: i64::from(new.password_hash.is_some()),
        revision: 0,
        password_hash: new.password_hash,
        disabled: new.disabled,
        confirmed: new.confirmed,
        created_at: now,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::state::sqlite::Sqlite;

    const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
    const NOW: UnixSeconds = 1_700_000_000;

    fn accounts() -> Accounts {
        let policy = Policy {
            min_length: 8,
            default_roles: vec!["user".to_owned()],
        };
        Accounts::new(Arc::new(Sqlite::in_memory().unwrap()), Clock::fixed(NOW), policy)
    }

    fn new(email: &str) -> NewAccount {
        NewAccount {
            id: None,
            email: email.to_owned(),
            name: Some("  Ann ".to_owned()),
            roles: vec!["user".to_owned(), "admin".to_owned(), "user".to_owned()],
            password_hash: Some(BCRYPT.to_owned()),
            disabled: false,
            confirmed: true,
        }
    }

    fn new_password(hash: String) -> AccountChange {
        AccountChange {
            password_hash: Some(hash),
            ..AccountChange::default()
        }
    }

    /// Whether anything was kept.
    fn is_empty(accounts: &Accounts) -> bool {
        accounts.state.accounts().unwrap().is_empty()
    }

    const END: EndSessions<'static> = EndSessions {
        cause: EndCause::LinkRemoved,
        now: NOW,
        revoked_until: NOW + 900,
        keep: None,
    };

    #[test]
    fn an_account_is_kept_tidied_and_found_however_its_address_is_typed() {
        let accounts = accounts();
        assert!(is_empty(&accounts));
        let added = accounts.add(new(" Ann@Example.com "), None).unwrap();
        assert_eq!(uuid::Uuid::parse_str(&added.id).unwrap().get_version_num(), 7);
        assert_eq!(
            (added.email.as_str(), added.email_key.as_str()),
            ("Ann@Example.com", "ann@example.com")
        );
        assert_eq!(added.name.as_deref(), Some("Ann"));
        assert_eq!(added.roles, ["admin", "user"]);
        assert_eq!((added.created_at, added.password_version), (NOW, 1));
        assert!(accounts.has_enabled("user").unwrap() && !accounts.has_enabled("ops").unwrap());
        assert!(accounts.by_id(&added.id).unwrap() == Some(added.clone()));
        assert!(accounts.by_email("ANN@example.com ").unwrap() == Some(added));
        assert!(accounts.by_email("bob@example.com").unwrap().is_none());
    }

    #[test]
    fn two_accounts_never_share_an_address_or_an_id() {
        let accounts = accounts();
        let add = |email: &str, id: Option<&str>, first: Option<&str>| {
            accounts
                .add(
                    NewAccount {
                        id: id.map(str::to_owned),
                        ..new(email)
                    },
                    first,
                )
                .map(|row| row.email)
        };
        assert_eq!(add("ann@b", Some("1"), Some("admin")), Ok("ann@b".to_owned()));
        assert_eq!(add("ANN@B", None, None), Err(AccountError::EmailTaken));
        assert_eq!(add("bob@b", Some("1"), None), Err(AccountError::IdTaken));
        assert_eq!(add("bob@b", None, Some("admin")), Err(AccountError::NotFirst));
    }

    #[test]
    fn an_address_that_looks_like_anothers_is_refused_and_one_that_is_the_same_in_other_letters_is_found() {
        let accounts = accounts();
        let add = |email: &str| accounts.add(new(email), None).map(|row| row.email);
        assert_eq!(
            add("\u{ff21}nn@example.com"),
            Ok("Ann@example.com".to_owned()),
            "kept without full-width letters"
        );
        assert!(accounts.by_email("ann\u{ff20}example.com").unwrap().is_some());
        assert_eq!(add("ann@example\u{3002}com"), Err(AccountError::EmailTaken));
        assert_eq!(add("\u{430}nn@example.com"), Err(AccountError::EmailLookalike));
        assert!(
            accounts
                .lookalike("\u{430}nn@example.com")
                .unwrap()
                .is_some_and(|row| row.email == "Ann@example.com")
        );
        for different in [
            "burn@example.com",
            "bum@example.com",
            "a1@example.com",
            "al@example.com",
            "m\u{fc}ller@b",
        ] {
            assert_eq!(add(different), Ok(different.to_owned()));
        }
        assert_eq!(add("muller@b"), Ok("muller@b".to_owned()));
    }

    #[test]
    fn what_cannot_be_an_account_never_reaches_the_state() {
        let accounts = accounts();
        let refused = |new: NewAccount| accounts.add(new, None).map(|_| ());
        let good = new("ann@b");
        assert_eq!(refused(new("ann")), Err(AccountError::EmailInvalid));
        assert_eq!(
            refused(NewAccount {
                name: Some("a\nb".into()),
                ..good.clone()
            }),
            Err(AccountError::NameInvalid)
        );
        for wrong in [
            NewAccount {
                id: Some(String::new()),
                ..good.clone()
            },
            NewAccount {
                roles: vec![String::new()],
                ..good.clone()
            },
            NewAccount {
                password_hash: Some("hunter2".into()),
                ..good
            },
        ] {
            assert!(matches!(
                refused(wrong),
                Err(AccountError::IdInvalid | AccountError::RoleInvalid { .. } | AccountError::Hash(_))
            ));
        }
        assert!(is_empty(&accounts));
    }

    #[test]
    fn a_registration_is_refused_for_the_first_thing_that_is_wrong() {
        let accounts = accounts();
        let good = "a quiet field";
        assert_eq!(accounts.check_new("ann@b", Some("Ann"), good), Ok(()));
        assert_eq!(accounts.check_new("ann@b", None, good), Ok(()));
        assert_eq!(
            accounts.check_new("ann", None, "short"),
            Err(AccountError::EmailInvalid)
        );
        assert_eq!(
            accounts.check_new("ann@b", Some("a\nb"), "short"),
            Err(AccountError::NameInvalid)
        );
        assert_eq!(
            accounts.check_new("ann@b", None, "short"),
            Err(AccountError::PasswordTooShort { least: 8 })
        );
        assert_eq!(
            accounts.check_new("ann@b", None, "password1"),
            Err(AccountError::PasswordCommon)
        );
        assert_eq!(
            accounts.policy().check_password("margarethe@b", "Margarethe"),
            Err(AccountError::PasswordCommon)
        );
        assert_eq!(
            accounts.policy().check_password("ann@b", &"x".repeat(4097)),
            Err(AccountError::PasswordTooLong)
        );
    }

    #[test]
    fn an_imported_hash_is_replaced_at_the_first_good_sign_in() {
        let accounts = accounts();
        let id = accounts.add(new("ann@b"), None).unwrap().id;
        assert!(accounts.attempt("ann@b").unwrap().verify("wrong horse").is_none());
        let proven = accounts
            .attempt(" ANN@b")
            .unwrap()
            .verify("correct horse")
            .unwrap();
        assert_eq!(proven.account.id, id);
        accounts.rehash(&proven).unwrap();
        let after = accounts.by_id(&id).unwrap().unwrap();
        assert!(
            after
                .password_hash
                .as_deref()
                .is_some_and(|hash| hash.starts_with(hash::OWN))
        );
        assert_eq!(
            after.password_version, 1,
            "it is the same password, so what it opened stays open"
        );
        let proven = accounts
            .attempt_by_id(&id)
            .unwrap()
            .verify("correct horse")
            .unwrap();
        assert!(proven.rehash.is_none());
    }

    #[test]
    fn a_replacement_that_comes_after_a_change_of_password_is_dropped() {
        let accounts = accounts();
        let id = accounts.add(new("ann@b"), None).unwrap().id;
        let proven = accounts
            .attempt_by_id(&id)
            .unwrap()
            .verify("correct horse")
            .unwrap();
        let changed = accounts
            .change(&id, new_password(hash("a quiet field").unwrap()), &END)
            .unwrap()
            .unwrap();
        assert_eq!(changed.password_version, 2);
        accounts.rehash(&proven).unwrap();
        assert!(
            accounts
                .attempt("ann@b")
                .unwrap()
                .verify("correct horse")
                .is_none()
        );
        assert!(
            accounts
                .attempt("ann@b")
                .unwrap()
                .verify("a quiet field")
                .is_some()
        );
        assert!(
            accounts
                .change("nobody", new_password(BCRYPT.to_owned()), &END)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn nobody_and_the_disabled_prove_nothing() {
        let accounts = accounts();
        accounts
            .add(
                NewAccount {
                    disabled: true,
                    ..new("ann@b")
                },
                None,
            )
            .unwrap();
        accounts
            .add(
                NewAccount {
                    password_hash: None,
                    ..new("bob@b")
                },
                None,
            )
            .unwrap();
        for email in ["ann@b", "bob@b", "carol@b", "", &"x".repeat(300)] {
            assert!(
                accounts.attempt(email).unwrap().verify("correct horse").is_none(),
                "{email}"
            );
        }
        assert!(
            accounts
                .attempt_by_id("nobody")
                .unwrap()
                .verify("correct horse")
                .is_none()
        );
    }

    #[test]
    fn debug_output_of_a_new_account_holds_no_hash() {
        assert!(!format!("{:?}", new("ann@b")).contains('$'));
    }
}
