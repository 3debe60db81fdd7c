//! What another proxy asks about: the method, host and URI of a request, as the question says them.
//!
//! Input: the head of a question of a peer that is trusted. Output: a [`Question`] with one meaning. Invariants: method and URI
//! are of one family of fields; what a client can slip in beside them (a field of the other family, a second value) makes
//! the question invalid and never changes its meaning.
//!
//! | proxy | URI | method | host |
//! |---|---|---|---|
//! | nginx, ingress-nginx, HAProxy | `X-Original-URL` | `X-Original-Method` | in the URL |
//! | Traefik, Caddy | `X-Forwarded-Uri` | `X-Forwarded-Method` | `X-Forwarded-Host` |
//! | Envoy | the path behind `/auth/verify` | that of the question | that of the question |
//! | Envoy by gRPC | in the message | in the message | in the message |

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use super::super::Gateway;
use super::super::head::RequestHead;
use super::super::rejection::{Asked, Form};
use super::conditions::{Conditions, Unknown, has_parameter};
use crate::http::headers::Host;
use crate::http::target::Target;
use crate::http::url;
use crate::login::{Asking, Endpoint};
use crate::refusal::Refusal;

/// The parameter of a proxy that hands redirects on to the browser.
const REDIRECT: &str = "redirect";

/// The address of Authelia's portal, in place of which passgate names its own sign-in page.
const OF_AUTHELIA: [&str; 2] = ["authelia_url", "rd"];

/// A request that another proxy asks about.
#[derive(Debug)]
pub(in crate::gateway) struct Question {
    pub(super) method: Method,
    pub(super) host: Host,
    pub(super) target: PathAndQuery,
    pub(super) asking: Asking,
    /// On the caller, besides the rules of the route.
    pub(super) conditions: Conditions,
    /// The form of a refusal.
    pub(super) asked: Asked,
}

impl Question {
    /// Reads the question in `head`.
    ///
    /// # Errors
    /// 400 where the description is not complete, or not of one meaning; 403 for a condition that is not known.
    pub(in crate::gateway) fn read(
        gateway: &Gateway,
        endpoint: &Endpoint,
        head: &RequestHead<'_>,
    ) -> Result<Self, Refusal> {
        let asking = endpoint.asking().ok_or(Refusal::Internal)?;
        let fields = Fields::read(&head.parts.headers)?;
        let (prefix, query) = (gateway.endpoints.prefix(), head.target.query());
        let path = endpoint.original_path(&head.target, prefix);
        // Each endpoint of Authelia is for one family.
        let url = fields.url.filter(|_| asking != Asking::AutheliaForwardAuth);
        let uri = fields.uri.filter(|_| asking != Asking::AutheliaAuthRequest);
        let (described, is_strict) = match (path, url, uri) {
            (Some(path), _, _) => (of_path(path, head)?, false),
            (None, Some(url), _) => (fields.of_url(url)?, true),
            (None, None, Some(uri)) => (fields.of_uri(uri)?, asking == Asking::OAuth2Proxy),
            (None, None, None) => return Err(Refusal::OriginalMissing),
        };
        fields.agree_with(&described)?;
        // The query behind a path is that of the other request.
        let query = query.filter(|_| path.is_none());
        let (redirects, conditions) = asked_for(asking, query).map_err(|Unknown(name)| {
            gateway.forward_auth.warn_of_condition(&name, gateway.clock.now());
            Refusal::ConditionUnknown
        })?;
        let (method, host, target) = described;
        Ok(Self {
            method,
            host,
            target,
            asking,
            conditions,
            asked: Asked {
                is_strict,
                redirects,
                form: Form::Http,
            },
        })
    }
}

/// Whether a refusal may be a redirect, and the conditions, as the query and the product say.
fn asked_for(asking: Asking, query: Option<&str>) -> Result<(bool, Conditions), Unknown> {
    Ok(match asking {
        Asking::Verify => (has_parameter(query, REDIRECT, &[])?, Conditions::default()),
        Asking::OAuth2Proxy => (false, Conditions::read(query)?),
        Asking::AutheliaAuthRequest => {
            has_parameter(query, REDIRECT, &OF_AUTHELIA)?;
            (false, Conditions::default())
        }
        Asking::AutheliaForwardAuth | Asking::AutheliaExtAuthz => {
            has_parameter(query, REDIRECT, &OF_AUTHELIA)?;
            (true, Conditions::default())
        }
        // The message has no room for a condition.
        Asking::Grpc => (true, Conditions::default()),
    })
}

type Description = (Method, Host, PathAndQuery);

/// The request whose path stands behind that of the endpoint.
fn of_path(path: &str, head: &RequestHead<'_>) -> Result<Description, Refusal> {
    let target = match head.target.query() {
        Some(query) => target(&format!("{path}?{query}"))?,
        None => target(path)?,
    };
    Ok((head.parts.method.clone(), head.host.clone(), target))
}

/// The fields that describe a request, each at most once.
#[derive(Clone, Copy)]
struct Fields<'h> {
    url: Option<&'h str>,
    original_method: Option<&'h str>,
    uri: Option<&'h str>,
    forwarded_method: Option<&'h str>,
    forwarded_host: Option<&'h str>,
}

impl<'h> Fields<'h> {
    fn read(headers: &'h HeaderMap) -> Result<Self, Refusal> {
        Ok(Self {
            url: single(headers, "x-original-url")?,
            original_method: single(headers, "x-original-method")?,
            uri: single(headers, "x-forwarded-uri")?,
            forwarded_method: single(headers, "x-forwarded-method")?,
            forwarded_host: single(headers, "x-forwarded-host")?,
        })
    }

    fn of_url(&self, url: &str) -> Result<Description, Refusal> {
        let written = self.original_method.ok_or(Refusal::OriginalMissing)?;
        let (host, path) = split(url)?;
        Ok((method(written)?, host, target(path)?))
    }

    fn of_uri(&self, uri: &str) -> Result<Description, Refusal> {
        let written = self.forwarded_method.ok_or(Refusal::OriginalMissing)?;
        let named = self.forwarded_host.ok_or(Refusal::OriginalMissing)?;
        Ok((method(written)?, host(named)?, target(uri)?))
    }

    /// Whether every field that is there, of whatever family, says the same.
    fn agree_with(&self, (chosen, place, path): &Description) -> Result<(), Refusal> {
        for written in [self.original_method, self.forwarded_method]
            .into_iter()
            .flatten()
        {
            same(method(written)? == *chosen)?;
        }
        if let Some(named) = self.forwarded_host {
            same(is_same_host(&host(named)?, place))?;
        }
        if let Some(uri) = self.uri {
            same(is_same_target(&target(uri)?, path))?;
        }
        if let Some(url) = self.url {
            let (named, uri) = split(url)?;
            same(is_same_host(&named, place) && is_same_target(&target(uri)?, path))?;
        }
        Ok(())
    }
}

fn same(is_same: bool) -> Result<(), Refusal> {
    if is_same {
        Ok(())
    } else {
        Err(Refusal::OriginalMismatch)
    }
}

fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refusal> {
    let mut lines = headers.get_all(name).into_iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Refusal::OriginalRepeated);
    }
    let text = line.to_str().map_err(|_| Refusal::OriginalInvalid)?;
    Ok(Some(text))
}

pub(super) fn method(text: &str) -> Result<Method, Refusal> {
    Method::from_bytes(text.as_bytes()).map_err(|_| Refusal::OriginalInvalid)
}

pub(super) fn host(text: &str) -> Result<Host, Refusal> {
    Host::parse(text).map_err(|_| Refusal::OriginalInvalid)
}

/// Host and target of `https://host/path?query`.
fn split(text: &str) -> Result<(Host, &str), Refusal> {
    let (_, authority, rest) = url::split(text)
        .filter(|(scheme, ..)| ["http", "https", "ws", "wss"].contains(scheme))
        .ok_or(Refusal::OriginalInvalid)?;
    Ok((host(authority)?, rest))
}

/// A target in origin form (RFC 9112 section 3.2.1). The library cuts a `#` off, and what follows.
pub(super) fn target(text: &str) -> Result<PathAndQuery, Refusal> {
    let is_whole = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_whole {
        return Err(Refusal::OriginalInvalid);
    }
    PathAndQuery::try_from(text).map_err(|_| Refusal::OriginalInvalid)
}

/// Whether two fields name one host. Some proxies leave the port out that belongs to the scheme.
fn is_same_host(one: &Host, other: &Host) -> bool {
    let is_usual = |port: Option<u16>| matches!(port, None | Some(80 | 443));
    let (ours, theirs) = (one.port(), other.port());
    let one_is_unsaid = ours.is_none() || theirs.is_none();
    one.name() == other.name() && (ours == theirs || one_is_unsaid && is_usual(ours) && is_usual(theirs))
}

/// Whether two targets are the same in their canonical spelling.
fn is_same_target(one: &PathAndQuery, other: &PathAndQuery) -> bool {
    let canonical = |target: &PathAndQuery| {
        let target = Target::parse(&target.clone().into()).ok()?;
        Some(target.path_and_query())
    };
    one == other || canonical(one).is_some_and(|ours| Some(ours) == canonical(other))
}
