//! How sessions end, and what is remembered of it.

use serde::Serialize;

use crate::clock::UnixSeconds;
use crate::identity::SESSION_ISSUER;
use crate::revocation::{Revocation, Target};

/// How sessions are ended, and tokens become stale.
#[derive(Clone, Copy, Debug)]
pub struct EndSessions<'a> {
    /// The time.
    pub now: UnixSeconds,
    /// The time from which no token that was issued until `now` would be taken anyway, of whatever session: for sessions
    /// that do not say it themselves, and for [`Target::Stale`].
    pub revoked_until: UnixSeconds,
    /// The session that does not end.
    pub keep: Option<&'a str>,
    /// Why.
    pub cause: EndCause,
}

/// Why sessions end, as the audit log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndCause {
    /// Its user signed out, or ended it in the list of sessions.
    SignedOut,
    /// The browser signed in again.
    Replaced,
    /// The password of the account was changed.
    PasswordChanged,
    /// A way to sign in was removed from the account.
    LinkRemoved,
    /// A refresh token was used a second time.
    RefreshTokenReused,
    /// The provider ended it, or withdrew what it had granted.
    Provider,
    /// The account had too many sessions.
    TooMany,
    /// One of its limits was reached.
    Expired,
    /// A command ended it.
    Command,
    /// The account was disabled.
    AccountDisabled,
    /// The account was deleted.
    AccountDeleted,
    /// Its sign-in could not be written to the audit log.
    NotRecorded,
}

impl EndSessions<'_> {
    /// What is remembered of a session that ended.
    pub(super) fn revocation(&self, id: &str, tokens_until: Option<UnixSeconds>) -> Revocation {
        let until = tokens_until.map(|until| until.max(self.now).saturating_add(TOKEN_MARGIN));
        Revocation {
            issuer: SESSION_ISSUER.to_owned(),
            target: Target::Session(id.to_owned()),
            revoked_at: self.now,
            expires_at: Some(until.unwrap_or(self.revoked_until)),
        }
    }

    /// What is remembered of an account whose tokens are out of date from now on.
    pub(super) fn staleness(&self, account_id: &str, revision: i64) -> Revocation {
        Revocation {
            issuer: SESSION_ISSUER.to_owned(),
            target: Target::Stale {
                subject: account_id.to_owned(),
                revision,
            },
            revoked_at: self.now,
            expires_at: Some(self.revoked_until),
        }
    }
}

/// For how many seconds longer than its tokens live the end of a session is remembered: a clock may be put right, and
/// a process that read the session before it ended may sign a token a little later.
pub(crate) const TOKEN_MARGIN: UnixSeconds = 60;
