//! Who is calling: what a verified token said, as every room reads it.
//!
//! An [`Identity`] is made by `verify` alone, from a token that passed every check.

use std::sync::{Arc, Mutex, OnceLock};

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::clock::UnixSeconds;

/// The caller, as the token names them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The issuer's name in the TOML; `session` for our own tokens.
    pub issuer: Arc<str>,
    /// `sub`; never empty.
    pub subject: String,
    /// `email`, where the token has one and it is a string.
    pub email: Option<String>,
    /// `name`, where the token has one and it is a string.
    pub name: Option<String>,
    /// The roles from the issuer's `roles_claims`, in the order found, each once.
    pub roles: Vec<String>,
    /// The scopes from `scope` or `scp`.
    pub scopes: Vec<String>,
    /// `jti`, where the token has one.
    pub token_id: Option<String>,
    /// `sid`, the session that one of our own tokens belongs to; `None` for every other issuer's.
    pub session_id: Option<String>,
    /// `iat`, in seconds since 1970.
    pub issued_at: Option<UnixSeconds>,
    /// `exp`, in seconds since 1970, without leeway.
    pub expires_at: UnixSeconds,
    /// All claims, for rules and headers that name a path into them.
    pub claims: Map<String, Value>,
}

impl Identity {
    /// The claim at a path of member names, `["realm_access", "roles"]`.
    #[must_use]
    pub fn claim(&self, path: &ClaimPath) -> Option<&Value> {
        path.find(&self.claims)
    }
}

/// A path into the claims as the TOML writes it: `realm_access.roles`.
///
/// A claim whose own name holds dots (`https://example.com/roles`) is found too: the whole text is tried as one name
/// first, then split at its dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath {
    whole: String,
    segments: Vec<String>,
}

impl ClaimPath {
    /// The path that `text` writes; `None` where it is empty or has an empty segment.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let segments: Vec<String> = text.split('.').map(str::to_owned).collect();
        if segments.iter().any(String::is_empty) && !text.contains("://") {
            return None;
        }
        Some(Self { whole: text.to_owned(), segments })
    }

    /// The text it was written as.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.whole
    }

    /// The value at this path in `claims`.
    #[must_use]
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        if let Some(value) = claims.get(&self.whole) {
            return Some(value);
        }
        let (first, rest) = self.segments.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, segment| value.as_object()?.get(segment))
    }
}

/// An identity together with what it was turned into for the apps: made once when the token was verified and reused by
/// every request that the cache answers, so that such a request formats nothing.
#[derive(Debug)]
pub struct Caller {
    /// Who it is.
    pub identity: Identity,
    /// The identity headers, filled in by `caller` at the first request.
    pub headers: OnceLock<Vec<(HeaderName, HeaderValue)>>,
    /// Assertions already signed for this caller, one an upstream.
    pub assertions: Mutex<Vec<Assertion>>,
}

impl Caller {
    /// A caller for whom nothing has been written yet.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { identity, headers: OnceLock::new(), assertions: Mutex::new(Vec::new()) }
    }
}

/// A signed assertion for one upstream.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// The upstream's name in the TOML, the `aud` of the assertion.
    pub upstream: Arc<str>,
    /// The time from which a new one is signed.
    pub renew_at: UnixSeconds,
    /// The key that signed it (its `kid`), so that a rotation makes a new one.
    pub key_id: Arc<str>,
    /// The header value.
    pub value: HeaderValue,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn find(path: &str, claims: &Value) -> Option<Value> {
        ClaimPath::parse(path).and_then(|path| path.find(claims.as_object().expect("an object")).cloned())
    }

    #[test]
    fn a_claim_path_walks_objects_and_prefers_a_claim_of_that_very_name() {
        let claims =
            json!({"realm_access": {"roles": ["a"]}, "https://x.example/roles": ["b"], "a.b": 1, "a": {"b": 2}});
        assert_eq!(find("realm_access.roles", &claims), Some(json!(["a"])));
        assert_eq!(find("https://x.example/roles", &claims), Some(json!(["b"])));
        assert_eq!(find("a.b", &claims), Some(json!(1)));
        assert_eq!(find("realm_access.nobody", &claims), None);
        assert_eq!(find("a.b.c", &claims), None);
        assert!(ClaimPath::parse("").is_none());
        assert!(ClaimPath::parse("a..b").is_none());
    }
}
