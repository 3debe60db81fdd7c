//! The TOML file as it was typed: one field a key, nothing decided yet.
//!
//! Output: values that cannot be wrong by themselves, each with its place in the file. The compile function of the room
//! that uses a table decides what it means together with the rest.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use rustls_pki_types::ServerName;

use super::preset::Preset;
use super::schema::{RestartValues, Scalars, Written};
pub(crate) use super::spanned::Spanned;
use crate::http::client::Share;
use crate::http::target::PathLeniency;
use crate::http::url::Url;
use crate::identity::ClaimPath;
use crate::values::{
    Alias, Auth, Builtin, Color, Condition, FieldName, FieldValue, HostPattern, Listen, MissingClaim,
    ParameterName, Pattern, RateLimitBy, RedirectUri, RequestLine, Scope, ServerAddress, SigningAlgorithm,
    StateUrl, Sticky, Token, TrustedProxy,
};

/// A named table, `[issuers.corp]`: the name and the table's content.
pub(crate) type Named<T> = (Spanned<String>, T);

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
    /// The tables that a reload compares.
    pub(crate) written: Written,
    /// `[server]`
    pub server: RawServer,
    /// `[admin]`
    pub admin: Option<RawAdmin>,
    /// `[state]`
    pub state: RawState,
    /// `[issuers.*]`, in the order of the file.
    pub issuers: Vec<Named<RawIssuer>>,
    /// `[credentials] sources`; `None` where not written.
    pub sources: Option<Vec<Spanned<RawSource>>>,
    /// `[upstreams.*]`, in the order of the file.
    pub upstreams: Vec<Named<RawUpstream>>,
    /// `[[routes]]`, in the order of the file; the span is that of its `[[routes]]` header.
    pub routes: Vec<Spanned<RawRoute>>,
    /// `[identity]`
    pub identity: RawIdentity,
    /// `[session]`
    pub session: RawSession,
    /// `[signing]`
    pub signing: RawSigning,
    /// `[password]`; `None` where local accounts cannot sign in.
    pub password: Option<Spanned<RawPassword>>,
    /// `[providers.*]`, in the order of the file.
    pub providers: Vec<Named<RawProvider>>,
    /// `[pages]`
    pub pages: RawPages,
    /// `[forward_auth]`
    pub forward_auth: RawForwardAuth,
    /// `[log]`
    pub log: RawLog,
    /// `[audit]`
    pub audit: RawAudit,
    /// `[[tests]]`; the span is that of its `[[tests]]` header.
    pub tests: Vec<Spanned<RawTest>>,
}

/// `[server]`
#[derive(Clone, Debug, Default)]
pub struct RawServer {
    /// `workers`, `max_connections`, `header_timeout`, `idle_timeout`, `drain_timeout`.
    pub scalars: Scalars,
    pub listen: Vec<Spanned<Listen>>,
    pub public_url: Option<Spanned<Url>>,
    pub trusted_proxies: Vec<Spanned<TrustedProxy>>,
    pub trusted_headers: Vec<Spanned<FieldName>>,
    pub max_header_bytes: Option<Spanned<u64>>,
    pub max_token_bytes: Option<Spanned<u64>>,
    pub egress_proxy: Option<Spanned<RawEgressProxy>>,
    pub max_body_bytes: Option<Spanned<Option<u64>>>,
    pub max_connections_per_client: Option<Spanned<Share>>,
    pub min_rate: Option<Spanned<u64>>,
    pub redirect_http: Option<Spanned<Listen>>,
    pub own_prefix: Option<Spanned<String>>,
    pub tls: Option<Spanned<RawServerTls>>,
}

/// `server.egress_proxy`
#[derive(Clone, Debug)]
pub enum RawEgressProxy {
    /// `"none"`: not even that of the environment.
    None,
    /// `"http://proxy:3128"`, or a table.
    Proxy {
        /// `http://`, with a user before `@` where there is a password.
        url: Spanned<Url>,
        /// The user's password.
        password: Option<Spanned<RawSecret>>,
    },
}

/// `[server.tls]`
#[derive(Clone, Debug, Default)]
pub struct RawServerTls {
    pub certificate: Option<Spanned<RawPem>>,
    pub private_key: Option<Spanned<RawPem>>,
    pub more: Vec<Spanned<RawCertificate>>,
}

/// One further certificate.
#[derive(Clone, Debug)]
pub struct RawCertificate {
    pub certificate: Spanned<RawPem>,
    pub private_key: Spanned<RawPem>,
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
    pub listen: Spanned<Listen>,
    pub hosts: Vec<Spanned<String>>,
    pub token: Option<Spanned<RawSecret>>,
}

/// `[forward_auth]`
#[derive(Clone, Debug, Default)]
pub struct RawForwardAuth {
    pub aliases: Vec<Spanned<Alias>>,
    pub cache: Option<Spanned<Duration>>,
}

/// `[log]`
#[derive(Clone, Debug, Default)]
pub struct RawLog {
    pub format: Option<Spanned<String>>,
    pub level: Option<Spanned<String>>,
    pub access: Option<Spanned<bool>>,
    pub email: Option<Spanned<bool>>,
    pub file: Option<Spanned<PathBuf>>,
}

/// `[audit]`
#[derive(Clone, Debug, Default)]
pub struct RawAudit {
    pub file: Option<Spanned<PathBuf>>,
}

/// `[state]`
#[derive(Clone, Debug, Default)]
pub struct RawState {
    pub url: Option<Spanned<StateUrl>>,
    pub encryption_key: Option<Spanned<RawSecret>>,
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
    pub issuer: Option<Spanned<String>>,
    pub tenants: Option<Spanned<RawTenants>>,
    pub audiences: Vec<Spanned<String>>,
    pub audience_claim: Option<Spanned<ClaimPath>>,
    pub algorithms: Vec<Spanned<String>>,
    pub jwks_url: Option<Spanned<String>>,
    pub jwks_file: Option<Spanned<PathBuf>>,
    pub public_key_file: Option<Spanned<PathBuf>>,
    pub secret: Option<Spanned<RawSecret>>,
    pub discovery: Option<Spanned<bool>>,
    pub jwks_token: Option<Spanned<RawSecret>>,
    pub ca_file: Option<Spanned<PathBuf>>,
    pub allow_http: Option<Spanned<bool>>,
    pub refresh_interval: Option<Spanned<Duration>>,
    pub refresh_cooldown: Option<Spanned<Duration>>,
    pub roles_claims: Vec<Spanned<ClaimPath>>,
    pub leeway: Option<Spanned<Duration>>,
    pub max_age: Option<Spanned<Duration>>,
    pub subject_claims: Vec<Spanned<ClaimPath>>,
    pub missing_claims: Vec<Spanned<MissingClaim>>,
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
    pub servers: Vec<Spanned<RawUpstreamServer>>,
    pub builtin: Option<Spanned<Builtin>>,
    pub host: Option<Spanned<HeaderValue>>,
    pub connect_timeout: Option<Spanned<Duration>>,
    pub response_timeout: Option<Spanned<Duration>>,
    pub idle_timeout: Option<Spanned<Duration>>,
    pub max_connections: Option<Spanned<u64>>,
    pub max_pending: Option<Spanned<u64>>,
    pub sticky: Option<Spanned<Sticky>>,
    pub ca_file: Option<Spanned<PathBuf>>,
    pub server_name: Option<Spanned<ServerName<'static>>>,
    pub client_certificate: Option<Spanned<PathBuf>>,
    pub client_key: Option<Spanned<RawPem>>,
    pub http2: Option<Spanned<bool>>,
    pub proxy_protocol: Option<Spanned<bool>>,
    pub health_check: Option<Spanned<RawHealthCheck>>,
}

/// An entry of `servers`: its address alone, or a table. Its span is that of the address.
#[derive(Clone, Debug)]
pub struct RawUpstreamServer {
    pub url: ServerAddress,
    pub weight: Option<Spanned<u64>>,
}

/// `health_check`
#[derive(Clone, Debug)]
pub struct RawHealthCheck {
    pub path: Spanned<PathAndQuery>,
    pub interval: Option<Spanned<Duration>>,
}

/// `[[routes]]`
#[derive(Clone, Debug, Default)]
pub struct RawRoute {
    pub host: Option<Spanned<HostPattern>>,
    pub path: Option<Spanned<Pattern>>,
    pub methods: Option<Spanned<Vec<Spanned<Method>>>>,
    pub auth: Option<Spanned<Auth>>,
    pub roles: Option<Spanned<RawRoles>>,
    pub claims: Vec<(Spanned<ClaimPath>, Spanned<RawClaim>)>,
    pub scopes: Vec<Spanned<Scope>>,
    pub acr: Vec<Spanned<Scope>>,
    pub max_age: Option<Spanned<Duration>>,
    pub provider: Option<Spanned<String>>,
    pub from: Vec<Spanned<IpNet>>,
    pub none_from: Vec<Spanned<IpNet>>,
    pub any: Option<Spanned<Vec<Spanned<RawAlternative>>>>,
    pub when: Option<Spanned<Condition>>,
    pub enforce: Option<Spanned<String>>,
    pub upstream: Option<Spanned<String>>,
    pub strip_prefix: Option<Spanned<String>>,
    pub rewrite_responses: Option<Spanned<bool>>,
    pub headers: Vec<(Spanned<FieldName>, Spanned<FieldValue>)>,
    pub forward_credential: Option<Spanned<bool>>,
    pub forward_provider_token: Option<Spanned<bool>>,
    pub accept: PathLeniency,
    pub keep_headers: Vec<Spanned<FieldName>>,
    pub rate_limit: Option<Spanned<RawRateLimit>>,
    pub cors: Option<Spanned<RawCors>>,
    pub security_headers: Option<Spanned<bool>>,
    pub maintenance: Option<Spanned<RawMaintenance>>,
}

/// `cors = { … }`
#[derive(Clone, Debug)]
pub struct RawCors {
    pub origins: Vec<Spanned<RawCorsOrigin>>,
    pub credentials: Option<Spanned<bool>>,
    pub methods: Option<Spanned<Vec<Spanned<Method>>>>,
    pub headers: Vec<Spanned<FieldName>>,
    pub expose: Option<Vec<Spanned<FieldName>>>,
    pub max_age: Option<Spanned<Duration>>,
}

/// One entry of `cors.origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawCorsOrigin {
    /// `"*"`
    Any,
    /// An origin.
    Listed(Url),
}

/// `maintenance = "…"`, or a table.
#[derive(Clone, Debug, Default)]
pub struct RawMaintenance {
    pub text: Option<Spanned<String>>,
    pub file: Option<Spanned<PathBuf>>,
    pub retry_after: Option<Spanned<Duration>>,
}

/// `rate_limit = { … }`
#[derive(Clone, Debug)]
pub struct RawRateLimit {
    pub requests: Option<Spanned<u64>>,
    pub per: Option<Spanned<Duration>>,
    pub by: Option<Spanned<RateLimitBy>>,
}

/// An entry of `any`: all that is there has to be met.
#[derive(Clone, Debug, Default)]
pub struct RawAlternative {
    pub role: Option<Spanned<String>>,
    pub scope: Option<Spanned<Scope>>,
    pub claims: Vec<(Spanned<ClaimPath>, Spanned<RawClaim>)>,
    pub from: Vec<Spanned<IpNet>>,
}

/// `roles = ["a"]` is `any`.
#[derive(Clone, Debug, Default)]
pub struct RawRoles {
    pub any: Option<Vec<Spanned<String>>>,
    pub all: Option<Vec<Spanned<String>>>,
    pub none: Option<Vec<Spanned<String>>>,
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
    pub preset: Option<Spanned<String>>,
    pub headers: Vec<(Spanned<FieldName>, Spanned<ClaimPath>)>,
    pub assertion: Option<Spanned<bool>>,
    pub encoding: Option<Spanned<String>>,
    pub unverified_email: Option<Spanned<bool>>,
}

/// `[session]`
#[derive(Clone, Debug, Default)]
pub struct RawSession {
    pub cookie: Option<Spanned<String>>,
    pub token_lifetime: Option<Spanned<Duration>>,
    pub idle_timeout: Option<Spanned<Duration>>,
    pub lifetime: Option<Spanned<Duration>>,
    pub origins: Vec<Spanned<Url>>,
    pub redirect_uris: Vec<Spanned<RedirectUri>>,
    pub same_site: Option<Spanned<String>>,
    pub refresh_cookie: Option<Spanned<bool>>,
}

impl RawSession {
    /// Whether the session cookie is `SameSite=None`.
    pub(crate) fn is_same_site_none(&self) -> bool {
        self.same_site.as_ref().is_some_and(|word| word.value == "none")
    }
}

/// `[signing]`
#[derive(Clone, Debug, Default)]
pub struct RawSigning {
    pub algorithm: Option<Spanned<SigningAlgorithm>>,
}

/// `[password]`
#[derive(Clone, Debug, Default)]
pub struct RawPassword {
    pub registration: Option<Spanned<bool>>,
    pub default_roles: Vec<Spanned<String>>,
    pub min_length: Option<Spanned<u64>>,
    pub admin_role: Option<Spanned<String>>,
    pub trust_unconfirmed_email: Option<Spanned<bool>>,
}

/// `[providers.NAME]`
#[derive(Clone, Debug, Default)]
pub struct RawProvider {
    pub(crate) preset: Option<Spanned<&'static Preset>>,
    pub issuer: Option<Spanned<String>>,
    pub tenants: Option<Spanned<RawProviderTenants>>,
    pub authorize_url: Option<Spanned<String>>,
    pub token_url: Option<Spanned<String>>,
    pub userinfo_url: Option<Spanned<String>>,
    pub claims: RawProviderClaims,
    pub client_id: Option<Spanned<String>>,
    pub client_secret: Option<Spanned<RawSecret>>,
    pub private_key: Option<Spanned<RawSecret>>,
    pub key_id: Option<Spanned<String>>,
    pub team_id: Option<Spanned<String>>,
    pub client_authentication: Option<Spanned<String>>,
    pub scopes: Option<Vec<Spanned<Scope>>>,
    pub authorize_parameters: Vec<(Spanned<String>, Spanned<String>)>,
    pub response_mode: Option<Spanned<String>>,
    pub name: Option<Spanned<String>>,
    pub roles_claims: Vec<Spanned<ClaimPath>>,
    pub roles: Vec<RawGrant>,
    pub allow: Option<Spanned<RawAllow>>,
    pub authoritative_domains: Vec<Spanned<String>>,
    pub refresh: Option<Spanned<bool>>,
    pub logout: Option<Spanned<bool>>,
    pub frontchannel_logout: Option<Spanned<bool>>,
    pub ca_file: Option<Spanned<PathBuf>>,
}

impl RawProvider {
    /// The place of what says that the answers of this provider come by form_post, if they do.
    #[must_use]
    pub(crate) fn form_post(&self) -> Option<&Range<usize>> {
        let (mode, span) = match (&self.response_mode, &self.preset) {
            (Some(mode), _) => (Some(mode.as_str()), &mode.span),
            (None, Some(preset)) => (preset.response_mode.as_deref(), &preset.span),
            (None, None) => return None,
        };
        (mode == Some("form_post")).then_some(span)
    }

    /// Whether the public can have accounts there, as far as is known.
    #[must_use]
    pub(crate) fn is_public(&self) -> bool {
        if matches!(
            self.tenants.as_ref().map(|tenants| &tenants.value),
            Some(RawProviderTenants::Listed(_))
        ) {
            return false;
        }
        let own = [&self.issuer, &self.authorize_url];
        match own.into_iter().flatten().next() {
            Some(url) => Preset::all().any(|(_, preset)| {
                let known = preset.issuer.as_ref().or(preset.authorize_url.as_ref());
                preset.public && known == Some(&url.value)
            }),
            None => self.preset.as_ref().is_some_and(|preset| preset.public),
        }
    }
}

/// `providers.*.claims`
#[derive(Clone, Debug, Default)]
pub struct RawProviderClaims {
    pub subject: Option<Spanned<ClaimPath>>,
    pub email: Option<Spanned<ClaimPath>>,
    pub email_verified: Option<Spanned<ClaimPath>>,
    pub name: Option<Spanned<ClaimPath>>,
}

/// `providers.*.tenants`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawProviderTenants {
    /// `"any"`
    Any,
    /// `"organizations"`
    Organizations,
    /// UUIDs, in lower case.
    Listed(Vec<String>),
}

/// One entry of `providers.*.roles`.
#[derive(Clone, Debug)]
pub struct RawGrant {
    /// The role.
    pub role: Spanned<String>,
    /// The users who get it.
    pub who: RawWho,
}

/// Users of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawWho {
    /// The one with this verified address.
    Email(String),
    /// Those with a verified address of this domain, in lower case.
    Domain(String),
    /// Those with this group.
    Group(String),
}

/// `providers.*.allow`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawAllow {
    /// `"anyone"`
    Anyone,
    /// Users to whom one of these applies.
    Listed(Vec<RawWho>),
}

/// `[pages]`
#[derive(Clone, Debug, Default)]
pub struct RawPages {
    pub name: Option<Spanned<String>>,
    pub logo: Option<Spanned<PathBuf>>,
    pub colors: RawColors,
    pub templates: Option<Spanned<PathBuf>>,
    pub help: Option<Spanned<String>>,
}

/// `pages.colors`: `#rgb` or `#rrggbb`. The `_dark` ones hold where the browser asks for a dark page.
#[derive(Clone, Debug, Default)]
pub struct RawColors {
    pub accent: Option<Spanned<Color>>,
    pub accent_dark: Option<Spanned<Color>>,
    pub background: Option<Spanned<Color>>,
    pub background_dark: Option<Spanned<Color>>,
}

/// `[[tests]]`
#[derive(Clone, Debug)]
pub struct RawTest {
    pub request: Spanned<RequestLine>,
    pub caller: Option<Spanned<RawTestCaller>>,
    pub origin: Option<Spanned<Url>>,
    pub expect: Spanned<RawExpect>,
}

/// `as = { … }`
#[derive(Clone, Debug, Default)]
pub struct RawTestCaller {
    pub subject: Option<Spanned<String>>,
    pub issuer: Option<Spanned<String>>,
    pub roles: Vec<Spanned<String>>,
    pub scopes: Vec<Spanned<Scope>>,
    pub acr: Option<Spanned<Scope>>,
    pub signed_in: Option<Spanned<Duration>>,
    pub provider: Option<Spanned<String>>,
    pub claims: Vec<(Spanned<ClaimPath>, Spanned<RawClaim>)>,
    /// The address of the client; alone, there is no caller.
    pub from: Option<Spanned<IpAddr>>,
    /// Whether a key says something about a caller.
    pub is_caller: bool,
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
