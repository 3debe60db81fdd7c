//! The head of a request, read once.
//!
//! Input: what the HTTP library parsed, and the connection that it came on. Output: a [`RequestHead`] whose host and
//! target have one meaning. Invariant: no later step reads host, target or the client's address from the fields again.

use std::borrow::Cow;
use std::net::IpAddr;

use http::Method;
use http::request::Parts;

use super::trace::Trace;
use crate::http::headers::Host;
use crate::http::target::Target;
use crate::identity_headers::forwarded::known_client_ip;
use crate::identity_headers::{Peer, TrustedProxies};
use crate::refusal::Refusal;

/// A request without its body.
#[derive(Debug)]
pub struct RequestHead<'c> {
    /// Method, version and fields, as the client sent them.
    pub parts: Parts,
    /// The host and port that the request is for.
    pub host: Host,
    /// The canonical target.
    pub target: Target,
    /// The other end of the connection.
    pub peer: Cow<'c, Peer>,
    /// The client's address, which a trusted proxy may have named.
    pub client_ip: IpAddr,
}

/// Where a request came from.
#[derive(Clone, Debug)]
pub struct Sender<'c> {
    /// The other end of the connection, under the trusted proxies of now.
    pub peer: Cow<'c, Peer>,
    /// The client's address, which a trusted proxy may have named.
    pub client_ip: IpAddr,
    /// The name that the client asked for in TLS.
    pub server_name: Option<&'c str>,
}

impl<'c> RequestHead<'c> {
    /// Reads `parts`. `host` is what [`request_host`](crate::http::headers::request_host) makes of them.
    ///
    /// # Errors
    /// 400 for a host or a target that has no single meaning, 405 for CONNECT and TRACE, 414, and 421 for a host that the
    /// TLS connection was not made for (RFC 9110 section 15.5.20).
    pub fn parse<T: Trace>(
        parts: Parts,
        host: Result<Host, Refusal>,
        sender: Sender<'c>,
        trace: &mut T,
    ) -> Result<Self, Refusal> {
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            trace.step("target", false, || format!("{} is never forwarded", parts.method));
            return Err(Refusal::MethodUnsupported);
        }
        let host = host.inspect_err(|refusal| {
            trace.step("target", false, || format!("the host is refused: {refusal}"));
        })?;
        if sender.server_name.is_some_and(|name| name != host.name()) {
            trace.step("target", false, || {
                let name = sender.server_name.unwrap_or_default();
                format!(
                    "the TLS connection was made for `{name}`, and the host is `{}`",
                    host.name()
                )
            });
            return Err(Refusal::Misdirected);
        }
        let target = Target::parse(&parts.uri).inspect_err(|refusal| {
            trace.step("target", false, || {
                format!("the path is refused on every route: {refusal}")
            });
        })?;
        trace.step("target", true, || format!("canonical path {}", target.path()));
        Ok(Self {
            parts,
            host,
            target,
            peer: sender.peer,
            client_ip: sender.client_ip,
        })
    }

    /// The client's address for rules on networks; `None`: it is not known.
    #[must_use]
    pub(super) fn known_client(&self, proxies: &TrustedProxies) -> Option<IpAddr> {
        known_client_ip(&self.parts.headers, &self.peer, proxies)
    }
}
