//! One server of an upstream: where it listens, how it is spoken to, and whether it takes requests.
//!
//! Input: an entry of `servers`, compiled. Output: plain data; [`Health`] alone changes, in atomics that all workers share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::Instant;

use http::HeaderValue;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::names::Addresses;
use crate::http::location::Origin;

/// One server of an upstream.
#[derive(Debug)]
pub(super) struct Server {
    /// `127.0.0.1:3000` or `unix:/run/app.sock`, for the log.
    pub(super) label: Arc<str>,
    pub(super) address: Address,
    /// Those of its name, where it has one.
    pub(super) addresses: Addresses,
    pub(super) speaks: Speaks,
    pub(super) tls: Option<Tls>,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub(super) proxy_protocol: bool,
    /// The Host of our own requests to it, the health checks.
    pub(super) host: HeaderValue,
    pub(super) base: String,
    pub(super) origin: Option<Origin>,
    /// Its share in the requests, in proportion to those of the others; from 1 to 100.
    pub(super) weight: u32,
    /// Of its name, for the choice by a hash: the same in every process.
    pub(super) hash: u64,
    pub(super) health: Health,
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Address {
    /// Never resolved.
    Ip(std::net::SocketAddr),
    /// Resolved at an interval.
    Name {
        /// The name.
        host: Box<str>,
        /// The port, that of the scheme where none was written.
        port: u16,
    },
    /// The path of a socket.
    Unix(PathBuf),
}

/// What a server speaks, as far as the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
    /// What the server chooses by ALPN (RFC 7301) on each connection.
    Either,
}

/// What is spoken on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

pub(super) struct Tls {
    /// Offers `h2` too, where the server may choose it.
    pub(super) config: Arc<ClientConfig>,
    /// Offers `http/1.1` alone.
    pub(super) http1: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What is known of one server. All zero: it takes requests.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// What its health check says.
    pub(super) down: AtomicBool,
    /// Milliseconds of the upstream's clock until which it is ejected; 0: it is not. Then one request tries it.
    pub(super) ejected_until: AtomicU64,
    /// Requests in a row that failed at it.
    pub(super) failures: AtomicU32,
    /// How often it was ejected.
    pub(super) ejections: AtomicU64,
    /// Requests that were sent again after they had failed at it.
    pub(super) retries: AtomicU64,
    /// Requests that wait for a connection to it, of all workers.
    pub(super) pending: AtomicU64,
    /// How often in a row, without an answer in between.
    pub(super) ejections_in_a_row: AtomicU32,
    /// Milliseconds of the upstream's clock before which a failure is not logged again.
    pub(super) quiet_until: AtomicU64,
    /// Milliseconds of the upstream's clock until which no connection to it is used again.
    pub(super) no_reuse_until: AtomicU64,
}

/// The clock of an upstream: milliseconds since it was made.
#[derive(Debug)]
pub(super) struct Uptime {
    since: Instant,
    /// What a test adds to it.
    #[cfg(test)]
    pub(super) ahead: AtomicU64,
}

impl Default for Uptime {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            #[cfg(test)]
            ahead: AtomicU64::new(0),
        }
    }
}

impl Uptime {
    pub(super) fn now(&self) -> u64 {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        #[cfg(test)]
        let now = now + self.ahead.load(std::sync::atomic::Ordering::Relaxed);
        now
    }
}
