//! Limits on attempts to sign in: per account, from any address, and per address, on any account.
//!
//! Input: an attempt, when it starts. Output: permission to go on, or the seconds to wait. An attempt is counted before
//! anything is looked up or hashed, so that parallel ones cannot exceed the limit, and given back when the password was
//! right: successful sign-ins are not slowed down, and signing in between guesses gains nothing.
//!
//! | | at once | then one every |
//! |---|---|---|
//! | attempts on one account | 10 | 10 s |
//! | attempts from one address (IPv4) or network (IPv6, /64) | 30 | 2 s |
//! | registrations from one address or network | 20 | 10 s |
//!
//! Memory is fixed: each table has as many slots as it will ever have, found by a hash with a key that is drawn at the
//! start. Two that share a slot are throttled together, and so earlier; no client can work out which share one. A slot is one number, the "theoretical arrival time" of the generic cell rate algorithm (ITU-T I.371 annex A).
//!
//! Behind a proxy that `server.trusted_proxies` does not name, all clients come from one address and are held to its limit.
//! Where such a peer is local and at least ten different accounts signed in from it within the hour, that limit is ten
//! times as high: a few wrong passwords would lock out all others. The limit per account stays.
//!
//! An attacker can keep the owner of an account from signing in, for as long as the attack lasts and ten seconds more. Open
//! sessions are not affected. Without a limit per account, many addresses could guess one password together; 8640 guesses a day find no password that is not on every list.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::shared_address::SharedAddresses;
use crate::identity_headers::client_network;

/// Slots of a table; a power of two. 512 KiB.
const SLOTS: usize = 1 << 16;

/// So many at once, then one every so many milliseconds.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u64,
    interval: u64,
}

const PER_ACCOUNT: Rate = Rate {
    burst: 10,
    interval: 10_000,
};
const PER_ADDRESS: Rate = Rate {
    burst: 30,
    interval: 2_000,
};
const REGISTRATIONS: Rate = Rate {
    burst: 20,
    interval: 10_000,
};

/// How many times the limit of an ordinary address a shared one has.
const SHARED: u64 = 10;

impl Rate {
    /// So many times as fast. The time that a whole burst takes to be free again stays, so that both count in one slot.
    const fn times(self, factor: u64) -> Self {
        Self {
            burst: self.burst * factor,
            interval: self.interval / factor,
        }
    }

    /// The arrival time after one more at `now`; else the milliseconds to wait.
    fn admit(self, arrival: u64, now: u64) -> Result<u64, u64> {
        let next = arrival.max(now).saturating_add(self.interval);
        match (next - now).checked_sub(self.burst * self.interval) {
            None | Some(0) => Ok(next),
            Some(early) => Err(early),
        }
    }
}

#[derive(Debug)]
struct Table {
    rate: Rate,
    hashing: Hashing,
    slots: Box<[AtomicU64]>,
}

#[derive(Debug)]
enum Hashing {
    Keyed(RandomState),
    /// The same in every run.
    #[cfg(test)]
    Fixed(std::hash::BuildHasherDefault<std::hash::DefaultHasher>),
}

impl Table {
    fn new(rate: Rate, hashing: Hashing) -> Self {
        Self {
            rate,
            hashing,
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn slot(&self, key: &impl Hash) -> &AtomicU64 {
        let hash = match &self.hashing {
            Hashing::Keyed(state) => state.hash_one(key),
            #[cfg(test)]
            Hashing::Fixed(state) => state.hash_one(key),
        };
        // The low bits alone say which; on every machine they fit.
        #[expect(clippy::cast_possible_truncation, reason = "only the low 16 bits are wanted")]
        let index = hash as usize & (SLOTS - 1);
        &self.slots[index]
    }

    /// Counts one at `now`; else the milliseconds to wait.
    fn reserve(&self, key: &impl Hash, now: u64) -> Result<Reserved<'_>, u64> {
        self.reserve_at(self.rate, key, now)
    }

    /// The same at another rate.
    fn reserve_at(&self, rate: Rate, key: &impl Hash, now: u64) -> Result<Reserved<'_>, u64> {
        let slot = self.slot(key);
        let mut arrival = slot.load(Ordering::Relaxed);
        loop {
            let next = rate.admit(arrival, now)?;
            match slot.compare_exchange_weak(arrival, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    return Ok(Reserved {
                        slot,
                        interval: rate.interval,
                    });
                }
                Err(other) => arrival = other,
            }
        }
    }
}

/// One attempt that was counted in one slot.
#[derive(Debug)]
struct Reserved<'a> {
    slot: &'a AtomicU64,
    interval: u64,
}

impl Reserved<'_> {
    fn give_back(self) {
        let back = |arrival: u64| Some(arrival.saturating_sub(self.interval));
        let _ = self.slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
    }
}

/// The address that an attempt comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress {
    /// The client's, as a trusted proxy may have named it.
    pub ip: IpAddr,
    /// Whether it is that of a local peer which `server.trusted_proxies` does not list, and so may be a proxy.
    pub may_be_proxy: bool,
}

#[cfg(test)]
impl From<IpAddr> for ClientAddress {
    fn from(ip: IpAddr) -> Self {
        Self {
            ip,
            may_be_proxy: false,
        }
    }
}

/// What has been tried lately. One for the life of the process: a new configuration is no new chance.
#[derive(Debug)]
pub struct Throttle {
    accounts: Table,
    addresses: Table,
    registrations: Table,
    shared: SharedAddresses,
    /// Whether the log has the warning about a shared address.
    warned: AtomicBool,
    ticks: Ticks,
}

#[derive(Debug)]
enum Ticks {
    Since(Instant),
    #[cfg(test)]
    Fixed(AtomicU64),
}

impl Ticks {
    /// Milliseconds.
    fn now(&self) -> u64 {
        match self {
            Self::Since(start) => u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            #[cfg(test)]
            Self::Fixed(now) => now.load(Ordering::Relaxed),
        }
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

impl Throttle {
    /// Nothing has been tried.
    #[must_use]
    pub fn new() -> Self {
        Self::with(
            Ticks::Since(Instant::now()),
            || Hashing::Keyed(RandomState::new()),
        )
    }

    fn with(ticks: Ticks, hashing: impl Fn() -> Hashing) -> Self {
        Self {
            accounts: Table::new(PER_ACCOUNT, hashing()),
            addresses: Table::new(PER_ADDRESS, hashing()),
            registrations: Table::new(REGISTRATIONS, hashing()),
            shared: SharedAddresses::default(),
            warned: AtomicBool::new(false),
            ticks,
        }
    }

    /// Counts an attempt to prove the password of the account `email_key`, whether or not there is one.
    ///
    /// # Errors
    /// The seconds to wait, at least 1; then nothing was counted, because nothing is tried.
    pub(super) fn attempt(&self, email_key: &str, client: ClientAddress) -> Result<Attempt<'_>, u64> {
        let now = self.ticks.now();
        let by_address = self.reserve_address(&self.addresses, client, now)?;
        match self.accounts.reserve(&email_key, now) {
            Ok(by_account) => Ok(Attempt {
                by_account,
                by_address,
                client,
                throttle: self,
            }),
            Err(wait) => {
                by_address.give_back();
                Err(seconds(wait))
            }
        }
    }

    /// Counts a registration.
    ///
    /// # Errors
    /// The seconds to wait, at least 1.
    pub(super) fn register(&self, client: ClientAddress) -> Result<(), u64> {
        self.reserve_address(&self.registrations, client, self.ticks.now())
            .map(|_| ())
    }

    fn reserve_address<'a>(
        &'a self,
        table: &'a Table,
        client: ClientAddress,
        now: u64,
    ) -> Result<Reserved<'a>, u64> {
        let network = client_network(client.ip);
        let is_shared = client.may_be_proxy && self.shared.is_shared(network, now);
        let rate = if is_shared {
            table.rate.times(SHARED)
        } else {
            table.rate
        };
        table.reserve_at(rate, &network, now).map_err(seconds)
    }

    /// `account` proved its password from a local address.
    fn note_sign_in(&self, client: ClientAddress, account: &str) {
        let is_new = self
            .shared
            .signed_in(client_network(client.ip), account, self.ticks.now());
        if is_new && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                address = %client.ip,
                "many accounts sign in from one local address that is not in `trusted_proxies`: if it is a proxy, list it in \
                 `[server] trusted_proxies`; until then its clients share one limit on attempts to sign in, which is ten \
                 times that of another address"
            );
        }
    }
}

#[cfg(test)]
impl Throttle {
    /// One whose time stands still until it is moved, and in which the same keys share a slot in every run.
    pub(super) fn fixed() -> Self {
        Self::with(Ticks::Fixed(AtomicU64::new(0)), || {
            Hashing::Fixed(Default::default())
        })
    }

    pub(super) fn advance(&self, milliseconds: u64) {
        if let Ticks::Fixed(now) = &self.ticks {
            now.fetch_add(milliseconds, Ordering::Relaxed);
        }
    }
}

/// An attempt that was counted. Dropped, it stays counted: also where the client went away before the answer.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    by_account: Reserved<'a>,
    by_address: Reserved<'a>,
    client: ClientAddress,
    throttle: &'a Throttle,
}

impl Attempt<'_> {
    /// The password of the account with the id `account` was right.
    pub(super) fn succeeded(self, account: &str) {
        self.by_account.give_back();
        self.by_address.give_back();
        if self.client.may_be_proxy {
            self.throttle.note_sign_in(self.client, account);
        }
    }

    /// It counts for nothing: what was tried is good, and names no account.
    pub(super) fn forgotten(self) {
        self.by_account.give_back();
        self.by_address.give_back();
    }

    /// The password was not looked at, because too much else is going on. That is not held against the account, or a
    /// flood of guesses that are all turned away would lock its owner out as well; it is against who asked.
    pub(super) fn not_made(self) {
        self.by_account.give_back();
    }
}

fn seconds(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(1000).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A client that is no proxy.
    fn at(text: &str) -> ClientAddress {
        ip(text).into()
    }

    fn of(ip: impl Into<IpAddr>) -> ClientAddress {
        ip.into().into()
    }

    #[test]
    fn a_rate_lets_its_burst_pass_and_then_one_each_interval() {
        let rate = Rate {
            burst: 3,
            interval: 10,
        };
        let mut arrival = 0;
        for _ in 0..3 {
            arrival = rate.admit(arrival, 100).unwrap();
        }
        assert_eq!(rate.admit(arrival, 100), Err(10));
        assert_eq!(rate.admit(arrival, 109), Err(1));
        arrival = rate.admit(arrival, 110).unwrap();
        assert_eq!(rate.admit(arrival, 110), Err(10));
        // After a pause there is one burst again, not two.
        for _ in 0..3 {
            arrival = rate.admit(arrival, 1000).unwrap();
        }
        assert_eq!(rate.admit(arrival, 1000), Err(10));
    }

    #[test]
    fn one_account_is_guessed_at_ten_times_and_then_every_ten_seconds_from_however_many_addresses() {
        let throttle = Throttle::fixed();
        for number in 0..10 {
            throttle.attempt("a@example.com", of([10, 0, 0, number])).unwrap();
        }
        assert_eq!(throttle.attempt("a@example.com", at("10.0.1.1")).unwrap_err(), 10);
        throttle.advance(9_001);
        assert_eq!(throttle.attempt("a@example.com", at("10.0.1.1")).unwrap_err(), 1);
        throttle.advance(999);
        throttle.attempt("a@example.com", at("10.0.1.1")).unwrap();
        assert_eq!(throttle.attempt("a@example.com", at("10.0.1.1")).unwrap_err(), 10);
    }

    #[test]
    fn one_address_tries_thirty_accounts_and_an_ipv6_network_counts_as_one() {
        let throttle = Throttle::fixed();
        for number in 0..30_u16 {
            let address = of([0x2001, 0xdb8, 0, 1, number, 0, 0, number]);
            throttle
                .attempt(&format!("{number}@example.com"), address)
                .unwrap();
        }
        assert_eq!(
            throttle
                .attempt("x@example.com", at("2001:db8:0:1::ffff"))
                .unwrap_err(),
            2
        );
        throttle.attempt("x@example.com", at("2001:db8:0:2::1")).unwrap();
        assert_eq!(
            client_network(ip("::ffff:192.0.2.1")),
            ip("192.0.2.1"),
            "one client is one, however the system writes it"
        );
        assert_ne!(client_network(ip("192.0.2.1")), client_network(ip("192.0.2.2")));
    }

    #[test]
    fn a_right_password_costs_nothing_and_frees_no_more_than_it_took() {
        let throttle = Throttle::fixed();
        for _ in 0..100 {
            throttle
                .attempt("a@example.com", at("10.0.0.1"))
                .unwrap()
                .succeeded("id");
        }
        for _ in 0..9 {
            throttle.attempt("a@example.com", at("10.0.0.1")).unwrap();
            throttle
                .attempt("mallory@example.com", at("10.0.0.1"))
                .unwrap()
                .succeeded("id");
        }
        throttle.attempt("a@example.com", at("10.0.0.1")).unwrap();
        assert!(throttle.attempt("a@example.com", at("10.0.0.1")).is_err());
    }

    #[test]
    fn a_refused_attempt_and_one_that_was_not_made_do_not_count_against_others() {
        let throttle = Throttle::fixed();
        for _ in 0..10 {
            throttle.attempt("a@example.com", at("10.0.0.1")).unwrap();
        }
        for _ in 0..1000 {
            assert!(throttle.attempt("a@example.com", at("10.0.0.1")).is_err());
        }
        for _ in 0..20 {
            throttle
                .attempt("b@example.com", at("10.0.0.1"))
                .unwrap()
                .not_made();
        }
        assert!(
            throttle.attempt("b@example.com", at("10.0.0.1")).is_err(),
            "the address has had its thirty"
        );
        throttle.attempt("b@example.com", at("10.0.0.2")).unwrap();
    }

    #[test]
    fn attempts_at_once_do_not_exceed_the_burst() {
        let throttle = Throttle::fixed();
        let let_in = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let (throttle, let_in) = (&throttle, &let_in);
                scope.spawn(move || {
                    for _ in 0..10 {
                        if throttle.attempt("a@example.com", of([10, 0, 0, thread])).is_ok() {
                            let_in.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(let_in.into_inner(), 10);
    }

    #[test]
    fn registrations_have_a_limit_of_their_own() {
        let throttle = Throttle::fixed();
        for _ in 0..20 {
            throttle.register(at("10.0.0.1")).unwrap();
        }
        assert_eq!(throttle.register(at("10.0.0.1")), Err(10));
        throttle.register(at("10.0.0.2")).unwrap();
        throttle.attempt("a@example.com", at("10.0.0.1")).unwrap();
        throttle.advance(10_000);
        throttle.register(at("10.0.0.1")).unwrap();
    }

    #[test]
    fn a_local_peer_that_many_sign_in_from_has_ten_times_the_limit_of_an_address_and_never_none() {
        // Which peer, how many accounts signed in, and how many wrong passwords it has then.
        for (may_be_proxy, accounts, limit) in [
            (true, 0, 30),
            (true, 9, 30),
            (true, 10, 300),
            (true, 200, 300),
            (false, 200, 30),
        ] {
            let throttle = Throttle::fixed();
            let client = ClientAddress {
                ip: ip("127.0.0.1"),
                may_be_proxy,
            };
            for number in 0..accounts {
                throttle
                    .attempt(&format!("{number}@a"), client)
                    .unwrap()
                    .succeeded(&number.to_string());
            }
            // An account that signs in again and again is one.
            for _ in 0..20 {
                throttle
                    .attempt("again@a", at("10.9.9.9"))
                    .unwrap()
                    .succeeded("again");
            }
            let tried = (0..1000)
                .take_while(|number| throttle.attempt(&format!("{number}@b"), client).is_ok())
                .count();
            assert_eq!(tried, limit, "{may_be_proxy} {accounts}");
            assert!(throttle.attempt("x@b", client).is_err());
            throttle.advance(if limit == 300 { 200 } else { 2000 });
            throttle.attempt("x@b", client).unwrap();
            assert!(throttle.attempt("x@b", client).is_err(), "one more each interval");
        }
    }

    #[test]
    fn a_wrong_password_makes_no_address_a_shared_one_and_an_account_keeps_its_limit() {
        let throttle = Throttle::fixed();
        let client = ClientAddress {
            ip: ip("10.0.0.1"),
            may_be_proxy: true,
        };
        for number in 0..30 {
            throttle.attempt(&format!("{number}@a"), client).unwrap();
        }
        assert_eq!(throttle.attempt("x@a", client).unwrap_err(), 2);
        throttle.advance(3_600_000);
        for number in 0..10 {
            throttle
                .attempt(&format!("{number}@a"), client)
                .unwrap()
                .succeeded(&number.to_string());
        }
        for _ in 0..10 {
            throttle.attempt("ann@a", client).unwrap();
        }
        assert_eq!(throttle.attempt("ann@a", client).unwrap_err(), 10);
        // An hour later it is an address like any other.
        throttle.advance(3_600_000);
        let tried = (0..1000)
            .take_while(|number| throttle.attempt(&format!("{number}@b"), client).is_ok())
            .count();
        assert_eq!(tried, 30);
    }

    #[test]
    fn registrations_from_a_shared_address_have_ten_times_the_limit_as_well() {
        let throttle = Throttle::fixed();
        let client = ClientAddress {
            ip: ip("fd00::1"),
            may_be_proxy: true,
        };
        for number in 0..10 {
            throttle
                .attempt(&format!("{number}@a"), client)
                .unwrap()
                .succeeded(&number.to_string());
        }
        let made = (0..1000)
            .take_while(|_| throttle.register(client).is_ok())
            .count();
        assert_eq!(made, 200);
    }
}
