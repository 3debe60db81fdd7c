//! What an operator sees: request ids, the access log, diagnostics, metrics.
//!
//! Input: plain values about a finished request. Output: one log line and some counts, written per worker so that workers
//! never wait for each other. Invariants: no token, cookie or query string, and no wait on the request path.

pub(crate) mod access_log;
pub(crate) mod diagnostics;
mod file;
pub(crate) mod metrics;
mod output;
pub(crate) mod request_id;
mod worker;

pub use access_log::AccessLog;
pub(crate) use access_log::{Decision, Entry, Form};
pub(crate) use diagnostics::{Diagnostics, LevelSwitch};
pub(crate) use file::open as open_file;
pub use metrics::Metrics;
pub(crate) use metrics::{Observation, OpenConnection, RouteLabel};
pub(crate) use request_id::RequestId;
pub use worker::WorkerTelemetry;
