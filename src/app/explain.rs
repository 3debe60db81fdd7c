//! `passgate explain`: the decision for one request, step by step: a trace that writes down its steps.
//!
//! Input: a described request, and a configuration with its state. Output: the decision that the gateway would make, and its
//! steps as text and as JSON. Invariant: nothing is decided here.

use std::fmt::Write as _;
use std::io::BufRead as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::Failure;
use super::build::Current;
use super::config::load;
use super::config_tests;
use super::offline::offline;
use crate::authorize::Auth;
use crate::forward::RequestBody;
use crate::gateway::{
    Allowed, Credentials, Decision, Gateway, Matched, Rejection, RequestHead, Route, Sender, Trace,
    decide_at_once, is_sent_to_sign_in, rewrite,
};
use crate::http::headers::{Host, request_host};
use crate::http::origin;
use crate::http::reply;
use crate::http::target::MAX_TARGET_BYTES;
use crate::identity::{Caller, SESSION_ISSUER};
use crate::login::Place;
use crate::refusal::Refusal;
use crate::values::RequestLine;
use crate::verify;

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
    /// The address of the client.
    pub from: Option<IpAddr>,
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
    let settings = Arc::clone(&plan.settings);
    let (url, max_header_bytes) = (&settings.public_url, settings.limits.max_header_bytes);
    let line = RequestLine::parse(&question.method, &question.url).map_err(usage)?;
    let headers = read_headers(&question.headers)?;
    let (parts, mut sender) = config_tests::head(&line, url, headers, url.is_tls(), question.from);
    let asks_by_tls = line.is_https && settings.tls.is_some();
    sender.server_name = line.host.as_ref().filter(|_| asks_by_tls).map(Host::name);
    let current = offline(plan, file)?;
    let gateway = &*current.gateway;
    let credentials = match &question.subject {
        Some(subject) => {
            let claims = question.claims.iter().cloned().collect();
            let (roles, scopes) = (question.roles.clone(), question.scopes.clone());
            let identity = config_tests::identity(SESSION_ISSUER, subject, roles, scopes, claims);
            Credentials::Given(Some(Arc::new(Caller::new(identity))))
        }
        None => Credentials::examined(gateway, current.sessions.as_deref()),
    };

    let mut transcript = Transcript::default();
    let host = request_host(&parts);
    let sign_in = sign_in_address(gateway, host.as_ref().ok());
    let (method, is_browser) = (parts.method.clone(), reply::wants_page(&parts.headers));
    let shown_host = host.as_ref().map_or("(refused)", Host::as_sent);
    transcript.line(format_args!(
        "{method} {} on host {shown_host}",
        shown_target(&parts.uri)
    ));
    let outcome = transcript.decide(&current, max_header_bytes, parts, host, sender, &credentials);

    let (mut status, mut reason) = (None, None);
    let (route, told) = match &outcome {
        Ok(Some((route, told))) => {
            transcript.line(format_args!(
                "allowed: forwarded to upstream `{}`",
                route.upstream.name
            ));
            (Some(*route), Some(told))
        }
        Ok(None) => {
            transcript.line(format_args!("allowed: answered by the gateway itself"));
            (None, None)
        }
        Err(rejection) => {
            let refusal = rejection.refusal;
            let is_redirected = is_sent_to_sign_in(gateway.sign_in.is_some(), &method, is_browser, rejection);
            reason = Some(refusal.reason());
            status = Some(if is_redirected {
                transcript.line(format_args!("refused: 302 to sign in at {sign_in} ({refusal})"));
                StatusCode::FOUND
            } else {
                let status = refusal.status();
                let title = status.canonical_reason().unwrap_or_default();
                transcript.line(format_args!("refused: {} {title} ({refusal})", status.as_u16()));
                status
            });
            (rejection.matched.route(), None)
        }
    };
    let json = json!({
        "decision": if outcome.is_ok() { "allow" } else { "refuse" },
        "status": status.map(|status| status.as_u16()),
        "reason": reason,
        "route": route.map(|route| route.label.to_string()),
        "place": route.map(|route| route.place.to_string()),
        "upstream": told.and(route).map(|route| route.upstream.name.to_string()),
        "request": told.map(|told| &told.request),
        "answer": told.map(|told| &told.answer),
        "steps": transcript.steps,
    });
    Ok(Explanation {
        allowed: outcome.is_ok(),
        text: transcript.text,
        json,
    })
}

/// A query may hold a token, and this text may end up in a ticket.
fn shown_target(uri: &http::Uri) -> String {
    let query = uri.query().map_or("", |_| "?…");
    format!("{}{query}", uri.path())
}

/// The address of the sign-in page: from a host that a route names, a browser is sent to `public_url`.
fn sign_in_address(gateway: &Gateway, host: Option<&Host>) -> String {
    let sites = gateway.sign_in.as_ref().map(|sign_in| &sign_in.sites);
    let origin = sites
        .zip(host)
        .filter(|(sites, host)| matches!(sites.place(host.name()), Place::Named))
        .map_or("", |(sites, _)| sites.public_url());
    format!("{origin}{}/login", gateway.endpoints.prefix())
}

fn usage(error: String) -> Failure {
    Failure::Config(format!("error: {error}\n"))
}

/// The text of a field may hold a token, so that an error does not repeat it.
fn read_headers(texts: &[String]) -> Result<HeaderMap, Failure> {
    let mut lines = Vec::new();
    for text in texts {
        if text != "@-" {
            lines.push(text.clone());
            continue;
        }
        for line in std::io::stdin().lock().lines().take(100) {
            let line = line
                .map_err(|error| usage(format!("cannot read header fields from standard input: {error}")))?;
            lines.extend(Some(line).filter(|line| !line.trim().is_empty()));
        }
    }
    let field = |line: &String| -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
    };
    let wrong = || usage("a header field has the form `Name: value`".to_owned());
    lines.iter().map(|line| field(line).ok_or_else(wrong)).collect()
}

/// What the app gets, and what its answer will be turned into.
struct Forwarded {
    request: Value,
    answer: Value,
}

/// The trace that writes.
#[derive(Default)]
struct Transcript {
    text: String,
    /// What the steps that follow are about.
    part: &'static str,
    steps: Vec<Value>,
}

impl Trace for Transcript {
    const IS_READ: bool = true;

    fn step(&mut self, part: &'static str, passed: bool, detail: impl FnOnce() -> String) {
        self.part(part);
        self.write("  ", passed, &detail());
    }

    fn check(&mut self, check: verify::Step) {
        let text = format!("{}: {}", check.name, check.detail);
        self.write("    ", check.outcome.is_ok(), &text);
    }
}

impl Transcript {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn part(&mut self, part: &'static str) {
        if self.part != part {
            self.part = part;
            self.line(format_args!("{part}"));
        }
    }

    fn write(&mut self, indent: &str, passed: bool, text: &str) {
        self.line(format_args!("{indent}{} {text}", if passed { "✓" } else { "✗" }));
        self.steps
            .push(json!({ "step": self.part, "passed": passed, "detail": text }));
    }

    /// The decision by the gateway's own functions; `None`: the gateway answers itself.
    fn decide<'g>(
        &mut self,
        current: &'g Current,
        max_header_bytes: usize,
        parts: Parts,
        host: Result<Host, Refusal>,
        sender: Sender<'_>,
        credentials: &Credentials<'g>,
    ) -> Result<Option<(&'g Route, Forwarded)>, Box<Rejection<'g>>> {
        let gateway = &*current.gateway;
        // These two limits hold before a request is read: the target's first.
        let target = parts
            .uri
            .path_and_query()
            .map_or(0, |target| target.as_str().len());
        if target > MAX_TARGET_BYTES {
            self.step("target", false, || {
                format!("the target is longer than {MAX_TARGET_BYTES} bytes")
            });
            return Err(Refusal::TargetTooLong.into());
        }
        // Bytes of the head on an HTTP/1.1 connection.
        let field =
            |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
        let fields: usize = parts.headers.iter().map(field).sum();
        let bytes = parts.method.as_str().len() + target + "  HTTP/1.1\r\n\r\n".len() + fields;
        if bytes > max_header_bytes {
            self.step("target", false, || {
                format!("the head has {bytes} bytes, and `max_header_bytes` is {max_header_bytes}")
            });
            return Err(Refusal::HeadersTooLarge.into());
        }
        let head = RequestHead::parse(parts, host, sender, self)?;
        let Decision::Forward(allowed) = decide_at_once(gateway.policy(), &head, credentials, self)? else {
            return Ok(None);
        };
        match self.forwarded(gateway, head, &allowed) {
            Ok(forwarded) => Ok(Some((allowed.route, forwarded))),
            Err(refusal) => {
                self.step("request", false, || {
                    format!("the request cannot be sent to the app: {refusal}")
                });
                Err(Box::new(Rejection {
                    matched: Matched::Route(allowed.route),
                    ..Rejection::new(refusal)
                }))
            }
        }
    }

    /// What the app gets, by the function that rewrites requests.
    fn forwarded(
        &mut self,
        gateway: &Gateway,
        head: RequestHead<'_>,
        allowed: &Allowed<'_>,
    ) -> Result<Forwarded, Refusal> {
        // Which address the client has is not known here unless it is given, nor is the id that the request will have.
        let unknown = HeaderValue::from_static("<unknown>");
        let client = Some(head.client_ip).filter(|client| !client.is_unspecified());
        let client = client.and_then(|client| HeaderValue::try_from(client.to_string()).ok());
        let rewritten_fields = allowed.route.rewritten(&head.target);
        let origin = origin::only(&head.parts.headers).cloned();
        let rewritten = rewrite(gateway, head, allowed, RequestBody::empty(), &unknown)?;
        let mut request = rewritten.outgoing.request;
        request
            .headers_mut()
            .insert("x-forwarded-for", client.unwrap_or(unknown));

        self.part("request");
        let (method, path) = (request.method(), request.uri().path());
        self.line(format_args!("  {method} {}", shown_target(request.uri())));
        let mut fields = Map::new();
        for name in request.headers().keys().filter(|name| **name != HOST) {
            let values = request.headers().get_all(name).iter();
            let texts: Vec<_> = values
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
                .collect();
            let text = if is_secret(gateway, name) {
                "<hidden>".to_owned()
            } else {
                texts.join(", ")
            };
            self.line(format_args!("  {name}: {text}"));
            fields.insert(name.as_str().to_owned(), text.into());
        }

        self.part("answer");
        for (name, what) in &rewritten_fields {
            self.line(format_args!("  {name}: {what}"));
        }
        if rewritten_fields.is_empty() {
            self.line(format_args!("  every field stays as the app sends it"));
        }
        let names: Vec<&str> = rewritten_fields.iter().map(|(name, _)| *name).collect();
        let mut answer = json!({ "rewritten": names });
        let rules = &allowed.route.rules;
        if allowed.permit.caller().is_some() || rules.read_address() {
            self.line(format_args!(
                "  Cache-Control: private, where the app says nothing to caches"
            ));
            answer["cache_control"] = "private".into();
        }
        if rules.auth() != Auth::None && !rules.needs_caller() {
            let vary = gateway.vary.to_str().unwrap_or_default();
            self.line(format_args!("  Vary: {vary} is added"));
            answer["vary"] = vary.into();
        }
        if let Some(cors) = &allowed.route.cors {
            let readable = cors.allowed(origin.as_ref());
            let readable = readable
                .as_ref()
                .map(|origin| String::from_utf8_lossy(origin.as_bytes()));
            match &readable {
                Some(origin) => {
                    let with = if cors.has_credentials() {
                        ", with credentials"
                    } else {
                        ""
                    };
                    self.line(format_args!(
                        "  Access-Control-Allow-Origin: {origin}{with}; CORS fields of the app are removed"
                    ));
                }
                None => self.line(format_args!(
                    "  CORS fields of the app are removed: no page of another origin may read it"
                )),
            }
            answer["access_control_allow_origin"] = readable.into();
        }
        if allowed.route.security_headers {
            self.line(format_args!(
                "  security headers that the app does not send are added"
            ));
            answer["security_headers"] = true.into();
        }
        Ok(Forwarded {
            request: json!({ "method": method.as_str(), "path": path, "headers": fields }),
            answer,
        })
    }
}

/// Whether a field may hold a credential, or the gateway's own mark.
fn is_secret(gateway: &Gateway, name: &HeaderName) -> bool {
    let mut sources = gateway.sources.as_slice().iter();
    [AUTHORIZATION, COOKIE].contains(name)
        || name.as_str() == "cdn-loop"
        || gateway.naming.assertion_header() == Some(name)
        || sources.any(|source| source.header_name() == Some(name))
}
