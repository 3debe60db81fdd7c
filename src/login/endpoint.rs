//! The table of our own endpoints, and which of them a request is for.
//!
//! Input: a method and a target. Output: an [`Endpoint`], a refusal, or `None` for a path that belongs to a route.
//! Invariants: every path below the prefix is ours, whether or not it names an endpoint, so that no app answers under the
//! address where people type their passwords; an odd spelling of such a path is refused here, whatever the routes accept.
//!
//! To add an endpoint: a row of [`ENDPOINTS`] and a file with its handler.

use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};

use super::context::EndpointContext;
use super::form::Fields;
use super::provider::{flow, landing, logout};
use super::public::PublicFiles;
use super::response::{EndpointError, EndpointResponse};
use super::{aliases, arrival, client_code, links, password, register, sign_in, tokens, user_sessions};
use crate::http::target::{PathLeniency, Target};
use crate::refusal::Refusal;
use crate::values::{Alias, Aliases};

/// The public keys of our own tokens (RFC 7517 section 5).
pub(crate) const JWKS_PATH: &str = "/.well-known/jwks.json";

/// What a verifier of our own tokens has to know (OpenID Connect Discovery 1.0 section 4).
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// The longest id of a session that is looked for, in bytes. Ours are UUIDs, of 36.
const MAX_ID: usize = 64;

/// Which caller an endpoint needs, and so which credentials of the request are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everyone; no credential is read.
    Public,
    /// Everyone, also a page of another site: the endpoint asks for a proof of its own. No credential is read.
    CrossSite,
    /// Everyone; the page names the account of the session cookie, which is renewed on the way.
    ShowsSession,
    /// Everyone; the session of the cookie, also of an expired one, ends when a new one is opened.
    ReplacesSession,
    /// Everyone; the session of any credential, or of an expired cookie, is the one that ends.
    EndsSession,
    /// A peer in `trusted_proxies`, about the request of another client; the credential in it is that client's.
    Proxy,
    /// A caller, as on a route with `auth = "required"`.
    Caller,
    /// A caller with a session of the gateway.
    Session,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<EndpointResponse, Box<EndpointError>>> + Send + 'a>>;

/// What answers. [`Handler::Public`] needs no sign-in to be configured; only [`Handler::Form`] reads the body.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    Public(fn(&PublicFiles) -> Result<Response<Bytes>, Refusal>),
    Plain(for<'a> fn(&'a EndpointContext<'a>) -> Answer<'a>),
    Form(for<'a> fn(&'a EndpointContext<'a>, Fields) -> Answer<'a>),
    /// The gateway itself, by a decision about another request.
    ForwardAuth(Asking),
}

/// How a proxy asks about a request, and how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// In whichever form.
    Verify,
    /// As oauth2-proxy is asked: the query has conditions, and 202 is the answer.
    OAuth2Proxy,
    /// As nginx asks Authelia.
    AutheliaAuthRequest,
    /// As Traefik and Caddy ask Authelia.
    AutheliaForwardAuth,
    /// As Envoy asks Authelia.
    AutheliaExtAuthz,
    /// As Envoy asks by gRPC.
    Grpc,
}

impl Asking {
    /// The other product.
    pub(crate) fn alias(self) -> Option<Alias> {
        match self {
            Self::Verify | Self::Grpc => None,
            Self::OAuth2Proxy => Some(Alias::OAuth2Proxy),
            Self::AutheliaAuthRequest | Self::AutheliaForwardAuth | Self::AutheliaExtAuthz => {
                Some(Alias::Authelia)
            }
        }
    }
}

/// A path of the table.
#[derive(Clone, Copy)]
enum Path {
    /// As it is.
    Root(&'static str),
    /// Below `own_prefix`; `{id}` is the id of a session or of a link, `{provider}` the name of a provider.
    Below(&'static str),
    /// Every path below that of `own_prefix` and this.
    Subtree(&'static str),
    /// As it is, where the gateway answers at the addresses of another product.
    Of(Alias, &'static str),
    /// Every path below it, where the gateway does.
    SubtreeOf(Alias, &'static str),
    /// As it is, where Envoy can ask by gRPC.
    Grpc(&'static str),
}

/// A row of the table.
struct Row {
    path: Path,
    /// As `Allow` lists them (RFC 9110 section 10.2.1).
    methods: &'static str,
    access: Access,
    /// Whether pages of the listed origins (`session.origins`) may use it, with the credentials of the browser.
    listed: bool,
    handler: Handler,
}

const READ: &str = "GET, HEAD";

/// Every method.
const ANY: &str = "*";

/// Where other proxies ask about requests.
const VERIFY: &str = "/verify";

/// Where Envoy asks Authelia.
const EXT_AUTHZ: &str = "/api/authz/ext-authz";

/// The service of Envoy's external authorization, and its method.
const GRPC_SERVICE: &str = "/envoy.service.auth.v3.Authorization";
const GRPC_CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The paths below which there is no other endpoint than that of another product.
const ROOTS: [(Alias, &str); 2] = [(Alias::OAuth2Proxy, "/oauth2"), (Alias::Authelia, "/api/authz")];

/// All endpoints. A path has one row for each handler.
#[rustfmt::skip]
static ENDPOINTS: &[Row] = &[
    Row { path: Path::Root(JWKS_PATH), methods: READ, access: Access::Public, listed: false, handler: Handler::Public(PublicFiles::jwks) },
    Row { path: Path::Root(DISCOVERY_PATH), methods: READ, access: Access::Public, listed: false, handler: Handler::Public(PublicFiles::discovery) },
    Row { path: Path::Below(VERIFY), methods: ANY, access: Access::Proxy, listed: false, handler: Handler::ForwardAuth(Asking::Verify) },
    // The rest of the path is that of the request that is asked about.
    Row { path: Path::Subtree(VERIFY), methods: ANY, access: Access::Proxy, listed: false, handler: Handler::ForwardAuth(Asking::Verify) },
    Row { path: Path::Of(Alias::OAuth2Proxy, "/oauth2/auth"), methods: ANY, access: Access::Proxy, listed: false, handler: Handler::ForwardAuth(Asking::OAuth2Proxy) },
    Row { path: Path::Of(Alias::OAuth2Proxy, "/oauth2/start"), methods: READ, access: Access::Public, listed: false, handler: Handler::Plain(|visit| Box::pin(aliases::start(visit))) },
    Row { path: Path::Of(Alias::OAuth2Proxy, "/oauth2/sign_in"), methods: READ, access: Access::Public, listed: false, handler: Handler::Plain(|visit| Box::pin(aliases::start(visit))) },
    Row { path: Path::Of(Alias::OAuth2Proxy, "/oauth2/sign_out"), methods: READ, access: Access::Public, listed: false, handler: Handler::Plain(|visit| Box::pin(aliases::sign_out(visit))) },
    Row { path: Path::Of(Alias::OAuth2Proxy, "/oauth2/callback"), methods: "GET", access: Access::Public, listed: false, handler: Handler::Plain(|visit| Box::pin(aliases::callback(visit))) },
    Row { path: Path::Of(Alias::OAuth2Proxy, "/oauth2/userinfo"), methods: READ, access: Access::Caller, listed: false, handler: Handler::Plain(|visit| Box::pin(aliases::userinfo(visit))) },
    Row { path: Path::Of(Alias::Authelia, "/api/authz/auth-request"), methods: ANY, access: Access::Proxy, listed: false, handler: Handler::ForwardAuth(Asking::AutheliaAuthRequest) },
    Row { path: Path::Of(Alias::Authelia, "/api/authz/forward-auth"), methods: ANY, access: Access::Proxy, listed: false, handler: Handler::ForwardAuth(Asking::AutheliaForwardAuth) },
    Row { path: Path::SubtreeOf(Alias::Authelia, EXT_AUTHZ), methods: ANY, access: Access::Proxy, listed: false, handler: Handler::ForwardAuth(Asking::AutheliaExtAuthz) },
    Row { path: Path::Grpc(GRPC_CHECK), methods: "POST", access: Access::Proxy, listed: false, handler: Handler::ForwardAuth(Asking::Grpc) },
    // No route takes these.
    Row { path: Path::Below(JWKS_PATH), methods: READ, access: Access::Public, listed: false, handler: Handler::Public(PublicFiles::jwks) },
    Row { path: Path::Below(DISCOVERY_PATH), methods: READ, access: Access::Public, listed: false, handler: Handler::Public(PublicFiles::discovery) },
    Row { path: Path::Below("/logo"), methods: READ, access: Access::Public, listed: false, handler: Handler::Public(PublicFiles::logo) },
    Row { path: Path::Below("/favicon"), methods: READ, access: Access::Public, listed: false, handler: Handler::Public(PublicFiles::icon) },
    Row { path: Path::Below(""), methods: READ, access: Access::Public, listed: false, handler: Handler::Plain(|visit| Box::pin(user_sessions::start(visit))) },
    Row { path: Path::Below("/"), methods: READ, access: Access::Public, listed: false, handler: Handler::Plain(|visit| Box::pin(user_sessions::start(visit))) },
    Row { path: Path::Below("/login"), methods: READ, access: Access::ShowsSession, listed: true, handler: Handler::Plain(|visit| Box::pin(sign_in::page(visit))) },
    Row { path: Path::Below("/login"), methods: "POST", access: Access::ReplacesSession, listed: true, handler: Handler::Form(|visit, fields| Box::pin(sign_in::submit(visit, fields))) },
    // HEAD would spend the attempt.
    Row { path: Path::Below("/login/{provider}"), methods: "GET", access: Access::Public, listed: false, handler: Handler::Plain(|visit| Box::pin(flow::begin(visit))) },
    Row { path: Path::Below("/login/{provider}/return"), methods: "GET", access: Access::ReplacesSession, listed: false, handler: Handler::Plain(|visit| Box::pin(landing::land(visit))) },
    // The attempt is the proof: `state`, and a cookie of this browser.
    Row { path: Path::Below("/login/{provider}/return"), methods: "POST", access: Access::CrossSite, listed: false, handler: Handler::Form(|visit, fields| Box::pin(landing::land_by_form(visit, fields))) },
    // HEAD would spend the code.
    Row { path: Path::Below("/continue"), methods: "GET", access: Access::ReplacesSession, listed: false, handler: Handler::Plain(|visit| Box::pin(arrival::land(visit))) },
    Row { path: Path::Below("/register"), methods: READ, access: Access::ReplacesSession, listed: true, handler: Handler::Plain(|visit| Box::pin(register::page(visit))) },
    Row { path: Path::Below("/register"), methods: "POST", access: Access::ReplacesSession, listed: true, handler: Handler::Form(|visit, fields| Box::pin(register::submit(visit, fields))) },
    Row { path: Path::Below("/refresh"), methods: "POST", access: Access::Public, listed: true, handler: Handler::Form(|visit, fields| Box::pin(tokens::refresh(visit, fields))) },
    Row { path: Path::Below("/token"), methods: "POST", access: Access::Public, listed: true, handler: Handler::Form(|visit, fields| Box::pin(client_code::exchange(visit, fields))) },
    Row { path: Path::Below("/logout"), methods: READ, access: Access::ShowsSession, listed: true, handler: Handler::Plain(|visit| Box::pin(tokens::logout_page(visit))) },
    Row { path: Path::Below("/logout"), methods: "POST", access: Access::EndsSession, listed: true, handler: Handler::Form(|visit, fields| Box::pin(tokens::logout(visit, fields))) },
    // A provider sends it, with no cookie.
    Row { path: Path::Below("/backchannel-logout"), methods: "POST", access: Access::Public, listed: false, handler: Handler::Form(|visit, fields| Box::pin(logout::back_channel(visit, fields))) },
    Row { path: Path::Below("/frontchannel-logout"), methods: "GET", access: Access::Public, listed: false, handler: Handler::Plain(|visit| Box::pin(logout::front_channel(visit))) },
    Row { path: Path::Below("/me"), methods: READ, access: Access::Caller, listed: true, handler: Handler::Plain(|visit| Box::pin(user_sessions::me(visit))) },
    Row { path: Path::Below("/password"), methods: READ, access: Access::Session, listed: false, handler: Handler::Plain(|visit| Box::pin(password::page(visit))) },
    Row { path: Path::Below("/password"), methods: "POST", access: Access::Session, listed: false, handler: Handler::Form(|visit, fields| Box::pin(password::submit(visit, fields))) },
    Row { path: Path::Below("/links"), methods: READ, access: Access::Session, listed: false, handler: Handler::Plain(|visit| Box::pin(links::list(visit))) },
    Row { path: Path::Below("/links/{provider}"), methods: "POST", access: Access::Session, listed: false, handler: Handler::Form(|visit, fields| Box::pin(links::begin(visit, fields))) },
    Row { path: Path::Below("/links/{id}"), methods: "DELETE", access: Access::Session, listed: false, handler: Handler::Plain(|visit| Box::pin(links::remove(visit))) },
    Row { path: Path::Below("/links/{id}/end"), methods: "POST", access: Access::Session, listed: false, handler: Handler::Form(|visit, fields| Box::pin(links::remove_by_form(visit, fields))) },
    Row { path: Path::Below("/sessions"), methods: READ, access: Access::Session, listed: false, handler: Handler::Plain(|visit| Box::pin(user_sessions::list(visit))) },
    Row { path: Path::Below("/sessions/{id}"), methods: "DELETE", access: Access::Session, listed: false, handler: Handler::Plain(|visit| Box::pin(user_sessions::end(visit))) },
    Row { path: Path::Below("/sessions/{id}/end"), methods: "POST", access: Access::Session, listed: false, handler: Handler::Form(|visit, fields| Box::pin(user_sessions::end_by_form(visit, fields))) },
];

/// What answers a preflight. Its fields are those of every answer to a listed origin.
static PREFLIGHT: Row = Row {
    path: Path::Below(""),
    methods: "OPTIONS",
    access: Access::Public,
    listed: true,
    handler: Handler::Public(|_| {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }),
};

/// One of our own endpoints, and the id that its path names.
#[derive(Clone)]
pub struct Endpoint {
    row: &'static Row,
    id: String,
}

impl Endpoint {
    /// Which caller it needs.
    #[must_use]
    pub fn access(&self) -> Access {
        self.row.access
    }

    /// Whether it is refused without a caller.
    #[must_use]
    pub fn needs_caller(&self) -> bool {
        matches!(self.row.access, Access::Caller | Access::Session)
    }

    /// Whether pages of the listed origins may use it.
    #[must_use]
    pub(crate) fn is_for_listed(&self) -> bool {
        self.row.listed
    }

    /// How a proxy asks here about another request; `None` where the endpoint is for other things.
    #[must_use]
    pub(crate) fn asking(&self) -> Option<Asking> {
        match self.row.handler {
            Handler::ForwardAuth(asking) => Some(asking),
            Handler::Public(_) | Handler::Plain(_) | Handler::Form(_) => None,
        }
    }

    /// Whether `path`, as it was sent, spells the place of the endpoint plainly. A proxy that keeps clients from it compares
    /// paths as they are.
    #[must_use]
    pub(crate) fn is_spelled_plainly(&self, path: &str, prefix: &str) -> bool {
        let rest = match self.row.path {
            Path::Below(place) | Path::Subtree(place) => path
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix(place)),
            Path::Root(place) | Path::Of(_, place) | Path::SubtreeOf(_, place) | Path::Grpc(place) => {
                path.strip_prefix(place)
            }
        };
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Where the path of the request begins that is asked about, in the canonical path of this one; `None` where other
    /// fields say it.
    #[must_use]
    pub(crate) fn original_path<'p>(&self, target: &'p Target, prefix: &str) -> Option<&'p str> {
        match self.row.path {
            Path::Subtree(place) => below(target.path().strip_prefix(prefix)?, place),
            // The prefix that Authelia's documentation has Envoy put in front ends with a slash.
            Path::SubtreeOf(_, place) => below(target.path(), place).map(|rest| {
                rest.strip_prefix('/')
                    .filter(|rest| rest.starts_with('/'))
                    .unwrap_or(rest)
            }),
            Path::Root(_) | Path::Below(_) | Path::Of(..) | Path::Grpc(_) => None,
        }
    }

    /// The id of a session that the path names; empty where the path names none.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn handler(&self) -> Handler {
        self.row.handler
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Path::Root(path)
        | Path::Below(path)
        | Path::Subtree(path)
        | Path::Of(_, path)
        | Path::SubtreeOf(_, path)
        | Path::Grpc(path)) = self.row.path;
        write!(f, "{} {path}", self.row.methods)
    }
}

impl Row {
    /// The id in the path, where the path is that of the row; empty for a path without one.
    fn id_of<'p>(&self, path: &'p str, below: Option<&'p str>) -> Option<&'p str> {
        let (pattern, path) = match self.path {
            Path::Root(pattern) => (pattern, path),
            Path::Below(pattern) => (pattern, below?),
            Path::Of(_, pattern) | Path::Grpc(pattern) => (pattern, path),
            Path::Subtree(pattern) => return self::below(below?, pattern).map(|_| ""),
            Path::SubtreeOf(_, pattern) => return self::below(path, pattern).map(|_| ""),
        };
        let named = |(before, after): (&str, &str), is_name: fn(&str) -> bool| {
            let name = path.strip_prefix(before)?.strip_suffix(after)?;
            is_name(name).then_some(name)
        };
        if let Some(around) = pattern.split_once("{id}") {
            named(around, is_session_id)
        } else if let Some(around) = pattern.split_once("{provider}") {
            named(around, is_provider_name)
        } else {
            (pattern == path).then_some("")
        }
    }
}

fn is_session_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// As the names of tables in the configuration are.
fn is_provider_name(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// What is left of `path` below `place`.
fn below<'p>(path: &'p str, place: &str) -> Option<&'p str> {
    path.strip_prefix(place).filter(|rest| rest.starts_with('/'))
}

/// Whether a path is ours only as long as no route names it: an app may publish keys of its own there.
#[must_use]
pub(crate) fn is_well_known(path: &str) -> bool {
    [JWKS_PATH, DISCOVERY_PATH].contains(&path)
}

/// Whether a path of a route, or of a request, is ours.
#[must_use]
pub(crate) fn is_own(path: &str, prefix: &str, aliases: Aliases) -> bool {
    let is_in = |root: &str| path == root || below(path, root).is_some();
    let of_aliases = ROOTS.iter().filter(|(alias, _)| aliases.has(*alias));
    is_well_known(path)
        || is_in(prefix)
        || aliases.has_grpc() && is_in(GRPC_SERVICE)
        || of_aliases.into_iter().any(|(_, root)| is_in(root))
}

/// The methods of a path whose endpoints pages of the listed origins may use; `None` for every other path.
#[must_use]
pub(crate) fn methods_for_listed(target: &Target, prefix: &str) -> Option<String> {
    let path = target.matching();
    let below = path.strip_prefix(prefix);
    let rows = ENDPOINTS
        .iter()
        .filter(|row| row.listed && row.id_of(path, below).is_some());
    let methods: Vec<_> = rows.map(|row| row.methods).collect();
    (!methods.is_empty()).then(|| methods.join(", "))
}

/// The endpoint that answers a preflight for `target`.
#[must_use]
pub(crate) fn preflight(target: &Target, prefix: &str) -> Option<Endpoint> {
    methods_for_listed(target, prefix).map(|_| Endpoint {
        row: &PREFLIGHT,
        id: String::new(),
    })
}

/// The path patterns of the endpoints that need no caller, with their methods. Those for proxies are for no client.
pub(crate) fn public_endpoints(
    prefix: &str,
    aliases: Aliases,
    sign_in: bool,
) -> impl Iterator<Item = (String, &'static str)> {
    let exist = move |row: &&Row| match row.path {
        Path::Of(alias, _) | Path::SubtreeOf(alias, _) => aliases.has(alias),
        Path::Grpc(_) => aliases.has_grpc(),
        Path::Root(_) | Path::Below(_) | Path::Subtree(_) => {
            sign_in || matches!(row.handler, Handler::Public(_))
        }
    };
    let is_public = |row: &&Row| !matches!(row.access, Access::Caller | Access::Session | Access::Proxy);
    ENDPOINTS.iter().filter(exist).filter(is_public).map(move |row| {
        let path = match row.path {
            Path::Root(path) | Path::Of(_, path) | Path::Grpc(path) => path.to_owned(),
            Path::Below(path) => format!("{prefix}{path}"),
            Path::Subtree(path) => format!("{prefix}{path}/*"),
            Path::SubtreeOf(_, path) => format!("{path}/*"),
        };
        (path, row.methods)
    })
}

/// Which of our endpoints a request is for: `None` where it belongs to a route. Without `sign_in` there are only the key
/// set and the pictures of the error pages; the rest of the prefix stays reserved.
///
/// # Errors
/// Inside: `RouteMissing`, `MethodRefused` with the methods that the path has, and the refusal of an odd path.
#[must_use]
pub(crate) fn find(
    method: &Method,
    target: &Target,
    prefix: &str,
    aliases: Aliases,
    sign_in: bool,
) -> Option<Result<Endpoint, (Refusal, Option<HeaderValue>)>> {
    let path = target.matching();
    if !is_own(path, prefix, aliases) {
        return None;
    }
    // What is odd about the path of another request is for its route to accept.
    let verify = target.path().strip_prefix(prefix);
    let is_of_another = verify.is_some_and(|path| self::below(path, VERIFY).is_some())
        || aliases.has(Alias::Authelia) && self::below(target.path(), EXT_AUTHZ).is_some();
    if let Some(refusal) = target.oddities().refusal_unless(PathLeniency::default())
        && !is_of_another
    {
        return Some(Err((refusal, None)));
    }
    let below = path.strip_prefix(prefix);
    let mut allow = String::new();
    for row in ENDPOINTS {
        let is_served = match row.path {
            Path::Of(alias, _) | Path::SubtreeOf(alias, _) => aliases.has(alias),
            Path::Grpc(_) => aliases.has_grpc(),
            Path::Root(_) | Path::Below(_) | Path::Subtree(_) => true,
        };
        let exists =
            is_served && (sign_in || matches!(row.handler, Handler::Public(_) | Handler::ForwardAuth(_)));
        let Some(id) = row.id_of(path, below).filter(|_| exists) else {
            continue;
        };
        if row.methods == ANY || row.methods.split(", ").any(|allowed| allowed == method.as_str()) {
            return Some(Ok(Endpoint {
                row,
                id: id.to_owned(),
            }));
        }
        if !allow.is_empty() {
            allow.push_str(", ");
        }
        allow.push_str(row.methods);
    }
    Some(Err(if allow.is_empty() {
        (Refusal::RouteMissing, None)
    } else {
        (Refusal::MethodRefused, HeaderValue::try_from(allow).ok())
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(
        method: &str,
        path: &str,
        sign_in: bool,
    ) -> Option<Result<String, (Refusal, Option<HeaderValue>)>> {
        let target = Target::parse(&path.parse().unwrap()).unwrap();
        find(
            &Method::from_bytes(method.as_bytes()).unwrap(),
            &target,
            "/auth",
            Aliases::default(),
            sign_in,
        )
        .map(|found| found.map(|endpoint| format!("{endpoint:?} {}", endpoint.id())))
    }

    #[test]
    fn each_endpoint_has_its_methods_and_lists_them_in_allow() {
        for (path, pattern, id, methods) in [
            (JWKS_PATH, JWKS_PATH, "", &["GET, HEAD"][..]),
            (DISCOVERY_PATH, DISCOVERY_PATH, "", &["GET, HEAD"]),
            ("/auth/.well-known/jwks.json", JWKS_PATH, "", &["GET, HEAD"]),
            (
                "/auth/.well-known/openid-configuration",
                DISCOVERY_PATH,
                "",
                &["GET, HEAD"],
            ),
            ("/auth/login", "/login", "", &["GET, HEAD", "POST"]),
            ("/auth/register", "/register", "", &["GET, HEAD", "POST"]),
            ("/auth/refresh", "/refresh", "", &["POST"]),
            ("/auth/logout", "/logout", "", &["GET, HEAD", "POST"]),
            ("/auth", "", "", &["GET, HEAD"]),
            ("/auth/", "/", "", &["GET, HEAD"]),
            ("/auth/favicon", "/favicon", "", &["GET, HEAD"]),
            ("/auth/me", "/me", "", &["GET, HEAD"]),
            ("/auth/password", "/password", "", &["GET, HEAD", "POST"]),
            ("/auth/sessions", "/sessions", "", &["GET, HEAD"]),
            ("/auth/sessions/0197-ab", "/sessions/{id}", "0197-ab", &["DELETE"]),
            (
                "/auth/sessions/0197-ab/end",
                "/sessions/{id}/end",
                "0197-ab",
                &["POST"],
            ),
            ("/auth/token", "/token", "", &["POST"]),
            ("/auth/links", "/links", "", &["GET, HEAD"]),
            ("/auth/links/0197ab/end", "/links/{id}/end", "0197ab", &["POST"]),
            ("/auth/logo", "/logo", "", &["GET, HEAD"]),
            ("/auth/continue", "/continue", "", &["GET"]),
            ("/auth/frontchannel-logout", "/frontchannel-logout", "", &["GET"]),
            ("/auth/backchannel-logout", "/backchannel-logout", "", &["POST"]),
        ] {
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get"] {
                let row = methods
                    .iter()
                    .find(|row| row.split(", ").any(|allowed| allowed == method));
                let expected = match row {
                    Some(row) => Ok(format!("{row} {pattern} {id}")),
                    None => Err((
                        Refusal::MethodRefused,
                        Some(HeaderValue::try_from(methods.join(", ")).unwrap()),
                    )),
                };
                assert_eq!(found(method, path, true), Some(expected), "{method} {path}");
            }
        }
        let login = |method: &str, path: &str| found(method, path, true).unwrap().unwrap();
        assert_eq!(login("GET", "/auth/login?return_to=/x"), "GET, HEAD /login ");
        assert_eq!(
            login("POST", "/auth/%6cogin"),
            "POST /login ",
            "the canonical spelling counts"
        );
    }

    #[test]
    fn unknown_path_below_the_prefix_is_missing_and_never_an_apps() {
        let missing = Some(Err((Refusal::RouteMissing, None)));
        for path in [
            "/auth/login/",
            "/auth/login/x/y",
            "/auth/login/x/return/",
            "/auth/LOGIN",
            "/auth/sessions/",
            "/auth/sessions/a.b",
            "/auth/sessions/a/b",
            "/auth/sessions/a/end/",
            "/auth/sessions/%20",
        ] {
            assert_eq!(found("GET", path, true), missing, "{path}");
        }
        let long = format!("/auth/sessions/{}", "a".repeat(MAX_ID + 1));
        assert_eq!(found("DELETE", &long, true), missing);
        assert_eq!(
            found("POST", "/auth/login", false),
            missing,
            "without sign-in there is none"
        );
        assert_eq!(found("GET", "/auth/", false), missing);
        // Error pages show the pictures.
        for path in [JWKS_PATH, DISCOVERY_PATH, "/auth/favicon", "/auth/logo"] {
            assert!(found("GET", path, false).unwrap().is_ok(), "{path}");
        }
    }

    #[test]
    fn other_paths_belong_to_the_routes() {
        for path in [
            "/",
            "/authors",
            "/authlogin",
            "/x/auth/login",
            "/auth%2Flogin",
            "/x;y/authors",
            "/.well-known",
        ] {
            assert_eq!(found("GET", path, true), None, "{path}");
        }
    }

    #[test]
    fn odd_spelling_of_our_path_is_refused_and_never_an_apps() {
        for (path, refusal) in [
            ("/auth/login;x", Refusal::PathParameter),
            ("/auth;x/login", Refusal::PathParameter),
            ("/auth;x", Refusal::PathParameter),
            ("/auth//login", Refusal::PathEmptySegment),
            ("/auth/login%2F", Refusal::PathEncodedSlash),
            ("/auth/sessions/a%2Fb", Refusal::PathEncodedSlash),
            ("/.well-known/jwks.json;x", Refusal::PathParameter),
        ] {
            assert_eq!(found("GET", path, true), Some(Err((refusal, None))), "{path}");
            assert_eq!(found("GET", path, false), Some(Err((refusal, None))), "{path}");
        }
    }
}
