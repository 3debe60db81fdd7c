//! One rule, and whether a request meets it.
//!
//! Input: the verified caller, if there is one, and what is known of the request. Output: yes, or the refusal. Invariant: a
//! rule on callers says no where there is none.

use serde_json::Value;

use super::facts::RequestFacts;
use super::network::{self, Networks};
use super::rule_name::listed;
use super::step_up::{SignInClaims, StepUp};
use super::when::When;
use crate::config::raw::RawClaim;
use crate::identity::{ClaimPath, Identity};
use crate::refusal::Refusal;
use crate::values::Scope;

#[derive(Clone, Debug)]
pub(super) enum Check {
    AnyRole(Vec<Box<str>>),
    AllRoles(Vec<Box<str>>),
    NoRole(Vec<Box<str>>),
    Claim(ClaimPath, RawClaim),
    Scope(Scope),
    /// One of the rules on the sign-in.
    StepUp(StepUp),
    /// The client is in one of these.
    From(Networks),
    /// The client is in none of these.
    NotFrom(Networks),
    /// All checks of one of these pass.
    Any(Vec<Vec<Check>>),
    /// The condition holds.
    When(When),
}

impl Check {
    pub(super) fn passes(&self, identity: Option<&Identity>, facts: &RequestFacts<'_>) -> bool {
        match self {
            Self::From(networks) => return networks.contain(facts.client),
            Self::NotFrom(networks) => return networks.exclude(facts.client),
            Self::Any(alternatives) => {
                let is_met = |checks: &Vec<Self>| checks.iter().all(|check| check.passes(identity, facts));
                return alternatives.iter().any(is_met);
            }
            _ => {}
        }
        let Some(identity) = identity else {
            return false;
        };
        let has = |role: &str| identity.roles.iter().any(|held| held == role);
        match self {
            Self::AnyRole(roles) => roles.iter().any(|role| has(role)),
            Self::AllRoles(roles) => roles.iter().all(|role| has(role)),
            Self::NoRole(roles) => !roles.iter().any(|role| has(role)),
            Self::Claim(path, wanted) => match identity.claim(path) {
                Some(Value::Array(values)) => values.iter().any(|value| equals(value, wanted)),
                Some(value) => equals(value, wanted),
                None => false,
            },
            Self::Scope(scope) => identity.scopes.iter().any(|held| held == scope.as_str()),
            Self::When(when) => when.evaluate(identity, facts) == Ok(true),
            Self::StepUp(step_up) => step_up.is_met(SignInClaims::of(identity), facts.now),
            Self::From(_) | Self::NotFrom(_) | Self::Any(_) => false,
        }
    }

    /// Whether it can pass without a caller.
    pub(super) fn admits_anonymous(&self) -> bool {
        match self {
            Self::Any(alternatives) => alternatives
                .iter()
                .any(|checks| checks.iter().all(Self::admits_anonymous)),
            Self::From(_) | Self::NotFrom(_) => true,
            _ => false,
        }
    }

    /// Whether `enforce = "log"` is about it.
    pub(super) fn can_be_logged_only(&self) -> bool {
        !matches!(self, Self::StepUp(_) | Self::From(_) | Self::NotFrom(_))
    }

    /// Whether what it says depends on the client's address.
    pub(super) fn reads_address(&self) -> bool {
        match self {
            Self::Any(alternatives) => alternatives.iter().flatten().any(Self::reads_address),
            Self::From(_) | Self::NotFrom(_) => true,
            _ => false,
        }
    }

    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::AnyRole(_) | Self::AllRoles(_) | Self::NoRole(_) => Refusal::RoleRefused,
            Self::Claim(..) => Refusal::ClaimRefused,
            Self::Scope(_) => Refusal::ScopeRefused,
            Self::StepUp(_) => Refusal::AuthenticationInsufficient,
            Self::From(_) | Self::NotFrom(_) => Refusal::NetworkRefused,
            Self::Any(_) => Refusal::AnyRefused,
            Self::When(_) => Refusal::ConditionFalse,
        }
    }

    /// What the caller and the client have of it.
    pub(super) fn detail(&self, identity: Option<&Identity>, facts: &RequestFacts<'_>) -> String {
        match self {
            Self::From(_) | Self::NotFrom(_) => return network::detail(facts.client),
            Self::Any(alternatives) => {
                let mut details: Vec<String> = Vec::new();
                for check in alternatives.iter().flatten() {
                    let detail = check.detail(identity, facts);
                    if !details.contains(&detail) {
                        details.push(detail);
                    }
                }
                return details.join("; ");
            }
            _ => {}
        }
        let Some(identity) = identity else {
            return "there is no caller".to_owned();
        };
        match self {
            Self::AnyRole(_) | Self::AllRoles(_) | Self::NoRole(_) => match identity.roles.as_slice() {
                [] => "the caller has no roles".to_owned(),
                roles => format!("the caller has the roles {}", listed(roles)),
            },
            Self::Claim(path, _) => match identity.claim(path) {
                None => "the caller has no such claim".to_owned(),
                Some(value) => format!("the caller has `{value}`"),
            },
            Self::Scope(_) => match identity.scopes.as_slice() {
                [] => "the caller has no scopes".to_owned(),
                scopes => format!("the caller has the scopes {}", listed(scopes)),
            },
            Self::When(when) => match when.evaluate(identity, facts) {
                Ok(true) => "it holds for the caller and the request".to_owned(),
                Ok(false) => "it does not hold for the caller and the request".to_owned(),
                Err(why) => format!("it has no answer: {why}"),
            },
            Self::StepUp(step_up) => step_up.detail(SignInClaims::of(identity), facts.now),
            Self::From(_) | Self::NotFrom(_) | Self::Any(_) => String::new(),
        }
    }

    /// The roles that it names.
    pub(super) fn roles(&self) -> Vec<&str> {
        match self {
            Self::AnyRole(roles) | Self::AllRoles(roles) | Self::NoRole(roles) => {
                roles.iter().map(|role| &**role).collect()
            }
            Self::Any(alternatives) => alternatives.iter().flatten().flat_map(Self::roles).collect(),
            _ => Vec::new(),
        }
    }
}

/// By value and type: `1` is neither `"1"` nor `1.0` nor `true`.
fn equals(value: &Value, wanted: &RawClaim) -> bool {
    match wanted {
        RawClaim::Text(text) => value.as_str() == Some(text),
        RawClaim::Integer(number) => value.as_i64() == Some(*number),
        RawClaim::Boolean(truth) => value.as_bool() == Some(*truth),
    }
}
