//! The TOML file as it was typed: one field a key, nothing decided yet.
//!
//! Output: values that cannot be wrong by themselves, each with its place in the file. The compile function of the room
//! that uses a table decides what it means together with the rest.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};

use super::schema::{RestartValues, Scalars};
pub(crate) use super::spanned::At;
use crate::http::client::Share;
use crate::http::target::PathLeniency;
use crate::http::url::Url;
use crate::identity::ClaimPath;
use crate::values::{
    Auth, Builtin, Color, FieldName, FieldValue, Listen, MissingClaim, ParameterName, Scope, ServerAddress,
    Token, TrustedProxy,
};

/// A named table, `[issuers.corp]`: the name and the table's content.
pub(crate) type Named<T> = (At<String>, T);

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
    pub listen: Vec<At<Listen>>,
    pub public_url: Option<At<Url>>,
    pub trusted_proxies: Vec<At<TrustedProxy>>,
    pub trusted_headers: Vec<At<FieldName>>,
    pub max_header_bytes: Option<At<u64>>,
    pub max_token_bytes: Option<At<u64>>,
    pub egress_proxy: Option<At<RawEgressProxy>>,
    pub max_body_bytes: Option<At<Option<u64>>>,
    pub max_connections_per_client: Option<At<Share>>,
    pub min_rate: Option<At<u64>>,
    pub redirect_http: Option<At<Listen>>,
    pub own_prefix: Option<At<String>>,
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
        url: At<Url>,
        /// The user's password.
        password: Option<At<RawSecret>>,
    },
}

/// `[server.tls]`
#[derive(Clone, Debug, Default)]
pub struct RawServerTls {
    pub certificate: Option<At<RawPem>>,
    pub private_key: Option<At<RawPem>>,
    pub more: Vec<At<RawCertificate>>,
}

/// One further certificate.
#[derive(Clone, Debug)]
pub struct RawCertificate {
    pub certificate: At<RawPem>,
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
    pub listen: At<Listen>,
    pub hosts: Vec<At<String>>,
}

/// `[log]`
#[derive(Clone, Debug, Default)]
pub struct RawLog {
    pub format: Option<At<String>>,
    pub level: Option<At<String>>,
    pub access: Option<At<bool>>,
    pub email: Option<At<bool>>,
    pub file: Option<At<PathBuf>>,
}

/// `[state]`
#[derive(Clone, Debug, Default)]
pub struct RawState {
    pub url: Option<At<String>>,
}

/// A secret, which never holds the secret itself.
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
    pub issuer: Option<At<String>>,
    pub tenants: Option<At<RawTenants>>,
    pub audiences: Vec<At<String>>,
    pub audience_claim: Option<At<ClaimPath>>,
    pub algorithms: Vec<At<String>>,
    pub jwks_url: Option<At<String>>,
    pub jwks_file: Option<At<PathBuf>>,
    pub public_key_file: Option<At<PathBuf>>,
    pub secret: Option<At<RawSecret>>,
    pub discovery: Option<At<bool>>,
    pub jwks_token: Option<At<RawSecret>>,
    pub ca_file: Option<At<PathBuf>>,
    pub allow_http: Option<At<bool>>,
    pub refresh_interval: Option<At<Duration>>,
    pub refresh_cooldown: Option<At<Duration>>,
    pub roles_claims: Vec<At<ClaimPath>>,
    pub leeway: Option<At<Duration>>,
    pub max_age: Option<At<Duration>>,
    pub subject_claims: Vec<At<ClaimPath>>,
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
    pub servers: Vec<At<ServerAddress>>,
    pub builtin: Option<At<Builtin>>,
    pub host: Option<At<HeaderValue>>,
    pub connect_timeout: Option<At<Duration>>,
    pub response_timeout: Option<At<Duration>>,
    pub idle_timeout: Option<At<Duration>>,
    pub max_connections: Option<At<u64>>,
    pub ca_file: Option<At<PathBuf>>,
    pub health_check: Option<At<RawHealthCheck>>,
}

/// `health_check`
#[derive(Clone, Debug)]
pub struct RawHealthCheck {
    pub path: At<PathAndQuery>,
    pub interval: Option<At<Duration>>,
}

/// `[[routes]]`
#[derive(Clone, Debug, Default)]
pub struct RawRoute {
    pub host: Option<At<String>>,
    pub path: Option<At<String>>,
    pub methods: Option<At<Vec<At<Method>>>>,
    pub auth: Option<At<Auth>>,
    pub roles: Option<At<RawRoles>>,
    pub claims: Vec<(At<ClaimPath>, At<RawClaim>)>,
    pub scopes: Vec<At<Scope>>,
    pub upstream: Option<At<String>>,
    pub strip_prefix: Option<At<String>>,
    pub rewrite_responses: Option<At<bool>>,
    pub headers: Vec<(At<FieldName>, At<FieldValue>)>,
    pub forward_credential: Option<At<bool>>,
    pub accept: PathLeniency,
    pub keep_headers: Vec<At<FieldName>>,
}

/// `roles = ["a"]` is `any`.
#[derive(Clone, Debug, Default)]
pub struct RawRoles {
    pub any: Option<Vec<At<String>>>,
    pub all: Option<Vec<At<String>>>,
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
    pub preset: Option<At<String>>,
    pub headers: Vec<(At<FieldName>, At<ClaimPath>)>,
    pub assertion: Option<At<bool>>,
    pub encoding: Option<At<String>>,
    pub unverified_email: Option<At<bool>>,
}

/// `[session]`
#[derive(Clone, Debug, Default)]
pub struct RawSession {
    pub cookie: Option<At<String>>,
    pub token_lifetime: Option<At<Duration>>,
    pub idle_timeout: Option<At<Duration>>,
    pub lifetime: Option<At<Duration>>,
}

/// `[password]`
#[derive(Clone, Debug, Default)]
pub struct RawPassword {
    pub registration: Option<At<bool>>,
    pub default_roles: Vec<At<String>>,
    pub min_length: Option<At<u64>>,
    pub admin_role: Option<At<String>>,
    pub trust_unconfirmed_email: Option<At<bool>>,
}

/// `[pages]`
#[derive(Clone, Debug, Default)]
pub struct RawPages {
    pub name: Option<At<String>>,
    pub logo: Option<At<PathBuf>>,
    pub colors: RawColors,
    pub templates: Option<At<PathBuf>>,
    pub help: Option<At<String>>,
}

/// `pages.colors`: `#rgb` or `#rrggbb`. The `_dark` ones hold where the browser asks for a dark page.
#[derive(Clone, Debug, Default)]
pub struct RawColors {
    pub accent: Option<At<Color>>,
    pub accent_dark: Option<At<Color>>,
    pub background: Option<At<Color>>,
    pub background_dark: Option<At<Color>>,
}

/// `[[tests]]`
#[derive(Clone, Debug)]
pub struct RawTest {
    pub request: At<String>,
    pub caller: Option<At<RawTestCaller>>,
    pub expect: At<RawExpect>,
}

/// `as = { … }`
#[derive(Clone, Debug, Default)]
pub struct RawTestCaller {
    pub subject: Option<At<String>>,
    pub issuer: Option<At<String>>,
    pub roles: Vec<At<String>>,
    pub scopes: Vec<At<Scope>>,
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
