//! What the app is told: who is calling, and where the request came from.
//!
//! Enters: the headers a client sent, and the caller that `verify` found. Leaves: headers in which every name that says
//! who is calling was written here. Never here: a decision whether the request may pass.
//!
//! The walk calls, in this order: [`IdentityHeaders::strip`] (after hop-by-hop fields went), [`forwarded::set_forwarded`],
//! [`IdentityHeaders::set`].

mod foreign;
pub mod forwarded;
mod headers;
mod presets;
mod proxies;
pub mod scheme;
mod value;

pub use forwarded::Peer;
pub use headers::{IdentityHeaders, Passing};
pub use proxies::{PeerAddress, TrustedProxies, client_network};
