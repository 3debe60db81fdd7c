//! Listeners, TLS, worker threads and shutdown: the only place that knows the runtime.

pub mod admin;
pub mod connection;
pub mod framing;
pub mod listen;
pub mod rewind;
pub mod tls;
pub mod worker;
