//! How sessions end, and what is remembered of it.

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
