//! `passgate explain`: the whole decision for one request, step by step, by the same functions that decide real ones.

use std::fmt::Write as _;
use std::io::BufRead as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};

use super::Failure;
use super::build::Current;
use super::config::load;
use super::config_tests::{self, Asked};
use super::offline::offline;
use crate::authorize::{Auth, Permit};
use crate::credential::{Found as Read, Kind, Source};
use crate::gateway::{Gateway, Outgoing, Route, locate};
use crate::http::headers::{Host, drop_hop_by_hop};
use crate::http::target::Target;
use crate::http::{origin, reply};
use crate::identity::{Caller, Identity, SESSION_ISSUER};
use crate::identity_headers::{Peer, TrustedProxies};
use crate::login::{self, Endpoint};
use crate::refusal::Refusal;
use crate::verify::{Verified, Verifier};

/// The request to be explained.
#[derive(Debug)]
pub struct ExplainRequest {
    /// The method.
    pub method: String,
    /// A path or a URL.
    pub url: String,
    /// `Name: value` each, or `@-`.
    pub headers: Vec<String>,
    /// Who asks, without a token.
    pub subject: Option<String>,
    /// Their roles.
    pub roles: Vec<String>,
    /// Their scopes.
    pub scopes: Vec<String>,
    /// Their further claims, by path.
    pub claims: Vec<(String, Value)>,
}

/// The decision.
#[derive(Debug)]
pub struct Explanation {
    /// Whether the app, or whatever of the gateway itself is there, would get the request.
    pub allowed: bool,
    /// All steps, for people.
    pub text: String,
    /// The same for programs.
    pub json: Value,
}

/// Explains the decision for `question` with the configuration in `file`, without the network: keys of issuers are those
/// in files, and those that a gateway with this state has fetched.
///
/// # Errors
/// The file, the state or the question cannot be used.
pub fn explain(file: &Path, question: &ExplainRequest) -> Result<Explanation, Failure> {
    let (plan, _) = load(file)?;
    let asked = Asked::parse(&question.method, &question.url, &plan.settings.public_url).map_err(usage)?;
    let headers = read_headers(&question.headers)?;
    let mut talk = Transcript::default();
    let is_https = plan.settings.public_url.starts_with("https://");
    let identity = question.subject.as_ref().map(|subject| {
        let claims = question.claims.iter().cloned().collect();
        config_tests::identity(
            SESSION_ISSUER,
            subject,
            question.roles.clone(),
            question.scopes.clone(),
            claims,
        )
    });
    let current = offline(plan, file)?;
    let outcome = talk.decide(&current, &asked, &headers, identity);
    let (decision, status, reason) = match &outcome {
        Ok(_) => ("allow", None, None),
        Err(refusal) => {
            let is_sent_to_sign_in = *refusal == Refusal::CredentialMissing
                && current.gateway.sign_in.is_some()
                && matches!(asked.method, Method::GET | Method::HEAD)
                && reply::wants_page(&headers);
            let status = if is_sent_to_sign_in {
                StatusCode::FOUND
            } else {
                refusal.status()
            };
            ("refuse", Some(status), Some(refusal.reason()))
        }
    };
    let (mut request, mut answer) = (Value::Null, Value::Null);
    match &outcome {
        Ok(Some(way)) => {
            match talk.forwarded(&current.gateway, way, &asked, headers, is_https) {
                Ok(told) => (request, answer) = told,
                Err(refusal) => talk.step(
                    false,
                    format_args!("the request cannot be sent to the app: {refusal}"),
                ),
            }
            talk.line(format_args!(
                "allowed: forwarded to upstream `{}`",
                way.route.upstream.name
            ));
        }
        Ok(None) => talk.line(format_args!("allowed: answered by the gateway itself")),
        Err(refusal) if status == Some(StatusCode::FOUND) => {
            let prefix = current.gateway.endpoints.prefix();
            talk.line(format_args!(
                "refused: 302 to sign in at {}{prefix}/login ({refusal})",
                sign_in_origin(&current.gateway, &asked, &headers)
            ));
        }
        Err(refusal) => talk.line(format_args!(
            "refused: {} {} ({refusal})",
            refusal.status().as_u16(),
            refusal.status().canonical_reason().unwrap_or_default()
        )),
    }
    let route = talk.route.take();
    let json = json!({
        "decision": decision,
        "status": status.map(|status| status.as_u16()),
        "reason": reason,
        "route": route.as_ref().map(|(label, _)| label),
        "place": route.as_ref().map(|(_, place)| place),
        "upstream": outcome.as_ref().ok().and_then(Option::as_ref).map(|way| &*way.route.upstream.name),
        "request": request,
        "answer": answer,
        "steps": talk.steps,
    });
    Ok(Explanation {
        allowed: outcome.is_ok(),
        text: talk.text,
        json,
    })
}

/// From a host that a route names, a browser is sent to `public_url`.
fn sign_in_origin<'a>(gateway: &'a Gateway, asked: &Asked, headers: &HeaderMap) -> &'a str {
    let host = headers
        .get(HOST)
        .and_then(|host| Host::parse(host.to_str().ok()?).ok());
    let place = |sites: &login::Sites| sites.place(host.as_ref().unwrap_or(&asked.host).name());
    match &gateway.sign_in {
        Some(sign_in) if place(&sign_in.sites) == login::Place::Named => sign_in.sites.public_url(),
        _ => "",
    }
}

fn usage(error: String) -> Failure {
    Failure::Config(format!("error: {error}\n"))
}

fn read_headers(texts: &[String]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for text in texts {
        if text == "@-" {
            for line in std::io::stdin().lock().lines().take(100) {
                let line = line.map_err(|error| {
                    usage(format!("cannot read header fields from standard input: {error}"))
                })?;
                if !line.trim().is_empty() {
                    add_header(&mut headers, &line)?;
                }
            }
        } else {
            add_header(&mut headers, text)?;
        }
    }
    Ok(headers)
}

/// The text of a field may hold a token, so that an error does not repeat it.
fn add_header(headers: &mut HeaderMap, text: &str) -> Result<(), Failure> {
    let wrong = |_| usage("a header field has the form `Name: value`".to_owned());
    let (name, value) = text.split_once(':').ok_or(()).map_err(wrong)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| ()).map_err(wrong)?;
    let value = HeaderValue::try_from(value.trim())
        .map_err(|_| ())
        .map_err(wrong)?;
    headers.append(name, value);
    Ok(())
}

/// What was decided for a request that an app gets.
struct Way<'a> {
    route: &'a Route,
    permit: Permit,
    /// Where the token was.
    source: Option<&'a Source>,
    target: Target,
    host: Host,
}

/// Who asks, and where the token was.
type Found<'a> = Option<(Arc<Caller>, Option<&'a Source>)>;

#[derive(Default)]
struct Transcript {
    text: String,
    /// What the steps that follow are about.
    part: &'static str,
    steps: Vec<Value>,
    /// The route's label, and its line.
    route: Option<(String, String)>,
}

impl Transcript {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn part(&mut self, part: &'static str) {
        self.part = part;
        self.line(format_args!("{part}"));
    }

    fn step(&mut self, passed: bool, what: std::fmt::Arguments<'_>) {
        self.step_at("  ", passed, what);
    }

    fn step_at(&mut self, indent: &str, passed: bool, what: std::fmt::Arguments<'_>) {
        self.line(format_args!("{indent}{} {what}", if passed { "✓" } else { "✗" }));
        self.steps
            .push(json!({ "step": self.part, "passed": passed, "detail": what.to_string() }));
    }

    /// What the app gets, and what its answer will be turned into, by the functions that do it.
    fn forwarded(
        &mut self,
        gateway: &Gateway,
        way: &Way<'_>,
        asked: &Asked,
        mut headers: HeaderMap,
        is_https: bool,
    ) -> Result<(Value, Value), Refusal> {
        headers.remove(HOST);
        // Which address the client has is not known here, nor is the id that the request will have.
        let peer = Peer::new(
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            is_https,
            &TrustedProxies::default(),
        );
        let unknown = HeaderValue::from_static("<unknown>");
        drop_hop_by_hop(&mut headers, gateway.naming.trusted_headers());
        let kept = way.source.filter(|_| way.route.forward_credential);
        let caller = Outgoing {
            gateway,
            peer: &peer,
            route: way.route,
            permit: &way.permit,
            kept,
            target: &way.target,
        };
        let sent = caller.rewrite(&way.host.as_value(), &unknown, &mut headers)?;
        headers.insert("x-forwarded-for", unknown);

        self.part("request");
        let query = if sent.query().is_some() { "?…" } else { "" };
        self.line(format_args!("  {} {}{query}", asked.method, sent.path()));
        let is_secret = |name: &HeaderName| {
            [AUTHORIZATION, COOKIE].contains(name)
                || name.as_str() == "cdn-loop"
                || gateway.naming.assertion_header() == Some(name)
                || gateway
                    .sources
                    .as_slice()
                    .iter()
                    .any(|source| source.header_name() == Some(name))
        };
        let mut fields = Map::new();
        for name in headers.keys() {
            let values = headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()));
            let text = if is_secret(name) {
                "<hidden>".to_owned()
            } else {
                values.collect::<Vec<_>>().join(", ")
            };
            self.line(format_args!("  {name}: {text}"));
            fields.insert(name.as_str().to_owned(), text.into());
        }
        let request = json!({ "method": asked.method.as_str(), "path": sent.path(), "headers": fields });

        self.part("answer");
        let rewritten = way.route.rewritten(&way.target);
        let names: Vec<&str> = rewritten.iter().map(|(name, _)| *name).collect();
        for (name, what) in &rewritten {
            self.line(format_args!("  {name}: {what}"));
        }
        if rewritten.is_empty() {
            self.line(format_args!("  every field stays as the app sends it"));
        }
        let mut answer = json!({ "rewritten": names });
        if way.permit.caller().is_some() {
            self.line(format_args!(
                "  Cache-Control: private, where the app says nothing to caches"
            ));
            answer["cache_control"] = "private".into();
        }
        if way.route.rules.auth() == Auth::Optional {
            let vary = gateway.vary.to_str().unwrap_or_default();
            self.line(format_args!("  Vary: {vary} is added"));
            answer["vary"] = vary.into();
        }
        Ok((request, answer))
    }

    fn decide<'a>(
        &mut self,
        current: &'a Current,
        asked: &Asked,
        headers: &HeaderMap,
        identity: Option<Identity>,
    ) -> Result<Option<Way<'a>>, Refusal> {
        let gateway = &*current.gateway;
        let host = match headers.get(HOST) {
            Some(host) => Host::parse(host.to_str().map_err(|_| Refusal::HostInvalid)?)?,
            None => asked.host.clone(),
        };
        // A query may hold a token, and this text may end up in a ticket.
        let query = if asked.uri.query().is_some() { "?…" } else { "" };
        self.line(format_args!(
            "{} {}{query} on host {}",
            asked.method,
            asked.uri.path(),
            host.as_sent()
        ));
        if matches!(asked.method, Method::CONNECT | Method::TRACE) {
            self.step(false, format_args!("{} is never forwarded", asked.method));
            return Err(Refusal::MethodUnsupported);
        }

        self.part("target");
        let target = Target::parse(&asked.uri).inspect_err(|refusal| {
            self.step(
                false,
                format_args!("the path is refused on every route: {refusal}"),
            );
        })?;
        self.step(true, format_args!("canonical path {}", target.path()));

        self.part("route");
        let prefix = gateway.endpoints.prefix();
        if let Some(found) = login::find(&asked.method, &target, prefix, gateway.sign_in.is_some()) {
            self.step(
                found.is_ok(),
                format_args!("the gateway itself answers here; no app gets this request"),
            );
            let endpoint = found.map_err(|(refusal, _)| refusal)?;
            return self
                .decide_own(current, &endpoint, asked, &host, headers, &target, identity)
                .map(|()| None);
        }
        let route = locate(&gateway.routes, host.name(), &target, &asked.method).map_err(|miss| {
            self.route = miss
                .route
                .map(|route| (route.label.to_string(), route.place.to_string()));
            match (miss.route, miss.allow) {
                (Some(route), Some(allow)) => {
                    let allow = allow.to_str().unwrap_or_default();
                    self.step(
                        false,
                        format_args!(
                            "{} ({}) covers the path, for {allow} only",
                            route.label, route.place
                        ),
                    );
                }
                (Some(route), None) => self.step(
                    false,
                    format_args!(
                        "{} ({}) does not accept a path spelled like this: {}",
                        route.label, route.place, miss.refusal
                    ),
                ),
                (None, _) => self.step(false, format_args!("no route covers this path on this host")),
            }
            miss.refusal
        })?;
        self.step(true, format_args!("{} ({})", route.label, route.place));
        self.route = Some((route.label.to_string(), route.place.to_string()));

        self.part("credential");
        let found = match identity {
            _ if route.rules.auth() == Auth::None => {
                self.step(true, format_args!("`auth = \"none\"`: none is looked for"));
                None
            }
            Some(identity) => {
                self.step(
                    true,
                    format_args!("asked as `{}`, without a token", identity.subject),
                );
                Some((Arc::new(Caller::new(identity)), None))
            }
            None => self.identify(current, asked, &host, headers, target.query())?,
        };
        let (caller, source) = found.unzip();

        self.part("rules");
        for step in route.rules.steps(caller.as_deref()) {
            self.step(step.passed(), format_args!("{}: {}", step.rule, step.detail));
        }
        let permit = route.rules.decide(caller).map_err(|denial| denial.refusal)?;
        Ok(Some(Way {
            route,
            permit,
            source: source.flatten(),
            target,
            host,
        }))
    }

    /// What an endpoint of ours asks for before it looks at what was sent.
    #[allow(clippy::too_many_arguments)] // all that there is to a request
    fn decide_own(
        &mut self,
        current: &Current,
        endpoint: &Endpoint,
        asked: &Asked,
        host: &Host,
        headers: &HeaderMap,
        target: &Target,
        identity: Option<Identity>,
    ) -> Result<(), Refusal> {
        if !endpoint.needs_caller() {
            return self.check_origin(current, asked, host, headers);
        }
        self.part("credential");
        let caller = match identity {
            Some(identity) => {
                self.step(
                    true,
                    format_args!("asked as `{}`, without a token", identity.subject),
                );
                Some((Arc::new(Caller::new(identity)), None))
            }
            None => self.identify(current, asked, host, headers, target.query())?,
        };
        self.check_origin(current, asked, host, headers)?;
        match caller {
            Some(_) => Ok(()),
            None => {
                self.step(
                    false,
                    format_args!("there is nothing here for who is not signed in"),
                );
                Err(Refusal::CredentialMissing)
            }
        }
    }

    fn identify<'a>(
        &mut self,
        current: &'a Current,
        asked: &Asked,
        host: &Host,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Found<'a>, Refusal> {
        let gateway = &*current.gateway;
        for (source, found) in gateway.sources.each(headers, query) {
            match found {
                Read::Absent(why) => self.step(true, format_args!("{source}: {why}")),
                Read::Refused(refusal) => {
                    self.step(false, format_args!("{source}: {refusal}"));
                    return Err(refusal);
                }
                Read::Token(token) => {
                    self.step(true, format_args!("{source}: a token"));
                    match self.examine(&gateway.verifier, &token, gateway) {
                        Ok(verified) => {
                            if source.kind() == Kind::Cookie {
                                self.check_origin(current, asked, host, headers)?;
                            }
                            return Ok(Some((Arc::clone(&verified.caller), Some(source))));
                        }
                        Err(refusal) if source.kind() == Kind::Cookie && refusal.is_invalid_token() => {
                            self.step(true, format_args!("a bad cookie is as good as none ({refusal})"));
                        }
                        Err(refusal) => return Err(refusal),
                    }
                }
            }
        }
        let caller = self.identify_session(current, asked, host, headers)?;
        Ok(caller.map(|caller| (caller, None)))
    }

    /// The session cookie, which is looked at last.
    fn identify_session(
        &mut self,
        current: &Current,
        asked: &Asked,
        host: &Host,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<Caller>>, Refusal> {
        let gateway = &*current.gateway;
        let Some(sign_in) = &gateway.sign_in else {
            return Ok(None);
        };
        let token = match sign_in.find(headers) {
            Ok(Some(token)) => token,
            Ok(None) => {
                self.step(
                    true,
                    format_args!("session cookie `{}`: there is no such cookie", sign_in.cookie),
                );
                return Ok(None);
            }
            Err(_) => {
                self.step(
                    true,
                    format_args!(
                        "session cookie `{}`: several, or no text; as good as none",
                        sign_in.cookie
                    ),
                );
                return Ok(None);
            }
        };
        self.step(true, format_args!("session cookie `{}`: a token", sign_in.cookie));
        match self.examine(&sign_in.verifier, token, gateway) {
            Ok(verified) if !sign_in.counts_on(&verified, host.name()) => {
                self.step(
                    true,
                    format_args!("it is for another host, and is as good as none"),
                );
                Ok(None)
            }
            Ok(verified) => {
                self.check_origin(current, asked, host, headers)?;
                Ok(Some(Arc::clone(&verified.caller)))
            }
            Err(Refusal::Expired | Refusal::Stale) => match self.renewed(current, token, host)? {
                Some(caller) => {
                    self.check_origin(current, asked, host, headers)?;
                    Ok(Some(caller))
                }
                None => Ok(None),
            },
            Err(refusal) if refusal.is_invalid_token() => {
                self.step(true, format_args!("a bad cookie is as good as none ({refusal})"));
                Ok(None)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Whom a cookie whose token has expired would be renewed for, with the roles of now.
    fn renewed(
        &mut self,
        current: &Current,
        token: &str,
        host: &Host,
    ) -> Result<Option<Arc<Caller>>, Refusal> {
        let (Some(sign_in), Some(sessions)) = (&current.gateway.sign_in, &current.sessions) else {
            return Ok(None);
        };
        let old = match sign_in
            .verifier
            .verify_expired(token, current.gateway.clock.now())
        {
            Ok(old) => old,
            Err(refusal) if refusal.is_invalid_token() => {
                self.step(
                    true,
                    format_args!("it cannot be renewed, and is as good as none ({refusal})"),
                );
                return Ok(None);
            }
            Err(refusal) => return Err(refusal),
        };
        if !sign_in.counts_on(&old, host.name()) {
            self.step(
                true,
                format_args!("it is for another host, and is as good as none"),
            );
            return Ok(None);
        }
        let mut identity = old.caller.identity.clone();
        let session = identity.session_id.clone().unwrap_or_default();
        let Some(account) = sessions.would_renew(&session, &identity.subject)? else {
            self.step(
                true,
                format_args!("its session is over, so that it is as good as none"),
            );
            return Ok(None);
        };
        self.step(
            true,
            format_args!("its session goes on: the gateway renews it here, with the roles as they are now"),
        );
        (identity.email, identity.name, identity.roles) = (Some(account.email), account.name, account.roles);
        Ok(Some(Arc::new(Caller::new(identity))))
    }

    fn examine(
        &mut self,
        verifier: &Verifier,
        token: &str,
        gateway: &Gateway,
    ) -> Result<Arc<Verified>, Refusal> {
        verifier.examine(token, gateway.clock.now(), &mut |step| {
            self.step_at(
                "    ",
                step.outcome.is_ok(),
                format_args!("{}: {}", step.name, step.detail),
            );
        })
    }

    /// What a cookie proves nothing about: that somebody meant to send it.
    fn check_origin(
        &mut self,
        current: &Current,
        asked: &Asked,
        host: &Host,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        let is_forged = (origin::is_unsafe(&asked.method) || headers.contains_key(http::header::UPGRADE))
            && origin::is_cross_origin(headers, host.as_sent(), current.gateway.public_https);
        if !is_forged {
            return Ok(());
        }
        self.step(
            false,
            format_args!("a page of another origin made the browser send this"),
        );
        Err(Refusal::CrossSite)
    }
}
