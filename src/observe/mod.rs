//! What an operator sees: request ids, the access log, diagnostics, metrics.
//!
//! Input: plain values about a finished request. Output: one log line and some counts, written per worker so that workers
//! never wait for each other. Invariants: no token, cookie or query string, and no wait on the request path.

pub mod access_log;
pub mod diagnostics;
mod file;
pub mod metrics;
mod output;
pub mod request_id;
mod worker;

pub use access_log::{AccessLog, Decision, Entry, Form, WorkerLog};
pub use diagnostics::{Diagnostics, LevelSwitch};
pub use file::open as open_file;
pub use metrics::{Metrics, Observation, RouteLabel, WorkerMetrics};
pub use request_id::{RequestId, RequestIds};
pub use worker::WorkerTelemetry;
