//! The way out: straight, or through a proxy that only passes bytes on (CONNECT, RFC 9110 section 9.3.6).
//!
//! Input: the URL of a proxy, a user, and a list as `NO_PROXY` has it. Output: for each URL the proxy to ask, and a tunnel
//! through it. Invariants: nothing on this machine is asked through it, and its answer has a limit. The proxy is not trusted:
//! what goes through it is TLS with the server itself, so that it can refuse and nothing else.
//!
//! `hyper` asks for the tunnel (50 lines here): `hyper_util`'s `Tunnel` has another limit, tells no status, and drops what
//! comes behind the answer. Its `Matcher` reads `NO_PROXY` without ports, `*.name` and names with a dot at the end, so that the
//! list is read here (20 lines).

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::http::url::Url;

/// The longest head of the proxy's answer, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How hosts outside are reached.
#[derive(Clone, Default)]
pub struct Egress(Option<Arc<EgressProxy>>);

/// A proxy.
pub struct EgressProxy {
    pub(super) url: Url,
    /// `Basic …` (RFC 7617).
    authorization: Option<HeaderValue>,
    /// Hosts that are reached without it, as `NO_PROXY` lists them.
    except: String,
}

/// No name, address or password of a proxy stands in a log.
impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress")
            .field("has_proxy", &self.0.is_some())
            .finish()
    }
}

impl Egress {
    /// Through the proxy at `url`, which names a user where it wants one, but for the hosts in `no_proxy`.
    #[must_use]
    pub fn through(url: Url, password: &[u8], no_proxy: &str) -> Self {
        let authorization = url.userinfo().map(|user| {
            let pair = Zeroizing::new([user.as_bytes(), b":", password].concat());
            let text = format!("Basic {}", STANDARD.encode(&*pair));
            let mut value = HeaderValue::try_from(text).expect("base64 is visible ASCII");
            value.set_sensitive(true);
            value
        });
        Self(Some(Arc::new(EgressProxy {
            url,
            authorization,
            except: no_proxy.to_owned(),
        })))
    }

    /// The proxy for `url`; none for this machine.
    #[must_use]
    pub fn proxy_for(&self, url: &Url) -> Option<Arc<EgressProxy>> {
        let (host, port) = (url.host(), url.port_or_default());
        // An address of this machine in any form, also one that `Url` does not take for it.
        let is_here = |ip: IpAddr| ip.to_canonical().is_loopback();
        let is_here = url.is_loopback() || host.parse().is_ok_and(is_here);
        self.0
            .clone()
            .filter(|proxy| !is_here && !covers(&proxy.except, host, port))
    }
}

impl EgressProxy {
    /// As messages name it.
    #[must_use]
    pub fn name(&self) -> String {
        self.url.host_and_port()
    }

    /// What it gets as `Proxy-Authorization`.
    #[must_use]
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Makes of a connection to the proxy one to the server of `url`.
    ///
    /// # Errors
    /// What the proxy did, as a sentence without a subject.
    pub(super) async fn tunnel(&self, stream: TcpStream, url: &Url) -> Result<TokioIo<TcpStream>, String> {
        let fault = |error: hyper::Error| match () {
            () if error.is_parse_too_large() => format!("answered with more than {MAX_HEAD_BYTES} bytes"),
            () if error.is_parse() => "does not answer in HTTP".to_owned(),
            () if error.is_incomplete_message() => "closed the connection".to_owned(),
            () => format!("broke the connection: {error}"),
        };
        let target = url.host_and_port();
        let host = HeaderValue::try_from(&target).expect("an authority is visible ASCII");
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = target.parse().expect("an authority is a target of CONNECT");
        request.headers_mut().insert(header::HOST, host);
        if let Some(authorization) = &self.authorization {
            let headers = request.headers_mut();
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        let (mut sender, connection) = http1::Builder::new()
            .title_case_headers(true)
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(fault)?;
        let mut asking = pin!(async move {
            let response = sender.send_request(request).await.map_err(fault)?;
            match response.status() {
                status if status.is_success() => {}
                StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    return Err("wants a user and a password (407)".to_owned());
                }
                status => return Err(format!("answered {}", status.as_u16())),
            }
            let tunnel = hyper::upgrade::on(response).await.map_err(fault)?;
            let parts = tunnel
                .downcast::<TokioIo<TcpStream>>()
                .map_err(|_| "broke the connection")?;
            // The server speaks second in TLS: what is here already is the proxy's own.
            if !parts.read_buf.is_empty() {
                return Err("sent more than an answer".to_owned());
            }
            Ok(parts.io)
        });
        let mut connection = pin!(connection.with_upgrades());
        tokio::select! {
            biased;
            outcome = &mut asking => outcome,
            // It ends when it hands the stream over; an error of it is seen by the other side as well.
            _ = &mut connection => asking.await,
        }
    }
}

/// Whether a list as `NO_PROXY` has it covers a host. It has hosts, which stand for all below them as well and may have a
/// port, addresses and networks, between commas; `*` is everything.
fn covers(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    list.split(',').map(str::trim).any(|entry| {
        let address = || entry.trim_matches(['[', ']']).parse().map(IpAddr::into);
        if let Ok(network) = entry.parse::<IpNet>().or_else(|_| address()) {
            return host.parse::<IpAddr>().is_ok_and(|ip| network.contains(&ip));
        }
        let (name, only) = match entry
            .rsplit_once(':')
            .map(|(name, port)| (name, port.parse::<u16>()))
        {
            Some((name, Ok(port))) => (name, Some(port)),
            _ => (entry, None),
        };
        let name = name
            .trim_start_matches("*.")
            .trim_matches('.')
            .to_ascii_lowercase();
        let is_below = |front: &str| front.is_empty() || front.ends_with('.');
        let is_named = !name.is_empty() && host.strip_suffix(&name).is_some_and(is_below);
        entry == "*" || (is_named && only.is_none_or(|only| only == port))
    })
}
