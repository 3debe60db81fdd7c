//! Which servers of an upstream take requests.
//!
//! Two sources: health checks, where they are configured, and connections that could not be made. Both live in atomics
//! that all workers share. A server that only failed to be connected to is left out for a short while and never when it
//! is all there is; one that its health check calls down gets nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Version, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use super::connect::{Addresses, ConnectError, connect};
use super::upstream::{HealthCheck, Protocol, Server, Upstream};

/// How long a server that has sent bytes that no request asked for gets a connection of its own for each request.
const NO_REUSE: Duration = Duration::from_secs(60 * 60);
/// How long a server is left out after it could not be connected to.
const LEFT_OUT: Duration = Duration::from_secs(5);
/// Failed checks in a row after which a server is down.
const FAILURES: u32 = 2;
/// The longest wait for the answer to a check.
const LONGEST_CHECK: Duration = Duration::from_secs(5);

/// What is known of one server. All zero: it takes requests.
#[derive(Debug, Default)]
pub(super) struct Health {
    down: AtomicBool,
    /// Milliseconds from the upstream's epoch until which it is left out.
    left_out_until: AtomicU64,
    /// Milliseconds from the upstream's epoch until which no connection to it is used again.
    no_reuse_until: AtomicU64,
}

impl Upstream {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The server for the next request, round robin from `turn`: not one of `tried`, and left-out ones only where there
    /// is no other. `None`: there is none.
    pub(super) fn choose(&self, turn: &AtomicUsize, tried: &[usize]) -> Option<usize> {
        let count = self.servers.len();
        let start = if count > 1 {
            turn.fetch_add(1, Ordering::Relaxed)
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
        let until = self.servers[server].health.no_reuse_until.load(Ordering::Relaxed);
        // The clock is read only where something was seen.
        until == 0 || until <= self.now()
    }

    /// `server` has sent bytes that no request asked for. Bytes that come a moment later would be taken for the answer to
    /// somebody else's request, so that from now on no connection to it carries a second one.
    pub(super) fn spoke_unasked(&self, server: usize) {
        let server = &self.servers[server];
        let now = self.now();
        let until = now.saturating_add(u64::try_from(NO_REUSE.as_millis()).unwrap_or(u64::MAX));
        let before = server.health.no_reuse_until.swap(until, Ordering::Relaxed);
        if before <= now {
            tracing::warn!(
                upstream = %self.name, server = %server.label,
                "the app sent bytes that no request asked for; for an hour each request gets a connection of its own. \
                 hint: find the answer that has a body with HEAD, 204 or 304, or more bytes than its Content-Length"
            );
        }
    }

    /// Takes over from the configuration before which servers have sent bytes unasked: a reload changes no app.
    pub fn remember(&self, before: &[Arc<Self>]) {
        for server in &self.servers {
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

    /// Whether any server takes requests, for readiness.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.builtin.is_some()
            || self
                .servers
                .iter()
                .any(|server| !server.health.down.load(Ordering::Relaxed))
    }
}

/// Checks the health of all servers of `upstream` until `shutdown` is ready. Returns at once where no check is
/// configured. For the control runtime, not for a worker.
pub async fn watch_health(upstream: Arc<Upstream>, shutdown: impl Future<Output = ()>) {
    if upstream.health_check.is_none() {
        return;
    }
    let mut watches = JoinSet::new();
    for index in 0..upstream.servers.len() {
        let upstream = upstream.clone();
        watches.spawn(async move { watch(&upstream, index).await });
    }
    // Dropping the set ends them.
    shutdown.await;
}

async fn watch(upstream: &Upstream, index: usize) {
    let (Some(check), server) = (&upstream.health_check, &upstream.servers[index]) else {
        return;
    };
    let addresses = Addresses::default();
    let mut ticks = tokio::time::interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0;
    loop {
        ticks.tick().await;
        match ask(upstream, server, check, &addresses).await {
            Ok(()) => {
                failures = 0;
                if server.health.down.swap(false, Ordering::Relaxed) {
                    tracing::info!(upstream = %upstream.name, server = %server.label, "health check: up again");
                }
            }
            Err(reason) => {
                failures = FAILURES.min(failures + 1);
                if failures == FAILURES && !server.health.down.swap(true, Ordering::Relaxed) {
                    tracing::warn!(upstream = %upstream.name, server = %server.label, %reason, "health check: down");
                }
            }
        }
    }
}

async fn ask(
    upstream: &Upstream,
    server: &Server,
    check: &HealthCheck,
    addresses: &Addresses,
) -> Result<(), String> {
    let deadline = Instant::now() + check.interval.min(LONGEST_CHECK);
    let link = connect(server, addresses, deadline)
        .await
        .map_err(|error| error.to_string())?;
    let host = upstream.host.as_ref().unwrap_or(&server.host);
    let request = Request::builder()
        .method(Method::GET)
        .header(header::USER_AGENT, "passgate-health-check")
        .header(header::ACCEPT, "*/*");
    let answer = async {
        match server.protocol {
            Protocol::Http1 => {
                let (mut send, connection) = http1::handshake(TokioIo::new(link)).await?;
                let request = request
                    .uri(check.path.as_str())
                    .header(header::HOST, host)
                    .header(header::CONNECTION, "close")
                    .body(Empty::<Bytes>::new())
                    .expect("the path and the host were checked when the file was read");
                run(send.send_request(request), connection).await
            }
            Protocol::Http2 => {
                let (mut send, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(link)).await?;
                let host = host.to_str().unwrap_or("localhost");
                let request = request
                    .version(Version::HTTP_2)
                    .uri(format!("http://{host}{}", check.path))
                    .body(Empty::<Bytes>::new())
                    .expect("the path and the host were checked when the file was read");
                run(send.send_request(request), connection).await
            }
        }
    };
    match timeout_at(deadline, answer).await {
        Ok(Ok(status)) if status.is_success() || status.is_redirection() => Ok(()),
        Ok(Ok(status)) => Err(format!("answered {status}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err("no answer in time".to_owned()),
    }
}

/// The status of the answer; the connection ends with it.
async fn run(
    answer: impl Future<Output = hyper::Result<http::Response<hyper::body::Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> hyper::Result<http::StatusCode> {
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => answer.map(|answer| answer.status()),
        // An error of the connection reaches the answer as well.
        _ = &mut connection => answer.await.map(|answer| answer.status()),
    }
}
