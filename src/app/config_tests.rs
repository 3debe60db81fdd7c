//! A request that is only described, in `[[tests]]` or to `explain`, and the file's own tests.
//!
//! Input: a method, a URL, and a caller in place of a credential. Output: the decision of the gateway about it, and a problem
//! for each test that expects another one.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use super::config::Plan;
use crate::clock::{Clock, UnixSeconds};
use crate::config::Problems;
use crate::config::raw::{RawClaim, RawExpect, RawTestCaller};
use crate::gateway::{
    Credentials, Decision, Policy, Rejection, RequestHead, Sender, Silent, decide_at_once, is_sent_to_sign_in,
};
use crate::http::headers::{Host, request_host};
use crate::http::url::Url;
use crate::identity::{Caller, Identity, PROVIDER_CLAIM, SESSION_ISSUER};
use crate::identity_headers::{Peer, TrustedProxies};
use crate::values::RequestLine;

/// The head of the request with these fields, from a peer of which only the scheme is known, and the address where it is
/// given.
pub(super) fn head(
    line: &RequestLine,
    public_url: &Url,
    mut headers: HeaderMap,
    is_https: bool,
    from: Option<IpAddr>,
) -> (Parts, Sender<'static>) {
    let ours = || Host::parse(public_url.authority()).ok();
    if let Some(host) = line.host.clone().or_else(ours) {
        headers.entry(HOST).or_insert(host.as_value());
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    (parts.method, parts.uri, parts.headers) = (line.method.clone(), line.uri.clone(), headers);
    let client_ip = from.map_or(Ipv4Addr::UNSPECIFIED.into(), |from| from.to_canonical());
    let peer = Peer::new(client_ip, is_https, &TrustedProxies::default());
    let sender = Sender {
        peer: Cow::Owned(peer),
        client_ip,
        server_name: None,
    };
    (parts, sender)
}

/// Decides about a described request with `caller` in place of a credential.
pub(super) fn decide<'a>(
    plan: &'a Plan,
    line: &RequestLine,
    origin: Option<&Url>,
    caller: Option<Arc<Caller>>,
    from: Option<IpAddr>,
    now: UnixSeconds,
    ignores_maintenance: bool,
) -> Result<Decision<'a>, Box<Rejection<'a>>> {
    let policy = Policy {
        routes: &plan.routes,
        own_prefix: &plan.settings.own_prefix,
        aliases: plan.settings.aliases,
        has_sign_in: plan.sign_in.is_some(),
        public_https: plan.settings.public_https,
        origins: &plan.settings.origins,
        forwards: false,
        proxies: &plan.settings.trusted_proxies,
        now,
        rate_limits: None,
        ignores_maintenance,
    };
    let mut headers = HeaderMap::new();
    if let Some(origin) = origin.and_then(|origin| HeaderValue::from_str(origin.as_str()).ok()) {
        headers.insert(ORIGIN, origin);
    }
    let (parts, sender) = head(line, &plan.settings.public_url, headers, false, from);
    let host = request_host(&parts);
    let head = RequestHead::parse(parts, host, sender, &mut Silent)?;
    decide_at_once(policy, &head, &Credentials::Given(caller), &mut Silent)
}

/// Runs the file's own tests. What fails is a problem at its line. Returns how many there are.
pub(super) fn run_tests(plan: &Plan, problems: &mut Problems) -> usize {
    let now = Clock::system().now();
    for test in &plan.tests {
        let request = &test.request;
        let caller = test.caller.as_ref();
        if let Some(issuer) = caller.and_then(|caller| caller.issuer.as_ref())
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
        let from = caller.and_then(|caller| Some(caller.from.as_ref()?.value));
        let caller = caller.filter(|caller| caller.is_caller);
        let caller = caller.map(|caller| Arc::new(Caller::new(described(caller, now))));
        let origin = test.origin.as_ref().map(|origin| &origin.value);
        // Tests are about the rules, and those hold again after the maintenance.
        let ignores_maintenance = test.expect.value != RawExpect::Status(503);
        let decision = decide(plan, request, origin, caller, from, now, ignores_maintenance);
        let refusal = decision.as_ref().err().map(|rejection| rejection.refusal);
        let status = refusal.map(|refusal| refusal.status().as_u16());
        let as_expected = match test.expect.value {
            RawExpect::Allow => status.is_none(),
            RawExpect::Status(expected) => status == Some(expected),
            RawExpect::Login => decision.as_ref().is_err_and(|rejection| {
                is_sent_to_sign_in(plan.sign_in.is_some(), &request.method, true, rejection)
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
            Ok(Decision::Builtin(..) | Decision::ForwardAuth(_)) => (None, None),
            Ok(Decision::Preflight(route)) => (None, Some(route)),
            Err(rejection) => (rejection.rule, rejection.matched.route()),
        };
        let why = match (rule, route) {
            (Some(rule), _) => format!(" by {rule}"),
            (None, Some(route)) => format!(" on the route `{}` of {}", route.label, route.place),
            (None, None) => String::new(),
        };
        let problem = problems.error(&test.expect.span, format!("the test `{}` fails", request.value));
        problem.label(format!("{came}{why}")).hint(if test.expect.value == RawExpect::Login {
            "`login` needs a GET or HEAD request without `as`, on a route with `auth = \"required\"`, or one whose `acr`, `max_age` or \
             `provider` refuses `as`, and a way to sign in (`[password]` or `[providers.*]`)"
        } else {
            "change the rule, or what the test expects of it"
        });
    }
    plan.tests.len()
}

/// The name of the gateway itself among the issuers.
fn described(caller: &RawTestCaller, now: UnixSeconds) -> Identity {
    let texts = |list: &[crate::config::Spanned<String>]| {
        list.iter().map(|text| text.value.clone()).collect::<Vec<_>>()
    };
    let mut claims = caller
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
    let mut state = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            claims.insert(name.to_owned(), value);
        }
    };
    state("acr", caller.acr.as_ref().map(|acr| acr.as_str().into()));
    let ago = caller
        .signed_in
        .as_ref()
        .map(|ago| i64::try_from(ago.as_secs()).unwrap_or(i64::MAX));
    state("auth_time", ago.map(|ago| now.saturating_sub(ago).into()));
    let provider = caller.provider.as_ref();
    state(PROVIDER_CLAIM, provider.map(|name| name.as_str().into()));
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
