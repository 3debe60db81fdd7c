//! Which server of an upstream takes the next request, and whether a connection to it may be used again.
//!
//! Input: the results of health checks, of connecting and of reading, in the atomics of each server. Output: a server.
//! Invariants: a server that its health check calls down gets no request. A server that could not be connected to is
//! skipped for a short while, and only where another is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;

use super::connect::ConnectError;
use super::upstream::Upstream;

/// How long a server that has sent bytes that no request asked for gets a connection of its own for each request.
const NO_REUSE: Duration = Duration::from_secs(60 * 60);
/// How long a server is left out after it could not be connected to.
const LEFT_OUT: Duration = Duration::from_secs(5);
impl Upstream {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The server for the next request, round robin from `turn`: not one of `tried`, and left-out ones only where there
    /// is no other. `None`: there is none.
    pub(super) fn choose(&self, round_robin: &AtomicUsize, tried: &[usize]) -> Option<usize> {
        let count = self.servers.len();
        let start = if count > 1 {
            round_robin.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        let mut last_resort = None;
        for step in 0..count {
            let index = start.wrapping_add(step) % count;
            let health = &self.servers[index].health;
            if tried.contains(&index) || health.down.load(Ordering::Relaxed) {
                continue;
            }
            let until = health.left_out_until.load(Ordering::Relaxed);
            // The clock is read only where something failed lately.
            if until == 0 || until <= self.now() {
                return Some(index);
            }
            last_resort = last_resort.or(Some(index));
        }
        last_resort
    }

    /// Leaves `server` out for a while: `error` kept `request`, on `route`, from reaching it.
    pub(super) fn leave_out<B>(
        &self,
        server: usize,
        error: &ConnectError,
        route: &str,
        request: &Request<B>,
    ) {
        let server = &self.servers[server];
        let now = self.now();
        let until = now.saturating_add(u64::try_from(LEFT_OUT.as_millis()).unwrap_or(u64::MAX));
        let before = server.health.left_out_until.swap(until, Ordering::Relaxed);
        // Once in that while is enough in the log.
        if before <= now {
            let request_id = request
                .headers()
                .get("x-request-id")
                .and_then(|id| id.to_str().ok())
                .unwrap_or_default();
            tracing::warn!(
                upstream = %self.name, server = %server.label, %route, %request_id, %error, "cannot connect to the app"
            );
        }
    }

    /// `server` was connected to: it is in turn again.
    pub(super) fn reached(&self, server: usize) {
        self.servers[server]
            .health
            .left_out_until
            .store(0, Ordering::Relaxed);
    }

    /// Whether a connection to `server` may be used for another request.
    pub(super) fn is_reusable(&self, server: usize) -> bool {
        if self.proxy_protocol {
            return false;
        }
        let until = self.servers[server].health.no_reuse_until.load(Ordering::Relaxed);
        // The clock is read only where something was seen.
        until == 0 || until <= self.now()
    }

    /// `server` has sent bytes that no request asked for. Bytes that come a moment later would be taken for the answer to
    /// a request of another client, so that from now on no connection to it carries a second one.
    pub(super) fn spoke_unasked(&self, server: usize) {
        let server = &self.servers[server];
        let now = self.now();
        let until = now.saturating_add(u64::try_from(NO_REUSE.as_millis()).unwrap_or(u64::MAX));
        let before = server.health.no_reuse_until.swap(until, Ordering::Relaxed);
        if before <= now {
            tracing::warn!(
                upstream = %self.name, server = %server.label,
                "the app sent bytes outside of a response: for an hour each request gets a connection of its own. \
                 hint: look for a response with a body to HEAD, 204 or 304, or with more bytes than its Content-Length"
            );
        }
    }

    /// Takes over from the configuration before which servers have sent bytes unasked: a reload changes no app.
    pub fn remember(&self, before: &[Arc<Self>]) {
        for server in &self.servers {
            let known = before.iter().flat_map(|upstream| &upstream.servers);
            for known in known.filter(|known| known.label == server.label) {
                server.addresses.inherit(&known.addresses);
            }
            let same = |upstream: &Arc<Self>| {
                let known = upstream
                    .servers
                    .iter()
                    .find(|known| known.label == server.label)?;
                Some(
                    known
                        .health
                        .no_reuse_until
                        .load(Ordering::Relaxed)
                        .saturating_sub(upstream.now()),
                )
            };
            let left = before.iter().filter_map(same).max().unwrap_or(0);
            if left > 0 {
                server
                    .health
                    .no_reuse_until
                    .store(self.now().saturating_add(left), Ordering::Relaxed);
            }
        }
    }

    /// Whether any server takes requests.
    #[cfg(test)]
    pub(super) fn is_up(&self) -> bool {
        self.builtin.is_some()
            || self
                .servers
                .iter()
                .any(|server| !server.health.down.load(Ordering::Relaxed))
    }
}
