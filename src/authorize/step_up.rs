//! What a route asks of the sign-in of its callers (RFC 9470).
//!
//! Input: the keys `acr`, `max_age` and `provider` of a route; what is known of a sign-in. Output: whether it is enough, and
//! the parameters of the challenge. Invariants: a fact that is not known is not enough; no parameter of a request counts.

use std::fmt::Write as _;

use serde_json::Value;

use super::rule_name::listed;
use crate::clock::UnixSeconds;
use crate::identity::{Identity, PROVIDER_CLAIM, SESSION_ISSUER};

/// By how many seconds the clock that `auth_time` comes from may be ahead.
const CLOCK_SKEW: UnixSeconds = 60;

/// What a route asks of a sign-in. All that is there has to be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepUp {
    /// Authentication context classes, one of which is needed; empty: any.
    pub acr: Vec<Box<str>>,
    /// How long ago the user may have proven a credential, in seconds.
    pub max_age: Option<UnixSeconds>,
    /// The name of the provider.
    pub provider: Option<Box<str>>,
}

/// What is known of a sign-in.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignInClaims<'a> {
    /// The authentication context class.
    pub acr: Option<&'a str>,
    /// When the user proved a credential.
    pub auth_time: Option<UnixSeconds>,
    /// The name of the provider.
    pub provider: Option<&'a str>,
}

impl<'a> SignInClaims<'a> {
    /// Those of a verified token (RFC 9068 section 2.2.1). A provider is named by the gateway's own sessions alone.
    #[must_use]
    pub fn of(identity: &'a Identity) -> Self {
        let text = |name: &str| identity.claims.get(name).and_then(Value::as_str);
        Self {
            acr: text("acr"),
            auth_time: identity.claims.get("auth_time").and_then(seconds),
            provider: text(PROVIDER_CLAIM).filter(|_| &*identity.issuer == SESSION_ISSUER),
        }
    }
}

/// A `NumericDate` (RFC 7519 section 2) in whole seconds, rounded down.
fn seconds(value: &Value) -> Option<UnixSeconds> {
    // A cast from a float stops at the ends of the integer's range.
    #[allow(clippy::cast_possible_truncation)]
    let whole = |seconds: f64| seconds.floor() as UnixSeconds;
    value.as_i64().or_else(|| value.as_f64().map(whole))
}

impl StepUp {
    /// Whether a sign-in is enough at `now`.
    #[must_use]
    pub fn is_met(&self, by: SignInClaims<'_>, now: UnixSeconds) -> bool {
        let is_acr = self.acr.is_empty()
            || by
                .acr
                .is_some_and(|acr| self.acr.iter().any(|wanted| **wanted == *acr));
        let is_recent = self.max_age.is_none_or(|max_age| {
            by.auth_time.is_some_and(|time| {
                time <= now.saturating_add(CLOCK_SKEW) && now.saturating_sub(time) <= max_age
            })
        });
        let is_provider = self
            .provider
            .as_deref()
            .is_none_or(|name| by.provider == Some(name));
        is_acr && is_recent && is_provider
    }

    /// Whether a password can be enough.
    #[must_use]
    pub fn takes_password(&self) -> bool {
        self.acr.is_empty() && self.provider.is_none()
    }

    /// The values of `acr` as a parameter: with spaces between.
    #[must_use]
    pub fn acr_values(&self) -> Option<String> {
        (!self.acr.is_empty()).then(|| self.acr.join(" "))
    }

    /// The parameters of the challenge (RFC 9470 section 3), each after a comma.
    #[must_use]
    pub fn challenge(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail. A value is visible ASCII without `"` and `\`.
        if let Some(values) = self.acr_values() {
            let _ = write!(text, r#", acr_values="{values}""#);
        }
        if let Some(max_age) = self.max_age {
            let _ = write!(text, r#", max_age="{max_age}""#);
        }
        text
    }

    /// What it asks for, for `check` and the log.
    pub(super) fn text(&self) -> String {
        match self {
            Self {
                provider: Some(name), ..
            } => format!("a sign-in with the provider `{name}`"),
            Self {
                max_age: Some(seconds),
                ..
            } => format!("a sign-in at most {seconds} s ago"),
            Self { acr, .. } => format!("a sign-in with the `acr` {}", listed(acr)),
        }
    }

    /// What a caller has of it, for `explain`.
    pub(super) fn detail(&self, by: SignInClaims<'_>, now: UnixSeconds) -> String {
        if self.provider.is_some() {
            return by.provider.map_or_else(
                || "no provider is known of the sign-in".to_owned(),
                |name| format!("the sign-in was with `{name}`"),
            );
        }
        if self.max_age.is_some() {
            return by.auth_time.map_or_else(
                || "`auth_time` is missing".to_owned(),
                |time| format!("the sign-in was {} s ago", now.saturating_sub(time)),
            );
        }
        by.acr.map_or_else(
            || "`acr` is missing".to_owned(),
            |acr| format!("`acr` is `{}`", acr.escape_debug()),
        )
    }
}
