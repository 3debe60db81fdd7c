//! The key of a client in the limits that all clients share, and the handle that ends what it holds.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

/// A client as limits count it: its IPv4 address, or the /64 of its IPv6 address, which is what one subscriber gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClientKey(u128);

impl From<IpAddr> for ClientKey {
    fn from(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            // As an address of ::ffff:0:0/96, which no /64 of IPv6 is.
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits() & !u128::from(u64::MAX),
        })
    }
}

impl std::fmt::Display for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ip = Ipv6Addr::from_bits(self.0);
        match ip.to_ipv4_mapped() {
            Some(ip) => write!(f, "{ip}"),
            None => write!(f, "{ip}/64"),
        }
    }
}

/// The most that one client may hold of something that all share. It binds only where all of it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many in a hundred.
    Percent(u8),
    /// So many.
    Count(usize),
}

impl Share {
    /// So many of `all`, at least one.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Percent(percent) => all.saturating_mul(usize::from(percent)) / 100,
            Self::Count(count) => count.min(all),
        }
        .max(1)
    }
}

/// A client that holds a part of a shared limit, and the handle that ends the request.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    /// The client.
    pub key: ClientKey,
    /// Ends the request for which it is held.
    pub exit: Arc<Exit>,
}

/// The way to end a connection, or one stream of it, from elsewhere: what gives way is dropped with all that it holds.
#[derive(Debug, Default)]
pub struct Exit {
    task: Mutex<Option<AbortHandle>>,
    used: AtomicBool,
    /// Since when bytes wait for the client: milliseconds of [`uptime`]; 0 where none do.
    waiting_since: AtomicU64,
}

/// Milliseconds since a millisecond before the first call, so that none is 0.
fn uptime() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis())
        .unwrap_or(u64::MAX)
        .saturating_add(1)
}

impl Exit {
    /// The task that has what is to be ended, from now on.
    pub fn leads_to(&self, task: AbortHandle) {
        let is_used = {
            let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some(task.clone());
            self.is_used()
        };
        if is_used {
            task.abort();
        }
    }

    /// Ends it. False where that was done before.
    pub fn end(&self) -> bool {
        let task = {
            let known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            if self.used.swap(true, Ordering::Relaxed) {
                return false;
            }
            known.clone()
        };
        if let Some(task) = task {
            task.abort();
        }
        true
    }

    /// Bytes wait for the client from now on.
    pub fn wait(&self) {
        self.waiting_since.store(uptime(), Ordering::Relaxed);
    }

    /// The client took some of them.
    pub fn go_on(&self) {
        self.waiting_since.store(0, Ordering::Relaxed);
    }

    /// How long bytes have been waiting for the client; `None` where none do.
    #[must_use]
    pub fn waits_for(&self) -> Option<Duration> {
        let since = Some(self.waiting_since.load(Ordering::Relaxed)).filter(|since| *since > 0)?;
        Some(Duration::from_millis(uptime().saturating_sub(since)))
    }

    /// Whether it was ended from elsewhere.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(ip: &str) -> ClientKey {
        ip.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_client() {
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_ne!(key("192.0.2.1"), key("::"));
        assert_eq!(key("192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(key("2001:db8:0:1::1").to_string(), "2001:db8:0:1::/64");
    }

    #[tokio::test]
    async fn what_is_ended_before_it_has_begun_is_ended_too() {
        for first in [true, false] {
            let exit = Exit::default();
            let task = tokio::spawn(std::future::pending::<()>());
            if first {
                exit.leads_to(task.abort_handle());
                assert!(exit.end());
            } else {
                assert!(exit.end());
                exit.leads_to(task.abort_handle());
            }
            assert!(task.await.unwrap_err().is_cancelled());
            assert!(!exit.end());
        }
    }
}
