//! Which tokens are revoked, as every worker reads it.
//!
//! Enters: rows from the state store, whole, at each of its changes, and single ones that this process has just written
//! there. Leaves: a verdict for every request, also for one that the token cache answers, and a ring for whoever holds a
//! stream open. Once a store is attached, silence from it is not taken for "nobody is revoked": when it has not been
//! read for ten seconds, nobody is let in. Never here: a reading of the store that undoes what was written after it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::clock::UnixSeconds;
use crate::identity::Identity;
use crate::refusal::Refusal;

/// How old the last successful reading of the store may be.
pub const FRESH_FOR: Duration = Duration::from_secs(10);

/// No store is attached: nothing can be revoked, and nothing needs to be read.
const DETACHED: u64 = u64::MAX;
/// A store is attached and has never been read.
const NEVER: u64 = 0;

/// What one row revokes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The token with this `jti`.
    TokenId(String),
    /// Every token of this `sub` that was issued up to the moment of the revocation.
    Subject(String),
    /// Every token of this `sid`.
    Session(String),
    /// Nothing; but what tokens of a session of this `sub` say that were made of an earlier revision of its account is no
    /// longer so.
    Stale {
        /// `sub`
        subject: String,
        /// The revision that is up to date.
        revision: i64,
    },
}

/// The claim of our own tokens that says of which revision of the account they were made; none is the first one, 0.
pub const REVISION_CLAIM: &str = "rev";

/// One revocation, as the state store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationRow {
    /// [`Issuer::revocation_key`](super::Issuer::revocation_key) of the issuer.
    pub issuer: String,
    /// What is revoked.
    pub kind: Revoked,
    /// When, in seconds since 1970.
    pub revoked_at: UnixSeconds,
    /// From when on the store may forget it, because no such token can be valid any more.
    pub expires_at: Option<UnixSeconds>,
}

/// What is to be different about what is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These, and no others.
    Replace(Vec<RevocationRow>),
    /// These as well.
    Add(Vec<RevocationRow>),
}

#[derive(Clone, Debug, Default)]
struct OfIssuer {
    /// `jti`s, whenever they were revoked.
    token_ids: HashSet<String>,
    /// `sid`s.
    sessions: HashSet<String>,
    /// `sub`s, with the last moment up to which their tokens are revoked.
    subjects: HashMap<String, UnixSeconds>,
    /// `sub`s, with the revision that is up to date.
    revisions: HashMap<String, i64>,
}

impl OfIssuer {
    /// Puts one more in force. Of two about one subject the later one counts.
    fn put(&mut self, kind: Revoked, revoked_at: UnixSeconds) {
        match kind {
            Revoked::TokenId(id) => {
                self.token_ids.insert(id);
            }
            Revoked::Session(id) => {
                self.sessions.insert(id);
            }
            Revoked::Subject(subject) => {
                let until = self.subjects.entry(subject).or_insert(revoked_at);
                *until = revoked_at.max(*until);
            }
            Revoked::Stale { subject, revision } => {
                let latest = self.revisions.entry(subject).or_insert(revision);
                *latest = revision.max(*latest);
            }
        }
    }

    /// Whether everything that this would revoke is revoked.
    fn covers(&self, kind: &Revoked, revoked_at: UnixSeconds) -> bool {
        match kind {
            Revoked::TokenId(id) => self.token_ids.contains(id),
            Revoked::Session(id) => self.sessions.contains(id),
            Revoked::Subject(subject) => self.subjects.get(subject).is_some_and(|until| revoked_at <= *until),
            Revoked::Stale { subject, revision } => {
                self.revisions.get(subject).is_some_and(|latest| revision <= latest)
            }
        }
    }

    fn revokes(&self, identity: &Identity) -> bool {
        let is_id_revoked = identity.token_id.as_ref().is_some_and(|id| self.token_ids.contains(id));
        let is_session_over = identity.session_id.as_ref().is_some_and(|id| self.sessions.contains(id));
        let is_subject_revoked = self
            .subjects
            .get(&identity.subject)
            // A token that does not say when it was issued may have been issued before.
            .is_some_and(|until| identity.issued_at.is_none_or(|issued_at| issued_at <= *until));
        is_id_revoked || is_session_over || is_subject_revoked
    }

    /// Only a token of a session was made of an account, and can be had anew.
    fn outdates(&self, identity: &Identity) -> bool {
        identity.session_id.is_some()
            && self.revisions.get(&identity.subject).is_some_and(|latest| revision(identity) < *latest)
    }
}

/// By [`Issuer::revocation_key`](super::Issuer::revocation_key). A row more copies those of its own issuer only.
type ByIssuer = HashMap<String, Arc<OfIssuer>>;

/// All revocations in force.
#[derive(Debug)]
pub struct Revocations {
    by_issuer: ArcSwap<ByIssuer>,
    /// When the store was last read: milliseconds after `start`, plus one; or [`DETACHED`] or [`NEVER`].
    refreshed: AtomicU64,
    start: Instant,
    /// Held by whoever reads or writes the store until what came of it is in force. Never by a worker.
    writing: Mutex<()>,
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
            generation: AtomicU64::new(0),
            bell: watch::Sender::new(0),
        }
    }

    /// Says that there is a store, from now on and for ever. Until it has been read for the first time, every check fails.
    pub fn attach(&self) {
        let _ = self.refreshed.compare_exchange(DETACHED, NEVER, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Puts `rows` in place of all that were in force before. Of two rows about one subject the later one counts. Where
    /// they were read from a store that somebody in this process writes to, use [`Revocations::reconcile`].
    pub fn replace(&self, rows: impl IntoIterator<Item = RevocationRow>) {
        let change = Change::Replace(rows.into_iter().collect());
        let _alone = self.write();
        self.apply(change);
    }

    /// Does `work` on the store and puts in force what came of it, in one step: nobody else reads or writes the store by
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

    /// Only while `writing` is held.
    fn apply(&self, change: Change) {
        let before = self.by_issuer.load_full();
        let (mut after, rows) = match change {
            Change::Replace(rows) => (ByIssuer::new(), rows),
            Change::Add(rows) => (ByIssuer::clone(&before), rows),
        };
        let mut is_more = false;
        for RevocationRow { issuer, kind, revoked_at, .. } in rows {
            is_more |= !before.get(&issuer).is_some_and(|before| before.covers(&kind, revoked_at));
            Arc::make_mut(after.entry(issuer).or_default()).put(kind, revoked_at);
        }
        self.by_issuer.store(Arc::new(after));
        if is_more {
            // After the rows, so that whoever sees the number or hears the bell finds them.
            let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
            self.bell.send_replace(generation);
        }
    }

    /// Says that what is in force agreed with the store at `at`. Attaches a store, if none was.
    pub fn touch(&self, at: Instant) {
        let since = u64::try_from(at.saturating_duration_since(self.start).as_millis()).unwrap_or(DETACHED - 2);
        let stamp = since.min(DETACHED - 2) + 1;
        // Two readers may finish in either order; the later reading counts.
        let _ = self.refreshed.fetch_update(Ordering::AcqRel, Ordering::Acquire, |before| {
            (before == DETACHED || before < stamp).then_some(stamp)
        });
    }

    /// How many revocations are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_issuer
            .load()
            .values()
            .map(|of_issuer| {
                let OfIssuer { token_ids, sessions, subjects, revisions } = &**of_issuer;
                token_ids.len() + sessions.len() + subjects.len() + revisions.len()
            })
            .sum()
    }

    /// Whether none is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_issuer.load().is_empty()
    }

    /// Whether `identity`, whose issuer has this key, may still be let in at `at`. Allocates nothing.
    ///
    /// # Errors
    /// [`Refusal::Revoked`]; [`Refusal::Stale`] where it is not, and a new token would say something else;
    /// [`Refusal::StateUnavailable`] where nobody can know.
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
        self.by_issuer.load().get(issuer).is_some_and(|of_issuer| of_issuer.revokes(identity))
    }

    /// Whether a session that this subject opened at `opened_at` is over by a revocation in force: its own, or one of
    /// everything that its subject had been issued. Says nothing about how old that knowledge is.
    #[must_use]
    pub fn covers_session(&self, issuer: &str, id: &str, subject: &str, opened_at: UnixSeconds) -> bool {
        let by_issuer = self.by_issuer.load();
        by_issuer.get(issuer).is_some_and(|of_issuer| {
            of_issuer.sessions.contains(id) || of_issuer.subjects.get(subject).is_some_and(|until| opened_at <= *until)
        })
    }

    /// Whether the store, if there is one, has been read a short time before `at`.
    #[must_use]
    pub fn is_fresh(&self, at: Instant) -> bool {
        match self.refreshed.load(Ordering::Acquire) {
            DETACHED => true,
            NEVER => false,
            stamp => {
                let age = at.saturating_duration_since(self.start).saturating_sub(Duration::from_millis(stamp - 1));
                age <= FRESH_FOR
            }
        }
    }
}

/// Of the account that one of our own tokens was made of.
fn revision(identity: &Identity) -> i64 {
    identity.claims.get(REVISION_CLAIM).and_then(serde_json::Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;

    fn identity(issuer: &str, subject: &str, token_id: Option<&str>, issued_at: Option<UnixSeconds>) -> Identity {
        Identity {
            issuer: issuer.into(),
            subject: subject.to_owned(),
            email: None,
            name: None,
            roles: Vec::new(),
            scopes: Vec::new(),
            token_id: token_id.map(str::to_owned),
            session_id: None,
            issued_at,
            expires_at: 1_000,
            claims: Map::new(),
        }
    }

    fn row(issuer: &str, kind: Revoked, revoked_at: UnixSeconds) -> RevocationRow {
        RevocationRow { issuer: issuer.to_owned(), kind, revoked_at, expires_at: None }
    }

    #[test]
    fn a_token_id_is_revoked_at_its_own_issuer_only() {
        let revocations = Revocations::new();
        let now = Instant::now();
        assert_eq!(revocations.check("corp", &identity("corp", "ann", Some("1"), None), now), Ok(()));
        revocations.replace([row("corp", Revoked::TokenId("1".into()), 100)]);
        assert_eq!(
            revocations.check("corp", &identity("corp", "ann", Some("1"), Some(500)), now),
            Err(Refusal::Revoked)
        );
        assert_eq!(revocations.check("corp", &identity("corp", "ann", Some("2"), Some(500)), now), Ok(()));
        assert_eq!(revocations.check("corp", &identity("corp", "1", None, Some(500)), now), Ok(()));
        assert_eq!(revocations.check("other", &identity("other", "ann", Some("1"), Some(500)), now), Ok(()));
        revocations.replace([]);
        assert_eq!(revocations.check("corp", &identity("corp", "ann", Some("1"), None), now), Ok(()));
    }

    #[test]
    fn everything_that_a_subject_was_issued_up_to_the_moment_is_revoked() {
        let revocations = Revocations::new();
        let now = Instant::now();
        let subject = |at| row("corp", Revoked::Subject("ann".into()), at);
        revocations.replace([subject(100), subject(200), subject(150)]);
        assert_eq!(revocations.len(), 1);
        for (issued_at, expected) in [
            (Some(199), Err(Refusal::Revoked)),
            (Some(200), Err(Refusal::Revoked)),
            (Some(201), Ok(())),
            (None, Err(Refusal::Revoked)),
        ] {
            assert_eq!(
                revocations.check("corp", &identity("corp", "ann", None, issued_at), now),
                expected,
                "{issued_at:?}"
            );
        }
        assert_eq!(revocations.check("corp", &identity("corp", "bob", None, None), now), Ok(()));
    }

    #[test]
    fn nobody_is_let_in_while_an_attached_store_is_silent() {
        let revocations = Revocations::new();
        let ann = identity("corp", "ann", None, None);
        let start = revocations.start;
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(revocations.check("corp", &ann, after(1_000)), Ok(()), "no store");
        revocations.attach();
        assert_eq!(revocations.check("corp", &ann, after(1)), Err(Refusal::StateUnavailable), "never read");
        revocations.touch(after(1));
        assert_eq!(revocations.check("corp", &ann, after(11)), Ok(()));
        assert_eq!(revocations.check("corp", &ann, after(12)), Err(Refusal::StateUnavailable), "not read for too long");
        revocations.touch(after(20));
        revocations.touch(after(5));
        revocations.attach();
        assert_eq!(revocations.check("corp", &ann, after(30)), Ok(()));
        // What is known to be revoked stays so, however old that knowledge is.
        assert!(!revocations.covers("corp", &ann));
        revocations.replace([row("corp", Revoked::Subject("ann".into()), 100)]);
        assert!(revocations.covers("corp", &ann));
        assert_eq!(revocations.check("corp", &ann, after(40)), Err(Refusal::StateUnavailable));
    }

    fn session(id: &str) -> RevocationRow {
        row("session", Revoked::Session(id.to_owned()), 100)
    }

    fn of_session(id: &str) -> Identity {
        Identity { session_id: Some(id.to_owned()), ..identity("session", "ann", Some("t"), Some(500)) }
    }

    fn of_revision(session_id: Option<&str>, revision: Option<i64>) -> Identity {
        let claims = revision.map(|revision| (REVISION_CLAIM.to_owned(), revision.into())).into_iter().collect();
        Identity { session_id: session_id.map(str::to_owned), claims, ..of_session("s1") }
    }

    #[test]
    fn a_token_of_an_earlier_revision_is_stale_and_one_without_a_session_never() {
        let revocations = Revocations::new();
        let now = Instant::now();
        let stale = |revision| row("session", Revoked::Stale { subject: "ann".to_owned(), revision }, 100);
        revocations.replace([stale(3), stale(5), stale(4)]);
        assert_eq!(revocations.len(), 1);
        for (revision, expected) in
            [(None, Err(Refusal::Stale)), (Some(4), Err(Refusal::Stale)), (Some(5), Ok(())), (Some(6), Ok(()))]
        {
            assert_eq!(revocations.check("session", &of_revision(Some("s1"), revision), now), expected, "{revision:?}");
            assert_eq!(revocations.check("session", &of_revision(None, revision), now), Ok(()), "{revision:?}");
            assert_eq!(revocations.check("corp", &of_revision(Some("s1"), revision), now), Ok(()), "{revision:?}");
        }
        let bob = Identity { subject: "bob".to_owned(), ..of_revision(Some("s1"), None) };
        assert_eq!(revocations.check("session", &bob, now), Ok(()));
        assert!(!revocations.covers_session("session", "s1", "ann", 0), "its session goes on");
    }

    #[test]
    fn what_is_revoked_and_stale_is_revoked() {
        let revocations = Revocations::new();
        let now = Instant::now();
        let stale = row("session", Revoked::Stale { subject: "ann".to_owned(), revision: 1 }, 100);
        revocations.replace([stale.clone()]);
        assert_eq!(revocations.generation(), 1);
        let earlier = of_revision(Some("s1"), Some(0));
        assert_eq!(revocations.check("session", &earlier, now), Err(Refusal::Stale));
        assert!(!revocations.covers("session", &earlier), "what is open goes on");
        revocations.replace([stale.clone()]);
        assert_eq!(revocations.generation(), 1, "nothing new");
        revocations.replace([stale, session("s1")]);
        assert_eq!(revocations.check("session", &earlier, now), Err(Refusal::Revoked));
        assert!(revocations.covers("session", &earlier));
        assert_eq!(revocations.check("session", &of_revision(Some("s1"), Some(1)), now), Err(Refusal::Revoked));
    }

    #[test]
    fn a_session_is_over_for_all_its_tokens_and_for_no_others() {
        let revocations = Revocations::new();
        let now = Instant::now();
        revocations.replace([session("s1")]);
        assert_eq!(revocations.check("session", &of_session("s1"), now), Err(Refusal::Revoked));
        assert_eq!(revocations.check("session", &of_session("s2"), now), Ok(()));
        assert_eq!(revocations.check("corp", &of_session("s1"), now), Ok(()));
        assert!(revocations.covers_session("session", "s1", "ann", 500));
        assert!(!revocations.covers_session("session", "s2", "ann", 500));
        revocations.replace([row("session", Revoked::Subject("ann".into()), 100)]);
        assert!(revocations.covers_session("session", "s2", "ann", 100));
        assert!(!revocations.covers_session("session", "s2", "ann", 101));
        assert!(!revocations.covers_session("session", "s2", "bob", 100));
        assert!(!revocations.covers_session("corp", "s2", "ann", 100));
    }

    #[test]
    fn what_is_added_leaves_the_rest_in_force() {
        let revocations = Revocations::new();
        let subject = |at| row("session", Revoked::Subject("bob".into()), at);
        revocations.replace([session("s1"), row("corp", Revoked::TokenId("1".into()), 100), subject(200)]);
        let add = |rows: &[RevocationRow]| revocations.reconcile(|| Ok::<_, Refusal>(((), Change::Add(rows.to_vec()))));
        assert_eq!(add(&[session("s2"), subject(100)]), Ok(()));
        assert_eq!(revocations.len(), 4);
        let now = Instant::now();
        for id in ["s1", "s2"] {
            assert_eq!(revocations.check("session", &of_session(id), now), Err(Refusal::Revoked), "{id}");
        }
        let bob = identity("session", "bob", None, Some(200));
        assert_eq!(revocations.check("session", &bob, now), Err(Refusal::Revoked), "the later one counts");
    }

    #[test]
    fn work_that_failed_changes_nothing_and_what_it_returns_comes_back() {
        let revocations = Revocations::new();
        revocations.replace([session("s1")]);
        let failed: Result<(), _> = revocations.reconcile(|| Err(Refusal::StateUnavailable));
        assert_eq!((failed, revocations.len()), (Err(Refusal::StateUnavailable), 1));
        let done = revocations.reconcile(|| Ok::<_, Refusal>((7, Change::Replace(Vec::new()))));
        assert_eq!((done, revocations.is_empty()), (Ok(7), true));
    }

    #[test]
    fn the_bell_rings_for_what_was_not_in_force_before_and_for_nothing_else() {
        let revocations = Revocations::new();
        let mut bell = revocations.subscribe();
        let subject = |at| row("corp", Revoked::Subject("ann".into()), at);
        let mut rings = |what: Change, expected: bool| {
            let before = revocations.generation();
            let text = format!("{what:?}");
            revocations.reconcile(|| Ok::<_, Refusal>(((), what))).unwrap();
            assert_eq!(bell.has_changed().unwrap(), expected, "{text}");
            assert_eq!(revocations.generation(), before + u64::from(expected), "{text}");
            assert_eq!(*bell.borrow_and_update(), revocations.generation(), "{text}");
        };
        rings(Change::Replace(Vec::new()), false);
        rings(Change::Add(Vec::new()), false);
        rings(Change::Replace(vec![session("s1"), subject(100)]), true);
        rings(Change::Replace(vec![subject(100), session("s1")]), false);
        rings(Change::Add(vec![session("s1")]), false);
        rings(Change::Add(vec![session("s2"), session("s3")]), true);
        rings(Change::Replace(vec![session("s3")]), false);
        rings(Change::Replace(vec![session("s3"), subject(100)]), true);
        rings(Change::Add(vec![subject(99)]), false);
        rings(Change::Add(vec![subject(101)]), true);
        rings(Change::Add(vec![row("other", Revoked::Session("s3".into()), 100)]), true);
        rings(Change::Add(vec![row("session", Revoked::TokenId("s3".into()), 100)]), true);
    }

    #[tokio::test]
    async fn who_hears_the_bell_finds_the_row_in_force() {
        let revocations = Arc::new(Revocations::new());
        let ringer = Arc::clone(&revocations);
        let mut bell = revocations.subscribe();
        let rows = 200;
        let thread = std::thread::spawn(move || {
            for index in 1..=rows {
                let added = Change::Add(vec![session(&index.to_string())]);
                ringer.reconcile(|| Ok::<_, Refusal>(((), added))).unwrap();
            }
        });
        let mut heard = 0;
        while heard < rows {
            bell.changed().await.unwrap();
            heard = *bell.borrow_and_update();
            let verdict = revocations.check("session", &of_session(&heard.to_string()), Instant::now());
            assert_eq!(verdict, Err(Refusal::Revoked), "{heard}");
        }
        thread.join().unwrap();
        assert_eq!(revocations.len() as u64, rows);
    }

    #[test]
    fn a_reading_from_before_a_write_does_not_undo_it() {
        let revocations = Arc::new(Revocations::new());
        // What the store holds.
        let store = Arc::new(Mutex::new(Vec::new()));
        let (read, is_read) = std::sync::mpsc::sync_channel(0);
        let watcher = {
            let (revocations, store) = (Arc::clone(&revocations), Arc::clone(&store));
            std::thread::spawn(move || {
                revocations.reconcile(|| {
                    let stale = store.lock().unwrap().clone();
                    read.send(()).unwrap();
                    // The writer has every chance to come in between here, if it can.
                    for _ in 0..10_000 {
                        std::thread::yield_now();
                    }
                    Ok::<_, Refusal>(((), Change::Replace(stale)))
                })
            })
        };
        is_read.recv().unwrap();
        revocations
            .reconcile(|| {
                store.lock().unwrap().push(session("s1"));
                Ok::<_, Refusal>(((), Change::Add(vec![session("s1")])))
            })
            .unwrap();
        watcher.join().unwrap().unwrap();
        let verdict = revocations.check("session", &of_session("s1"), Instant::now());
        assert_eq!(verdict, Err(Refusal::Revoked));
    }
}
