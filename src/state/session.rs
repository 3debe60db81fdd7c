//! Sessions as they are kept. Each one is of one account and either a browser's, with a cookie, or an API client's, with
//! a refresh token that is exchanged for the next one at each use (a "family" of them, RFC 9700 section 4.14.2).

use std::fmt::Debug;

use subtle::ConstantTimeEq;

use super::StateError;
use super::account::AccountRow;
use super::ending::EndSessions;
use crate::clock::UnixSeconds;

/// BLAKE3 of a refresh token.
pub(crate) type TokenHash = [u8; 32];

/// One session that has not been ended. It may be over all the same, by its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its id, the `sid` of its tokens: a name, not a secret.
    pub id: String,
    /// [`AccountRow::id`](super::AccountRow::id).
    pub account_id: String,
    /// When it was opened.
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
    /// How it was opened.
    pub authentication: Authentication,
}

/// How the user of a session was authenticated. Nothing is known of sessions that an earlier version opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authentication {
    /// When the user proved a credential (OpenID Connect Core 1.0 section 2, `auth_time`).
    pub auth_time: Option<UnixSeconds>,
    /// The context class that the provider states.
    pub acr: Option<String>,
    /// The provider's name in the TOML; `None` for a password.
    pub provider: Option<String>,
    /// The user's `sub` at the provider.
    pub provider_subject: Option<String>,
    /// The session at the provider (OpenID Connect Back-Channel Logout 1.0 section 2.1).
    pub provider_sid: Option<String>,
}

impl Authentication {
    /// A password that was proven at `now`.
    #[must_use]
    pub fn password(now: UnixSeconds) -> Self {
        Self {
            auth_time: Some(now),
            ..Self::default()
        }
    }
}

/// A use of a session: a token of it is about to be signed.
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

/// No log has hashes of tokens.
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
        // A clock that was set back by less than the grace makes no retry a theft, and one that was set back by more does
        // not lengthen the grace.
        let is_retry = i64::try_from(now.abs_diff(self.rotated_at)).is_ok_and(|since| since <= grace);
        match (bool::from(is_current), is_previous) {
            (true, _) => Rotation::Rotated,
            (false, true) if is_retry => Rotation::Repeated,
            (false, _) => Rotation::Spent,
        }
    }
}

/// An exchange of one refresh token for the next.
#[derive(Clone, Copy)]
pub struct RefreshExchange<'a> {
    /// The session.
    pub id: &'a str,
    /// BLAKE3 of the token that was sent.
    pub presented: &'a TokenHash,
    /// BLAKE3 of the token that takes its place.
    pub successor: &'a TokenHash,
    /// For how many seconds after an exchange the token before counts as a retry; a clock that was set back by more than
    /// that ends it.
    pub grace: UnixSeconds,
    /// When, from where, and until when the next access token lives.
    pub seen: Sighting<'a>,
}

/// Sessions.
pub trait SessionStore: Debug + Send + Sync {
    /// Adds a session, if its account is there, not disabled, and still has this `password_version`, and its id is new.
    /// Returns whether it was added.
    fn add_session(&self, session: &SessionRow, password_version: i64) -> Result<bool, StateError>;

    /// A session with its account.
    fn session(&self, id: &str) -> Result<Option<(SessionRow, AccountRow)>, StateError>;

    /// All sessions, or an account's, the one last seen first.
    fn sessions(&self, account_id: Option<&str>) -> Result<Vec<SessionRow>, StateError>;

    /// Notes that a session was seen, if there is one; returns whether there is. Earlier times than those known change nothing.
    fn touch_session(&self, id: &str, seen: &Sighting<'_>) -> Result<bool, StateError>;

    /// Exchanges the refresh token `presented` for `successor`, in one step, and notes that the session was seen. The
    /// caller checks before whether the session is over.
    fn rotate_refresh(&self, exchange: &RefreshExchange<'_>) -> Result<Rotation, StateError>;

    /// Ends sessions: deletes them and adds a [`Target::Session`](crate::revocation::Target::Session) of the issuer `session` for each, for as long
    /// as its tokens live ([`SessionRow::tokens_until`]) and [`TOKEN_MARGIN`](super::TOKEN_MARGIN), in one step ([`SessionSelector::Over`] in several,
    /// where there are many). Returns the ids of those that were there.
    fn end_sessions(
        &self,
        which: SessionSelector<'_>,
        end: &EndSessions<'_>,
    ) -> Result<Vec<String>, StateError>;
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
    /// All that a session at a provider opened.
    ProviderSession {
        /// The provider's name in the TOML.
        provider: &'a str,
        /// [`Authentication::provider_sid`]
        sid: &'a str,
    },
    /// All that a user of a provider opened there.
    ProviderSubject {
        /// The provider's name in the TOML.
        provider: &'a str,
        /// [`Authentication::provider_subject`]
        subject: &'a str,
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
