//! Header fields on the way through: spellings folded, hop-by-hop fields dropped, the host read.
//!
//! Input: the `HeaderMap` of a message. Output: the same map without what must not pass, and what the connection needs to
//! know of it. Invariants: no field stays that an app could take for one of the gateway's, and a client's `Connection` never
//! deletes a field that says where a message ends or whom it is for.

mod folded;
mod hop_by_hop;
mod host;
mod vary;

pub(crate) use folded::FoldedTable;
pub use folded::{Entry, FoldedNames, remove_if};
pub(crate) use hop_by_hop::{HopByHop, has_padded_value, is_hop_by_hop};
pub use hop_by_hop::{drop_hop_by_hop, is_forbidden_trailer};
pub use host::{Host, request_host};
pub(crate) use vary::add_vary;
