//! From the keys of a route to its rules.
//!
//! Input: a route of the file. Output: [`Rules`], and every problem with its place. Invariant: what cannot be read makes no
//! rule weaker: a file with an error is never used.

use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;

use super::check::Check;
use super::network::Networks;
use super::rule_name::{RuleName, listed};
use super::step_up::StepUp;
use super::when::When;
use super::{Rule, Rules};
use crate::config::raw::{RawAlternative, RawClaim, RawRoles, RawRoute};
use crate::config::{Problems, Spanned};
use crate::identity::ClaimPath;
use crate::values::{Auth, Condition, Pattern};

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
        if let Some(any) = &route.any {
            compile_any(any, &mut rules, problems);
        }
        if let Some(when) = &route.when {
            compile_when(when, route.path.as_ref(), &mut rules, problems);
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
                .hint("write `auth = \"required\"`, or take `roles`, `claims`, `scopes`, `any`, `when`, `acr`, `max_age` and `provider` out");
        }
        if let Some(enforce) = &route.enforce {
            if auth == Auth::None {
                problems
                    .error(
                        &enforce.span,
                        "`enforce` is about callers, and this route has none",
                    )
                    .hint("remove it, or write `auth = \"required\"`");
            } else if !rules.iter().any(|rule| rule.check.can_be_logged_only()) {
                problems
                    .warning(&enforce.span, "`enforce` applies to no rule of this route")
                    .hint("it is for `roles`, `claims`, `scopes`, `any` and `when`");
            }
        }
        let text = format!("auth = \"{}\"", auth.as_str()).into();
        Self {
            auth,
            name: Arc::new(RuleName {
                text,
                place: problems.place(&span),
            }),
            networks: compile_networks(route, problems),
            rules,
            only_logged: route.enforce.is_some(),
            step_up,
        }
    }
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
    add(
        rules,
        problems,
        &path.span,
        claim_text(path, wanted),
        Check::Claim(path.value.clone(), wanted.value.clone()),
    );
}

fn claim_text(path: &ClaimPath, wanted: &RawClaim) -> String {
    let shown = match wanted {
        RawClaim::Text(text) => format!("\"{text}\""),
        RawClaim::Integer(number) => number.to_string(),
        RawClaim::Boolean(truth) => truth.to_string(),
    };
    format!("the claim `{}` is or contains `{shown}`", path.as_str())
}

/// The rules on the client's network, which are applied before any credential is read.
fn compile_networks(route: &RawRoute, problems: &mut Problems) -> Vec<Rule> {
    let mut rules = Vec::new();
    let (from, none_from) = (networks(&route.from), networks(&route.none_from));
    if let Some(first) = route.from.first() {
        if from.are_within(&none_from) {
            problems
                .error(
                    &first.span,
                    "no client can pass: `none_from` refuses every network of `from`",
                )
                .hint("remove the network from one of the two");
        }
        let text = from_text(&from);
        add(&mut rules, problems, &first.span, text, Check::From(from));
    }
    if let Some(first) = route.none_from.first() {
        let text = format!("a client address outside {}", none_from.listed());
        add(&mut rules, problems, &first.span, text, Check::NotFrom(none_from));
    }
    rules
}

fn networks(list: &[Spanned<IpNet>]) -> Networks {
    Networks::new(list.iter().map(|network| network.value).collect())
}

fn from_text(networks: &Networks) -> String {
    format!("a client address in {}", networks.listed())
}

fn compile_any(any: &Spanned<Vec<Spanned<RawAlternative>>>, rules: &mut Vec<Rule>, problems: &Problems) {
    let (checks, texts): (Vec<_>, Vec<_>) = any.iter().map(|one| compile_alternative(one)).unzip();
    let text = format!("any of: {}", texts.join("; "));
    add(rules, problems, &any.span, text, Check::Any(checks));
}

fn compile_when(
    when: &Spanned<Condition>,
    path: Option<&Spanned<Pattern>>,
    rules: &mut Vec<Rule>,
    problems: &mut Problems,
) {
    let parameters: Vec<(Box<str>, usize)> = path.map_or_else(Vec::new, |path| {
        let parameters = path.parameters();
        parameters.map(|(name, number)| (name.into(), number)).collect()
    });
    for wanted in when.path().names() {
        if !parameters.iter().any(|(name, _)| **name == *wanted) {
            let message = format!("the path of the route has no parameter `{wanted}`");
            let names: Vec<&str> = parameters.iter().map(|(name, _)| &**name).collect();
            let hint = match names.as_slice() {
                [] => format!("write it into `path`, like `/{{{wanted}}}/*`"),
                names => format!("it has {}", listed(names)),
            };
            problems.error(&when.span, message).hint(hint);
        }
    }
    let text = format!("the condition `{}`", when.text());
    let check = Check::When(When::new(when.value.clone(), parameters));
    add(rules, problems, &when.span, text, check);
}

/// All parts of one alternative, and its text.
fn compile_alternative(raw: &RawAlternative) -> (Vec<Check>, String) {
    let mut parts: Vec<(Check, String)> = Vec::new();
    if let Some(role) = &raw.role {
        let check = Check::AnyRole(vec![role.as_str().into()]);
        parts.push((check, format!("the role `{}`", role.as_str())));
    }
    if let Some(scope) = &raw.scope {
        let text = format!("the scope `{}`", scope.as_str());
        parts.push((Check::Scope(scope.value.clone()), text));
    }
    for (path, wanted) in &raw.claims {
        let check = Check::Claim(path.value.clone(), wanted.value.clone());
        parts.push((check, claim_text(path, wanted)));
    }
    if !raw.from.is_empty() {
        let from = networks(&raw.from);
        let text = from_text(&from);
        parts.push((Check::From(from), text));
    }
    let (checks, texts): (Vec<Check>, Vec<String>) = parts.into_iter().unzip();
    (checks, texts.join(" and "))
}
