//! The TOML file as it was typed: one field a key, nothing decided yet.
//!
//! What leaves here is well-typed (a duration is a duration) and knows where in the file it stood. What it means
//! together with the rest is `compile`'s work in the room that needs it.

use std::collections::BTreeSet;
use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};

use super::schema::{RestartValues, Scalars};
use crate::http::client::Share;
use crate::http::target::PathLeniency;
use crate::identity::ClaimPath;
use crate::values::{
    Auth, Builtin, Color, FieldName, FieldValue, Listen, MissingClaim, ParameterName, Scope, ServerAddress,
    Token, TrustedProxy,
};

/// A value and the bytes of the file that it was read from.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Byte offsets into the source text.
    pub span: Range<usize>,
}

impl<T> Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A named table, `[issuers.corp]`: the name and the table's content.
pub type Named<T> = (At<String>, T);

/// Keys that stand in the file and could not be read. Their values are unknown, and not absent: a rule that draws a
/// conclusion from an absent value asks here first, so that one mistake in the file is one problem.
#[derive(Clone, Debug, Default)]
pub struct Failed {
    everything: bool,
    keys: BTreeSet<(&'static str, &'static str)>,
}

impl Failed {
    /// The file as a whole cannot be read.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            everything: true,
            keys: BTreeSet::new(),
        }
    }

    /// Notes `key` of a table of the kind `table`, which is named as in the [schema](super::schema).
    pub fn insert(&mut self, table: &'static str, key: &'static str) {
        self.keys.insert((table, key));
    }

    /// Whether the file as a whole cannot be read.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// Whether `key` of some table of the kind `table` could not be read.
    #[must_use]
    pub fn has(&self, table: &'static str, key: &'static str) -> bool {
        self.everything || self.keys.contains(&(table, key))
    }
}

/// The whole file.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// What could not be read.
    pub failed: Failed,
    /// The values of the keys that only a restart changes.
    pub restart: RestartValues,
    /// `[server]`
    pub server: RawServer,
    /// `[admin]`
    pub admin: Option<RawAdmin>,
    /// `[state]`
    pub state: RawState,
    /// `[issuers.*]`, in the order of the file.
    pub issuers: Vec<Named<RawIssuer>>,
    /// `[credentials] sources`; `None` where not written.
    pub sources: Option<Vec<At<RawSource>>>,
    /// `[upstreams.*]`, in the order of the file.
    pub upstreams: Vec<Named<RawUpstream>>,
    /// `[[routes]]`, in the order of the file; the span is that of its `[[routes]]` header.
    pub routes: Vec<At<RawRoute>>,
    /// `[identity]`
    pub identity: RawIdentity,
    /// `[session]`
    pub session: RawSession,
    /// `[password]`; `None` where local accounts cannot sign in.
    pub password: Option<At<RawPassword>>,
    /// `[pages]`
    pub pages: RawPages,
    /// `[log]`
    pub log: RawLog,
    /// `[[tests]]`; the span is that of its `[[tests]]` header.
    pub tests: Vec<At<RawTest>>,
}

/// `[server]`
#[derive(Clone, Debug, Default)]
pub struct RawServer {
    /// `workers`, `max_connections`, `header_timeout`, `idle_timeout`, `drain_timeout`.
    pub scalars: Scalars,
    /// Addresses: `127.0.0.1:8080`, `unix:/path`, `systemd`; one or a list.
    pub listen: Vec<At<Listen>>,
    /// Origin of the site as browsers see it: scheme, host and port, no path.
    pub public_url: Option<At<String>>,
    /// The peers whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<At<TrustedProxy>>,
    /// Further fields that pass from them.
    pub trusted_headers: Vec<At<FieldName>>,
    /// Bytes of a request head.
    pub max_header_bytes: Option<At<u64>>,
    /// Bytes of a token.
    pub max_token_bytes: Option<At<u64>>,
    /// The proxy through which keys and providers are asked.
    pub egress_proxy: Option<At<RawEgressProxy>>,
    /// Bytes of a request body; `Some(None)` is `"unlimited"`.
    pub max_body_bytes: Option<At<Option<u64>>>,
    /// The most of them for one client, where all are taken.
    pub max_connections_per_client: Option<At<Share>>,
    /// Bytes a second at which a client must take an answer, or send what is waited for; 0 for any rate.
    pub min_rate: Option<At<u64>>,
    /// Where clients without TLS are sent to `public_url`.
    pub redirect_http: Option<At<Listen>>,
    /// Where our own endpoints live.
    pub own_prefix: Option<At<String>>,
    /// `[server.tls]`
    pub tls: Option<At<RawServerTls>>,
}

/// `server.egress_proxy`
#[derive(Clone, Debug)]
pub enum RawEgressProxy {
    /// `"none"`: not even that of the environment.
    None,
    /// `"http://proxy:3128"`, or a table.
    Proxy {
        /// `http://`, with a user before `@` where there is a password.
        url: At<String>,
        /// The user's password.
        password: Option<At<RawSecret>>,
    },
}

/// `[server.tls]`
#[derive(Clone, Debug, Default)]
pub struct RawServerTls {
    /// The certificate chain and key for the main name.
    pub certificate: Option<At<RawPem>>,
    /// The private key of `certificate`.
    pub private_key: Option<At<RawPem>>,
    /// Further pairs, chosen by SNI: `more = [{ certificate = "…", private_key = "…" }]`.
    pub more: Vec<At<RawCertificate>>,
}

/// One further certificate.
#[derive(Clone, Debug)]
pub struct RawCertificate {
    /// PEM of the chain, leaf first.
    pub certificate: At<RawPem>,
    /// PEM of the key.
    pub private_key: At<RawPem>,
}

/// Where a certificate chain or a private key is kept, in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawPem {
    /// `"privkey.pem"`: a file, relative to the TOML file.
    Path(PathBuf),
    /// `{ credential = "privkey.pem" }`, and every other place that a secret may have.
    Secret(RawSecret),
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct RawAdmin {
    /// Where `/health`, `/ready` and `/metrics` are answered.
    pub listen: At<Listen>,
    /// Names besides IP addresses, `localhost` and the host of `public_url` that requests may be for.
    pub hosts: Vec<At<String>>,
}

/// `[log]`
#[derive(Clone, Debug, Default)]
pub struct RawLog {
    /// The form of the access log: `json` (unless said) or `text`.
    pub format: Option<At<String>>,
    /// The least severe diagnostics that are said: `error`, `warn`, `info` (unless said), `debug`, `trace`.
    pub level: Option<At<String>>,
    /// Whether there is an access log; true unless said.
    pub access: Option<At<bool>>,
    /// Whether its lines have the email address of the caller; true unless said.
    pub email: Option<At<bool>>,
    /// Where the access log is written; standard output unless said.
    pub file: Option<At<PathBuf>>,
}

/// `[state]`
#[derive(Clone, Debug, Default)]
pub struct RawState {
    /// `sqlite:passgate.db`; the path is relative to the TOML file.
    pub url: Option<At<String>>,
}

/// A secret, which never stands in the file itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawSecret {
    /// A file, relative to the TOML file; line ends behind the secret are cut off.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A file in `$CREDENTIALS_DIRECTORY` (systemd `LoadCredential=`).
    Credential(String),
}

/// `[issuers.NAME]`
#[derive(Clone, Debug, Default)]
pub struct RawIssuer {
    /// The exact `iss`; also where its tokens may lack it. `{tid}` stands for the tenant.
    pub issuer: Option<At<String>>,
    /// The tenants, where `issuer` has a place for one.
    pub tenants: Option<At<RawTenants>>,
    /// Accepted audiences; at least one, but where its tokens may lack `aud`.
    pub audiences: Vec<At<String>>,
    /// The claim that holds the audience; `aud` unless said.
    pub audience_claim: Option<At<ClaimPath>>,
    /// Accepted `alg` values; at least one.
    pub algorithms: Vec<At<String>>,
    /// Where the keys come from: exactly one of these five.
    pub jwks_url: Option<At<String>>,
    /// A JWK set on disk.
    pub jwks_file: Option<At<PathBuf>>,
    /// A PEM public key on disk.
    pub public_key_file: Option<At<PathBuf>>,
    /// An HMAC secret.
    pub secret: Option<At<RawSecret>>,
    /// `true`: find `jwks_uri` by OpenID Connect Discovery 1.0.
    pub discovery: Option<At<bool>>,
    /// A bearer token for the server of the keys.
    pub jwks_token: Option<At<RawSecret>>,
    /// PEM file of the authorities that `jwks_url` and discovery are trusted by, instead of the system's.
    pub ca_file: Option<At<PathBuf>>,
    /// `true`: keys may be fetched by plain HTTP from an address that is not loopback.
    pub allow_http: Option<At<bool>>,
    /// How often a key set is fetched again.
    pub refresh_interval: Option<At<Duration>>,
    /// The shortest time between two fetches caused by unknown `kid`s.
    pub refresh_cooldown: Option<At<Duration>>,
    /// Paths of claims that hold roles.
    pub roles_claims: Vec<At<ClaimPath>>,
    /// Tolerance for clocks that differ.
    pub leeway: Option<At<Duration>>,
    /// The greatest age of a token, from `iat`.
    pub max_age: Option<At<Duration>>,
    /// The claims that say who the token is about, the first that is there; `sub` unless said.
    pub subject_claims: Vec<At<ClaimPath>>,
    /// Of `iss` and `aud`, those that its tokens may lack.
    pub missing_claims: Vec<At<MissingClaim>>,
}

/// `issuers.*.tenants`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawTenants {
    /// `"any"`
    Any,
    /// UUIDs, in lower case.
    Listed(Vec<String>),
}

/// One entry of `credentials.sources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawSource {
    /// `{ header = "authorization", scheme = "Bearer" }`, or without a scheme.
    Header {
        /// The field name.
        name: HeaderName,
        /// The scheme in front of the token, as typed.
        scheme: Option<Token>,
    },
    /// `{ cookie = "name" }`
    Cookie(Token),
    /// `{ query = "name" }`
    Query(ParameterName),
    /// `{ websocket_protocol = "name" }`
    WebSocketProtocol(Token),
}

/// `[upstreams.NAME]`
#[derive(Clone, Debug, Default)]
pub struct RawUpstream {
    /// `http://`, `https://`, `h2c://` or `unix:` addresses.
    pub servers: Vec<At<ServerAddress>>,
    /// `whoami`, instead of servers.
    pub builtin: Option<At<Builtin>>,
    /// The Host header for the app instead of the client's.
    pub host: Option<At<HeaderValue>>,
    /// To an established connection, TLS included.
    pub connect_timeout: Option<At<Duration>>,
    /// From the request to the response head.
    pub response_timeout: Option<At<Duration>>,
    /// How long an unused connection is kept.
    pub idle_timeout: Option<At<Duration>>,
    /// Connections to each server, all workers together.
    pub max_connections: Option<At<u64>>,
    /// PEM file of the authorities that `https://` servers are trusted by, instead of the system's.
    pub ca_file: Option<At<PathBuf>>,
    /// `health_check = { path = "/healthz", interval = "5s" }`
    pub health_check: Option<At<RawHealthCheck>>,
}

/// `health_check`
#[derive(Clone, Debug)]
pub struct RawHealthCheck {
    /// The path and query of the request.
    pub path: At<PathAndQuery>,
    /// How often; 5 seconds unless said.
    pub interval: Option<At<Duration>>,
}

/// `[[routes]]`
#[derive(Clone, Debug, Default)]
pub struct RawRoute {
    /// Exact or `*.example.com`.
    pub host: Option<At<String>>,
    /// The pattern.
    pub path: Option<At<String>>,
    /// Empty: all methods.
    pub methods: Option<At<Vec<At<Method>>>>,
    /// `none`, `optional`, `required`.
    pub auth: Option<At<Auth>>,
    /// The rule on roles.
    pub roles: Option<At<RawRoles>>,
    /// Claim path and the value it must equal or contain.
    pub claims: Vec<(At<ClaimPath>, At<RawClaim>)>,
    /// Scopes, all of which are needed.
    pub scopes: Vec<At<Scope>>,
    /// The name of an upstream.
    pub upstream: Option<At<String>>,
    /// Cut off the front of the path.
    pub strip_prefix: Option<At<String>>,
    /// `false`: addresses of the app in its answers stay.
    pub rewrite_responses: Option<At<bool>>,
    /// Set on the request to the app.
    pub headers: Vec<(At<FieldName>, At<FieldValue>)>,
    /// `true`: the app gets the credential as well.
    pub forward_credential: Option<At<bool>>,
    /// `encoded-slash`, `empty-segment`, `path-parameter`, `not-utf8`, `double-encoding`.
    pub accept: PathLeniency,
    /// Headers of other products that pass from clients.
    pub keep_headers: Vec<At<FieldName>>,
}

/// `roles = ["a"]` is `any`.
#[derive(Clone, Debug, Default)]
pub struct RawRoles {
    /// One of these at least; `None` where not written.
    pub any: Option<Vec<At<String>>>,
    /// Each of these.
    pub all: Option<Vec<At<String>>>,
    /// Not one of these.
    pub none: Option<Vec<At<String>>>,
}

/// A value that a claim must equal or contain.
#[derive(Clone, Debug, PartialEq)]
pub enum RawClaim {
    /// A string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A boolean.
    Boolean(bool),
}

/// `[identity]`
#[derive(Clone, Debug, Default)]
pub struct RawIdentity {
    /// `passgate`, `oauth2-proxy`, `authelia`.
    pub preset: Option<At<String>>,
    /// Header name and claim path.
    pub headers: Vec<(At<FieldName>, At<ClaimPath>)>,
    /// `true`: `X-Auth-Assertion` is sent.
    pub assertion: Option<At<bool>>,
    /// `percent` or `utf-8`; that of the preset unless said.
    pub encoding: Option<At<String>>,
    /// `true`: apps are told an email address that the token calls unverified.
    pub unverified_email: Option<At<bool>>,
}

/// `[session]`
#[derive(Clone, Debug, Default)]
pub struct RawSession {
    /// The name of the session cookie; `__Host-session` unless said.
    pub cookie: Option<At<String>>,
    /// Of the JWT in the cookie, and of access tokens; 15 minutes unless said.
    pub token_lifetime: Option<At<Duration>>,
    /// How long a browser's session may go unused; 24 hours unless said.
    pub idle_timeout: Option<At<Duration>>,
    /// From signing in to signing in again; 7 days unless said.
    pub lifetime: Option<At<Duration>>,
}

/// `[password]`
#[derive(Clone, Debug, Default)]
pub struct RawPassword {
    /// Whether anybody may make an account; false unless said.
    pub registration: Option<At<bool>>,
    /// The roles of an account that somebody registers; none unless said.
    pub default_roles: Vec<At<String>>,
    /// The fewest characters of a new password; 8 unless said, and no less than that.
    pub min_length: Option<At<u64>>,
    /// The role of administrators, which the setup link gives; `admin` unless said.
    pub admin_role: Option<At<String>>,
    /// Whether apps get the address of an account that was only typed; false unless said.
    pub trust_unconfirmed_email: Option<At<bool>>,
}

/// `[pages]`
#[derive(Clone, Debug, Default)]
pub struct RawPages {
    /// What the site is called; the host of `public_url` unless said.
    pub name: Option<At<String>>,
    /// A picture, SVG, PNG, JPEG or WebP.
    pub logo: Option<At<PathBuf>>,
    /// `colors = { accent = "#2f6f4f", … }`: CSS colours by name.
    pub colors: RawColors,
    /// A directory whose templates take the place of the built-in ones of the same name.
    pub templates: Option<At<PathBuf>>,
    /// A sentence on the sign-in page, for people who cannot sign in; none unless said.
    pub help: Option<At<String>>,
}

/// `pages.colors`: `#rgb` or `#rrggbb`. The `_dark` ones hold where the browser asks for a dark page.
#[derive(Clone, Debug, Default)]
pub struct RawColors {
    /// Buttons, links, focus.
    pub accent: Option<At<Color>>,
    /// The same on dark pages.
    pub accent_dark: Option<At<Color>>,
    /// The page.
    pub background: Option<At<Color>>,
    /// The same on dark pages.
    pub background_dark: Option<At<Color>>,
}

/// `[[tests]]`
#[derive(Clone, Debug)]
pub struct RawTest {
    /// `GET /path`, or `GET http://host/path`.
    pub request: At<String>,
    /// Who asks; `None`: nobody.
    pub caller: Option<At<RawTestCaller>>,
    /// `allow`, `login`, or a status code.
    pub expect: At<RawExpect>,
}

/// `as = { … }`
#[derive(Clone, Debug, Default)]
pub struct RawTestCaller {
    /// `test` unless said.
    pub subject: Option<At<String>>,
    /// The name of the issuer; any unless said.
    pub issuer: Option<At<String>>,
    /// Roles.
    pub roles: Vec<At<String>>,
    /// Scopes.
    pub scopes: Vec<At<Scope>>,
    /// Further claims.
    pub claims: Vec<(At<ClaimPath>, At<RawClaim>)>,
}

/// `expect = …`
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawExpect {
    /// The request reaches the app.
    Allow,
    /// The browser is sent to the login page.
    Login,
    /// The gateway answers with this status.
    Status(u16),
}
