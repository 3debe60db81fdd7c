//! URLs as the file writes them, in their parts (RFC 3986 section 3).
//!
//! Input: the text. Output: a borrowed [`Url`], or a hint for the writer.

use std::net::IpAddr;

/// A URL of the kinds that the file holds, in its parts (RFC 3986 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    /// In front of `://`, as typed.
    pub scheme: &'a str,
    /// Whether a user or password stands in front of the host.
    pub has_userinfo: bool,
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: &'a str,
    /// Where it is written.
    pub port: Option<u16>,
    /// Path, query and fragment, as typed.
    pub rest: &'a str,
}

impl Url<'_> {
    /// Whether the host is this machine, whatever a resolver says (RFC 6761 section 6.3).
    #[must_use]
    pub(crate) fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// A URL with an authority: `https://host:port/path`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn url(text: &str) -> Result<Url<'_>, String> {
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
    let (scheme, after) = text.split_once("://").ok_or("a URL is `scheme://host/path`")?;
    if scheme.is_empty()
        || !scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    {
        return Err("a URL begins with a scheme like `https://`".to_owned());
    }
    let (authority, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
    let (has_userinfo, authority) = authority
        .rsplit_once('@')
        .map_or((false, authority), |(_, authority)| (true, authority));
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, port) = inner
                .split_once(']')
                .ok_or("the `]` of an IPv6 address is missing")?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| "what stands in brackets is not an IPv6 address")?;
            (host, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    if !host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
    {
        return Err("the host holds a character that no host name has".to_owned());
    }
    let port = match port {
        "" => None,
        text => match text
            .strip_prefix(':')
            .and_then(|digits| digits.parse::<u16>().ok())
        {
            Some(port) if port > 0 => Some(port),
            _ => return Err("the port is a number from 1 to 65535".to_owned()),
        },
    };
    Ok(Url {
        scheme,
        has_userinfo,
        host,
        port,
        rest,
    })
}
