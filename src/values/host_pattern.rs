//! Host patterns: one host, or every host below a name.

use std::str::FromStr;

use super::BadValue;
use crate::http::headers::Host;

/// A `host` of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name, as `Host::name` spells it.
    Exact(Box<str>),
    /// Every name that ends with this, which starts with a dot: one label more at least.
    Below(Box<str>),
}

/// Why a text is no host pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// `*`.
    #[error("`*` alone is no host")]
    Any,
    /// A `*` elsewhere than as the whole first label.
    #[error("`*` stands only for whole labels at the start of a host")]
    Star,
    /// A port.
    #[error("a host pattern has no port")]
    Port,
    /// Letters outside ASCII.
    #[error("a host is written in ASCII")]
    NotAscii,
    /// Not a host in some other way.
    #[error("this is no host")]
    Invalid,
}

impl HostPatternError {
    /// What to do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Any => "leave `host` out: the route is then for every host",
            Self::Star => "write `*.example.com` for all hosts below `example.com`",
            Self::Port => "leave the port out: routes do not depend on it",
            Self::NotAscii => "write the name as DNS has it, for example `xn--bcher-kva.example`",
            Self::Invalid => "write a name like `app.example.com`, without scheme, port or path",
        }
    }
}

impl HostPattern {
    /// Reads `app.example.com`, `*.example.com` or `[::1]`, in any case.
    ///
    /// # Errors
    /// What is wrong with it, which [`HostPatternError::hint`] has an answer to.
    pub fn parse(text: &str) -> Result<Self, HostPatternError> {
        if text == "*" {
            return Err(HostPatternError::Any);
        }
        if !text.is_ascii() {
            return Err(HostPatternError::NotAscii);
        }
        let below = text.strip_prefix("*.");
        if below.unwrap_or(text).contains('*') {
            return Err(HostPatternError::Star);
        }
        let host = Host::parse(below.unwrap_or(text)).map_err(|_| HostPatternError::Invalid)?;
        if host.port().is_some() {
            return Err(HostPatternError::Port);
        }
        match below {
            Some(_) if host.name().starts_with('[') => Err(HostPatternError::Invalid),
            Some(_) => Ok(Self::Below(format!(".{}", host.name()).into())),
            None => Ok(Self::Exact(host.name().into())),
        }
    }

    /// Whether this covers `host`, which is spelled as `Host::name` does.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        Self::parse(text)
    }
}

impl From<HostPatternError> for BadValue {
    fn from(error: HostPatternError) -> Self {
        Self::new(format!("`host`: {error}"), error.hint())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn host_patterns_are_read_in_any_case() {
        for (text, shown) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("*.Example.com", "*.example.com"),
            ("*.localhost", "*.localhost"),
            ("[::1]", "[::1]"),
            ("[0:0::1]", "[::1]"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(HostPattern::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_host_pattern_says_why() {
        for (text, error) in [
            ("", HostPatternError::Invalid),
            ("*", HostPatternError::Any),
            ("*.", HostPatternError::Invalid),
            ("*.*.example.com", HostPatternError::Star),
            ("a.*.example.com", HostPatternError::Star),
            ("*example.com", HostPatternError::Star),
            ("example.com:8080", HostPatternError::Port),
            ("*.example.com:8080", HostPatternError::Port),
            ("bücher.example", HostPatternError::NotAscii),
            ("https://example.com", HostPatternError::Invalid),
            ("example.com/", HostPatternError::Invalid),
            (".example.com", HostPatternError::Invalid),
            ("*..example.com", HostPatternError::Invalid),
            ("*.[::1]", HostPatternError::Invalid),
        ] {
            assert_eq!(HostPattern::parse(text), Err(error), "{text}");
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn a_suffix_covers_one_label_or_more_and_not_the_name_itself() {
        let pattern = HostPattern::parse("*.example.com").unwrap();
        for (host, covered) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            (".example.com", false),
            ("evilexample.com", false),
            ("a.example.com.evil.com", false),
        ] {
            assert_eq!(pattern.matches(host), covered, "{host}");
        }
    }
}
