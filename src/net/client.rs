//! The HTTP client of the control runtime: key sets, discovery documents, and what providers are asked.
//!
//! Input: a [`Url`], a request, and the longest body to read. Output: the answer, or a [`ClientError`] that says what to look
//! at. Invariants: no redirect is followed, each request has a connection of its own that ends with it, and nothing takes
//! longer than five seconds. Plain HTTP reaches this machine only, unless the configuration says otherwise. A token goes to
//! the server that the TOML names and to no other one. Not for the request path.
//!
//! `hyper_util::client::legacy` sends, and `hyper_rustls` makes TLS. `Route` connects by itself (50 lines): `HttpConnector`
//! divides one timeout by the number of addresses, and asks a resolver that does not know which addresses are allowed.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_service::Service;
use zeroize::Zeroizing;

use super::egress::{Egress, EgressProxy};
use super::tls_roots::{client_config, file_roots, system_roots};
use crate::http::url::{self, Url};

/// The longest time for everything, from the name lookup to the last byte.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(5);
/// The longest time for one address of a name.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The longest response head, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The name has no address, or none that plain HTTP may go to.
    #[error("`{0}` has no address that may be asked")]
    NoAddress(String),
    /// No address accepts a connection.
    #[error("cannot connect to `{0}`: {1}")]
    Connect(String, String),
    /// The proxy on the way out did not let it through.
    #[error("the proxy `{0}` {1}")]
    Proxy(String, String),
    /// The token for the server, or the authorities that servers are trusted by, cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The server's certificate is not trusted, or it does not speak TLS.
    #[error("no TLS with `{0}`: {1}")]
    Tls(String, String),
    /// What it answered is not HTTP.
    #[error("`{0}` does not answer in HTTP: {1}")]
    Protocol(String, String),
    /// It answered, but not with the document.
    #[error("`{0}` answered {1}; only 200 is taken, and redirects are not followed")]
    Status(String, StatusCode),
    /// The body is too long, or broke off.
    #[error("the answer of `{0}` broke off or is longer than {1} bytes")]
    Body(String, usize),
    /// It took too long.
    #[error("`{0}` did not answer within {limit} seconds", limit = TIME_LIMIT.as_secs())]
    TimedOut(String),
}

/// Reads an `https://` URL; an `http://` one as well where it means this machine, or any where `allow_http` is true.
///
/// # Errors
/// What is wrong with it, lower case, to stand after "is".
pub(crate) fn url(text: &str, allow_http: bool) -> Result<Url, String> {
    let is_http = |scheme: &str| ["https", "http"].contains(&&*scheme.to_ascii_lowercase());
    if !url::split(text).is_some_and(|(scheme, ..)| is_http(scheme)) {
        return Err("neither an `https://` nor an `http://` URL".to_owned());
    }
    let url: Url = text.parse().map_err(|hint| format!("not a URL: {hint}"))?;
    if url.rest().contains('#') {
        return Err("not a URL without a fragment".to_owned());
    }
    if url.userinfo().is_some() {
        return Err("a URL with a user name in it".to_owned());
    }
    if !allow_http && !url.is_private() {
        return Err(
            "an `http://` URL to another machine, which an attacker on the network path could answer"
                .to_owned(),
        );
    }
    Ok(url)
}

/// Sends requests.
#[derive(Clone)]
pub struct Client {
    allow_http: bool,
    /// Authorities from `ca_file`; those of the system are read when they are first needed.
    tls: Arc<OnceCell<ClientConfig>>,
    egress: Egress,
    /// For the one server of the URL, made again for each request: the operator may replace the token.
    authorization: Option<(Url, Arc<Authorize>)>,
}

/// Makes the value of `Authorization`; it may open files. The error is the whole message.
type Authorize = dyn Fn() -> Result<HeaderValue, String> + Send + Sync;

/// A bearer token as the value of `Authorization` (RFC 6750 section 2.1).
///
/// # Errors
/// It has other characters than visible ASCII ones.
pub(crate) fn bearer(token: &[u8]) -> Result<HeaderValue, String> {
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err("a token is visible ASCII characters without white space".to_owned());
    }
    let text = Zeroizing::new([b"Bearer ", token].concat());
    let mut value = HeaderValue::from_bytes(&text).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

impl Client {
    /// A client that trusts servers by the authorities in `ca_file`, or by those of the system.
    ///
    /// # Errors
    /// What is wrong with `ca_file`, lower case, without its path.
    pub fn new(ca_file: Option<&Path>, allow_http: bool) -> Result<Self, String> {
        let tls = match ca_file {
            Some(path) => OnceCell::new_with(Some(client_config(file_roots(path)?))),
            None => OnceCell::new(),
        };
        Ok(Self {
            allow_http,
            tls: Arc::new(tls),
            egress: Egress::default(),
            authorization: None,
        })
    }

    /// The same on another way out.
    #[must_use]
    pub fn through(mut self, egress: Egress) -> Self {
        self.egress = egress;
        self
    }

    /// The same with a token for the server of `url`. `authorize` is called for each request, off the async threads; it
    /// makes the value of `Authorization`, or an error that is the whole message.
    #[must_use]
    pub fn with_token(
        mut self,
        url: Url,
        authorize: impl Fn() -> Result<HeaderValue, String> + Send + Sync + 'static,
    ) -> Self {
        self.authorization = Some((url, Arc::new(authorize)));
        self
    }

    /// Whether plain HTTP may leave this machine.
    #[must_use]
    pub fn allows_http(&self) -> bool {
        self.allow_http
    }

    /// The JSON document at `url`, of `max_body` bytes at most.
    ///
    /// # Errors
    /// Anything but a whole 200 within the limits.
    pub async fn get(&self, url: &Url, max_body: usize) -> Result<Bytes, ClientError> {
        let mut request = Request::new(Bytes::new());
        let accepted = HeaderValue::from_static("application/json, application/jwk-set+json");
        request.headers_mut().insert(header::ACCEPT, accepted);
        let response = self.send(url, request, max_body).await?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            status => Err(ClientError::Status(url.to_string(), status)),
        }
    }

    /// The answer of `url` to `request`, whatever its status, with a body of `max_body` bytes at most. The client sets the
    /// request's target, `Host`, `User-Agent` and `Connection`. A request with a header that is marked as sensitive goes to
    /// `https://` or to this machine only.
    ///
    /// # Errors
    /// Anything but a whole answer within the limits.
    pub async fn send(
        &self,
        url: &Url,
        request: Request<Bytes>,
        max_body: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        let connections = Connections::default();
        let exchange = async {
            let response = self.exchange(url, request, connections.clone()).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, max_body).collect().await;
            let body = body.map_err(|_| ClientError::Body(url.to_string(), max_body))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let outcome = timeout(TIME_LIMIT, exchange).await;
        outcome.unwrap_or_else(|_elapsed| Err(ClientError::TimedOut(url.to_string())))
    }

    async fn exchange(
        &self,
        url: &Url,
        mut request: Request<Bytes>,
        connections: Connections,
    ) -> Result<Response<Incoming>, ClientError> {
        *request.uri_mut() = url.to_uri();
        let host = HeaderValue::try_from(url.authority()).expect("an authority is visible ASCII");
        let agent = HeaderValue::from_static(concat!("passgate/", env!("CARGO_PKG_VERSION")));
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        headers.insert(header::USER_AGENT, agent);
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let is_for = |(server, _): &&(Url, _)| url.is_private() && url.is_same_server(server);
        if let Some((_, authorize)) = self.authorization.as_ref().filter(is_for).cloned() {
            let value = blocking(move || authorize()).await?;
            headers.insert(header::AUTHORIZATION, value);
        }
        let is_secret = headers.values().any(HeaderValue::is_sensitive);
        let request = request.map(Full::new);
        let route = Route {
            url: url.clone(),
            may_leave: url.is_tls() || (self.allow_http && !is_secret),
            proxy: self.egress.proxy_for(url).filter(|_| url.is_tls()),
        };
        let config = match url.is_tls() {
            true => self.tls.get_or_try_init(from_system).await?.clone(),
            false => client_config(RootCertStore::empty()),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(route);
        let client = legacy::Client::builder(connections)
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(connector);
        let response = client.request(request).await;
        response.map_err(|error| failure(url, &error))
    }
}

fn failure(url: &Url, error: &legacy::Error) -> ClientError {
    let mut reason = error.source();
    while let Some(inner) = reason {
        if let Some(own) = inner.downcast_ref::<ClientError>() {
            return own.clone();
        }
        reason = inner.source();
    }
    let reason = error.source().unwrap_or(error).to_string();
    let server = url.authority().to_owned();
    if error.is_connect() {
        ClientError::Tls(server, reason)
    } else {
        ClientError::Protocol(server, reason)
    }
}

/// Runs the connection of one request. The last copy is dropped when the request is over, and the connection with it.
#[derive(Clone, Default)]
struct Connections(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Connections {
    fn execute(&self, connection: F) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.spawn(connection);
    }
}

/// The way to the server of one request.
#[derive(Clone)]
struct Route {
    url: Url,
    may_leave: bool,
    proxy: Option<Arc<EgressProxy>>,
}

impl Service<Uri> for Route {
    type Response = TokioIo<TcpStream>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ClientError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let route = self.clone();
        Box::pin(async move {
            let Some(proxy) = route.proxy else {
                return Ok(TokioIo::new(connect(&route.url, route.may_leave).await?));
            };
            let failed = |reason| ClientError::Proxy(proxy.name(), reason);
            let stream = connect(&proxy.url, true).await;
            let stream = stream.map_err(|error| failed(format!("cannot be reached: {error}")))?;
            proxy.tunnel(stream, &route.url).await.map_err(failed)
        })
    }
}

/// A connection to the first address that answers; to this machine only, unless `may_leave` is true: a name that was taken
/// for this machine must lead to this machine.
async fn connect(url: &Url, may_leave: bool) -> Result<TcpStream, ClientError> {
    let failed = |error: std::io::Error| ClientError::Connect(url.authority().to_owned(), error.to_string());
    let addresses = tokio::net::lookup_host((url.host(), url.port_or_default()))
        .await
        .map_err(failed)?;
    let is_allowed = |address: &SocketAddr| may_leave || address.ip().is_loopback();
    let mut last = None;
    for address in addresses.filter(is_allowed) {
        match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(error),
            Err(_elapsed) => last = Some(std::io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last.map_or_else(|| ClientError::NoAddress(url.host().to_owned()), failed))
}

async fn from_system() -> Result<ClientConfig, ClientError> {
    let reason = "the system has no certificate authorities; install them, or name a `ca_file`";
    blocking(move || system_roots().map(client_config).ok_or_else(|| reason.to_owned())).await
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, ClientError> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|_| Err("reading was stopped".to_owned()))
        .map_err(ClientError::Unreadable)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_unless_the_configuration_says_otherwise() {
        for text in [
            "https://id.example.com/keys",
            "http://127.0.0.1:8080/keys",
            "http://[::1]/keys",
            "http://localhost/a?b=c",
        ] {
            assert!(url(text, false).is_ok(), "{text}");
        }
        for text in [
            "http://id.example.com/keys",
            "http://10.0.0.1/",
            "http://localhost.example.com/",
            "http://0.0.0.0/",
        ] {
            assert!(url(text, false).is_err(), "{text}");
            assert!(url(text, true).is_ok(), "{text}");
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
            assert!(url(text, true).is_err(), "{text}");
        }
        let url = url("https://[::1]:8443/a/b?c=d", false).expect("a URL");
        assert_eq!(
            (url.host(), url.port_or_default(), url.authority()),
            ("::1", 8443, "[::1]:8443")
        );
        assert_eq!(url.path_and_query(), "/a/b?c=d");
    }

    /// A server on this machine that answers each connection with `answer`, and tells what it was sent once the client
    /// closes.
    async fn server(answer: &'static str) -> (String, oneshot::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut seen = vec![0; 16 * 1024];
            let read = stream.read(&mut seen).await.expect("a request");
            seen.truncate(read);
            // The client does not read more than its limit.
            let _ = stream.write_all(answer.as_bytes()).await;
            // The client closes it first: this side keeps it open.
            let _ = stream.read_to_end(&mut seen).await;
            let _ = tell.send(String::from_utf8_lossy(&seen).into_owned());
        });
        (origin, told)
    }

    fn client() -> Client {
        Client::new(None, true).expect("no file is read")
    }

    #[tokio::test]
    async fn post_with_any_answer_is_sent_once_and_its_connection_ends() {
        let answer = "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 2\r\n\r\nno";
        let (origin, told) = server(answer).await;
        let url = url(&format!("{origin}/token?a=b"), false).expect("a URL");
        let mut secret = HeaderValue::from_static("Basic YTpi");
        secret.set_sensitive(true);
        let request = Request::post("/ignored")
            .header(header::AUTHORIZATION, secret)
            .header(header::HOST, "other.example")
            .body(Bytes::from_static(b"code=1"))
            .expect("a request");
        let response = client().send(&url, request, 2).await.expect("an answer");
        assert_eq!(
            (response.status(), &response.body()[..]),
            (StatusCode::FOUND, &b"no"[..])
        );
        let seen = told.await.expect("the connection was closed");
        assert!(seen.starts_with("POST /token?a=b HTTP/1.1\r\n"), "{seen}");
        assert!(seen.ends_with("\r\n\r\ncode=1"), "{seen}");
        for field in [
            "authorization: Basic YTpi\r\n",
            "connection: close\r\n",
            "content-length: 6\r\n",
        ] {
            assert!(seen.contains(field), "{field}: {seen}");
        }
        assert!(seen.contains(&format!("host: {}\r\n", url.authority())), "{seen}");
        assert!(!seen.contains("other.example"), "{seen}");
    }

    #[tokio::test]
    async fn body_and_head_have_their_limits() {
        let long = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        let (origin, told) = server(long).await;
        let url = url(&origin, false).expect("a URL");
        let error = client().get(&url, 2).await.expect_err("a limit").to_string();
        assert!(error.ends_with("is longer than 2 bytes"), "{error}");
        told.await.expect("the connection was closed");
        let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(2 * MAX_HEAD_BYTES));
        let (origin, _told) = server(head.leak()).await;
        let url = super::url(&origin, false).expect("a URL");
        let error = client().get(&url, 2).await.expect_err("a limit").to_string();
        assert!(error.contains("does not answer in HTTP"), "{error}");
    }

    #[tokio::test]
    async fn secret_never_leaves_this_machine_in_plain_text() {
        let mut secret = HeaderValue::from_static("Bearer t");
        secret.set_sensitive(true);
        let request = Request::get("/")
            .header(header::AUTHORIZATION, secret)
            .body(Bytes::new())
            .expect("a request");
        let url = url("http://192.0.2.1/", true).expect("a URL");
        let outcome = client().send(&url, request, 2).await;
        assert!(matches!(outcome, Err(ClientError::NoAddress(_))), "{outcome:?}");
    }
}
