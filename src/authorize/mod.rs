//! Whether a caller may use a route.
//!
//! Input: a route's rules when the configuration is compiled; the verified caller, if there is one, with every request.
//! Output: a [`Permit`], which `forward` requires and which only this room makes, or a [`Denial`] with the rule that
//! refused. Invariants: a rule that cannot be read lets no request through; `explain` and requests get the same decision.
//!
//! Rules require `auth = "required"`. With `none` there is no caller to apply them to; with `optional` a caller who fails
//! them would pass by leaving the credential out. Both are errors in the file.

mod step_up;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::clock::UnixSeconds;
use crate::config::raw::{RawClaim, RawRoles, RawRoute};
use crate::config::{Place, Problems, Spanned};
use crate::identity::{Caller, ClaimPath, Identity};
use crate::refusal::Refusal;
use crate::values::Scope;

pub(crate) use crate::values::Auth;
pub(crate) use step_up::{SignInClaims, StepUp};

/// A rule as log lines and `explain` name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// What it asks for: ``any of the roles `admin`, `ops` ``.
    pub text: Box<str>,
    /// Its line in the file.
    pub place: Place,
}

impl std::fmt::Display for RuleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text, self.place)
    }
}

/// The rules of one route, ready to be asked.
#[derive(Clone, Debug)]
pub struct Rules {
    auth: Auth,
    /// The rule `auth` itself.
    name: Arc<RuleName>,
    rules: Vec<Rule>,
    /// The rules on the sign-in, taken together.
    step_up: Option<StepUp>,
}

#[derive(Clone, Debug)]
struct Rule {
    name: Arc<RuleName>,
    check: Check,
}

#[derive(Clone, Debug)]
enum Check {
    AnyRole(Vec<Box<str>>),
    AllRoles(Vec<Box<str>>),
    NoRole(Vec<Box<str>>),
    Claim(ClaimPath, RawClaim),
    Scope(Scope),
    /// One of the rules on the sign-in.
    StepUp(StepUp),
}

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
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub claims: serde_json::Map<String, Value>,
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

/// Proof that the rules of a route let a request through, and for whom. Only [`Rules::decide`] makes one.
#[derive(Debug)]
#[must_use = "an unused permit permits nothing"]
pub struct Permit {
    caller: Option<Arc<Caller>>,
}

impl Permit {
    /// An anonymous permit, so that `forward` can be tested by itself.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self { caller: None }
    }

    /// The caller; `None` for an anonymous request, and always on a route with `auth = "none"`.
    #[must_use]
    pub fn caller(&self) -> Option<&Arc<Caller>> {
        self.caller.as_ref()
    }
}

/// Why a caller may not use a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What the client is told.
    pub refusal: Refusal,
    /// The rule that said no, for the log.
    pub rule: Arc<RuleName>,
}

/// One rule and what it said, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule.
    pub rule: Arc<RuleName>,
    /// `None`: it said yes.
    pub refusal: Option<Refusal>,
    /// What the caller has of it.
    pub detail: String,
}

impl Step {
    /// Whether the rule said yes.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.refusal.is_none()
    }
}

impl Rules {
    /// The rules of a route of the file. Whatever is wrong with them goes to `problems`, and the rest is at least as
    /// strict as what was meant: such a configuration is never used.
    pub fn compile(route: &RawRoute, problems: &mut Problems) -> Self {
        let auth = route.auth.as_ref().map(|auth| auth.value).unwrap_or_default();
        let span = route
            .auth
            .as_ref()
            .map(|auth| &auth.span)
            .or(route.path.as_ref().map(|path| &path.span))
            .cloned()
            .unwrap_or(0..0);
        let mut rules = Vec::new();
        if let Some(roles) = &route.roles {
            compile_roles(roles, &mut rules, problems);
        }
        for (path, wanted) in &route.claims {
            compile_claim(path, wanted, &mut rules, problems);
        }
        for scope in &route.scopes {
            let text = format!("the scope `{}`", scope.as_str());
            add(
                &mut rules,
                problems,
                &scope.span,
                text,
                Check::Scope(scope.value.clone()),
            );
        }
        let step_up = compile_step_up(route, &mut rules, problems);
        if auth != Auth::Required && !rules.is_empty() {
            let (message, why) = match auth {
                Auth::None => (
                    "`auth = \"none\"` disables the rules of this route",
                    "without a credential there is no caller",
                ),
                _ => (
                    "`auth = \"optional\"` lets every request around the rules of this route",
                    "a caller who fails them can leave the credential out",
                ),
            };
            problems
                .error(&span, message)
                .label(why)
                .hint("write `auth = \"required\"`, or take `roles`, `claims`, `scopes`, `acr`, `max_age` and `provider` out");
        }
        let text = format!("auth = \"{}\"", auth.as_str()).into();
        Self {
            auth,
            name: Arc::new(RuleName {
                text,
                place: problems.place(&span),
            }),
            rules,
            step_up,
        }
    }

    /// The rule because of which a credential is read; it is the one that an invalid credential is refused by.
    #[must_use]
    pub fn name(&self) -> &Arc<RuleName> {
        &self.name
    }

    /// Whether a caller is needed.
    #[must_use]
    pub fn auth(&self) -> Auth {
        self.auth
    }

    /// What is asked of the sign-in.
    #[must_use]
    pub fn step_up(&self) -> Option<&StepUp> {
        self.step_up.as_ref()
    }

    /// Whether these ask for everything that `other` asks for: every caller who passes here passes there. Rules
    /// are compared as they are written: of two that mean the same in other words, neither is the other.
    #[must_use]
    pub fn cover(&self, other: &Self) -> bool {
        let asked_here = |rule: &Rule| self.rules.iter().any(|ours| ours.name.text == rule.name.text);
        other.auth != Auth::Required || (self.auth == Auth::Required && other.rules.iter().all(asked_here))
    }

    /// Whether a request of the verified `caller`, or an anonymous one, may pass at `now`. Allocates nothing.
    ///
    /// # Errors
    /// The first rule that says no: `CredentialMissing`, `RoleRefused`, `ClaimRefused`, `ScopeRefused` or
    /// `AuthenticationInsufficient`.
    pub fn decide(&self, caller: Option<Arc<Caller>>, now: UnixSeconds) -> Result<Permit, Denial> {
        if self.auth == Auth::None {
            return Ok(Permit { caller: None });
        }
        let Some(caller) = caller else {
            return self.decide_anonymous();
        };
        match self
            .rules
            .iter()
            .find(|rule| !rule.check.passes(&caller.identity, now))
        {
            Some(rule) => Err(Denial {
                refusal: rule.check.refusal(),
                rule: rule.name.clone(),
            }),
            None => Ok(Permit { caller: Some(caller) }),
        }
    }

    fn decide_anonymous(&self) -> Result<Permit, Denial> {
        // Rules beside `optional` do not get past `compile`; they would not be skipped here either.
        if self.auth == Auth::Required || !self.rules.is_empty() {
            return Err(Denial {
                refusal: Refusal::CredentialMissing,
                rule: self.name.clone(),
            });
        }
        Ok(Permit { caller: None })
    }

    /// Every rule and what it says about `caller`, by the checks that [`Rules::decide`] goes by. Without a caller the
    /// only step is `auth`.
    #[must_use]
    pub fn steps(&self, caller: Option<&Caller>, now: UnixSeconds) -> Vec<Step> {
        let detail = match (self.auth, caller) {
            (Auth::None, _) => "nothing is read".to_owned(),
            (_, None) => "there is no caller".to_owned(),
            (_, Some(caller)) => format!("the caller is `{}`", caller.identity.subject),
        };
        let denial = if caller.is_none() && self.auth != Auth::None {
            self.decide_anonymous().err()
        } else {
            None
        };
        let mut steps = vec![Step {
            rule: self.name.clone(),
            refusal: denial.map(|denial| denial.refusal),
            detail,
        }];
        if let Some(caller) = caller.filter(|_| self.auth != Auth::None) {
            steps.extend(self.rules.iter().map(|rule| Step {
                rule: rule.name.clone(),
                refusal: (!rule.check.passes(&caller.identity, now)).then(|| rule.check.refusal()),
                detail: rule.check.detail(&caller.identity, now),
            }));
        }
        steps
    }

    /// These rules for programs.
    #[must_use]
    pub fn who(&self) -> Who {
        let mut who = Who {
            auth: self.auth.as_str(),
            ..Who::default()
        };
        let owned = |names: &[Box<str>]| names.iter().map(|name| String::from(&**name)).collect::<Vec<_>>();
        for rule in &self.rules {
            match &rule.check {
                Check::AnyRole(roles) => who.roles.get_or_insert_default().any = owned(roles),
                Check::AllRoles(roles) => who.roles.get_or_insert_default().all = owned(roles),
                Check::NoRole(roles) => who.roles.get_or_insert_default().none = owned(roles),
                Check::Claim(path, wanted) => {
                    let wanted = match wanted {
                        RawClaim::Text(text) => Value::from(text.as_str()),
                        RawClaim::Integer(number) => Value::from(*number),
                        RawClaim::Boolean(truth) => Value::from(*truth),
                    };
                    who.claims.insert(path.as_str().to_owned(), wanted);
                }
                Check::Scope(scope) => who.scopes.push(scope.as_str().to_owned()),
                Check::StepUp(_) => {}
            }
        }
        if let Some(step_up) = &self.step_up {
            who.acr = owned(&step_up.acr);
            who.max_age = step_up.max_age;
            who.provider = step_up.provider.as_deref().map(str::to_owned);
        }
        who
    }

    /// The names of all roles that a rule mentions, for `check` to compare with the roles of `[[tests]]`.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.rules
            .iter()
            .flat_map(|rule| match &rule.check {
                Check::AnyRole(roles) | Check::AllRoles(roles) | Check::NoRole(roles) => roles.as_slice(),
                Check::Claim(..) | Check::Scope(_) | Check::StepUp(_) => &[],
            })
            .map(|role| &**role)
    }
}

impl std::fmt::Display for Rules {
    /// Who may, in one line, as `check` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.auth, self.rules.as_slice()) {
            (Auth::None, _) => f.write_str("everyone (no credential is read)"),
            (Auth::Optional, _) => f.write_str("everyone (a credential is optional)"),
            (Auth::Required, []) => f.write_str("any caller"),
            (Auth::Required, [first, rest @ ..]) => {
                f.write_str(&first.name.text)?;
                rest.iter()
                    .try_for_each(|rule| write!(f, ", and {}", rule.name.text))
            }
        }
    }
}

impl Check {
    fn passes(&self, identity: &Identity, now: UnixSeconds) -> bool {
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
            Self::StepUp(step_up) => step_up.is_met(SignInClaims::of(identity), now),
        }
    }

    fn refusal(&self) -> Refusal {
        match self {
            Self::AnyRole(_) | Self::AllRoles(_) | Self::NoRole(_) => Refusal::RoleRefused,
            Self::Claim(..) => Refusal::ClaimRefused,
            Self::Scope(_) => Refusal::ScopeRefused,
            Self::StepUp(_) => Refusal::AuthenticationInsufficient,
        }
    }

    fn detail(&self, identity: &Identity, now: UnixSeconds) -> String {
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
            Self::StepUp(step_up) => step_up.detail(SignInClaims::of(identity), now),
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

fn listed(names: &[impl AsRef<str>]) -> String {
    names
        .iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn add(rules: &mut Vec<Rule>, problems: &Problems, span: &Range<usize>, text: String, check: Check) {
    rules.push(Rule {
        name: Arc::new(RuleName {
            text: text.into(),
            place: problems.place(span),
        }),
        check,
    });
}

fn compile_roles(roles: &Spanned<RawRoles>, rules: &mut Vec<Rule>, problems: &mut Problems) {
    let (any, all, none) = (&roles.any, &roles.all, &roles.none);
    let mut add_list =
        |list: &Option<Vec<Spanned<String>>>, what: &str, check: fn(Vec<Box<str>>) -> Check| {
            let Some(list) = list else { return };
            let names = compile_names(list, problems);
            let span = list.first().map_or(&roles.span, |first| &first.span);
            add(
                rules,
                problems,
                span,
                format!("{what} {}", listed(&names)),
                check(names),
            );
        };
    add_list(any, "any of the roles", Check::AnyRole);
    add_list(all, "all of the roles", Check::AllRoles);
    add_list(none, "none of the roles", Check::NoRole);

    let refused = |role: &&Spanned<String>| none.iter().flatten().any(|other| other.value == role.value);
    let impossible = all.iter().flatten().find(refused).or_else(|| {
        let any = any.as_deref().unwrap_or_default();
        any.first().filter(|_| any.iter().all(|role| refused(&role)))
    });
    if let Some(role) = impossible {
        problems
            .error(
                &role.span,
                format!(
                    "no caller can pass: the role `{}` is required and refused",
                    role.value
                ),
            )
            .hint("remove it from `none`, or from the other list");
    }
}

/// The rules on the sign-in: each key is one, with its own line.
fn compile_step_up(route: &RawRoute, rules: &mut Vec<Rule>, problems: &Problems) -> Option<StepUp> {
    let mut all = StepUp::default();
    let mut add_one = |span: &Range<usize>, one: StepUp| {
        add(rules, problems, span, one.text(), Check::StepUp(one));
    };
    if let Some(first) = route.acr.first() {
        all.acr = route.acr.iter().map(|acr| acr.as_str().into()).collect();
        let acr = all.acr.clone();
        add_one(
            &first.span,
            StepUp {
                acr,
                ..StepUp::default()
            },
        );
    }
    if let Some(max_age) = &route.max_age {
        all.max_age = Some(i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX));
        let max_age_alone = StepUp {
            max_age: all.max_age,
            ..StepUp::default()
        };
        add_one(&max_age.span, max_age_alone);
    }
    if let Some(provider) = &route.provider {
        all.provider = Some(provider.as_str().into());
        let provider_alone = StepUp {
            provider: all.provider.clone(),
            ..StepUp::default()
        };
        add_one(&provider.span, provider_alone);
    }
    (all != StepUp::default()).then_some(all)
}

fn compile_names(list: &[Spanned<String>], problems: &mut Problems) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::with_capacity(list.len());
    for role in list {
        if names.iter().any(|name| **name == **role) {
            problems
                .warning(&role.span, format!("the role `{}` appears twice", role.value))
                .hint("remove one");
            continue;
        }
        names.push(role.as_str().into());
    }
    names
}

fn compile_claim(
    path: &Spanned<ClaimPath>,
    wanted: &Spanned<RawClaim>,
    rules: &mut Vec<Rule>,
    problems: &Problems,
) {
    let shown = match &wanted.value {
        RawClaim::Text(text) => format!("\"{text}\""),
        RawClaim::Integer(number) => number.to_string(),
        RawClaim::Boolean(truth) => truth.to_string(),
    };
    let text = format!("the claim `{}` is or contains `{shown}`", path.as_str());
    add(
        rules,
        problems,
        &path.span,
        text,
        Check::Claim(path.value.clone(), wanted.value.clone()),
    );
}
