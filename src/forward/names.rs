//! The addresses of a server's name, for all workers together.
//!
//! Input: the answers of a resolver. Output: the addresses for the next connection, and whether a connection still leads to
//! one of them. Invariants: a worker never asks a resolver; an answer without an address changes nothing; the list has a limit.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long a failure is the answer for further connections, where no address is known.
const FAILURE_LASTS: Duration = Duration::from_secs(1);
/// The longest list of addresses that is kept.
const MOST: usize = 32;

/// What is known of a name.
#[derive(Clone, Debug, Default)]
struct Known {
    addresses: Arc<[SocketAddr]>,
    /// Why the last lookup failed, and when that was.
    failure: Option<(io::ErrorKind, String, Instant)>,
}

/// The addresses of one name.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: watch::Sender<Known>,
    /// Counts the changes of the set of addresses.
    generation: AtomicU64,
    wanted: Notify,
}

/// Where a connection leads to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// The address of a server that has a name; else `None`.
    pub(super) address: Option<SocketAddr>,
    /// The generation of the addresses in which it was last found.
    pub(super) generation: u64,
}

impl Addresses {
    /// The addresses in the order in which they are to be tried, and their generation. Waits for the first answer of the
    /// resolver; the caller limits the wait.
    ///
    /// # Errors
    /// The name has no address, or was never found.
    pub(super) async fn find(&self) -> io::Result<(Arc<[SocketAddr]>, u64)> {
        // Before the addresses: an address of an older set is looked for again.
        let generation = self.generation.load(Ordering::Acquire);
        let mut known = self.known.subscribe();
        let mut is_asked = false;
        loop {
            {
                let now = known.borrow_and_update();
                if !now.addresses.is_empty() {
                    return Ok((Arc::clone(&now.addresses), generation));
                }
                match &now.failure {
                    Some((kind, text, at)) if is_asked || at.elapsed() < FAILURE_LASTS => {
                        return Err(io::Error::new(*kind, text.clone()));
                    }
                    _ => {}
                }
            }
            is_asked = true;
            self.ask_again();
            if known.changed().await.is_err() {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
    }

    /// A connection to none of them came about: the resolver is asked at once.
    pub(super) fn ask_again(&self) {
        self.wanted.notify_one();
    }

    /// Whether a connection to `place` leads to an address that the name still has.
    pub(super) fn has(&self, place: &mut Place) -> bool {
        let Some(address) = place.address else {
            return true;
        };
        let generation = self.generation.load(Ordering::Acquire);
        if place.generation == generation {
            return true;
        }
        let is_there = self.known.borrow().addresses.contains(&address);
        if is_there {
            place.generation = generation;
        }
        is_there
    }

    /// Takes over what the configuration before knew of the same name, until the resolver has answered.
    pub(super) fn inherit(&self, before: &Self) {
        let before = before.known.borrow().addresses.clone();
        self.known.send_if_modified(|known| {
            let is_new = known.addresses.is_empty() && !before.is_empty();
            if is_new {
                known.addresses = before;
            }
            is_new
        });
    }

    /// Returns when the resolver is to be asked at once.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Takes an answer of the resolver. Returns whether the addresses are other ones than before.
    pub(super) fn take(&self, answer: io::Result<Vec<SocketAddr>>) -> bool {
        let answer = answer.and_then(|mut found| {
            found.dedup();
            found.truncate(MOST);
            match found.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
                false => Ok(found),
            }
        });
        let mut is_changed = false;
        self.known.send_modify(|known| match answer {
            Ok(found) => {
                let before = &known.addresses;
                is_changed = before.len() != found.len() || !found.iter().all(|ip| before.contains(ip));
                known.addresses = found.into();
                known.failure = None;
            }
            Err(error) => known.failure = Some((error.kind(), error.to_string(), Instant::now())),
        });
        if is_changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
        is_changed
    }
}
