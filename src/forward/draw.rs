//! Random numbers for the choice of a server.
//!
//! Input: a seed. Output: numbers of one worker, in an order that the seed determines.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// The random numbers of one worker. They need not be secret.
#[derive(Debug)]
pub(super) struct Draws(AtomicU64);

impl Draws {
    pub(super) fn new() -> Self {
        Self::seeded(RandomState::new().hash_one(0_u8))
    }

    pub(super) fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below `bound`, 0 where that is 0 (SplitMix64).
    pub(super) fn below(&self, bound: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let wide = u128::from(mixed(state)) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }
}

/// The last step of SplitMix64: every bit of `value` changes every bit of the result.
pub(super) fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_below_the_bound_and_spread() {
        let draws = Draws::seeded(7);
        let mut counts = [0_u32; 5];
        for _ in 0..5000 {
            counts[usize::try_from(draws.below(5)).unwrap_or(9)] += 1;
        }
        assert!(
            counts.iter().all(|count| (900..1100).contains(count)),
            "{counts:?}"
        );
        assert_eq!(draws.below(0), 0);
    }
}
