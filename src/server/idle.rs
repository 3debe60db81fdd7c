//! Whether a connection is being used, and since when it is not: a few stores a request, and no timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::time::{Duration, Instant};

/// The requests of one connection.
#[derive(Debug)]
pub struct Activity {
    opened: Instant,
    under_way: AtomicUsize,
    /// Milliseconds after `opened` at which the last request ended.
    last_end: AtomicU64,
}

impl Activity {
    /// A connection that has had no request yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { opened: Instant::now(), under_way: AtomicUsize::new(0), last_end: AtomicU64::new(0) })
    }

    /// A request begins; it ends when the returned value is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether a request or its answer is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// Since when there has been no request; `None` while there is one.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        (!self.is_busy()).then(|| self.opened + Duration::from_millis(self.last_end.load(Ordering::Relaxed)))
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let ended = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_end.store(ended, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_only_after_the_last_of_its_requests() {
        let activity = Activity::new();
        assert!(activity.idle_since().is_some());
        let (first, second) = (activity.begin(), activity.begin());
        drop(first);
        assert!(activity.is_busy());
        assert!(activity.idle_since().is_none());
        drop(second);
        assert!(activity.idle_since().is_some());
    }
}
