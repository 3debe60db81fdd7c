//! Which provider is authoritative for the addresses of a domain (`providers.*.authoritative_domains`).
//!
//! Input: domains and the names of providers; an address. Output: whether what a provider says about the address counts.
//! Invariants: a domain is compared whole, as addresses are; a subdomain is another domain.

use super::email;

/// The domains that a provider is authoritative for.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<(String, String)>);

impl Authorities {
    /// From pairs of a domain and the name of its provider.
    pub(crate) fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let folded = |(domain, provider): (String, String)| (email::key(&domain), provider);
        Self(pairs.into_iter().map(folded).collect())
    }

    /// The provider that is authoritative for an address; `None`: none in particular.
    #[must_use]
    pub(crate) fn of(&self, address: &str) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        let key = email::key(address);
        let (_, domain) = key.rsplit_once('@')?;
        let found = self.0.iter().find(|(known, _)| known == domain);
        found.map(|(_, provider)| provider.as_str())
    }

    /// Whether an address that `provider` has verified is verified.
    #[must_use]
    pub(crate) fn accept(&self, provider: &str, address: &str) -> bool {
        self.of(address).is_none_or(|authority| authority == provider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_compared_whole_and_however_it_is_typed() {
        let known = Authorities::new([("Example.com".to_owned(), "corp".to_owned())]);
        for (address, expected) in [
            ("ann@example.com", Some("corp")),
            ("ann@EXAMPLE.com", Some("corp")),
            ("ann@\u{ff45}xample.com", Some("corp")),
            ("ann@example\u{3002}com", Some("corp")),
            ("ann@evil.example@example.com", Some("corp")),
            ("ann@sub.example.com", None),
            ("ann@notexample.com", None),
            ("ann@example.com.evil.example", None),
            ("ann@example.com@evil.example", None),
            ("example.com", None),
            ("", None),
        ] {
            assert_eq!(known.of(address), expected, "{address}");
        }
        assert!(known.accept("corp", "ann@example.com") && !known.accept("other", "ann@example.com"));
        assert!(known.accept("other", "ann@example.net"));
        assert_eq!(Authorities::default().of("ann@example.com"), None);
    }
}
