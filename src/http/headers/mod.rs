//! What is done to header fields on the way through: spellings folded, hop-by-hop fields dropped, the host read.
//!
//! Enters: the `HeaderMap` of a message. Leaves: the same map without what must not pass, and what was in it that the
//! connection itself needs to know. What must never happen here: a field that an app could take for one of ours stays,
//! or a client's `Connection` deletes a field that says where a message ends or whom it is for.

mod folded;
mod hop_by_hop;
mod host;

pub use folded::{Entry, FoldedNames, FoldedTable, remove_if};
pub use hop_by_hop::{HopByHop, drop_hop_by_hop, has_padded_value, is_forbidden_trailer};
pub use host::{Host, request_host};
