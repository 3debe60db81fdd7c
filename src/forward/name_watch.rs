//! Keeps the addresses of servers that have a name.
//!
//! Input: an [`Upstream`], and a resolver, which is asked at an interval and when a connection fails. Output: the addresses of
//! its servers. Runs on the control runtime.
//!
//! The resolver is `getaddrinfo`, so that a name means here what it means to every other program on the machine: `/etc/hosts`,
//! search domains, `nsswitch.conf`. It does not tell how long an answer may be kept (TTL). A resolver of our own would know
//! that, and would differ in all of the rest. Asking again every 30 seconds costs a look into the cache of the system's resolver,
//! which keeps to the TTL; a change is seen at most those 30 seconds later.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::server::Address;
use super::upstream::Upstream;

/// How often a name is asked for.
const INTERVAL: Duration = Duration::from_secs(30);
/// Lookups at once, for all names: a resolver that hangs must not take all threads of the control runtime for blocking work.
static LOOKUPS: Semaphore = Semaphore::const_new(4);

/// Keeps the addresses of all named servers of `upstream`, until `shutdown` is ready. For the control runtime, not for a
/// worker.
pub(crate) async fn watch_names(upstream: Arc<Upstream>, shutdown: impl Future<Output = ()>) {
    let system = |host: String, port: u16| async move {
        let _turn = LOOKUPS.acquire().await;
        // On a thread for blocking work. It cannot be cancelled, and so has no timeout: its turn must last as long as it does.
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    };
    watch_names_by(upstream, system, INTERVAL, shutdown).await;
}

/// The same by another resolver, which is asked at this interval, and at most 30 times as often where connections fail.
pub(super) async fn watch_names_by<F>(
    upstream: Arc<Upstream>,
    resolve: impl Fn(String, u16) -> F + Clone + Send + Sync + 'static,
    interval: Duration,
    shutdown: impl Future<Output = ()>,
) where
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    let mut watches = JoinSet::new();
    for index in 0..upstream.servers.len() {
        let (upstream, resolve) = (Arc::clone(&upstream), resolve.clone());
        watches.spawn(async move { watch_name(&upstream, index, resolve, interval).await });
    }
    // Dropping the set ends them.
    shutdown.await;
}

async fn watch_name<F>(
    upstream: &Upstream,
    index: usize,
    resolve: impl Fn(String, u16) -> F,
    interval: Duration,
) where
    F: Future<Output = io::Result<Vec<SocketAddr>>>,
{
    let server = &upstream.servers[index];
    let Address::Name { host, port } = &server.address else {
        return;
    };
    let (mut is_first, mut has_failed) = (true, false);
    loop {
        let answer = resolve(host.to_string(), *port).await;
        let error = answer.as_ref().err().map(ToString::to_string);
        let is_failed = error.is_some();
        let is_changed = server.addresses.take(answer);
        match error {
            Some(error) if !has_failed => tracing::warn!(
                upstream = %upstream.name, server = %server.label, %error,
                "the name of the server cannot be resolved; the last addresses stay in use"
            ),
            None if is_changed && !is_first => tracing::info!(
                upstream = %upstream.name, server = %server.label, "the name of the server has other addresses"
            ),
            _ => {}
        }
        (is_first, has_failed) = (false, is_failed);
        let soonest = Instant::now() + interval / 30;
        tokio::select! {
            () = sleep(interval) => {}
            () = server.addresses.wanted() => sleep_until(soonest).await,
        }
    }
}
