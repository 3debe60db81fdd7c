//! Local addresses from which many people sign in: a reverse proxy that `server.trusted_proxies` does not name.
//!
//! Input: each successful sign-in of a peer that may be such a proxy. Output: whether its address counts as shared, because
//! at least [`ACCOUNTS`] different accounts signed in from it within the hour. Memory is fixed: so many addresses, and the
//! last few accounts of each. Invariants: a wrong password, or an account that does not exist, never counts.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// The different accounts that make an address a shared one.
const ACCOUNTS: usize = 10;
/// How long a sign-in counts, in milliseconds.
const WINDOW: u64 = 60 * 60 * 1000;
/// The most addresses that are remembered; the one without a sign-in for longest gives way.
const MOST_ADDRESSES: usize = 256;

/// The last accounts that signed in from one address, each once, with its last time; the earliest first.
type Recent = Vec<(u64, u64)>;

/// What is remembered of local addresses.
#[derive(Debug, Default)]
pub(super) struct SharedAddresses {
    by_address: Mutex<HashMap<IpAddr, Recent>>,
    hashing: RandomState,
}

impl SharedAddresses {
    /// Whether the address counts as shared at `now`, in milliseconds.
    pub(super) fn is_shared(&self, address: IpAddr, now: u64) -> bool {
        let by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        by_address
            .get(&address)
            .is_some_and(|recent| is_shared(recent, now))
    }

    /// Notes that `account` signed in from the address. Says whether that makes it a shared one.
    pub(super) fn signed_in(&self, address: IpAddr, account: &str, now: u64) -> bool {
        let account = self.hashing.hash_one(account);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.len() >= MOST_ADDRESSES && !by_address.contains_key(&address) {
            let last = |recent: &Recent| recent.last().map_or(0, |(_, at)| *at);
            let idle = by_address
                .iter()
                .min_by_key(|(_, recent)| last(recent))
                .map(|(address, _)| *address);
            idle.and_then(|idle| by_address.remove(&idle));
        }
        let recent = by_address.entry(address).or_default();
        let was_shared = is_shared(recent, now);
        recent.retain(|(known, _)| *known != account);
        if recent.len() == ACCOUNTS {
            recent.remove(0);
        }
        recent.push((account, now));
        !was_shared && is_shared(recent, now)
    }
}

/// The list holds no more than [`ACCOUNTS`], so that its earliest entry decides.
fn is_shared(recent: &Recent, now: u64) -> bool {
    recent.len() == ACCOUNTS
        && recent
            .first()
            .is_some_and(|(_, at)| now.saturating_sub(*at) < WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([10, 0, high, low])
    }

    #[test]
    fn ten_accounts_within_an_hour_make_an_address_a_shared_one() {
        let shared = SharedAddresses::default();
        for turn in 0..3 {
            for number in 0..9 {
                assert!(
                    !shared.signed_in(address(1), &number.to_string(), turn * 10 + number),
                    "nine, however often"
                );
            }
        }
        assert!(!shared.is_shared(address(1), 30));
        assert!(shared.signed_in(address(1), "tenth", 30));
        assert!(!shared.signed_in(address(1), "eleventh", 31), "it is one already");
        assert!(shared.is_shared(address(1), 31) && !shared.is_shared(address(2), 31));
        // The tenth last account signed in at 21.
        assert!(shared.is_shared(address(1), 20 + WINDOW));
        assert!(!shared.is_shared(address(1), 21 + WINDOW));
    }

    #[test]
    fn memory_is_bounded_in_addresses_and_accounts() {
        let shared = SharedAddresses::default();
        for number in 0..1000 {
            shared.signed_in(address(0), &number.to_string(), 5000 + number);
        }
        for number in 1..1000 {
            shared.signed_in(address(number), "one", u64::from(number));
        }
        let by_address = shared.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(by_address.len(), MOST_ADDRESSES);
        assert_eq!(
            by_address.get(&address(0)).map(Vec::len),
            Some(ACCOUNTS),
            "the last one that is used stays"
        );
    }
}
