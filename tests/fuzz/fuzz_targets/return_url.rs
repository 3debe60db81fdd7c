//! Return addresses: what is accepted stays, as a browser reads it (WHATWG URL), on a host of the gateway.
//!
//! Input: a return address as it stands in a link.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use passgate::internals::login::{Sites, return_location};
use passgate::internals::route::{HostPattern, NamedHosts};
use url::{Host, Url};

const PREFIX: &str = "/auth";
const PUBLIC_URLS: [&str; 2] = ["https://login.example.com", "http://localhost:8080"];
const NAMED: [&str; 2] = ["app.example.com", "*.apps.example.net"];

static SITES: LazyLock<[Sites; 2]> = LazyLock::new(|| {
    PUBLIC_URLS.map(|public_url| {
        let patterns = NAMED.map(|host| HostPattern::parse(host).expect("a host"));
        Sites::new(&public_url.parse().expect("a URL"), NamedHosts::new(&patterns))
    })
});

fuzz_target!(|text: &str| {
    for (sites, public_url) in SITES.iter().zip(PUBLIC_URLS) {
        let Some(location) = return_location(sites, PREFIX, text) else {
            continue;
        };
        assert!(
            location.bytes().all(|byte| byte.is_ascii_graphic()),
            "{location:?}"
        );
        let home = Url::parse(public_url).expect("a URL");
        let resolved = home.join(&location).expect("a browser reads it");
        assert_eq!(resolved.scheme(), home.scheme(), "{location}");
        assert!(resolved.username().is_empty() && resolved.password().is_none());
        let is_home = (resolved.host(), resolved.port_or_known_default())
            == (home.host(), home.port_or_known_default());
        assert!(
            is_home || is_named(resolved.host()),
            "{text:?} leads to {resolved}"
        );
        if location.starts_with('/') {
            assert!(is_home, "{location:?} leads to {resolved}");
        }
        // The page after a sign-in is not the sign-in page again.
        let path = resolved.path();
        for circle in ["/auth/login", "/auth/logout", "/auth/register", "/auth/continue"] {
            assert!(
                path != circle && !path.starts_with(&format!("{circle}/")),
                "{text:?}"
            );
        }
        // Accepted once, it is accepted again, and stays what it is.
        assert_eq!(
            return_location(sites, PREFIX, &location).as_deref(),
            Some(&*location)
        );
    }
});

fn is_named(host: Option<Host<&str>>) -> bool {
    let Some(Host::Domain(host)) = host else {
        return false;
    };
    host == NAMED[0]
        || host
            .strip_suffix(".apps.example.net")
            .is_some_and(|sub| !sub.is_empty())
}
