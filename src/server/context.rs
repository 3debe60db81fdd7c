//! What the connections of a worker have in common: the worker's context, TLS, and limits.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::gateway::WorkerContext;
use crate::http::pace::PaceRules;

/// The connection preface of HTTP/2 (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a client may keep the connection open without a request after GOAWAY.
pub(super) const GOAWAY_TIMEOUT: Duration = Duration::from_secs(2);
/// What connections are held to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request head.
    pub max_header_bytes: usize,
    /// To a complete request head, and to a finished TLS handshake.
    pub header_timeout: Duration,
    /// On a connection without a request, and on a client that takes nothing of an answer.
    pub idle_timeout: Duration,
    /// Bytes a second, measured over [`PERIOD`](crate::http::pace::PERIOD), at which a client must take an answer; 0 for any.
    pub min_rate: u64,
}

impl Limits {
    /// What a client is held to whose bytes are seen to go in steps of `step`.
    pub(super) fn pace(&self, step: u64) -> PaceRules {
        PaceRules {
            idle_timeout: self.idle_timeout,
            min_rate: self.min_rate,
            step,
        }
    }
}

/// What a connection needs to know of its worker.
#[derive(Debug)]
pub struct Context {
    /// The context of the worker, replaced by a reload.
    pub worker: Arc<ArcSwap<WorkerContext>>,
    /// TLS, where it is switched on.
    pub tls: Option<Arc<ServerConfig>>,
    /// Limits.
    pub limits: Limits,
    /// `true` from the moment at which the gateway wants to end.
    pub draining: watch::Receiver<bool>,
}
