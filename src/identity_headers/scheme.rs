//! Which scheme a client sees in its address bar, as far as that can be known.

use http::HeaderMap;
use http::header::HeaderName;

use super::Peer;

static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The scheme of a request as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTPS, to the gateway or to a proxy in front.
    Https,
    /// A proxy may have ended TLS, and did not say so in a way that is believed.
    Unknown,
}

impl Scheme {
    /// The scheme of a request from `peer`. `is_public_https`: whether `server.public_url` is `https://`.
    ///
    /// A peer on this machine that is not listed is taken for the proxy that `public_url` speaks of.
    #[must_use]
    pub fn of(headers: &HeaderMap, peer: &Peer, is_public_https: bool) -> Self {
        if peer.https {
            return Self::Https;
        }
        if peer.trusted {
            // The first one is that of the client.
            let proto = headers
                .get(&X_FORWARDED_PROTO)
                .and_then(|proto| proto.to_str().ok())
                .unwrap_or_default();
            return match proto.split(',').next().unwrap_or_default().trim() {
                proto if proto.eq_ignore_ascii_case("https") => Self::Https,
                proto if proto.eq_ignore_ascii_case("http") => Self::Http,
                _ => Self::Unknown,
            };
        }
        if peer.ip.is_loopback() {
            return if is_public_https { Self::Https } else { Self::Http };
        }
        // Browsers send `Sec-Fetch-*` to what they hold for secure only (Fetch Metadata section 2), so over plain HTTP to
        // another machine never. A client that forges the field gets a form that its own browser cannot use.
        let is_of_proxy = |name: &str| name == "forwarded" || name.starts_with("x-forwarded-");
        if headers.contains_key("sec-fetch-mode") || headers.keys().any(|name| is_of_proxy(name.as_str())) {
            return Self::Unknown;
        }
        Self::Http
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use Scheme::{Http, Https, Unknown};

    #[test]
    fn the_scheme_is_what_the_connection_or_a_trusted_proxy_says() {
        let proxies =
            crate::identity_headers::TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()], false);
        for (address, tls, fields, public_https, public_http) in [
            ("192.0.2.1", true, &[][..], Https, Https),
            ("192.0.2.1", false, &[], Http, Http),
            (
                "192.0.2.1",
                false,
                &[("x-forwarded-proto", "https")],
                Unknown,
                Unknown,
            ),
            (
                "192.0.2.1",
                false,
                &[("x-forwarded-for", "192.0.2.9")],
                Unknown,
                Unknown,
            ),
            (
                "192.0.2.1",
                false,
                &[("forwarded", "proto=https")],
                Unknown,
                Unknown,
            ),
            (
                "192.0.2.1",
                false,
                &[("sec-fetch-mode", "navigate")],
                Unknown,
                Unknown,
            ),
            ("192.0.2.1", false, &[("x-request-id", "1")], Http, Http),
            ("10.0.0.1", false, &[("x-forwarded-proto", "https")], Https, Https),
            (
                "10.0.0.1",
                false,
                &[("x-forwarded-proto", "HTTPS, http")],
                Https,
                Https,
            ),
            (
                "10.0.0.1",
                false,
                &[("x-forwarded-proto", "http, https")],
                Http,
                Http,
            ),
            (
                "10.0.0.1",
                false,
                &[("x-forwarded-proto", "http"), ("sec-fetch-mode", "navigate")],
                Http,
                Http,
            ),
            (
                "10.0.0.1",
                false,
                &[("x-forwarded-proto", "gopher")],
                Unknown,
                Unknown,
            ),
            ("10.0.0.1", false, &[], Unknown, Unknown),
            ("127.0.0.1", false, &[], Https, Http),
            ("::1", false, &[("x-forwarded-proto", "http")], Https, Http),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            let peer = Peer::new(address.parse::<std::net::IpAddr>().unwrap(), tls, &proxies);
            assert_eq!(
                Scheme::of(&headers, &peer, true),
                public_https,
                "{address} {fields:?}"
            );
            assert_eq!(
                Scheme::of(&headers, &peer, false),
                public_http,
                "{address} {fields:?}"
            );
        }
    }
}
