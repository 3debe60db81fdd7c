//! A request that is only described, in `[[tests]]` or to `explain`, and the file's own tests.
//!
//! Input: a method, a URL, and a caller in place of a credential. Output: the decision of the gateway about it, and a problem
//! for each test that expects another one.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value};

use super::config::Plan;
use crate::clock::UnixSeconds;
use crate::config::Problems;
use crate::config::raw::{RawClaim, RawExpect, RawTestCaller};
use crate::gateway::{
    Credentials, Decision, Policy, Rejection, RequestHead, Sender, Silent, decide_at_once, is_sent_to_sign_in,
};
use crate::http::headers::{Host, request_host};
use crate::http::url::{self, Url};
use crate::identity::{Caller, Identity, SESSION_ISSUER};
use crate::identity_headers::{Peer, TrustedProxies};

/// A method, a host and a target.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) host: Host,
    pub(super) uri: Uri,
    /// The name that a client asks for in TLS; `None` where the URL is not `https://`.
    pub(super) server_name: Option<String>,
}

impl Asked {
    /// `url` is a path on the host of `public_url`, or `http://host/path`.
    pub(super) fn parse(method: &str, url: &str, public_url: &Url) -> Result<Self, String> {
        let method = Method::try_from(method).map_err(|_| format!("`{method}` is not a method"))?;
        let url = url.split_once('#').map_or(url, |(url, _)| url);
        // Not as strict as a `Url`: what the gateway says of an odd target is to be seen.
        let (authority, target) = match url::split(url) {
            Some((_, authority, "")) => (authority, "/"),
            Some((_, authority, rest)) => (authority, rest),
            None => (public_url.authority(), url),
        };
        let slash = if target.starts_with('?') { "/" } else { "" };
        let target = format!("{slash}{target}");
        if !target.starts_with('/') {
            return Err(format!(
                "`{url}` is neither a path that starts with `/` nor a URL"
            ));
        }
        let uri =
            Uri::try_from(target).map_err(|error| format!("`{url}` is no target of a request: {error}"))?;
        let host = Host::parse(authority).map_err(|_| format!("`{authority}` is not a host"))?;
        let is_https = url.starts_with("https://");
        Ok(Self {
            method,
            server_name: is_https.then(|| host.name().to_owned()),
            host,
            uri,
        })
    }

    /// The head of the request with these fields, from a peer of which only the scheme is known.
    pub(super) fn into_parts(self, mut headers: HeaderMap, is_https: bool) -> (Parts, Sender<'static>) {
        headers.entry(HOST).or_insert(self.host.as_value());
        let (mut parts, ()) = http::Request::new(()).into_parts();
        (parts.method, parts.uri, parts.headers) = (self.method, self.uri, headers);
        let unknown = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let peer = Peer::new(unknown, is_https, &TrustedProxies::default());
        let sender = Sender {
            peer: Cow::Owned(peer),
            client_ip: unknown,
            server_name: None,
        };
        (parts, sender)
    }
}

/// Decides about a described request with `caller` in place of a credential.
pub(super) fn decide<'a>(
    plan: &'a Plan,
    asked: Asked,
    caller: Option<Arc<Caller>>,
) -> Result<Decision<'a>, Box<Rejection<'a>>> {
    let policy = Policy {
        routes: &plan.routes,
        own_prefix: &plan.settings.own_prefix,
        has_sign_in: plan.sign_in.is_some(),
        public_https: plan.settings.public_https,
    };
    let (parts, sender) = asked.into_parts(HeaderMap::new(), false);
    let host = request_host(&parts);
    let head = RequestHead::parse(parts, host, sender, &mut Silent)?;
    decide_at_once(policy, &head, &Credentials::Given(caller), &mut Silent)
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
        let asked_method = asked.method.clone();
        let decision = decide(plan, asked, caller);
        let refusal = decision.as_ref().err().map(|rejection| rejection.refusal);
        let status = refusal.map(|refusal| refusal.status().as_u16());
        let as_expected = match test.value.expect.value {
            RawExpect::Allow => status.is_none(),
            RawExpect::Status(expected) => status == Some(expected),
            RawExpect::Login => refusal.is_some_and(|refusal| {
                is_sent_to_sign_in(plan.sign_in.is_some(), &asked_method, true, refusal)
            }),
        };
        if as_expected {
            continue;
        }
        let came = match refusal {
            None => "it is allowed".to_owned(),
            Some(refusal) => format!("it is refused with {}, {refusal}", refusal.status().as_u16()),
        };
        let (rule, route) = match decision {
            Ok(Decision::Forward(allowed)) => (None, Some(allowed.route)),
            Ok(Decision::Builtin(..)) => (None, None),
            Err(rejection) => (rejection.rule, rejection.matched.route()),
        };
        let why = match (rule, route) {
            (Some(rule), _) => format!(" by {rule}"),
            (None, Some(route)) => format!(" on the route `{}` of {}", route.label, route.place),
            (None, None) => String::new(),
        };
        let problem = problems.error(
            &test.value.expect.span,
            format!("the test `{}` fails", request.value),
        );
        problem.label(format!("{came}{why}")).hint(if test.value.expect.value == RawExpect::Login {
            "`login` needs a GET or HEAD request without `as`, on a route with `auth = \"required\"`, and a way to sign in \
             (`[password]`)"
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
