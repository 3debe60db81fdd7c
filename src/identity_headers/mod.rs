//! What the app is told: the caller, and where the request came from.
//!
//! Input: the headers a client sent, and the caller that `verify` found. Output: headers in which every name that identifies
//! the caller was written here. Never here: a decision whether the request may pass.
//!
//! `gateway` calls, in this order: [`IdentityHeaders::strip`] (after the removal of hop-by-hop fields),
//! [`forwarded::set_forwarded`], [`IdentityHeaders::set`].

mod foreign;
pub(crate) mod forwarded;
mod headers;
mod presets;
mod proxies;
pub(crate) mod scheme;
mod value;

pub(crate) use forwarded::Peer;
pub use headers::{IdentityHeaders, Passing};
pub(crate) use proxies::{PeerAddress, TrustedProxies, client_network};
