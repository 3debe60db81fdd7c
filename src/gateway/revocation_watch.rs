//! The watch over a credential while its request is under way: an answer, or an open WebSocket, ends when the caller is
//! signed out or revoked.
//!
//! Input: what the credential grants, and the count of revocations when it was accepted. Output: that it is over. A look
//! costs one atomic load; only a task that waits for the app, with nothing else to wake it, is woken by a revocation.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::authenticate::Grant;
use crate::verify::Revocations;

/// The watch of one request.
pub(super) struct RevocationWatch {
    grant: Grant,
    /// The count of revocations up to which the credential is known to be in force.
    seen: u64,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl std::fmt::Debug for RevocationWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RevocationWatch")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl RevocationWatch {
    /// `seen`: [`Revocations::generation`] before the credential was verified.
    pub(super) fn new(grant: Grant, seen: u64) -> Self {
        Self {
            grant,
            seen,
            waiting: None,
        }
    }

    /// Whether the credential has been revoked.
    pub(super) fn is_over(&mut self, revocations: &Revocations) -> bool {
        let generation = revocations.generation();
        if generation == self.seen {
            return false;
        }
        self.seen = generation;
        is_revoked(revocations, &self.grant)
    }

    /// Ready when the credential has been revoked.
    pub(super) fn poll_over(&mut self, revocations: &Arc<Revocations>, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(over(Arc::clone(revocations), self.grant.clone())));
        waiting.as_mut().poll(cx)
    }

    /// The same to be awaited.
    pub(super) fn over(&self, revocations: &Arc<Revocations>) -> impl Future<Output = ()> + Send + use<> {
        over(Arc::clone(revocations), self.grant.clone())
    }
}

/// Ends when the credential is revoked.
async fn over(revocations: Arc<Revocations>, grant: Grant) {
    // Subscribe before the first look, so that a revocation in between is not missed.
    let mut news = revocations.subscribe();
    while !is_revoked(&revocations, &grant) {
        if news.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// As far as is known, however old that is: a state that cannot be read ends nothing that was let in while it could be. A
/// revocation that is read later is announced once, and so must not be missed.
fn is_revoked(revocations: &Revocations, grant: &Grant) -> bool {
    grant
        .revocation_key()
        .is_some_and(|key| revocations.covers(key, &grant.caller().identity))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::*;
    use crate::revocation::{Revocation, Target};
    use crate::signing::{MintRequest, SigningKeys};
    use crate::state::sqlite::Sqlite;
    use crate::verify::{Issuers, KeySet, LocalCache, Origin, Verifier};

    const NOW: i64 = 1_800_000_000;

    #[tokio::test]
    async fn revocation_after_state_outage_ends_the_answer() {
        let revocations = Arc::new(Revocations::new());
        revocations.attach();
        revocations.touch(Instant::now());
        let signing = SigningKeys::load_or_create(
            &Sqlite::in_memory().unwrap(),
            crate::values::SigningAlgorithm::default(),
            NOW,
        )
        .unwrap();
        let (keys, _) = KeySet::from_jwks(signing.jwks(NOW).to_string().as_bytes(), Origin::File).unwrap();
        let mut issuers = Issuers::default();
        issuers
            .add_own("session", "http://localhost", "http://localhost", keys)
            .unwrap();
        let verifier = Verifier::new(issuers, Arc::clone(&revocations));
        let token = signing
            .mint(&MintRequest::new("http://localhost", "ann"), NOW)
            .unwrap();
        let verified = verifier.verify(&mut LocalCache::new(), &token, NOW).unwrap();

        // As after ten seconds without a reading: no new request is let in.
        let silent = Arc::new(Revocations::new());
        silent.attach();
        let mut watch = RevocationWatch::new(Grant::Token(verified), silent.generation());
        let waiting = watch.over(&silent);
        assert!(!watch.is_over(&silent), "the silence alone ends nothing");
        let target = Target::Subject("ann".to_owned());
        // Put in force before it is said that the reading was good.
        silent.replace([Revocation {
            issuer: "session".to_owned(),
            target,
            revoked_at: NOW,
            expires_at: None,
        }]);
        assert!(watch.is_over(&silent));
        waiting.await;
    }
}
