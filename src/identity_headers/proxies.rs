//! `server.trusted_proxies`: the peers whose word on the client is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// By TCP.
    Ip(IpAddr),
    /// By a unix socket, which has no address.
    Unix,
    /// By a trusted proxy that announced the client with the PROXY protocol.
    Announced {
        /// The client's address; that of the proxy where the client's is not known.
        ip: IpAddr,
        /// Whether it is the client's.
        is_known: bool,
    },
}

impl PeerAddress {
    /// The address, an IPv4 one also where the socket is of IPv6; `127.0.0.1` for a unix socket.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        match self {
            Self::Ip(ip) | Self::Announced { ip, .. } => ip.to_canonical(),
            Self::Unix => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// Whether it is the address of a client, and not that of a proxy in place of it.
    #[must_use]
    pub fn is_known(self) -> bool {
        match self {
            Self::Ip(_) => true,
            Self::Unix => false,
            Self::Announced { is_known, .. } => is_known,
        }
    }

    /// Whether a trusted proxy announced the client.
    #[must_use]
    pub fn is_announced(self) -> bool {
        matches!(self, Self::Announced { .. })
    }

    /// Whether the peer of the socket is on this machine.
    #[must_use]
    pub fn is_this_machine(self) -> bool {
        !self.is_announced() && self.ip().is_loopback()
    }

    /// Whether the peer of the socket is on this machine or in a private network (RFC 1918, RFC 4193, link-local), where a
    /// reverse proxy of the operator's own may be.
    #[must_use]
    pub fn is_local(self) -> bool {
        if self.is_announced() {
            return false;
        }
        match self.ip() {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        }
    }
}

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(ip) | Self::Announced { ip, .. } => ip.to_canonical().fmt(f),
            Self::Unix => f.write_str("unix socket"),
        }
    }
}

impl From<IpAddr> for PeerAddress {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

/// The peers whose forwarding headers are believed, and the scheme of the site as browsers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    unix: bool,
    public_https: bool,
    proxy_protocol: bool,
}

impl TrustedProxies {
    /// The peers in `networks`, and those on unix sockets where `unix` says so or `networks` holds `127.0.0.1`.
    #[must_use]
    pub fn new(networks: Vec<IpNet>, unix: bool) -> Self {
        Self {
            networks,
            unix,
            public_https: false,
            proxy_protocol: false,
        }
    }

    /// The same where `public_url` is `https://`: the scheme of what comes from this machine without TLS and without a
    /// trusted proxy's word.
    #[must_use]
    pub fn with_public_https(self, public_https: bool) -> Self {
        Self { public_https, ..self }
    }

    /// The same where connections of these peers begin with a header of the PROXY protocol.
    #[must_use]
    pub fn with_proxy_protocol(self, proxy_protocol: bool) -> Self {
        Self {
            proxy_protocol,
            ..self
        }
    }

    /// Whether a connection of `peer`, the peer of a socket, begins with a header of the PROXY protocol. Of any other peer
    /// none is read.
    #[must_use]
    pub fn announces(&self, peer: PeerAddress) -> bool {
        self.proxy_protocol && self.trusts(peer)
    }

    /// Whether an address of `X-Forwarded-For` is one of a trusted proxy.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// Whether a peer is a trusted proxy. A client that was announced is one only by its own address: the proxy's word on it
    /// is what was announced, and the fields of its requests are the client's.
    #[must_use]
    pub fn trusts(&self, peer: PeerAddress) -> bool {
        if peer.is_announced() && !peer.is_known() {
            return false;
        }
        (self.unix && peer == PeerAddress::Unix) || self.contains(peer.ip())
    }

    /// Whether a client's scheme is https, as far as the connection of `peer` tells. A proxy on this machine that ends TLS
    /// and is not listed is as good as certain where `public_url` is `https://`.
    pub(super) fn is_https(&self, peer: PeerAddress, tls: bool) -> bool {
        let is_proxied = peer.is_this_machine() || peer.is_announced();
        tls || (self.public_https && is_proxied && !self.trusts(peer))
    }
}

/// What one customer of a network has, which limits count as one client: an IPv4 address, or the first 64 bits of an IPv6
/// address.
#[must_use]
pub(crate) fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}
