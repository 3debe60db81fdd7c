//! The rules of a route for programs.
//!
//! Input: compiled rules. Output: [`Who`], which `check --format json` prints.

use serde_json::{Map, Value};

use super::Rules;
use super::check::Check;
use super::step_up::StepUp;
use crate::clock::UnixSeconds;
use crate::config::raw::RawClaim;

/// The rules of one route for programs: `check --format json` prints it as `who`. A caller has to satisfy each part that
/// is there.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Who {
    /// `none`, `optional` or `required`.
    pub auth: &'static str,
    /// The rule on roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<WhoRoles>,
    /// Claims by their paths, each of which must equal or contain its value.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub claims: Map<String, Value>,
    /// Scopes, all of which are needed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Authentication context classes, one of which the sign-in needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub acr: Vec<String>,
    /// How long ago the sign-in may be, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<UnixSeconds>,
    /// The provider of the sign-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Networks, one of which the client is in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// Networks that the client is in none of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub none_from: Vec<String>,
    /// A condition in the Common Expression Language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// `log`, where the rules on roles, claims, scopes, alternatives and the condition refuse no caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce: Option<&'static str>,
    /// Alternatives, one of which is enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<WhoAlternative>,
}

/// The rule on roles of a [`Who`].
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct WhoRoles {
    /// One of these at least.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<String>,
    /// Each of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<String>,
    /// Not one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub none: Vec<String>,
}

/// One alternative of `any`: all of its parts.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct WhoAlternative {
    /// A role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// A scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Claims by their paths.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub claims: Map<String, Value>,
    /// Networks, one of which the client is in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
}

fn owned(names: &[Box<str>]) -> Vec<String> {
    names.iter().map(|name| String::from(&**name)).collect()
}

fn value(wanted: &RawClaim) -> Value {
    match wanted {
        RawClaim::Text(text) => Value::from(text.as_str()),
        RawClaim::Integer(number) => Value::from(*number),
        RawClaim::Boolean(truth) => Value::from(*truth),
    }
}

impl WhoAlternative {
    fn of(checks: &[Check]) -> Self {
        let mut alternative = Self::default();
        for check in checks {
            match check {
                Check::AnyRole(roles) => alternative.role = owned(roles).pop(),
                Check::Scope(scope) => alternative.scope = Some(scope.as_str().to_owned()),
                Check::Claim(path, wanted) => {
                    alternative.claims.insert(path.as_str().to_owned(), value(wanted));
                }
                Check::From(networks) => alternative.from = networks.names(),
                Check::AllRoles(_)
                | Check::NoRole(_)
                | Check::StepUp(_)
                | Check::When(_)
                | Check::NotFrom(_)
                | Check::Any(_) => {}
            }
        }
        alternative
    }
}

impl Rules {
    /// These rules for programs.
    #[must_use]
    pub fn who(&self) -> Who {
        let mut who = Who {
            auth: self.auth.as_str(),
            enforce: self.only_logged.then_some("log"),
            ..Who::default()
        };
        for rule in self.networks.iter().chain(&self.rules) {
            match &rule.check {
                Check::AnyRole(roles) => who.roles.get_or_insert_default().any = owned(roles),
                Check::AllRoles(roles) => who.roles.get_or_insert_default().all = owned(roles),
                Check::NoRole(roles) => who.roles.get_or_insert_default().none = owned(roles),
                Check::Claim(path, wanted) => {
                    who.claims.insert(path.as_str().to_owned(), value(wanted));
                }
                Check::Scope(scope) => who.scopes.push(scope.as_str().to_owned()),
                Check::StepUp(_) => {}
                Check::When(when) => who.when = Some(when.text().to_owned()),
                Check::From(networks) => who.from = networks.names(),
                Check::NotFrom(networks) => who.none_from = networks.names(),
                Check::Any(alternatives) => {
                    who.any = alternatives
                        .iter()
                        .map(|checks| WhoAlternative::of(checks))
                        .collect();
                }
            }
        }
        if let Some(StepUp {
            acr,
            max_age,
            provider,
        }) = &self.step_up
        {
            who.acr = owned(acr);
            who.max_age = *max_age;
            who.provider = provider.as_deref().map(str::to_owned);
        }
        who
    }
}
