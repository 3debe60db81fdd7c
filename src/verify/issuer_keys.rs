//! The keys of one issuer while they change.
//!
//! Input: key sets, from a file at first and then as they are fetched. Output: the set of now, with a generation that grows at
//! each change. Invariant: a token that was verified with an older generation is verified again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::algorithm::Algorithm;
use super::keys::KeySet;

/// The keys of an issuer at one time.
#[derive(Debug)]
pub struct Keys {
    /// None before the first set.
    pub set: Option<Arc<KeySet>>,
    /// 0 before the first set; one more at each change.
    pub generation: u64,
}

/// The keys of an issuer, which any thread reads and one task replaces.
pub struct IssuerKeys {
    keys: ArcSwap<Keys>,
    /// That of `keys`, beside it, so that a cached token can be compared with one read.
    generation: AtomicU64,
    writing: Mutex<()>,
}

impl IssuerKeys {
    /// Starts with `set`, or with none.
    pub(super) fn new(set: Option<KeySet>) -> Self {
        let generation = u64::from(set.is_some());
        Self {
            keys: ArcSwap::from_pointee(Keys {
                set: set.map(Arc::new),
                generation,
            }),
            generation: AtomicU64::new(generation),
            writing: Mutex::new(()),
        }
    }

    /// The keys now. The guard must not be held over an await.
    pub fn now(&self) -> Guard<Arc<Keys>> {
        self.keys.load()
    }

    /// The generation of the keys: it grows at each change, and at nothing else.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts `set` in place of the keys; every token that was verified with the old ones is verified anew. Says whether
    /// that was a change: the same keys again are none.
    pub fn replace(&self, set: impl Into<Arc<KeySet>>) -> bool {
        let set = set.into();
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.keys.load();
        if before.set.as_ref().is_some_and(|before| before.is_same(&set)) {
            return false;
        }
        let generation = before.generation + 1;
        self.keys.store(Arc::new(Keys {
            set: Some(set),
            generation,
        }));
        self.generation.store(generation, Ordering::Release);
        true
    }

    /// Whether a key is there that a token with this `kid` and `alg` means.
    pub(super) fn has(&self, kid: Option<&str>, algorithm: Algorithm) -> bool {
        let keys = self.keys.load();
        keys.set.as_ref().is_some_and(|set| set.has(kid, algorithm))
    }
}
