//! The counters of rate limits: one table of fixed size that all workers share, without locks.
//!
//! Input: a key as a keyed hash, a rate, the time. Output: whether one more request fits (GCRA, the generic cell rate
//! algorithm of ITU-T I.371: a counter is the theoretical arrival time, TAT, at which its quota is whole again).
//!
//! Invariants:
//! - An entry is one word that holds both the fingerprint of its key and its TAT, and every change of it is one
//!   compare-and-swap of that word. So a request is counted for its own key or not at all, and of requests at once exactly
//!   as many pass as the quota has.
//! - An entry gives way to another key only when its TAT is in the past. Its quota is whole then, so that nothing is forgotten.
//! - Where all entries of a bucket count, a new key is refused: a full table lifts no limit.
//! - A key has one entry at most. Two threads that add the same key could each choose another free entry of the bucket.
//!   Therefore a thread that adds a key first puts a stamp of its own into every free entry, in a first pass; makes sure in a
//!   second pass that each of these still has its stamp and each other one belongs to another key; then swaps one of its
//!   stamps for the key. Suppose threads A and B both succeed, in entries a and b. In its second pass A found neither the
//!   stamp of B nor the key in b, so that B stamped b after that: the second pass of A came before the end of the first pass
//!   of B. In the same way the second pass of B came before the end of the first pass of A. Both cannot be, as the first pass
//!   of a thread ends before its second one begins. All accesses are sequentially consistent, which this order needs.
//! - Stamps are never used twice, so that a swap never takes one for another (ABA). A TAT of a key only grows, and a key that
//!   comes back has a later TAT than before.
//!
//! Different keys with the same bucket and fingerprint, 32 bits in all, share a counter, which is stricter and never laxer.
//! Times are microseconds since the table was made, in 48 bits: 8.9 years, after which every request with a limit is
//! refused until a restart.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// Entries of a bucket: a cache line.
const WAYS: usize = 8;
/// Bits of a TAT or a stamp; the fingerprint is above them.
const TIME_BITS: u32 = 48;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// How often a thread starts again that adds a key while others add keys to the same bucket, before the request is refused.
const MOST_ATTEMPTS: u32 = 64;

/// A rate in the terms of the algorithm, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// From one request to the next.
    pub(super) interval: u64,
    /// By how much requests may come earlier than that: all of the quota at once.
    pub(super) tolerance: u64,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It fits, and so many more would.
    Fits(u64),
    /// The limit is reached; in so many microseconds one fits.
    Over(u64),
    /// The key is new and there is no room for it; in so many microseconds there may be.
    Full(u64),
}

/// One line of the cache.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    buckets: Box<[Bucket]>,
    stamps: AtomicU64,
}

/// An entry as it was read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn entry(fingerprint: u64, tat: u64) -> Self {
        Self(fingerprint << TIME_BITS | tat)
    }

    /// 0: a stamp, or nothing.
    fn fingerprint(self) -> u64 {
        self.0 >> TIME_BITS
    }

    fn tat(self) -> u64 {
        self.0 & TIME_MASK
    }

    fn is_free(self, now: u64) -> bool {
        self.fingerprint() == 0 || self.tat() <= now
    }
}

/// The bucket was changed by another thread.
struct Changed;

impl Table {
    /// A table of `buckets` buckets, rounded up to a power of two.
    pub(super) fn new(buckets: usize) -> Self {
        Self {
            buckets: (0..buckets.next_power_of_two())
                .map(|_| Bucket::default())
                .collect(),
            stamps: AtomicU64::new(1),
        }
    }

    /// Counts a request of `key`, a keyed hash, at `now`. The time may be a little behind that of other threads.
    pub(super) fn take(&self, key: u64, rate: Rate, now: u64) -> Verdict {
        let (bucket, fingerprint) = self.place(key);
        for attempt in 0..MOST_ATTEMPTS {
            let taken = match find(bucket, fingerprint) {
                Some((entry, word)) => charge(entry, word, rate, now),
                None => self.add(bucket, fingerprint, rate, now),
            };
            match taken {
                Ok(verdict) => return verdict,
                Err(Changed) => {
                    // Of two threads that wait for one another, each waits for another time.
                    let pause = (self.stamps.load(SeqCst) % 7 + 1) << attempt.min(8);
                    (0..pause).for_each(|_| std::hint::spin_loop());
                }
            }
        }
        Verdict::Full(rate.interval)
    }

    /// Whether the limit of `key` is reached at `now`. Counts nothing.
    pub(super) fn is_over(&self, key: u64, rate: Rate, now: u64) -> bool {
        let (bucket, fingerprint) = self.place(key);
        let entry = find(bucket, fingerprint);
        entry.is_some_and(|(_, word)| word.tat().saturating_sub(now) > rate.tolerance)
    }

    fn place(&self, key: u64) -> (&Bucket, u64) {
        // The number of buckets is a power of two.
        #[allow(clippy::cast_possible_truncation)]
        let bucket = key as usize & (self.buckets.len() - 1);
        (&self.buckets[bucket], (key >> TIME_BITS).max(1))
    }

    fn add(&self, bucket: &Bucket, fingerprint: u64, rate: Rate, now: u64) -> Result<Verdict, Changed> {
        let tat = now.saturating_add(rate.interval);
        if tat > TIME_MASK {
            return Ok(Verdict::Full(rate.interval));
        }
        let stamp = Word(self.stamps.fetch_add(1, SeqCst) & TIME_MASK);
        let mut is_ours = [false; WAYS];
        for (entry, is_ours) in bucket.0.iter().zip(&mut is_ours) {
            let word = Word(entry.load(SeqCst));
            if word.fingerprint() == fingerprint {
                return Err(Changed);
            }
            if word.is_free(now) {
                swap(entry, word, stamp)?;
                *is_ours = true;
            }
        }
        let Some(ours) = is_ours.iter().position(|is_ours| *is_ours) else {
            let tats = bucket.0.iter().map(|entry| Word(entry.load(SeqCst)).tat());
            let first = tats.min().unwrap_or_default();
            return Ok(Verdict::Full(first.saturating_sub(now).max(1)));
        };
        for (entry, is_ours) in bucket.0.iter().zip(is_ours) {
            let word = Word(entry.load(SeqCst));
            let is_of_another = word.fingerprint() != 0 && word.fingerprint() != fingerprint;
            if if is_ours { word != stamp } else { !is_of_another } {
                return Err(Changed);
            }
        }
        swap(&bucket.0[ours], stamp, Word::entry(fingerprint, tat))?;
        Ok(Verdict::Fits(rate.tolerance / rate.interval))
    }
}

fn find(bucket: &Bucket, fingerprint: u64) -> Option<(&AtomicU64, Word)> {
    bucket
        .0
        .iter()
        .map(|entry| (entry, Word(entry.load(SeqCst))))
        .find(|(_, word)| word.fingerprint() == fingerprint)
}

fn charge(entry: &AtomicU64, mut word: Word, rate: Rate, now: u64) -> Result<Verdict, Changed> {
    loop {
        let tat = word.tat().max(now);
        let ahead = tat - now;
        if ahead > rate.tolerance {
            return Ok(Verdict::Over(ahead - rate.tolerance));
        }
        let next = tat.saturating_add(rate.interval);
        if next > TIME_MASK {
            return Ok(Verdict::Full(rate.interval));
        }
        let next = Word::entry(word.fingerprint(), next);
        match entry.compare_exchange(word.0, next.0, SeqCst, SeqCst) {
            Ok(_) => return Ok(Verdict::Fits((rate.tolerance - ahead) / rate.interval)),
            // Another request of the same key.
            Err(other) if Word(other).fingerprint() == word.fingerprint() => word = Word(other),
            Err(_) => return Err(Changed),
        }
    }
}

fn swap(entry: &AtomicU64, from: Word, to: Word) -> Result<(), Changed> {
    entry
        .compare_exchange(from.0, to.0, SeqCst, SeqCst)
        .map(drop)
        .map_err(|_| Changed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::num::NonZeroU32;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;
    use governor::{Quota, RateLimiter};
    use proptest::prelude::*;

    use super::*;

    fn rate(requests: u64, interval: u64) -> Rate {
        Rate {
            interval,
            tolerance: interval * (requests - 1),
        }
    }

    fn fits(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Fits(_))
    }

    proptest! {
        #[test]
        fn decides_as_the_limiter_of_another_crate(
            requests in 1_u32..20,
            interval in 1_u32..5_000,
            pauses in prop::collection::vec(0_u32..20_000, 1..200),
        ) {
            let clock = FakeRelativeClock::default();
            let quota = Quota::with_period(Duration::from_micros(interval.into()))
                .unwrap()
                .allow_burst(NonZeroU32::new(requests).unwrap());
            let oracle = RateLimiter::direct_with_clock(quota, clock.clone());
            let (table, rate) = (Table::new(1), rate(requests.into(), interval.into()));
            let mut now = 1;
            for (number, pause) in pauses.into_iter().enumerate() {
                // Most requests come in bursts.
                let pause = if number % 4 == 0 { pause } else { pause % 7 };
                now += u64::from(pause);
                clock.advance(Duration::from_micros(pause.into()));
                let (ours, theirs) = (table.take(7, rate, now), oracle.check());
                prop_assert_eq!(fits(ours), theirs.is_ok(), "at {}: {:?}", now, ours);
                prop_assert!(fits(ours) || table.is_over(7, rate, now));
                if let Verdict::Over(wait) = ours {
                    prop_assert!(!table.is_over(7, rate, now + wait));
                    prop_assert!(!fits(table.take(7, rate, now + wait - 1)));
                }
            }
        }
    }

    #[test]
    fn quota_that_is_left_is_told() {
        let (table, rate) = (Table::new(1), rate(3, 10));
        let at = |now| table.take(1, rate, now);
        assert_eq!([at(100), at(100)], [Verdict::Fits(2), Verdict::Fits(1)]);
        assert_eq!([at(100), at(100)], [Verdict::Fits(0), Verdict::Over(10)]);
        assert_eq!(at(104), Verdict::Over(6));
        assert_eq!([at(110), at(110)], [Verdict::Fits(0), Verdict::Over(10)]);
        assert_eq!(at(140), Verdict::Fits(2), "whole again");
    }

    /// `threads` threads, each with `work`, all begun at once.
    fn at_once(threads: usize, work: impl Fn(usize) + Sync) {
        let barrier = std::sync::Barrier::new(threads);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(thread);
                });
            }
        });
    }

    #[test]
    fn of_requests_at_once_exactly_the_quota_passes() {
        let rate = rate(100, 1_000_000);
        for round in 0..200 {
            let (table, passed) = (Table::new(1), AtomicUsize::new(0));
            at_once(4, |_| {
                for _ in 0..60 {
                    if fits(table.take(round, rate, 1)) {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            assert_eq!(passed.into_inner(), 100, "round {round}");
        }
    }

    #[test]
    fn key_that_many_threads_add_at_once_has_one_entry() {
        // Others expire in the bucket meanwhile, so that free entries appear at any place.
        let rate = rate(2, 1_000_000);
        for round in 1..3_000_u64 {
            let (table, passed) = (Table::new(1), AtomicUsize::new(0));
            for other in 1..8_u64 {
                table.take(other << TIME_BITS, self::rate(1, other), 0);
            }
            at_once(3, |thread| {
                let now = (round + thread as u64) % 9;
                for _ in 0..3 {
                    if fits(table.take(99 << TIME_BITS, rate, now)) {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            assert_eq!(passed.into_inner(), 2, "round {round}");
            let entries = table.buckets[0].0.iter();
            let of_key = entries.filter(|entry| Word(entry.load(SeqCst)).fingerprint() == 99);
            assert_eq!(of_key.count(), 1, "round {round}");
        }
    }

    #[test]
    fn full_bucket_forgets_no_key_and_takes_no_new_one() {
        let (table, rate) = (Table::new(1), rate(2, 100));
        let key = |number: u64| number << TIME_BITS;
        for number in 1..=8 {
            assert!(fits(table.take(key(number), rate, 10)), "{number}");
        }
        assert!(fits(table.take(key(1), rate, 10)));
        for number in 9..1_000 {
            assert_eq!(table.take(key(number), rate, 20), Verdict::Full(90), "{number}");
        }
        assert_eq!(table.take(key(1), rate, 20), Verdict::Over(90));
        // The seven others have their whole quota again, the first one has not.
        for number in 9..16 {
            assert_eq!(table.take(key(number), rate, 110), Verdict::Fits(1), "{number}");
        }
        assert!(matches!(table.take(key(16), rate, 110), Verdict::Full(_)));
        assert_eq!(table.take(key(1), rate, 110), Verdict::Fits(0));
        assert!(matches!(table.take(key(1), rate, 110), Verdict::Over(_)));
    }

    #[test]
    fn at_the_end_of_time_requests_are_refused() {
        let (table, rate) = (Table::new(1), rate(2, 100));
        assert!(fits(table.take(1, rate, TIME_MASK - 100)));
        assert!(!fits(table.take(1, rate, TIME_MASK - 100)));
        assert!(!fits(table.take(2, rate, TIME_MASK)));
    }
}
