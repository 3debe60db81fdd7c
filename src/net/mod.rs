//! What the parts that open sockets share: TLS roots, writes that are coalesced.

pub mod coalesce;
pub mod tls_roots;
