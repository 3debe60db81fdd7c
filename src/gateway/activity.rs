//! Whether a connection is being used, and since when it is not: a few stores a request, and no timer.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The requests of one connection.
#[derive(Debug)]
pub struct Activity {
    opened: Instant,
    under_way: AtomicUsize,
    /// Milliseconds after `opened` at which the last request ended.
    last_end: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { opened: Instant::now(), under_way: AtomicUsize::new(0), last_end: AtomicU64::new(0) }
    }
}

impl Activity {
    /// A request begins.
    pub(super) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that began has ended, its answer included.
    pub(super) fn end(&self, now: Instant) {
        let ended = u64::try_from(now.saturating_duration_since(self.opened).as_millis()).unwrap_or(u64::MAX);
        self.last_end.store(ended, Ordering::Relaxed);
        self.under_way.fetch_sub(1, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_only_after_the_last_of_its_requests() {
        let activity = Activity::default();
        assert!(activity.idle_since().is_some());
        activity.begin();
        activity.begin();
        activity.end(Instant::now());
        assert!(activity.is_busy());
        assert!(activity.idle_since().is_none());
        activity.end(Instant::now());
        assert!(activity.idle_since().is_some());
    }
}
