//! Revocations as they are kept, and how a process learns of those that another one wrote.

use std::fmt::Debug;
use std::time::Duration;

use super::StateError;
use crate::clock::UnixSeconds;
use crate::revocation::{Revocation, Target};

/// Where revocations and signing keys stand: different from an earlier one if any of them was written in between, by
/// any process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Grows with each revocation that is written.
    pub(super) revocations: i64,
    /// Grows with each revocation that is deleted before its time.
    pub(super) lost: i64,
    /// Grows with each change of the signing keys.
    pub(super) signing_keys: i64,
}

impl Version {
    /// Whether the signing keys are the same in both.
    #[must_use]
    pub fn has_keys_of(&self, other: &Self) -> bool {
        self.signing_keys == other.signing_keys
    }

    /// Whether a reader of this version finds all later rows by their sequence: not where rows were deleted, and not where a
    /// backup took the place of what was read.
    pub(super) fn continues_to(&self, later: &Self) -> bool {
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

/// Revocations, and what a process has to know to keep up with them.
pub trait RevocationStore: Debug + Send + Sync {
    /// Where revocations and signing keys stand now, which are all that a process holds in memory. It moves with every write
    /// to them, purging excepted, and not with accounts, sessions, key sets and secrets, which are read when they are
    /// needed. Costs microseconds.
    ///
    /// # Errors
    /// Also [`StateErrorKind::Replaced`](super::StateErrorKind::Replaced): what is open is no longer what other processes
    /// would open, so their writes are not seen here. What was read before must not be trusted for long after an error.
    fn version(&self) -> Result<Version, StateError>;

    /// Blocks until the version is not `seen` any more, or for `timeout`; the version then. This implementation polls, for
    /// engines that cannot be told of another process's write: it reads once, after `timeout`.
    ///
    /// # Errors
    /// As [`RevocationStore::version`], after `timeout`: a caller may call again at once.
    #[expect(
        clippy::disallowed_methods,
        reason = "the state blocks, and is never called from a worker"
    )]
    fn wait_for_change(&self, seen: Version, timeout: Duration) -> Result<Version, StateError> {
        let _ = seen;
        std::thread::sleep(timeout);
        self.version()
    }

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

    /// Deletes revocations that had expired at `over`, at most [`PURGED_AT_ONCE`]. Returns whether there may be more. It
    /// does not move the [`Version`]. The caller must make sure that `over` is not from a clock that jumped ahead.
    fn purge_revocations(&self, over: UnixSeconds) -> Result<bool, StateError>;

    /// Writes something and takes it back, so that nothing is changed.
    ///
    /// # Errors
    /// Why the state cannot be written.
    fn try_write(&self) -> Result<(), StateError>;
}

/// The most that one [`RevocationStore::purge_revocations`] deletes: other writers wait meanwhile.
pub(crate) const PURGED_AT_ONCE: usize = 1000;

/// The kind and the name under which a target is kept, once for each issuer, and the revision, where it has one.
pub(super) fn parts(target: &Target) -> (&'static str, &str, Option<i64>) {
    match target {
        Target::Token(id) => (TOKEN, id, None),
        Target::Subject(subject) => (SUBJECT, subject, None),
        Target::Session(id) => (SESSION, id, None),
        Target::Stale { subject, revision } => (STALE, subject, Some(*revision)),
    }
}

pub(super) const TOKEN: &str = "token";
pub(super) const SUBJECT: &str = "subject";
pub(super) const SESSION: &str = "session";
pub(super) const STALE: &str = "stale";
