//! The wall clock as a port, so that a test can move it.
//!
//! All comparisons with a time in a token take `now` from here. Durations (timeouts, latencies) are measured with
//! `std::time::Instant` and never with this clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds (RFC 7519 section 2, `NumericDate`).
pub(crate) type UnixSeconds = i64;

/// A source of wall-clock time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// The clock of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock at `start` that only [`Clock::advance`] moves, for tests.
    #[must_use]
    pub fn fixed(start: UnixSeconds) -> Self {
        Self(Source::Fixed(Arc::new(AtomicI64::new(start))))
    }

    /// The time now. A machine whose clock is before 1970 counts as 1970.
    #[must_use]
    pub fn now(&self) -> UnixSeconds {
        match &self.0 {
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
            Source::Fixed(seconds) => seconds.load(Ordering::Relaxed),
        }
    }

    /// Moves a fixed clock by `seconds`; the system clock is not ours to move, and stays.
    pub fn advance(&self, seconds: i64) {
        if let Source::Fixed(at) = &self.0 {
            at.fetch_add(seconds, Ordering::Relaxed);
        }
    }
}
