//! The worker threads: one context each, exchanged at a reload.
//!
//! Input: settings, listeners, the current configuration. Output: threads that serve, and a channel that reports the end
//! of each.

use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::Failure;
use super::build::Current;
use super::settings::Settings;
use crate::forward::Pool;
use crate::gateway::WorkerContext;
use crate::observe::WorkerTelemetry;
use crate::server::connection_limit::ConnectionLimit;
use crate::server::context::Context;
use crate::server::worker::{OpenSocket, Pulse, Worker};
use crate::verify::LocalCache;

/// One worker as the rest of the process sees it.
pub(super) struct WorkerHandle {
    context: Arc<ArcSwap<WorkerContext>>,
    /// For bearer tokens, and for session cookies.
    pub(super) caches: [Arc<Mutex<LocalCache>>; 2],
    telemetry: Arc<WorkerTelemetry>,
    pub(super) pulse: Arc<Pulse>,
}

impl WorkerHandle {
    pub(super) fn new(current: &Current, telemetry: WorkerTelemetry) -> Self {
        let caches = [(); 2].map(|()| Arc::new(Mutex::new(LocalCache::new())));
        let telemetry = Arc::new(telemetry);
        Self {
            context: Arc::new(ArcSwap::new(context(
                current,
                Pool::new(current.share),
                &caches,
                &telemetry,
            ))),
            caches,
            telemetry,
            pulse: Arc::default(),
        }
    }

    /// Serves with `current` from the next request on. The caches stay: their entries name the generation of the keys.
    /// Connections to upstreams that are those of before stay as well.
    pub(super) fn replace(&self, current: &Current) {
        let pool = self.context.load().pool.of(&current.upstreams, current.share);
        self.context
            .store(context(current, pool, &self.caches, &self.telemetry));
    }
}

fn context(
    current: &Current,
    pool: Pool,
    [cache, session_cache]: &[Arc<Mutex<LocalCache>>; 2],
    telemetry: &Arc<WorkerTelemetry>,
) -> Arc<WorkerContext> {
    Arc::new(WorkerContext {
        gateway: Arc::clone(&current.gateway),
        pool,
        cache: Arc::clone(cache),
        session_cache: Arc::clone(session_cache),
        desk: Arc::clone(telemetry),
    })
}

/// Starts one thread per worker. The receiver gets the result of each that ends, and closes when all have ended.
pub(super) fn start_workers(
    settings: &Settings,
    handles: &[WorkerHandle],
    sockets: &watch::Sender<Vec<Arc<OpenSocket>>>,
    draining: &watch::Sender<bool>,
) -> Result<mpsc::Receiver<anyhow::Result<()>>, Failure> {
    let (finished, workers) = mpsc::channel(handles.len().max(1));
    let limit = ConnectionLimit::new(settings.max_connections, settings.max_connections_per_client);
    let tls = settings
        .tls
        .as_ref()
        .map(crate::server::tls::Certificates::server_config);
    for (index, handle) in handles.iter().enumerate() {
        let worker = Worker {
            pulse: Arc::clone(&handle.pulse),
            sockets: sockets.subscribe(),
            context: Arc::new(Context {
                worker: Arc::clone(&handle.context),
                tls: tls.clone(),
                limits: settings.limits.clone(),
                draining: draining.subscribe(),
            }),
            public_url: settings.public_url.as_str().into(),
            limit: Arc::clone(&limit),
            drain_timeout: settings.drain_timeout,
        };
        let finished = finished.clone();
        std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let ended = worker.run().map_err(anyhow::Error::from);
                // The channel has room for each; it is closed only after a second signal to end.
                let _ = finished.try_send(ended);
            })
            .context("cannot start a worker thread")?;
    }
    Ok(workers)
}
