//! Sessions as they are kept. Each one is of one account and either a browser's, with a cookie, or an API client's, with
//! a refresh token that is exchanged for the next one at each use (a "family" of them, RFC 9700 section 4.14.2).

use crate::clock::UnixSeconds;

/// BLAKE3 of a refresh token.
pub type TokenHash = [u8; 32];

/// One session that has not been ended. It may be over all the same, by its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its id, the `sid` of its tokens: a name, not a secret.
    pub id: String,
    /// [`AccountRow::id`](super::AccountRow::id).
    pub account_id: String,
    /// When somebody signed in.
    pub created_at: UnixSeconds,
    /// When it was last renewed or refreshed.
    pub seen_at: UnixSeconds,
    /// The time from which it is over, whatever happens.
    pub expires_at: UnixSeconds,
    /// `User-Agent`, shortened.
    pub user_agent: String,
    /// The client's address when it was last seen.
    pub address: String,
    /// The refresh token of an API client; `None` for a browser's session.
    pub refresh: Option<RefreshRow>,
}

/// The refresh token that is good now, and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshRow {
    /// The one that is good.
    pub current: TokenHash,
    /// The one that was exchanged for it.
    pub previous: Option<TokenHash>,
    /// When that was.
    pub rotated_at: UnixSeconds,
}

/// What presenting a refresh token came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It was the current one, and the successor is now.
    Rotated,
    /// It was the previous one, a moment ago, and its successor has not been used yet: a retry, to be answered with that
    /// same successor. Nothing was changed.
    Repeated,
    /// It is neither. Nothing was changed.
    Spent,
    /// There is no such session, or it has no refresh token, or its account is disabled.
    Missing,
}

/// Which sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// The one with this id.
    One(&'a str),
    /// The one with this id, if it is this account's.
    Own {
        /// The session.
        id: &'a str,
        /// The account.
        account_id: &'a str,
    },
    /// All of an account.
    Account(&'a str),
    /// All of an account but one.
    Others {
        /// The account.
        account_id: &'a str,
        /// The session that stays.
        keep: &'a str,
    },
    /// All that are over at this time: past `expires_at`, and browsers' last seen `idle` seconds before it.
    Over {
        /// The time.
        now: UnixSeconds,
        /// How long a browser's session may go unused, in seconds.
        idle: UnixSeconds,
    },
}
