//! What outlives the process: accounts, sessions, revocations, our own signing keys, the last good key set of each issuer.
//!
//! Enters: `state.url` of the TOML and values to keep. Leaves: the same values, also after `kill -9` at any point, and a
//! [`Version`] that tells cheaply whether another process wrote. Never here: a decision about a request, or a call from
//! a worker thread. Every method blocks; call them from the control runtime's blocking pool and from the command line.
//!
//! An engine is one file (or folder) and one line in [`KINDS`]; `contract.rs` is the suite that each one passes.
//! To add something that is kept: rows and methods here, a step at the end of `sqlite/schema.rs`, a file of statements
//! beside `sqlite/revocations.rs`, the same in `memory.rs`, and its promises in `contract.rs`.

mod account;
mod code;
#[cfg(test)]
mod contract;
pub mod email;
mod error;
pub mod memory;
mod session;
pub mod sqlite;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::clock::UnixSeconds;
use crate::identity::SESSION_ISSUER;
use crate::revocation::{Revocation, Target};

pub use account::{AccountChange, AccountRow, Added};
pub use code::{CodeRow, MOST_CODES};
pub use error::StateError;
pub use session::{RefreshRow, Rotation, SessionRow, SessionSelector, Sighting, TokenHash};

/// A kind of state that `state.url` can name.
#[derive(Debug)]
pub struct Kind {
    /// What stands before the first colon of the URL.
    pub scheme: &'static str,
    /// A URL as one would write it, for hints.
    pub example: &'static str,
    /// Opens what the rest of the URL names, seen from a directory.
    open: Open,
}

type Open = fn(&str, &Path) -> Result<Arc<dyn State>, StateError>;

/// All kinds. [`memory::Memory`] is an engine but no kind: a revocation written by another process would never arrive
/// there, so no configuration can ask for it.
pub const KINDS: &[Kind] = &[sqlite::KIND];

/// Finds the kind of a URL without opening anything, for `check`; the rest of the URL comes with it.
///
/// # Errors
/// [`StateError::UnknownKind`], [`StateError::PathMissing`].
pub fn recognize(url: &str) -> Result<(&'static Kind, &str), StateError> {
    // Only the scheme is repeated in an error: the rest of a database URL may hold a password.
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    let kind = KINDS
        .iter()
        .find(|kind| kind.scheme == scheme)
        .ok_or_else(|| StateError::UnknownKind {
            scheme: scheme.chars().take(32).collect(),
            known: KINDS
                .iter()
                .map(|kind| format!("`{}`", kind.example))
                .collect::<Vec<_>>()
                .join(", "),
        })?;
    if rest.is_empty() {
        return Err(StateError::PathMissing {
            example: kind.example,
        });
    }
    Ok((kind, rest))
}

/// Opens the state that `url` names, and brings it to the present schema. A relative path starts at `base`.
///
/// # Errors
/// Whatever keeps it from being used, with the file and what to do about it.
pub fn open(url: &str, base: &Path) -> Result<Arc<dyn State>, StateError> {
    let (kind, rest) = recognize(url)?;
    (kind.open)(rest, base)
}

/// Where revocations and signing keys stand: different from an earlier one if any of them was written in between, by
/// whatever process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Grows with each revocation that is written.
    revocations: i64,
    /// Grows with each revocation that is deleted before its time.
    lost: i64,
    /// Grows with each change of the signing keys.
    signing_keys: i64,
}

impl Version {
    /// Whether the signing keys are the same in both.
    #[must_use]
    pub fn has_keys_of(&self, other: &Self) -> bool {
        self.signing_keys == other.signing_keys
    }

    /// Whether whoever has read up to this finds all that came since by its sequence: not where rows were deleted, and
    /// not where a backup took the place of what was read.
    fn continues_to(&self, later: &Self) -> bool {
        self.lost == later.lost && self.revocations <= later.revocations
    }
}

/// Revocations, and up to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// In no particular order where they are all, else as they were written.
    pub rows: Vec<Revocation>,
    /// Whether these are all: what is not among them is not in force any more.
    pub is_whole: bool,
    /// What was read up to.
    pub version: Version,
}

/// What is kept. Each method that writes has written durably when it returns `Ok`.
pub trait State: Debug + Send + Sync {
    /// Where revocations and signing keys stand now: what a process holds in memory, and nothing else. It moves with every
    /// write to them, purging excepted, and not with accounts, sessions, key sets and secrets, which are read when they are
    /// needed. Costs microseconds; ask every now and then, and
    /// read again what you hold when it has changed.
    ///
    /// # Errors
    /// Also [`StateError::Replaced`]: what is open is no longer what other processes would open, so their writes can
    /// no longer be seen here. What was read before must not be trusted for long after an error.
    fn version(&self) -> Result<Version, StateError>;

    /// Adds a revocation. One for the same token, subject or session is widened: the later `revoked_at`, the later
    /// `expires_at`, the later `revision`.
    fn revoke(&self, revocation: &Revocation) -> Result<(), StateError>;

    /// The revocations that were written after `seen` was read and have not expired at `over`; all of them where `seen` is
    /// none or says nothing about the present ones. An engine gives each write a place in the order in which writes
    /// become visible: none appears later behind one that was read. A [`Target::Stale`] of revision 0 takes back
    /// those before; it comes only where not all are read.
    fn revocations_after(&self, seen: Option<Version>, over: UnixSeconds) -> Result<Reading, StateError>;

    /// All revocations that have not expired at `now`, in no particular order.
    fn revocations(&self, now: UnixSeconds) -> Result<Vec<Revocation>, StateError> {
        self.revocations_after(None, now).map(|reading| reading.rows)
    }

    /// Deletes revocations that had expired at `over`, at most [`PURGED_AT_ONCE`]. Says whether there may be more. Nobody
    /// has to read again because of it. A clock that jumped ahead for a moment must not delete what is still needed: that
    /// is for the caller to see to.
    fn purge_revocations(&self, over: UnixSeconds) -> Result<bool, StateError>;

    /// All signing keys that are kept, the active one first, then the retired ones, last retired first.
    fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StateError>;

    /// Adds `candidate` if no key is active, in one step: of several processes that start at once, one adds its own and
    /// all get the same. Returns all keys, as [`State::signing_keys`].
    fn ensure_signing_key(&self, candidate: &SigningKeyRow) -> Result<Vec<SigningKeyRow>, StateError>;

    /// Makes `next` the active key, in one step. The one before is retired at `now`, verifies until `verify_until`, and
    /// its private part is deleted; retired keys whose time is over are deleted. Returns all keys that are left.
    fn rotate_signing_key(
        &self,
        next: &SigningKeyRow,
        now: UnixSeconds,
        verify_until: UnixSeconds,
    ) -> Result<Vec<SigningKeyRow>, StateError>;

    /// Says that a token signed by the key `key_id` lives until `expires_at`: a rotation lets the key verify at least that
    /// long, also one that came in between.
    fn note_token(&self, key_id: &str, expires_at: UnixSeconds) -> Result<(), StateError>;

    /// A secret of ours that tokens are made with, under a name: `candidate` if there was none, in one step, as
    /// [`State::ensure_signing_key`].
    fn ensure_secret(&self, name: &str, candidate: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, StateError>;

    /// Adds an account. With a role in `first`, only where no enabled account has that role. Of several reasons not to, that
    /// comes first, then the email, then the id.
    fn add_account(&self, account: &AccountRow, first: Option<&str>) -> Result<Added, StateError>;

    /// The account with this id.
    fn account(&self, id: &str) -> Result<Option<AccountRow>, StateError>;

    /// The account with this `email_key`.
    fn account_by_email(&self, email_key: &str) -> Result<Option<AccountRow>, StateError>;

    /// All accounts, in the order of `email_key`.
    fn accounts(&self) -> Result<Vec<AccountRow>, StateError>;

    /// An account whose address looks like `email_key` and is another one, where one of the two is not ASCII. However many
    /// accounts there are, this is one search.
    fn lookalike(&self, email_key: &str) -> Result<Option<AccountRow>, StateError>;

    /// Whether an enabled account has `role`. Reads all accounts where there is none.
    fn has_enabled_account(&self, role: &str) -> Result<bool, StateError>;

    /// Changes an account, in one step, and returns it as it is then; `None` where there is none. With
    /// [`AccountChange::ends_sessions`], its sessions but for `end.keep` end in the same step, as by
    /// [`State::end_sessions`]. Where its name, its roles or `confirmed` are others than before, so does a
    /// [`Target::Stale`] come to be, with `end`'s times.
    fn change_account(
        &self,
        id: &str,
        change: &AccountChange,
        end: &EndSessions<'_>,
    ) -> Result<Option<AccountRow>, StateError>;

    /// Puts a hash of the same password in place of `from`, if that is still the hash. Says whether it was.
    fn rehash_account(&self, id: &str, from: &str, to: &str) -> Result<bool, StateError>;

    /// Deletes an account and its [`Target::Stale`], so that it does not hold for another one of the same id, and
    /// ends its sessions (there is none to keep), in one step. Says whether there was one.
    fn delete_account(&self, id: &str, end: &EndSessions<'_>) -> Result<bool, StateError>;

    /// A hash that is not of the kind `like`, of the kind of which most accounts have one; `None` where all are like
    /// that. A kind is all that stands before the salt: algorithm, version, parameters (`$argon2id$v=19$m=19456,t=2,p=1`,
    /// with or without a `$` at the end). What the hash costs to verify is spent on every attempt to sign in, so that
    /// nobody can tell by the time whether an account is there; the question itself costs microseconds, however many
    /// accounts there are.
    fn foreign_hash(&self, like: &str) -> Result<Option<String>, StateError>;

    /// Adds a session, if its account is there, not disabled, and still has this `password_version`, and its id is new.
    /// Says whether it was added.
    fn add_session(&self, session: &SessionRow, password_version: i64) -> Result<bool, StateError>;

    /// A session with its account.
    fn session(&self, id: &str) -> Result<Option<(SessionRow, AccountRow)>, StateError>;

    /// All sessions, or an account's, the one last seen first.
    fn sessions(&self, account_id: Option<&str>) -> Result<Vec<SessionRow>, StateError>;

    /// Notes that a session was seen, if there is one; says whether there is. Earlier times than those known change nothing.
    fn touch_session(&self, id: &str, seen: &Sighting<'_>) -> Result<bool, StateError>;

    /// Exchanges the refresh token `presented` for `successor`, in one step, and notes that the session was seen.
    /// `grace` is how many seconds after an exchange the token before is taken for a retry; a clock that was set back by
    /// more than that ends it. Whether the session is over is the caller's to know, before.
    fn rotate_refresh(
        &self,
        id: &str,
        presented: &TokenHash,
        successor: &TokenHash,
        grace: UnixSeconds,
        seen: &Sighting<'_>,
    ) -> Result<Rotation, StateError>;

    /// Ends sessions: deletes them and adds a [`Target::Session`] of the issuer `session` for each, for as long
    /// as its tokens live ([`SessionRow::tokens_until`]) and [`TOKEN_MARGIN`], in one step ([`SessionSelector::Over`] in several,
    /// where there are many). Returns the ids of those that were there.
    fn end_sessions(
        &self,
        which: SessionSelector<'_>,
        end: &EndSessions<'_>,
    ) -> Result<Vec<String>, StateError>;

    /// Adds a one-time code if its session is there, and deletes on the way the session's codes that have expired at
    /// `now`, and its oldest ones where there would be more than [`MOST_CODES`]. Says whether it was added.
    fn add_code(&self, code: &CodeRow, now: UnixSeconds) -> Result<bool, StateError>;

    /// Takes a code out, in one step: of many that ask for it at once one gets it. `None` where there is none, or its
    /// session has ended. Whether it has expired is the caller's to know.
    fn take_code(&self, hash: &TokenHash) -> Result<Option<CodeRow>, StateError>;

    /// The last key set that was saved for an issuer, as it came from `url`, and when. A set from another URL is none.
    fn load_jwks(&self, issuer: &str, url: &str) -> Result<Option<(Vec<u8>, UnixSeconds)>, StateError>;

    /// Keeps a key set in place of the one before.
    fn save_jwks(&self, issuer: &str, url: &str, jwks: &[u8], now: UnixSeconds) -> Result<(), StateError>;
}

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

/// The kind and the name under which a target is kept, once for each issuer, and the revision, where it has one.
fn parts(target: &Target) -> (&'static str, &str, Option<i64>) {
    match target {
        Target::Token(id) => (TOKEN, id, None),
        Target::Subject(subject) => (SUBJECT, subject, None),
        Target::Session(id) => (SESSION, id, None),
        Target::Stale { subject, revision } => (STALE, subject, Some(*revision)),
    }
}

const TOKEN: &str = "token";
const SUBJECT: &str = "subject";
const SESSION: &str = "session";
const STALE: &str = "stale";

/// One of our own signing keys (Ed25519).
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKeyRow {
    /// Its `kid`.
    pub key_id: String,
    /// The public key, 32 bytes (RFC 8032 section 5.1.5).
    pub public_key: Vec<u8>,
    /// PKCS#8 (RFC 8410) of the active key; `None` once it is retired.
    pub private_key: Option<Zeroizing<Vec<u8>>>,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// When it stopped signing.
    pub retired_at: Option<UnixSeconds>,
    /// The time from which its signatures no longer count; set when it is retired.
    pub verify_until: Option<UnixSeconds>,
}

impl EndSessions<'_> {
    /// What is remembered of a session that ended.
    fn revocation(&self, id: &str, tokens_until: Option<UnixSeconds>) -> Revocation {
        let until = tokens_until.map(|until| until.max(self.now).saturating_add(TOKEN_MARGIN));
        Revocation {
            issuer: SESSION_ISSUER.to_owned(),
            target: Target::Session(id.to_owned()),
            revoked_at: self.now,
            expires_at: Some(until.unwrap_or(self.revoked_until)),
        }
    }

    /// What is remembered of an account that has another name or other roles now.
    fn staleness(&self, account: &AccountRow) -> Revocation {
        Revocation {
            issuer: SESSION_ISSUER.to_owned(),
            target: Target::Stale {
                subject: account.id.clone(),
                revision: account.revision,
            },
            revoked_at: self.now,
            expires_at: Some(self.revoked_until),
        }
    }
}

impl Debug for SigningKeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeyRow")
            .field("key_id", &self.key_id)
            .field("private_key", &self.private_key.as_ref().map(|_| "…"))
            .field("created_at", &self.created_at)
            .field("retired_at", &self.retired_at)
            .field("verify_until", &self.verify_until)
            .finish_non_exhaustive()
    }
}

/// The most that one [`State::purge_revocations`] deletes: others want to write too.
pub const PURGED_AT_ONCE: usize = 1000;

/// For how many seconds longer than its tokens live the end of a session is remembered: a clock may be put right, and
/// whoever had read the session before it ended may sign a little after.
pub const TOKEN_MARGIN: UnixSeconds = 60;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_of_no_known_kind_is_an_error_that_repeats_only_the_scheme() {
        let error = recognize("postgres://gateway:hunter2@db/passgate")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`postgres:`") && error.contains("`sqlite:passgate.db`"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
        assert!(recognize("memory:").is_err());
        assert!(recognize("").is_err());
        assert!(matches!(
            recognize("sqlite:"),
            Err(StateError::PathMissing { .. })
        ));
        assert_eq!(recognize("sqlite:a.db").unwrap().1, "a.db");
    }

    #[test]
    fn a_relative_path_starts_at_the_base_directory() {
        let directory = tempfile::tempdir().unwrap();
        open("sqlite:passgate.db", directory.path()).unwrap();
        assert!(directory.path().join("passgate.db").is_file());
    }

    #[test]
    fn debug_output_of_a_key_holds_no_private_part() {
        let row = SigningKeyRow {
            key_id: "k".to_owned(),
            public_key: vec![1; 32],
            private_key: Some(Zeroizing::new(b"PRIVATE".to_vec())),
            created_at: 1,
            retired_at: None,
            verify_until: None,
        };
        let text = format!("{row:?}");
        assert!(
            !text.contains("80, 82, 73") && !text.contains("PRIVATE"),
            "{text}"
        );
    }
}
