//! Listeners, TLS, worker threads and shutdown: the only place that knows the runtime.

pub mod framing;
pub mod idle;
pub mod listen;
pub mod rewind;
pub mod tls;
