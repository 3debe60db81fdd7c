//! Listeners, TLS, worker threads and shutdown: the only place that knows the runtime.

pub mod framing;
pub mod listen;
pub mod tls;
