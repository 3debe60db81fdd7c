//! How slowly a peer may take bytes, or send those that it has announced.
//!
//! Input: waits for the peer, and bytes that moved. Output: that the peer is too slow. Only time in which the gateway waits
//! for the peer counts, so that a silent app makes no client slow. A timer is made at the first wait and moved on when it runs
//! out, not at each wait: without a wait nothing here costs anything.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Over how long a rate is measured, at least.
pub(crate) const PERIOD: Duration = Duration::from_secs(20);

/// What a peer is held to while it is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceRules {
    /// The longest wait in which nothing moves.
    pub idle_timeout: Duration,
    /// Bytes a second over [`PERIOD`]; 0 for any rate.
    pub min_rate: u64,
    /// Bytes that may have moved without having been seen yet: the step in which a system tells of them. 0 where each
    /// byte is seen.
    pub step: u64,
}

impl PaceRules {
    /// Over how long the rate is measured: so long that a peer at the least rate has moved more than one step.
    fn period(&self) -> Duration {
        let one_step = self
            .step
            .saturating_mul(1250)
            .checked_div(self.min_rate)
            .unwrap_or(0);
        PERIOD.max(Duration::from_millis(one_step))
    }

    fn is_too_little(&self, moved: u64) -> bool {
        let seconds = self.period().as_secs();
        moved == 0 || moved.saturating_add(self.step) < self.min_rate.saturating_mul(seconds)
    }
}

/// The waits for one peer in one direction.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    waits: Waits,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// So many bytes went; the peer is not waited for any more.
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.waits.moved(bytes, Instant::now);
    }

    /// The peer is waited for. Ready when it is too slow; `is_measured`: its rate counts too.
    pub(crate) fn poll_too_slow(
        &mut self,
        rules: &PaceRules,
        is_measured: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.waits.begin(Instant::now);
        loop {
            let due = self.waits.due(rules, is_measured);
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if now < due {
                timer.as_mut().reset(due);
            } else if self.waits.is_too_slow(rules, is_measured, now) {
                return Poll::Ready(());
            }
        }
    }
}

/// The same without a timer.
#[derive(Debug, Default)]
struct Waits {
    under_way: Option<Wait>,
    /// Waited before that, in this period.
    waited: Duration,
    /// Moved in this period.
    moved: u64,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    /// Since when nothing has moved.
    idle: Instant,
    /// The part of it that counts for the rate began here.
    counted: Instant,
}

impl Waits {
    fn moved(&mut self, bytes: u64, now: impl Fn() -> Instant) {
        if let Some(wait) = self.under_way.take() {
            self.waited += now().saturating_duration_since(wait.counted);
        } else if self.waited.is_zero() {
            // What went before the first wait says nothing about the pace: it may all lie in buffers.
            return;
        }
        self.moved = self.moved.saturating_add(bytes);
    }

    fn begin(&mut self, now: impl Fn() -> Instant) {
        self.under_way.get_or_insert_with(|| {
            let now = now();
            Wait {
                idle: now,
                counted: now,
            }
        });
    }

    /// When there is something to decide, if nothing moves until then.
    fn due(&self, rules: &PaceRules, is_measured: bool) -> Instant {
        let Some(wait) = self.under_way else {
            return Instant::now() + rules.idle_timeout;
        };
        let idle = wait.idle + rules.idle_timeout;
        if !is_measured || rules.min_rate == 0 {
            return idle;
        }
        idle.min(wait.counted + rules.period().saturating_sub(self.waited))
    }

    /// Decides, at or after [`Waits::due`]. Where the peer is fast enough, the next period begins.
    fn is_too_slow(&mut self, rules: &PaceRules, is_measured: bool, now: Instant) -> bool {
        let Some(wait) = &mut self.under_way else {
            return false;
        };
        if now >= wait.idle + rules.idle_timeout {
            return true;
        }
        let is_slow = is_measured && rules.is_too_little(self.moved);
        wait.counted = now;
        (self.waited, self.moved) = (Duration::ZERO, 0);
        is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: PaceRules = PaceRules {
        idle_timeout: Duration::from_secs(75),
        min_rate: 1024,
        step: 0,
    };

    /// After how many seconds of waiting a peer is too slow that moves `bytes` at the end of each wait of `wait`
    /// milliseconds, with a long time without waits in between; `None`: it is borne with for an hour.
    fn borne(rules: PaceRules, is_measured: bool, wait: u64, bytes: u64) -> Option<u64> {
        let wait = Duration::from_millis(wait);
        let mut waits = Waits::default();
        let (mut now, mut in_all) = (Instant::now(), Duration::ZERO);
        waits.moved(1 << 20, || now); // into buffers
        while in_all < Duration::from_secs(3600) {
            let begun = now;
            waits.begin(|| now);
            loop {
                let due = waits.due(&rules, is_measured);
                if due > begun + wait {
                    break;
                }
                now = due;
                if waits.is_too_slow(&rules, is_measured, now) {
                    return Some((in_all + (now - begun)).as_secs());
                }
            }
            now = begun + wait;
            in_all += wait;
            waits.moved(bytes, || now);
            now += Duration::from_secs(1000);
        }
        None
    }

    #[test]
    fn a_peer_is_too_slow_where_nothing_moves_or_too_little() {
        let off = PaceRules { min_rate: 0, ..RULES };
        assert_eq!(
            borne(RULES, true, 100_000, 0),
            Some(20),
            "nothing at all is too little"
        );
        assert_eq!(borne(off, true, 100_000, 0), Some(75));
        assert_eq!(borne(RULES, false, 100_000, 0), Some(75));
        assert_eq!(borne(RULES, true, 1000, 1), Some(20));
        assert_eq!(borne(RULES, true, 1000, 1000), Some(20));
        assert_eq!(borne(RULES, true, 1000, 1200), None);
        assert_eq!(borne(RULES, false, 1000, 1), None);
        assert_eq!(borne(off, true, 1000, 1), None);
        assert_eq!(borne(off, true, 74_000, 1), None);
        // Seen in steps of 16 KiB: one of them in 16 s is the least rate.
        let stepwise = PaceRules {
            step: 16 * 1024,
            ..RULES
        };
        assert_eq!(borne(stepwise, true, 16_000, 16 * 1024), None);
        assert_eq!(borne(stepwise, true, 100_000, 0), Some(20));
        assert_eq!(
            borne(
                PaceRules {
                    min_rate: 256,
                    ..stepwise
                },
                true,
                60_000,
                16 * 1024
            ),
            None
        );
    }
}
