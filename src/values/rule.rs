//! Words of routes, upstreams and issuers.

use std::str::FromStr;

/// Whether a route needs a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Nothing about the caller is read.
    None,
    /// A credential that is present is verified; without one there is no caller.
    Optional,
    /// The route needs a caller.
    #[default]
    Required,
}

impl Auth {
    /// As the file writes it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// What requests of a route are counted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateLimitBy {
    /// The caller; without one, the client address.
    #[default]
    Subject,
    /// The client address.
    Ip,
    /// Nothing: all requests of the route together.
    Route,
}

impl RateLimitBy {
    /// As the file writes it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Ip => "ip",
            Self::Route => "route",
        }
    }
}

/// What answers instead of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Builtin {
    /// The request as it arrived.
    Whoami,
    /// Nothing: another proxy serves the route, and asks the gateway about each request (`/auth/verify`).
    ForwardAuth,
}

/// By what requests keep to one server of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sticky {
    /// By a cookie of the gateway.
    Cookie,
    /// By the caller, or the client address of a request without one.
    Subject,
}

/// Another product at whose addresses the gateway answers, for proxies and apps that were set up with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum Alias {
    /// `/oauth2/…`
    #[serde(rename = "oauth2-proxy")]
    OAuth2Proxy,
    /// `/api/authz/…`
    #[serde(rename = "authelia")]
    Authelia,
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aliases {
    oauth2_proxy: bool,
    authelia: bool,
}

impl Aliases {
    /// Whether `alias` is among them.
    #[must_use]
    pub fn has(self, alias: Alias) -> bool {
        match alias {
            Alias::OAuth2Proxy => self.oauth2_proxy,
            Alias::Authelia => self.authelia,
        }
    }
}

impl FromIterator<Alias> for Aliases {
    fn from_iter<I: IntoIterator<Item = Alias>>(aliases: I) -> Self {
        let mut set = Self::default();
        for alias in aliases {
            match alias {
                Alias::OAuth2Proxy => set.oauth2_proxy = true,
                Alias::Authelia => set.authelia = true,
            }
        }
        set
    }
}

/// A claim that the tokens of an issuer may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingClaim {
    /// `iss`
    Iss,
    /// `aud`
    Aud,
}

/// The most roles of one account, and the most bytes of all of them: they travel in a cookie.
pub(crate) const MOST_ROLES: usize = 64;
/// See [`MOST_ROLES`].
pub(crate) const MOST_ROLE_BYTES: usize = 1024;

/// The name of a role.
///
/// # Errors
/// What to write instead.
pub(crate) fn role(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 64 {
        Err("a role is a word of at most 64 bytes".to_owned())
    } else if text.trim() == text {
        Ok(text.to_owned())
    } else {
        Err("spaces at either end are part of the name: leave them out".to_owned())
    }
}

/// Whether one account can have all of `roles`.
pub(crate) fn roles_fit<'a>(roles: impl ExactSizeIterator<Item = &'a str>) -> bool {
    // In a token they are JSON, where these two are written with a `\` before them.
    let escaped = |role: &str| role.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    roles.len() <= MOST_ROLES
        && roles.map(|role| role.len() + escaped(role) + 1).sum::<usize>() <= MOST_ROLE_BYTES
}

/// A scope (RFC 6749 section 3.3, `scope-token`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(Box<str>);

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if !text.is_empty() && text.bytes().all(is_plain) {
            return Ok(Self(text.into()));
        }
        Err("write each scope as a string of its own, without spaces: `scopes = [\"a\", \"b\"]`".to_owned())
    }
}

impl Scope {
    /// The text.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
