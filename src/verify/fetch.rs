//! One GET of a small document: key sets and discovery documents.
//!
//! Enters: a [`Url`] that was checked when the file was read. Leaves: the body of a 200, or a [`FetchError`] that says
//! what to look at. No redirect is followed, no answer is read beyond a limit, and nothing takes longer than five
//! seconds. Plain HTTP reaches this machine only, unless the configuration says otherwise. A token goes to the server that
//! the TOML names and to no other one. Not for the request path.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::egress::{Egress, is_here};
use crate::config::raw::RawSecret;
use crate::net::tls_roots::{client_config, system_roots};

/// The longest body that is read, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 512 * 1024;
/// The longest time for everything, from the name lookup to the last byte.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(5);
/// The longest time for one address of a name.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The longest response head, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The name has no address, or none that plain HTTP may go to.
    #[error("`{0}` has no address that may be asked")]
    NoAddress(String),
    /// Nobody answered at any address.
    #[error("cannot connect to `{0}`: {1}")]
    Connect(String, std::io::Error),
    /// The proxy on the way out did not let it through.
    #[error("the proxy `{0}` {1}")]
    Proxy(String, String),
    /// The token for the server cannot be read.
    #[error("`jwks_token`: {0}")]
    Token(String),
    /// The authorities that servers are trusted by cannot be read.
    #[error("{0}")]
    Authorities(String),
    /// The server's certificate is not trusted, or it does not speak TLS.
    #[error("no TLS with `{0}`: {1}")]
    Tls(String, std::io::Error),
    /// What it answered is not HTTP.
    #[error("`{0}` does not answer in HTTP: {1}")]
    Protocol(String, hyper::Error),
    /// It answered, but not with the document.
    #[error("`{0}` answered {1}; only 200 is taken, and redirects are not followed")]
    Status(String, StatusCode),
    /// The document is too long, or broke off.
    #[error("the answer of `{0}` broke off or is longer than {MAX_BODY_BYTES} bytes")]
    Body(String),
    /// It took too long.
    #[error("`{0}` did not answer within {limit} seconds", limit = TIME_LIMIT.as_secs())]
    TimedOut(String),
}

/// The address of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    is_tls: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// Host and port as the Host field has them.
    authority: String,
    path_and_query: String,
}

impl Url {
    /// Reads an `https://` URL; an `http://` one as well where it means this machine, or any where `allow_http` is true.
    ///
    /// # Errors
    /// What is wrong with it, lower case.
    pub fn parse(text: &str, allow_http: bool) -> Result<Self, String> {
        // `http::Uri` would cut a fragment off and let a backslash stand, which others read as a slash.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['#', '\\', '"', '<', '>']) {
            return Err("not a URL without a fragment".to_owned());
        }
        let uri: Uri = text.parse().map_err(|_| "not a URL".to_owned())?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("neither an `https://` nor an `http://` URL".to_owned()),
        };
        let authority = uri
            .authority()
            .map(http::uri::Authority::as_str)
            .unwrap_or_default();
        if authority.contains('@') {
            return Err("a URL with a user name in it".to_owned());
        }
        let host = uri.host().unwrap_or_default();
        // `http::Uri` takes a port that is none for no port.
        let port = match authority.strip_prefix(host).ok_or("not a URL")?.strip_prefix(':') {
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or("a URL with a port that is none")?,
            None if is_tls => 443,
            None => 80,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("a URL without a host".to_owned());
        }
        if !is_tls && !allow_http && !is_here(&host) {
            return Err(
                "an `http://` URL to another machine, which an attacker on the network path could answer"
                    .to_owned(),
            );
        }
        let path_and_query = uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
            .to_owned();
        Ok(Self {
            text: text.to_owned(),
            is_tls,
            host,
            port,
            authority: authority.to_owned(),
            path_and_query,
        })
    }

    /// Whether it is an `https://` URL.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a secret may go there: no attacker on the network path can read it.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.is_tls || is_here(&self.host)
    }

    /// Whether both name the same server.
    fn has_server_of(&self, other: &Self) -> bool {
        self.is_tls == other.is_tls && self.port == other.port && self.host.eq_ignore_ascii_case(&other.host)
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Gets documents.
#[derive(Clone)]
pub struct Client {
    allow_http: bool,
    /// Authorities from `ca_file`; those of the system are read when they are first needed.
    tls: Arc<OnceCell<Arc<ClientConfig>>>,
    egress: Egress,
    token: Option<Arc<ServerToken>>,
}

/// A bearer token for one server (RFC 6750 section 2.1), read again for each request: the operator may replace it.
#[derive(Debug)]
struct ServerToken {
    kept: RawSecret,
    directory: PathBuf,
    server: Url,
}

impl ServerToken {
    fn read(&self) -> Result<HeaderValue, FetchError> {
        let secret = self.kept.load(&self.directory).map_err(FetchError::Token)?;
        let is_token = secret.expose().iter().all(u8::is_ascii_graphic);
        let value = HeaderValue::from_bytes(&[b"Bearer ", secret.expose()].concat());
        match value {
            Ok(mut value) if is_token => {
                value.set_sensitive(true);
                Ok(value)
            }
            _ => Err(FetchError::Token(
                "a token is visible ASCII characters without white space".to_owned(),
            )),
        }
    }
}

impl Client {
    /// A client that trusts servers by the authorities in `ca_file`, or by those of the system.
    ///
    /// # Errors
    /// What is wrong with `ca_file`, lower case, without its path.
    pub fn new(ca_file: Option<&Path>, allow_http: bool) -> Result<Self, String> {
        let tls = match ca_file {
            Some(path) => OnceCell::new_with(Some(Arc::new(from_file(path)?))),
            None => OnceCell::new(),
        };
        Ok(Self {
            allow_http,
            tls: Arc::new(tls),
            egress: Egress::default(),
            token: None,
        })
    }

    /// The same on another way out.
    #[must_use]
    pub fn through(mut self, egress: Egress) -> Self {
        self.egress = egress;
        self
    }

    /// The same with a token for the server of `url`; a relative file starts from `directory`.
    #[must_use]
    pub fn with_token(mut self, kept: RawSecret, directory: PathBuf, url: Url) -> Self {
        self.token = Some(Arc::new(ServerToken {
            kept,
            directory,
            server: url,
        }));
        self
    }

    /// Whether plain HTTP may leave this machine.
    #[must_use]
    pub fn allows_http(&self) -> bool {
        self.allow_http
    }

    /// The document at `url`.
    ///
    /// # Errors
    /// Anything but a whole 200 within the limits.
    pub async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
        let Ok(outcome) = timeout(TIME_LIMIT, self.ask(url)).await else {
            return Err(FetchError::TimedOut(url.text.clone()));
        };
        outcome
    }

    async fn ask(&self, url: &Url) -> Result<Bytes, FetchError> {
        let token = self
            .token
            .as_ref()
            .filter(|token| url.is_private() && url.has_server_of(&token.server))
            .cloned();
        let authorization = match token {
            None => None,
            Some(token) => {
                let read = tokio::task::spawn_blocking(move || token.read()).await;
                Some(read.map_err(|_| FetchError::Token("reading was stopped".to_owned()))??)
            }
        };
        let may_leave = self.allow_http && authorization.is_none();
        let stream = match self.egress.proxy_for(&url.host, url.port).filter(|_| url.is_tls) {
            None => connect(&url.host, url.port, &url.authority, url.is_tls || may_leave).await?,
            Some(proxy) => {
                let failed = |reason| FetchError::Proxy(proxy.name(), reason);
                let stream = connect(&proxy.host, proxy.port, &proxy.name(), true).await;
                let stream = stream.map_err(|error| failed(format!("cannot be reached: {error}")))?;
                proxy.tunnel(stream, &url.host, url.port).await.map_err(failed)?
            }
        };
        if !url.is_tls {
            return exchange(stream, url, authorization).await;
        }
        let config = self.tls.get_or_try_init(from_system).await?.clone();
        let name =
            ServerName::try_from(url.host.clone()).map_err(|_| FetchError::NoAddress(url.host.clone()))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| FetchError::Tls(url.authority.clone(), error))?;
        exchange(stream, url, authorization).await
    }
}

/// A connection to the first address that answers; to this machine only, unless `may_leave` is true: a name that was taken
/// for this machine must lead to this machine.
async fn connect(host: &str, port: u16, authority: &str, may_leave: bool) -> Result<TcpStream, FetchError> {
    let failed = |error| FetchError::Connect(authority.to_owned(), error);
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(failed)?;
    let mut last = None;
    for address in addresses.filter(|address: &SocketAddr| may_leave || address.ip().is_loopback()) {
        match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(std::io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last.map_or_else(|| FetchError::NoAddress(host.to_owned()), failed))
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("allow_http", &self.allow_http)
            .finish_non_exhaustive()
    }
}

/// One request on a connection of its own.
async fn exchange<S>(stream: S, url: &Url, authorization: Option<HeaderValue>) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error| FetchError::Protocol(url.authority.clone(), error);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::try_from(&url.path_and_query).expect("it was part of a URL");
    let host = HeaderValue::try_from(&url.authority).expect("it was part of a URL");
    for (name, value) in [
        (header::HOST, host),
        (
            header::ACCEPT,
            HeaderValue::from_static("application/json, application/jwk-set+json"),
        ),
        (
            header::USER_AGENT,
            HeaderValue::from_static(concat!("passgate/", env!("CARGO_PKG_VERSION"))),
        ),
        (header::CONNECTION, HeaderValue::from_static("close")),
    ] {
        request.headers_mut().insert(name, value);
    }
    if let Some(authorization) = authorization {
        request.headers_mut().insert(header::AUTHORIZATION, authorization);
    }
    let mut reading = pin!(async {
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(url.text.clone(), response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await;
        Ok(body.map_err(|_| FetchError::Body(url.text.clone()))?.to_bytes())
    });
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        outcome = &mut reading => outcome,
        // The connection may end before its last bytes were taken; an error of it is seen by the reader as well.
        _ = &mut connection => reading.await,
    }
}

async fn from_system() -> Result<Arc<ClientConfig>, FetchError> {
    let roots = tokio::task::spawn_blocking(system_roots).await;
    let roots = roots.map_err(|_| FetchError::Authorities("reading was stopped".to_owned()))?;
    roots.map(client_config).map(Arc::new).ok_or_else(|| {
        let reason = "the system has no certificate authorities; install them, or name a `ca_file`";
        FetchError::Authorities(reason.to_owned())
    })
}

fn from_file(path: &Path) -> Result<ClientConfig, String> {
    let text = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|_| "is not valid PEM".to_owned())?;
        roots
            .add(certificate)
            .map_err(|_| "holds a certificate that is no authority's".to_owned())?;
    }
    if roots.is_empty() {
        return Err("holds no `CERTIFICATE` section".to_owned());
    }
    Ok(client_config(roots))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_unless_the_configuration_says_otherwise() {
        for text in [
            "https://id.example.com/keys",
            "http://127.0.0.1:8080/keys",
            "http://[::1]/keys",
            "http://localhost/a?b=c",
        ] {
            assert!(Url::parse(text, false).is_ok(), "{text}");
        }
        for text in [
            "http://id.example.com/keys",
            "http://10.0.0.1/",
            "http://localhost.example.com/",
            "http://0.0.0.0/",
        ] {
            assert!(Url::parse(text, false).is_err(), "{text}");
            assert!(Url::parse(text, true).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_two_parties_could_read_differently_is_not_a_url() {
        for text in [
            "",
            "id.example.com",
            "/keys",
            "ftp://id.example.com/",
            "https://",
            "https:///keys",
            "https://user@id.example.com/",
            "https://127.0.0.1\\@id.example.com/",
            "https://id.example.com/#a",
            "https://id.example.com/a b",
            "https://id.example.com:0/",
            "https://id.example.com:/",
            "https://id.example.com:70000/",
            "https://ïd.example.com/",
        ] {
            assert!(Url::parse(text, true).is_err(), "{text}");
        }
        let url = Url::parse("https://[::1]:8443/a/b?c=d", false).expect("a URL");
        assert_eq!(
            (url.host.as_str(), url.port, url.authority.as_str()),
            ("::1", 8443, "[::1]:8443")
        );
        assert_eq!(url.path_and_query, "/a/b?c=d");
    }
}
