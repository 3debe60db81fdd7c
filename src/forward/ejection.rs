//! Servers that requests fail at: each is left out for a while, and then tried by one request.
//!
//! Input: how requests to a server ended. Output: whether it is ejected, in the atomics of its [`Health`], which all workers
//! share. Times are milliseconds of the upstream's clock. Invariants: a request that was sent before an ejection changes
//! nothing about it, so that many requests that fail at once eject a server once.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::server::Health;

/// Connections that ended in a row before an answer, after which a server is ejected. A single one may be the fault of a
/// request. A connection that cannot be made is enough by itself.
const RESETS: u32 = 5;
/// The length of the first ejection; each one that follows without an answer in between is twice as long.
const SHORTEST: Duration = Duration::from_secs(5);
/// The length of the longest ejection.
const LONGEST: Duration = Duration::from_secs(60);
/// How long a request that tries an ejected server is waited for, before another one does.
const PROBE: Duration = Duration::from_secs(10);

/// How a request failed at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no connection.
    Connect,
    /// The connection or the stream ended before a byte of the answer.
    Reset,
}

/// What is remembered of a server while a request is sent to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    /// The ejections of the server until then.
    ejections: u64,
    /// Whether the request finds out if the server takes requests again.
    is_probe: bool,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Health {
    /// Whether it is left out at `now`, which is asked for only where something failed.
    pub(super) fn is_ejected(&self, now: impl FnOnce() -> u64) -> bool {
        let until = self.ejected_until.load(Relaxed);
        until > 0 && until > now()
    }

    /// Whether requests fail at it, so that it takes none or one.
    pub(super) fn is_suspect(&self) -> bool {
        self.ejected_until.load(Relaxed) > 0
    }

    /// For a request that is sent to it whatever is known.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket {
            ejections: self.ejections.load(Relaxed),
            is_probe: false,
        }
    }

    /// For a request, where the server takes one: it is not ejected, or the time is over and no other request tries it.
    pub(super) fn admit(&self, now: impl FnOnce() -> u64) -> Option<Ticket> {
        let until = self.ejected_until.load(Relaxed);
        if until == 0 {
            return Some(self.ticket());
        }
        let now = now();
        if until > now {
            return None;
        }
        let ticket = Ticket {
            is_probe: true,
            ..self.ticket()
        };
        let next = now.saturating_add(millis(PROBE));
        self.ejected_until
            .compare_exchange(until, next, Relaxed, Relaxed)
            .ok()
            .map(|_| ticket)
    }

    /// A request with `ticket` was answered. Whether that ends an ejection.
    pub(super) fn answered(&self, ticket: Ticket) -> bool {
        if self.failures.load(Relaxed) > 0 {
            self.failures.store(0, Relaxed);
        }
        // The clock is not read here, and most servers were never ejected.
        if self.ejected_until.load(Relaxed) == 0 || ticket.ejections != self.ejections.load(Relaxed) {
            return false;
        }
        self.ejections_in_a_row.store(0, Relaxed);
        self.ejected_until.swap(0, Relaxed) > 0
    }

    /// A request with `ticket` failed. How long the server is ejected for that, where it is; `is_last`: no other server
    /// would be left.
    pub(super) fn failed(
        &self,
        ticket: Ticket,
        failure: Failure,
        is_last: bool,
        now: u64,
    ) -> Option<Duration> {
        if ticket.ejections != self.ejections.load(Relaxed) {
            return None;
        }
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if !ticket.is_probe {
            let is_enough = failure == Failure::Connect || failures >= RESETS;
            if !is_enough || is_last || self.is_suspect() {
                return None;
            }
        }
        let next = ticket.ejections.wrapping_add(1);
        // Of requests that fail at the same time, one goes on from here.
        self.ejections
            .compare_exchange(ticket.ejections, next, Relaxed, Relaxed)
            .ok()?;
        let before = self.ejections_in_a_row.fetch_add(1, Relaxed).min(16);
        let length = SHORTEST.saturating_mul(1 << before).min(LONGEST);
        self.failures.store(0, Relaxed);
        self.ejected_until
            .store(now.saturating_add(millis(length)).max(1), Relaxed);
        Some(length)
    }

    /// The server was seen to be well by other means: the next request tries it, if it is ejected.
    pub(super) fn recheck(&self, now: u64) {
        let until = self.ejected_until.load(Relaxed);
        if until > now {
            // Where a request changes it in between, that request knows better.
            let _ = self
                .ejected_until
                .compare_exchange(until, now.max(1), Relaxed, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const fn seconds(seconds: u64) -> u64 {
        seconds * 1000
    }

    fn fail(health: &Health, failure: Failure, now: u64) -> Option<u64> {
        let ticket = health.admit(|| now).unwrap();
        health
            .failed(ticket, failure, false, now)
            .map(|length| length.as_secs())
    }

    #[test]
    fn ejections_in_a_row_double_until_an_answer() {
        let health = Health::default();
        let mut now = seconds(100);
        for length in [5, 10, 20, 40, 60, 60] {
            assert_eq!(fail(&health, Failure::Connect, now), Some(length));
            now += seconds(length) - 1;
            assert!(health.admit(|| now).is_none() && health.is_ejected(|| now));
            now += 1;
            assert!(!health.is_ejected(|| now));
        }
        let ticket = health.admit(|| now).unwrap();
        assert!(health.answered(ticket), "this ends the ejection");
        assert!(!health.answered(ticket), "and is said once");
        assert_eq!(fail(&health, Failure::Connect, now), Some(5));
    }

    #[test]
    fn one_request_tries_a_server_whose_time_is_over() {
        let health = Health::default();
        assert_eq!(fail(&health, Failure::Connect, 1), Some(5));
        let now = 1 + seconds(5);
        let probe = health.admit(|| now).unwrap();
        assert!(health.admit(|| now).is_none(), "a second one does not");
        assert!(
            health.admit(|| now + millis(PROBE)).is_some(),
            "unless the first one is lost"
        );
        assert!(health.answered(probe));
        assert!(health.admit(|| now).is_some() && health.admit(|| now).is_some());
    }

    #[test]
    fn a_probe_that_is_reset_ejects_again_at_once() {
        let health = Health::default();
        fail(&health, Failure::Connect, 1);
        let now = 1 + seconds(5);
        assert_eq!(fail(&health, Failure::Reset, now), Some(10));
    }

    #[test]
    fn resets_count_only_in_a_row() {
        let health = Health::default();
        for _ in 0..3 {
            for _ in 1..RESETS {
                assert_eq!(fail(&health, Failure::Reset, 1), None);
            }
            assert!(!health.answered(health.ticket()));
        }
        for _ in 1..RESETS {
            fail(&health, Failure::Reset, 1);
        }
        assert_eq!(fail(&health, Failure::Reset, 1), Some(5));
    }

    #[test]
    fn requests_that_fail_at_the_same_time_eject_once() {
        let health = Health::default();
        let tickets = [(); 20].map(|()| health.ticket());
        let lengths: Vec<_> = tickets
            .iter()
            .filter_map(|ticket| health.failed(*ticket, Failure::Connect, false, 1))
            .collect();
        assert_eq!(lengths, [SHORTEST]);
        // An answer to a request from before says nothing about the server of now.
        assert!(!health.answered(tickets[0]) && health.is_ejected(|| 1));
        // One that is sent for want of another server makes it no longer.
        assert_eq!(health.failed(health.ticket(), Failure::Connect, false, 2), None);
        assert!(health.answered(health.ticket()));
    }

    #[test]
    fn the_last_server_is_never_ejected() {
        let health = Health::default();
        for _ in 0..100 {
            assert_eq!(health.failed(health.ticket(), Failure::Connect, true, 1), None);
        }
        assert!(!health.is_suspect());
    }

    #[test]
    fn a_health_check_that_succeeds_again_brings_the_probe_forward() {
        let health = Health::default();
        health.recheck(1);
        assert!(!health.is_suspect(), "nothing to try");
        fail(&health, Failure::Connect, 1);
        health.recheck(2);
        assert!(health.admit(|| 2).is_some_and(|ticket| ticket.is_probe));
    }
}
