//! A client's connection: its requests under way, and since when it is idle. A few stores a request, and no timer.
//!
//! The gateway notes its requests here, and the server what the client does with the bytes; each reads what the other noted.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::http::client::Exit;
use crate::identity_headers::Peer;

/// One connection from a client.
#[derive(Debug)]
pub struct Activity {
    opened: Instant,
    under_way: AtomicUsize,
    /// Milliseconds after `opened` at which the last request ended, or the client last took bytes that waited for it.
    last_end: AtomicU64,
    /// Whether bytes wait for the client, which does not take them.
    blocked: AtomicBool,
    /// Answers whose rate is not measured: gRPC.
    unmeasured: AtomicUsize,
    /// Whether the bytes are not HTTP any more.
    switched: AtomicBool,
    /// Whether the connection was ended because the client was too slow.
    too_slow: AtomicBool,
    /// The streams of all connections of the client; none for a peer that is not counted.
    streams: OnceLock<Arc<StreamLimit>>,
}

/// The HTTP/2 streams that a client has on all of its connections, and how many it may have.
#[derive(Debug)]
pub struct StreamLimit {
    open: AtomicUsize,
    most: usize,
}

impl StreamLimit {
    /// No stream yet, of at most `most`.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            open: AtomicUsize::new(0),
            most,
        }
    }
}

/// One stream of a client; free again when dropped.
#[derive(Debug)]
pub struct StreamSlot(Option<Arc<StreamLimit>>);

impl Drop for StreamSlot {
    fn drop(&mut self) {
        if let Some(limit) = &self.0 {
            limit.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            under_way: AtomicUsize::new(0),
            last_end: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            unmeasured: AtomicUsize::new(0),
            switched: AtomicBool::new(false),
            too_slow: AtomicBool::new(false),
            streams: OnceLock::new(),
        }
    }
}

impl Activity {
    /// From now on streams of this connection count among those of its client.
    pub fn share_streams(&self, limit: Arc<StreamLimit>) {
        // A connection has one client.
        let _ = self.streams.set(limit);
    }

    /// A stream begins; `None` where the client has as many as it may have.
    #[must_use]
    pub fn begin_stream(&self) -> Option<StreamSlot> {
        let Some(limit) = self.streams.get() else {
            return Some(StreamSlot(None));
        };
        // Counted at once, so that of streams that begin together no more pass.
        let slot = StreamSlot(Some(Arc::clone(limit)));
        (limit.open.fetch_add(1, Ordering::Relaxed) < limit.most).then_some(slot)
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that began has ended, its answer included.
    pub(super) fn end(&self, now: Instant) {
        self.moved(now);
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    fn moved(&self, now: Instant) {
        let moved = u64::try_from(now.saturating_duration_since(self.opened).as_millis()).unwrap_or(u64::MAX);
        self.last_end.store(moved, Ordering::Relaxed);
    }

    /// An answer whose rate is not measured begins.
    pub(super) fn begin_unmeasured(&self) {
        self.unmeasured.fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended.
    pub(super) fn end_unmeasured(&self) {
        self.unmeasured.fetch_sub(1, Ordering::Relaxed);
    }

    /// From here on the bytes are not HTTP any more.
    pub(super) fn switch(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }

    /// Whether the bytes are not HTTP any more.
    #[must_use]
    pub fn is_switched(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }

    /// Bytes wait for the client from now on.
    pub fn block(&self) {
        self.blocked.store(true, Ordering::Relaxed);
    }

    /// The client took bytes that waited for it.
    pub fn unblock(&self) {
        self.moved(Instant::now());
        self.blocked.store(false, Ordering::Relaxed);
    }

    /// Whether the rate counts at which the client takes bytes.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.unmeasured.load(Ordering::Relaxed) == 0 && !self.is_switched()
    }

    /// The connection ends because the client is too slow.
    pub fn mark_too_slow(&self) {
        self.too_slow.store(true, Ordering::Relaxed);
    }

    /// Whether it ended for that.
    #[must_use]
    pub fn is_too_slow(&self) -> bool {
        self.too_slow.load(Ordering::Relaxed)
    }

    /// Whether a request or its answer is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// Whether the first request is still to come.
    #[must_use]
    pub fn is_new(&self) -> bool {
        !self.is_busy() && self.last_end.load(Ordering::Relaxed) == 0
    }

    /// Since when there has been no request, and nothing that waits for the client; `None` while there is.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        (!self.is_busy() && !self.blocked.load(Ordering::Relaxed)).then(|| self.last_moved())
    }

    /// When its last request ended, or the client last took bytes that waited for it.
    #[must_use]
    pub fn last_moved(&self) -> Instant {
        self.opened + Duration::from_millis(self.last_end.load(Ordering::Relaxed))
    }
}

/// The connection that a request came on.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// Address, scheme, and whether it is a trusted proxy.
    pub peer: Peer,
    /// The name that the client asked for in TLS.
    pub server_name: Option<String>,
    /// Its requests under way.
    pub activity: Arc<Activity>,
    /// How it is ended from elsewhere.
    pub exit: Arc<Exit>,
    /// Held while something of the connection is alive: for the limit on connections, and the wait at shutdown.
    _hold: ConnectionGuard,
}

struct ConnectionGuard(#[allow(dead_code)] Box<dyn std::any::Any + Send + Sync>);

impl std::fmt::Debug for ConnectionGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectionGuard")
    }
}

impl ConnectionInfo {
    /// A connection that has had no request yet.
    #[must_use]
    pub fn new(
        peer: Peer,
        server_name: Option<String>,
        activity: Arc<Activity>,
        exit: Arc<Exit>,
        hold: Box<dyn std::any::Any + Send + Sync>,
    ) -> Self {
        Self {
            peer,
            server_name,
            activity,
            exit,
            _hold: ConnectionGuard(hold),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_is_idle_after_its_last_request_only() {
        let activity = Activity::default();
        assert!(activity.idle_since().is_some());
        activity.begin();
        activity.begin();
        activity.end(Instant::now());
        assert!(activity.is_busy());
        assert!(activity.idle_since().is_none());
        activity.end(Instant::now());
        assert!(activity.idle_since().is_some());
    }

    #[test]
    fn connection_with_blocked_bytes_is_not_idle() {
        let activity = Activity::default();
        activity.block();
        assert!(activity.idle_since().is_none());
        assert!(!activity.is_busy());
        activity.unblock();
        assert!(activity.idle_since().is_some());
    }
}
