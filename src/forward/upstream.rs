//! An upstream: an app on one or several servers, or something built in.
//!
//! Input: what `config` compiled. Output: plain data for the other files of this room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::server::{Address, Server, Uptime};
use crate::http::location::Origin;
use crate::values::{Builtin, Sticky};

/// Where a route's requests go: an app on one or several servers, or something built in.
#[derive(Debug)]
pub struct Upstream {
    /// The name in the TOML.
    pub name: Arc<str>,
    pub(super) servers: Vec<Server>,
    /// The path that all servers have the app below: `/base`; empty for the root.
    pub(super) base: String,
    /// The servers as an app names itself in absolute addresses: by one of them, or by `host`.
    pub(super) origins: Vec<Origin>,
    pub(super) builtin: Option<Builtin>,
    /// The Host that the app gets instead of the client's.
    pub(super) host: Option<HeaderValue>,
    /// Name, TCP, TLS and HTTP/2 handshake together; also the longest wait for a free connection.
    pub(super) connect_timeout: Duration,
    /// From the last byte of the request to the end of the response head.
    pub(super) response_timeout: Duration,
    /// How long an unused connection is kept.
    pub(super) idle_timeout: Duration,
    /// Connections of one worker to one server. For HTTP/2, requests under way on its one connection.
    pub(super) max_connections: usize,
    /// Requests of one worker that wait for a connection to one server.
    pub(super) max_pending: usize,
    pub(super) health_check: Option<HealthCheck>,
    /// Whether each connection begins with a header of the PROXY protocol. Such a connection is of one client, and carries
    /// one request.
    pub(super) proxy_protocol: bool,
    /// By what requests keep to one server.
    pub(super) sticky: Option<Sticky>,
    /// The name of the cookie for that.
    pub(super) cookie_name: String,
    /// What the cookie calls each server; empty until the key is known.
    pub(super) server_ids: OnceLock<Vec<String>>,
    /// What the times in [`Health`](super::server::Health) are read from.
    pub(super) uptime: Uptime,
    /// `Set-Cookie` fields of its answers that were dropped.
    pub(super) dropped_cookies: AtomicU64,
}

#[derive(Debug)]
pub(super) struct HealthCheck {
    pub(super) path: PathAndQuery,
    pub(super) interval: Duration,
}

/// What is known of a server now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerStatus {
    /// Whether it takes requests: its health check does not fail, and it is not ejected.
    pub(crate) is_up: bool,
    /// How often it was ejected.
    pub(crate) ejections: u64,
    /// Requests that were sent again after they had failed there.
    pub(crate) retries: u64,
    /// Requests that wait for a connection to it, of all workers.
    pub(crate) pending: u64,
}

impl Upstream {
    /// What is known of its servers, each with its name in the log. Servers of one name are one.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (&Arc<str>, ServerStatus)> {
        let is_first = |(at, server): &(usize, &Server)| {
            self.servers[..*at]
                .iter()
                .all(|other| other.label != server.label)
        };
        let servers = self.servers.iter().enumerate().filter(is_first);
        servers.map(|(_, server)| {
            let health = &server.health;
            let status = ServerStatus {
                is_up: !health.down.load(Ordering::Relaxed) && !health.is_suspect(),
                ejections: health.ejections.load(Ordering::Relaxed),
                retries: health.retries.load(Ordering::Relaxed),
                pending: health.pending.load(Ordering::Relaxed),
            };
            (&server.label, status)
        })
    }

    /// Counts `Set-Cookie` fields of an answer that were dropped because the gateway itself has cookies of their names,
    /// `cookie` above all. The first time it is said in the log: the app does not learn of it.
    pub fn note_dropped_cookies(&self, count: usize, cookie: &str) {
        if count > 0 && self.dropped_cookies.fetch_add(count as u64, Ordering::Relaxed) == 0 {
            tracing::warn!(
                upstream = &*self.name,
                cookie,
                "the app sets a cookie of the gateway's own: this `Set-Cookie` and later ones are dropped. hint: give another name \
                 to the app's cookie, or to the gateway's with `cookie` in `[session]`"
            );
        }
    }

    /// How many that were.
    #[must_use]
    pub fn dropped_cookies(&self) -> u64 {
        self.dropped_cookies.load(Ordering::Relaxed)
    }

    /// Whether its servers are told the client's address in front of each connection.
    #[must_use]
    pub fn announces_clients(&self) -> bool {
        self.proxy_protocol
    }

    /// Whether something built in answers, and no app.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        self.builtin.is_some()
    }

    /// Whether another proxy serves its routes, so that the gateway has nowhere to send a request.
    #[must_use]
    pub fn is_served_elsewhere(&self) -> bool {
        self.builtin == Some(Builtin::ForwardAuth)
    }

    /// The prefix of every path on the servers; empty for none.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The hosts by which the app may name itself in absolute addresses.
    #[must_use]
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// Where its servers listen, in their order.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.servers.iter().map(|server| &server.address)
    }
}
