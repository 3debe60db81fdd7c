//! The way out: straight, or through a proxy that only passes bytes on (CONNECT, RFC 9110 section 9.3.6).
//!
//! Enters: `[server] egress_proxy` and the environment. Leaves: for each host the proxy to ask, and a tunnel through it.
//! The proxy is not trusted: what goes through it is TLS with the server itself, so that it can refuse and nothing else.
//! Nothing on this machine is asked through it. Its answer has a limit, and the time is that of the whole request.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::config::raw::RawEgressProxy;
use crate::config::{At, Problems, load_secret, values};

/// The longest head of the proxy's answer, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How hosts outside are reached.
#[derive(Clone, Default)]
pub struct Egress(Option<Arc<EgressProxy>>);

/// A proxy.
pub(super) struct EgressProxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// `Basic …` (RFC 7617).
    authorization: Option<Zeroizing<String>>,
    /// Hosts that are reached without it.
    except: Vec<Exception>,
}

/// No name, address or password of a proxy stands in a log.
impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress")
            .field("has_proxy", &self.0.is_some())
            .finish()
    }
}

/// One entry of `NO_PROXY`.
#[derive(Debug, PartialEq, Eq)]
enum Exception {
    Any,
    /// The host and all below it, with this port or any.
    Name(String, Option<u16>),
    Network(IpNet),
}

impl Egress {
    /// What the file says; where it says nothing, what `HTTPS_PROXY` and `NO_PROXY` in `environment` say.
    pub fn compile(
        raw: Option<&At<RawEgressProxy>>,
        environment: &dyn Fn(&str) -> Option<String>,
        problems: &mut Problems,
    ) -> Self {
        match raw.map(|raw| &raw.value) {
            Some(RawEgressProxy::None) => Self(None),
            Some(RawEgressProxy::Proxy { url, password }) => {
                // It was read when the file was.
                let Ok(proxy) = values::egress_proxy(url) else {
                    return Self(None);
                };
                let password = match password {
                    None => None,
                    Some(secret) => match load_secret(secret, problems) {
                        Ok(password) => Some(Zeroizing::new(
                            String::from_utf8_lossy(password.expose()).into_owned(),
                        )),
                        Err(fault) => {
                            problems
                                .error(&secret.span, format!("the password cannot be used: {fault}"))
                                .hint("a file, `{ file = \"…\" }`, or an environment variable, `{ env = \"…\" }`");
                            None
                        }
                    },
                };
                Self::new(proxy, password, Vec::new())
            }
            None => Self::from_environment(environment, problems),
        }
    }

    fn from_environment(environment: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) -> Self {
        let first = |names: [&'static str; 2]| {
            names
                .into_iter()
                .find_map(|name| Some((name, environment(name).filter(|value| !value.is_empty())?)))
        };
        let Some((name, url)) = first(["HTTPS_PROXY", "https_proxy"]) else {
            return Self(None);
        };
        // There a password stands in the URL, if there is one: the environment is as secret as that of any program.
        let (bare, password) = without_password(&url);
        let Ok(proxy) = values::egress_proxy(&bare) else {
            problems
                .warning(
                    &(0..0),
                    format!("the environment variable `{name}` is not the URL of a proxy, and is not used"),
                )
                .hint("it is like `http://proxy:3128`; `egress_proxy = \"none\"` in `[server]` ignores it");
            return Self(None);
        };
        let except = first(["NO_PROXY", "no_proxy"])
            .map(|(_, list)| exceptions(&list))
            .unwrap_or_default();
        Self::new(proxy, password, except)
    }

    fn new(proxy: values::Proxy, password: Option<Zeroizing<String>>, except: Vec<Exception>) -> Self {
        let values::Proxy { host, port, user } = proxy;
        let authorization = user.map(|user| {
            let pair = Zeroizing::new(format!(
                "{user}:{}",
                password.as_deref().map_or("", String::as_str)
            ));
            Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        });
        Self(Some(Arc::new(EgressProxy {
            host,
            port,
            authorization,
            except,
        })))
    }

    /// The proxy for `host`, without brackets, and `port`; none for this machine.
    pub(super) fn proxy_for(&self, host: &str, port: u16) -> Option<&EgressProxy> {
        let is_excepted =
            |proxy: &EgressProxy| proxy.except.iter().any(|exception| exception.covers(host, port));
        self.0
            .as_deref()
            .filter(|proxy| !is_here(host) && !is_excepted(proxy))
    }
}

impl EgressProxy {
    /// As messages name it.
    pub(super) fn name(&self) -> String {
        authority(&self.host, self.port)
    }

    /// Makes of a connection to the proxy one to `host`.
    ///
    /// # Errors
    /// What the proxy did, as a sentence without a subject.
    pub(super) async fn tunnel(
        &self,
        mut stream: TcpStream,
        host: &str,
        port: u16,
    ) -> Result<TcpStream, String> {
        let target = authority(host, port);
        let mut request = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(|error| format!("broke the connection: {error}"))?;
        let mut head = Vec::new();
        loop {
            let mut buffer = [0; 1024];
            let read = stream
                .read(&mut buffer)
                .await
                .map_err(|error| format!("broke the connection: {error}"))?;
            if read == 0 {
                return Err("closed the connection".to_owned());
            }
            head.extend_from_slice(&buffer[..read]);
            if let Some(end) = memchr::memmem::find(&head, b"\r\n\r\n") {
                let status = status(&head).ok_or("does not answer in HTTP")?;
                return match status {
                    // The server speaks second in TLS: what is here already is the proxy's own.
                    200..=299 if head.len() > end + 4 => Err("sent more than an answer".to_owned()),
                    200..=299 => Ok(stream),
                    407 => Err("wants a user and a password (407)".to_owned()),
                    _ => Err(format!("answered {status}")),
                };
            }
            if head.len() > MAX_HEAD_BYTES {
                return Err(format!("answered with more than {MAX_HEAD_BYTES} bytes"));
            }
        }
    }
}

/// Of `HTTP/1.1 200 …`.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
    let digits = rest
        .get(..3)
        .filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    if !matches!(rest.get(3), Some(b' ' | b'\r')) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Whether a host is this machine.
pub(super) fn is_here(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// `http://user:password@host` as `http://user@host` and the password.
fn without_password(url: &str) -> (String, Option<Zeroizing<String>>) {
    let found = url.split_once("://").and_then(|(scheme, rest)| {
        let (userinfo, host) = rest.rsplit_once('@')?;
        let (user, password) = userinfo.split_once(':')?;
        Some((
            format!("{scheme}://{user}@{host}"),
            Zeroizing::new(decoded(password)),
        ))
    });
    found.map_or_else(|| (url.to_owned(), None), |(url, password)| (url, Some(password)))
}

/// A password as a URL spells it (RFC 3986 section 2.1).
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escape = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// `NO_PROXY`: hosts, which stand for all below them as well, addresses and networks, between commas; `*` is everything.
fn exceptions(list: &str) -> Vec<Exception> {
    let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let exception = |entry: &str| {
        if entry == "*" {
            return Exception::Any;
        }
        if let Ok(network) = entry.parse::<IpNet>() {
            return Exception::Network(network);
        }
        if let Ok(address) = entry
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
        {
            return Exception::Network(address.into());
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
            _ => (entry, None),
        };
        let name = name
            .trim_start_matches("*.")
            .trim_start_matches('.')
            .trim_end_matches('.');
        Exception::Name(name.to_ascii_lowercase(), port)
    };
    entries.map(exception).collect()
}

impl Exception {
    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Network(network) => host
                .parse::<IpAddr>()
                .is_ok_and(|address| network.contains(&address)),
            Self::Name(name, only) => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                let is_below = || {
                    host.strip_suffix(name.as_str())
                        .is_some_and(|front| front.ends_with('.'))
                };
                only.is_none_or(|only| only == port) && !name.is_empty() && (host == *name || is_below())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    fn egress(raw: Option<RawEgressProxy>, environment: &[(&str, &str)]) -> (Egress, Vec<String>) {
        let mut problems = Problems::new(Path::new("gateway.toml"), "\n");
        let raw = raw.map(|value| At { value, span: 0..1 });
        let look = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let egress = Egress::compile(raw.as_ref(), &look, &mut problems);
        (
            egress,
            problems
                .warnings()
                .iter()
                .map(|problem| problem.message.clone())
                .collect(),
        )
    }

    fn proxy(url: &str) -> RawEgressProxy {
        RawEgressProxy::Proxy {
            url: At {
                value: url.to_owned(),
                span: 0..1,
            },
            password: None,
        }
    }

    fn through(egress: &Egress, host: &str) -> Option<String> {
        egress.proxy_for(host, 443).map(EgressProxy::name)
    }

    #[test]
    fn the_file_wins_over_the_environment() {
        let environment = [("HTTPS_PROXY", "http://env:1"), ("NO_PROXY", "*")];
        assert_eq!(
            through(
                &egress(Some(proxy("http://file:2")), &environment).0,
                "id.example.com"
            )
            .unwrap(),
            "file:2"
        );
        assert_eq!(
            through(
                &egress(Some(RawEgressProxy::None), &environment[..1]).0,
                "id.example.com"
            ),
            None
        );
        assert_eq!(
            through(&egress(None, &environment[..1]).0, "id.example.com").unwrap(),
            "env:1"
        );
        assert_eq!(
            through(
                &egress(None, &[("https_proxy", "http://low:3/")]).0,
                "id.example.com"
            )
            .unwrap(),
            "low:3"
        );
        for none in [
            &[][..],
            &[("HTTPS_PROXY", "")],
            &[("HTTP_PROXY", "http://env:1")],
            &environment,
        ] {
            assert_eq!(through(&egress(None, none).0, "id.example.com"), None);
        }
        for odd in ["socks5://env:1", "https://env:1", "env:1", "http://env:1/path"] {
            let (egress, warnings) = egress(None, &[("HTTPS_PROXY", odd)]);
            assert_eq!(
                (through(&egress, "id.example.com"), warnings.len()),
                (None, 1),
                "{odd}"
            );
            assert!(!warnings[0].contains("env:1"), "{warnings:?}");
        }
    }

    #[test]
    fn this_machine_is_never_asked_through_it() {
        let (egress, _) = egress(Some(proxy("http://p:1")), &[]);
        for host in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(through(&egress, host), None, "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1", "id.example.com"] {
            assert!(through(&egress, host).is_some(), "{host}");
        }
    }

    #[test]
    fn no_proxy_names_hosts_and_what_is_below_them_addresses_and_networks() {
        let list = " example.com, .corp.example ,10.0.0.0/8,192.0.2.7,[2001:db8::1],other.example:8443,*.wild.example,";
        let (egress, _) = egress(None, &[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", list)]);
        for host in [
            "example.com",
            "id.EXAMPLE.com",
            "example.com.",
            "corp.example",
            "a.corp.example",
            "10.1.2.3",
            "192.0.2.7",
            "2001:db8::1",
            "x.wild.example",
        ] {
            assert_eq!(through(&egress, host), None, "{host}");
        }
        for host in [
            "badexample.com",
            "example.org",
            "11.0.0.1",
            "192.0.2.8",
            "2001:db8::2",
            "other.example",
        ] {
            assert!(through(&egress, host).is_some(), "{host}");
        }
        assert!(egress.proxy_for("other.example", 8443).is_none());
    }

    #[test]
    fn a_user_and_a_password_become_basic_authentication() {
        let basic = |egress: &Egress| {
            egress
                .0
                .as_ref()
                .unwrap()
                .authorization
                .as_ref()
                .map(|text| text.to_string())
        };
        assert_eq!(basic(&egress(Some(proxy("http://p:1")), &[]).0), None);
        let (environment, warnings) = egress(None, &[("HTTPS_PROXY", "http://ann:p%40ss:w@p:1")]);
        assert_eq!(
            basic(&environment).unwrap(),
            format!("Basic {}", STANDARD.encode("ann:p@ss:w"))
        );
        assert!(warnings.is_empty());
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("password"), "s3cret\r\n").unwrap();
        let mut problems = Problems::new(&home.path().join("gateway.toml"), "\n");
        let at = |value| At { value, span: 0..1 };
        let raw = RawEgressProxy::Proxy {
            url: At {
                value: "http://ann@p:1".to_owned(),
                span: 0..1,
            },
            password: Some(at(crate::config::raw::RawSecret::File("password".into()))),
        };
        let raw = At {
            value: raw,
            span: 0..1,
        };
        let egress = Egress::compile(Some(&raw), &|_| None, &mut problems);
        assert_eq!(
            basic(&egress).unwrap(),
            format!("Basic {}", STANDARD.encode("ann:s3cret"))
        );
        assert!(!format!("{egress:?}").contains("p:1"));
    }

    #[test]
    fn only_a_whole_status_line_is_a_status() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407\r\n"), Some(407));
        for head in [
            &b"HTTP/1.1 2000 x"[..],
            b"HTTP/2 200 ",
            b"HTTP/1.1 20",
            b"SSH-2.0-x",
            b"HTTP/1.1  200 x",
            b"HTTP/1.1 +20 x",
        ] {
            assert_eq!(status(head), None, "{}", head.escape_ascii());
        }
    }
}
