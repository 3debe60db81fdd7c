//! The accounts and sessions of a state as the command line sees them.
//!
//! Input: a configuration file, and a change. Output: what is there then, without a hash. Invariants: no text has a
//! password; the sessions of an account that may not sign in have ended.
//!
//! Nothing but the text of the file is read (see [`outline`]), so that all of it works in a shell
//! that cannot read the gateway's secrets. A running gateway sees what is written here when it next looks at the state.

mod change;
mod import;
mod sessions;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::config::{Outline, outline};
use super::offline::open_recorded;
use super::{Failure, failed, time_text};
use crate::account::{AccountError, Accounts, fold_email};
use crate::clock::Clock;
use crate::config::nearest;
use crate::session;
use crate::state::{AccountRow, EndCause, EndSessions, IdentityRow, State};
use crate::values::text::is_unprintable;

pub(crate) use change::{RolesChange, hash_password};
pub(crate) use import::{ImportMode, Imported};
pub(crate) use sessions::Session;

/// An account, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Account {
    /// What apps get as `X-Auth-User`.
    pub id: String,
    /// The address as it was typed.
    pub email: String,
    /// The display name.
    pub name: Option<String>,
    /// The roles, in order.
    pub roles: Vec<String>,
    /// Whether sign-in is refused.
    pub disabled: bool,
    /// Whether the address is known to belong to the owner; one that was only typed is not.
    pub confirmed: bool,
    /// How the password is hashed, `argon2id` or `bcrypt`; `None`: there is none.
    pub password_hash: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// The provider that it was made by; `None`: it is a local account.
    pub provider: Option<String>,
    /// The roles that its identities give, in order.
    pub granted_roles: Vec<String>,
    /// What it signs in with at providers.
    pub identities: Vec<Identity>,
}

/// An identity at a provider, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Identity {
    /// The name of the provider in the file.
    pub provider: String,
    /// The subject at the provider.
    pub subject: String,
    /// The address that the provider names.
    pub email: Option<String>,
    /// Whether the provider has verified the address.
    pub email_verified: bool,
    /// RFC 3339.
    pub last_sign_in_at: String,
}

impl From<IdentityRow> for Identity {
    fn from(row: IdentityRow) -> Self {
        Self {
            provider: row.provider,
            subject: row.subject,
            email: row.email,
            email_verified: row.email_verified,
            last_sign_in_at: time_text(row.updated_at),
        }
    }
}

impl Account {
    /// What messages call it: the address, or the id where there is none.
    #[must_use]
    pub(crate) fn called(&self) -> &str {
        if self.email.is_empty() {
            &self.id
        } else {
            &self.email
        }
    }

    /// What a command finds it by: several accounts of providers may have one address.
    #[must_use]
    pub(crate) fn found_by(&self) -> &str {
        if self.provider.is_some() {
            &self.id
        } else {
            self.called()
        }
    }

    /// The account without its identities.
    fn without_identities(row: AccountRow) -> Self {
        Self {
            provider: row.made_by().map(|(provider, _)| provider.to_owned()),
            granted_roles: row.granted_roles,
            identities: Vec::new(),
            password_hash: row.password_hash.as_deref().map(scheme),
            id: row.id,
            email: row.email,
            name: row.name,
            roles: row.roles,
            disabled: row.disabled,
            confirmed: row.confirmed,
            created_at: time_text(row.created_at),
        }
    }
}

/// How a hash was made: the word between its first two `$`.
fn scheme(hash: &str) -> String {
    match hash.split('$').nth(1).unwrap_or_default() {
        kind if kind.starts_with('2') => "bcrypt".to_owned(),
        kind => kind.to_owned(),
    }
}

/// The accounts of one state.
#[derive(Debug)]
pub(crate) struct Directory {
    state: Arc<dyn State>,
    accounts: Accounts,
    clock: Clock,
    /// What sessions are like.
    session: session::Settings,
    /// Whether the file has `[password]`.
    by_password: bool,
}

impl Directory {
    /// Opens the state that `file` names.
    ///
    /// # Errors
    /// The file or the state cannot be used.
    pub(crate) fn open(file: &Path) -> Result<Self, Failure> {
        let outline = outline(file)?;
        let state = open_recorded(&outline, file)?;
        Ok(Self::new(state, Clock::system(), &outline))
    }

    pub(super) fn new(state: Arc<dyn State>, clock: Clock, outline: &Outline) -> Self {
        Self {
            accounts: Accounts::new(Arc::clone(&state), clock.clone(), outline.policy()),
            state,
            clock,
            session: outline.session_settings(),
            by_password: outline.raw.password.is_some(),
        }
    }

    /// Whether the file lets local accounts sign in by password.
    #[must_use]
    pub(crate) fn by_password(&self) -> bool {
        self.by_password
    }

    /// All accounts, in the order of their addresses.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<Account>, Failure> {
        let all = self.accounts.all().map_err(failed)?;
        let mut identities: HashMap<String, Vec<Identity>> = HashMap::new();
        for row in self.state.identities(None).map_err(failed)? {
            let of = identities.entry(row.account_id.clone()).or_default();
            of.push(row.into());
        }
        let with_identities = |row: AccountRow| Account {
            identities: identities.remove(&row.id).unwrap_or_default(),
            ..Account::without_identities(row)
        };
        let mut accounts: Vec<Account> = all.into_iter().map(with_identities).collect();
        accounts.sort_by_cached_key(|account| fold_email(&account.email));
        Ok(accounts)
    }

    /// The account with this email address or id.
    ///
    /// # Errors
    /// There is none, several have the address, or the state cannot be read.
    pub(crate) fn account(&self, who: &str) -> Result<Account, Failure> {
        self.shown(self.find(who)?)
    }

    fn shown(&self, row: AccountRow) -> Result<Account, Failure> {
        let identities = self.state.identities(Some(&row.id)).map_err(failed)?;
        Ok(Account {
            identities: identities.into_iter().map(Identity::from).collect(),
            ..Account::without_identities(row)
        })
    }

    fn find(&self, who: &str) -> Result<AccountRow, Failure> {
        match self.find_or_none(who)? {
            Some(row) => Ok(row),
            None => Err(unknown(who, &self.accounts.all().map_err(failed)?)),
        }
    }

    /// An email address goes before an id that looks like it.
    fn find_or_none(&self, who: &str) -> Result<Option<AccountRow>, Failure> {
        let key = fold_email(who);
        let all = self.accounts.all().map_err(failed)?;
        let mut found: Vec<AccountRow> = all
            .into_iter()
            .filter(|row| row.known_email().is_some_and(|email| fold_email(email) == key))
            .collect();
        match found.pop() {
            None => self.accounts.by_id(who.trim()).map_err(failed),
            Some(row) if found.is_empty() => Ok(Some(row)),
            Some(row) => {
                found.push(row);
                Err(ambiguous(who, &found))
            }
        }
    }

    /// How sessions end now.
    fn ending(&self) -> EndSessions<'static> {
        let now = self.clock.now();
        EndSessions {
            cause: EndCause::Command,
            now,
            revoked_until: self.session.revoked_until(now),
            keep: None,
        }
    }
}

/// What is wrong with an account, and what to do about it.
fn refused(error: AccountError, email: &str) -> Failure {
    let hint = match error {
        AccountError::State(error) => return failed(error),
        AccountError::HashingFailed => return failed(error),
        AccountError::EmailTaken | AccountError::EmailLookalike => {
            format!("`passgate user show {}` shows it", shown(email))
        }
        AccountError::PasswordTooShort { .. } | AccountError::PasswordCommon => {
            "four or five words at random are hard to guess and easy to remember".to_owned()
        }
        _ => "nothing was changed".to_owned(),
    };
    refuse(&error.to_string(), &hint)
}

/// What an operator asked for cannot be done.
fn refuse(error: &str, hint: &str) -> Failure {
    Failure::Config(format!("error: {error}\nhint: {hint}\n"))
}

/// Foreign text without control characters, at most 256 characters of it.
fn shown(text: &str) -> String {
    text.chars()
        .map(|letter| {
            if is_unprintable(letter) {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .take(256)
        .collect()
}

/// An address is unique among local accounts alone.
fn ambiguous(who: &str, found: &[AccountRow]) -> Failure {
    let mut text = format!(
        "error: {} accounts have the email address `{}`\n",
        found.len(),
        shown(who)
    );
    for row in found {
        let kind = match row.made_by() {
            Some((provider, _)) => format!("provider `{provider}`"),
            None => "local".to_owned(),
        };
        let _ = writeln!(text, "  {}  {kind}", row.id);
    }
    text.push_str("hint: use the id in place of the address\n");
    Failure::Refused(text)
}

fn unknown(who: &str, all: &[AccountRow]) -> Failure {
    let emails = || all.iter().map(|row| row.email.as_str());
    let key = fold_email(who);
    let same_person = emails().find(|email| {
        fold_email(email)
            .split_once('@')
            .is_some_and(|(name, _)| name == key)
    });
    let near = nearest(&key, emails())
        .or(same_person)
        .or_else(|| nearest(who, all.iter().map(|row| row.id.as_str())));
    let hint = match (near, all.len()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, 0) => "there are no accounts yet; `passgate user add EMAIL` makes one".to_owned(),
        (None, _) => "`passgate user list` shows all".to_owned(),
    };
    refuse(&format!("there is no account `{}`", shown(who)), &hint)
}
