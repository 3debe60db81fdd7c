//! `[upstreams.*]`, compiled into an [`Upstream`].
//!
//! Input: the raw table. Output: an upstream whose addresses, timeouts, limits and TLS settings are final. Nothing is
//! resolved or connected here; the certificates of authorities are read from disk.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Uri};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::server::{Address, Health, Protocol, Server, Tls};
use super::upstream::{Builtin, HealthCheck, Upstream};
use crate::config::raw::{RawHealthCheck, RawUpstream};
use crate::config::{At, Problems, nearest};
use crate::http::location::Origin;
use crate::http::target::canonical_prefix;
use crate::refusal::Refusal;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_CONNECTIONS: u64 = 1024;
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
const BUILTINS: [&str; 1] = ["whoami"];

impl Upstream {
    /// Makes the table `name` ready for a gateway with `workers` threads. What is wrong goes to `problems`; the result
    /// is then of no use.
    ///
    /// `http://` and `unix:` servers are spoken to in HTTP/1.1, `h2c://` in HTTP/2 without TLS. `https://` offers
    /// `http/1.1` alone by ALPN, also where the server could speak HTTP/2: WebSockets need it, and one connection then
    /// carries one request, as `max_connections` says.
    pub fn compile(name: &At<String>, raw: &RawUpstream, workers: usize, problems: &mut Problems) -> Self {
        let builtin = raw
            .builtin
            .as_ref()
            .and_then(|builtin| compile_builtin(builtin, raw, problems));
        if raw.servers.is_empty() && raw.builtin.is_none() {
            problems
                .error(&name.span, format!("upstream `{}` has no servers", name.value))
                .hint("add `servers = [\"http://127.0.0.1:3000\"]`, or `builtin = \"whoami\"` to try things out");
        }
        let mut tls = TlsConfigs::default();
        let mut servers: Vec<Server> = Vec::with_capacity(raw.servers.len());
        for (index, written) in raw.servers.iter().enumerate() {
            if let Some(earlier) = raw.servers[..index]
                .iter()
                .find(|earlier| earlier.value == written.value)
            {
                let earlier = earlier.span.clone();
                problems
                    .error(
                        &written.span,
                        format!("server `{}` is listed twice", written.value),
                    )
                    .also(earlier, "first here")
                    .hint("take one of them out");
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
        if let Some(ca_file) = &raw.ca_file
            && !raw.servers.iter().any(|server| server.starts_with("https://"))
        {
            problems
                .warning(
                    &ca_file.span,
                    "`ca_file` has no effect: no server of this upstream is `https://`",
                )
                .hint("remove it, or write `https://` where the app speaks TLS");
        }
        let duration = |value: &Option<At<Duration>>, key: &str, default, problems: &mut Problems| match value
        {
            Some(value) if value.is_zero() => {
                problems
                    .error(&value.span, format!("`{key}` must be longer than zero"))
                    .hint(format!(
                        "leave it out for {} seconds",
                        Duration::as_secs(&default)
                    ));
                default
            }
            Some(value) => value.value,
            None => default,
        };
        let host = raw.host.as_ref().and_then(|host| compile_host(host, problems));
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
            builtin,
            host,
            connect_timeout: duration(&raw.connect_timeout, "connect_timeout", CONNECT_TIMEOUT, problems),
            response_timeout: duration(
                &raw.response_timeout,
                "response_timeout",
                RESPONSE_TIMEOUT,
                problems,
            ),
            idle_timeout: duration(&raw.idle_timeout, "idle_timeout", IDLE_TIMEOUT, problems),
            max_connections: compile_limit(raw, workers, problems),
            health_check: raw
                .health_check
                .as_ref()
                .and_then(|check| compile_check(check, raw, problems)),
            epoch: Instant::now(),
            dropped_cookies: AtomicU64::new(0),
        }
    }
}

fn compile_builtin(builtin: &At<String>, raw: &RawUpstream, problems: &mut Problems) -> Option<Builtin> {
    if let Some(server) = raw.servers.first() {
        let also = builtin.span.clone();
        problems
            .error(&server.span, "an upstream has either `servers` or `builtin`")
            .also(also, "the other one")
            .hint("remove one of them");
    }
    if builtin.value == "whoami" {
        return Some(Builtin::Whoami);
    }
    let hint = match nearest(&builtin.value, BUILTINS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`whoami` is the only one".to_owned(),
    };
    problems
        .error(
            &builtin.span,
            format!("nothing built in is called `{}`", builtin.value),
        )
        .hint(hint);
    None
}

fn compile_limit(raw: &RawUpstream, workers: usize, problems: &mut Problems) -> usize {
    let limit = match &raw.max_connections {
        Some(limit) if limit.value == 0 => {
            problems
                .error(&limit.span, "`max_connections` must be at least 1")
                .hint(format!("leave it out for {MAX_CONNECTIONS}"));
            MAX_CONNECTIONS
        }
        Some(limit) => limit.value,
        None => MAX_CONNECTIONS,
    };
    (usize::try_from(limit).unwrap_or(usize::MAX) / workers.max(1)).max(1)
}

fn compile_host(host: &At<String>, problems: &mut Problems) -> Option<HeaderValue> {
    let valid = host
        .parse::<Authority>()
        .is_ok_and(|parsed| !parsed.host().is_empty() && !host.contains('@'));
    let value = if valid {
        HeaderValue::from_str(host).ok()
    } else {
        None
    };
    if value.is_none() {
        problems
            .error(&host.span, format!("`{}` is not a host", host.value))
            .hint("write a name and, where it is not the usual one, a port: `app.internal:8080`");
    }
    value
}

fn compile_check(
    check: &At<RawHealthCheck>,
    raw: &RawUpstream,
    problems: &mut Problems,
) -> Option<HealthCheck> {
    if raw.builtin.is_some() {
        problems
            .error(&check.span, "something built in has no health to check")
            .hint("remove `health_check`");
        return None;
    }
    let interval = match &check.interval {
        Some(interval) if interval.is_zero() => {
            problems
                .error(&interval.span, "`interval` must be longer than zero")
                .hint("leave it out for 5 seconds");
            return None;
        }
        Some(interval) => interval.value,
        None => HEALTH_INTERVAL,
    };
    match check.path.parse::<PathAndQuery>() {
        Ok(path) if check.path.starts_with('/') && !check.path.contains('#') => {
            Some(HealthCheck { path, interval })
        }
        _ => {
            problems
                .error(&check.path.span, format!("`{}` is not a path", check.path.value))
                .hint("write what is asked for on the server, starting with `/`: `/healthz`");
            None
        }
    }
}

fn compile_server(
    written: &At<String>,
    raw: &RawUpstream,
    tls: &mut TlsConfigs,
    problems: &mut Problems,
) -> Option<Server> {
    if let Some(path) = written.strip_prefix("unix:") {
        return compile_unix(path, written, problems);
    }
    let (protocol, encrypted, authority) = match written.split_once("://") {
        Some(("http", rest)) => (Protocol::Http1, false, rest),
        Some(("https", rest)) => (Protocol::Http1, true, rest),
        Some(("h2c", rest)) => (Protocol::Http2, false, rest),
        _ => {
            let known =
                "a server is `http://host:port`, `https://host:port`, `h2c://host:port` or `unix:/path`";
            let problem = problems.error(
                &written.span,
                format!("`{}` is not the address of a server", written.value),
            );
            match written.parse::<Authority>() {
                Ok(authority) if !written.contains("://") => {
                    problem.hint(format!("write `http://{authority}`; {known}"))
                }
                _ => problem.hint(known),
            };
            return None;
        }
    };
    let (authority, base) = authority.split_at(authority.find(['/', '?', '#']).unwrap_or(authority.len()));
    if let Some(end) = base.find(['?', '#']) {
        let address = &written[..written.len() - (base.len() - end)];
        problems
            .error(
                &written.span,
                "the address of a server has no room for a query or a fragment",
            )
            .hint(format!("write `{address}`"));
        return None;
    }
    if authority.contains('@') {
        problems
            .error(
                &written.span,
                "the address of a server has no room for a user name",
            )
            .hint("credentials for an app do not belong here; set a header on the route");
        return None;
    }
    let base = match base {
        "" => String::new(),
        path => match canonical_prefix(path) {
            Ok(base) if !base.contains("%2F") => base,
            refused => {
                let refusal = refused.err().unwrap_or(Refusal::PathEncodedSlash);
                problems
                    .error(
                        &written.span,
                        format!("no request can have the path `{path}`: {refusal}"),
                    )
                    .hint("a path of a server is plain segments, such as `/base`");
                return None;
            }
        },
    };
    let default_port = if encrypted { 443 } else { 80 };
    let Some((host, port)) = split_authority(authority, default_port) else {
        problems
            .error(&written.span, format!("`{authority}` is not a host and a port"))
            .hint("write `127.0.0.1:3000`, `[::1]:3000` or `app.internal:3000`");
        return None;
    };
    let tls = if encrypted {
        Some(compile_tls(&host, written, raw, tls, problems)?)
    } else {
        None
    };
    let address = match host.parse() {
        Ok(ip) => Address::Ip(std::net::SocketAddr::new(ip, port)),
        Err(_not_an_ip) => Address::Name {
            host: host.into(),
            port,
        },
    };
    let label = match &address {
        Address::Ip(address) => address.to_string(),
        _ => format!("{}:{port}", split_port(authority).0),
    };
    let host = HeaderValue::from_str(authority).ok()?;
    let origin = Origin::server(authority, default_port);
    Some(Server {
        label: label.into(),
        address,
        protocol,
        tls,
        host,
        base,
        origin,
        health: Health::default(),
    })
}

fn compile_unix(path: &str, written: &At<String>, problems: &mut Problems) -> Option<Server> {
    if path.is_empty() || (path.starts_with("//") && !path.starts_with("///")) {
        problems
            .error(
                &written.span,
                format!("`{}` is not the address of a server", written.value),
            )
            .hint("write `unix:/run/app.sock`, or `unix:app.sock` for a socket beside this file");
        return None;
    }
    let path = problems.resolve(Path::new(path));
    Some(Server {
        label: format!("unix:{}", path.display()).into(),
        address: Address::Unix(path),
        protocol: Protocol::Http1,
        tls: None,
        host: HeaderValue::from_static("localhost"),
        base: String::new(),
        origin: None,
        health: Health::default(),
    })
}

/// The host without brackets, and the port.
fn split_authority(authority: &str, default_port: u16) -> Option<(String, u16)> {
    authority.parse::<Authority>().ok()?;
    Uri::try_from(authority).ok()?;
    let (host, port) = split_port(authority);
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => default_port,
    };
    let bare = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            inner
        }
        None => host,
    };
    (!bare.is_empty()).then(|| (bare.to_owned(), port))
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_address = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_address..].rfind(':') {
        Some(colon) => (
            &authority[..after_address + colon],
            Some(&authority[after_address + colon + 1..]),
        ),
        None => (authority, None),
    }
}

fn compile_tls(
    host: &str,
    written: &At<String>,
    raw: &RawUpstream,
    configs: &mut TlsConfigs,
    problems: &mut Problems,
) -> Option<Tls> {
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        problems
            .error(&written.span, format!("`{host}` cannot stand in a certificate"))
            .hint("write the name or address that the app's certificate is made out to");
        return None;
    };
    Some(Tls {
        config: configs.ready(raw, &written.span, problems)?,
        name,
    })
}

/// The TLS settings of an upstream, made for its first `https://` server; a failure is reported once.
#[derive(Default)]
struct TlsConfigs(Option<Option<Arc<ClientConfig>>>);

impl TlsConfigs {
    fn ready(
        &mut self,
        raw: &RawUpstream,
        server: &Range<usize>,
        problems: &mut Problems,
    ) -> Option<Arc<ClientConfig>> {
        self.0
            .get_or_insert_with(|| {
                let roots = match &raw.ca_file {
                    Some(file) => read_authorities(file, problems)?,
                    None => system_authorities(server, problems)?,
                };
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let mut config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .expect("the provider has suites for TLS 1.2 and 1.3")
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                Some(Arc::new(config))
            })
            .clone()
    }
}

fn read_authorities(file: &At<PathBuf>, problems: &mut Problems) -> Option<RootCertStore> {
    let path = problems.resolve(file);
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) => {
            roots.add_parsable_certificates(certificates);
            if !roots.is_empty() {
                return Some(roots);
            }
            problems
                .error(
                    &file.span,
                    format!("no certificate of an authority in `{}`", path.display()),
                )
                .hint("it must hold PEM blocks that start with `-----BEGIN CERTIFICATE-----`");
        }
        Err(error) => {
            problems
                .error(&file.span, format!("cannot read `{}`: {error}", path.display()))
                .hint("`ca_file` is a PEM file, relative to this file, that the gateway's user may read");
        }
    }
    None
}

fn system_authorities(server: &Range<usize>, problems: &mut Problems) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        problems
            .error(
                server,
                "this system has no certificates of authorities to check the server's with",
            )
            .hint("install `ca-certificates`, or name a PEM file with `ca_file`");
        return None;
    }
    Some(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_shows_the_defaults() {
        let example = include_str!("../../gateway.example.toml");
        for (key, default) in [
            ("connect_timeout", CONNECT_TIMEOUT),
            ("response_timeout", RESPONSE_TIMEOUT),
            ("idle_timeout", IDLE_TIMEOUT),
            ("health_check = { path = \"/healthz\", interval", HEALTH_INTERVAL),
        ] {
            let line = format!("# {key} = \"{}s\"", default.as_secs());
            assert!(example.contains(&line), "{line}");
        }
        assert!(example.contains(&format!("# max_connections = {MAX_CONNECTIONS} ")));
    }
}
