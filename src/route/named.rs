//! The hosts that routes name, whatever their paths.

use std::collections::HashSet;

use super::HostPattern;

/// Which hosts some route names, exactly or by a wildcard. A route without a host names none.
#[derive(Clone, Debug, Default)]
pub struct NamedHosts {
    exact: HashSet<Box<str>>,
    /// With their dot: `.example.com`.
    suffixes: HashSet<Box<str>>,
}

impl NamedHosts {
    /// The hosts that `patterns` name.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a HostPattern>) -> Self {
        let mut named = Self::default();
        for pattern in patterns {
            match pattern {
                HostPattern::Exact(name) => named.exact.insert(name.clone()),
                HostPattern::Below(suffix) => named.suffixes.insert(suffix.clone()),
            };
        }
        named
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.suffixes.is_empty()
    }

    /// Whether a route names `host`, which is spelled as `Host::name` does. Allocates nothing.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        // A suffix leaves at least one label before it.
        let below = || memchr::memchr_iter(b'.', host.as_bytes()).filter(|&dot| dot > 0);
        self.exact.contains(host)
            || (!self.suffixes.is_empty() && below().any(|dot| self.suffixes.contains(&host[dot..])))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_host_is_named_exactly_or_by_a_wildcard_above_it() {
        let patterns =
            ["app.example.com", "*.example.net", "[::1]"].map(|text| HostPattern::parse(text).unwrap());
        let named = NamedHosts::new(&patterns);
        for (host, is_named) in [
            ("app.example.com", true),
            ("x.app.example.com", false),
            ("example.com", false),
            ("app.example.com.evil.example", false),
            ("a.example.net", true),
            ("a.b.example.net", true),
            ("example.net", false),
            (".example.net", false),
            ("evilexample.net", false),
            ("[::1]", true),
            ("[::2]", false),
            ("", false),
        ] {
            assert_eq!(named.covers(host), is_named, "{host}");
        }
        assert!(
            !NamedHosts::default().covers("app.example.com"),
            "routes without a host name none"
        );
    }
}
