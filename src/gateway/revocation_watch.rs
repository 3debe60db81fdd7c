//! While an answer is under way, or a WebSocket is open, its caller may be signed out or revoked: then it ends.
//!
//! Enters: who was let in, and the count of revocations when that was decided. Leaves: that it is over. A look costs one
//! atomic load; only who waits for the app, with nothing else to wake it, is woken by a revocation.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::verify::{Revocations, Verified};

/// One request's.
pub(super) struct RevocationWatch {
    verified: Arc<Verified>,
    /// The count of revocations up to which it is known to be in force.
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
    /// `seen`: [`Revocations::generation`] before `verified` was verified.
    pub(super) fn new(verified: Arc<Verified>, seen: u64) -> Self {
        Self {
            verified,
            seen,
            waiting: None,
        }
    }

    /// Whether it is over, by a look.
    pub(super) fn is_over(&mut self, revocations: &Revocations) -> bool {
        let generation = revocations.generation();
        if generation == self.seen {
            return false;
        }
        self.seen = generation;
        is_revoked(revocations, &self.verified)
    }

    /// Ready when it is over.
    pub(super) fn poll_over(&mut self, revocations: &Arc<Revocations>, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(over(Arc::clone(revocations), Arc::clone(&self.verified))));
        waiting.as_mut().poll(cx)
    }

    /// The same to be awaited.
    pub(super) fn over(&self, revocations: &Arc<Revocations>) -> impl Future<Output = ()> + Send + 'static {
        over(Arc::clone(revocations), Arc::clone(&self.verified))
    }
}

/// Ends when `verified` is revoked.
async fn over(revocations: Arc<Revocations>, verified: Arc<Verified>) {
    // First the ear, then the look: what comes between the two is heard.
    let mut news = revocations.subscribe();
    while !is_revoked(&revocations, &verified) {
        if news.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// However old what is known may be: a state that cannot be read ends nothing that was let in while it could, and what is
/// heard of when it can be read again must not pass unnoticed, for it is told once.
fn is_revoked(revocations: &Revocations, verified: &Verified) -> bool {
    revocations.covers(verified.issuer.revocation_key(), &verified.caller.identity)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::*;
    use crate::revocation::{Revocation, Target};
    use crate::signing::{MintRequest, SigningKeys};
    use crate::state::sqlite::Sqlite;
    use crate::verify::{Algorithm, Issuers, KeySet, LocalCache, Origin, Verifier};

    const NOW: i64 = 1_800_000_000;

    #[tokio::test]
    async fn what_is_heard_after_a_silence_of_the_state_ends_it_too() {
        let revocations = Arc::new(Revocations::new());
        revocations.attach();
        revocations.touch(Instant::now());
        let signing = SigningKeys::load_or_create(&Sqlite::in_memory().unwrap(), NOW).unwrap();
        let (keys, _) = KeySet::from_jwks(signing.jwks(NOW).to_string().as_bytes(), Origin::File).unwrap();
        let mut issuers = Issuers::default();
        issuers
            .add_own(
                "session",
                "http://localhost",
                "http://localhost",
                &[Algorithm::EdDSA],
                keys,
            )
            .unwrap();
        let verifier = Verifier::new(issuers, Arc::clone(&revocations));
        let token = signing
            .mint(&MintRequest::new("http://localhost", "ann"), NOW)
            .unwrap();
        let verified = verifier.verify(&mut LocalCache::new(), &token, NOW).unwrap();

        // As after ten seconds without a reading: nobody new is let in.
        let silent = Arc::new(Revocations::new());
        silent.attach();
        let mut vigil = RevocationWatch::new(verified, silent.generation());
        let waiting = vigil.over(&silent);
        assert!(!vigil.is_over(&silent), "the silence alone ends nothing");
        let target = Target::Subject("ann".to_owned());
        // Put in force before it is said that the reading was good.
        silent.replace([Revocation {
            issuer: "session".to_owned(),
            target,
            revoked_at: NOW,
            expires_at: None,
        }]);
        assert!(vigil.is_over(&silent));
        waiting.await;
    }
}
