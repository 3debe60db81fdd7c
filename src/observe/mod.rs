//! What an operator sees: request ids, the access log, diagnostics, metrics.
//!
//! Input: plain values about a finished request. Output: one log line and some counts, written per worker so that workers
//! never wait for each other. Invariants: no token, cookie or query string, and no wait on the request path.

pub(crate) mod access_log;
mod decisions;
pub(crate) mod diagnostics;
mod file;
mod history;
pub(crate) mod metrics;
mod output;
pub(crate) mod request_id;
mod worker;

pub use access_log::AccessLog;
pub(crate) use access_log::{Decision, Entry, Form};
pub use decisions::Decisions;
pub(crate) use decisions::{Attempt, Attempts, Deciding, Finding, Remembered, RouteOrigin};
pub(crate) use diagnostics::{Diagnostics, LevelSwitch};
pub(crate) use file::open as open_file;
pub(crate) use history::{History, STEP, STEPS, Step};
pub use metrics::Metrics;
pub(crate) use metrics::{Durations, Observation, OpenConnection, RouteLabel};
pub(crate) use request_id::RequestId;
pub use worker::WorkerTelemetry;
