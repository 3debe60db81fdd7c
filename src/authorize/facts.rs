//! What rules read of a request beside its caller.

use std::net::IpAddr;

use crate::clock::UnixSeconds;

/// What rules read of a request beside its caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestFacts<'r> {
    /// The client's address; `None`: it is not known, so that no network lets the request in.
    pub client: Option<IpAddr>,
    /// The time.
    pub now: UnixSeconds,
    /// The method.
    pub method: &'r str,
    /// The host that was asked for, without a port.
    pub host: &'r str,
    /// The path, as routes are matched with it.
    pub path: &'r str,
}
