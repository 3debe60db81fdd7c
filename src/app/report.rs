//! What the admin port tells about the running gateway.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::assemble::Current;
use crate::observe::Desk;
use crate::server::admin;
use crate::verify::{CacheCounters, LocalCache};

/// The sources of the numbers.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) current: Arc<ArcSwap<Current>>,
    pub(super) desks: Vec<Arc<Desk>>,
    pub(super) caches: Vec<Arc<CacheCounters>>,
    pub(super) draining: watch::Receiver<bool>,
}

impl Report {
    /// The counters of a worker's token table.
    pub(super) fn counters(cache: &Mutex<LocalCache>) -> Arc<CacheCounters> {
        Arc::clone(cache.lock().unwrap_or_else(PoisonError::into_inner).counters())
    }
}
