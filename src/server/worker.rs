//! One worker: a thread with its own runtime that accepts connections and serves them to their ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::connection::{self, Accepted};
use super::connection_limit::{ConnectionLimit, ConnectionSlot};
use super::context::Context;
use super::listen::{Address, Listener};
use super::{proxy_header, redirect};
use crate::gateway::{Activity, WorkerContext};
use crate::http::client::{ClientKey, Exit};
use crate::identity_headers::PeerAddress;
use crate::net::proxy_protocol::HeaderFault;
use crate::observe::OpenConnection;

/// How often idle connections to the apps are checked.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The wait after an accept that failed, which mostly means that no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long sent bytes may stay without an acknowledgement, and a peer without reading, before the connection is given
/// up (`TCP_USER_TIMEOUT`, RFC 5482).
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// Bytes that the kernel buffers ahead of what it has sent (`TCP_NOTSENT_LOWAT`). With megabytes, the default, a client
/// that reads slowly could not be told from one that does not read.
const UNSENT: u32 = 32 * 1024;
/// The step in bytes in which the kernel then reports progress.
const STEP: u64 = 16 * 1024;
/// The same for a unix socket, which has no such option: its whole send buffer.
const UNIX_BUFFER: usize = 16 * 1024;
/// When the kernel starts to probe a silent peer.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How often a worker gives a sign of life.
const BEAT: Duration = Duration::from_secs(1);
/// How long a worker may give no sign of life before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// The sign of life of one worker: when its runtime last ran a task.
#[derive(Debug)]
pub(crate) struct Pulse {
    epoch: Instant,
    /// Milliseconds after `epoch`; [`Self::ENDED`] once the worker has served its last connection.
    last: AtomicU64,
}

impl Pulse {
    const ENDED: u64 = u64::MAX;

    /// A pulse that beats for the first time now.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// Whether the worker's runtime has run no task for so long that its connections make no progress.
    #[must_use]
    pub(crate) fn is_stuck(&self, now: Instant) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last != Self::ENDED && self.since_epoch(now).saturating_sub(last) >= milliseconds(STUCK_AFTER)
    }

    fn beat(&self, now: Instant) {
        self.last.store(self.since_epoch(now), Ordering::Relaxed);
    }

    fn end(&self) {
        self.last.store(Self::ENDED, Ordering::Relaxed);
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        milliseconds(now.saturating_duration_since(self.epoch))
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(Pulse::ENDED - 1)
}

/// A listening socket that the workers share. Once the last of them has let go of it, it is closed, and its file removed.
#[derive(Debug)]
pub(crate) struct OpenSocket {
    /// The address as it was configured.
    pub address: Address,
    /// Whether every request is redirected to `public_url`.
    pub redirects: bool,
    /// The socket.
    pub listener: Listener,
}

impl OpenSocket {
    /// Whether it was opened for this address and this purpose.
    pub(crate) fn is(&self, address: &Address, redirects: bool) -> bool {
        self.address == *address && self.redirects == redirects
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        if let Some(path) = self.listener.made() {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What one worker is started with.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Its sign of life.
    pub pulse: Arc<Pulse>,
    /// The listening sockets, as they are now.
    pub sockets: watch::Receiver<Vec<Arc<OpenSocket>>>,
    /// The target of redirects.
    pub public_url: Arc<str>,
    /// What its connections need.
    pub context: Arc<Context>,
    /// The connections of all workers together.
    pub limit: Arc<ConnectionLimit>,
    /// The longest wait for requests under way at the end.
    pub drain_timeout: Duration,
}

impl Worker {
    /// Serves until the gateway drains, then until its connections have ended, at most `drain_timeout` long.
    ///
    /// # Errors
    /// When the runtime or a listener cannot be set up.
    pub(crate) fn run(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let pulse = Arc::clone(&self.pulse);
        runtime.spawn(beat(Arc::clone(&pulse)));
        let served = runtime.block_on(self.serve());
        // Not waiting for threads that look up a name: a resolver may take as long as it likes.
        runtime.shutdown_background();
        pulse.end();
        served
    }

    async fn serve(self) -> io::Result<()> {
        // Every connection holds a sender: when the last one is dropped, all have ended.
        let (hold, mut all_gone) = mpsc::channel::<()>(1);
        let mut sockets = self.sockets.clone();
        let mut accepting = Vec::new();
        self.accept_on(&sockets.borrow_and_update().clone(), &mut accepting, &hold)?;
        let mut draining = self.context.draining.clone();
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                _ = sweep.tick() => self.context.worker.load_full().pool.sweep(std::time::Instant::now()),
                _ = draining.wait_for(|draining| *draining) => break,
                Ok(()) = sockets.changed() => {
                    let now = sockets.borrow_and_update().clone();
                    if let Err(error) = self.accept_on(&now, &mut accepting, &hold) {
                        tracing::error!(%error, "a worker cannot accept connections on a new address; a restart is needed");
                    }
                }
            }
        }
        // From here on the system refuses new connections, unless another process has the socket too.
        drop((accepting, sockets, self.sockets, hold));
        if tokio::time::timeout(self.drain_timeout, all_gone.recv())
            .await
            .is_err()
        {
            tracing::warn!("in-flight requests are cut off: `drain_timeout` has passed");
        }
        Ok(())
    }
}

impl Worker {
    /// Accepts connections on `sockets` and on no other ones. Connections that were accepted stay.
    fn accept_on(
        &self,
        sockets: &[Arc<OpenSocket>],
        accepting: &mut Vec<(Arc<OpenSocket>, AbortHandle)>,
        hold: &mpsc::Sender<()>,
    ) -> io::Result<()> {
        accepting.retain(|(socket, task)| {
            let is_kept = sockets.iter().any(|kept| Arc::ptr_eq(kept, socket));
            if !is_kept {
                task.abort();
            }
            is_kept
        });
        for socket in sockets {
            if accepting.iter().any(|(known, _)| Arc::ptr_eq(known, socket)) {
                continue;
            }
            let accept = Accept {
                context: Arc::clone(&self.context),
                limit: Arc::clone(&self.limit),
                hold: hold.clone(),
                redirect_to: socket.redirects.then(|| Arc::clone(&self.public_url)),
            };
            let listener = match socket.listener.share()? {
                Listener::Tcp(listener) => Socket::Tcp(TcpListener::from_std(listener)?),
                Listener::Unix(listener, _) => Socket::Unix(UnixListener::from_std(listener)?),
            };
            let task = tokio::spawn(accept.run(listener)).abort_handle();
            accepting.push((Arc::clone(socket), task));
        }
        Ok(())
    }
}

/// Runs as long as the worker's runtime runs tasks.
async fn beat(pulse: Arc<Pulse>) {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        pulse.beat(Instant::now());
    }
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

struct Accept {
    context: Arc<Context>,
    limit: Arc<ConnectionLimit>,
    hold: mpsc::Sender<()>,
    /// Where all requests are sent on to, on a listener that does nothing else.
    redirect_to: Option<Arc<str>>,
}

impl Accept {
    async fn run(self, socket: Socket) {
        let mut draining = self.context.draining.clone();
        let all = self.accept_all(&socket);
        tokio::select! {
            () = all => {}
            _ = draining.wait_for(|draining| *draining) => {}
        }
    }

    async fn accept_all(&self, socket: &Socket) {
        loop {
            let accepted = match socket {
                Socket::Tcp(listener) => match listener.accept().await {
                    Ok((stream, address)) => {
                        set_options(&stream);
                        self.begin(stream, PeerAddress::Ip(address.ip()), STEP).await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Socket::Unix(listener) => match listener.accept().await {
                    Ok((stream, _)) => {
                        let _ = SockRef::from(&stream).set_send_buffer_size(UNIX_BUFFER);
                        self.begin(stream, PeerAddress::Unix, STEP).await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "cannot accept a connection; if no file descriptor is left, raise `LimitNOFILE`");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    /// Begins to serve a connection once the limit allows it. Until then no other is accepted here: it waits in the kernel's
    /// bounded queue.
    async fn begin<I>(&self, stream: I, address: PeerAddress, step: u64)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let worker = self.context.worker.load_full();
        let is_announced = worker.gateway.trusted_proxies.announces(address);
        let (activity, exit) = (Arc::new(Activity::default()), Arc::new(Exit::default()));
        // A client that is announced is counted once it is known; until then its connection has a place like any other.
        let key = client_key(&worker, address);
        let Some(place) = self.limit.place(key, &activity, &exit).await else {
            say_share(address);
            return;
        };
        let begun = Begun {
            context: Arc::clone(&self.context),
            redirect_to: self.redirect_to.clone(),
            open: worker.desk.connection(),
            worker_hold: self.hold.clone(),
            activity,
            exit: Arc::clone(&exit),
            step,
            place,
        };
        let task = match is_announced {
            false => tokio::spawn(begun.serve(stream, address)),
            true => tokio::spawn(begun.serve_announced(stream, address)),
        };
        exit.leads_to(task.abort_handle());
    }
}

/// What the connections of a client are counted by; `None`: a trusted proxy.
fn client_key(worker: &WorkerContext, address: PeerAddress) -> Option<ClientKey> {
    let peer = worker.gateway.peer(address, false);
    (!peer.trusted).then(|| peer.ip.into())
}

fn say_share(client: PeerAddress) {
    tracing::debug!(%client, "connection refused: `max_connections` is reached and this client holds its share");
}

/// A connection that has its place under the limit.
struct Begun {
    context: Arc<Context>,
    redirect_to: Option<Arc<str>>,
    open: OpenConnection,
    worker_hold: mpsc::Sender<()>,
    activity: Arc<Activity>,
    exit: Arc<Exit>,
    step: u64,
    place: ConnectionSlot,
}

impl Begun {
    /// Serves it for a client at `address`.
    async fn serve<I>(self, stream: I, address: PeerAddress)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let accepted = Accepted {
            address,
            activity: self.activity,
            exit: self.exit,
            step: self.step,
            hold: Box::new((self.place, self.worker_hold, self.open)),
        };
        match self.redirect_to {
            None => connection::serve(self.context, stream, accepted).await,
            Some(url) => redirect::serve(self.context, stream, accepted, url).await,
        }
    }

    /// Serves it for the client that `proxy` announces first.
    async fn serve_announced<I>(mut self, mut stream: I, proxy: PeerAddress)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limit = self.context.limits.header_timeout;
        let read = tokio::select! {
            read = tokio::time::timeout(limit, proxy_header::read(&mut stream)) => read,
            () = connection::too_late_to_begin(&self.context) => return,
        };
        let announced = match read.unwrap_or(Err(HeaderFault::TimedOut)) {
            Ok(Some(announced)) => announced,
            Ok(None) => return,
            Err(fault) => {
                self.context.worker.load().desk.count_proxy_header_refused();
                return proxy_header::warn(proxy, fault);
            }
        };
        let address = proxy_header::origin(announced, proxy);
        let key = client_key(&self.context.worker.load(), address);
        if let Some(key) = key
            && !self.place.belongs_to(key, &self.activity, &self.exit)
        {
            return say_share(address);
        }
        self.serve(stream, address).await;
    }
}

/// A connection works without these options too, so failures are ignored.
fn set_options(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    let _ = socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(Duration::from_secs(15)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_stuck_after_five_seconds_without_a_beat_and_not_when_it_has_ended() {
        let pulse = Pulse::new();
        let after = |seconds: f64| pulse.epoch + Duration::from_secs_f64(seconds);
        assert!(!pulse.is_stuck(after(4.9)));
        assert!(pulse.is_stuck(after(5.0)));
        pulse.beat(after(60.0));
        assert!(!pulse.is_stuck(after(64.9)));
        assert!(pulse.is_stuck(after(65.1)));
        pulse.end();
        assert!(!pulse.is_stuck(after(1e6)));
    }
}
