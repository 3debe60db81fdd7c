//! A request that was only described (in `[[tests]]`, or to `explain`): the same matching and the same rules as for a
//! real one, without a connection.

use std::sync::Arc;

use http::{Method, Uri};
use serde_json::{Map, Value};

use super::config::Plan;
use crate::authorize::Auth;
use crate::clock::UnixSeconds;
use crate::config::Problems;
use crate::config::raw::{RawClaim, RawExpect, RawTestCaller};
use crate::gateway::{self, Route};
use crate::http::headers::Host;
use crate::http::target::Target;
use crate::identity::{Caller, Identity, SESSION_ISSUER};
use crate::login;
use crate::refusal::Refusal;

/// A method, a host and a target.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) host: Host,
    pub(super) uri: Uri,
}

impl Asked {
    /// `url` is a path, which stands on the host of `public_url`, or `http://host/path`.
    pub(super) fn parse(method: &str, url: &str, public_url: &str) -> Result<Self, String> {
        let method = Method::try_from(method).map_err(|_| format!("`{method}` is not a method"))?;
        let url = url.split_once('#').map_or(url, |(url, _)| url);
        let (authority, target) = match url.split_once("://") {
            Some((_, rest)) => match rest.find(['/', '?']) {
                Some(end) => (rest[..end].to_owned(), rest[end..].to_owned()),
                None => (rest.to_owned(), "/".to_owned()),
            },
            None => (
                public_url
                    .split_once("://")
                    .map_or(public_url, |(_, host)| host)
                    .to_owned(),
                url.to_owned(),
            ),
        };
        let target = if target.starts_with('?') {
            format!("/{target}")
        } else {
            target
        };
        if !target.starts_with('/') {
            return Err(format!(
                "`{url}` is neither a path that starts with `/` nor a URL"
            ));
        }
        let uri =
            Uri::try_from(target).map_err(|error| format!("`{url}` is no target of a request: {error}"))?;
        let host = Host::parse(&authority).map_err(|_| format!("`{authority}` is not a host"))?;
        Ok(Self { method, host, uri })
    }
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    pub(super) route: Option<&'a Route>,
    pub(super) refusal: Option<Refusal>,
    pub(super) rule: Option<String>,
}

/// Finds the route and asks its rules, with `caller` in place of a credential.
pub(super) fn decide<'a>(plan: &'a Plan, asked: &Asked, caller: Option<Arc<Caller>>) -> Verdict<'a> {
    let refused = |refusal| Verdict {
        route: None,
        refusal: Some(refusal),
        rule: None,
    };
    if matches!(asked.method, Method::CONNECT | Method::TRACE) {
        return refused(Refusal::MethodUnsupported);
    }
    let target = match Target::parse(&asked.uri) {
        Ok(target) => target,
        Err(refusal) => return refused(refusal),
    };
    if let Some(own) = login::find(
        &asked.method,
        &target,
        &plan.settings.own_prefix,
        plan.sign_in.is_some(),
    ) {
        let refusal = match own {
            Err((refusal, _)) => Some(refusal),
            Ok(endpoint) if endpoint.needs_caller() && caller.is_none() => Some(Refusal::CredentialMissing),
            Ok(_) => None,
        };
        return Verdict {
            route: None,
            refusal,
            rule: None,
        };
    }
    let route = match gateway::locate(&plan.routes, asked.host.name(), &target, &asked.method) {
        Ok(route) => route,
        Err(miss) => {
            return Verdict {
                route: miss.route,
                refusal: Some(miss.refusal),
                rule: None,
            };
        }
    };
    let caller = caller.filter(|_| route.rules.auth() != Auth::None);
    match route.rules.decide(caller) {
        Ok(_) => Verdict {
            route: Some(route),
            refusal: None,
            rule: None,
        },
        Err(denial) => Verdict {
            route: Some(route),
            refusal: Some(denial.refusal),
            rule: Some(denial.rule.to_string()),
        },
    }
}

/// Whether a browser gets the way to the sign-in page instead of this refusal.
pub(super) fn is_sent_to_sign_in(plan: &Plan, method: &Method, refusal: Option<Refusal>) -> bool {
    plan.sign_in.is_some()
        && matches!(*method, Method::GET | Method::HEAD)
        && refusal == Some(Refusal::CredentialMissing)
}

/// Runs the file's own tests. What fails is a problem at its line. Returns how many there are.
pub(super) fn run_tests(plan: &Plan, problems: &mut Problems) -> usize {
    for test in &plan.tests {
        let request = &test.value.request;
        let (method, url) = request
            .value
            .split_once(' ')
            .unwrap_or(("GET", request.value.as_str()));
        let asked = match Asked::parse(method, url.trim(), &plan.settings.public_url) {
            Ok(asked) => asked,
            Err(error) => {
                problems
                    .error(&request.span, error)
                    .hint("write it like `GET /path` or `POST https://host/path`");
                continue;
            }
        };
        if let Some(issuer) = test
            .value
            .caller
            .as_ref()
            .and_then(|caller| caller.value.issuer.as_ref())
            && issuer.value != SESSION_ISSUER
            && plan.issuers.by_name(&issuer.value).is_none()
        {
            problems
                .error(&issuer.span, format!("no issuer is called `{}`", issuer.value))
                .hint(format!(
                    "one of `[issuers.*]`, or `{SESSION_ISSUER}` for tokens of the gateway itself"
                ));
            continue;
        }
        let caller = test
            .value
            .caller
            .as_ref()
            .map(|caller| Arc::new(Caller::new(described(&caller.value))));
        let verdict = decide(plan, &asked, caller);
        let status = verdict.refusal.map(|refusal| refusal.status().as_u16());
        let as_expected = match test.value.expect.value {
            RawExpect::Allow => status.is_none(),
            RawExpect::Status(expected) => status == Some(expected),
            RawExpect::Login => is_sent_to_sign_in(plan, &asked.method, verdict.refusal),
        };
        if as_expected {
            continue;
        }
        let came = match verdict.refusal {
            None => "it is allowed".to_owned(),
            Some(refusal) => format!("it is refused with {}, {refusal}", refusal.status().as_u16()),
        };
        let why = match (verdict.rule, verdict.route) {
            (Some(rule), _) => format!(" by {rule}"),
            (None, Some(route)) => format!(" on the route `{}` of {}", route.label, route.place),
            (None, None) => String::new(),
        };
        let problem = problems.error(
            &test.value.expect.span,
            format!("the test `{}` fails", request.value),
        );
        problem.label(format!("{came}{why}")).hint(if test.value.expect.value == RawExpect::Login {
            "a browser that nobody is signed in with is sent to sign in by GET, on a route that needs a caller, where \
             there is a way to sign in (`[password]`)"
        } else {
            "change the rule, or what the test expects of it"
        });
    }
    plan.tests.len()
}

/// The name of the gateway itself among the issuers.
fn described(caller: &RawTestCaller) -> Identity {
    let texts =
        |list: &[crate::config::At<String>]| list.iter().map(|text| text.value.clone()).collect::<Vec<_>>();
    let claims = caller
        .claims
        .iter()
        .fold(Map::new(), |mut claims, (path, value)| {
            let value = match &value.value {
                RawClaim::Text(text) => Value::from(text.as_str()),
                RawClaim::Integer(number) => Value::from(*number),
                RawClaim::Boolean(boolean) => Value::from(*boolean),
            };
            claims.insert(path.as_str().to_owned(), value);
            claims
        });
    let subject = caller
        .subject
        .as_ref()
        .map_or("test", |subject| subject.value.as_str());
    let issuer = caller
        .issuer
        .as_ref()
        .map_or(SESSION_ISSUER, |issuer| issuer.value.as_str());
    identity(
        issuer,
        subject,
        texts(&caller.roles),
        caller
            .scopes
            .iter()
            .map(|scope| scope.as_str().to_owned())
            .collect(),
        claims,
    )
}

/// A caller without a token.
pub(super) fn identity(
    issuer: &str,
    subject: &str,
    roles: Vec<String>,
    scopes: Vec<String>,
    claims: Map<String, Value>,
) -> Identity {
    Identity {
        issuer: issuer.into(),
        subject: subject.to_owned(),
        email: claims.get("email").and_then(Value::as_str).map(str::to_owned),
        name: claims.get("name").and_then(Value::as_str).map(str::to_owned),
        roles,
        scopes,
        token_id: None,
        session_id: None,
        issued_at: None,
        expires_at: UnixSeconds::MAX,
        claims,
    }
}
