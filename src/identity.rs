//! The caller: what a verified token says, as every room reads it.
//!
//! Invariants: `verify` alone makes an [`Identity`], from a token that passed every check.

use std::sync::{Arc, Mutex, OnceLock};

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::clock::UnixSeconds;

/// The name of the gateway's own issuer: [`Identity::issuer`] of a session's tokens, and the issuer of their revocations.
pub const SESSION_ISSUER: &str = "session";

/// The claim of the gateway's own tokens with the name of the provider that the user signed in with.
pub(crate) const PROVIDER_CLAIM: &str = "idp";

/// A UUID of version 7 (RFC 9562 section 5.7) for something that is made at `now`: a name, not a secret. The constructors of
/// the `uuid` crate panic where the system has no random numbers, and do not take a time in seconds.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn new_id(now: UnixSeconds) -> Result<Uuid, getrandom::Error> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    let milliseconds = u64::try_from(now).unwrap_or(0).saturating_mul(1000);
    Ok(uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
}

/// The caller, as the token names them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The issuer's name in the TOML; `session` for our own tokens.
    pub issuer: Arc<str>,
    /// `sub`; never empty.
    pub subject: String,
    /// `email`, where the token has one and it is a string. Whether it is verified: see [`Identity::is_email_verified`].
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
    /// What the caller is called in a sentence to themselves: the email address, else the name, else the subject.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.email
            .as_deref()
            .or(self.name.as_deref())
            .unwrap_or(&self.subject)
    }

    /// The claim at a path of member names, `["realm_access", "roles"]`, as rules compare it: an unverified `email` is as
    /// good as none, because its bearer may have typed in another person's.
    #[must_use]
    pub fn claim(&self, path: &ClaimPath) -> Option<&Value> {
        self.told_claim(path, false)
    }

    /// The claim at `path` as an app is told: an unverified `email` only `with_unverified_email`.
    #[must_use]
    pub fn told_claim(&self, path: &ClaimPath, with_unverified_email: bool) -> Option<&Value> {
        let may_be_told = with_unverified_email || !path.is_email() || is_email_verified(&self.claims);
        path.find(&self.claims).filter(|_| may_be_told)
    }

    /// The email address as an app is told: an unverified one only `with_unverified_email`.
    #[must_use]
    pub fn told_email(&self, with_unverified_email: bool) -> Option<&str> {
        self.email
            .as_deref()
            .filter(|_| with_unverified_email || self.is_email_verified())
    }

    /// Whether `email` may be taken for the caller's: see [`is_email_verified`].
    #[must_use]
    pub fn is_email_verified(&self) -> bool {
        is_email_verified(&self.claims)
    }
}

/// Whether the `email` among `claims` may be taken for the caller's: `email_verified` (OpenID Connect Core 1.0 section 5.1)
/// is the boolean `true`, or is not there. This is the only place that decides it.
#[must_use]
pub(crate) fn is_email_verified(claims: &Map<String, Value>) -> bool {
    claims
        .get("email_verified")
        .is_none_or(|verified| *verified == Value::Bool(true))
}

/// A path into the claims as the TOML writes it: `realm_access.roles`.
///
/// A claim whose own name holds dots (`https://example.com/roles`) is found too: the whole text is tried as one name
/// first, then split at its dots. A name with a dot within a path is quoted as in TOML: `resource_access."my.client".roles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath {
    whole: String,
    segments: Vec<String>,
}

impl ClaimPath {
    /// The path that `text` writes; `None` where it is empty, has an empty segment or a quote that is not closed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let segments = if text.contains(['"', '\'']) {
            quoted_segments(text)?
        } else {
            text.split('.').map(str::to_owned).collect()
        };
        if segments.iter().any(String::is_empty) && !text.contains("://") {
            return None;
        }
        Some(Self {
            whole: text.to_owned(),
            segments,
        })
    }

    /// The text it was written as.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.whole
    }

    /// Whether it leads to the claim `email` (OpenID Connect Core 1.0 section 5.1), which counts only where it is verified.
    #[must_use]
    pub fn is_email(&self) -> bool {
        self.whole == "email"
    }

    /// The value at this path in `claims`.
    #[must_use]
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        if let Some(value) = claims.get(&self.whole) {
            return Some(value);
        }
        let (first, rest) = self.segments.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, segment| {
            value.as_object()?.get(segment)
        })
    }
}

/// The names of a path in which some are quoted, `"…"` with `\"` and `\\` in it or `'…'` without (TOML 1.0, keys).
fn quoted_segments(text: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let mut rest = text;
    loop {
        let (name, behind) = match rest.chars().next()? {
            '\'' => {
                let (name, behind) = rest[1..].split_once('\'')?;
                (name.to_owned(), behind)
            }
            '"' => {
                let mut name = String::new();
                let mut chars = rest[1..].char_indices();
                let end = loop {
                    match chars.next()? {
                        (at, '"') => break at,
                        (_, '\\') => name.push(
                            chars
                                .next()
                                .map(|(_, char)| char)
                                .filter(|char| matches!(char, '"' | '\\'))?,
                        ),
                        (_, char) => name.push(char),
                    }
                };
                (name, &rest[1 + end + 1..])
            }
            _ => {
                let (name, behind) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
                if name.contains(['"', '\'']) {
                    return None;
                }
                (name.to_owned(), behind)
            }
        };
        if name.is_empty() {
            return None;
        }
        segments.push(name);
        match behind.strip_prefix('.') {
            Some(more) => rest = more,
            None if behind.is_empty() => return Some(segments),
            None => return None,
        }
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
    /// See [`Caller::memory`].
    memory: usize,
}

impl Caller {
    /// A caller for whom nothing has been written yet.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            memory: memory_of(&identity),
            identity,
            headers: OnceLock::new(),
            assertions: Mutex::new(Vec::new()),
        }
    }

    /// About how many bytes it takes in memory.
    #[must_use]
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }
}

fn memory_of(identity: &Identity) -> usize {
    /// Of a value without its text, or of a text without its characters.
    const ONE: usize = 64;
    fn of_value(value: &Value) -> usize {
        ONE + match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(of_value).sum(),
            Value::Object(members) => of_members(members),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
    }
    fn of_members(members: &Map<String, Value>) -> usize {
        let member = |(name, value): (&String, &Value)| ONE + name.len() + of_value(value);
        members.iter().map(member).sum()
    }
    let lists = identity.roles.iter().chain(&identity.scopes);
    lists.map(|text| ONE + text.len()).sum::<usize>() + identity.subject.len() + of_members(&identity.claims)
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
        let claims = json!({"realm_access": {"roles": ["a"]}, "https://x.example/roles": ["b"], "a.b": 1, "a": {"b": 2}});
        assert_eq!(find("realm_access.roles", &claims), Some(json!(["a"])));
        assert_eq!(find("https://x.example/roles", &claims), Some(json!(["b"])));
        assert_eq!(find("a.b", &claims), Some(json!(1)));
        assert_eq!(find("realm_access.nobody", &claims), None);
        assert_eq!(find("a.b.c", &claims), None);
        assert!(ClaimPath::parse("").is_none());
        assert!(ClaimPath::parse("a..b").is_none());
    }

    #[test]
    fn a_name_with_a_dot_is_quoted_as_in_toml() {
        let claims = json!({"resource_access": {"my.client": {"roles": ["a"]}, "x\"y\\": 1, "it's": 2}, "a.b": {"c": 3}, "a": {"b": {"c": 4}}});
        for (path, expected) in [
            (r#"resource_access."my.client".roles"#, Some(json!(["a"]))),
            ("resource_access.'my.client'.roles", Some(json!(["a"]))),
            (r#""resource_access"."my.client"."roles""#, Some(json!(["a"]))),
            (r#"resource_access."x\"y\\""#, Some(json!(1))),
            (r#"resource_access."it's""#, Some(json!(2))),
            (r#""a.b".c"#, Some(json!(3))),
            ("a.b.c", Some(json!(4))),
            ("resource_access.my.client.roles", None),
        ] {
            assert!(ClaimPath::parse(path).is_some(), "{path}");
            assert_eq!(find(path, &claims), expected, "{path}");
        }
        for path in [
            r#"""#,
            r#"a.""#,
            r#"a."b"#,
            r#"a."b"c"#,
            r#"a"b".c"#,
            r#"a."".c"#,
            "a.''",
            r#"a."b"."#,
            r#".a."b""#,
            r#"a."b\n""#,
            "a.'b",
            "'",
        ] {
            assert_eq!(ClaimPath::parse(path), None, "{path}");
        }
    }

    #[test]
    fn an_email_counts_unless_the_token_says_that_it_is_not_verified() {
        for (verified, counts) in [
            (None, true),
            (Some(json!(true)), true),
            (Some(json!(false)), false),
            (Some(json!("true")), false),
            (Some(json!(1)), false),
            (Some(Value::Null), false),
            (Some(json!([true])), false),
        ] {
            let mut claims = json!({"email": "ann@example.com", "mail": "ann@example.com"});
            if let Some(verified) = &verified {
                claims["email_verified"] = verified.clone();
            }
            let claims = claims.as_object().expect("an object").clone();
            let identity = Identity {
                issuer: "corp".into(),
                subject: "ann".to_owned(),
                email: Some("ann@example.com".to_owned()),
                name: None,
                roles: Vec::new(),
                scopes: Vec::new(),
                token_id: None,
                session_id: None,
                issued_at: None,
                expires_at: 0,
                claims,
            };
            let path = |text: &str| ClaimPath::parse(text).expect("a path");
            let told = |with| {
                (
                    identity.told_email(with).is_some(),
                    identity.told_claim(&path("email"), with).is_some(),
                )
            };
            assert_eq!(
                (told(false), told(true)),
                ((counts, counts), (true, true)),
                "{verified:?}"
            );
            assert_eq!(identity.claim(&path("email")).is_some(), counts, "{verified:?}");
            assert!(identity.claim(&path("mail")).is_some());
        }
    }
}
