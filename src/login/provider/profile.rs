//! What a provider says about the user who signs in.
//!
//! Input: the claims of the ID token and of userinfo. Output: [`Profile`]. Invariants: an address that the claims do not
//! mark as verified is not verified; facts about the sign-in itself come from the ID token alone.

use serde_json::{Map, Value};

use super::config::{ClaimNames, ProviderPlan};
use super::rules::Subject;
use super::token_endpoint::Tokens;
use crate::account::is_canonical_email;
use crate::clock::UnixSeconds;
use crate::state::Authentication;
use crate::verify::roles_of;

/// A user of a provider.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) subject: String,
    /// Whether it is verified is in `email_verified`.
    pub(super) email: Option<String>,
    pub(super) email_verified: bool,
    pub(super) name: Option<String>,
    /// All groups, for `allow` and `roles`.
    pub(super) groups: Vec<String>,
    /// Those of them that are roles: the values of `roles_claims`.
    pub(super) roles: Vec<String>,
    /// All claims; those of the ID token come before those of userinfo.
    #[allow(dead_code, reason = "for claims in the session")]
    pub(super) claims: Map<String, Value>,
    pub(super) sign_in: SignInFacts,
    pub(super) tokens: Tokens,
}

/// What an ID token says about the sign-in at the provider (OpenID Connect Core 1.0 section 2). OAuth2 says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SignInFacts {
    /// How the user was authenticated.
    pub(super) acr: Option<String>,
    /// When the user was authenticated.
    pub(super) auth_time: Option<UnixSeconds>,
    /// The session at the provider (OpenID Connect Back-Channel Logout 1.0 section 2.1).
    pub(super) sid: Option<String>,
}

/// The longest `acr` that a session keeps, in bytes: it is a part of each of its tokens.
const MAX_ACR: usize = 255;
/// By how many seconds the clock of a provider may be ahead.
const CLOCK_SKEW: UnixSeconds = 60;

impl SignInFacts {
    pub(super) fn of_id_token(claims: &Map<String, Value>) -> Self {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            acr: text("acr"),
            auth_time: claims.get("auth_time").and_then(Value::as_i64),
            sid: text("sid"),
        }
    }
}

impl Profile {
    /// What the session keeps of this sign-in. A time of the future says nothing about the past, and is not known.
    pub(super) fn authentication(&self, provider: &str, now: UnixSeconds) -> Authentication {
        let facts = &self.sign_in;
        let is_past = |time: &UnixSeconds| *time <= now.saturating_add(CLOCK_SKEW);
        let is_short = |acr: &&String| acr.len() <= MAX_ACR && !acr.chars().any(char::is_control);
        Authentication {
            auth_time: facts.auth_time.filter(is_past).map(|time| time.min(now)),
            acr: facts.acr.as_ref().filter(is_short).cloned(),
            provider: Some(provider.to_owned()),
            provider_subject: Some(self.subject.clone()),
            provider_sid: facts.sid.clone(),
        }
    }

    /// A profile of claims that [`standard`] has made.
    pub(super) fn of_claims(
        plan: &ProviderPlan,
        subject: String,
        mut claims: Map<String, Value>,
        sign_in: SignInFacts,
        tokens: Tokens,
    ) -> Self {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let email = text("email").filter(|email| is_canonical_email(email));
        let email = email.map(str::to_owned);
        let name = text("name").and_then(|name| crate::account::parse_name(name).ok().flatten());
        let email_verified = claims.get("email_verified") == Some(&Value::Bool(true)) && email.is_some();
        // What is missing is not verified, also for a role from the claim `email`.
        claims.insert("email_verified".to_owned(), Value::Bool(email_verified));
        let roles = roles_of(&claims, &plan.roles_claims);
        let mut groups = roles_of(&claims, &plan.groups_claims);
        groups.extend_from_slice(&roles);
        Self {
            subject,
            email,
            email_verified,
            name,
            groups,
            roles,
            sign_in,
            tokens,
            claims,
        }
    }

    /// The user as rules see them, with the verdict on the address.
    pub(super) fn rule_subject(&self, email_verified: bool) -> Subject<'_> {
        Subject {
            verified_email: self.email.as_deref().filter(|_| email_verified),
            groups: &self.groups,
            roles: &self.roles,
        }
    }
}

/// The claims of one document, with address and name under their standard names, wherever the provider has them. Whether the
/// address is verified becomes a boolean.
pub(super) fn standard(names: &ClaimNames, mut claims: Map<String, Value>) -> Map<String, Value> {
    let email = names.email.find(&claims).cloned();
    let verified = match &email {
        Some(_) if names.emails_are_verified => Some(true),
        _ => names.email_verified.find(&claims).map(is_true),
    };
    let verified = verified.map(Value::Bool);
    let found = [
        ("email", email),
        ("name", names.name.find(&claims).cloned()),
        ("email_verified", verified),
    ];
    for (name, value) in found {
        match value {
            Some(value) => drop(claims.insert(name.to_owned(), value)),
            None => drop(claims.remove(name)),
        }
    }
    claims
}

/// Some providers write it as a string, or as a number (Microsoft: `xms_edov`).
pub(super) fn is_true(claim: &Value) -> bool {
    match claim {
        Value::Bool(is_true) => *is_true,
        Value::String(text) => text == "true" || text == "1",
        Value::Number(number) => number.as_u64() == Some(1),
        _ => false,
    }
}
