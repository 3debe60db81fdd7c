//! What the parts that open sockets share: the HTTP client, TLS roots, writes that are coalesced, the PROXY protocol.

pub(crate) mod certificate;
pub(crate) mod client;
pub(crate) mod coalesce;
pub(crate) mod egress;
pub(crate) mod proxy_protocol;
pub(crate) mod server_clock;
pub(crate) mod tls_roots;
