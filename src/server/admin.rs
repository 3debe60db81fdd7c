//! The admin port: `/health`, `/ready` and `/metrics`, on the control runtime and never on a public listener.
//!
//! A TCP port answers only requests for an address or for a name that the operator gave it. Any other name may be one that a
//! page in an operator's browser resolved to this address (DNS rebinding) to read the answer.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::listen::Listener;
use crate::http::headers::Host;

/// Connections at once; a scraper and a load balancer need few.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the admin port tells.
pub(crate) trait Report: Send + Sync + 'static {
    /// `Err` with the reasons while the gateway should be restarted.
    fn health(&self) -> Result<(), Vec<String>>;
    /// Whether `name`, in lower case, is one that requests to the admin port may be for.
    fn is_named(&self, name: &str) -> bool;
    /// `Err` with the reasons while the gateway should get no traffic.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// What an operator should look at, where the gateway serves all the same.
    fn notes(&self) -> Vec<String>;
    /// The metrics and their content type.
    fn metrics(&self) -> (&'static str, String);
}

impl fmt::Debug for dyn Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}

/// Answers on `listener` until the process ends.
///
/// # Errors
/// When the socket cannot be handed to the runtime.
pub(crate) async fn serve(listener: Listener, report: Arc<dyn Report>) -> std::io::Result<()> {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    match listener {
        Listener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return Ok(());
                };
                match listener.accept().await {
                    Ok((stream, _)) => spawn(stream, Arc::clone(&report), Reach::Network, permit),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
        Listener::Unix(listener, _) => {
            let listener = UnixListener::from_std(listener)?;
            loop {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return Ok(());
                };
                match listener.accept().await {
                    Ok((stream, _)) => spawn(stream, Arc::clone(&report), Reach::File, permit),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
    }
}

/// The clients that can connect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Every program that reaches the port, browsers among them.
    Network,
    /// Programs that may open the file of a unix socket; no browser does.
    File,
}

fn spawn<I>(io: I, report: Arc<dyn Report>, reach: Reach, permit: tokio::sync::OwnedSemaphorePermit)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let response = match refuse_host(&*report, reach, &request) {
                Some(refused) => refused,
                None => answer(&*report, request.method(), request.uri().path()),
            };
            async move { Ok::<_, Infallible>(response.map(Full::new)) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(io), service)
            .await;
        drop(permit);
        if let Err(error) = served {
            tracing::debug!(%error, "admin connection ended");
        }
    });
}

/// The answer to a request that is not for this port.
fn refuse_host<B>(report: &dyn Report, reach: Reach, request: &Request<B>) -> Option<Response<Bytes>> {
    const KIND: &str = "text/plain; charset=utf-8";
    if reach == Reach::File {
        return None;
    }
    let fields: Vec<&HeaderValue> = request.headers().get_all(HOST).iter().collect();
    let named = request.uri().authority().map(|authority| authority.as_str());
    match (fields.as_slice(), named) {
        // Simple probes speak HTTP/1.0; a browser always names a host.
        ([], None) if request.version() == Version::HTTP_10 => return None,
        ([_], _) => {}
        _ => {
            return Some(text(
                StatusCode::BAD_REQUEST,
                KIND,
                "one `Host` is needed\n".to_owned(),
            ));
        }
    }
    let is_ours = |host: &str| {
        Host::parse(host).is_ok_and(|host| {
            let name = host.name();
            let address = name
                .strip_prefix('[')
                .and_then(|name| name.strip_suffix(']'))
                .unwrap_or(name);
            address.parse::<std::net::IpAddr>().is_ok() || name == "localhost" || report.is_named(name)
        })
    };
    let field = fields
        .first()
        .and_then(|field| field.to_str().ok())
        .unwrap_or_default();
    if is_ours(field) && named.is_none_or(is_ours) {
        return None;
    }
    let reason = "this port answers to an IP address, to `localhost`, to the host of `public_url`, and to the names in \
                  `hosts` of `[admin]`\n";
    Some(text(StatusCode::MISDIRECTED_REQUEST, KIND, reason.to_owned()))
}

fn answer(report: &dyn Report, method: &Method, path: &str) -> Response<Bytes> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain; charset=utf-8",
            "only GET and HEAD\n".to_owned(),
        );
    }
    match path {
        "/health" => match report.health() {
            Ok(()) => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned()),
            Err(reasons) => {
                let reasons = reasons.join("\n");
                text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "text/plain; charset=utf-8",
                    format!("not healthy\n{reasons}\n"),
                )
            }
        },
        "/ready" => match report.ready() {
            Ok(()) => {
                let notes = report.notes().into_iter().map(|note| format!("note: {note}\n"));
                let body = std::iter::once("ready\n".to_owned()).chain(notes).collect();
                text(StatusCode::OK, "text/plain; charset=utf-8", body)
            }
            Err(reasons) => {
                let reasons = reasons.join("\n");
                text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "text/plain; charset=utf-8",
                    format!("not ready\n{reasons}\n"),
                )
            }
        },
        "/metrics" => {
            let (kind, metrics) = report.metrics();
            text(StatusCode::OK, kind, metrics)
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "/health, /ready, /metrics\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Told;

    impl Report for Told {
        fn health(&self) -> Result<(), Vec<String>> {
            Err(vec!["worker 1 has not turned for 5 seconds".to_owned()])
        }

        fn is_named(&self, name: &str) -> bool {
            name == "gate.example.com"
        }

        fn ready(&self) -> Result<(), Vec<String>> {
            Ok(())
        }

        fn notes(&self) -> Vec<String> {
            Vec::new()
        }

        fn metrics(&self) -> (&'static str, String) {
            ("text/plain", String::new())
        }
    }

    #[test]
    fn a_port_answers_to_addresses_and_to_its_own_names_and_to_no_other() {
        let asked = |version, target: &str, hosts: &[&str]| {
            let mut request = Request::get(target).version(version);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let request = request.body(()).unwrap();
            refuse_host(&Told, Reach::Network, &request).map_or(0, |answer| answer.status().as_u16())
        };
        let taken = [
            "127.0.0.1",
            "127.0.0.1:8081",
            "[::1]",
            "[::1]:8081",
            "10.1.2.3:1",
            "localhost",
            "LOCALHOST:8081",
            "localhost.",
            "gate.example.com",
            "Gate.Example.com.:9",
        ];
        for host in taken {
            assert_eq!(asked(Version::HTTP_11, "/health", &[host]), 0, "{host}");
        }
        let refused = [
            "evil.example",
            "localhost.evil.example",
            "xlocalhost",
            "gate.example.com.evil.example",
            "127.0.0.1.evil.example",
            "a@127.0.0.1",
            "127.0.0.1:x",
            "0x7f.1",
            "",
            "[::1",
            "x.localhost",
            "::1",
        ];
        for host in refused {
            assert_eq!(asked(Version::HTTP_11, "/health", &[host]), 421, "{host}");
            assert_eq!(asked(Version::HTTP_10, "/health", &[host]), 421, "{host}");
        }
        assert_eq!(
            asked(Version::HTTP_11, "http://evil.example/health", &["localhost"]),
            421,
            "the target counts too"
        );
        assert_eq!(
            asked(Version::HTTP_11, "http://localhost/health", &["evil.example"]),
            421
        );
        assert_eq!(
            asked(Version::HTTP_11, "http://localhost/health", &["localhost"]),
            0
        );
        assert_eq!(asked(Version::HTTP_11, "/health", &[]), 400);
        assert_eq!(
            asked(Version::HTTP_10, "/health", &[]),
            0,
            "a probe of the oldest kind"
        );
        assert_eq!(
            asked(Version::HTTP_11, "/health", &["localhost", "evil.example"]),
            400
        );
        let odd = Request::get("/health")
            .header(HOST, "evil.example")
            .body(())
            .unwrap();
        assert!(
            refuse_host(&Told, Reach::File, &odd).is_none(),
            "no browser opens a unix socket"
        );
    }

    #[test]
    fn health_is_503_with_its_reasons() {
        let answer = answer(&Told, &Method::GET, "/health");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            &answer.body()[..],
            b"not healthy\nworker 1 has not turned for 5 seconds\n"
        );
    }
}
