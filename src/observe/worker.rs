//! Per-worker request ids, access log and metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::access_log::{Entry, WorkerLog};
use super::decisions::{Remembered, WorkerDecisions};
use super::metrics::{Observation, OpenConnection, WorkerMetrics};
use super::request_id::{RequestId, RequestIds};

/// Writes the log lines and counts of one worker.
#[derive(Debug)]
pub struct WorkerTelemetry {
    ids: Mutex<RequestIds>,
    log: Arc<WorkerLog>,
    metrics: Arc<WorkerMetrics>,
    decisions: Arc<WorkerDecisions>,
}

impl WorkerTelemetry {
    /// The telemetry of one worker.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(
        log: Arc<WorkerLog>,
        metrics: Arc<WorkerMetrics>,
        decisions: Arc<WorkerDecisions>,
    ) -> Result<Self, getrandom::Error> {
        Ok(Self {
            ids: Mutex::new(RequestIds::new()?),
            log,
            metrics,
            decisions,
        })
    }

    /// A request has come: the time in milliseconds since 1970, and its id.
    #[must_use]
    pub fn open(&self) -> (u64, RequestId) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        (
            now,
            self.ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next_id(now),
        )
    }

    /// A request is over: its line and its counts.
    pub fn close(&self, entry: &Entry<'_>, observation: &Observation<'_>) {
        self.log.write(entry);
        self.metrics.record(observation);
    }

    /// Keeps the decision about a request that is over.
    pub(crate) fn remember(&self, decision: Remembered) {
        self.decisions.remember(decision);
    }

    /// A client has connected; the connection is open for as long as what is returned lives.
    #[must_use]
    pub fn connection(&self) -> OpenConnection {
        self.metrics.open_connection()
    }

    /// A connection of a trusted proxy was closed because it did not begin with a right header of the PROXY protocol.
    pub fn count_proxy_header_refused(&self) {
        self.metrics.count_proxy_header_refused();
    }
}
