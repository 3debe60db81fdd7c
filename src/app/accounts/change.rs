//! Adds, changes and deletes accounts.

use zeroize::Zeroizing;

use super::{Account, Directory, failed, refuse, refused, shown};
use crate::account::{self, AccountError, NewAccount};
use crate::app::Failure;
use crate::state::AccountChange;
use crate::values::did_you_mean;

/// A change of an account's roles.
#[derive(Clone, Debug)]
pub(crate) enum RolesChange {
    /// Replaces all roles.
    Set(Vec<String>),
    /// Adds and removes some.
    Edit {
        /// Roles to add.
        add: Vec<String>,
        /// Roles to remove.
        remove: Vec<String>,
    },
}

impl Directory {
    /// Checks an account before its password is asked for.
    ///
    /// # Errors
    /// What is wrong with it, or that its address is taken.
    pub(crate) fn check_new(&self, new: &NewAccount) -> Result<(), Failure> {
        let refuse = |error| Err(refused(error, &new.email));
        if !account::is_email(&new.email) {
            return refuse(AccountError::EmailInvalid);
        }
        if self.accounts.by_email(&new.email).map_err(failed)?.is_some() {
            return refuse(AccountError::EmailTaken);
        }
        if let Some(other) = self.accounts.lookalike(&new.email).map_err(failed)? {
            return Err(refused(AccountError::EmailLookalike, &other.email));
        }
        account::parse_name(new.name.as_deref().unwrap_or_default())
            .map(drop)
            .and_then(|()| account::tidy_roles(new.roles.clone()).map(drop))
            .or_else(refuse)
    }

    /// Whether an account can have a password. One that a provider made has no address of its own to sign in with.
    ///
    /// # Errors
    /// It cannot.
    pub(crate) fn check_local(&self, account: &Account) -> Result<(), Failure> {
        let Some(provider) = &account.provider else {
            return Ok(());
        };
        Err(Failure::Refused(format!(
            "error: `{}` is an account of the provider `{provider}` and cannot have a password\n\
             hint: its user signs in with the provider; `passgate user add EMAIL` makes a local account\n",
            account.called()
        )))
    }

    /// Whether `password` may be the new one of the account with the address `email`.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it.
    pub(crate) fn check_password(&self, email: &str, password: &str) -> Result<(), Failure> {
        self.accounts
            .policy()
            .check_password(email, password)
            .map_err(|error| refused(error, email))
    }

    /// Makes an account; without a password, it cannot be signed in to by password.
    ///
    /// # Errors
    /// As of [`Directory::check_new`] and [`Directory::check_password`], or the state cannot be written.
    pub(crate) fn add(
        &self,
        new: NewAccount,
        password: Option<&Zeroizing<String>>,
    ) -> Result<Account, Failure> {
        let password_hash = password
            .map(|password| self.hash(&new.email, password))
            .transpose()?;
        let email = new.email.clone();
        let new = NewAccount { password_hash, ..new };
        let added = self.accounts.add(new, None);
        let added = added.map_err(|error| refused(error, &email))?;
        self.shown(added)
    }

    /// Changes the roles of an account. Its sessions go on, with them.
    ///
    /// # Errors
    /// It has no role that is to be removed, a role is none, or the state cannot be written.
    pub(crate) fn change_roles(&self, of: &Account, change: RolesChange) -> Result<Account, Failure> {
        let roles = match change {
            RolesChange::Set(roles) => roles,
            RolesChange::Edit { add, remove } => {
                if let Some(missing) = remove.iter().find(|role| !of.roles.contains(role)) {
                    return Err(no_role(of, missing));
                }
                of.roles
                    .iter()
                    .filter(|role| !remove.contains(role))
                    .cloned()
                    .chain(add)
                    .collect()
            }
        };
        self.change(of, |change| change.roles = Some(roles))
    }

    /// Gives an account another password and ends its sessions. Returns how many there were.
    ///
    /// # Errors
    /// The password may not be, or the state cannot be written.
    pub(crate) fn change_password(
        &self,
        of: &Account,
        password: &Zeroizing<String>,
    ) -> Result<usize, Failure> {
        let password_hash = Some(self.hash(&of.email, password)?);
        let sessions = self.count(of)?;
        self.change(of, |change| change.password_hash = password_hash)?;
        Ok(sessions)
    }

    /// Refuses every sign-in to an account and ends its sessions. Returns how many there were.
    ///
    /// # Errors
    /// The state cannot be written.
    pub(crate) fn disable(&self, account: &Account) -> Result<usize, Failure> {
        let sessions = self.count(account)?;
        self.change(account, |change| change.disabled = Some(true))?;
        Ok(sessions)
    }

    /// Admits sign-ins to an account again.
    ///
    /// # Errors
    /// The state cannot be written.
    pub(crate) fn enable(&self, account: &Account) -> Result<(), Failure> {
        self.change(account, |change| change.disabled = Some(false))
            .map(drop)
    }

    /// Confirms the address of an account. Its sessions go on, and apps get the address. Returns whether it was not
    /// confirmed before.
    ///
    /// # Errors
    /// The state cannot be written.
    pub(crate) fn confirm(&self, account: &Account) -> Result<bool, Failure> {
        if !account.confirmed {
            self.change(account, |change| change.confirmed = Some(true))?;
        }
        Ok(!account.confirmed)
    }

    /// Deletes an account and ends its sessions. Returns how many there were.
    ///
    /// # Errors
    /// The state cannot be written.
    pub(crate) fn delete(&self, account: &Account) -> Result<usize, Failure> {
        let sessions = self.count(account)?;
        let is_deleted = self.accounts.delete(&account.id, &self.ending());
        if !is_deleted.map_err(failed)? {
            return Err(gone(account));
        }
        Ok(sessions)
    }

    fn change(&self, of: &Account, set: impl FnOnce(&mut AccountChange)) -> Result<Account, Failure> {
        let mut change = AccountChange::default();
        set(&mut change);
        let changed = self.accounts.change(&of.id, change, &self.ending());
        let changed = changed.map_err(|error| refused(error, &of.email))?;
        self.shown(changed.ok_or_else(|| gone(of))?)
    }

    fn hash(&self, email: &str, password: &Zeroizing<String>) -> Result<String, Failure> {
        self.check_password(email, password)?;
        hash_password(password)
    }
}

/// Another process deleted it a moment ago.
fn gone(account: &Account) -> Failure {
    refuse(
        &format!(
            "`{}` was deleted by another command a moment ago",
            account.called()
        ),
        "`passgate user list` shows all accounts",
    )
}

/// A role that is not there is a typing error: the role that was meant would stay.
fn no_role(of: &Account, missing: &str) -> Failure {
    let hint =
        did_you_mean(missing, of.roles.iter().map(String::as_str)).unwrap_or_else(|| match &*of.roles {
            [] => "it has no roles".to_owned(),
            roles => format!("it has `{}`", roles.join("`, `")),
        });
    refuse(
        &format!(
            "`{}` has no role `{}`; nothing was changed",
            of.called(),
            shown(missing)
        ),
        &hint,
    )
}

/// The hash of a password, for an import or another program.
///
/// # Errors
/// It is too long, or hashing failed.
pub(crate) fn hash_password(password: &Zeroizing<String>) -> Result<String, Failure> {
    account::hash(password).map_err(|error| refused(error, ""))
}
