//! Listeners, TLS, worker threads and shutdown: the only place that knows the runtime.

pub mod admin;
mod clock;
pub mod connection;
pub mod connection_limit;
pub mod context;
mod date;
pub mod frames;
pub mod framing;
mod http2;
pub mod listen;
mod meter;
mod redirect;
pub mod rewind;
pub mod tls;
pub mod worker;
