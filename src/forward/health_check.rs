//! Health checks: asks each server of an upstream at an interval and marks it as up or down.
//!
//! Input: an [`Upstream`] with a `health_check`. Output: the `down` flag of its servers. Runs on the control runtime. A check
//! connects as requests do (unix sockets, h2c, the upstream's own TLS), which the client in `net` cannot, so that it fails where
//! they would.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Version, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use super::connect::{Purpose, connect};
use super::server::{Protocol, Server};
use super::upstream::{HealthCheck, Upstream};

/// Failed checks in a row after which a server is down.
const FAILURES: u32 = 2;
/// The longest wait for the answer to a check.
const LONGEST_CHECK: Duration = Duration::from_secs(5);

/// Checks the health of all servers of `upstream` until `shutdown` is ready. Returns at once where no check is
/// configured. For the control runtime, not for a worker.
pub(crate) async fn watch_health(upstream: Arc<Upstream>, shutdown: impl Future<Output = ()>) {
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
    let mut ticks = tokio::time::interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0;
    loop {
        ticks.tick().await;
        match ask(upstream, server, check).await {
            Ok(()) => {
                let was_down = server.health.down.swap(false, Ordering::Relaxed);
                // After a failure only: requests may fail at a server whose check succeeds all the time.
                if std::mem::take(&mut failures) > 0 || was_down {
                    server.health.recheck(upstream.uptime.now());
                }
                if was_down {
                    tracing::info!(upstream = %upstream.name, server = %server.label, "health check: the server is up again");
                }
            }
            Err(reason) => {
                failures = FAILURES.min(failures + 1);
                if failures == FAILURES && !server.health.down.swap(true, Ordering::Relaxed) {
                    tracing::warn!(upstream = %upstream.name, server = %server.label, %reason, "health check: the server is down and gets no requests");
                }
            }
        }
    }
}

/// One check, by a connection of its own.
pub(super) async fn ask(upstream: &Upstream, server: &Server, check: &HealthCheck) -> Result<(), String> {
    let deadline = Instant::now() + check.interval.min(LONGEST_CHECK);
    let link = connect(server, Purpose::OWN, deadline)
        .await
        .map_err(|error| error.to_string())?;
    let host = upstream.host.as_ref().unwrap_or(&server.host);
    let request = Request::builder()
        .method(Method::GET)
        .header(header::USER_AGENT, "passgate-health-check")
        .header(header::ACCEPT, "*/*");
    let answer = async {
        match link.protocol(server.speaks) {
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
                let scheme = match server.tls {
                    Some(_) => "https",
                    None => "http",
                };
                let request = request
                    .version(Version::HTTP_2)
                    .uri(format!("{scheme}://{host}{}", check.path))
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
