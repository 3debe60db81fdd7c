//! The last decisions, as they were made: for `passgate why`, `passgate diff` and the operator's page.
//!
//! Input: what the access log is told of a request that is over, and what its decision was made from. Output: the same again,
//! by request id or all of it. Invariants: no token, cookie, query or other field of a request is kept; memory is reserved once,
//! and does not grow with what clients send; a worker shares its table with a reader alone, who takes a few entries at a time.
//!
//! Refused and allowed requests have tables of their own, so that no number of allowed requests pushes a refusal out. Half of
//! each table holds the last requests of all clients. What leaves that half goes to one of [`LANES`] parts, which the address
//! of the client chooses: one client fills the first half and one part, and the rest keeps what others did.

mod entry;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use entry::{Attempt, Attempts, Deciding, Finding, Remembered, RouteOrigin};

use crate::http::client::ClientKey;

/// Decisions that are kept of each of the two kinds, of all workers together.
const KEPT: usize = 2048;
/// The least for one worker.
const LEAST: usize = 64;
/// The parts for what is no longer among the last requests.
const LANES: usize = 16;
/// Entries that a reader copies while a worker may wait.
const AT_ONCE: usize = 32;

/// The tables of all workers.
#[derive(Debug)]
pub struct Decisions {
    workers: Vec<Arc<WorkerDecisions>>,
}

/// The tables of one worker.
#[derive(Debug)]
pub struct WorkerDecisions {
    refused: Mutex<Shelf>,
    allowed: Mutex<Shelf>,
}

impl Decisions {
    /// Empty tables for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let each = (KEPT / workers.max(1)).max(LEAST);
        let worker = |_| Arc::new(WorkerDecisions::new(each));
        Self {
            workers: (0..workers).map(worker).collect(),
        }
    }

    /// The tables of a worker.
    ///
    /// # Panics
    /// There is no such worker.
    #[must_use]
    pub fn worker(&self, number: usize) -> Arc<WorkerDecisions> {
        Arc::clone(&self.workers[number])
    }

    /// The last decision under this request id.
    #[must_use]
    pub(crate) fn find(&self, request_id: &str) -> Option<Remembered> {
        let mut found = Vec::new();
        self.collect(|_| true, |kept| kept.request_id() == request_id, &mut found);
        found.into_iter().max_by_key(|kept| kept.time)
    }

    /// All that are kept, the latest first.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<Remembered> {
        let mut found = Vec::new();
        self.collect(|_| true, |_| true, &mut found);
        latest_first(found)
    }

    /// The last refused requests, at most `most` of them, the latest first.
    #[must_use]
    pub(crate) fn refused(&self, most: usize) -> Vec<Remembered> {
        let mut found = Vec::new();
        self.collect(|is_refused| is_refused, |_| true, &mut found);
        let mut found = latest_first(found);
        found.truncate(most);
        found
    }

    fn collect(
        &self,
        which: impl Fn(bool) -> bool,
        wanted: impl Fn(&Remembered) -> bool,
        found: &mut Vec<Remembered>,
    ) {
        for worker in &self.workers {
            for (is_refused, shelf) in [(true, &worker.refused), (false, &worker.allowed)] {
                if which(is_refused) {
                    copy(shelf, &wanted, found);
                }
            }
        }
    }
}

/// An entry that moved while it was copied is there twice.
fn latest_first(mut found: Vec<Remembered>) -> Vec<Remembered> {
    found.sort_by(|a, b| (b.time, b.request_id()).cmp(&(a.time, a.request_id())));
    found.dedup_by(|a, b| a.time == b.time && a.request_id() == b.request_id());
    found
}

fn copy(shelf: &Mutex<Shelf>, wanted: &impl Fn(&Remembered) -> bool, found: &mut Vec<Remembered>) {
    // The last requests come first: what leaves them in the meantime is found again in its part.
    for part in 0..=LANES {
        let mut from = 0;
        loop {
            let shelf = lock(shelf);
            let slots = &shelf.part(part).slots;
            let some = slots.iter().skip(from).take(AT_ONCE);
            found.extend(some.filter(|kept| wanted(kept)).cloned());
            from += AT_ONCE;
            if from >= slots.len() {
                break;
            }
        }
    }
}

impl WorkerDecisions {
    fn new(kept: usize) -> Self {
        Self {
            refused: Mutex::new(Shelf::new(kept)),
            allowed: Mutex::new(Shelf::new(kept)),
        }
    }

    /// Keeps a decision, in place of an older one.
    pub(crate) fn remember(&self, decision: Remembered) {
        let shelf = if decision.is_allowed() {
            &self.allowed
        } else {
            &self.refused
        };
        lock(shelf).push(decision);
    }
}

/// The decisions of one kind.
#[derive(Debug)]
struct Shelf {
    last: Ring,
    lanes: Vec<Ring>,
    /// So that no client can choose whose part it shares.
    hasher: RandomState,
}

impl Shelf {
    fn new(kept: usize) -> Self {
        let lane = (kept / 2 / LANES).max(1);
        Self {
            last: Ring::new(kept / 2),
            lanes: (0..LANES).map(|_| Ring::new(lane)).collect(),
            hasher: RandomState::new(),
        }
    }

    fn part(&self, number: usize) -> &Ring {
        number
            .checked_sub(1)
            .and_then(|lane| self.lanes.get(lane))
            .unwrap_or(&self.last)
    }

    fn push(&mut self, decision: Remembered) {
        let Some(older) = self.last.push(decision) else {
            return;
        };
        let hash = self.hasher.hash_one(ClientKey::from(older.client));
        let lane = usize::try_from(hash % LANES as u64).unwrap_or_default();
        if let Some(lane) = self.lanes.get_mut(lane) {
            drop(lane.push(older));
        }
    }
}

/// A table whose oldest entry gives way.
#[derive(Debug)]
struct Ring {
    slots: Vec<Remembered>,
    size: usize,
    next: usize,
}

impl Ring {
    fn new(size: usize) -> Self {
        Self {
            slots: Vec::with_capacity(size),
            size,
            next: 0,
        }
    }

    /// Returns the entry that gave way.
    fn push(&mut self, decision: Remembered) -> Option<Remembered> {
        if self.slots.len() < self.size {
            self.slots.push(decision);
            return None;
        }
        let older = std::mem::replace(self.slots.get_mut(self.next)?, decision);
        self.next = (self.next + 1) % self.size;
        Some(older)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
