//! Addresses in the fields of an app's response, as the client has to see them.
//!
//! Input: the value of a field that names a place (`Location`, `Content-Location`, `Refresh`, the `Path` of a cookie), and
//! the difference between the paths of the app and the public ones. Output: the value with the public path, or `None` if the
//! value stays as it is. Invariant: no result contains anything that the client sent, or can be read as the address of
//! another host.

use std::borrow::Cow;
use std::net::IpAddr;

/// A host, and a port where it is not that of the scheme: what an absolute address in an answer is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    host: Box<str>,
    port: Option<u16>,
    ports: Ports,
}

/// Which ports an [`Origin`] without one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    /// That of its own scheme.
    Exactly(u16),
    /// That of the scheme of the address that it is compared with: the app may not know which one the client uses.
    OfAnyScheme,
}

impl Origin {
    /// The address of a server: `host:port` must be equal. `default_port` is that of the scheme.
    #[must_use]
    pub fn server(authority: &str, default_port: u16) -> Option<Self> {
        let (host, port) = split(authority)?;
        Some(Self {
            host: host.into(),
            port,
            ports: Ports::Exactly(default_port),
        })
    }

    /// A public name, `app.example.com` or `app.example.com:8443`, which may be had by either scheme.
    #[must_use]
    pub fn public(authority: &str) -> Option<Self> {
        let (host, port) = split(authority)?;
        Some(Self {
            host: host.into(),
            port: port.filter(|port| ![80, 443].contains(port)),
            ports: Ports::OfAnyScheme,
        })
    }

    fn is(&self, host: &str, port: Option<u16>, scheme_port: Option<u16>) -> bool {
        host == &*self.host
            && match self.ports {
                Ports::Exactly(default) => {
                    port.or(scheme_port).unwrap_or(default) == self.port.unwrap_or(default)
                }
                Ports::OfAnyScheme => match scheme_port {
                    Some(scheme_port) => port.filter(|port| *port != scheme_port) == self.port,
                    None => port == self.port,
                },
            }
    }
}

/// What lies between the app's paths and the public ones of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicPaths<'a> {
    /// What was cut off the public path: `/api`, empty for nothing.
    pub prefix: &'a str,
    /// What was put in front of it instead, the base path of the upstream's servers: `/base`, empty for nothing.
    pub base: &'a str,
    /// The upstream's servers.
    pub servers: &'a [Origin],
    /// The names under which the client knows the app.
    pub public: &'a [Origin],
}

impl PublicPaths<'_> {
    /// `Location` and `Content-Location` (RFC 9110 sections 10.2.2 and 8.7).
    ///
    /// An absolute path is the app's. So is that of an absolute address which names one of its servers, or, where paths
    /// differ at all, a public name of it. Everything else stays: other hosts, and addresses relative to the request's.
    #[must_use]
    pub(crate) fn location(&self, value: &str) -> Option<String> {
        let (path, is_absolute) = self.own_path(value)?;
        let end = path.find(['?', '#']).unwrap_or(path.len());
        let (path, rest) = path.split_at(end);
        let path = if path.is_empty() { "/" } else { path };
        let public = match self.path(path) {
            Some(public) => public,
            // The host is not one for the client, whatever the path is.
            None if is_absolute => Cow::Borrowed(path),
            None => return None,
        };
        let location = [&*public, rest].concat();
        // Clients drop tabs inside an address, and take a backslash for a slash: what follows one slash must be neither
        // of the two that would make it the start of a host (RFC 3986 section 4.2).
        let is_one_path = location.starts_with('/') && !location[1..].starts_with(['/', '\\']);
        (is_one_path && location != value).then_some(location)
    }

    /// `Refresh`: seconds, and where to go then, as browsers read it.
    #[must_use]
    pub(crate) fn refresh(&self, value: &str) -> Option<String> {
        let separator = value.find([';', ','])?;
        let mut start = value.len() - value[separator + 1..].trim_start().len();
        if value[start..]
            .get(..3)
            .is_some_and(|word| word.eq_ignore_ascii_case("url"))
            && let Some(rest) = value[start + 3..].trim_start().strip_prefix('=')
        {
            start = value.len() - rest.trim_start().len();
        }
        let mut end = value.len();
        if let Some(quote) = value[start..]
            .chars()
            .next()
            .filter(|first| matches!(first, '"' | '\''))
        {
            start += 1;
            end = value[start..]
                .find(quote)
                .map_or(value.len(), |length| start + length);
        }
        let location = self.location(value[start..end].trim_end())?;
        Some([&value[..start], &location, &value[end..]].concat())
    }

    /// `Set-Cookie`: its `Path` (RFC 6265 section 5.2.4). A cookie `__Host-…` has no other than `/`.
    #[must_use]
    pub(crate) fn set_cookie(&self, value: &str) -> Option<String> {
        let mut attributes = value.split(';');
        let pair = attributes.next()?;
        let name = pair.trim_start();
        if name
            .get(..7)
            .is_some_and(|start| start.eq_ignore_ascii_case("__Host-"))
        {
            return None;
        }
        let mut cookie = pair.to_owned();
        let mut is_changed = false;
        for attribute in attributes {
            cookie.push(';');
            let public = attribute
                .split_once('=')
                .filter(|(name, _)| name.trim().eq_ignore_ascii_case("path"))
                .and_then(|(name, path)| Some((name, self.cookie_path(path.trim())?)));
            match public {
                Some((name, path)) => {
                    is_changed = true;
                    cookie.push_str(name);
                    cookie.push('=');
                    cookie.push_str(&path);
                }
                None => cookie.push_str(attribute),
            }
        }
        is_changed.then_some(cookie)
    }

    /// The path of an address that is the app's, with query and fragment, and whether a host stood in front of it.
    fn own_path<'v>(&self, value: &'v str) -> Option<(&'v str, bool)> {
        if value.bytes().any(|byte| byte.is_ascii_control()) {
            return None;
        }
        let (scheme_port, rest) = if let Some(rest) = strip_scheme(value, "http://") {
            (Some(80), rest)
        } else if let Some(rest) = strip_scheme(value, "https://") {
            (Some(443), rest)
        } else if let Some(rest) = value.strip_prefix("//") {
            (None, rest)
        } else {
            let is_path = value.starts_with('/') && !value.starts_with("/\\") && self.differ();
            return is_path.then_some((value, false));
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host, port) = split(authority)?;
        let is = |origin: &Origin| origin.is(&host, port, scheme_port);
        let is_own = self.servers.iter().any(is) || (self.differ() && self.public.iter().any(is));
        is_own.then_some((path, true))
    }

    /// Whether the app's paths are not the public ones.
    fn differ(&self) -> bool {
        !self.prefix.is_empty() || !self.base.is_empty()
    }

    /// The public path of one of the app's; `None` where it has none, or is the public one already.
    fn path<'v>(&self, path: &'v str) -> Option<Cow<'v, str>> {
        if let Some(rest) = below(path, self.base) {
            return match (self.base, self.prefix) {
                ("", "") => None,
                ("", prefix) if below(path, prefix).is_some() => None,
                (_, "") if rest.is_empty() => Some("/".into()),
                (_, "") => Some(rest.into()),
                (_, prefix) => Some([prefix, rest].concat().into()),
            };
        }
        None
    }

    /// The public path of a cookie's. One that covers all of the app covers all of it under its public prefix as well.
    fn cookie_path(&self, path: &str) -> Option<String> {
        if !path.starts_with('/') || !self.differ() {
            return None;
        }
        let covers_all =
            self.base.is_empty() && path == "/" || below(self.base, path.trim_end_matches('/')).is_some();
        let public = match self.path(path) {
            _ if covers_all && self.prefix.is_empty() => "/".to_owned(),
            _ if covers_all => self.prefix.to_owned(),
            Some(public) => public.into_owned(),
            None => return None,
        };
        (public != path && !public.starts_with("//")).then_some(public)
    }
}

/// What follows `prefix` in `path`, where it begins with it as whole segments.
fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn strip_scheme<'v>(value: &'v str, scheme: &str) -> Option<&'v str> {
    let head = value.get(..scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then(|| &value[scheme.len()..])
}

/// Host, in lower case, and port of an authority; `None` for anything else, a user before the host among it.
fn split(authority: &str) -> Option<(Cow<'_, str>, Option<u16>)> {
    let after_address = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[after_address..].split_once(':') {
        Some((end, port)) => (&authority[..after_address + end.len()], Some(port)),
        None => (authority, None),
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
        None => None,
    };
    if let Some(address) = host.strip_prefix('[') {
        let address: IpAddr = address.strip_suffix(']')?.parse().ok().filter(IpAddr::is_ipv6)?;
        return Some((address.to_string().into(), port));
    }
    let is_name = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if host.is_empty() || !is_name {
        return None;
    }
    let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    Some((host, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn paths<'a>(
        prefix: &'a str,
        base: &'a str,
        servers: &'a [Origin],
        public: &'a [Origin],
    ) -> PublicPaths<'a> {
        PublicPaths {
            prefix,
            base,
            servers,
            public,
        }
    }

    fn servers() -> Vec<Origin> {
        ["127.0.0.1:3000", "127.0.0.1:3001", "app.internal", "[::1]:3000"]
            .map(|server| Origin::server(server, 80).unwrap())
            .into()
    }

    fn public() -> Vec<Origin> {
        ["GW.example.com", "gw.example.com:8443"]
            .map(|host| Origin::public(host).unwrap())
            .into()
    }

    /// What becomes of `value`; itself where it stays.
    fn location(prefix: &str, base: &str, value: &str) -> String {
        let (servers, public) = (servers(), public());
        paths(prefix, base, &servers, &public)
            .location(value)
            .unwrap_or_else(|| value.to_owned())
    }

    #[test]
    fn a_prefix_that_was_cut_off_is_put_back() {
        for (value, expected) in [
            ("/", "/api/"),
            ("/items/", "/api/items/"),
            ("/items?a=/b#c", "/api/items?a=/b#c"),
            ("/?next=//x", "/api/?next=//x"),
            ("/api", "/api"),
            ("/api/items", "/api/items"),
            ("/api?x", "/api?x"),
            ("/apis", "/api/apis"),
            ("/API/items", "/api/API/items"),
            ("/x/api", "/api/x/api"),
            ("/x//y", "/api/x//y"),
            ("/x y", "/api/x y"),
            ("/é", "/api/é"),
            // Relative to the public address of the request, which has the prefix.
            ("", ""),
            ("items", "items"),
            ("../items", "../items"),
            ("?page=2", "?page=2"),
            ("#top", "#top"),
            // One of the servers, or a name that the client uses.
            ("http://127.0.0.1:3000/sub/", "/api/sub/"),
            ("http://127.0.0.1:3001/sub/", "/api/sub/"),
            ("HTTP://127.0.0.1:3000/sub/", "/api/sub/"),
            ("http://127.0.0.1:3000", "/api/"),
            ("http://127.0.0.1:3000?x", "/api/?x"),
            ("http://127.0.0.1:3000/api/x", "/api/x"),
            ("//127.0.0.1:3000/sub/", "/api/sub/"),
            ("http://app.internal/x", "/api/x"),
            ("http://APP.internal:80/x", "/api/x"),
            ("//app.internal/x", "/api/x"),
            ("http://[::1]:3000/x", "/api/x"),
            ("http://[0:0::1]:3000/x", "/api/x"),
            ("http://gw.example.com/x", "/api/x"),
            ("https://gw.example.com/x", "/api/x"),
            ("https://gw.example.com:443/x", "/api/x"),
            ("http://gw.example.com:80/x", "/api/x"),
            ("https://gw.example.com/api/x", "/api/x"),
            ("http://gw.example.com:8443/x", "/api/x"),
            ("//gw.example.com/x", "/api/x"),
            // What a client could read as a host is not made from what it could not.
            ("http://127.0.0.1:3000//evil.example", "/api//evil.example"),
        ] {
            assert_eq!(location("/api", "", value), expected, "{value}");
        }
    }

    #[test]
    fn addresses_of_others_stay_as_they_are() {
        for value in [
            "http://127.0.0.1/x",
            "http://127.0.0.1:30001/x",
            "http://127.0.0.1:300/x",
            "http://127.0.0.1:03000x/x",
            "https://app.internal/x",
            "http://127.0.0.1:3000@evil.example/x",
            "http://user@127.0.0.1:3000/x",
            "http://user:pw@gw.example.com/x",
            "http://127.0.0.1:3000.evil.example/x",
            "http://127.0.0.1:3000\\@evil.example/x",
            "http://127.0.0.1:3000\\x",
            "http://gw.example.com.evil.example/x",
            "http://gw.example.com.:80/x",
            "http://gw.example.com:443/x",
            "https://gw.example.com:80/x",
            "http://gw.example.com:9/x",
            "http://gw.example.com:/x",
            "http://evil.example/http://127.0.0.1:3000/",
            "http:/127.0.0.1:3000/x",
            "http:127.0.0.1:3000/x",
            "http:///127.0.0.1:3000/x",
            "http:\\\\127.0.0.1:3000\\x",
            "ftp://127.0.0.1:3000/x",
            "javascript:alert(1)",
            "mailto:a@example.com",
            "//evil.example/x",
            "///evil.example/x",
            "/\\evil.example/x",
            "/\t/evil.example",
            "\\/evil.example",
            "http://127.0.0.1:3000 /x",
            "http://127.0.0.1:3000%2f/x",
            "http://",
            "http://[::1/x",
            "http://[127.0.0.1]:3000/x",
        ] {
            for (prefix, base) in [("/api", ""), ("", "/base"), ("/api", "/base")] {
                assert_eq!(location(prefix, base, value), value, "{prefix} {base}");
            }
        }
    }

    #[test]
    fn without_a_prefix_only_addresses_of_servers_change_and_none_becomes_another_host() {
        for (value, expected) in [
            ("/x", "/x"),
            ("http://127.0.0.1:3000/x?y", "/x?y"),
            ("http://127.0.0.1:3000", "/"),
            ("https://gw.example.com/x", "https://gw.example.com/x"),
            (
                "http://127.0.0.1:3000//evil.example/x",
                "http://127.0.0.1:3000//evil.example/x",
            ),
            (
                "http://127.0.0.1:3000/\\evil.example/x",
                "http://127.0.0.1:3000/\\evil.example/x",
            ),
        ] {
            assert_eq!(location("", "", value), expected, "{value}");
        }
    }

    #[test]
    fn a_base_path_of_the_servers_is_taken_off_again() {
        for (prefix, value, expected) in [
            ("", "/base/x", "/x"),
            ("", "/base", "/"),
            ("", "/base/", "/"),
            ("", "/base?x", "/?x"),
            ("", "/basement", "/basement"),
            ("", "/other", "/other"),
            ("", "/base//evil.example", "/base//evil.example"),
            ("", "/base/\\evil.example", "/base/\\evil.example"),
            ("", "http://127.0.0.1:3000/base/x", "/x"),
            ("", "http://127.0.0.1:3000/other", "/other"),
            (
                "",
                "http://127.0.0.1:3000/base//evil.example",
                "http://127.0.0.1:3000/base//evil.example",
            ),
            ("/api", "/base/x", "/api/x"),
            ("/api", "/base", "/api"),
            ("/api", "/api/x", "/api/x"),
            ("/api", "/other", "/other"),
            ("/api", "https://gw.example.com/base/x", "/api/x"),
            ("/base", "/base/x", "/base/x"),
            ("/base", "/base/base/x", "/base/base/x"),
        ] {
            assert_eq!(location(prefix, "/base", value), expected, "{prefix} {value}");
        }
    }

    #[test]
    fn refresh_is_read_as_browsers_do() {
        let (servers, public) = (servers(), public());
        let paths = paths("/api", "", &servers, &public);
        for (value, expected) in [
            ("5; url=/x", Some("5; url=/api/x")),
            ("0;URL='/x'", Some("0;URL='/api/x'")),
            ("0; url = \"/x\"; y", Some("0; url = \"/api/x\"; y")),
            ("0;/x", Some("0;/api/x")),
            ("0, url=/x", Some("0, url=/api/x")),
            ("0; url=http://127.0.0.1:3000/x", Some("0; url=/api/x")),
            ("0; url='/x", Some("0; url='/api/x")),
            ("0; url=/x ", Some("0; url=/api/x")),
            ("5", None),
            ("5;", None),
            ("5; url=", None),
            ("5; url=x", None),
            ("5; url=/api/x", None),
            ("5; url=//evil.example", None),
            ("5; url=https://evil.example/x", None),
        ] {
            assert_eq!(paths.refresh(value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn the_path_of_a_cookie_follows() {
        for (prefix, base, value, expected) in [
            ("/api", "", "a=b; Path=/", Some("a=b; Path=/api")),
            (
                "/api",
                "",
                "a=b; Path=/; HttpOnly; Secure",
                Some("a=b; Path=/api; HttpOnly; Secure"),
            ),
            ("/api", "", "a=b;path=/x", Some("a=b;path=/api/x")),
            (
                "/api",
                "",
                "a=b; PATH = /x/ ;Secure",
                Some("a=b; PATH =/api/x/;Secure"),
            ),
            (
                "/api",
                "",
                "a=b; Path=/x; Path=/y",
                Some("a=b; Path=/api/x; Path=/api/y"),
            ),
            ("/api", "", "a=\"; Path=/x\"", Some("a=\"; Path=/api/x\"")),
            ("/api", "", "a=b; Path=/apis", Some("a=b; Path=/api/apis")),
            ("/api", "", "a=b; Path=/api", None),
            ("/api", "", "a=b; Path=/api/x", None),
            ("/api", "", "a=b", None),
            ("/api", "", "a=b; Path=", None),
            ("/api", "", "a=b; Path", None),
            ("/api", "", "a=b; Path=x", None),
            ("/api", "", "path=/x", None),
            ("/api", "", "__Host-a=b; Path=/; Secure", None),
            ("/api", "", " __host-a=b; Path=/; Secure", None),
            (
                "/api",
                "",
                "__Secure-a=b; Path=/; Secure",
                Some("__Secure-a=b; Path=/api; Secure"),
            ),
            ("", "", "a=b; Path=/", None),
            ("", "/base", "a=b; Path=/base", Some("a=b; Path=/")),
            ("", "/base", "a=b; Path=/base/x", Some("a=b; Path=/x")),
            ("", "/base", "a=b; Path=/", None),
            ("", "/base", "a=b; Path=/other", None),
            ("", "/base/deep", "a=b; Path=/base", Some("a=b; Path=/")),
            ("/api", "/base", "a=b; Path=/base/", Some("a=b; Path=/api")),
            ("/api", "/base", "a=b; Path=/", Some("a=b; Path=/api")),
            ("/api", "/base", "a=b; Path=/base/x", Some("a=b; Path=/api/x")),
        ] {
            let paths = paths(prefix, base, &[], &[]);
            assert_eq!(
                paths.set_cookie(value).as_deref(),
                expected,
                "{prefix} {base} {value}"
            );
        }
    }

    #[test]
    fn no_field_of_an_app_makes_another_host_of_what_was_none() {
        let (servers, public) = (servers(), public());
        let pieces = [
            "/",
            "//",
            "\\",
            "base",
            "api",
            "evil.example",
            "http://",
            "127.0.0.1:3000",
            "?",
            "#",
            "@",
            "\t",
        ];
        for first in pieces {
            for second in pieces {
                for third in pieces {
                    for fourth in pieces {
                        let value = [first, second, third, fourth].concat();
                        for (prefix, base) in [("", ""), ("/api", ""), ("", "/base"), ("/api", "/base")] {
                            if let Some(location) = paths(prefix, base, &servers, &public).location(&value) {
                                assert!(location.starts_with('/'), "{value:?} {location:?}");
                                assert!(
                                    !location[1..].starts_with(['/', '\\', '\t']),
                                    "{value:?} {location:?}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}
