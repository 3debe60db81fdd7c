//! Sessions as they are kept. Each one is of one account and either a browser's, with a cookie, or an API client's, with
//! a refresh token that is exchanged for the next one at each use (a "family" of them, RFC 9700 section 4.14.2).

use subtle::ConstantTimeEq;

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
    /// The latest `exp` among its tokens; `None` where it was opened by a version that did not note it.
    pub tokens_until: Option<UnixSeconds>,
    /// `User-Agent`, shortened.
    pub user_agent: String,
    /// The client's address when it was last seen.
    pub address: String,
    /// The refresh token of an API client; `None` for a browser's session.
    pub refresh: Option<RefreshRow>,
}

/// A session was seen: a token of it is about to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// When.
    pub at: UnixSeconds,
    /// The client's address.
    pub address: &'a str,
    /// The `exp` of the token.
    pub tokens_until: UnixSeconds,
}

/// The refresh token that is good now, and the one before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RefreshRow {
    /// The one that is good.
    pub current: TokenHash,
    /// The one that was exchanged for it.
    pub previous: Option<TokenHash>,
    /// When that was.
    pub rotated_at: UnixSeconds,
}

/// Hashes of tokens stand in no log.
impl std::fmt::Debug for RefreshRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefreshRow")
            .field("rotated_at", &self.rotated_at)
            .finish_non_exhaustive()
    }
}

impl RefreshRow {
    /// What presenting a token comes to; [`Rotation::Rotated`] where it is to be exchanged. Takes the same time whatever
    /// the token has in common with either.
    pub(super) fn judge(&self, presented: &TokenHash, now: UnixSeconds, grace: UnixSeconds) -> Rotation {
        let is_current = self.current.ct_eq(presented);
        let is_previous = self
            .previous
            .is_some_and(|previous| previous.ct_eq(presented).into());
        // A clock that was set back by less than the grace makes no thief of anybody, and one that was set back by more
        // does not lengthen it.
        let is_retry = i64::try_from(now.abs_diff(self.rotated_at)).is_ok_and(|since| since <= grace);
        match (bool::from(is_current), is_previous) {
            (true, _) => Rotation::Rotated,
            (false, true) if is_retry => Rotation::Repeated,
            (false, _) => Rotation::Spent,
        }
    }
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
pub enum SessionSelector<'a> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_session_holds_no_hash_of_a_token() {
        let refresh = RefreshRow {
            current: [0xab; 32],
            previous: Some([0xcd; 32]),
            rotated_at: 7,
        };
        let text = format!("{refresh:?}");
        assert!(
            text.contains('7') && !text.contains("171") && !text.contains("205"),
            "{text}"
        );
    }

    #[test]
    fn a_clock_that_is_set_back_neither_ends_the_grace_nor_lengthens_it() {
        let row = RefreshRow {
            current: [2; 32],
            previous: Some([1; 32]),
            rotated_at: 1000,
        };
        let judged = |now| row.judge(&[1; 32], now, 10);
        assert_eq!([1000, 1010, 990].map(judged), [Rotation::Repeated; 3]);
        assert_eq!(
            [1011, 989, 0, i64::MIN, i64::MAX].map(judged),
            [Rotation::Spent; 5]
        );
        assert_eq!(row.judge(&[2; 32], 0, 10), Rotation::Rotated);
        assert_eq!(row.judge(&[3; 32], 1000, 10), Rotation::Spent);
        assert_eq!(row.judge(&[1; 32], 1000, -1), Rotation::Spent, "no grace at all");
    }
}
