//! The connections of one worker to the servers of its upstreams.
//!
//! Input: a request for a connection. Output: a [`PooledConnection`]. It counts against the server's limit until it is
//! dropped, wherever that happens. The connection used last is used next, so that few stay warm and the rest expire.
//!
//! While there is room, connections of a client are not counted. When a server has no free connection, a client that holds
//! its share waits behind the others, and the client that holds most loses one: the response that waits for the client to
//! read or, if the client holds more than its share, the one that it has held longest.
//!
//! Invariants: never more connections than the limit; no wait and no queue without a bound. Locks here are never contended
//! (one worker, one thread) and never held while a value is dropped or a task is woken.
//!
//! By hand, because the request's own task polls its connection, without a lock or a second task: an authenticated request
//! cost 15.3 µs of CPU in this shape, and 21.5 µs with hyper-util's pooled client on tokio's multi-thread runtime.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::draw::Draws;
use super::http1::{Http1, ServerRef};
use super::http2::Http2;
use super::server::{Protocol, Speaks};
use super::upstream::Upstream;
use crate::http::client::{ClientKey, Exit, Holder, Share};
use crate::refusal::Refusal;

/// The streams that a server of HTTP/2 is taken to allow until it says how many (RFC 9113 section 6.5.2).
const USUAL_STREAMS: usize = 100;
/// How often a connection to close is looked for while a request waits.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a response must have waited for its client to be closed for that alone.
const STALLED: Duration = Duration::from_secs(1);

/// The connections of one worker: one pool a worker and configuration, dropped with it.
#[derive(Debug)]
pub struct Pool {
    /// The share of one client in the connections to a server when all are taken.
    share: Share,
    pools: Mutex<Vec<Arc<UpstreamPool>>>,
}

/// The connections to one upstream.
#[derive(Debug)]
pub(super) struct UpstreamPool {
    pub(super) upstream: Arc<Upstream>,
    pub(super) draws: Draws,
    /// In the order of the upstream's servers.
    each: Vec<Arc<ServerPool>>,
}

/// The connections to one server.
#[derive(Debug)]
pub(super) struct ServerPool {
    pub(super) app: ServerRef,
    /// Of the connections that the upstream may have, for one client.
    share: usize,
    state: Mutex<PoolState>,
    /// Held while the HTTP/2 connection is made, so that one is made and not one for each request that waits.
    pub(super) dialling: tokio::sync::Mutex<()>,
    /// Whether a server that may choose HTTP/2 chose HTTP/1.1 when it was last asked.
    chose_http1: AtomicBool,
}

#[derive(Debug, Default)]
struct PoolState {
    /// Connections, idle or in use; for HTTP/2, requests under way.
    open: usize,
    /// How many of them are connections of HTTP/1.1.
    http1: usize,
    /// The one used last is last.
    idle: Vec<IdleConnection>,
    /// Requests whose client held less than its share when they came, and those that come after them.
    waiting: [VecDeque<Waiter>; 2],
    shared: Option<SharedConnection>,
    /// The clients that hold the connections in use, and the order in which these were taken.
    held: Vec<Option<(Holder, u64)>>,
    vacant: Vec<usize>,
    taken: u64,
    looked: Option<Instant>,
}

/// A request in the queue for a connection to a server.
#[derive(Debug)]
struct Pending {
    server_pool: Arc<ServerPool>,
    grant: oneshot::Receiver<PooledConnection>,
}

impl Pending {
    fn count(&self) -> &AtomicU64 {
        let app = &self.server_pool.app;
        &app.upstream.servers[app.server].health.pending
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Waiter {
    holder: Holder,
    grant: oneshot::Sender<PooledConnection>,
}

impl PoolState {
    /// Records that `holder` has a connection; returns the index of the record.
    fn hold(&mut self, holder: Holder) -> usize {
        self.taken += 1;
        let held = Some((holder, self.taken));
        match self.vacant.pop() {
            Some(at) => {
                self.held[at] = held;
                at
            }
            None => {
                self.held.push(held);
                self.held.len() - 1
            }
        }
    }

    fn release(&mut self, at: usize) -> Option<(Holder, u64)> {
        let held = self.held[at].take();
        if held.is_some() {
            self.vacant.push(at);
        }
        held
    }

    /// The connections that a client holds or waits for. Only called when all are taken; there are at most as many as the
    /// limit and `max_pending` together.
    fn count(&self, key: ClientKey) -> usize {
        let held = self
            .held
            .iter()
            .flatten()
            .filter(|(holder, _)| holder.key == key)
            .count();
        let waiting = self.waiting[0].iter();
        held + waiting
            .filter(|waiting| waiting.holder.key == key && !waiting.grant.is_closed())
            .count()
    }

    /// Whose exchange gives way to one of a client that holds less; at most one look each [`LOOK_AGAIN`].
    fn longest_idle(&mut self, newcomer: ClientKey, share: usize) -> Option<Arc<Exit>> {
        if self
            .looked
            .is_some_and(|looked| looked.elapsed() < LOOK_AGAIN / 2)
        {
            return None;
        }
        self.looked = Some(Instant::now());
        let mut keys: Vec<ClientKey> = self.held.iter().flatten().map(|(holder, _)| holder.key).collect();
        keys.sort_unstable();
        let (key, count) = keys
            .chunk_by(|a, b| a == b)
            .map(|same| (same[0], same.len()))
            .max_by_key(|(_, count)| *count)?;
        let mine = keys.iter().filter(|key| **key == newcomer).count();
        if count <= mine {
            return None;
        }
        let theirs = || {
            let held = self.held.iter().flatten();
            held.filter(|(holder, _)| holder.key == key && !holder.exit.is_used())
        };
        let stalled = theirs().filter_map(|(holder, _)| Some((holder.exit.waits_for()?, holder)));
        let exit = match stalled.max_by_key(|(waits_for, _)| *waits_for) {
            Some((waits_for, holder)) if waits_for >= STALLED || count > share => &holder.exit,
            _ if count > share => &theirs().min_by_key(|(_, taken)| *taken)?.0.exit,
            _ => return None,
        };
        Some(Arc::clone(exit))
    }
}

#[derive(Debug)]
struct IdleConnection {
    connection: Box<Http1>,
    /// The first sweep that found it idle.
    since: Option<std::time::Instant>,
}

#[derive(Debug)]
struct SharedConnection {
    connection: Http2,
    since: Option<std::time::Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// No connections yet; `share` binds a client where all places at a server are taken.
    #[must_use]
    pub fn new(share: Share) -> Self {
        Self {
            share,
            pools: Mutex::default(),
        }
    }

    /// The connections to those of `upstreams` that are known here, the very same ones; they count here and there.
    #[must_use]
    pub fn of(&self, upstreams: &[Arc<Upstream>], share: Share) -> Self {
        if share != self.share {
            return Self::new(share);
        }
        let is_kept = |pools: &&Arc<UpstreamPool>| {
            upstreams
                .iter()
                .any(|upstream| Arc::ptr_eq(upstream, &pools.upstream))
        };
        let kept = lock(&self.pools).iter().filter(is_kept).cloned().collect();
        Self {
            share,
            pools: Mutex::new(kept),
        }
    }

    /// Closes connections that the app has closed, and those idle for longer than their upstream's `idle_timeout`. To
    /// be called every second or so: time is counted from the first call that finds a connection idle.
    pub fn sweep(&self, now: std::time::Instant) {
        let all: Vec<_> = lock(&self.pools).clone();
        for pools in all {
            for server_pool in &pools.each {
                server_pool.sweep(now, pools.upstream.idle_timeout);
            }
        }
    }

    pub(super) fn upstream(&self, upstream: &Arc<Upstream>) -> Arc<UpstreamPool> {
        let mut pools = lock(&self.pools);
        // There are few upstreams: a linear search costs less than a hash.
        if let Some(known) = pools.iter().find(|pools| Arc::ptr_eq(&pools.upstream, upstream)) {
            return known.clone();
        }
        let new = Arc::new(UpstreamPool::new(upstream.clone(), self.share, Draws::new()));
        pools.push(new.clone());
        new
    }
}

impl UpstreamPool {
    fn new(upstream: Arc<Upstream>, share: Share, draws: Draws) -> Self {
        let server = |server| Arc::new(ServerPool::new(upstream.clone(), server, share));
        Self {
            each: (0..upstream.servers.len()).map(server).collect(),
            upstream,
            draws,
        }
    }

    /// No connections; the choice of servers is that of `seed`.
    #[cfg(test)]
    pub(super) fn seeded(upstream: Arc<Upstream>, seed: u64) -> Self {
        Self::new(upstream, Share::Percent(25), Draws::seeded(seed))
    }

    pub(super) fn server(&self, server: usize) -> &Arc<ServerPool> {
        &self.each[server]
    }
}

/// The result of a request for a connection.
#[derive(Debug)]
pub(super) enum Checkout {
    /// An idle connection, or the permit for a new one.
    Granted(PooledConnection),
    /// All in use.
    Full,
}

impl ServerPool {
    fn new(upstream: Arc<Upstream>, server: usize, share: Share) -> Self {
        Self {
            share: share.of(upstream.max_connections),
            app: ServerRef { upstream, server },
            state: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
            chose_http1: AtomicBool::new(false),
        }
    }

    /// An idle connection, or the permit for a new one, if there is any now. Whether the connection is still usable is
    /// checked right before the request is written: an earlier check would only be older.
    pub(super) fn checkout(self: &Arc<Self>, holder: &Holder) -> Checkout {
        loop {
            let mut state = lock(&self.state);
            let connection = match state.idle.pop() {
                Some(idle) => Some(idle.connection),
                None if self.has_room(&state, 1) => {
                    state.open += 1;
                    None
                }
                None => return Checkout::Full,
            };
            let at = state.hold(holder.clone());
            drop(state);
            let mut permit = ConnectionPermit::counted(self, Some(at));
            permit.is_http1 = connection.is_some();
            let pooled = PooledConnection { connection, permit };
            if pooled.connection.is_none() || self.is_reusable() {
                return Checkout::Granted(pooled);
            }
            // Dropped, it frees its permit for the next try.
        }
    }

    /// Requests of this worker that are under way at the server or wait for it.
    pub(super) fn load(&self) -> usize {
        let state = lock(&self.state);
        state.held.len() - state.vacant.len() + state.waiting.iter().map(VecDeque::len).sum::<usize>()
    }

    /// Whether so many connections more may be open now; over HTTP/2, so many requests more be under way.
    fn has_room(&self, state: &PoolState, more: usize) -> bool {
        let upstream = &self.app.upstream;
        let shares = match upstream.servers[self.app.server].speaks {
            Speaks::Http1 => false,
            Speaks::Http2 => true,
            Speaks::Either => !self.chose_http1(),
        };
        let streams = match &state.shared {
            Some(shared) => shared.connection.streams(),
            None if shares => USUAL_STREAMS,
            None => usize::MAX,
        };
        // Connections of WebSockets are open beside the one of HTTP/2.
        let under_way = state.open.saturating_sub(state.http1);
        state.open.saturating_add(more) <= upstream.max_connections
            && under_way.saturating_add(more) <= streams
    }

    /// Waits for a connection, or the permit for one.
    ///
    /// # Errors
    /// 503 at once where `max_pending` requests wait already, or where none became free in time.
    pub(super) async fn wait(
        self: &Arc<Self>,
        holder: &Holder,
        longest: Duration,
    ) -> Result<PooledConnection, Refusal> {
        let mut freed = self.queue(holder)?;
        let pooled = timeout(longest, async {
            loop {
                let exit = lock(&self.state).longest_idle(holder.key, self.share);
                if let Some(exit) = exit {
                    exit.end();
                }
                if let Ok(freed) = timeout(LOOK_AGAIN, &mut freed.grant).await {
                    return freed.ok();
                }
                // A server of HTTP/2 may allow more streams than before.
                self.grant_room();
            }
        });
        match pooled.await {
            Ok(Some(pooled)) => Ok(pooled),
            // Another request has taken its place in the queue.
            Ok(None) => Err(Refusal::UpstreamFull),
            Err(_elapsed) => Err(Refusal::UpstreamBusy),
        }
    }

    /// A place in the queue for a connection. Where all are taken, the last request of a client that holds its share gives
    /// way to one of a client that does not.
    fn queue(self: &Arc<Self>, holder: &Holder) -> Result<Pending, Refusal> {
        let upstream = &self.app.upstream;
        let mut state = lock(&self.state);
        let is_over = state.count(holder.key) >= self.share;
        let is_full = |state: &PoolState| {
            state.waiting.iter().map(VecDeque::len).sum::<usize>() >= upstream.max_pending
        };
        let mut gives_way = None;
        if is_full(&state) {
            for queue in &mut state.waiting {
                queue.retain(|waiting| !waiting.grant.is_closed());
            }
            if is_full(&state) {
                gives_way = (!is_over).then(|| state.waiting[1].pop_back()).flatten();
                if gives_way.is_none() {
                    return Err(Refusal::UpstreamFull);
                }
            }
        }
        let (grant, freed) = oneshot::channel();
        state.waiting[usize::from(is_over)].push_back(Waiter {
            holder: holder.clone(),
            grant,
        });
        drop(state);
        drop(gives_way);
        let pending = Pending {
            server_pool: Arc::clone(self),
            grant: freed,
        };
        pending.count().fetch_add(1, Ordering::Relaxed);
        Ok(pending)
    }

    /// Gives requests that wait the room that there is.
    fn grant_room(self: &Arc<Self>) {
        loop {
            let mut state = lock(&self.state);
            let is_waited_for = state.waiting.iter().any(|queue| !queue.is_empty());
            if !is_waited_for || !self.has_room(&state, 1) {
                return;
            }
            state.open += 1;
            drop(state);
            // Dropped, it goes to the next one that waits.
            drop(ConnectionPermit::counted(self, None));
        }
    }

    /// Whether a connection to the server may carry more than one request.
    pub(super) fn is_reusable(&self) -> bool {
        self.app.upstream.is_reusable(self.app.server)
    }

    /// Whether the server, which may choose HTTP/2, chose HTTP/1.1 when it was last asked.
    pub(super) fn chose_http1(&self) -> bool {
        self.chose_http1.load(Ordering::Relaxed)
    }

    /// The server chose `protocol`.
    pub(super) fn note_choice(&self, protocol: Protocol) {
        self.chose_http1
            .store(protocol == Protocol::Http1, Ordering::Relaxed);
    }

    /// Closes the idle connections that the app has closed or spoken on unasked: one was found to be so.
    pub(super) fn prune(self: &Arc<Self>) {
        self.close_idle(|idle| !idle.connection.is_fresh());
    }

    fn close_idle(self: &Arc<Self>, mut is_over: impl FnMut(&mut IdleConnection) -> bool) {
        // Outside the lock: the check may drop a connection that has ended.
        let mut idle = std::mem::take(&mut lock(&self.state).idle);
        let over: Vec<IdleConnection> = idle.extract_if(.., |idle| is_over(idle)).collect();
        lock(&self.state).idle.extend(idle);
        for idle in over {
            let mut permit = ConnectionPermit::counted(self, None);
            permit.is_http1 = true;
            drop(PooledConnection {
                connection: Some(idle.connection),
                permit,
            });
        }
    }

    /// The HTTP/2 connection, where there is one that takes requests.
    pub(super) fn shared(&self) -> Option<Http2> {
        let mut state = lock(&self.state);
        let shared = state.shared.as_mut()?;
        let app = &self.app.upstream.servers[self.app.server];
        if shared.connection.is_open() && app.addresses.has(&mut shared.connection.place) {
            shared.since = None;
            return Some(shared.connection.clone());
        }
        let closed = state.shared.take();
        drop(state);
        drop(closed);
        None
    }

    pub(super) fn share(&self, connection: Http2) {
        let before = lock(&self.state).shared.replace(SharedConnection {
            connection,
            since: None,
        });
        drop(before);
    }

    /// Takes the HTTP/2 connection out of use for further requests; those under way on it go on.
    pub(super) fn unshare(&self) {
        let before = lock(&self.state).shared.take();
        drop(before);
    }

    /// The request that has waited longest. It may have timed out.
    fn next_waiting(&self) -> Option<Waiter> {
        let mut state = lock(&self.state);
        let [first, then] = &mut state.waiting;
        first.pop_front().or_else(|| then.pop_front())
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

/// The right to one connection under a server's limit; freed when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    server_pool: Arc<ServerPool>,
    /// `false` once the permit was passed on.
    counted: bool,
    /// Whether its connection counts as one of HTTP/1.1.
    is_http1: bool,
    /// The index of the record of its holder.
    at: Option<usize>,
}

impl ConnectionPermit {
    fn counted(server_pool: &Arc<ServerPool>, at: Option<usize>) -> Self {
        Self {
            server_pool: server_pool.clone(),
            counted: true,
            is_http1: false,
            at,
        }
    }

    /// From now on `holder` has it; `None`: it is idle.
    fn held_by(&mut self, holder: Option<Holder>) {
        let mut state = lock(&self.server_pool.state);
        let before = self.at.take().and_then(|at| state.release(at));
        self.at = holder.map(|holder| state.hold(holder));
        drop(state);
        drop(before);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if self.at.is_some() {
            self.held_by(None);
        }
        if self.is_http1 {
            lock(&self.server_pool.state).http1 -= 1;
        }
        while std::mem::take(&mut self.counted) {
            let next = {
                let state = lock(&self.server_pool.state);
                // A server of HTTP/2 may allow fewer streams than before.
                self.server_pool.has_room(&state, 0)
            };
            let next = next.then(|| self.server_pool.next_waiting()).flatten();
            let Some(Waiter { holder, grant }) = next else {
                lock(&self.server_pool.state).open -= 1;
                return;
            };
            let mut pooled = PooledConnection {
                connection: None,
                permit: Self::counted(&self.server_pool, None),
            };
            pooled.permit.held_by(Some(holder));
            if let Err(mut pooled) = grant.send(pooled) {
                // It has timed out: pass the permit to the next one.
                pooled.permit.counted = false;
                self.counted = true;
            }
        }
    }
}

/// A connection in use, or the right to make one.
///
/// Dropped, it closes the connection. [`PooledConnection::give_back`] keeps it, if nothing is under way on it.
#[derive(Debug)]
pub(super) struct PooledConnection {
    // In this order: the permit is freed only once the connection is closed.
    connection: Option<Box<Http1>>,
    permit: ConnectionPermit,
}

impl PooledConnection {
    pub(super) fn connection(&mut self) -> Option<&mut Http1> {
        self.connection.as_deref_mut()
    }

    pub(super) fn connect(&mut self, connection: Http1) -> &mut Http1 {
        if !std::mem::replace(&mut self.permit.is_http1, true) {
            lock(&self.permit.server_pool.state).http1 += 1;
        }
        self.connection.insert(Box::new(connection))
    }

    /// Closes the connection, unless it was taken out, and keeps the permit.
    pub(super) fn into_permit(self) -> ConnectionPermit {
        self.permit
    }

    /// Keeps the connection for the next request, if the exchange on it is over in both directions.
    pub(super) fn give_back(mut self) {
        if !self.connection().is_some_and(Http1::is_idle) || !self.permit.server_pool.is_reusable() {
            return;
        }
        let server_pool = self.permit.server_pool.clone();
        while let Some(Waiter { holder, grant }) = server_pool.next_waiting() {
            self.permit.held_by(Some(holder));
            match grant.send(self) {
                Ok(()) => return,
                Err(pooled) => self = pooled,
            }
        }
        self.permit.held_by(None);
        if let Some(connection) = self.connection.take() {
            self.permit.counted = false;
            self.permit.is_http1 = false;
            lock(&server_pool.state).idle.push(IdleConnection {
                connection,
                since: None,
            });
        }
    }
}

#[cfg(test)]
mod tests;
