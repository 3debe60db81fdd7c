//! How many sessions an account opens within a minute.
//!
//! Input: an account that is about to open one. Output: whether it may. Each session costs a write when it is opened and one
//! when it gives way to a later one, and every gateway remembers its end: without a limit, one account could keep them all
//! busy. Memory is fixed; two accounts that share a slot share the limit, and the key of the hash is drawn at the start, so
//! that no client can work out which.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::UnixSeconds;

/// The most sessions that one account opens within a minute.
pub(crate) const PER_MINUTE: u64 = 120;
/// In seconds.
const WINDOW: i64 = 60;
/// Slots; a power of two. 512 KiB.
const SLOTS: usize = 1 << 16;
/// Bits of a slot that count; the others say when the minute began.
const COUNT_BITS: u32 = 8;

/// What was opened lately. One for the life of the process: a new configuration is no new minute.
#[derive(Debug)]
pub struct Openings {
    hashing: RandomState,
    slots: Box<[AtomicU64]>,
}

impl Default for Openings {
    fn default() -> Self {
        Self {
            hashing: RandomState::new(),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Openings {
    /// Counts one for `account_id` at `now`. False: it is one too many, and is not counted. A minute begins with the first.
    pub(super) fn admit(&self, account_id: &str, now: UnixSeconds) -> bool {
        let index = usize::try_from(self.hashing.hash_one(account_id) % SLOTS as u64).unwrap_or(0);
        let next = |slot: u64| {
            let (began, count) = ((slot >> COUNT_BITS).cast_signed(), slot & ((1 << COUNT_BITS) - 1));
            // A clock that was set back begins another minute.
            let is_same = count > 0 && (began..began.saturating_add(WINDOW)).contains(&now);
            match (is_same, count) {
                (true, PER_MINUTE..) => None,
                (true, _) => Some(slot + 1),
                (false, _) => Some((now.max(0).cast_unsigned() << COUNT_BITS) | 1),
            }
        };
        self.slots[index]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_room_for_120_and_begins_with_the_first() {
        let openings = Openings::default();
        for _ in 0..60 {
            assert!(openings.admit("ann", 1000));
        }
        for _ in 60..PER_MINUTE {
            assert!(openings.admit("ann", 1030));
        }
        for now in [1030, 1059] {
            assert!(!openings.admit("ann", now));
        }
        assert!(
            openings.admit("bob", 1059),
            "another account, unless the two share one of 65,536 slots"
        );
        assert!(openings.admit("ann", 1060));
        assert!(openings.admit("ann", 900), "the clock was set back");
        assert!((2..=PER_MINUTE).all(|_| openings.admit("ann", 901)));
        assert!(!openings.admit("ann", 959));
    }
}
