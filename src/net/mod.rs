//! What the parts that open sockets share: URLs, TLS roots, writes that are coalesced.
