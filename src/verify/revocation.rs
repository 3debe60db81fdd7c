//! Which tokens are revoked, as every worker reads it.
//!
//! Enters: rows from the state store, whole, at each of its changes. Leaves: a verdict for every request, also for one
//! that the token cache answers. Once a store is attached, silence from it is not taken for "nobody is revoked": when
//! it has not been read for ten seconds, nobody is let in.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

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
}

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

#[derive(Debug, Default)]
struct OfIssuer {
    /// `jti`s, whenever they were revoked.
    token_ids: HashSet<String>,
    /// `sid`s.
    sessions: HashSet<String>,
    /// `sub`s, with the last moment up to which their tokens are revoked.
    subjects: HashMap<String, UnixSeconds>,
}

/// All revocations in force.
#[derive(Debug)]
pub struct Revocations {
    by_issuer: ArcSwap<HashMap<String, OfIssuer>>,
    /// When the store was last read: milliseconds after `start`, plus one; or [`DETACHED`] or [`NEVER`].
    refreshed: AtomicU64,
    start: Instant,
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
        Self { by_issuer: ArcSwap::default(), refreshed: AtomicU64::new(DETACHED), start: Instant::now() }
    }

    /// Says that there is a store, from now on and for ever. Until it has been read for the first time, every check fails.
    pub fn attach(&self) {
        let _ = self.refreshed.compare_exchange(DETACHED, NEVER, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Puts `rows` in place of all that were in force before. Of two rows about one subject the later one counts.
    pub fn replace(&self, rows: impl IntoIterator<Item = RevocationRow>) {
        let mut by_issuer: HashMap<String, OfIssuer> = HashMap::new();
        for row in rows {
            let of_issuer = by_issuer.entry(row.issuer).or_default();
            match row.kind {
                Revoked::TokenId(id) => {
                    of_issuer.token_ids.insert(id);
                }
                Revoked::Session(id) => {
                    of_issuer.sessions.insert(id);
                }
                Revoked::Subject(subject) => {
                    let until = of_issuer.subjects.entry(subject).or_insert(row.revoked_at);
                    *until = row.revoked_at.max(*until);
                }
            }
        }
        self.by_issuer.store(Arc::new(by_issuer));
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
            .map(|of_issuer| of_issuer.token_ids.len() + of_issuer.subjects.len() + of_issuer.sessions.len())
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
    /// [`Refusal::Revoked`], or [`Refusal::StateUnavailable`] where nobody can know.
    pub fn check(&self, issuer: &str, identity: &Identity, at: Instant) -> Result<(), Refusal> {
        if !self.is_fresh(at) {
            return Err(Refusal::StateUnavailable);
        }
        let by_issuer = self.by_issuer.load();
        if by_issuer.is_empty() {
            return Ok(());
        }
        let Some(of_issuer) = by_issuer.get(issuer) else { return Ok(()) };
        let is_id_revoked = identity.token_id.as_ref().is_some_and(|id| of_issuer.token_ids.contains(id));
        let is_session_over = identity.session_id.as_ref().is_some_and(|id| of_issuer.sessions.contains(id));
        let is_subject_revoked = of_issuer
            .subjects
            .get(&identity.subject)
            // A token that does not say when it was issued may have been issued before.
            .is_some_and(|until| identity.issued_at.is_none_or(|issued_at| issued_at <= *until));
        if is_id_revoked || is_session_over || is_subject_revoked { Err(Refusal::Revoked) } else { Ok(()) }
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
    }
}
