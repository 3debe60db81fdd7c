//! Which tokens are revoked, as every worker reads it.
//!
//! Enters: rows from the state store, all of them at first and then those that are new, and single ones that this process
//! has just written there. Leaves: a verdict for every request, also for one that the token cache answers, and a signal for each task that holds a
//! stream open. Once a store is attached, silence from it does not mean that nothing is revoked: when it has not been
//! read for ten seconds, every caller is refused. Never here: a reading of the store that undoes what was written after it.

mod names;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::clock::UnixSeconds;
use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::revocation::{Revocation, Target};
use names::{Building, Names, SWEEPS};

/// How old the last successful reading of the store may be.
pub(crate) const FRESH_FOR: Duration = Duration::from_secs(10);

/// No store is attached: nothing can be revoked, and nothing needs to be read.
const DETACHED: u64 = u64::MAX;
/// A store is attached and has never been read.
const NEVER: u64 = 0;

/// The claim of our own tokens that says of which revision of the account they were made; none is the first one, 0.
pub(crate) const REVISION_CLAIM: &str = "rev";

/// What is to be different about what is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These, and no others.
    Replace(Vec<Revocation>),
    /// These as well.
    Add(Vec<Revocation>),
}

/// What is revoked of one issuer. A table can be added to while it is read.
#[derive(Debug, Default)]
struct OfIssuer {
    /// `jti`s, whenever they were revoked.
    token_ids: Names,
    /// `sid`s.
    sessions: Names,
    /// `sub`s, with the last moment up to which their tokens are revoked.
    subjects: Names,
    /// `sub`s, with the revision that is up to date.
    revisions: Names,
}

impl OfIssuer {
    fn tables(&self) -> [&Names; 4] {
        [&self.token_ids, &self.sessions, &self.subjects, &self.revisions]
    }

    /// Puts one more in force. Of two about one subject the later one counts. Whether something is revoked that was not.
    fn put(&self, target: Target, revoked_at: UnixSeconds, expires_at: Option<UnixSeconds>) -> bool {
        let expires_at = expires_at.unwrap_or(UnixSeconds::MAX);
        match target {
            Target::Token(id) => self.token_ids.put(&id, 0, expires_at),
            Target::Session(id) => self.sessions.put(&id, 0, expires_at),
            Target::Subject(subject) => self.subjects.put(&subject, revoked_at, expires_at),
            // The account is gone, and another one may have its id.
            Target::Stale { subject, revision: 0 } => {
                self.revisions.remove(&subject);
                false
            }
            Target::Stale { subject, revision } => self.revisions.put(&subject, revision, expires_at),
        }
    }

    /// Whether everything that this would revoke is revoked.
    fn covers(&self, target: &Target, revoked_at: UnixSeconds) -> bool {
        match target {
            Target::Token(id) => self.token_ids.find(id).is_some(),
            Target::Session(id) => self.sessions.find(id).is_some(),
            Target::Subject(subject) => self
                .subjects
                .find(subject)
                .is_some_and(|until| revoked_at <= until),
            Target::Stale { subject, revision } => {
                *revision == 0
                    || self
                        .revisions
                        .find(subject)
                        .is_some_and(|latest| *revision <= latest)
            }
        }
    }

    fn revokes(&self, identity: &Identity) -> bool {
        let is_id_revoked = identity
            .token_id
            .as_ref()
            .is_some_and(|id| self.token_ids.find(id).is_some());
        let is_session_over = identity
            .session_id
            .as_ref()
            .is_some_and(|id| self.sessions.find(id).is_some());
        let is_subject_revoked = self
            .subjects
            .find(&identity.subject)
            // A token that does not say when it was issued may have been issued before.
            .is_some_and(|until| identity.issued_at.is_none_or(|issued_at| issued_at <= until));
        is_id_revoked || is_session_over || is_subject_revoked
    }

    /// Only a token of a session was made of an account, and can be had anew.
    fn outdates(&self, identity: &Identity) -> bool {
        identity.session_id.is_some()
            && self
                .revisions
                .find(&identity.subject)
                .is_some_and(|latest| revision(identity) < latest)
    }
}

/// By [`Issuer::revocation_key`](super::Issuer::revocation_key).
type ByIssuer = HashMap<String, Arc<OfIssuer>>;

/// All revocations in force.
#[derive(Debug)]
pub struct Revocations {
    by_issuer: ArcSwap<ByIssuer>,
    /// When the store was last read: milliseconds after `start`, plus one; or [`DETACHED`] or [`NEVER`].
    refreshed: AtomicU64,
    start: Instant,
    /// Held by the thread that reads or writes the store until what came of it is in force. Never by a worker.
    writing: Mutex<()>,
    /// Which part of the tables is swept next.
    swept: AtomicUsize,
    /// One more whenever something is in force that was not before.
    generation: AtomicU64,
    /// The same number, for those who wait for the next one.
    bell: watch::Sender<u64>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self::new()
    }
}

impl Revocations {
    /// None, and no store behind them.
    #[must_use]
    pub fn new() -> Self {
        Self {
            by_issuer: ArcSwap::default(),
            refreshed: AtomicU64::new(DETACHED),
            start: Instant::now(),
            writing: Mutex::new(()),
            swept: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            bell: watch::Sender::new(0),
        }
    }

    /// Says that there is a store, from now on and for ever. Until it has been read for the first time, every check fails.
    pub fn attach(&self) {
        let _ = self
            .refreshed
            .compare_exchange(DETACHED, NEVER, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Puts `rows` in place of all that were in force before. Of two rows about one subject the later one counts. Where
    /// they were read from a store that another part of this process writes to, use [`Revocations::reconcile`].
    pub fn replace(&self, rows: impl IntoIterator<Item = Revocation>) {
        let change = Change::Replace(rows.into_iter().collect());
        let _alone = self.write();
        self.apply(change);
    }

    /// Does `work` on the store and puts in force what came of it, in one step: no other thread reads or writes the store by
    /// this way in between. So a reading from before a write is never put in force after it. Blocks for as long as `work`
    /// and whatever work came before take: call it on control threads only, and not from within `work`.
    ///
    /// # Errors
    /// That of `work`; nothing has changed here then.
    pub fn reconcile<T, E>(&self, work: impl FnOnce() -> Result<(T, Change), E>) -> Result<T, E> {
        let _alone = self.write();
        let (done, change) = work()?;
        self.apply(change);
        Ok(done)
    }

    /// How often something was put in force that was not before. Costs one load: who has seen the number stay the same
    /// need not [`check`](Self::check) again what stood then.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// To be woken at the next [generation](Self::generation), however many pass at once. Subscribe, then
    /// [`check`](Self::check), then wait: what comes in between is not missed.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// A panic elsewhere left nothing half done behind this: all that is written under it is written by one store.
    fn write(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only while `writing` is held. What is added costs the same however many are in force; what replaces all others is
    /// complete before any of it is seen.
    fn apply(&self, change: Change) {
        let before = self.by_issuer.load_full();
        let is_more = match change {
            Change::Replace(rows) => {
                let mut after: HashMap<String, [Building; 4]> = HashMap::new();
                let mut is_more = false;
                for Revocation {
                    issuer,
                    target,
                    revoked_at,
                    expires_at,
                } in rows
                {
                    is_more |= !before
                        .get(&issuer)
                        .is_some_and(|before| before.covers(&target, revoked_at));
                    let expires_at = expires_at.unwrap_or(UnixSeconds::MAX);
                    let [token_ids, sessions, subjects, revisions] = after.entry(issuer).or_default();
                    match target {
                        Target::Token(id) => token_ids.put(&id, 0, expires_at),
                        Target::Session(id) => sessions.put(&id, 0, expires_at),
                        Target::Subject(subject) => subjects.put(&subject, revoked_at, expires_at),
                        Target::Stale { revision: 0, .. } => {}
                        Target::Stale { subject, revision } => revisions.put(&subject, revision, expires_at),
                    }
                }
                let built = after.into_iter().map(|(issuer, tables)| {
                    let [token_ids, sessions, subjects, revisions] = tables.map(Building::finish);
                    (
                        issuer,
                        Arc::new(OfIssuer {
                            token_ids,
                            sessions,
                            subjects,
                            revisions,
                        }),
                    )
                });
                self.by_issuer.store(Arc::new(built.collect()));
                is_more
            }
            Change::Add(rows) => {
                let mut present = before;
                let mut is_more = false;
                for Revocation {
                    issuer,
                    target,
                    revoked_at,
                    expires_at,
                } in rows
                {
                    let of_issuer = match present.get(&issuer) {
                        Some(of_issuer) => of_issuer,
                        None => {
                            let mut more = ByIssuer::clone(&present);
                            more.insert(issuer.clone(), Arc::default());
                            present = Arc::new(more);
                            self.by_issuer.store(Arc::clone(&present));
                            &present[&issuer]
                        }
                    };
                    is_more |= of_issuer.put(target, revoked_at, expires_at);
                }
                is_more
            }
        };
        if is_more {
            // After the rows, so that a thread that sees the number or is woken finds them.
            let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
            self.bell.send_replace(generation);
        }
    }

    /// Forgets a part of what had expired at `over`: all of it after `SWEEPS` calls. Waits for the writing of others; for
    /// control threads only.
    pub fn sweep(&self, over: UnixSeconds) {
        let _alone = self.write();
        let part = self.swept.fetch_add(1, Ordering::Relaxed);
        for of_issuer in self.by_issuer.load().values() {
            for names in of_issuer.tables() {
                names.sweep(part % SWEEPS, over);
            }
        }
    }

    /// Says that what is in force agreed with the store at `at`. Attaches a store, if none was.
    pub fn touch(&self, at: Instant) {
        let since =
            u64::try_from(at.saturating_duration_since(self.start).as_millis()).unwrap_or(DETACHED - 2);
        let stamp = since.min(DETACHED - 2) + 1;
        // Two readers may finish in either order; the later reading counts.
        let _ = self
            .refreshed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |before| {
                (before == DETACHED || before < stamp).then_some(stamp)
            });
    }

    /// How many revocations are in force, or were until a short time ago.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_issuer
            .load()
            .values()
            .flat_map(|of_issuer| of_issuer.tables())
            .map(Names::len)
            .sum()
    }

    /// Whether none is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `identity`, whose issuer has this key, may still be let in at `at`. Allocates nothing.
    ///
    /// # Errors
    /// [`Refusal::Revoked`]; [`Refusal::Stale`] where it is not, and a new token would say something else;
    /// [`Refusal::StateUnavailable`] while revocations are unknown.
    pub fn check(&self, issuer: &str, identity: &Identity, at: Instant) -> Result<(), Refusal> {
        if !self.is_fresh(at) {
            return Err(Refusal::StateUnavailable);
        }
        let by_issuer = self.by_issuer.load();
        match by_issuer.get(issuer) {
            Some(of_issuer) if of_issuer.revokes(identity) => Err(Refusal::Revoked),
            Some(of_issuer) if of_issuer.outdates(identity) => Err(Refusal::Stale),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether `identity`, whose issuer has this key, is revoked as far as is known. Says nothing about how old that
    /// knowledge is: for what is to end, not for what is to begin. Allocates nothing.
    #[must_use]
    pub fn covers(&self, issuer: &str, identity: &Identity) -> bool {
        self.by_issuer
            .load()
            .get(issuer)
            .is_some_and(|of_issuer| of_issuer.revokes(identity))
    }

    /// Whether a session that this subject opened at `opened_at` is over by a revocation in force: its own, or one of
    /// everything that its subject had been issued. Says nothing about how old that knowledge is.
    #[must_use]
    pub fn covers_session(&self, issuer: &str, id: &str, subject: &str, opened_at: UnixSeconds) -> bool {
        let by_issuer = self.by_issuer.load();
        by_issuer.get(issuer).is_some_and(|of_issuer| {
            of_issuer.sessions.find(id).is_some()
                || of_issuer
                    .subjects
                    .find(subject)
                    .is_some_and(|until| opened_at <= until)
        })
    }

    /// Whether the store, if there is one, has been read a short time before `at`.
    #[must_use]
    pub fn is_fresh(&self, at: Instant) -> bool {
        match self.refreshed.load(Ordering::Acquire) {
            DETACHED => true,
            NEVER => false,
            stamp => {
                let age = at
                    .saturating_duration_since(self.start)
                    .saturating_sub(Duration::from_millis(stamp - 1));
                age <= FRESH_FOR
            }
        }
    }
}

/// Of the account that one of our own tokens was made of.
fn revision(identity: &Identity) -> i64 {
    identity
        .claims
        .get(REVISION_CLAIM)
        .and_then(serde_json::Value::as_i64)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
