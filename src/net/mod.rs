//! What the parts that open sockets share: the HTTP client, TLS roots, writes that are coalesced.

pub mod client;
pub mod coalesce;
pub mod egress;
pub mod tls_roots;
