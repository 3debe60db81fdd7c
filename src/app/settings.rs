//! `[server]`, `[admin]`, `[state]` and `[log]`, ready to use: addresses, limits, certificates.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

use crate::account::Policy;
use crate::audit;
use crate::config::raw::{RawAdmin, RawLog, RawPassword, RawPem, RawServer, RawSession};
use crate::config::schema::{self, RestartValues, or_default};
use crate::config::{Problems, RawConfig, Spanned, load_secret};
use crate::http::client::Share;
use crate::http::headers::Host;
use crate::http::origin::ListedOrigins;
use crate::http::url::Url;
use crate::identity_headers::TrustedProxies;
use crate::observe::Form;
use crate::server::admin::AdminToken;
use crate::server::context::Limits;
use crate::server::listen::Address;
use crate::server::tls::{Certificates, Pair, Part, Source};
use crate::session;
use crate::values::{Aliases, Listen, SigningAlgorithm, TrustedProxy};

/// What the process is, as against what it does with a request.
#[derive(Debug)]
pub struct Settings {
    /// Where clients connect.
    pub listen: Vec<Address>,
    /// Where operators connect.
    pub admin: Option<Address>,
    /// Names that requests to the admin port may be for, besides addresses, `localhost` and the host of `public_url`.
    pub admin_hosts: Vec<String>,
    /// `[admin] token`
    pub(crate) admin_token: Option<AdminToken>,
    /// The logs.
    pub log: LogSettings,
    /// The file of the audit log; `None`: there is none.
    pub audit: Option<PathBuf>,
    /// Scheme, host and port of the site as browsers see it; the issuer of our own tokens.
    pub public_url: Url,
    /// Whether browsers see the site by HTTPS; `None` where the file has no `public_url`.
    pub public_https: Option<bool>,
    /// `session.origins`
    pub origins: ListedOrigins,
    /// Worker threads, at least one.
    pub workers: usize,
    /// Connections from clients, all workers together.
    pub max_connections: usize,
    /// The most of them, and of an app's connections, for one client, where all are taken.
    pub max_connections_per_client: Share,
    /// What connections are held to.
    pub limits: Limits,
    /// Where clients without TLS are sent to `public_url`.
    pub redirect_http: Option<Address>,
    /// The longest wait at the end.
    pub drain_timeout: Duration,
    /// The longest token, in bytes.
    pub max_token_bytes: usize,
    /// The longest body; `None` is unlimited.
    pub max_body_bytes: Option<u64>,
    /// Whose `X-Forwarded-*` are believed.
    pub trusted_proxies: TrustedProxies,
    /// TLS, where it is switched on.
    pub tls: Option<Arc<Certificates>>,
    /// `sqlite:…`
    pub state_url: String,
    /// Of a new signing key.
    pub signing_algorithm: SigningAlgorithm,
    /// Where our own endpoints live.
    pub own_prefix: String,
    /// Other products at whose addresses the gateway answers.
    pub aliases: Aliases,
    /// How long a proxy may keep the answer that a request may pass.
    pub forward_auth_cache: Duration,
    /// The values of the keys that only a restart changes.
    pub restart: RestartValues,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// What lines of the access log are like.
    pub form: Form,
    /// The file of the access log; `None` is standard output.
    pub file: Option<PathBuf>,
    /// The least severe diagnostics that are said.
    pub level: Level,
}

impl LogSettings {
    fn compile(raw: &RawLog, problems: &Problems) -> Self {
        Self {
            form: Form {
                access: or_default(raw.access.as_ref(), "log", "access"),
                json: raw.format.as_ref().is_none_or(|format| format.value != "text"),
                email: or_default(raw.email.as_ref(), "log", "email"),
            },
            file: raw.file.as_ref().map(|file| problems.resolve(&file.value)),
            level: raw
                .level
                .as_ref()
                .and_then(|level| level.value.parse().ok())
                .unwrap_or(Level::INFO),
        }
    }
}

impl Settings {
    /// Compiles the tables. Reads the certificates, and nothing else.
    #[must_use]
    pub(crate) fn compile(raw: &RawConfig, problems: &mut Problems) -> Self {
        let server = &raw.server;
        let listen = addresses(server, problems);
        let public_url = public_url(server, problems);
        let tls = compile_tls(server, problems);
        let trusted_proxies = trusted_proxies(server)
            .with_public_https(public_url.is_tls())
            .with_proxy_protocol(server.scalars.get("server", "proxy_protocol"));
        let state_url = state_url(raw, problems);
        let beside = problems.resolve(Path::new(STATE_FILE));
        if raw.state.url.is_none() && state_url != format!("sqlite:{STATE_FILE}") && beside.exists() {
            problems
                .warning(
                    &(0..0),
                    format!("the state file `{}` is not used", beside.display()),
                )
                .hint(format!(
                    "the state is in `{state_url}`; move the other one away, or name it in `[state]`"
                ));
        }
        Self {
            listen,
            admin: raw.admin.as_ref().map(|admin| address(&admin.listen, problems)),
            admin_token: raw.admin.as_ref().and_then(|admin| admin_token(admin, problems)),
            admin_hosts: raw
                .admin
                .iter()
                .flat_map(|admin| &admin.hosts)
                .map(|host| host.value.clone())
                .collect(),
            log: LogSettings::compile(&raw.log, problems),
            audit: audit(raw, problems),
            public_https: server.public_url.as_ref().map(|url| url.is_tls()),
            origins: ListedOrigins::new(raw.session.origins.iter().map(|origin| &origin.value)),
            workers: workers(server),
            max_connections: clamp(server.scalars.get("server", "max_connections")),
            max_connections_per_client: of_server(
                &server.max_connections_per_client,
                "max_connections_per_client",
            ),
            limits: Limits {
                max_header_bytes: clamp(of_server(&server.max_header_bytes, "max_header_bytes")),
                header_timeout: server.scalars.get("server", "header_timeout"),
                idle_timeout: server.scalars.get("server", "idle_timeout"),
                min_rate: of_server(&server.min_rate, "min_rate"),
            },
            redirect_http: server.redirect_http.as_ref().map(|listen| {
                if !public_url.is_tls() {
                    problems
                        .error(
                            &listen.span,
                            "`redirect_http` leads to `public_url`, which is not `https://`",
                        )
                        .hint("write `public_url = \"https://…\"`, or leave `redirect_http` out");
                }
                address(listen, problems)
            }),
            drain_timeout: server.scalars.get("server", "drain_timeout"),
            max_token_bytes: clamp(of_server(&server.max_token_bytes, "max_token_bytes")),
            max_body_bytes: server.max_body_bytes.as_ref().and_then(|most| most.value),
            trusted_proxies,
            tls,
            public_url,
            state_url,
            signing_algorithm: signing_algorithm(raw),
            own_prefix: of_server(&server.own_prefix, "own_prefix"),
            aliases: aliases(raw),
            forward_auth_cache: or_default(raw.forward_auth.cache.as_ref(), "forward_auth", "cache"),
            restart: raw.restart.clone(),
        }
    }

    /// The keys in which `next` differs from this and that only a restart can change.
    #[must_use]
    pub(crate) fn differs<'a>(&'a self, next: &'a Self) -> Vec<&'a str> {
        self.restart
            .iter()
            .zip(&next.restart)
            .filter(|(ours, theirs)| ours != theirs)
            .map(|((key, _), _)| key.as_str())
            .collect()
    }

    /// The host that browsers are told to reach by HTTPS alone: that of `public_url`, where it names no port, for the
    /// other ports of the host are not ours (RFC 6797 section 8.3).
    #[must_use]
    pub fn https_only_host(&self) -> Option<String> {
        let is_whole_host = self.public_url.is_tls() && self.public_url.port().is_none();
        is_whole_host.then(|| self.public_url.authority().to_owned())
    }

    /// The host of `public_url`, in lower case and without its port.
    #[must_use]
    pub fn public_host(&self) -> String {
        Host::parse(self.public_url.authority())
            .map(|host| host.name().to_owned())
            .unwrap_or_default()
    }

    /// The name in challenges: the host of `public_url`.
    #[must_use]
    pub fn realm(&self) -> String {
        self.public_url.authority().to_owned()
    }
}

/// Worker threads that `[server] workers` asks for.
pub(super) fn workers(server: &RawServer) -> usize {
    match clamp(server.scalars.get("server", "workers")) {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    }
}

/// `[signing] algorithm`.
pub(super) fn signing_algorithm(raw: &RawConfig) -> SigningAlgorithm {
    raw.signing
        .algorithm
        .as_ref()
        .map_or_else(SigningAlgorithm::default, |algorithm| algorithm.value)
}

/// `[forward_auth] aliases` and `grpc`.
fn aliases(raw: &RawConfig) -> Aliases {
    let written = raw.forward_auth.aliases.iter().map(|alias| alias.value);
    let grpc = or_default(raw.forward_auth.grpc.as_ref(), "forward_auth", "grpc");
    written.collect::<Aliases>().with_grpc(grpc)
}

/// `[audit] file`, which must be one that can be written.
fn audit(raw: &RawConfig, problems: &mut Problems) -> Option<PathBuf> {
    let written = raw.audit.file.as_ref()?;
    let path = problems.resolve(&written.value);
    if let Err(reason) = audit::check_place(&path) {
        let message = format!("the audit log `{}` cannot be written: {reason}", path.display());
        problems
            .error(&written.span, message)
            .hint("name a file in a directory that the gateway can write");
    }
    Some(path)
}

/// `[admin] token`.
fn admin_token(admin: &RawAdmin, problems: &mut Problems) -> Option<AdminToken> {
    let token = admin.token.as_ref()?;
    let loaded = load_secret(token, problems).and_then(|loaded| AdminToken::new(loaded.expose()));
    loaded
        .map_err(|fault| {
            problems
                .error(&token.span, format!("`token` cannot be used: {fault}"))
                .hint("write a random one into the file, for example with `openssl rand -hex 32`");
        })
        .ok()
}

/// `[server] trusted_proxies`.
fn trusted_proxies(server: &RawServer) -> TrustedProxies {
    let unix = server
        .trusted_proxies
        .iter()
        .any(|proxy| proxy.value == TrustedProxy::Unix);
    let networks = server
        .trusted_proxies
        .iter()
        .filter_map(|proxy| match proxy.value {
            TrustedProxy::Network(network) => Some(network),
            TrustedProxy::Unix => None,
        });
    TrustedProxies::new(networks.collect(), unix)
}

/// `[session]`, with the cookie's name as it is on the wire of the site at `public_url`.
pub(super) fn session(raw: &RawSession, public_url: &Url) -> session::Settings {
    let seconds = |written: &Option<Spanned<Duration>>, key| {
        let length: Duration = or_default(written.as_ref(), "session", key);
        i64::try_from(length.as_secs()).unwrap_or(i64::MAX).max(1)
    };
    let cookie: String = or_default(raw.cookie.as_ref(), "session", "cookie");
    let secure = public_url.is_tls();
    session::Settings {
        cookie: session::wire_name(&cookie, secure).to_owned(),
        secure,
        token_lifetime: seconds(&raw.token_lifetime, "token_lifetime"),
        idle_timeout: seconds(&raw.idle_timeout, "idle_timeout"),
        lifetime: seconds(&raw.lifetime, "lifetime"),
        same_site_none: raw.is_same_site_none(),
        public_url: public_url.to_string(),
        trust_unconfirmed_email: false,
        authorities: Arc::default(),
    }
}

/// `[password]`: what a new account and a new password are held to.
pub(super) fn policy(raw: &RawPassword) -> Policy {
    Policy {
        min_length: clamp(or_default(raw.min_length.as_ref(), "password", "min_length")),
        default_roles: raw.default_roles.iter().map(|role| role.value.clone()).collect(),
    }
}

fn clamp(value: u64) -> usize {
    usize::try_from(value)
        .unwrap_or(usize::MAX)
        .min(tokio::sync::Semaphore::MAX_PERMITS)
}

/// The value of a key of `[server]`.
fn of_server<T: schema::FromValue + Clone>(written: &Option<Spanned<T>>, key: &str) -> T {
    or_default(written.as_ref(), "server", key)
}

fn address(listen: &Spanned<Listen>, problems: &Problems) -> Address {
    match &listen.value {
        Listen::Tcp(address) => Address::Tcp(*address),
        Listen::Unix(path) => Address::Unix(problems.resolve(path)),
        Listen::Systemd(name) => Address::Systemd(name.clone()),
    }
}

fn addresses(server: &RawServer, problems: &Problems) -> Vec<Address> {
    if server.listen.is_empty() {
        return vec![Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)))];
    }
    server
        .listen
        .iter()
        .map(|listen| address(listen, problems))
        .collect()
}

/// `[state] url`, or where the state file is without it.
pub(super) fn state_url(raw: &RawConfig, problems: &Problems) -> String {
    match &raw.state.url {
        Some(url) => url.to_string(),
        None => {
            let beside = problems.resolve(Path::new(STATE_FILE));
            let directories = std::env::var_os("STATE_DIRECTORY");
            match state_file_of_service(&beside, directories.as_deref(), Path::new("/")) {
                Some(file) => format!("sqlite:{}", file.display()),
                None => format!("sqlite:{STATE_FILE}"),
            }
        }
    }
}

const STATE_FILE: &str = "passgate.db";

/// The state file of a TOML file that names none, where it is not `beside` that file: in the first of systemd's state
/// directories (systemd.exec(5), `StateDirectory=`). A command that an administrator gives beside the service has no
/// `$STATE_DIRECTORY`; for a TOML file in `/etc/NAME` it uses the file that the service made in `/var/lib/NAME`, and not
/// another one that the service would never see. `root` is `/` but in tests.
fn state_file_of_service(beside: &Path, state_directories: Option<&OsStr>, root: &Path) -> Option<PathBuf> {
    let first = state_directories.and_then(|list| list.as_bytes().split(|byte| *byte == b':').next());
    if let Some(first) = first.filter(|first| !first.is_empty()) {
        return Some(Path::new(OsStr::from_bytes(first)).join(STATE_FILE));
    }
    let configuration = match beside.parent()? {
        here if here.as_os_str().is_empty() => Path::new("."),
        directory => directory,
    };
    let configuration = configuration.canonicalize().ok()?;
    let name = configuration
        .strip_prefix(root.join("etc"))
        .ok()
        .filter(|name| !name.as_os_str().is_empty())?;
    let file = root.join("var/lib").join(name).join(STATE_FILE);
    (file.exists() && !beside.exists()).then_some(file)
}

/// `[server] public_url`, or what stands in for it.
pub(super) fn public_url(server: &RawServer, problems: &Problems) -> Url {
    server.public_url.as_ref().map_or_else(
        || default_public_url(&addresses(server, problems), server.tls.is_some()),
        |url| url.value.clone(),
    )
}

/// What a gateway without `public_url` calls itself: its first address as a client on this machine writes it.
fn default_public_url(listen: &[Address], tls: bool) -> Url {
    let scheme = if tls { "https" } else { "http" };
    let url = match listen.first() {
        Some(Address::Tcp(address)) => {
            let ip = match address.ip() {
                ip if !ip.is_unspecified() => ip,
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            // The system chooses the port where it is 0, so that it cannot be written.
            let authority = SocketAddr::new(ip, address.port()).to_string();
            format!(
                "{scheme}://{}",
                authority.strip_suffix(":0").unwrap_or(&authority)
            )
        }
        _ => format!("{scheme}://localhost"),
    };
    url.parse().expect("an address and a port are an authority")
}

fn compile_tls(server: &RawServer, problems: &mut Problems) -> Option<Arc<Certificates>> {
    let tls = server.tls.as_ref()?;
    let mut typed: Vec<(&Spanned<RawPem>, &Spanned<RawPem>)> = Vec::new();
    // Where one of the two is missing or cannot be read as a place, the reader has said so.
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.private_key) {
        typed.push((certificate, key));
    }
    typed.extend(
        tls.more
            .iter()
            .map(|more| (&more.value.certificate, &more.value.private_key)),
    );
    if typed.is_empty() {
        return None;
    }
    let source = |pem: &RawPem| match pem {
        RawPem::Path(path) => Source::File(problems.resolve(path)),
        RawPem::Secret(secret) => Source::Secret {
            secret: secret.clone(),
            directory: problems.directory().to_owned(),
        },
    };
    let pairs = typed
        .iter()
        .map(|(certificate, key)| Pair {
            certificate: source(certificate),
            private_key: source(key),
        })
        .collect();
    for (_, key) in &typed {
        if let RawPem::Secret(secret) = &key.value
            && let Some(exposure) = secret.exposure(problems.directory())
        {
            problems
                .warning(&key.span, exposure)
                .hint("every process that can read it can impersonate this site");
        }
    }
    match Certificates::load(pairs) {
        Ok(certificates) => Some(Arc::new(certificates)),
        Err(faults) => {
            for fault in faults {
                let (certificate, key) = typed[fault.pair];
                let (span, hint) = match fault.part {
                    Part::Certificate => (
                        &certificate.span,
                        "a PEM file: the certificate of the site, then those of its issuers",
                    ),
                    Part::PrivateKey => (
                        &key.span,
                        "the PEM file of the certificate's own key, which the gateway's user may read",
                    ),
                };
                problems.error(span, fault.text).hint(hint);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_service_and_the_commands_beside_it_have_one_state_file() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (etc, lib) = (root.join("etc/passgate"), root.join("var/lib/passgate"));
        for directory in [&etc, &lib, &root.join("srv")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let find =
            |beside: &Path, list: Option<&str>| state_file_of_service(beside, list.map(OsStr::new), &root);
        let (beside, of_service) = (etc.join(STATE_FILE), lib.join(STATE_FILE));
        for (list, expected) in [
            ("/var/lib/a", Some("/var/lib/a/passgate.db")),
            ("/var/lib/a:/var/lib/b", Some("/var/lib/a/passgate.db")),
            ("", None),
        ] {
            assert_eq!(find(&beside, Some(list)), expected.map(PathBuf::from), "{list}");
        }
        assert_eq!(find(&beside, None), None, "no service has run yet");
        std::fs::write(&of_service, "").unwrap();
        assert_eq!(find(&beside, None), Some(of_service));
        assert_eq!(
            find(&root.join("srv").join(STATE_FILE), None),
            None,
            "a file of another place is no service's"
        );
        assert_eq!(find(Path::new("passgate.db"), None), None);
        std::fs::write(&beside, "").unwrap();
        assert_eq!(find(&beside, None), None, "what was there before stays in use");
    }

    #[test]
    fn what_the_example_shows_of_the_process_is_the_default() {
        let compile = |text: &str| {
            let mut problems = Problems::new(std::path::Path::new("gateway.toml"), text);
            let raw = crate::config::read(&mut problems);
            assert_eq!(problems.errors().len(), 0, "{}", problems.render(false));
            Settings::compile(&raw, &mut problems)
        };
        let (example, default) = (compile(include_str!("../../gateway.example.toml")), compile(""));
        assert_eq!(
            default.differs(&example),
            ["admin.listen"],
            "without a table there is no admin port"
        );
        assert_eq!(
            (
                default.public_url,
                default.max_body_bytes,
                default.trusted_proxies,
                default.own_prefix
            ),
            (
                example.public_url,
                example.max_body_bytes,
                example.trusted_proxies,
                example.own_prefix
            )
        );
    }
}
