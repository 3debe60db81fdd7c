//! What an operator sees of the requests: ids, the access log, metrics.
//!
//! Enters: plain values about a request that is over. Leaves: one log line and some counts, written per worker so that
//! workers never wait for each other. Never here: a token, a cookie, a query string, or a wait on the request path.

pub mod access_log;
mod desk;
pub mod metrics;
pub mod request_id;

pub use access_log::{AccessLog, Decision, Entry, WorkerLog};
pub use desk::Desk;
pub use metrics::{Metrics, Observation, RouteLabel, WorkerMetrics};
pub use request_id::{RequestId, RequestIds};
