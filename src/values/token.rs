//! Single words: names of cookies, schemes, protocols and query parameters.

use std::ops::Deref;
use std::str::FromStr;

/// A token (RFC 9110 section 5.6.2), as field names, methods, schemes and cookie names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// `text` where it is a token.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        (!text.is_empty() && text.bytes().all(is_plain)).then(|| Self(text.into()))
    }
}

impl Deref for Token {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

/// The name of a query parameter: unreserved characters alone (RFC 3986 section 2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterName(Box<str>);

impl FromStr for ParameterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if !text.is_empty() && text.bytes().all(is_plain) {
            return Ok(Self(text.into()));
        }
        Err("a parameter is named with letters, digits, `-`, `.`, `_` and `~`".to_owned())
    }
}

impl Deref for ParameterName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}
