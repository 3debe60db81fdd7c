//! `[upstreams.*]`, compiled into an [`Upstream`].
//!
//! Input: the raw table. Output: an upstream whose addresses, timeouts, limits and TLS settings are final. Nothing is
//! resolved or connected here; certificates and the key of the gateway's own are read from disk.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::affinity::{COOKIE_PREFIX, hash_of};
use super::names::Addresses;
use super::server::{Address, Health, Server, Speaks, Tls, Uptime};
use super::upstream::{HealthCheck, Upstream};
use crate::config::raw::{RawPem, RawUpstream, RawUpstreamServer};
use crate::config::schema::or_default;
use crate::config::{Problems, Spanned};
use crate::http::location::Origin;
use crate::net::tls_roots::{certificate_chain, client_config, client_config_as, file_roots, system_roots};
use crate::values::{ServerAddress, ServerHost, ServerScheme};

/// The table in the schema.
const TABLE: &str = "upstreams.*";

impl Upstream {
    /// Makes the table `name` ready for a gateway with `workers` threads. What is wrong goes to `problems`; the result
    /// is then of no use.
    ///
    /// `http://` and `unix:` servers are spoken to in HTTP/1.1, `h2c://` in HTTP/2 without TLS. `https://` offers `h2` and
    /// `http/1.1` by ALPN, and for a WebSocket `http/1.1` alone.
    pub fn compile(
        name: &Spanned<String>,
        raw: &RawUpstream,
        workers: usize,
        problems: &mut Problems,
    ) -> Self {
        let mut tls = TlsConfigs::default();
        let mut servers: Vec<Server> = Vec::with_capacity(raw.servers.len());
        for (index, written) in raw.servers.iter().enumerate() {
            if let Some(earlier) = raw.servers[..index]
                .iter()
                .find(|earlier| earlier.url == written.url)
            {
                let earlier = earlier.span.clone();
                problems
                    .error(&written.span, "this server is listed twice")
                    .also(earlier, "first here")
                    .hint("remove one of them");
                continue;
            }
            let Some(server) = compile_server(written, raw, &mut tls, problems) else {
                continue;
            };
            if let Some(first) = servers.first().filter(|first| first.base != server.base) {
                let path = |server: &Server| {
                    if server.base.is_empty() {
                        "/".to_owned()
                    } else {
                        server.base.clone()
                    }
                };
                problems
                    .error(&written.span, format!("the servers of upstream `{}` have different paths", name.value))
                    .label(format!("`{}` here, `{}` before", path(&server), path(first)))
                    .hint("all servers of one upstream have the app below the same path; make two upstreams of them");
            }
            servers.push(server);
        }
        if !raw.servers.iter().any(|server| server.url.is_tls()) {
            for (key, span) in tls_keys(raw) {
                problems
                    .warning(
                        span,
                        format!("`{key}` has no effect: no server of this upstream is `https://`"),
                    )
                    .hint("remove it, or write `https://` where the app speaks TLS");
            }
        }
        let host = raw.host.as_ref().map(|host| host.value.clone());
        let duration = |written: &Option<Spanned<Duration>>, key| or_default(written.as_ref(), TABLE, key);
        // Without a port, `host` may be of either scheme: the app knows only the Host that it gets.
        let named = host.as_ref().and_then(|host| Origin::public(host.to_str().ok()?));
        Self {
            name: name.value.as_str().into(),
            base: servers
                .first()
                .map(|server| server.base.clone())
                .unwrap_or_default(),
            origins: servers
                .iter()
                .filter_map(|server| server.origin.clone())
                .chain(named)
                .collect(),
            servers,
            builtin: raw.builtin.as_ref().map(|builtin| builtin.value),
            host,
            connect_timeout: duration(&raw.connect_timeout, "connect_timeout"),
            response_timeout: duration(&raw.response_timeout, "response_timeout"),
            idle_timeout: duration(&raw.idle_timeout, "idle_timeout"),
            max_connections: share(raw.max_connections.as_ref(), "max_connections", workers).max(1),
            max_pending: share(raw.max_pending.as_ref(), "max_pending", workers),
            health_check: raw.health_check.as_ref().map(|check| HealthCheck {
                path: check.path.value.clone(),
                interval: or_default(check.interval.as_ref(), "upstreams.*.health_check", "interval"),
            }),
            proxy_protocol: announces(raw),
            sticky: raw.sticky.as_ref().map(|sticky| sticky.value),
            cookie_name: format!("{COOKIE_PREFIX}{}", name.value),
            server_ids: OnceLock::new(),
            uptime: Uptime::default(),
            dropped_cookies: AtomicU64::new(0),
        }
    }
}

fn announces(raw: &RawUpstream) -> bool {
    or_default(raw.proxy_protocol.as_ref(), TABLE, "proxy_protocol")
}

/// The keys that only mean something for `https://` servers, as far as they are written.
fn tls_keys(raw: &RawUpstream) -> impl Iterator<Item = (&'static str, &Range<usize>)> {
    let keys = [
        ("ca_file", raw.ca_file.as_ref().map(|written| &written.span)),
        (
            "server_name",
            raw.server_name.as_ref().map(|written| &written.span),
        ),
        (
            "client_certificate",
            raw.client_certificate.as_ref().map(|written| &written.span),
        ),
        ("http2", raw.http2.as_ref().map(|written| &written.span)),
    ];
    keys.into_iter().filter_map(|(key, span)| Some((key, span?)))
}

/// What one worker has of a limit; at least 1 of any.
fn share(written: Option<&Spanned<u64>>, key: &str, workers: usize) -> usize {
    let most: u64 = or_default(written, TABLE, key);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    (most / workers.max(1)).max(most.min(1))
}

fn compile_server(
    written: &Spanned<RawUpstreamServer>,
    raw: &RawUpstream,
    tls: &mut TlsConfigs,
    problems: &mut Problems,
) -> Option<Server> {
    let weight = weight(written);
    let (scheme, host, port, authority, base) = match &written.url {
        ServerAddress::Unix(path) => {
            return Some(unix_server(problems.resolve(path), announces(raw), weight));
        }
        ServerAddress::Tcp {
            scheme,
            host,
            port,
            authority,
            base,
        } => (*scheme, host, *port, authority, base),
    };
    let (address, name) = match host {
        ServerHost::Ip(ip) => (Address::Ip(std::net::SocketAddr::new(*ip, port)), ip.to_string()),
        ServerHost::Name(host) => {
            let host = host.clone();
            let name = host.to_string();
            (Address::Name { host, port }, name)
        }
    };
    let label = match &address {
        Address::Ip(address) => address.to_string(),
        _ => format!("{name}:{port}"),
    };
    let is_tls = scheme == ServerScheme::Https;
    let tls = if is_tls {
        Some(compile_tls(&name, written, raw, tls, problems)?)
    } else {
        None
    };
    if scheme == ServerScheme::H2c
        && let Some(key) = raw.proxy_protocol.as_ref().filter(|key| key.value)
    {
        problems
            .error(
                &written.span,
                "an `h2c://` server cannot be told the client's address by `proxy_protocol`",
            )
            .also(key.span.clone(), "switched on here")
            .hint("one connection of HTTP/2 is for all clients: write `http://`, or remove `proxy_protocol`");
        return None;
    }
    Some(Server {
        hash: hash_of(&label),
        label: label.into(),
        address,
        addresses: Addresses::default(),
        speaks: match scheme {
            ServerScheme::H2c => Speaks::Http2,
            ServerScheme::Https if offers_http2(raw) => Speaks::Either,
            ServerScheme::Http | ServerScheme::Https => Speaks::Http1,
        },
        proxy_protocol: announces(raw),
        tls,
        host: authority.clone(),
        base: base.clone(),
        origin: Origin::server(authority.to_str().ok()?, if is_tls { 443 } else { 80 }),
        weight,
        health: Health::default(),
    })
}

fn weight(written: &RawUpstreamServer) -> u32 {
    let weight: u64 = or_default(written.weight.as_ref(), "upstreams.*.servers", "weight");
    // From 1 to 100, as the schema has it.
    u32::try_from(weight).unwrap_or(1).max(1)
}

fn offers_http2(raw: &RawUpstream) -> bool {
    // A connection that is announced for one client carries no requests of others.
    or_default(raw.http2.as_ref(), TABLE, "http2") && !announces(raw)
}

fn unix_server(path: PathBuf, proxy_protocol: bool, weight: u32) -> Server {
    let label = format!("unix:{}", path.display());
    Server {
        hash: hash_of(&label),
        label: label.into(),
        address: Address::Unix(path),
        addresses: Addresses::default(),
        speaks: Speaks::Http1,
        proxy_protocol,
        tls: None,
        host: HeaderValue::from_static("localhost"),
        base: String::new(),
        origin: None,
        weight,
        health: Health::default(),
    }
}

fn compile_tls(
    host: &str,
    written: &Spanned<RawUpstreamServer>,
    raw: &RawUpstream,
    configs: &mut TlsConfigs,
    problems: &mut Problems,
) -> Option<Tls> {
    let name = match &raw.server_name {
        Some(name) => name.value.clone(),
        None => {
            let Ok(name) = ServerName::try_from(host.to_owned()) else {
                problems
                    .error(&written.span, format!("`{host}` cannot stand in a certificate"))
                    .hint("write the name or address that the app's certificate is made out to");
                return None;
            };
            name
        }
    };
    let [config, http1] = configs.ready(raw, &written.span, problems)?;
    Some(Tls { config, http1, name })
}

/// The TLS settings of an upstream, made for its first `https://` server; a failure is reported once.
#[derive(Default)]
struct TlsConfigs(Option<Option<[Arc<ClientConfig>; 2]>>);

impl TlsConfigs {
    /// Those that offer what the server may choose, and those that offer HTTP/1.1 alone.
    fn ready(
        &mut self,
        raw: &RawUpstream,
        server: &Range<usize>,
        problems: &mut Problems,
    ) -> Option<[Arc<ClientConfig>; 2]> {
        self.0
            .get_or_insert_with(|| {
                let roots = match &raw.ca_file {
                    Some(file) => read_authorities(file, problems),
                    None => system_authorities(server, problems),
                };
                let mut http1 = match (&raw.client_certificate, &raw.client_key) {
                    (Some(certificate), Some(key)) => with_certificate(roots?, certificate, key, problems)?,
                    _ => client_config(roots?),
                };
                http1.alpn_protocols = vec![b"http/1.1".to_vec()];
                let http1 = Arc::new(http1);
                if !offers_http2(raw) {
                    return Some([Arc::clone(&http1), http1]);
                }
                let mut either = ClientConfig::clone(&http1);
                either.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
                Some([Arc::new(either), http1])
            })
            .clone()
    }
}

/// Settings with the certificate by which the gateway shows itself to the app.
fn with_certificate(
    roots: RootCertStore,
    certificate: &Spanned<PathBuf>,
    key: &Spanned<RawPem>,
    problems: &mut Problems,
) -> Option<ClientConfig> {
    let path = problems.resolve(certificate);
    let chain = std::fs::read(&path)
        .map_err(|error| format!("cannot be read: {error}"))
        .and_then(|text| certificate_chain(&text));
    let chain = match chain {
        Ok(chain) => chain,
        Err(fault) => {
            problems
                .error(&certificate.span, format!("`{}` {fault}", path.display()))
                .hint("`client_certificate` is a PEM file: the gateway's certificate, then those of its issuers");
            return None;
        }
    };
    const KEY_HINT: &str =
        "`client_key` is the PEM file of the certificate's own key, which the gateway's user may read";
    let private_key = match read_key(key, problems) {
        Ok(private_key) => private_key,
        Err(fault) => {
            problems
                .error(&key.span, format!("cannot read a private key: {fault}"))
                .hint(KEY_HINT);
            return None;
        }
    };
    match client_config_as(roots, chain, private_key) {
        Ok(config) => Some(config),
        Err(error) => {
            problems
                .error(
                    &key.span,
                    format!("the key does not go with the certificate: {error}"),
                )
                .also(certificate.span.clone(), "the certificate")
                .hint(KEY_HINT);
            None
        }
    }
}

fn read_key(key: &Spanned<RawPem>, problems: &mut Problems) -> Result<PrivateKeyDer<'static>, String> {
    let text = match &key.value {
        RawPem::Path(path) => std::fs::read(problems.resolve(path))
            .map(Zeroizing::new)
            .map_err(|error| error.to_string())?,
        RawPem::Secret(secret) => {
            if let Some(exposure) = secret.exposure(problems.directory()) {
                problems
                    .warning(&key.span, exposure)
                    .hint("a process that reads it can act as this gateway");
            }
            Zeroizing::new(secret.load(problems.directory())?.expose().to_vec())
        }
    };
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| error.to_string())
}

fn read_authorities(file: &Spanned<PathBuf>, problems: &mut Problems) -> Option<RootCertStore> {
    let path = problems.resolve(file);
    let fault = match file_roots(&path) {
        Ok(roots) => return Some(roots),
        Err(fault) => fault,
    };
    problems
        .error(&file.span, format!("`{}` {fault}", path.display()))
        .hint("`ca_file` is a PEM file, relative to this file, that the gateway's user may read");
    None
}

fn system_authorities(server: &Range<usize>, problems: &mut Problems) -> Option<RootCertStore> {
    let roots = system_roots();
    if roots.is_none() {
        problems
            .error(
                server,
                "this system has no certificates of authorities to check the server's with",
            )
            .hint("install `ca-certificates`, or name a PEM file with `ca_file`");
    }
    roots
}
