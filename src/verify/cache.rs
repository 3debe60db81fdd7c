//! Tokens that were verified already: a table of each worker's own, and one that all share behind it.
//!
//! Enters: a whole token, or the digest of one, and what it was verified as. Leaves: the same, for as long as it holds; the
//! caller must still compare time and keys ([`Verified::holds`]) and look for a revocation. Only success is kept here.
//! A hit in the worker's own table allocates nothing and touches no memory that other workers write.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;
use serde_json::Value;
use zeroize::Zeroizing;

use super::issuer::Issuer;
use crate::clock::UnixSeconds;
use crate::identity::Caller;

/// The most bytes that the shared table holds, by the estimate of [`Verified::weight`].
const SHARED_BYTES: u64 = 64 * 1024 * 1024;
/// The most tokens that the shared table holds.
const SHARED_ENTRIES: u64 = 100_000;
/// No entry counts for less, so that the bound on bytes is one on entries too.
const LEAST_WEIGHT: u64 = SHARED_BYTES.div_ceil(SHARED_ENTRIES);

/// Places for one digest in a worker's table.
const WAYS: usize = 4;
/// Sets of such places; a power of two. 1,024 tokens in all.
const SETS: usize = 256;

/// The most bytes that a worker's table holds, by the same estimate.
const LOCAL_BYTES: usize = 16 * 1024 * 1024;

/// The digest of a whole token, by which the shared table finds it again.
pub(super) type Digest = [u8; 32];

/// A token that passed every check.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who it names.
    pub caller: Arc<Caller>,
    /// Who issued it.
    pub issuer: Arc<Issuer>,
    /// The generation of the issuer's keys that it was verified with.
    pub key_generation: u64,
    /// From this moment on it must be verified anew: `exp` or the end of `max_age`, without leeway.
    pub good_until: UnixSeconds,
    /// When it was verified.
    pub(super) verified_at: UnixSeconds,
    /// An estimate of the bytes that it keeps.
    pub(super) weight: usize,
}

impl Verified {
    /// Whether the verdict still stands at `now`, revocations apart.
    #[must_use]
    pub fn holds(&self, now: UnixSeconds) -> bool {
        now < self.good_until && self.key_generation == self.issuer.keys.generation()
    }

    /// The bytes that it counts for in the shared table.
    fn weight(&self) -> u32 {
        u32::try_from((self.weight as u64).max(LEAST_WEIGHT)).unwrap_or(u32::MAX)
    }
}

/// An estimate of the bytes behind a value: what an attacker could make large must not count as small.
pub(super) fn weigh(value: &Value) -> usize {
    /// A node of the map has room for eleven members and is at least half full, but for the only one.
    const NODE: usize = 11 * (size_of::<String>() + size_of::<Value>());
    let behind = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weigh).sum(),
        Value::Object(members) => {
            members.len().div_ceil(5) * NODE
                + members
                    .iter()
                    .map(|(name, value)| name.len() + weigh(value))
                    .sum::<usize>()
        }
    };
    size_of::<Value>() + behind
}

/// How often a worker's table, the shared one, or neither had the token.
#[derive(Debug, Default)]
pub struct CacheCounters {
    local: AtomicU64,
    shared: AtomicU64,
    missed: AtomicU64,
}

impl CacheCounters {
    /// Tokens that the worker's own table had.
    #[must_use]
    pub fn local_hits(&self) -> u64 {
        self.local.load(Ordering::Relaxed)
    }

    /// Tokens that only the shared table had.
    #[must_use]
    pub fn shared_hits(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }

    /// Tokens that had to be verified.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    pub(super) fn count_local(&self) {
        self.local.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_shared(&self) {
        self.shared.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_miss(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }
}

/// A token, whole: to compare it costs a tenth of a digest, and two tokens that are equal are the same token. Its bytes
/// are wiped when it goes.
struct Slot {
    token: Zeroizing<Vec<u8>>,
    verified: Arc<Verified>,
}

impl Slot {
    /// Whether this is `token`. No early end, so that the time says nothing about how much of it is right.
    fn is(&self, token: &[u8]) -> bool {
        self.token.len() == token.len()
            && self
                .token
                .iter()
                .zip(token)
                .fold(0, |seen, (a, b)| seen | (a ^ b))
                == 0
    }

    fn bytes(&self) -> usize {
        self.verified.weight.saturating_add(self.token.len())
    }
}

/// One worker's table: 1,024 places and 16 MiB, and never more.
pub struct LocalCache {
    /// The verifier that filled it; another one's verdicts are not its own.
    table: u64,
    sets: Box<[[Option<Slot>; WAYS]]>,
    /// Spreads tokens over the sets in a way that no client knows.
    spread: RandomState,
    bytes: usize,
    counters: Arc<CacheCounters>,
}

impl Default for LocalCache {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalCache {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: 0,
            sets: (0..SETS).map(|_| [const { None }; WAYS]).collect(),
            spread: RandomState::new(),
            bytes: 0,
            counters: Arc::default(),
        }
    }

    /// The counts of this table, for the metrics.
    #[must_use]
    pub fn counters(&self) -> &Arc<CacheCounters> {
        &self.counters
    }

    /// Forgets everything if the table was filled by another verifier than that of generation `table`.
    pub(super) fn enter(&mut self, table: u64) {
        if self.table != table {
            self.table = table;
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.sets.iter_mut().flatten().for_each(|slot| *slot = None);
        self.bytes = 0;
    }

    /// What `token` was verified as. The one found moves a place to the front, the last place is overwritten next.
    pub(super) fn find(&mut self, token: &str) -> Option<&Arc<Verified>> {
        let set = self.set_of(token);
        let set = &mut self.sets[set];
        let way = set
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|slot| slot.is(token.as_bytes())))?;
        let place = way.saturating_sub(1);
        set.swap(way, place);
        set[place].as_ref().map(|slot| &slot.verified)
    }

    /// Keeps a token in place of an earlier verdict about it, or of the set's least used.
    pub(super) fn keep(&mut self, token: &str, verified: Arc<Verified>) {
        let slot = Slot {
            token: Zeroizing::new(token.as_bytes().to_vec()),
            verified,
        };
        if self.bytes.saturating_add(slot.bytes()) > LOCAL_BYTES {
            // Rare, and the shared table still has them.
            self.clear();
        }
        self.bytes = self.bytes.saturating_add(slot.bytes());
        let set = self.set_of(token);
        let set = &mut self.sets[set];
        let same = set
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|slot| slot.is(token.as_bytes())));
        let way = same
            .or_else(|| set.iter().position(Option::is_none))
            .unwrap_or(WAYS - 1);
        if let Some(before) = set[way].replace(slot) {
            self.bytes = self.bytes.saturating_sub(before.bytes());
        }
    }

    /// By the end of the token: that is the signature, which no two tokens share.
    fn set_of(&self, token: &str) -> usize {
        let bytes = token.as_bytes();
        let end = &bytes[bytes.len().saturating_sub(32)..];
        usize::try_from(self.spread.hash_one(end) % SETS as u64).unwrap_or(0)
    }
}

impl std::fmt::Debug for LocalCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalCache")
            .field("table", &self.table)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// Removes a token when it is due.
struct UntilDue;

impl Expiry<Digest, Arc<Verified>> for UntilDue {
    fn expire_after_create(&self, _: &Digest, verified: &Arc<Verified>, _: Instant) -> Option<Duration> {
        let seconds = verified.good_until.saturating_sub(verified.verified_at);
        // A day is enough: what is still in use then is verified once more.
        Some(Duration::from_secs(
            u64::try_from(seconds).unwrap_or(0).min(86_400),
        ))
    }

    fn expire_after_update(
        &self,
        digest: &Digest,
        verified: &Arc<Verified>,
        at: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(digest, verified, at)
    }
}

/// The table that all workers share, of one verifier. A clone is the same table.
#[derive(Clone)]
pub(super) struct SharedCache(Cache<Digest, Arc<Verified>>);

impl SharedCache {
    pub(super) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(SHARED_BYTES)
                .weigher(|_: &Digest, verified: &Arc<Verified>| verified.weight())
                .expire_after(UntilDue)
                .build(),
        )
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<Verified>> {
        self.0.get(digest)
    }

    pub(super) fn keep(&self, digest: Digest, verified: Arc<Verified>) {
        self.0.insert(digest, verified);
    }

    /// Tokens in it. Not for the request path: what was put in lately is counted first.
    pub(super) fn len(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}
