//! What the parts that open sockets share: TLS roots, writes that are coalesced.

pub(crate) mod coalesce;
pub(crate) mod tls_roots;
