//! `passgate explain`: the decision for one request, step by step: a trace that writes down its steps.
//!
//! Input: a described request, and a configuration with its state. Output: the decision that the gateway would make, and its
//! steps as text and as JSON. Invariant: nothing is decided here.

use std::fmt::Write as _;
use std::io::BufRead as _;
use std::path::Path;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::Failure;
use super::build::Current;
use super::config::load;
use super::config_tests::{self, Asked};
use super::offline::offline;
use crate::authorize::Auth;
use crate::forward::{Outgoing, RequestBody};
use crate::gateway::{
    Allowed, Credentials, Decision, Gateway, Matched, Rejection, RequestHead, Route, Sender, Trace,
    decide_at_once, is_sent_to_sign_in, rewrite,
};
use crate::http::headers::{Host, request_host};
use crate::http::reply;
use crate::http::target::MAX_TARGET_BYTES;
use crate::identity::{Caller, SESSION_ISSUER};
use crate::login;
use crate::refusal::Refusal;
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
    let mut asked = Asked::parse(&question.method, &question.url, &settings.public_url).map_err(usage)?;
    let server_name = asked.server_name.take().filter(|_| settings.tls.is_some());
    let (parts, mut sender) =
        asked.into_parts(read_headers(&question.headers)?, settings.public_url.is_tls());
    sender.server_name = server_name.as_deref();
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
    // A query may hold a token, and this text may end up in a ticket.
    let query = if parts.uri.query().is_some() { "?…" } else { "" };
    transcript.line(format_args!(
        "{method} {}{query} on host {}",
        parts.uri.path(),
        host.as_ref().map_or("(refused)", Host::as_sent)
    ));
    let limit = settings.limits.max_header_bytes;
    let outcome = transcript.decide(&current, limit, parts, host, sender, &credentials);

    let (mut route, mut upstream, mut told, mut status, mut reason) = (None, None, None, None, None);
    match &outcome {
        Ok(Some((found, forwarded))) => {
            (route, upstream) = (Some(*found), Some(&*found.upstream.name));
            told = Some(forwarded);
            transcript.line(format_args!(
                "allowed: forwarded to upstream `{}`",
                found.upstream.name
            ));
        }
        Ok(None) => transcript.line(format_args!("allowed: answered by the gateway itself")),
        Err(rejection) => {
            let refusal = rejection.refusal;
            route = rejection.matched.route();
            reason = Some(refusal.reason());
            let has_sign_in = gateway.sign_in.is_some();
            if is_sent_to_sign_in(has_sign_in, &method, is_browser, refusal) {
                status = Some(StatusCode::FOUND);
                transcript.line(format_args!("refused: 302 to sign in at {sign_in} ({refusal})"));
            } else {
                status = Some(refusal.status());
                let title = refusal.status().canonical_reason().unwrap_or_default();
                let number = refusal.status().as_u16();
                transcript.line(format_args!("refused: {number} {title} ({refusal})"));
            }
        }
    }
    let json = json!({
        "decision": if outcome.is_ok() { "allow" } else { "refuse" },
        "status": status.map(|status| status.as_u16()),
        "reason": reason,
        "route": route.map(|route| route.label.to_string()),
        "place": route.map(|route| route.place.to_string()),
        "upstream": upstream,
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

/// The address of the sign-in page: from a host that a route names, a browser is sent to `public_url`.
fn sign_in_address(gateway: &Gateway, host: Option<&Host>) -> String {
    let sites = gateway.sign_in.as_ref().map(|sign_in| &sign_in.sites);
    let origin = sites
        .zip(host)
        .map_or("", |(sites, host)| match sites.place(host.name()) {
            login::Place::Named => sites.public_url(),
            _ => "",
        });
    format!("{origin}{}/login", gateway.endpoints.prefix())
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
        if target_bytes(&parts) > MAX_TARGET_BYTES {
            self.step("target", false, || {
                format!("the target is longer than {MAX_TARGET_BYTES} bytes")
            });
            return Err(Refusal::TargetTooLong.into());
        }
        let bytes = head_bytes(&parts);
        if bytes > max_header_bytes {
            self.step("target", false, || {
                format!("the head has {bytes} bytes, and `max_header_bytes` is {max_header_bytes}")
            });
            return Err(Refusal::HeadersTooLarge.into());
        }
        let head = RequestHead::parse(parts, host, sender, self)?;
        match decide_at_once(gateway.policy(), &head, credentials, self)? {
            Decision::Builtin(..) => Ok(None),
            Decision::Forward(allowed) => {
                let forwarded = self.forwarded(gateway, head, &allowed).map_err(|refusal| {
                    self.step("request", false, || {
                        format!("the request cannot be sent to the app: {refusal}")
                    });
                    Rejection {
                        matched: Matched::Route(allowed.route),
                        ..Rejection::new(refusal)
                    }
                })?;
                Ok(Some((allowed.route, forwarded)))
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
        // Which address the client has is not known here, nor is the id that the request will have.
        let unknown = HeaderValue::from_static("<unknown>");
        let rewritten_fields = allowed.route.rewritten(&head.target);
        let Outgoing { mut request, .. } =
            rewrite(gateway, head, allowed, RequestBody::empty(), &unknown)?.outgoing;
        request.headers_mut().insert("x-forwarded-for", unknown);

        self.part("request");
        let query = if request.uri().query().is_some() {
            "?…"
        } else {
            ""
        };
        let (method, path) = (request.method(), request.uri().path());
        self.line(format_args!("  {method} {path}{query}"));
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
        let names: Vec<&str> = rewritten_fields.iter().map(|(name, _)| *name).collect();
        for (name, what) in &rewritten_fields {
            self.line(format_args!("  {name}: {what}"));
        }
        if rewritten_fields.is_empty() {
            self.line(format_args!("  every field stays as the app sends it"));
        }
        let mut answer = json!({ "rewritten": names });
        if allowed.permit.caller().is_some() {
            self.line(format_args!(
                "  Cache-Control: private, where the app says nothing to caches"
            ));
            answer["cache_control"] = "private".into();
        }
        if allowed.route.rules.auth() == Auth::Optional {
            let vary = gateway.vary.to_str().unwrap_or_default();
            self.line(format_args!("  Vary: {vary} is added"));
            answer["vary"] = vary.into();
        }
        Ok(Forwarded {
            request: json!({ "method": method.as_str(), "path": path, "headers": fields }),
            answer,
        })
    }
}

fn target_bytes(parts: &Parts) -> usize {
    parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len())
}

/// Bytes of the head on an HTTP/1.1 connection.
fn head_bytes(parts: &Parts) -> usize {
    let fields = parts.headers.iter();
    let fields: usize = fields
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    parts.method.as_str().len() + target + "  HTTP/1.1\r\n\r\n".len() + fields
}

/// Whether a field may hold a credential, or the gateway's own mark.
fn is_secret(gateway: &Gateway, name: &HeaderName) -> bool {
    [AUTHORIZATION, COOKIE].contains(name)
        || name.as_str() == "cdn-loop"
        || gateway.naming.assertion_header() == Some(name)
        || gateway
            .sources
            .as_slice()
            .iter()
            .any(|source| source.header_name() == Some(name))
}
