//! The connections of one worker to the servers of its upstreams.
//!
//! Enters: a request for a connection. Leaves: a [`Lease`], which holds the place that the connection takes of the
//! server's limit and frees it when dropped, wherever that happens. The connection used last is used next, so that few
//! stay warm and the rest grow old and are closed.
//!
//! What must never happen: more connections than the limit, a wait without a bound, a queue without a bound. Locks here
//! are never contended (one worker, one thread) and never held while something is dropped or woken.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connect::Addresses;
use super::http1::{App, Http1};
use super::http2::Http2;
use super::upstream::Upstream;

/// Requests that may wait for a connection to one server.
const MAX_WAITING: usize = 1024;

/// The connections of one worker: one pool a worker and configuration, dropped with it.
#[derive(Debug, Default)]
pub struct Pool {
    lanes: Mutex<Vec<Arc<Lanes>>>,
}

/// The connections to one upstream.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) upstream: Arc<Upstream>,
    pub(super) turn: AtomicUsize,
    /// In the order of the upstream's servers.
    each: Vec<Arc<Lane>>,
}

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) app: App,
    state: Mutex<State>,
    pub(super) addresses: Addresses,
    /// Held while the HTTP/2 connection is made, so that one is made and not one for each request that waits.
    pub(super) dialling: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Connections, idle or in use; for HTTP/2, requests under way.
    open: usize,
    /// Used last, last.
    idle: Vec<Idle>,
    waiting: VecDeque<oneshot::Sender<Lease>>,
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Http1>,
    /// The first sweep that found it idle.
    since: Option<std::time::Instant>,
}

#[derive(Debug)]
struct Shared {
    connection: Http2,
    since: Option<std::time::Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// No connections yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes connections that the app has closed, and those idle for longer than their upstream's `idle_timeout`. To
    /// be called every second or so: time is counted from the first call that finds a connection idle.
    pub fn sweep(&self, now: std::time::Instant) {
        let all: Vec<_> = lock(&self.lanes).clone();
        for lanes in all {
            for lane in &lanes.each {
                lane.sweep(now, lanes.upstream.idle_timeout);
            }
        }
    }

    pub(super) fn lanes(&self, upstream: &Arc<Upstream>) -> Arc<Lanes> {
        let mut lanes = lock(&self.lanes);
        // A handful of upstreams: looking at each costs less than a hash.
        if let Some(known) = lanes.iter().find(|lanes| Arc::ptr_eq(&lanes.upstream, upstream)) {
            return known.clone();
        }
        let new = Arc::new(Lanes {
            upstream: upstream.clone(),
            turn: AtomicUsize::new(0),
            each: (0..upstream.servers.len()).map(|server| Arc::new(Lane::new(upstream.clone(), server))).collect(),
        });
        lanes.push(new.clone());
        new
    }
}

impl Lanes {
    pub(super) fn lane(&self, server: usize) -> &Arc<Lane> {
        &self.each[server]
    }
}

/// What a lane answers to a request for a connection.
#[derive(Debug)]
pub(super) enum Claim {
    /// An idle connection, or the place for a new one.
    Granted(Lease),
    /// All in use.
    Full,
}

impl Lane {
    fn new(upstream: Arc<Upstream>, server: usize) -> Self {
        Self {
            app: App { upstream, server },
            state: Mutex::default(),
            addresses: Addresses::default(),
            dialling: tokio::sync::Mutex::default(),
        }
    }

    /// A connection, or the place for one, if there is any just now. Whether a connection is still good is seen when the
    /// request is about to be written: an earlier look would only be older.
    pub(super) fn claim(self: &Arc<Self>) -> Claim {
        loop {
            let mut state = lock(&self.state);
            let connection = match state.idle.pop() {
                Some(idle) => Some(idle.connection),
                None if state.open < self.app.upstream.max_connections => {
                    state.open += 1;
                    None
                }
                None => return Claim::Full,
            };
            drop(state);
            let lease = Lease { connection, slot: Slot::counted(self) };
            if lease.connection.is_none() || self.is_reusable() {
                return Claim::Granted(lease);
            }
            // Dropped, it makes room for the next try.
        }
    }

    /// Waits for a connection, or the place for one. `None` where none became free in time, or too many wait already.
    pub(super) async fn wait(self: &Arc<Self>, longest: Duration) -> Option<Lease> {
        let freed = {
            let mut state = lock(&self.state);
            if state.waiting.len() >= MAX_WAITING {
                state.waiting.retain(|waiting| !waiting.is_closed());
            }
            if state.waiting.len() >= MAX_WAITING {
                return None;
            }
            let (grant, freed) = oneshot::channel();
            state.waiting.push_back(grant);
            freed
        };
        timeout(longest, freed).await.ok()?.ok()
    }

    /// Whether a connection to the server may carry more than one request.
    pub(super) fn is_reusable(&self) -> bool {
        self.app.upstream.is_reusable(self.app.server)
    }

    /// Closes the idle connections that the app has closed or spoken on unasked: one was found to be so.
    pub(super) fn prune(self: &Arc<Self>) {
        self.close_idle(|idle| !idle.connection.is_fresh());
    }

    fn close_idle(self: &Arc<Self>, mut is_over: impl FnMut(&mut Idle) -> bool) {
        // Looked at outside the lock: what has ended is dropped by the look.
        let mut idle = std::mem::take(&mut lock(&self.state).idle);
        let over: Vec<Idle> = idle.extract_if(.., |idle| is_over(idle)).collect();
        lock(&self.state).idle.extend(idle);
        for idle in over {
            drop(Lease { connection: Some(idle.connection), slot: Slot::counted(self) });
        }
    }

    /// The HTTP/2 connection, where there is one that takes requests.
    pub(super) fn shared(&self) -> Option<Http2> {
        let mut state = lock(&self.state);
        let shared = state.shared.as_mut()?;
        if shared.connection.is_open() {
            shared.since = None;
            return Some(shared.connection.clone());
        }
        let closed = state.shared.take();
        drop(state);
        drop(closed);
        None
    }

    pub(super) fn share(&self, connection: Http2) {
        let before = lock(&self.state).shared.replace(Shared { connection, since: None });
        drop(before);
    }

    /// Takes the HTTP/2 connection out of use for further requests; those under way on it go on.
    pub(super) fn unshare(&self) {
        let before = lock(&self.state).shared.take();
        drop(before);
    }

    fn next_waiting(&self) -> Option<oneshot::Sender<Lease>> {
        lock(&self.state).waiting.pop_front()
    }

    fn sweep(self: &Arc<Self>, now: std::time::Instant, idle_timeout: Duration) {
        let expired = |since: &mut Option<std::time::Instant>| {
            now.saturating_duration_since(*since.get_or_insert(now)) >= idle_timeout
        };
        self.close_idle(|idle| {
            let seen = idle.since.is_some();
            expired(&mut idle.since) || (seen && !idle.connection.is_fresh())
        });
        let mut state = lock(&self.state);
        let busy = state.open > 0;
        let shared = state.shared.take_if(|shared| !busy && expired(&mut shared.since));
        drop(state);
        drop(shared);
    }
}

/// One place of a server's limit, free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    lane: Arc<Lane>,
    /// `false` once somebody else accounts for the place.
    counted: bool,
}

impl Slot {
    fn counted(lane: &Arc<Lane>) -> Self {
        Self { lane: lane.clone(), counted: true }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        while std::mem::take(&mut self.counted) {
            let Some(waiting) = self.lane.next_waiting() else {
                lock(&self.lane.state).open -= 1;
                return;
            };
            if let Err(mut lease) = waiting.send(Lease { connection: None, slot: Self::counted(&self.lane) }) {
                // It had given up: this place is still ours to give.
                lease.slot.counted = false;
                self.counted = true;
            }
        }
    }
}

/// A connection in use, or the right to make one.
///
/// Dropped, it closes the connection. [`Lease::give_back`] keeps it, if nothing is under way on it.
#[derive(Debug)]
pub(super) struct Lease {
    // In this order: the place is free only once the connection is closed.
    connection: Option<Box<Http1>>,
    slot: Slot,
}

impl Lease {
    pub(super) fn connection(&mut self) -> Option<&mut Http1> {
        self.connection.as_deref_mut()
    }

    pub(super) fn connect(&mut self, connection: Http1) -> &mut Http1 {
        self.connection.insert(Box::new(connection))
    }

    /// Closes the connection, unless somebody took it, and keeps the place.
    pub(super) fn into_slot(self) -> Slot {
        self.slot
    }

    /// Keeps the connection for the next request, if the exchange on it is over in both directions.
    pub(super) fn give_back(mut self) {
        if !self.connection().is_some_and(Http1::is_idle) || !self.slot.lane.is_reusable() {
            return;
        }
        let lane = self.slot.lane.clone();
        while let Some(waiting) = lane.next_waiting() {
            match waiting.send(self) {
                Ok(()) => return,
                Err(lease) => self = lease,
            }
        }
        if let Some(connection) = self.connection.take() {
            self.slot.counted = false;
            lock(&lane.state).idle.push(Idle { connection, since: None });
        }
    }
}
