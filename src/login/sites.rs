//! The hosts on which people are signed in: that of `public_url`, which has the sign-in page, and those that routes name.
//!
//! Input: the host of a request, or a return address. Output: which kind of host it is, and where a redirect may lead.
//! Invariants: a host that no route names is never one of ours; an address never has another scheme than `public_url`.

use super::return_to;
use crate::http::headers::Host;
use crate::http::url::{self, Url};
use crate::identity_headers::scheme::Scheme;
use crate::route::NamedHosts;

/// Where signing in lives, and which other hosts take part.
#[derive(Debug)]
pub struct Sites {
    /// `https://login.example.com`.
    public_url: Url,
    /// The host of `public_url`, as `Host::name` spells it, and with its port.
    home: String,
    home_authority: String,
    named: NamedHosts,
}

/// What a host is to signing in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// That of `public_url`, on whichever port: here people sign in.
    Home,
    /// A route names it: here people come with a one-time code.
    Named,
    /// Only routes without a host serve it, or none: no session is opened here.
    Other,
}

/// The host that a request came to.
#[derive(Clone, Debug)]
pub struct Site {
    /// What it is.
    pub place: Place,
    /// Its name, as `Host::name` spells it.
    pub name: String,
    /// The same with its port, where that is not the scheme's own.
    pub authority: String,
    /// Whether the browser would keep the session cookie: not over plain HTTP where `public_url` is `https://`.
    pub keeps_cookie: bool,
}

/// A return address that is fine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReturnTo<'a> {
    /// A path, on the host that was asked.
    Here(&'a str),
    /// A path on the host of `public_url`.
    Home(&'a str),
    /// A path on a host that a route names.
    Named {
        /// The host, with its port where that is not the scheme's own.
        authority: String,
        path: &'a str,
    },
}

impl Sites {
    /// Signing in at `public_url`, for it and for the hosts that routes name.
    #[must_use]
    pub fn new(public_url: &Url, named: NamedHosts) -> Self {
        let mut sites = Self {
            public_url: public_url.clone(),
            home: public_url.authority().to_owned(),
            home_authority: public_url.authority().to_owned(),
            named,
        };
        if let Ok(host) = Host::parse(public_url.authority()) {
            (sites.home, sites.home_authority) = (host.name().to_owned(), sites.authority(&host));
        }
        sites
    }

    /// `public_url`, without a slash at the end.
    #[must_use]
    pub fn public_url(&self) -> &str {
        self.public_url.as_str()
    }

    /// The host of `public_url`, as `Host::name` spells it.
    pub(super) fn home(&self) -> &str {
        &self.home
    }

    /// The same with its port, where that is not the scheme's own.
    pub(super) fn home_authority(&self) -> &str {
        &self.home_authority
    }

    /// Whether `public_url` is `https://`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.public_url.is_tls()
    }

    /// What `host`, as `Host::name` spells it, is. Allocates nothing.
    #[must_use]
    pub fn place(&self, host: &str) -> Place {
        if self.is_home(host) {
            Place::Home
        } else if self.named.covers(host) {
            Place::Named
        } else {
            Place::Other
        }
    }

    /// Whether `host` is that of `public_url`. On plain HTTP, which only this machine may have, its names are one.
    #[must_use]
    pub fn is_home(&self, host: &str) -> bool {
        host == self.home || (!self.is_https() && url::is_loopback(host) && url::is_loopback(&self.home))
    }

    /// Whether a cookie that is set on `host` comes back to `public_url`: another name of this machine is another host to a
    /// browser.
    #[must_use]
    pub(super) fn shares_cookies(&self, host: &str) -> bool {
        host == self.home
    }

    /// Where a request for `host` came to, by `scheme`.
    #[must_use]
    pub fn site(&self, host: &Host, scheme: Scheme) -> Site {
        Site {
            place: self.place(host.name()),
            name: host.name().to_owned(),
            authority: self.authority(host),
            keeps_cookie: self.keeps_cookie(scheme),
        }
    }

    /// Whether a browser that sees this scheme keeps the session cookie.
    #[must_use]
    pub fn keeps_cookie(&self, scheme: Scheme) -> bool {
        !(self.is_https() && scheme == Scheme::Http)
    }

    /// `host` with its port, where that is not the scheme's own.
    pub(super) fn authority(&self, host: &Host) -> String {
        let default = if self.is_https() { 443 } else { 80 };
        match host.port().filter(|port| *port != default) {
            Some(port) => format!("{}:{port}", host.name()),
            None => host.name().to_owned(),
        }
    }

    /// `https://AUTHORITY/path`, by the scheme of `public_url`.
    pub(super) fn url(&self, authority: &str, path: &str) -> String {
        format!("{}://{authority}{path}", self.public_url.scheme())
    }

    /// `text` where one may be led there.
    pub(super) fn accept<'a>(&self, text: &'a str, prefix: &str) -> Option<ReturnTo<'a>> {
        if text.starts_with('/') {
            return return_to::accept(text, prefix).map(ReturnTo::Here);
        }
        let (_, authority, path) =
            url::split(text).filter(|(scheme, ..)| *scheme == self.public_url.scheme())?;
        let path = return_to::accept(if path.is_empty() { "/" } else { path }, prefix)?;
        // No user, no escapes, no sign that a browser would read as the end of the host: `Host` takes none of them.
        let host = Host::parse(authority).ok()?;
        let authority = self.authority(&host);
        if authority == self.home_authority {
            return Some(ReturnTo::Home(path));
        }
        self.named
            .covers(host.name())
            .then_some(ReturnTo::Named { authority, path })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::route::HostPattern;

    fn sites(public_url: &str) -> Sites {
        let patterns = ["app.example.com", "*.apps.example.net", "shop.example"];
        Sites::new(
            &public_url.parse().unwrap(),
            NamedHosts::new(&patterns.map(|text| HostPattern::parse(text).unwrap())),
        )
    }

    #[test]
    fn a_host_is_home_or_named_or_neither() {
        let sites = sites("https://Login.example.com:8443/");
        for (host, place) in [
            ("login.example.com", Place::Home),
            ("app.example.com", Place::Named),
            ("a.apps.example.net", Place::Named),
            ("apps.example.net", Place::Other),
            ("x.app.example.com", Place::Other),
            ("evil.example", Place::Other),
            ("localhost", Place::Other),
        ] {
            assert_eq!(sites.place(host), place, "{host}");
        }
        let local = Sites::new(&"http://localhost:8080".parse().unwrap(), NamedHosts::default());
        for (host, place) in [
            ("localhost", Place::Home),
            ("127.0.0.1", Place::Home),
            ("[::1]", Place::Home),
            ("a.localhost", Place::Other),
            ("192.0.2.1", Place::Other),
        ] {
            assert_eq!(local.place(host), place, "{host}");
        }
        assert_eq!(
            Sites::new(&"https://localhost".parse().unwrap(), NamedHosts::default()).place("127.0.0.1"),
            Place::Other
        );
    }

    #[test]
    fn a_port_is_said_where_it_is_not_the_schemes_own() {
        let site = |public_url: &str, host: &str| {
            sites(public_url)
                .site(&Host::parse(host).unwrap(), Scheme::Unknown)
                .authority
        };
        for (host, https, http) in [
            ("App.example.com.", "app.example.com", "app.example.com"),
            ("app.example.com:443", "app.example.com", "app.example.com:443"),
            ("app.example.com:80", "app.example.com:80", "app.example.com"),
            (
                "app.example.com:8443",
                "app.example.com:8443",
                "app.example.com:8443",
            ),
        ] {
            assert_eq!(site("https://login.example.com", host), https);
            assert_eq!(site("http://localhost", host), http);
        }
    }

    #[test]
    fn a_return_address_leads_to_a_host_that_a_route_names_and_to_no_other() {
        let sites = sites("https://login.example.com");
        let named = |authority: &str, path| {
            Some(ReturnTo::Named {
                authority: authority.to_owned(),
                path,
            })
        };
        for (text, expected) in [
            ("/x?y", Some(ReturnTo::Here("/x?y"))),
            ("https://login.example.com/x", Some(ReturnTo::Home("/x"))),
            ("https://LOGIN.example.com:443", Some(ReturnTo::Home("/"))),
            ("https://app.example.com", named("app.example.com", "/")),
            (
                "https://app.example.com/a?b=https://evil.example#c",
                named("app.example.com", "/a?b=https://evil.example#c"),
            ),
            ("https://APP.example.com:443/a", named("app.example.com", "/a")),
            (
                "https://app.example.com.:8443/a",
                named("app.example.com:8443", "/a"),
            ),
            (
                "https://a.b.apps.example.net/",
                named("a.b.apps.example.net", "/"),
            ),
            ("https://shop.example/", named("shop.example", "/")),
            // Another port of home: another service may answer there.
            ("https://login.example.com:8443/x", None),
            ("http://app.example.com/", None),
            ("HTTPS://app.example.com/", None),
            ("//app.example.com/", None),
            ("https:app.example.com/", None),
            ("https:/app.example.com/", None),
            ("https:///app.example.com/", None),
            ("https://evil.example/", None),
            ("https://apps.example.net/", None),
            ("https://xapps.example.net/", None),
            ("https://app.example.com.evil.example/", None),
            ("https://app.example.com@evil.example/", None),
            ("https://evil.example@app.example.com/", None),
            ("https://app.example.com:@evil.example/", None),
            ("https://app.example.com:0/", None),
            ("https://app.example.com:99999/", None),
            ("https://app.example.com\\@evil.example/", None),
            ("https://evil.example\\.app.example.com/", None),
            ("https://app.example.com%2f@evil.example/", None),
            ("https://evil.example%00.apps.example.net/", None),
            ("https://evil.example?.apps.example.net/", None),
            ("https://evil.example#.apps.example.net/", None),
            ("https://app.example.com?x", None),
            ("https://app.example.com//evil.example", None),
            ("https://app.example.com/\\evil.example", None),
            ("https://app.example.com/a/..//evil.example", None),
            ("https://app.example.com/auth/login", None),
            ("https://app.example.com/auth/continue?code=x", None),
            ("https://app.example.com/ x", None),
            ("https://app.example.com/\r\nset-cookie:a=b", None),
            ("https://app.exa\u{ff0e}mple.com/", None),
            ("https://\u{ff41}pp.example.com/", None),
            (" https://app.example.com/", None),
            ("https://[app.example.com]/", None),
            ("https://", None),
            ("javascript://app.example.com/%0aalert(1)", None),
            ("", None),
        ] {
            assert_eq!(sites.accept(text, "/auth"), expected, "{text:?}");
        }
        let long = format!("https://app.example.com/{}", "a".repeat(4096));
        assert_eq!(sites.accept(&long, "/auth"), None);
    }
}
