//! Lists and ends sessions.

use std::collections::HashMap;

use serde::Serialize;

use super::{Account, Directory, failed, refuse, shown};
use crate::app::{Failure, time_text};
use crate::identity::SESSION_ISSUER;
use crate::pages;
use crate::revocation::{Revocation, Target};
use crate::state::{SessionRow, SessionSelector};
use crate::values::did_you_mean;

/// A session, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Session {
    /// The `sid` of its tokens.
    pub id: String,
    /// The id of its account.
    pub account_id: String,
    /// The address of its account.
    pub email: String,
    /// `browser`, with a cookie, or `client`, with a refresh token.
    pub kind: &'static str,
    /// The name of the provider that the user signed in with; `None`: a password.
    pub provider: Option<String>,
    /// `User-Agent`
    pub user_agent: String,
    /// The same in words: `Firefox on Linux`.
    pub device: String,
    /// Where it was last seen from.
    pub address: String,
    /// RFC 3339, as the two below.
    pub created_at: String,
    /// When its token was last renewed.
    pub last_seen_at: String,
    /// How long ago that was: `12m ago`.
    #[serde(skip)]
    pub last_seen: String,
    /// When it ends, used or not.
    pub expires_at: String,
}

/// A time in the past, in its largest unit.
fn ago(seconds: i64) -> String {
    match seconds {
        ..60 => "now".to_owned(),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

impl Directory {
    /// The sessions that are open, of one account or of all, the one last seen first.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(crate) fn sessions(&self, of: Option<&Account>) -> Result<Vec<Session>, Failure> {
        let rows = self.open_sessions(of)?;
        let all = if of.is_none() { self.list()? } else { Vec::new() };
        let emails: HashMap<&str, &str> = all
            .iter()
            .chain(of)
            .map(|account| (account.id.as_str(), account.email.as_str()))
            .collect();
        let now = self.clock.now();
        let shown = |row: SessionRow| Session {
            email: emails
                .get(row.account_id.as_str())
                .copied()
                .unwrap_or_default()
                .to_owned(),
            kind: if row.refresh.is_some() {
                "client"
            } else {
                "browser"
            },
            device: pages::device(&row.user_agent, row.refresh.is_some()),
            id: row.id,
            provider: row.authentication.provider,
            account_id: row.account_id,
            user_agent: row.user_agent,
            address: row.address,
            created_at: time_text(row.created_at),
            last_seen_at: time_text(row.seen_at),
            last_seen: ago(now.saturating_sub(row.seen_at)),
            expires_at: time_text(row.expires_at),
        };
        Ok(rows.into_iter().map(shown).collect())
    }

    /// Ends one session.
    ///
    /// # Errors
    /// There is no such session, or the state cannot be written.
    pub(crate) fn end_session(&self, id: &str) -> Result<(), Failure> {
        let ended = self
            .state
            .end_sessions(SessionSelector::One(id), &self.ending())
            .map_err(failed)?;
        if !ended.is_empty() {
            return Ok(());
        }
        let all = self.state.sessions(None).map_err(failed)?;
        let hint = did_you_mean(id, all.iter().map(|row| row.id.as_str())).unwrap_or_else(|| {
            "it may be over already; `passgate session list` shows what is open".to_owned()
        });
        Err(refuse(&format!("there is no session `{}`", shown(id)), &hint))
    }

    /// Ends all sessions of an account. Returns how many there were.
    ///
    /// # Errors
    /// The state cannot be written.
    pub(crate) fn end_sessions(&self, of: &Account) -> Result<usize, Failure> {
        let open = self.count(of)?;
        self.state
            .end_sessions(SessionSelector::Account(&of.id), &self.ending())
            .map_err(failed)?;
        Ok(open)
    }

    /// Ends the sessions of an account whose tokens are revoked. Where `subject` is no account's id and the address of
    /// one, that account is meant, and its tokens are revoked too. Returns what to tell the operator, in whole lines.
    pub(in crate::app) fn revoke_subject(&self, subject: &str) -> Result<String, Failure> {
        let mut said = String::new();
        let end = self.ending();
        let by_id = self.accounts.by_id(subject).map_err(failed)?;
        let is_subject = by_id.is_some();
        let account = match by_id {
            Some(account) => Some(account),
            None => self.find_or_none(subject)?,
        };
        let Some(account) = account else { return Ok(said) };
        if !is_subject {
            let revocation = Revocation {
                issuer: SESSION_ISSUER.to_owned(),
                target: Target::Subject(account.id.clone()),
                revoked_at: end.now,
                expires_at: None,
            };
            self.state.revoke(&revocation).map_err(failed)?;
            said = format!(
                "revoked: the same of `{}`, the account of this address\n",
                account.id
            );
        }
        let ended = self
            .state
            .end_sessions(SessionSelector::Account(&account.id), &end)
            .map_err(failed)?
            .len();
        said.push_str(&format!(
            "ended: {ended} session{} of `{}`\n",
            if ended == 1 { "" } else { "s" },
            account.known_email().unwrap_or(&account.id)
        ));
        Ok(said)
    }

    /// How many sessions of an account are open.
    pub(super) fn count(&self, of: &Account) -> Result<usize, Failure> {
        Ok(self.open_sessions(Some(of))?.len())
    }

    fn open_sessions(&self, of: Option<&Account>) -> Result<Vec<SessionRow>, Failure> {
        let now = self.clock.now();
        let mut rows = self
            .state
            .sessions(of.map(|account| account.id.as_str()))
            .map_err(failed)?;
        rows.retain(|row| !self.session.is_over(row, now));
        Ok(rows)
    }
}
