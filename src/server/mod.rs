//! Listeners, TLS, worker threads and shutdown: the only place that knows the runtime.

pub(crate) mod admin;
mod clock;
pub(crate) mod connection;
pub(crate) mod connection_limit;
pub(crate) mod context;
mod date;
pub(crate) mod frames;
pub(crate) mod framing;
mod http2;
pub(crate) mod listen;
mod meter;
pub(crate) mod private_socket;
mod proxy_header;
mod redirect;
pub(crate) mod rewind;
pub(crate) mod tls;
pub(crate) mod worker;
