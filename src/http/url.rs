//! A URL in its parts (RFC 3986 section 3): of a server, an issuer, a proxy, the site itself.
//!
//! Input: a text. Output: a [`Url`] whose parts are checked, or a hint for the writer. Invariants: another reader of the same
//! text finds the same host in it; `Debug` and `Display` are the text, which may hold a user.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::str::FromStr;

use http::Uri;

/// The longest URL, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// A URL with an authority: `https://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: Box<str>,
    scheme: usize,
    /// Without the brackets of an IPv6 address.
    host: Range<usize>,
    port: Option<u16>,
    /// Where path, query and fragment begin.
    rest: usize,
}

/// Scheme, authority and the rest of `scheme://authority/rest`, as typed and unchecked; `None` where there is no `://`.
#[must_use]
pub(crate) fn split(text: &str) -> Option<(&str, &str, &str)> {
    let (scheme, after) = text
        .split_once("://")
        .filter(|(scheme, _)| !scheme.contains(['/', '?', '#']))?;
    let (authority, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
    Some((scheme, authority, rest))
}

/// A number of digits alone: `str::parse` takes a `+` in front as well.
fn digits(text: &str) -> Option<u16> {
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether browsers and resolvers read a host as an IPv4 address, in forms of their own as well: `127.1`, `0x7f000001`
/// (WHATWG URL section 3.5).
fn ends_in_number(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_hexadecimal = || {
        let digits = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) || is_hexadecimal()
}

/// Whether a host, with or without brackets, is this machine, whatever a resolver says (RFC 6761 section 6.3).
#[must_use]
pub(crate) fn is_loopback(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(char) = text
            .chars()
            .find(|char| !char.is_ascii_graphic() || "\\\"<>^`{|}".contains(*char))
        {
            return Err(match char {
                // Names in other scripts have a form in ASCII (RFC 5891 section 4.4).
                letter if letter.is_alphanumeric() => {
                    format!(
                        "a URL cannot hold `{letter}`: a host is written as DNS has it, like `xn--bcher-kva.example`"
                    )
                }
                ' ' => "a URL cannot hold a space".to_owned(),
                sign => format!("a URL cannot hold `{}`", sign.escape_default()),
            });
        }
        if text.len() > MAX_BYTES {
            return Err(format!("a URL has {MAX_BYTES} bytes at most"));
        }
        let (scheme, authority, rest) = split(text).ok_or("a URL is `scheme://host/path`")?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return Err("a URL begins with a scheme like `https://`".to_owned());
        }
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        let (host, port) = match place.strip_prefix('[') {
            Some(inner) => {
                let (host, port) = inner
                    .split_once(']')
                    .ok_or("the `]` of an IPv6 address is missing")?;
                host.parse::<Ipv6Addr>()
                    .map_err(|_| "what stands in brackets is not an IPv6 address")?;
                (host, port)
            }
            None => {
                let (host, port) = place.split_at(place.find(':').unwrap_or(place.len()));
                if ends_in_number(host) && host.parse::<Ipv4Addr>().is_err() {
                    return Err(
                        "a host that ends in a number is an IPv4 address, like `192.0.2.1`".to_owned(),
                    );
                }
                (host, port)
            }
        };
        if host.is_empty() {
            return Err("the host is missing".to_owned());
        }
        let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if !host.bytes().all(is_of_host) {
            return Err("the host holds a character that no host name has".to_owned());
        }
        let rest = text.len() - rest.len();
        let end = rest - port.len() - usize::from(place.starts_with('['));
        let port = match port {
            "" => None,
            text => match text.strip_prefix(':').map(digits) {
                Some(Some(port)) if port > 0 => Some(port),
                _ => return Err("the port is a number from 1 to 65535".to_owned()),
            },
        };
        Ok(Self {
            text: text.into(),
            scheme: scheme.len(),
            host: end - host.len()..end,
            port,
            rest,
        })
    }
}

impl Url {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// In front of `://`, as typed.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.text[..self.scheme]
    }

    /// What stands in front of `@`: a user, and a password after `:`.
    #[must_use]
    pub fn userinfo(&self) -> Option<&str> {
        let authority = &self.text[self.scheme + "://".len()..self.rest];
        authority.rsplit_once('@').map(|(userinfo, _)| userinfo)
    }

    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.text[self.host.clone()]
    }

    /// The port, where it is written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port, or that of `https` for this scheme and of `http` for any other.
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(if self.is_tls() { 443 } else { 80 })
    }

    /// Host and port as they are written, with the brackets of an IPv6 address, without a user.
    #[must_use]
    pub fn authority(&self) -> &str {
        let is_bracketed = self.text[..self.host.start].ends_with('[');
        &self.text[self.host.start - usize::from(is_bracketed)..self.rest]
    }

    /// The same with the port, also where it is not written.
    #[must_use]
    pub fn host_and_port(&self) -> String {
        match self.port {
            Some(_) => self.authority().to_owned(),
            None => format!("{}:{}", self.authority(), self.port_or_default()),
        }
    }

    /// Path, query and fragment, as typed.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.text[self.rest..]
    }

    /// As a request line has it: no fragment, and `/` for no path.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        let bare = self.rest().split('#').next().unwrap_or_default();
        let slash = if bare.starts_with('/') { "" } else { "/" };
        format!("{slash}{bare}")
    }

    /// Whether the scheme is `https`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.scheme().eq_ignore_ascii_case("https")
    }

    /// Whether the host is this machine, whatever a resolver says (RFC 6761 section 6.3).
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }

    /// Whether a secret may go there: no attacker on the network path can read it.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.is_tls() || self.is_loopback()
    }

    /// Whether both name the same server.
    #[must_use]
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.scheme().eq_ignore_ascii_case(other.scheme())
            && self.port_or_default() == other.port_or_default()
            && self.host().eq_ignore_ascii_case(other.host())
    }

    /// For the HTTP crates, without user and fragment: an `https` URI, or an `http` one for any other scheme.
    #[must_use]
    pub fn to_uri(&self) -> Uri {
        Uri::builder()
            .scheme(if self.is_tls() { "https" } else { "http" })
            .authority(self.authority())
            .path_and_query(self.path_and_query())
            .build()
            .expect("its characters and its length were checked")
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_port_has_digits_alone() {
        assert_eq!(
            "https://example.com:8443/x".parse::<Url>().unwrap().port(),
            Some(8443)
        );
        for wrong in [":+1", ":-1", ":0", ":", ":65536", ":1a", ":１"] {
            let wrong = format!("https://example.com{wrong}/x");
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_that_ends_in_a_number_is_an_ipv4_address() {
        for good in [
            "https://192.0.2.1",
            "https://192.0.2.1:8443/x",
            "https://4.example",
            "https://0x7f.example",
            "https://example.x0",
            "https://[::1]",
        ] {
            assert!(good.parse::<Url>().is_ok(), "{good}");
        }
        for wrong in [
            "https://127.1",
            "https://2130706433",
            "https://0x7f000001",
            "https://0X7F.1",
            "https://example.0x",
            "https://0177.0.0.1",
            "https://192.0.2.1.",
            "https://192.0.2.256",
            "https://1.192.0.2.1",
            "https://example.1:443/x",
        ] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }
}
